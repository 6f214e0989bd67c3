"""Responses asked of OpenAI Realtime: one at a time, and none while another runs. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

MAX_WISHES = 16
"""Responses asked for while another one runs."""

MAX_RETRIES = 2

RATE_LIMIT_WAIT_MS = 2000
"""Limits are reset within seconds; a caller does not wait for more."""


@dataclass(slots=True)
class Wish:
    """``instructions`` "": answer what is not answered, by the session's own. ``tries``: how often it failed."""

    instructions: str = ""
    tries: int = 0
    event_id: str = ""


class Asking:
    """``asked`` is under way: it was sent, and neither its response nor an error has come."""

    def __init__(self) -> None:
        self.asked: Wish | None = None
        self._believed: Wish | None = None
        self._wishes: deque[Wish] = deque(maxlen=MAX_WISHES)
        self._not_before_ms = 0
        self._so_far = 0

    @property
    def pending(self) -> bool:
        return self.asked is not None or bool(self._wishes)

    @property
    def waiting(self) -> bool:
        return bool(self._wishes)

    def want(self, wish: Wish) -> None:
        """That what is not answered be answered need not be wished twice."""
        if wish.instructions or all(other.instructions for other in self._wishes):
            self._wishes.append(wish)

    def next(self, now_ms: int, *, caller_speaks: bool) -> Wish | None:
        """What is to be asked for now, where no response runs. What a caller says is answered at its end only."""
        if self.asked is not None or not self._wishes or now_ms < self._not_before_ms:
            return None
        if caller_speaks and not self._wishes[0].instructions:
            return None
        self.asked = wish = self._wishes.popleft()
        self._so_far += 1
        wish.event_id = f"ask_{self._so_far}"
        return wish

    def created(self, ask: object) -> Wish | None:
        """A response began; ``ask``: the event it names as its reason, None where it names none.

        Returns the wish that it fulfils. Servers that name nothing are believed to do what they were asked, until they
        say that they did not.
        """
        asked = self.asked
        if asked is not None and ask in (None, asked.event_id):
            self.asked, self._believed = None, asked
        else:
            asked = None
        if asked is None or not asked.instructions:
            # What waits to be answered is in the context of this one.
            self._wishes = deque((wish for wish in self._wishes if wish.instructions), MAX_WISHES)
        return asked

    def refused(self, event_id: str | None, *, busy: bool) -> None:
        """An error came; ``busy``: because another response runs."""
        asked = self.asked or self._believed
        if asked is None or asked.event_id != event_id:
            return
        self.asked = self._believed = None
        if busy:
            self._wishes.appendleft(asked)

    def try_again(self, wish: Wish, *, not_before_ms: int = 0) -> bool:
        """False: it was tried often enough."""
        wish.tries += 1
        if wish.tries > MAX_RETRIES:
            return False
        self._not_before_ms = not_before_ms
        self._wishes.appendleft(wish)
        return True
