"""What is deleted when its time is over: rows in small transactions, so that no call waits for one, and files.

A call's parts each have days of their own, counted from its end; the record goes last, and takes with it what is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from offhook.store.calls import DeletedCall, delete_rows, files_of
from offhook.store.database import Database
from offhook.store.schema import call_events, calls, idempotency, outbox, recordings, saved_legs, turns
from offhook.store.traces import file_name

_log = logging.getLogger("offhook.store")

DAY_S = 86_400.0

EVERY_S = 3600.0
"""Between two passes."""

PAGE = 500
"""Rows looked at in one go: some milliseconds."""

CALLS_AT_ONCE = 20
"""Whose rows go in one transaction: some 2,000 of them, 20 ms in which nobody else writes to SQLite."""

PAUSE_S = 0.05
"""Between transactions: whoever waited writes."""

SAVED_LEGS_DAYS = 1
"""After the end of its call a leg waits for nothing but a BYE that was not sent."""

IDEMPOTENCY_DAYS = 1
"""As the API promises."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RetentionPolicy:
    """Days; 0 keeps for ever. See ``retention`` in config.json."""

    calls_days: float = 0
    events_days: float = 0
    transcripts_days: float = 0
    recordings_days: float = 0
    traces_days: float = 0
    deliveries_days: float = 0


_Position = tuple[float, str]


class Retention:
    """A pass when it is started, and one every hour. ``start``, ``change`` and ``close`` belong to the event loop."""

    def __init__(self, database: Database, data_dir: Path, policy: RetentionPolicy) -> None:
        self._database = database
        self._data_dir = data_dir
        self._policy = policy
        self._stopping = threading.Event()
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._done: dict[str, _Position] = {}

    def start(self) -> None:
        self._task = asyncio.create_task(self._keep_on())

    async def close(self) -> None:
        """Returns when the pass that runs has come to its next pause."""
        self._stopping.set()
        self._closing.set()
        if self._task is not None:
            await self._task

    def change(self, policy: RetentionPolicy) -> None:
        """From the next pass on."""
        self._policy = policy

    def run(self, now: float) -> None:
        """One pass; ``now`` is Unix seconds. Blocks. Raises what the database raises, and ``OSError``."""
        policy = self._policy
        jobs: tuple[tuple[float, Callable[[float], None]], ...] = (
            (policy.calls_days, self._delete_calls),
            (policy.events_days, lambda before: self._delete_parts(call_events, before)),
            (policy.transcripts_days, lambda before: self._delete_parts(turns, before)),
            (SAVED_LEGS_DAYS, lambda before: self._delete_parts(saved_legs, before)),
            (policy.recordings_days, self._delete_recordings),
            (policy.traces_days, lambda before: _remove_older(self._data_dir / "traces", before)),
            (policy.deliveries_days, self._delete_deliveries),
            (IDEMPOTENCY_DAYS, self._delete_answers),
        )
        for days, delete in jobs:
            if days and not self._stopping.is_set():
                delete(now - days * DAY_S)

    async def _keep_on(self) -> None:
        while not self._closing.is_set():
            try:
                await asyncio.to_thread(self.run, time.time())
            except Exception as error:
                _log.error("what is too old was not deleted: %s", error)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), EVERY_S)

    def _delete_calls(self, before: float) -> None:
        over = sa.select(calls.c.call_id).where(calls.c.phase == "ended", calls.c.ended_at < before)
        while ids := self._ids(over.order_by(calls.c.ended_at).limit(CALLS_AT_ONCE)):
            with self._database.write() as connection:
                left = files_of(connection, ids)
                delete_rows(connection, ids)
            remove_files(self._data_dir, left)
            if self._stopping.wait(PAUSE_S):
                return

    def _delete_parts(self, table: sa.Table, before: float) -> None:
        """The rows of ended calls in one table. What an earlier pass went through is not looked at again."""
        for page, last in self._ended(before, self._done.get(table.name)):
            there = self._ids(sa.select(table.c.call_id).where(table.c.call_id.in_(page)).distinct())
            for start in range(0, len(there), CALLS_AT_ONCE):
                some = there[start : start + CALLS_AT_ONCE]
                with self._database.write() as connection:
                    connection.execute(sa.delete(table).where(table.c.call_id.in_(some)))
                if self._stopping.wait(PAUSE_S):
                    return
            self._done[table.name] = last

    def _ended(self, before: float, after: _Position | None) -> Iterator[tuple[Sequence[str], _Position]]:
        """Pages of the ids of calls that ended, the oldest first, and where each page ends."""
        key = sa.tuple_(calls.c.ended_at, calls.c.call_id)
        query = sa.select(calls.c.ended_at, calls.c.call_id).where(calls.c.phase == "ended", calls.c.ended_at < before)
        while not self._stopping.is_set():
            page = query if after is None else query.where(key > sa.tuple_(*map(sa.literal, after)))
            with self._database.read() as connection:
                rows = connection.execute(page.order_by(calls.c.ended_at, calls.c.call_id).limit(PAGE)).all()
            if not rows:
                return
            after = (rows[-1][0], rows[-1][1])
            yield [row[1] for row in rows], after

    def _delete_recordings(self, before: float) -> None:
        """Files first: a row without its file is found again, a file without its row only by its age."""
        query = sa.select(recordings.c.call_id, recordings.c.path).where(recordings.c.created_at < before)
        while not self._stopping.is_set():
            with self._database.read() as connection:
                rows = connection.execute(query.limit(CALLS_AT_ONCE)).all()
            if not rows:
                break
            remove_files(self._data_dir, DeletedCall(recordings=tuple(row[1] for row in rows), sip_call_ids=()))
            with self._database.write() as connection:
                for call_id, path in rows:
                    same = (recordings.c.call_id == call_id, recordings.c.path == path)
                    connection.execute(sa.delete(recordings).where(*same))
            self._stopping.wait(PAUSE_S)
        _remove_older(self._data_dir / "recordings", before)  # of calls whose process died while they were recorded

    def _delete_deliveries(self, before: float) -> None:
        last = ""
        while not self._stopping.is_set():
            page = sa.select(outbox.c.delivery_id, outbox.c.state, outbox.c.created_at).limit(PAGE)
            with self._database.read() as connection:
                ordered = page.where(outbox.c.delivery_id > last).order_by(outbox.c.delivery_id)
                rows = connection.execute(ordered).all()
            if not rows:
                return
            last = rows[-1][0]
            if ids := [row[0] for row in rows if row[1] != "pending" and row[2] < before]:
                with self._database.write() as connection:
                    over = sa.delete(outbox).where(outbox.c.delivery_id.in_(ids), outbox.c.state != "pending")
                    connection.execute(over)
                self._stopping.wait(PAUSE_S)

    def _delete_answers(self, before: float) -> None:
        key = sa.tuple_(idempotency.c.account_id, idempotency.c.key)
        old = sa.select(idempotency.c.account_id, idempotency.c.key).where(idempotency.c.created_at < before)
        deleted = PAGE
        while deleted == PAGE and not self._stopping.is_set():
            with self._database.write() as connection:
                deleted = connection.execute(sa.delete(idempotency).where(key.in_(old.limit(PAGE)))).rowcount
            self._stopping.wait(PAUSE_S)

    def _ids(self, query: sa.Select[Any]) -> Sequence[str]:
        with self._database.read() as connection:
            return list(connection.scalars(query))


def remove_files(data_dir: Path, left: DeletedCall) -> None:
    """What a deleted call has left on disk. A recording outside ``recordings`` is not ours to delete. Blocks."""
    _remove(_recordings_in(data_dir / "recordings", left.recordings))
    _remove(data_dir / "traces" / file_name(sip_call_id) for sip_call_id in left.sip_call_ids)


def _recordings_in(folder: Path, paths: Iterable[str]) -> Iterator[Path]:
    for path in paths:
        if Path(path).resolve().is_relative_to(folder.resolve()):
            yield Path(path)
        else:
            _log.warning("recording %s is not in %s and stays", path, folder)


def _remove_older(folder: Path, before: float) -> None:
    if folder.is_dir():
        _remove(file for file in folder.iterdir() if file.is_file() and file.stat().st_mtime < before)


def _remove(files: Iterable[Path]) -> None:
    for file in files:
        try:
            file.unlink(missing_ok=True)
        except OSError as error:  # the others need not stay for it
            _log.error("%s was not deleted: %s", file, error)
