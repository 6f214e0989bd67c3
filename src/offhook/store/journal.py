"""The journal: every fact of every call, on disk in its order, with all that follows from it.

``append`` puts a fact into a queue and returns; one thread takes them from there, a batch for each transaction: the
event, the call's record, its transcript, its saved legs and whom to tell. While PostgreSQL is away the batches go to a
spool on disk; while the disk refuses they stay in the queue and are tried again. No event is ever dropped: when too
many wait, new calls are not taken (``on_full``), and those that run go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec

from offhook.model.call_events import (
    CallArrived,
    CallEvent,
    SipMessageReceived,
    ToolCalled,
    ToolReturned,
    TurnSpoken,
)
from offhook.model.records import CallRecord
from offhook.store.batches import Deliveries, Entry, SavedLeg
from offhook.store.database import Database
from offhook.store.entry_queue import EntryQueue
from offhook.store.journal_writer import JournalWriter
from offhook.store.outbox import NewDelivery
from offhook.store.spool import Spool

_log = logging.getLogger("offhook.store")

FULL_ENTRIES = 20_000
"""No new calls while more wait: 200 calls make these in a minute, and a disk that hangs for so long will not recover
by itself. Running calls may add theirs."""

FULL_BYTES = 64_000_000
"""The same for what tools and messages bring along."""

EMPTIER = 0.5
"""Of either limit: then new calls are taken again."""

RETRY_S = 0.5
"""Between attempts on a disk that refuses."""

LAST_RETRIES_S = 5.0
"""At the end, for a disk that refuses: then what waits is spooled, if even that can be done."""

ENTRY_BYTES = 500
"""What a fact without texts takes, roughly."""

_Told = ParamSpec("_Told")


def _nobody(event: CallEvent, record: CallRecord) -> Sequence[NewDelivery]:
    return ()


def _nothing(*told: object) -> None:
    return


@dataclass(frozen=True, kw_only=True, slots=True)
class JournalListeners:
    """Whom the journal calls, on the event loop (``deliveries`` and ``on_batch``: in its own thread).

    ``on_batch``: how many entries were kept at once, and in how many seconds. ``on_committed``: events on disk,
    in their order. ``on_full``: whether new calls must not be taken. ``on_deliveries``: there is something to send.
    """

    deliveries: Deliveries = _nobody
    on_batch: Callable[[int, float], None] = _nothing
    on_committed: Callable[[Sequence[CallEvent]], None] = _nothing
    on_full: Callable[[bool], None] = _nothing
    on_deliveries: Callable[[], None] = _nothing


class Journal:
    """Implements the bus's ``Keeper``. ``append``, ``kept`` and ``save_leg`` belong to the event loop."""

    def __init__(
        self, database: Database, *, node_id: str, folder: Path, listeners: JournalListeners | None = None
    ) -> None:
        """``folder``: for the spool. Raises ``OSError`` or ``sqlite3.Error`` where an earlier one cannot be opened."""
        self._listeners = listeners or JournalListeners()
        self._queue = EntryQueue()
        self._writer = JournalWriter(
            database,
            Spool(folder),
            node_id=node_id,
            deliveries=self._listeners.deliveries,
            on_back=self._queue.wake,
        )
        self._thread = threading.Thread(target=self._write, name="offhook-journal", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started: asyncio.Future[None] | None = None
        self._appended = 0
        self._kept = 0
        self._bytes = 0
        self._waiters = deque[tuple[int, asyncio.Future[None]]]()
        self._is_full = False

    @property
    def waiting(self) -> int:
        """Entries that are only in memory."""
        return self._appended - self._kept

    @property
    def spooled(self) -> int:
        """Entries that wait on disk for the database."""
        return self._writer.spooled

    @property
    def refused(self) -> int:
        """Entries that nothing took; they are in a file beside the spool, and in the log."""
        return self._writer.refused

    @property
    def is_away(self) -> bool:
        """The database is, and events go to the spool."""
        return self._writer.is_away

    @property
    def is_full(self) -> bool:
        """New calls are not taken: too much waits, or the disk refuses."""
        return self._is_full

    async def start(self) -> None:
        """Begin to write. Returns when what an earlier process spooled is in the database, or that is away."""
        self._loop = asyncio.get_running_loop()
        self._started = self._loop.create_future()
        self._thread.start()
        await self._started

    def append(self, event: CallEvent) -> None:
        """One more fact. Never waits, never raises."""
        self._put(event, urgent=isinstance(event.fact, CallArrived))

    def save_leg(self, call_id: str, leg_id: str, saved: bytes | None) -> None:
        """Keep ``saved`` of this leg, in order with the events; None: the leg is over."""
        self._put(SavedLeg(call_id=call_id, leg_id=leg_id, saved=saved), urgent=False)

    async def kept(self, event: CallEvent) -> None:
        """Return when ``event``, which was appended, and all before it are on disk."""
        if not self.waiting:
            return
        kept = asyncio.get_running_loop().create_future()
        self._waiters.append((self._appended, kept))
        self._queue.hurry()
        await kept

    def close(self) -> None:
        """Write what waits, then stop. Blocks; while it does, the event loop should run."""
        self._queue.close()
        if self._thread.is_alive():
            self._thread.join()
        self._writer.close()

    def _put(self, entry: Entry, *, urgent: bool) -> None:
        if self._queue.closed:
            _log.error("an event of call %s came after the end and is not kept: %r", entry.call_id, entry)
            return
        self._appended += 1
        self._bytes += _size(entry)
        self._queue.put(entry, urgent=urgent)
        self._judge_fullness()

    def _judge_fullness(self) -> None:
        share = EMPTIER if self._is_full else 1.0
        full = self._writer.is_stalled or self.waiting >= share * FULL_ENTRIES or self._bytes >= share * FULL_BYTES
        if full != self._is_full:
            self._is_full = full
            _tell(self._listeners.on_full, full)

    def _on_written(self, entries: Sequence[Entry], kept: Sequence[Entry], deliveries: bool) -> None:
        """On the loop: ``entries`` are done with; ``kept`` are those that can be read again."""
        self._kept += len(entries)
        self._bytes -= sum(map(_size, entries))
        while self._waiters and self._waiters[0][0] <= self._kept:
            _, waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
        events = [entry for entry in kept if isinstance(entry, CallEvent)]
        if events:
            _tell(self._listeners.on_committed, events)
        if deliveries:
            _tell(self._listeners.on_deliveries)
        self._judge_fullness()

    def _on_started(self) -> None:
        self._judge_fullness()
        if self._started is not None and not self._started.done():
            self._started.set_result(None)

    # The rest is the thread's.

    def _write(self) -> None:
        while self._writer.can_drain and self._writer.drain():
            pass
        self._on_loop(self._on_started)
        while True:
            entries = self._queue.take(wait=not self._writer.can_drain)
            if entries:
                self._keep(entries)
            elif self._queue.closed:
                return
            if self._writer.can_drain and not self._queue.closed:
                self._drain()

    def _drain(self) -> None:
        drained = self._writer.drain()
        self._on_loop(self._on_written, (), (), self._deliveries_written())
        if not drained and self._writer.can_drain:
            time.sleep(RETRY_S)

    def _keep(self, entries: Sequence[Entry]) -> None:
        """Until they are kept, or it is over."""
        give_up_at: float | None = None
        began = time.monotonic()
        while (kept := self._writer.keep(entries)) is None:
            self._on_loop(self._judge_fullness)
            if self._queue.closed:
                give_up_at = give_up_at or time.monotonic() + LAST_RETRIES_S
                if time.monotonic() > give_up_at:
                    self._give_up(entries)
                    return
            time.sleep(RETRY_S)
        _tell(self._listeners.on_batch, len(entries), time.monotonic() - began)
        self._on_loop(self._on_written, entries, kept, self._deliveries_written())

    def _give_up(self, entries: Sequence[Entry]) -> None:
        if self._writer.spool_all(entries) is None:
            _log.critical("%d entries are lost: neither the database nor the spool could be written", len(entries))

    def _deliveries_written(self) -> bool:
        written, self._writer.wrote_deliveries = self._writer.wrote_deliveries, False
        return written

    def _on_loop(self, callback: Callable[..., None], *arguments: object) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it is closed: nobody is left to be told
                self._loop.call_soon_threadsafe(callback, *arguments)


def _tell(listener: Callable[_Told, None], *told: _Told.args, **named: _Told.kwargs) -> None:
    try:
        listener(*told, **named)
    except Exception:
        _log.exception("a listener of the journal failed")


def _size(entry: Entry) -> int:
    if isinstance(entry, SavedLeg):
        return ENTRY_BYTES + len(entry.saved or b"")
    match entry.fact:
        case TurnSpoken(text=text) | SipMessageReceived(text=text):
            return ENTRY_BYTES + len(text)
        case ToolCalled(arguments=text) | ToolReturned(output=text):
            return ENTRY_BYTES + len(text)
        case CallArrived(headers=headers):
            return ENTRY_BYTES + sum(len(name) + len(value) for name, value in headers)
        case _:
            return ENTRY_BYTES
