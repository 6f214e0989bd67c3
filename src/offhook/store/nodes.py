"""Signs of life: until when the process of a node lived, for the calls it may leave behind."""

from __future__ import annotations

import sqlalchemy as sa

from offhook.store.schema import nodes


def beat(connection: sa.Connection, node_id: str, now: float) -> None:
    """``node_id`` lives at ``now``, in Unix seconds."""
    known = connection.execute(sa.update(nodes).where(nodes.c.node_id == node_id).values(beat_at=now)).rowcount
    if not known:
        connection.execute(sa.insert(nodes).values(node_id=node_id, beat_at=now))
