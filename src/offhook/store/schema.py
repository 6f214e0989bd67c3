"""The tables of the database: one schema for SQLite and PostgreSQL. Migrations in ``store/migrations`` make them.

Every row has its account. Times are Unix seconds. What offhook searches by is a column; the rest of a record is JSON.
"""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

ID = sa.String(255)

accounts = sa.Table(
    "accounts",
    metadata,
    sa.Column("account_id", ID, primary_key=True),
    sa.Column("name", sa.Text, nullable=False, server_default=""),
    sa.Column("limits", sa.JSON, nullable=False),  # AccountLimits
    sa.Column("created_at", sa.Double, nullable=False),
)

resources = sa.Table(
    # Agents, trunks, numbers, tools, squads, webhooks: one life, so one table. `form` is its JSON without secrets.
    "resources",
    metadata,
    sa.Column("account_id", ID, primary_key=True),
    sa.Column("kind", sa.String(16), primary_key=True),  # agent, trunk, number, tool, squad, webhook
    sa.Column("id", ID, primary_key=True),
    sa.Column("source", sa.String(8), nullable=False),  # config, api
    sa.Column("config_key", sa.String(64), nullable=False, server_default=""),  # where in config.json: agents[2]
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("form", sa.JSON, nullable=False),
    sa.Column("dialect", sa.String(16), nullable=False, server_default=""),  # whose `document` it is
    sa.Column("document", sa.JSON, nullable=True),  # the object as the dialect's user gave it
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("updated_at", sa.Double, nullable=False),
)
sa.Index("ix_resources_kind", resources.c.kind, resources.c.id)

secrets = sa.Table(
    # What a form holds that is never given back, by the path of its key: AES-256-GCM under a master key's id.
    "secrets",
    metadata,
    sa.Column("account_id", ID, primary_key=True),
    sa.Column("kind", sa.String(16), primary_key=True),
    sa.Column("id", ID, primary_key=True),
    sa.Column("path", sa.String(255), primary_key=True),
    sa.Column("key_id", sa.String(64), nullable=False, index=True),
    sa.Column("nonce", sa.LargeBinary, nullable=False),
    sa.Column("ciphertext", sa.LargeBinary, nullable=False),
)

api_keys = sa.Table(
    "api_keys",
    metadata,
    sa.Column("key_id", ID, primary_key=True),
    sa.Column("account_id", ID, nullable=False, index=True),
    sa.Column("name", sa.Text, nullable=False, server_default=""),
    sa.Column("hint", sa.String(32), nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False, unique=True),
    sa.Column("scopes", sa.JSON, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("expires_at", sa.Double, nullable=True),
    sa.Column("last_used_at", sa.Double, nullable=True),
    sa.Column("revoked_at", sa.Double, nullable=True),
)

calls = sa.Table(
    # The projection of a call's events (model.records.CallRecord).
    "calls",
    metadata,
    sa.Column("call_id", ID, primary_key=True),
    sa.Column("account_id", ID, nullable=False),
    sa.Column("node_id", ID, nullable=False),
    sa.Column("direction", sa.String(8), nullable=False),
    sa.Column("phase", sa.String(16), nullable=False),
    sa.Column("from_uri", sa.Text, nullable=False),
    sa.Column("to_uri", sa.Text, nullable=False),
    sa.Column("sip_call_id", sa.Text, nullable=False),
    sa.Column("trunk_id", ID, nullable=False, server_default=""),
    sa.Column("agent_id", ID, nullable=False, server_default=""),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("answered_at", sa.Double, nullable=True),
    sa.Column("ended_at", sa.Double, nullable=True),
    sa.Column("duration_ms", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("cause", sa.String(32), nullable=True),
    sa.Column("sip_code", sa.Integer, nullable=True),
    sa.Column("spend", sa.Double, nullable=False, server_default="0"),
    sa.Column("last_seq", sa.Integer, nullable=False),
    sa.Column("record", sa.JSON, nullable=False),  # the whole CallRecord but its transcript
    sa.Column("dialect", sa.String(16), nullable=False, server_default=""),
    sa.Column("document", sa.JSON, nullable=True),
)
sa.Index("ix_calls_account", calls.c.account_id, calls.c.created_at)
sa.Index("ix_calls_unfinished", calls.c.node_id, calls.c.ended_at)
sa.Index("ix_calls_ended", calls.c.ended_at)  # for retention

call_events = sa.Table(
    "call_events",
    metadata,
    sa.Column("call_id", ID, primary_key=True),
    sa.Column("seq", sa.Integer, primary_key=True),
    sa.Column("account_id", ID, nullable=False),
    sa.Column("leg_id", ID, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("type", sa.String(32), nullable=False),  # the fact's class name
    sa.Column("fact", sa.JSON, nullable=False),
)
sa.Index("ix_call_events_at", call_events.c.account_id, call_events.c.at)

turns = sa.Table(
    # The transcript: TurnSpoken facts, so that speech can be deleted or kept apart from the rest (retention).
    "turns",
    metadata,
    sa.Column("call_id", ID, primary_key=True),
    sa.Column("seq", sa.Integer, primary_key=True),
    sa.Column("account_id", ID, nullable=False),
    sa.Column("speaker", sa.String(16), nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("turn", sa.JSON, nullable=False),  # the whole fact
)

recordings = sa.Table(
    # Files below the data folder; the row goes when the file does.
    "recordings",
    metadata,
    sa.Column("call_id", ID, primary_key=True),
    sa.Column("path", sa.Text, primary_key=True),
    sa.Column("account_id", ID, nullable=False),
    sa.Column("duration_ms", sa.BigInteger, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False, index=True),
)

saved_legs = sa.Table(
    # Answered legs of running calls, as call.resumption writes them: for a BYE after a crash, or to take them over.
    "saved_legs",
    metadata,
    sa.Column("call_id", ID, primary_key=True),
    sa.Column("leg_id", ID, primary_key=True),
    sa.Column("saved", sa.LargeBinary, nullable=False),
)

outbox = sa.Table(
    # One delivery to one endpoint; `body` is rendered once and sent byte for byte at each attempt.
    "outbox",
    metadata,
    sa.Column("delivery_id", ID, primary_key=True),  # the webhook-id header: the same at every attempt
    sa.Column("account_id", ID, nullable=False),
    sa.Column("webhook_id", ID, nullable=False),
    sa.Column("call_id", ID, nullable=False),
    sa.Column("seq", sa.Integer, nullable=False),
    sa.Column("event", sa.String(64), nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("url", sa.Text, nullable=False, server_default=""),  # of a call's own webhook; else its endpoint has it
    sa.Column("state", sa.String(12), nullable=False),  # pending, delivered, dead, disabled
    sa.Column("attempt", sa.Integer, nullable=False, server_default="0"),
    sa.Column("due_at", sa.Double, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("delivered_at", sa.Double, nullable=True),
    sa.Column("last_status", sa.Integer, nullable=True),
    sa.Column("last_problem", sa.Text, nullable=False, server_default=""),
)
sa.Index("ix_outbox_due", outbox.c.state, outbox.c.account_id, outbox.c.webhook_id, outbox.c.due_at)
sa.Index("ix_outbox_call", *(outbox.c[name] for name in ("account_id", "webhook_id", "call_id", "state", "seq")))

idempotency = sa.Table(
    # An answer given once to a client's Idempotency-Key; kept 24 h.
    "idempotency",
    metadata,
    sa.Column("account_id", ID, primary_key=True),
    sa.Column("key", ID, primary_key=True),
    sa.Column("request_digest", sa.LargeBinary, nullable=False),
    sa.Column("status", sa.Integer, nullable=True),
    sa.Column("body", sa.LargeBinary, nullable=True),
    sa.Column("created_at", sa.Double, nullable=False, index=True),
)

scheduled_calls = sa.Table(
    # Calls that are asked for and not yet due; placed once, by whichever process takes the row.
    "scheduled_calls",
    metadata,
    sa.Column("call_id", ID, primary_key=True),
    sa.Column("account_id", ID, nullable=False),
    sa.Column("due_at", sa.Double, nullable=False, index=True),
    sa.Column("latest_at", sa.Double, nullable=True),  # not placed after this
    sa.Column("taken_until", sa.Double, nullable=True),  # a process is placing it; who died by then places it no more
    sa.Column("form", sa.JSON, nullable=False),  # as the API was given it
    sa.Column("created_at", sa.Double, nullable=False),
)
sa.Index("ix_scheduled_calls_account", scheduled_calls.c.account_id, scheduled_calls.c.created_at)

nodes = sa.Table(
    # The processes that had calls: `beat_at` tells until when the calls of one that died were up.
    "nodes",
    metadata,
    sa.Column("node_id", ID, primary_key=True),
    sa.Column("beat_at", sa.Double, nullable=False),
)

revisions = sa.Table(
    # One row: rises with every change that a directory in memory must follow.
    "revisions",
    metadata,
    sa.Column("name", sa.String(16), primary_key=True),
    sa.Column("revision", sa.BigInteger, nullable=False),
)
