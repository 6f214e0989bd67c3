"""Who ends with a call waits until its webhooks were told, and no longer than is worth it."""

from __future__ import annotations

import asyncio
import time

from tests.delivery.posts import answering, post_office
from tests.delivery.receivers import receiver
from tests.store.stories import ANSWERED, ARRIVED, ENDED, story

from offhook.delivery.awaited import undelivered
from offhook.delivery.bus import Keeper
from offhook.model.call_events import CallEvent
from offhook.store.database import Database

LAST = story(ARRIVED, ANSWERED, ENDED, call_id="c1")[-1]


class Kept:
    """Has everything on disk at once, or never."""

    def __init__(self, *, at_all: bool = True) -> None:
        self._at_all = at_all

    def append(self, event: CallEvent) -> None:
        """Not asked for."""

    def save_leg(self, call_id: str, leg_id: str, saved: bytes | None) -> None:
        """Not asked for."""

    async def kept(self, event: CallEvent) -> None:
        assert event is LAST
        if not self._at_all:
            await asyncio.Event().wait()


async def left(database: Database, keeper: Keeper | None = None, *, within_s: float = 20.0) -> int:
    return await undelivered(database, keeper or Kept(), LAST, "default", within_s=within_s)


async def test_all_of_the_call_was_told_when_it_returns(database: Database) -> None:
    async with receiver() as there, receiver() as other, post_office(database) as office:
        office.webhook("crm", there.url())
        office.webhook("log", other.url())
        office.happened(ARRIVED, ANSWERED, ENDED)
        assert await left(database) == 0
    assert (len(there.seen), len(other.seen)) == (3, 3)


async def test_a_receiver_that_is_slow_or_down_is_not_waited_for_for_ever(database: Database) -> None:
    async with receiver() as down, post_office(database) as office:
        down.answer = answering(500, then=500)
        office.webhook("crm", down.url())
        office.happened(ARRIVED, ENDED)
        began = time.monotonic()
        assert await left(database, within_s=0.3) == 2
        assert time.monotonic() - began < 5


async def test_other_calls_are_not_waited_for(database: Database) -> None:
    async with receiver() as down, post_office(database) as office:
        down.answer = answering(500, then=500)
        office.webhook("crm", down.url())
        office.happened(ARRIVED, ENDED, call_id="c2")
        assert await left(database, within_s=20.0) == 0


async def test_what_is_not_on_disk_yet_is_not_told(database: Database) -> None:
    assert await left(database, Kept(at_all=False), within_s=0.05) == 1
