"""What the journal still has to write, between the event loop and the writer's thread."""

from __future__ import annotations

import threading
import time
from collections import deque

from offhook.store.batches import Entry

GATHER_S = 0.05
"""Entries this close together share a transaction. An entry is on disk within twice this, one commit included."""

BATCH_ENTRIES = 500
"""A transaction of these takes some 10 ms; a longer one would let the next entries wait."""


class EntryQueue:
    """Thread-safe, and in order. ``put`` never waits for the disk."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._entries = deque[Entry]()
        self._due_at = 0.0
        self._urgent = False
        self._woken = False
        self._closed = False

    @property
    def closed(self) -> bool:
        return self._closed

    def put(self, entry: Entry, *, urgent: bool) -> None:
        """``urgent``: somebody waits for it, so it is taken at once, with all that is before it."""
        with self._changed:
            if not self._entries:
                self._due_at = time.monotonic() + GATHER_S
            self._entries.append(entry)
            self._urgent = self._urgent or urgent
            if urgent or len(self._entries) in {1, BATCH_ENTRIES}:
                self._changed.notify()

    def hurry(self) -> None:
        """Somebody waits for what is in it."""
        with self._changed:
            self._urgent = True
            self._changed.notify()

    def wake(self) -> None:
        """Let ``take`` return, with or without entries."""
        with self._changed:
            self._woken = True
            self._changed.notify()

    def close(self) -> None:
        """Nothing is gathered from now on."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def take(self, *, wait: bool) -> list[Entry]:
        """The oldest entries, at most ``BATCH_ENTRIES``; none where ``wait`` is false, when woken, and at the end."""
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: self._entries or self._closed or self._woken)
                self._gather()
            self._woken = False
            taken = [self._entries.popleft() for _ in range(min(len(self._entries), BATCH_ENTRIES))]
            self._urgent = self._urgent and bool(self._entries)
            self._due_at = 0.0  # those that are left have waited
            return taken

    def _gather(self) -> None:
        def enough() -> bool:
            return self._urgent or self._closed or not self._entries or len(self._entries) >= BATCH_ENTRIES

        rest = self._due_at - time.monotonic()
        if rest > 0:
            self._changed.wait_for(enough, rest)
