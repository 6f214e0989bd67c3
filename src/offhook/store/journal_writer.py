"""Where a batch goes: into the database, into the spool while that is away, or, what nothing takes, aside.

All of it blocks, and is called by the journal's thread alone.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import sqlalchemy as sa

from offhook.model.errors import LocalProtocolError
from offhook.store.batches import Batch, Deliveries, Entry, KnownCall, write_batch
from offhook.store.database import Database, sqlstate
from offhook.store.entry_queue import BATCH_ENTRIES
from offhook.store.spool import Spool

_log = logging.getLogger("offhook.store")

PROBE_S = 1.0
"""How often PostgreSQL is looked for while it is away."""

PATIENCE_S = 1.0
"""For a transaction on PostgreSQL: fifty times what one takes, and half of what a call that arrives waits for it. What
takes longer goes to the spool; the transaction may still be committed, and what is spooled then changes nothing."""

PATIENCE_WHEN_BACK_S = 10.0
"""For one out of the spool: nobody waits for that, and a slow database must get on with it."""

_ABOUT_VALUES = frozenset({"22", "23"})
"""Classes of SQLSTATE: data exceptions, and constraints that do not hold (PostgreSQL, appendix A)."""

_BUGS = (
    *(TypeError, ValueError, ArithmeticError, AttributeError, LookupError),
    *(LocalProtocolError, sa.exc.StatementError),
)
"""What an entry causes that cannot be encoded, or does not follow from what is kept."""


class JournalWriter:
    """``on_back`` is called from another thread when the database may be there again."""

    def __init__(
        self,
        database: Database,
        spool: Spool,
        *,
        node_id: str,
        deliveries: Deliveries,
        on_back: Callable[[], None],
    ) -> None:
        self.refused = 0
        """Entries laid aside."""
        self.is_away = False
        self.is_stalled = False
        """The disk refused the last attempt."""
        self.wrote_deliveries = False
        """Set with every delivery written; whoever looks clears it."""
        self._database = database
        self._spool = spool
        self._node_id = node_id
        self._deliveries = deliveries
        self._on_back = on_back
        self._running = dict[str, KnownCall]()
        self._back = threading.Event()
        self._closed = threading.Event()
        self._probing: threading.Thread | None = None
        self._patient = _new_thread()

    @property
    def spooled(self) -> int:
        """Entries that wait for the database."""
        return len(self._spool)

    @property
    def can_drain(self) -> bool:
        """Whether there is something in the spool, and a database to bring it to."""
        return bool(self._spool) and (not self.is_away or self._back.is_set())

    def keep(self, entries: Sequence[Entry]) -> Sequence[Entry] | None:
        """Those that are on disk now; what nothing takes is laid aside. None: the disk refuses, so try all again."""
        if self.is_away and self._back.is_set() and not self._spool:
            self.is_away = False
        if not self.is_away and not self._spool:
            try:
                return self._unstalled(self._put(self._into_database, entries))
            except Exception as error:
                if self._database.is_sqlite:
                    self._stall(error)
                    return None
                self._leave_it(error)
        return self.spool_all(entries)

    def spool_all(self, entries: Sequence[Entry]) -> Sequence[Entry] | None:
        """As ``keep``, where the database cannot be waited for."""
        try:
            return self._unstalled(self._put(self._spool.append, entries))
        except Exception as error:
            self._stall(error)
            return None

    def drain(self) -> bool:
        """Bring the oldest of the spool into the database. False: it is away again, or the disk refuses."""
        self._back.clear()
        try:
            chunk = self._spool.first(BATCH_ENTRIES)
            for one in chunk:
                if isinstance(one.entry, str):
                    self._lay_aside(one.entry, "cannot be read")
            self._put(self._from_spool, [one.entry for one in chunk if not isinstance(one.entry, str)])
            self._spool.drop(chunk[-1])
        except Exception as error:
            if self._database.is_sqlite:
                self._stall(error)
            else:
                self._leave_it(error)
            return False
        if self.is_away:
            _log.warning("%s is back; %d entries follow from the spool", self._database.name, len(self._spool))
        self.is_away = self.is_stalled = False
        return True

    def close(self) -> None:
        self._closed.set()
        if self._probing is not None:
            self._probing.join()
        self._patient.shutdown(wait=False)
        self._spool.close()

    def _put(self, put: Callable[[Sequence[Entry]], None], entries: Sequence[Entry]) -> list[Entry]:
        """Those that were taken. Where some are refused, they are told apart by halves, so that none holds up another.

        Raises what is not about the entries.
        """
        try:
            put(entries)
        except Exception as error:
            if not self._is_about_values(error):
                raise
            if len(entries) == 1:
                self._lay_aside(entries[0], f"{type(error).__name__}: {error}")
                return []
        else:
            return list(entries)
        middle = len(entries) // 2
        return self._put(put, entries[:middle]) + self._put(put, entries[middle:])

    def _into_database(self, entries: Sequence[Entry]) -> None:
        try:
            self._write(entries, PATIENCE_S)
        except Exception as error:
            if not self._is_about_values(error):
                raise
            # A commit that we were told had failed may have been made after all.
            self._running.clear()
            self._write(entries, PATIENCE_S, repeated=True)

    def _from_spool(self, entries: Sequence[Entry]) -> None:
        self._running.clear()
        self._write(entries, PATIENCE_WHEN_BACK_S, repeated=True)

    def _write(self, entries: Sequence[Entry], patience_s: float, *, repeated: bool = False) -> None:
        known = dict(self._running)
        batch = Batch(node_id=self._node_id, deliveries=self._deliveries, known=known, repeated=repeated)
        if self._database.is_sqlite:
            self._transact(batch, entries, threading.Event())
        else:
            self._transact_within(patience_s, batch, entries)
        for call_id, call in batch.changed.items():
            self._running[call_id] = call
            if call.record.phase == "ended":
                del self._running[call_id]
        self.wrote_deliveries = self.wrote_deliveries or bool(batch.new_deliveries)

    def _transact(self, batch: Batch, entries: Sequence[Entry], abandoned: threading.Event) -> None:
        with self._database.write() as connection:
            write_batch(connection, batch, entries)
            if abandoned.is_set():  # somebody else has these entries by now
                raise TimeoutError("too late")

    def _transact_within(self, patience_s: float, batch: Batch, entries: Sequence[Entry]) -> None:
        """Raises ``TimeoutError`` and lets the transaction end by itself, one way or the other."""
        abandoned = threading.Event()
        done = self._patient.submit(self._transact, batch, entries, abandoned)
        try:
            done.result(patience_s)
        except TimeoutError:
            if not done.done():
                abandoned.set()
                self._patient.shutdown(wait=False)
                self._patient = _new_thread()
            raise

    def _lay_aside(self, entry: Entry | str, problem: str) -> None:
        """Raises ``OSError``."""
        self._spool.lay_aside(entry, problem)
        self.refused += 1
        name = entry.call_id if not isinstance(entry, str) else "?"
        _log.error("an event of call %s is kept in %s alone: %s", name, self._spool.refused_file, problem)

    def _is_about_values(self, error: Exception) -> bool:
        """Whether an entry is to blame, so that others can be written; else it is the database, or the disk."""
        if self._database.is_away(error):
            return False
        if isinstance(error, sa.exc.DBAPIError):
            return _refuses_values(error)
        return isinstance(error, _BUGS)

    def _stall(self, error: Exception) -> None:
        if not self.is_stalled:
            _log.error("events of calls wait for the disk, and no new calls are taken: %s", error)
        self.is_stalled = True

    def _unstalled(self, kept: list[Entry]) -> list[Entry]:
        if self.is_stalled:
            _log.warning("events of calls are on disk again")
        self.is_stalled = False
        return kept

    def _leave_it(self, error: Exception) -> None:
        """Write to the spool until the database can be written to again."""
        self._running.clear()
        if not self.is_away:
            _log.warning("%s is away, and events go to the spool: %s", self._database.name, error)
        self.is_away = True
        self._back.clear()
        if self._probing is None or not self._probing.is_alive():
            self._probing = threading.Thread(target=self._probe, name="offhook-database-probe", daemon=True)
            self._probing.start()

    def _probe(self) -> None:
        while not self._closed.wait(PROBE_S):
            try:
                with self._database.write() as connection:
                    connection.execute(sa.select(1))
            except Exception as error:
                _log.debug("still away: %s", error)
                continue
            self._back.set()
            self._on_back()
            return


def _new_thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="offhook-journal-database")


def _refuses_values(error: sa.exc.DBAPIError) -> bool:
    if code := sqlstate(error.orig):
        return code[:2] in _ABOUT_VALUES
    refusals = (sa.exc.IntegrityError, sa.exc.DataError, sa.exc.InterfaceError, sa.exc.ProgrammingError)
    return isinstance(error, refusals)
