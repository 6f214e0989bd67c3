"""The bus: every durable fact to the store first, then to whoever watches. Signals go to watchers alone."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol, TypeVar

from offhook.model.call_events import CallEvent, LiveSignal
from offhook.model.trunks import TrunkChanged

_log = logging.getLogger("offhook.bus")


class Keeper(Protocol):
    """Where facts are kept."""

    def append(self, event: CallEvent) -> None: ...

    async def kept(self, event: CallEvent) -> None:
        """Return when an appended event is on disk."""
        ...

    def save_leg(self, call_id: str, leg_id: str, saved: bytes | None) -> None: ...


T = TypeVar("T")
EventWatcher = Callable[[CallEvent], None]
SignalWatcher = Callable[[LiveSignal], None]
TrunkWatcher = Callable[[TrunkChanged], None]


class Bus:
    """Implements the call's ``EventSink``. A watcher that raises is logged and never stops the others."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._event_watchers: list[EventWatcher] = []
        self._signal_watchers: list[SignalWatcher] = []
        self._trunk_watchers: list[TrunkWatcher] = []

    def watch(
        self,
        events: EventWatcher | None = None,
        signals: SignalWatcher | None = None,
        trunks: TrunkWatcher | None = None,
    ) -> None:
        if events is not None:
            self._event_watchers.append(events)
        if signals is not None:
            self._signal_watchers.append(signals)
        if trunks is not None:
            self._trunk_watchers.append(trunks)

    def tell(self, changed: TrunkChanged) -> None:
        """The state of a trunk changed. Its latest state can be read at any time; so this is told, and not stored."""
        for watcher in self._trunk_watchers:
            _tell(watcher, changed)

    def append(self, event: CallEvent) -> None:
        self._keeper.append(event)
        for watcher in self._event_watchers:
            _tell(watcher, event)

    async def kept(self, event: CallEvent) -> None:
        await self._keeper.kept(event)

    def save_leg(self, call_id: str, leg_id: str, saved: bytes | None) -> None:
        self._keeper.save_leg(call_id, leg_id, saved)

    def signal(self, signal: LiveSignal) -> None:
        for watcher in self._signal_watchers:
            _tell(watcher, signal)


def _tell(watcher: Callable[[T], None], told: T) -> None:
    try:
        watcher(told)
    except Exception:
        _log.exception("a watcher of the bus failed on %s", type(told).__name__)
