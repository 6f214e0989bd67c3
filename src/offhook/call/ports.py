"""What a call asks of the world, as protocols; built by ``server``, implemented below or beside the call."""

from __future__ import annotations

from typing import Protocol

from offhook.model.call_events import CallEvent, LiveSignal
from offhook.model.records import Agent


class EventSink(Protocol):
    """Takes every durable fact, in order, and never drops one."""

    def append(self, event: CallEvent) -> None: ...

    def signal(self, signal: LiveSignal) -> None:
        """A live signal: may be dropped."""
        ...


class Directory(Protocol):
    """Who answers which number. An in-memory copy: never waits."""

    def agent_for(self, user: str) -> Agent | None: ...
