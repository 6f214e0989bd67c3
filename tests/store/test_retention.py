"""What is too old goes, part by part, and nothing else does."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from tests.store.databases import read, write
from tests.store.stories import ANSWERED, ARRIVED, ENDED, RECORDED, TURN, happened, kept

from offhook.model.call_events import CallFact
from offhook.store import calls, outbox, retention
from offhook.store.batches import SavedLeg
from offhook.store.database import Database
from offhook.store.retention import DAY_S, Retention, RetentionPolicy, remove_files
from offhook.store.schema import idempotency
from offhook.store.traces import file_name

NOW = 100 * DAY_S
DAYS = 10
BEFORE, SINCE = NOW - (DAYS + 1) * DAY_S, NOW - (DAYS - 1) * DAY_S


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "PAUSE_S", 0)
    monkeypatch.setattr(retention, "PAGE", 3)
    monkeypatch.setattr(retention, "CALLS_AT_ONCE", 2)


def call(database: Database, data_dir: Path, call_id: str, at: float, *more: CallFact) -> None:
    """A call of that time with a recording and a trace."""
    recording = data_dir / "recordings" / f"{call_id}.wav"
    trace = data_dir / "traces" / file_name(f"{call_id}@sip")
    for file in (recording, trace):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")
        os.utime(file, (at, at))
    recorded = replace(RECORDED, path=str(recording))
    arrived = replace(ARRIVED, sip_call_id=f"{call_id}@sip")
    happened(database, arrived, ANSWERED, TURN, recorded, *more, call_id=call_id, at=at)


@pytest.fixture
def filled(database: Database, tmp_path: Path) -> Database:
    for number in range(7):
        call(database, tmp_path, f"old{number}", BEFORE + number, ENDED)
    call(database, tmp_path, "new", SINCE, ENDED)
    call(database, tmp_path, "running", BEFORE)
    return database


def has_passed(database: Database, data_dir: Path, **days: Any) -> None:
    Retention(database, data_dir, RetentionPolicy(**days)).run(NOW)


def rows(database: Database, table: str) -> set[str]:
    """Ids of the calls that have a row in it."""
    with database.read() as connection:
        return set(connection.scalars(sa.text(f"SELECT call_id FROM {table}")))


def files(data_dir: Path, folder: str) -> set[str]:
    return {file.name for file in (data_dir / folder).iterdir()}


EVERY = {*(f"old{number}" for number in range(7)), "new", "running"}
LEFT = {"new", "running"}


def test_days_that_are_0_delete_nothing(filled: Database, tmp_path: Path) -> None:
    has_passed(filled, tmp_path)
    for table in ("calls", "call_events", "turns", "recordings"):
        assert rows(filled, table) == EVERY
    assert len(files(tmp_path, "recordings")) == len(files(tmp_path, "traces")) == len(EVERY)


@pytest.mark.parametrize(("days", "table"), [("events_days", "call_events"), ("transcripts_days", "turns")])
def test_a_part_of_old_calls_goes_and_the_rest_of_them_stays(
    filled: Database, tmp_path: Path, days: str, table: str
) -> None:
    has_passed(filled, tmp_path, **{days: DAYS})
    for each in ("calls", "call_events", "turns", "recordings"):
        assert rows(filled, each) == (LEFT if each == table else EVERY)
    assert len(files(tmp_path, "recordings")) == len(EVERY)


def test_speech_is_nowhere_when_its_time_is_over(filled: Database, tmp_path: Path) -> None:
    has_passed(filled, tmp_path, transcripts_days=DAYS)
    old = read(filled, calls.get_call, "default", "old1")
    assert old is not None
    assert old.transcript == ()
    events = read(filled, calls.call_events_of, "default", "old1")
    assert [event.seq for event in events] == [1, 2, 3, 4, 5]
    assert events[2].fact == replace(TURN, text="")


def test_recordings_go_with_their_files_and_so_do_files_that_nobody_knows(filled: Database, tmp_path: Path) -> None:
    lost = tmp_path / "recordings" / "of-a-crash.wav"
    lost.write_bytes(b"x")
    os.utime(lost, (BEFORE, BEFORE))
    (tmp_path / "recordings" / "being-written.wav").write_bytes(b"x")
    has_passed(filled, tmp_path, recordings_days=DAYS)
    assert rows(filled, "recordings") == {"new"}
    assert files(tmp_path, "recordings") == {"new.wav", "being-written.wav"}
    old = read(filled, calls.get_call, "default", "old1")
    assert old is not None
    assert old.recording is None
    listed, _ = read(filled, calls.list_calls, "default", calls.CallFilter(), limit=50)
    assert {one.call_id for one in listed if one.recording} == {"new"}


def test_traces_go_by_their_age(filled: Database, tmp_path: Path) -> None:
    has_passed(filled, tmp_path, traces_days=DAYS)
    assert files(tmp_path, "traces") == {file_name("new@sip")}


def test_a_call_goes_with_all_it_has_and_a_running_one_never(filled: Database, tmp_path: Path) -> None:
    has_passed(filled, tmp_path, calls_days=DAYS)
    for table in ("calls", "call_events", "turns", "recordings"):
        assert rows(filled, table) == LEFT
    assert files(tmp_path, "recordings") == {"new.wav", "running.wav"}
    assert files(tmp_path, "traces") == {file_name("new@sip"), file_name("running@sip")}


def test_the_next_pass_takes_what_has_become_old(filled: Database, tmp_path: Path) -> None:
    one = Retention(filled, tmp_path, RetentionPolicy(events_days=DAYS))
    one.run(NOW)
    one.run(NOW + 2 * DAY_S)
    assert rows(filled, "call_events") == {"running"}


def test_deliveries_that_are_over_go_and_those_that_wait_stay(database: Database, tmp_path: Path) -> None:
    def add(name: str, at: float) -> None:
        one = outbox.NewDelivery(
            delivery_id=name, account_id="default", webhook_id=name, event="x", body=b"", created_at=at
        )
        write(database, outbox.add, [one])

    for number in range(5):
        add(f"old{number}", BEFORE)
    add("new", SINCE)
    due = read(database, outbox.due_endpoints, NOW)
    for one in write(database, outbox.take_due, NOW, dict.fromkeys(due, 9)):
        write(database, outbox.mark_delivered, one, NOW)
    add("waiting", BEFORE)
    has_passed(database, tmp_path, deliveries_days=DAYS)
    everything = outbox.DeliveryFilter()
    left, _ = read(database, outbox.list_deliveries, "default", everything, limit=99)
    assert {one.delivery_id for one in left} == {"new", "waiting"}


def test_saved_legs_of_calls_long_over_go(database: Database, tmp_path: Path) -> None:
    for call_id, more in (("over", [ENDED]), ("running", [])):
        happened(database, ARRIVED, ANSWERED, *more, call_id=call_id, at=BEFORE)
        kept(database, [SavedLeg(call_id=call_id, leg_id="leg-1", saved=b"x")])
    has_passed(database, tmp_path)
    assert rows(database, "saved_legs") == {"running"}


def test_answers_to_idempotency_keys_are_kept_for_a_day(database: Database, tmp_path: Path) -> None:
    ages = {f"k{number}": NOW - 2 * DAY_S for number in range(7)} | {"fresh": NOW - DAY_S / 2}
    with database.write() as connection:
        for key, at in ages.items():
            row = {"account_id": "default", "key": key, "request_digest": b"", "created_at": at}
            connection.execute(idempotency.insert().values(row))
    has_passed(database, tmp_path)
    left = read(database, lambda connection: connection.scalars(sa.select(idempotency.c.key)).all())
    assert left == ["fresh"]


async def test_passes_are_made_until_it_is_closed(
    filled: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    passes = asyncio.Semaphore(0)
    loop = asyncio.get_running_loop()

    def fails(now: float) -> None:
        loop.call_soon_threadsafe(passes.release)
        raise OSError("the disk is gone")

    one = Retention(filled, tmp_path, RetentionPolicy())
    monkeypatch.setattr(one, "run", fails)
    monkeypatch.setattr(retention, "EVERY_S", 0.01)
    one.start()
    for _ in range(3):
        await asyncio.wait_for(passes.acquire(), 5)
    await one.close()
    assert "the disk is gone" in caplog.text


async def test_closing_does_not_wait_for_the_end_of_a_pass(filled: Database, tmp_path: Path) -> None:
    one = Retention(filled, tmp_path, RetentionPolicy(calls_days=DAYS, events_days=DAYS))
    await one.close()
    one.run(NOW)
    assert rows(filled, "calls") == EVERY


def test_a_file_that_is_not_among_our_recordings_is_not_touched(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outside = tmp_path / "outside.wav"
    outside.write_bytes(b"x")
    strange = str(tmp_path / "recordings" / ".." / "outside.wav")
    remove_files(tmp_path, calls.DeletedCall(recordings=(str(outside), strange), sip_call_ids=()))
    assert outside.exists()
    assert "outside.wav" in caplog.text
