"""What the agent says at OpenAI Realtime, response by response and item by item: how much came, and what was given up.

Late sound of what was given up is dropped by its name, not by its time.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from offhook.bridge.openai_realtime.asking import Wish

MAX_ITEMS = 64
"""Remembered, of the agent's utterances; those played or cut are older than a few."""


@dataclass(slots=True)
class Spoken:
    """An item of the agent. ``cut``: given up, nothing of it counts any more. ``received_bytes``: until then."""

    response_id: str
    received_bytes: int = 0
    done: bool = False
    cut: bool = False


@dataclass(slots=True)
class Reply:
    """The response that runs. ``cancelled``: by us, nothing more of it counts; ``muted``: nor anything before."""

    response_id: str
    wish: Wish | None = None
    cancelled: bool = False
    muted: bool = False
    item_ids: list[str] = field(default_factory=list)
    call_ids: list[str] = field(default_factory=list)
    has_sound: bool = False


class Replies:
    def __init__(self) -> None:
        self.running: Reply | None = None
        self._items: OrderedDict[str, Spoken] = OrderedDict()

    def item(self, item_id: str) -> Spoken | None:
        return self._items.get(item_id)

    def begun(self, item_id: str, response_id: str) -> Spoken:
        """The item, known or new; a server that names no response means the one that runs."""
        item = self._items.get(item_id)
        if item is None:
            running = self.running
            response_id = response_id or (running.response_id if running is not None else "")
            item = self._items[item_id] = Spoken(response_id)
            if running is not None and response_id == running.response_id and len(running.item_ids) < MAX_ITEMS:
                running.item_ids.append(item_id)
            if len(self._items) > MAX_ITEMS:
                self._items.popitem(last=False)
        return item

    def counts(self, item: Spoken | None) -> bool:
        """Whether what comes of it is to be heard."""
        if item is None:
            return True
        running = self.running
        given_up = running is not None and running.cancelled and running.response_id == item.response_id
        return not (item.cut or given_up)
