"""Waiting until everybody who is told of a call was told: for a process that ends with its call."""

from __future__ import annotations

import asyncio

import sqlalchemy as sa

from offhook.delivery.bus import Keeper
from offhook.model.call_events import CallEvent
from offhook.store import outbox
from offhook.store.database import Database
from offhook.store.outbox import DeliveryFilter

LOOK_S = 0.05
"""Between two looks at the outbox: a receiver on this machine answers within milliseconds."""


async def undelivered(database: Database, keeper: Keeper, last: CallEvent, account_id: str, *, within_s: float) -> int:
    """Return once nothing of the call that ``last`` ends waits to be sent, or it is time; how many then still do.

    What was given up is not waited for. Raises what the database raises.
    """
    pending = DeliveryFilter(call_id=last.call_id, states=("pending",))
    left = 1  # the last event at least, while nobody knows whether it was kept
    try:
        async with asyncio.timeout(within_s):
            await keeper.kept(last)
            while True:
                _, left = await database.look(_listed, account_id, pending)
                if not left:
                    return 0
                await asyncio.sleep(LOOK_S)
    except TimeoutError:
        return left


def _listed(connection: sa.Connection, account_id: str, chosen: DeliveryFilter) -> tuple[object, int]:
    return outbox.list_deliveries(connection, account_id, chosen, limit=1)
