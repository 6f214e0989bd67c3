"""The utterances of an agent whose provider names none, or not one at a time. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from offhook.bridge.codec import AudioDone, Interrupted, ResponseDone, ResponseStarted
from offhook.bridge.wire import CodecOutput

MAX_ITEMS = 8
"""Utterances an interruption may still concern: those of the last turns, not of the whole call."""


@dataclass(slots=True)
class AgentItem:
    """An utterance. ``cut``: what still comes of it is not heard."""

    name: str
    cut: bool = False


Item = TypeVar("Item", bound=AgentItem)


class AgentItems(Generic[Item]):
    """One utterance a turn. ``make``: of a name, what the provider's codec has to know of one."""

    def __init__(self, make: Callable[[str], Item]) -> None:
        self._make = make
        self._items: deque[Item] = deque(maxlen=MAX_ITEMS)
        self._count = 0
        self.current: Item | None = None

    def begin(self, out: CodecOutput) -> Item:
        self._count += 1
        item = self.current = self._make(f"utterance-{self._count}")
        self._items.append(item)
        out.bridge_event(ResponseStarted())
        return item

    def finish(self, out: CodecOutput) -> None:
        """The current one, if there is one, is complete."""
        item, self.current = self.current, None
        if item is None:
            return
        if not item.cut:
            out.bridge_event(AudioDone(item=item.name))
        out.bridge_event(ResponseDone())

    def cut(self, name: str) -> None:
        """By the call."""
        for item in self._items:
            item.cut = item.cut or item.name == name

    def give_up(self, concerns: Callable[[Item], bool], out: CodecOutput) -> None:
        """By the provider: those it ``concerns``."""
        for item in self._items:
            if concerns(item) and not item.cut:
                item.cut = True
                out.bridge_event(Interrupted(item=item.name))
        if self.current is not None and concerns(self.current):
            self.current = None
            out.bridge_event(ResponseDone())
