"""What calls of ours need: webhooks of single calls, and calls that are placed later."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    with op.batch_alter_table("outbox") as outbox:
        outbox.add_column(sa.Column("url", sa.Text(), server_default="", nullable=False))
    op.create_table(
        "scheduled_calls",
        sa.Column("call_id", sa.String(length=255), nullable=False),
        sa.Column("account_id", sa.String(length=255), nullable=False),
        sa.Column("due_at", sa.Double(), nullable=False),
        sa.Column("latest_at", sa.Double(), nullable=True),
        sa.Column("taken_until", sa.Double(), nullable=True),
        sa.Column("form", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("call_id", name=op.f("pk_scheduled_calls")),
    )
    op.create_index(op.f("ix_scheduled_calls_due_at"), "scheduled_calls", ["due_at"])
    op.create_index("ix_scheduled_calls_account", "scheduled_calls", ["account_id", "created_at"])
