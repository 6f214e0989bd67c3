"""Facts are on disk in their order, whatever the disk and the database do meanwhile."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.store.databases import read
from tests.store.stories import ANSWERED, ARRIVED, DIGIT, ENDED, RINGING, TURN, WHOLE, event, happened, story

from offhook.model.call_events import CallEvent
from offhook.model.records import CallRecord
from offhook.store import calls, journal_writer, outbox
from offhook.store import journal as journal_module
from offhook.store.database import Database
from offhook.store.entry_queue import GATHER_S
from offhook.store.journal import Journal, JournalListeners
from offhook.store.outbox import NewDelivery
from offhook.store.spool import FILE, REFUSED_FILE, Spool


class Listening:
    """What the journal tells."""

    def __init__(self) -> None:
        self.committed: list[CallEvent] = []
        self.batches: list[int] = []
        self.kept: list[tuple[int, float]] = []
        self.full: list[bool] = []
        self.deliveries = 0
        self.changed = asyncio.Event()

    def listeners(self) -> JournalListeners:
        return JournalListeners(
            deliveries=self._deliveries,
            on_batch=lambda entries, seconds: self.kept.append((entries, seconds)),
            on_committed=self._committed,
            on_full=lambda full: self._note(self.full.append, full),
            on_deliveries=self._count,
        )

    async def until(self, condition: Callable[[], object], timeout_s: float = 10.0) -> None:
        async with asyncio.timeout(timeout_s):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    async def has(self, count: int) -> None:
        """Until so many events are committed."""
        await self.until(lambda: len(self.committed) >= count)

    def _note(self, take: Callable[[bool], None], told: bool) -> None:
        take(told)
        self.changed.set()

    def _count(self) -> None:
        self.deliveries += 1
        self.changed.set()

    def _committed(self, events: Sequence[CallEvent]) -> None:
        self.committed += events
        self.batches.append(len(events))
        self.changed.set()

    def _deliveries(self, event: CallEvent, record: CallRecord) -> list[NewDelivery]:
        if event.fact != ENDED:
            return []
        name = outbox.delivery_id("w1", event.call_id, event.seq, "call.ended")
        return [
            NewDelivery(
                delivery_id=name,
                account_id=record.account_id,
                webhook_id="w1",
                event="call.ended",
                body=b"{}",
                created_at=event.at,
                call_id=event.call_id,
                seq=event.seq,
            )
        ]


@pytest.fixture
async def listening() -> Listening:
    return Listening()


@asynccontextmanager
async def running(database: Database, tmp_path: Path, listening: Listening) -> AsyncIterator[Journal]:
    journal = Journal(database, node_id="n1", folder=tmp_path / "spool", listeners=listening.listeners())
    await journal.start()
    try:
        yield journal
    finally:
        await asyncio.to_thread(journal.close)


@pytest.fixture
async def journal(database: Database, tmp_path: Path, listening: Listening) -> AsyncIterator[Journal]:
    async with running(database, tmp_path, listening) as one:
        yield one


def append(journal: Journal, events: Iterable[CallEvent]) -> CallEvent:
    for one in events:
        journal.append(one)
    return one


def events(database: Database, call_id: str = "c1") -> list[CallEvent]:
    return list(read(database, calls.call_events_of, "default", call_id))


def record(database: Database, call_id: str = "c1") -> CallRecord:
    found = read(database, calls.get_call, "default", call_id)
    assert found is not None
    return found


class Gate:
    """Stands before every transaction: shut, none begins; broken, each fails with ``error``."""

    def __init__(self, database: Database) -> None:
        self.error: Exception | None = None
        self.reached = threading.Event()
        self._open = threading.Event()
        self._open.set()
        self._really_write = database.write
        database.write = self._write  # type: ignore[method-assign]

    def shut(self) -> None:
        self.reached.clear()
        self._open.clear()

    def open(self) -> None:
        self.error = None
        self._open.set()

    @contextmanager
    def _write(self) -> Iterator[sa.Connection]:
        self.reached.set()
        assert self._open.wait(20)
        if self.error is not None:
            raise self.error
        with self._really_write() as connection:
            yield connection


FULL_DISK = sa.exc.OperationalError("INSERT", {}, sqlite3.OperationalError("database or disk is full"))
AWAY = ConnectionRefusedError(111, "Connection refused")


@pytest.fixture
def gate(database: Database) -> Iterator[Gate]:
    one = Gate(database)
    yield one
    one.open()


@pytest.fixture
def away(database: Database, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> Gate:
    """A database that can be away, as PostgreSQL can: by ``gate.error = AWAY``."""
    monkeypatch.setattr(database, "is_sqlite", False)
    monkeypatch.setattr(database, "is_away", lambda error: isinstance(error, OSError))
    monkeypatch.setattr(journal_writer, "PROBE_S", 0.05)
    return gate


async def test_what_was_kept_is_in_the_database(journal: Journal, database: Database) -> None:
    await journal.kept(append(journal, story(*WHOLE)))
    assert events(database) == story(*WHOLE)
    assert (record(database).phase, record(database).transcript) == ("ended", (TURN,))
    assert journal.waiting == 0


async def test_an_arrival_does_not_wait_for_company(journal: Journal, database: Database, listening: Listening) -> None:
    """Its batch is committed at once, and what came just before it with it."""
    journal.append(event(ARRIVED, 1, call_id="warm"))
    await journal.kept(event(ARRIVED, 1, call_id="warm"))
    loop = asyncio.get_running_loop()
    times = list[float]()
    for number in range(5):
        began = loop.time()
        journal.append(event(ARRIVED, 1, call_id=f"c{number}"))
        await listening.has(number + 2)
        times.append(loop.time() - began)
    assert min(times) < GATHER_S


async def test_events_without_hurry_share_a_transaction(journal: Journal, listening: Listening) -> None:
    await journal.kept(append(journal, story(ARRIVED)))
    listening.batches.clear()
    append(journal, [event(DIGIT, seq) for seq in range(2, 42)])
    await listening.until(lambda: sum(listening.batches) == 40)
    assert len(listening.batches) <= 2
    assert sum(entries for entries, _ in listening.kept) == len(listening.committed)
    assert all(0 < seconds < 10 for _, seconds in listening.kept)


async def test_while_one_commit_runs_the_next_gathers(journal: Journal, gate: Gate, listening: Listening) -> None:
    gate.shut()
    journal.append(event(ARRIVED, 1, call_id="first"))
    await asyncio.to_thread(gate.reached.wait, 5)
    waiting = [asyncio.create_task(journal.kept(append(journal, story(ARRIVED, call_id=f"c{n}")))) for n in range(30)]
    await asyncio.sleep(0)
    gate.open()
    await asyncio.gather(*waiting)
    assert listening.batches == [1, 30]


async def test_committed_events_are_told_in_their_order_and_deliveries_announced(
    journal: Journal, listening: Listening
) -> None:
    stories = [story(*WHOLE, call_id=f"c{number}") for number in range(20)]
    turns = [one for step in zip(*stories, strict=True) for one in step]
    for one in turns:
        journal.append(one)
        await asyncio.sleep(0)
    await listening.until(lambda: len(listening.committed) == len(turns))
    assert listening.committed == turns
    assert listening.deliveries >= 1


async def test_a_leg_is_saved_with_the_events_around_it(journal: Journal, database: Database) -> None:
    append(journal, story(ARRIVED, ANSWERED))
    journal.save_leg("c1", "leg-1", b"one")
    journal.save_leg("c1", "leg-2", b"two")
    journal.save_leg("c1", "leg-2", None)
    await journal.kept(append(journal, [event(DIGIT, 3)]))
    (left,) = read(database, calls.unfinished_calls, "n1")
    assert (left.last_seq, dict(left.legs)) == (3, {"leg-1": b"one"})


async def test_calls_of_an_earlier_process_are_ended_by_the_next(
    database: Database, tmp_path: Path, listening: Listening
) -> None:
    happened(database, ARRIVED, ANSWERED, TURN)
    async with running(database, tmp_path, listening) as journal:
        await journal.kept(append(journal, [event(replace(ENDED, cause="server_lost"), 4)]))
    assert (record(database).cause, record(database).transcript) == ("server_lost", (TURN,))


async def test_closing_writes_what_waits(database: Database, tmp_path: Path, listening: Listening) -> None:
    async with running(database, tmp_path, listening) as journal:
        append(journal, story(*WHOLE))
    assert events(database) == story(*WHOLE)
    assert not list((tmp_path / "spool").glob("*"))


async def test_what_comes_after_the_end_is_said_to_be_lost(
    database: Database, tmp_path: Path, listening: Listening, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(database, tmp_path, listening) as journal:
        pass
    journal.append(event(ARRIVED, 1))
    assert "came after the end" in caplog.text


async def test_an_event_that_cannot_be_written_holds_up_no_other(
    journal: Journal, database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = event(replace(DIGIT, duration_ms=object()), 3)  # type: ignore[arg-type]  # a bug of ours
    whole = [event(ARRIVED, 1), event(RINGING, 2), wrong, event(ANSWERED, 4), event(ENDED, 5)]
    others = [one for number in range(20) for one in story(ARRIVED, ENDED, call_id=f"o{number}")]
    await journal.kept(append(journal, [*others[:20], *whole, *others[20:]]))
    assert [one.seq for one in events(database)] == [1, 2, 4, 5]
    assert {record(database, f"o{number}").phase for number in range(20)} == {"ended"}
    assert journal.refused == 1
    assert "DigitReceived" in (tmp_path / "spool" / REFUSED_FILE).read_text()
    assert REFUSED_FILE in caplog.text


async def test_an_event_that_the_database_refuses_is_laid_aside(
    journal: Journal, database: Database, tmp_path: Path
) -> None:
    too_long = replace(ENDED, duration_ms=2**63)
    await journal.kept(append(journal, [*story(ARRIVED, too_long, call_id="too-long"), *story(ARRIVED, ENDED)]))
    await journal.kept(append(journal, story(ENDED, call_id="never-arrived")))
    await journal.kept(append(journal, [event(RINGING, 2)]))  # another has this number
    assert events(database) == story(ARRIVED, ENDED)
    assert record(database, "too-long").phase == "arrived"
    lines = (tmp_path / "spool" / REFUSED_FILE).read_text().splitlines()
    assert all(name in line for name, line in zip(("too-long", "never-arrived", "CallRinging"), lines, strict=True))
    assert journal.refused == len(lines)


async def test_a_full_disk_stops_new_calls_and_loses_nothing(
    journal: Journal, database: Database, gate: Gate, listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "RETRY_S", 0.02)
    monkeypatch.setattr(database, "is_away", lambda error: False)
    monkeypatch.setattr(database, "is_sqlite", True)
    gate.error = FULL_DISK
    kept = asyncio.create_task(journal.kept(append(journal, story(*WHOLE[:5]))))
    await listening.until(lambda: listening.full == [True])
    append(journal, story(*WHOLE[5:], after=5))
    await asyncio.sleep(0.1)
    assert (kept.done(), journal.is_full, listening.committed) == (False, True, [])
    gate.open()
    await kept
    await listening.until(lambda: len(listening.committed) == len(WHOLE))
    assert events(database) == story(*WHOLE)
    assert listening.full == [True, False]


@pytest.mark.parametrize("limit", ["FULL_ENTRIES", "FULL_BYTES"])
async def test_too_much_that_waits_stops_new_calls_until_half_is_written(
    journal: Journal, gate: Gate, listening: Listening, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(journal_module, limit, 100 if limit == "FULL_ENTRIES" else 100 * journal_module.ENTRY_BYTES)
    gate.shut()
    append(journal, story(ARRIVED, *[DIGIT] * 98))
    assert listening.full == []
    last = append(journal, [event(DIGIT, 100), event(DIGIT, 101)])
    assert listening.full == [True]
    gate.open()
    await journal.kept(last)
    assert listening.full == [True, False]
    assert [one.seq for one in listening.committed] == list(range(1, 102))


async def test_while_the_database_is_away_events_are_kept_in_the_spool_and_follow_in_order(
    journal: Journal, database: Database, away: Gate, listening: Listening, tmp_path: Path
) -> None:
    await journal.kept(append(journal, story(*WHOLE[:3])))
    away.error = AWAY
    for number in range(3, 6):
        await journal.kept(append(journal, story(WHOLE[number], after=number)))
    await journal.kept(append(journal, story(ARRIVED, call_id="c2")))
    assert [one.seq for one in events(database)] == [1, 2, 3]
    assert (journal.is_away, journal.spooled, listening.full) == (True, 4, [])
    assert len(listening.committed) == 7, "what is spooled is kept, and may be shown"
    away.open()
    append(journal, story(*WHOLE[6:], after=6))
    await listening.until(lambda: listening.deliveries)
    await asyncio.to_thread(journal.close)
    assert events(database) == story(*WHOLE)
    assert record(database).digits == "5#"
    assert record(database, "c2").phase == "arrived"
    assert not (tmp_path / "spool" / FILE).exists()
    assert len(listening.committed) == len(WHOLE) + 1


async def test_what_a_process_spooled_is_brought_in_by_the_next_before_anything_else(
    database: Database, away: Gate, listening: Listening, tmp_path: Path
) -> None:
    away.error = AWAY
    async with running(database, tmp_path, listening) as journal:
        await journal.kept(append(journal, story(*WHOLE[:7])))
        journal.save_leg("c1", "leg-1", b"\xff")
    away.open()
    async with running(database, tmp_path, Listening()) as journal:
        (left,) = read(database, calls.unfinished_calls, "n1")
        assert (left.last_seq, dict(left.legs)) == (7, {"leg-1": b"\xff"})
        await journal.kept(append(journal, story(*WHOLE[7:], after=7)))
    assert events(database) == story(*WHOLE)
    assert not (tmp_path / "spool" / FILE).exists()


async def test_a_start_without_the_database_waits_for_nobody(
    database: Database, away: Gate, listening: Listening, tmp_path: Path
) -> None:
    spool = Spool(tmp_path / "spool")
    spool.append(story(ARRIVED))
    spool.close()
    away.error = AWAY
    async with running(database, tmp_path, listening) as journal:
        await journal.kept(append(journal, story(ENDED, after=1)))
        assert (journal.is_away, journal.spooled) == (True, 2)
        away.open()
        await listening.until(lambda: listening.deliveries)
    assert events(database) == story(ARRIVED, ENDED)


async def test_a_commit_that_only_seemed_to_fail_is_not_made_twice(
    journal: Journal, database: Database, away: Gate, listening: Listening
) -> None:
    await journal.kept(append(journal, story(ARRIVED, ANSWERED)))
    really = away._really_write

    @contextmanager
    def breaks_after_the_commit() -> Iterator[sa.Connection]:
        with really() as connection:
            yield connection
        away._really_write = really
        raise AWAY

    away._really_write = breaks_after_the_commit
    await journal.kept(append(journal, [event(DIGIT, 3), event(TURN, 4)]))
    await journal.kept(append(journal, [event(DIGIT, 5), event(ENDED, 6)]))
    await listening.until(lambda: listening.deliveries)
    await asyncio.to_thread(journal.close)
    assert events(database) == story(ARRIVED, ANSWERED, DIGIT, TURN, DIGIT, ENDED)
    assert (record(database).digits, record(database).transcript) == ("55", (TURN,))
    deliveries, total = read(database, outbox.list_deliveries, "default", outbox.DeliveryFilter(), limit=9)
    assert (total, [one.seq for one in deliveries]) == (1, [6])
    assert journal.refused == 0


async def test_a_database_that_hangs_is_not_waited_for(
    journal: Journal, database: Database, away: Gate, listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the transaction that hung brings nothing in again when it goes on at last."""
    monkeypatch.setattr(journal_writer, "PATIENCE_S", 0.1)
    away.shut()
    journal.save_leg("c1", "leg-1", b"old")
    await asyncio.wait_for(journal.kept(append(journal, story(ARRIVED, ANSWERED))), 5)
    assert journal.spooled == 3
    journal.save_leg("c1", "leg-1", b"new")
    await journal.kept(append(journal, [event(ENDED, 3)]))
    away.open()
    await listening.until(lambda: listening.deliveries)
    await asyncio.to_thread(journal.close)
    assert events(database) == story(ARRIVED, ANSWERED, ENDED)
    (left,) = read(database, calls.unfinished_calls, "n1")
    assert dict(left.legs) == {"leg-1": b"new"}


async def test_a_listener_that_fails_stops_nothing(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*told: object) -> None:
        raise RuntimeError("a bug of a watcher")

    listeners = JournalListeners(on_batch=fails, on_committed=fails, on_deliveries=fails, on_full=fails)
    journal = Journal(database, node_id="n1", folder=tmp_path / "spool", listeners=listeners)
    await journal.start()
    await journal.kept(append(journal, story(ARRIVED)))
    await journal.kept(append(journal, story(ENDED, after=1)))
    await asyncio.to_thread(journal.close)
    assert events(database) == story(ARRIVED, ENDED)
    assert "a bug of a watcher" in caplog.text
