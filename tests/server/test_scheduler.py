"""Calls are placed when they are due, once, whoever lives; and what is not placed says why."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.media.wire import until
from tests.store.databases import read, write

from offhook.api.new_call import NewCallForm, PlacedCall, ScheduleForm
from offhook.delivery.bus import Bus
from offhook.delivery.event_documents import utc
from offhook.model.call_events import CallArrived, CallEnded, CallEvent, CallRefused
from offhook.model.errors import CannotPlaceError
from offhook.model.records import CallRecord
from offhook.server import scheduler
from offhook.server.scheduler import FURTHEST_S, PATIENCE_S, RETRY_S, Scheduler
from offhook.store.calls import call_events_of, get_call, status_of
from offhook.store.database import Database
from offhook.store.journal import Journal
from offhook.store.scheduled_calls import LEASE_S, list_scheduled, next_due, scheduled_call, take_due

NOW = 1_800_000_000.0
BUSY = CannotPlaceError("too_many", "10 calls are up", fix="Wait")


class Clock:
    def __init__(self) -> None:
        self.at = NOW

    def __call__(self) -> float:
        return self.at


class Line:
    """Implements ``PlacesCalls``: each call gets its first fact, and is remembered."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.placed: list[str] = []
        self.forms: list[NewCallForm] = []
        self.tried = asyncio.Semaphore(0)
        self.ready = asyncio.Event()
        self.ready.set()
        self.problem: CannotPlaceError | None = None
        self.of_plans: CannotPlaceError | None = None

    def plan(self, account_id: str, wanted: NewCallForm) -> object:
        if self.of_plans is not None:
            raise self.of_plans
        return None

    async def place_now(self, account_id: str, wanted: NewCallForm, *, call_id: str = "") -> PlacedCall:
        try:
            await self.ready.wait()
            if self.problem is not None:
                raise self.problem
            arrived = CallArrived(
                direction="outbound",
                from_uri="",
                to_uri=wanted.target,
                sip_call_id="",
                transport="UDP",
                remote_address="",
                account_id=account_id,
            )
            event = CallEvent(call_id=call_id or "now", leg_id="leg-1", seq=1, at=NOW, fact=arrived)
            self.placed.append(call_id)
            self.forms.append(wanted)
            self.journal.append(event)
            await self.journal.kept(event)
            return PlacedCall(call_id=event.call_id, created_at=utc(event.at))
        finally:
            self.tried.release()


class World:
    """One server's scheduler, and what surrounds it."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.journal = Journal(database, node_id="n1", folder=folder)
        self.line = Line(self.journal)
        self.clock = Clock()
        self.hindrances: set[str] = set()
        self.scheduler = Scheduler(
            database, self.line, Bus(self.journal), hindrances=lambda: self.hindrances, now=self.clock
        )

    async def keep(self, earliest: float | None = None, latest: float | None = None, **more: Any) -> str:
        schedule = ScheduleForm(earliest_at=at(earliest), latest_at=at(latest))
        wanted = NewCallForm(**{"target": "+4930123", "task": "say hello", "schedule": schedule, **more})
        return (await self.scheduler.place("default", wanted)).call_id

    async def tried(self, times: int = 1) -> None:
        async with asyncio.timeout(5):
            for _ in range(times):
                await self.line.tried.acquire()

    async def gone(self, call_id: str) -> None:
        """Until it waits no more."""
        await until(lambda: read(self.database, scheduled_call, "default", call_id) is None)

    def record(self, call_id: str) -> CallRecord:
        found = read(self.database, get_call, "default", call_id)
        assert found is not None
        return found

    def facts(self, call_id: str) -> list[type]:
        return [type(event.fact) for event in read(self.database, call_events_of, "default", call_id)]


def at(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "SETTLE_S", 0.0)
    monkeypatch.setattr(scheduler, "LOOK_EVERY_S", 0.02)


@asynccontextmanager
async def living(database: Database, folder: Path, *, started: bool = True) -> AsyncIterator[World]:
    world = World(database, folder)
    await world.journal.start()
    if started:
        world.scheduler.start()
    try:
        yield world
    finally:
        await world.scheduler.stop()
        await asyncio.to_thread(world.journal.close)


@pytest.fixture
async def world(database: Database, tmp_path: Path) -> AsyncIterator[World]:
    async with living(database, tmp_path) as one:
        yield one


async def test_a_call_without_a_schedule_is_placed_at_once(world: World) -> None:
    placed = await world.scheduler.place("default", NewCallForm(target="+4930123", task="x"))
    assert (placed.call_id, world.line.placed) == ("now", [""])


async def test_it_is_placed_when_it_is_due_with_the_id_it_was_given(world: World) -> None:
    call_id = await world.keep(NOW + 60, instructions="grün", headers={"X-A": "1"})
    await asyncio.sleep(0.1)
    assert world.line.placed == []
    world.clock.at += 60
    await world.gone(call_id)
    assert world.line.placed == [call_id]
    assert (world.line.forms[0].instructions, world.line.forms[0].headers) == ("grün", {"X-A": "1"})
    assert world.record(call_id).to_uri == "+4930123"


@pytest.mark.parametrize("earliest", [None, NOW - 1000, NOW])
async def test_what_is_due_already_is_placed_now(world: World, earliest: float | None) -> None:
    call_id = await world.keep(earliest)
    await world.gone(call_id)
    assert world.line.placed == [call_id]


async def test_of_several_servers_one_places_it(
    database_url: str, database: Database, tmp_path: Path, open_database: Callable[[str], Database]
) -> None:
    async with living(database, tmp_path) as one, living(open_database(database_url), tmp_path / "b") as other:
        ids = [await world.keep(NOW + 1) for world in (one, other) for _ in range(5)]
        one.clock.at = other.clock.at = NOW + 2
        for call_id in ids:
            await one.gone(call_id)
        assert sorted(one.line.placed + other.line.placed) == sorted(ids)


async def test_it_survives_a_restart(database: Database, tmp_path: Path) -> None:
    async with living(database, tmp_path) as before:
        call_id = await before.keep(NOW + 60)
    async with living(database, tmp_path) as after:
        after.clock.at = NOW + 90
        await after.gone(call_id)
        assert (before.line.placed, after.line.placed) == ([], [call_id])


async def test_what_a_server_took_and_did_not_place_another_places_once_it_is_known_to_be_dead(
    database: Database, tmp_path: Path
) -> None:
    async with living(database, tmp_path, started=False) as world:
        call_id = await world.keep(NOW)
        write(database, take_due, NOW, 1)
        world.scheduler.start()
        await asyncio.sleep(0.1)
        assert world.line.placed == []
        world.clock.at += LEASE_S
        await world.gone(call_id)
        assert world.line.placed == [call_id]


async def test_without_a_free_line_it_is_tried_again_until_its_time_is_over(world: World) -> None:
    world.line.problem = BUSY
    call_id = await world.keep(NOW, NOW + 2 * RETRY_S)
    for _ in range(2):
        await world.tried()
        world.clock.at += RETRY_S
    await world.tried()
    await world.gone(call_id)
    record = world.record(call_id)
    assert (status_of(record), record.cause, record.reason) == ("failed", "refused", str(BUSY))


async def test_it_is_placed_as_soon_as_a_line_is_free(world: World) -> None:
    world.line.problem = BUSY
    ids = [await world.keep(NOW + number) for number in range(3)]
    world.clock.at += 5
    await world.tried()
    world.line.problem = None
    world.clock.at += RETRY_S + 1
    for call_id in ids:
        await world.gone(call_id)
    assert sorted(world.line.placed) == sorted(ids)


async def test_while_an_account_has_no_line_its_others_are_not_tried_each(world: World) -> None:
    world.line.problem = BUSY
    for number in range(20):
        await world.keep(NOW + 10 + number / 100)
    world.clock.at += 11
    await world.tried()
    await asyncio.sleep(0.2)
    assert world.line.tried.locked()


async def test_a_provider_that_is_not_ready_is_waited_for_another_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.line.ready.clear()
    with monkeypatch.context() as patched:
        patched.setattr(scheduler, "PLACING_S", 0.01)
        call_id = await world.keep(NOW)
        await world.tried()
    world.line.ready.set()
    world.clock.at += RETRY_S
    await world.gone(call_id)
    assert world.line.placed == [call_id]


async def test_stopping_does_not_wait_for_a_provider(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "STOP_S", 0.05)
    async with living(database, tmp_path) as before:
        before.line.ready.clear()
        call_id = await before.keep(NOW)
        await until(lambda: read(database, next_due, NOW) is None)
    async with living(database, tmp_path) as after:
        after.clock.at += LEASE_S
        await after.gone(call_id)
        assert (before.line.placed, after.line.placed) == ([], [call_id])


@pytest.mark.parametrize("kind", ["invalid", "forbidden"])
async def test_what_may_no_longer_be_placed_is_a_call_that_failed(world: World, kind: Any) -> None:
    world.line.problem = CannotPlaceError(kind, "nobody calls there", field="target", fix="Call another number")
    call_id = await world.keep(NOW, event_webhook="https://example.com/a", result_webhook="https://example.com/b")
    await world.gone(call_id)
    record = world.record(call_id)
    assert world.facts(call_id) == [CallArrived, CallRefused, CallEnded]
    assert (status_of(record), record.cause, record.direction) == ("failed", "refused", "outbound")
    assert "nobody calls there" in record.reason
    assert record.event_webhooks == ("https://example.com/a", "https://example.com/b")
    assert world.line.placed == []


async def test_what_comes_too_late_is_not_placed(database: Database, tmp_path: Path) -> None:
    async with living(database, tmp_path) as before:
        call_id = await before.keep(NOW + 60)
    async with living(database, tmp_path) as after:
        after.clock.at = NOW + 60 + PATIENCE_S + 1
        await after.gone(call_id)
        assert (after.line.placed, status_of(after.record(call_id))) == ([], "failed")
        assert "no call could be placed until" in after.record(call_id).reason


async def test_a_server_that_is_full_places_none_and_one_that_drains_does_nothing(world: World) -> None:
    world.hindrances = {"max_calls"}
    late, waits = await world.keep(NOW, NOW + 1), await world.keep(NOW)
    await asyncio.sleep(0.1)
    assert world.line.placed == []
    world.clock.at += 2
    await world.gone(late)
    assert status_of(world.record(late)) == "failed"
    world.hindrances = {"draining"}
    drained = await world.keep(NOW, NOW + 3)
    world.clock.at += 5
    await asyncio.sleep(0.1)
    assert {call.call_id for call in read(world.database, list_scheduled, "default", limit=10)} == {waits, drained}
    world.hindrances = set()
    await world.gone(waits)
    assert world.line.placed == [waits]


async def test_a_cancelled_call_is_on_record_and_not_placed(world: World) -> None:
    call_id = await world.keep(NOW + 60)
    assert not await world.scheduler.cancel("other", call_id)
    assert await world.scheduler.cancel("default", call_id)
    assert not await world.scheduler.cancel("default", call_id)
    record = world.record(call_id)
    assert (status_of(record), record.cause, record.ended_by) == ("failed", "cancelled", "system")
    world.clock.at += 60
    await asyncio.sleep(0.1)
    assert world.line.placed == []


async def test_what_could_not_be_placed_now_is_not_kept(world: World) -> None:
    world.line.of_plans = CannotPlaceError("forbidden", "nobody calls there", field="target")
    with pytest.raises(CannotPlaceError, match="nobody calls there"):
        await world.keep(NOW + 60)
    assert read(world.database, list_scheduled, "default", limit=10) == ()


@pytest.mark.parametrize(
    ("earliest", "latest", "field"),
    [
        (NOW + FURTHEST_S + 1, None, "schedule.earliest_at"),
        (NOW + 60, NOW + 59, "schedule.latest_at"),
        (None, NOW - 1, "schedule.latest_at"),
        (NOW - 60, NOW - 1, "schedule.latest_at"),
    ],
)
async def test_times_that_cannot_be_are_refused(
    world: World, earliest: float | None, latest: float | None, field: str
) -> None:
    with pytest.raises(CannotPlaceError) as refused:
        await world.keep(earliest, latest)
    assert (refused.value.kind, refused.value.field) == ("invalid", field)


async def test_an_account_keeps_no_more_than_a_thousand(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "MOST_SCHEDULED", 2)
    for _ in range(2):
        await world.keep(NOW + 60)
    with pytest.raises(CannotPlaceError) as refused:
        await world.keep(NOW + 60)
    assert refused.value.kind == "too_many"


async def test_what_is_kept_and_not_understood_any_more_fails(database: Database, tmp_path: Path) -> None:
    async with living(database, tmp_path, started=False) as world:
        call_id = await world.keep(NOW)
        (kept,) = read(database, list_scheduled, "default", limit=10)
        form = msgspec.json.encode({**kept.form, "of_another_version": 1}).decode()
        with database.write() as connection:
            connection.exec_driver_sql(f"UPDATE scheduled_calls SET form = '{form}'")
        world.scheduler.start()
        await world.gone(call_id)
        assert "not understood" in world.record(call_id).reason


async def test_a_fault_of_the_database_is_not_its_end(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*given: object, **more: object) -> None:
        raise OSError("the disk is gone")

    with monkeypatch.context() as patched:
        patched.setattr(scheduler, "next_due", broken)
        await until(lambda: "the disk is gone" in caplog.text)
    await world.gone(await world.keep(NOW))
    assert len(world.line.placed) == 1
