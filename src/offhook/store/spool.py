"""Where the journal's entries wait, in their order, while the database is away: a SQLite file of this process's own.

What ``append`` returned from is on disk. What can never be written anywhere is laid aside in a file beside it, as text,
for a person to look at.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from offhook.model.call_events import CallEvent
from offhook.store.batches import Entry, SavedLeg
from offhook.store.facts import fact_json, fact_of
from offhook.store.text import printable

_log = logging.getLogger("offhook.store")

FILE = "spool.db"
BROKEN_FILE = "spool.broken.db"
REFUSED_FILE = "refused_events.jsonl"

_LEG = ""
"""The kind of a ``SavedLeg``; every other is a fact's name."""

_TABLE = """
CREATE TABLE IF NOT EXISTS entries (
    place INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL, call_id TEXT NOT NULL, leg_id TEXT NOT NULL, seq INTEGER, at REAL, body BLOB
)
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Spooled:
    """An entry at its ``place``; ``entry`` is what is wrong with it where nobody can read it any more."""

    place: int
    entry: Entry | str


class Spool:
    """Of one thread. Every method but ``close`` raises ``sqlite3.Error`` or ``OSError`` when the disk refuses."""

    def __init__(self, folder: Path) -> None:
        """Nothing is made on disk before there is something to keep."""
        self._folder = folder
        self._connection: sqlite3.Connection | None = None
        self._waiting = 0
        if (folder / FILE).exists():
            self._waiting = self._left_over()

    def __len__(self) -> int:
        """Entries that wait."""
        return self._waiting

    @property
    def refused_file(self) -> Path:
        return self._folder / REFUSED_FILE

    def append(self, entries: Sequence[Entry]) -> None:
        """All of them, or none. Raises what ``fact_json`` raises as well."""
        rows = [_row(entry) for entry in entries]
        connection = self._open()
        with connection:
            connection.executemany(
                "INSERT INTO entries (kind, call_id, leg_id, seq, at, body) VALUES (?, ?, ?, ?, ?, ?)", rows
            )
        self._waiting += len(rows)

    def first(self, count: int) -> list[Spooled]:
        """The ``count`` oldest, in their order."""
        if not self._waiting:
            return []
        query = "SELECT place, kind, call_id, leg_id, seq, at, body FROM entries ORDER BY place LIMIT ?"
        return [_spooled(row) for row in self._open().execute(query, (count,))]

    def drop(self, last: Spooled) -> None:
        """``last`` and all before it are where they belong."""
        connection = self._open()
        with connection:
            dropped = connection.execute("DELETE FROM entries WHERE place <= ?", (last.place,)).rowcount
        self._waiting -= dropped

    def lay_aside(self, entry: Entry | str, problem: str) -> None:
        """One line of JSON more in the file of what nothing takes."""
        self._folder.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"problem": printable(problem), "entry": printable(repr(entry))})
        with open(self.refused_file, "a", opener=_for_us_alone) as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())

    def close(self) -> None:
        """Blocks. An empty spool leaves no file."""
        if self._connection is None:
            return
        self._forget()
        if not self._waiting:
            for suffix in ("", "-wal", "-shm"):
                with contextlib.suppress(OSError):
                    (self._folder / f"{FILE}{suffix}").unlink()

    def _forget(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _left_over(self) -> int:
        try:
            return int(self._open().execute("SELECT count(*) FROM entries").fetchone()[0])
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:  # no SQLite file, or a broken one: nothing of ours can read it
            aside = self._folder / BROKEN_FILE
            _log.error("%s is broken (%s); it is kept as %s", self._folder / FILE, error, aside.name)
            self._forget()
            os.replace(self._folder / FILE, aside)
            return 0

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / FILE
            path.touch(mode=0o600)
            self._connection = _connected(path)
        return self._connection


def _connected(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, check_same_thread=False)  # made by one thread, used by another, never by both
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(_TABLE)
    except BaseException:
        connection.close()
        raise
    return connection


def _for_us_alone(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


_Row = tuple[str, str, str, int | None, float | None, str | bytes | None]


def _row(entry: Entry) -> _Row:
    if isinstance(entry, SavedLeg):
        return (_LEG, entry.call_id, entry.leg_id, None, None, entry.saved)
    name = type(entry.fact).__name__
    return (name, entry.call_id, entry.leg_id, entry.seq, entry.at, fact_json(entry.fact))


def _spooled(row: tuple[int, str, str, str, int, float, str | bytes | None]) -> Spooled:
    place, kind, call_id, leg_id, seq, at, body = row
    if kind == _LEG:
        saved = body.encode() if isinstance(body, str) else body
        return Spooled(place=place, entry=SavedLeg(call_id=call_id, leg_id=leg_id, saved=saved))
    try:
        fact = fact_of(kind, body or "")
    except ValueError as error:  # msgspec's errors are ValueErrors
        return Spooled(place=place, entry=f"{kind} {seq} of call {call_id}: {body!r} ({error})")
    return Spooled(place=place, entry=CallEvent(call_id=call_id, leg_id=leg_id, seq=seq, at=at, fact=fact))
