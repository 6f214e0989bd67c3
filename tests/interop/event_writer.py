"""A process that writes the facts of invented calls and tells which of them are kept, until somebody kills it.

``python -m tests.interop.event_writer DATABASE_URL DATA_DIR NAME [SECONDS]``. It first ends the calls that the process
before it left. A line on standard output is a kept event: ``call_id seq``. Without end unless SECONDS are given; then
the last word, on standard error, is how long a call waited at the most until its arrival was kept.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import uvloop
from tests.store.stories import ANSWERED, ARRIVED, DIGIT, ENDED, RECORDED, RINGING, TURN, event

from offhook.model.call_events import CallEnded, CallEvent, CallFact
from offhook.model.records import CallRecord
from offhook.store.calls import unfinished_calls
from offhook.store.database import Database
from offhook.store.journal import Journal, JournalListeners
from offhook.store.outbox import NewDelivery, delivery_id

NODE_ID = "n1"
CALLS_AT_ONCE = 20
LIVE_EVENTS: Sequence[CallFact] = (RINGING, ANSWERED, *(TURN, DIGIT) * 4, RECORDED)
BETWEEN_S = 0.01


def tell(events: Sequence[CallEvent]) -> None:
    os.write(1, "".join(f"{one.call_id} {one.seq}\n" for one in events).encode())


def to_everyone(event: CallEvent, record: CallRecord) -> list[NewDelivery]:
    if not isinstance(event.fact, CallEnded):
        return []
    return [
        NewDelivery(
            delivery_id=delivery_id("w1", event.call_id, event.seq, "call.ended"),
            account_id=record.account_id,
            webhook_id="w1",
            event="call.ended",
            body=record.digits.encode(),
            created_at=event.at,
            call_id=event.call_id,
            seq=event.seq,
        )
    ]


@asynccontextmanager
async def writing(database_url: str, data_dir: Path) -> AsyncIterator[Journal]:
    """A journal that tells what it kept; calls of an earlier process are ended first."""
    database = Database.open(database_url, data_dir=data_dir)
    listeners = JournalListeners(deliveries=to_everyone, on_committed=tell)
    journal = Journal(database, node_id=NODE_ID, folder=data_dir, listeners=listeners)
    await journal.start()
    if not journal.is_away:
        for left in await database.look(unfinished_calls, NODE_ID):
            journal.append(event(ENDED, left.last_seq + 1, call_id=left.call_id))
    try:
        yield journal
    finally:
        await asyncio.to_thread(journal.close)
        database.close()


async def call_after_call(journal: Journal, name: str, waits_s: list[float]) -> None:
    for number in itertools.count():
        call_id = f"{name}-{number}"
        arrived = event(ARRIVED, 1, call_id=call_id)
        began = time.monotonic()
        journal.append(arrived)
        await journal.kept(arrived)
        waits_s.append(time.monotonic() - began)
        for seq, fact in enumerate((*LIVE_EVENTS, ENDED), 2):
            await asyncio.sleep(random.uniform(0, 2 * BETWEEN_S))
            journal.append(event(fact, seq, call_id=call_id))


async def main(database_url: str, data_dir: str, name: str, seconds: str = "inf") -> None:
    waits_s = [0.0]
    async with writing(database_url, Path(data_dir)) as journal:
        lines = (call_after_call(journal, f"{name}-{line}", waits_s) for line in range(CALLS_AT_ONCE))
        tasks = [asyncio.create_task(line) for line in lines]
        await asyncio.wait(tasks, timeout=float(seconds))
        for task in tasks:
            task.cancel()
    print(max(waits_s), file=sys.stderr)


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
