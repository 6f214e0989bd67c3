"""Committed events and live signals, given to whoever follows them now. What is not committed is shown to nobody."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType

from offhook.api.problems import too_many
from offhook.model.call_events import CallArrived, CallEnded, CallEvent, LiveSignal

WAITING = 1_000
"""Events of one reader that are not sent yet. A call has a few in a second: who is so far behind does not read."""

FOLLOWERS = 200
"""Of one account at once: each holds a connection. A console has one or two for each window."""

Told = CallEvent | LiveSignal


class Following:
    """One reader's queue, while it is open (``with``)."""

    def __init__(self, *, signals: bool, on_overflow: Callable[[], None], leave: Callable[[Following], None]) -> None:
        self._signals = signals
        self._on_overflow = on_overflow
        self._leave = leave
        self._waiting: deque[Told] = deque()
        self._told = asyncio.Event()
        self.over = False

    def __enter__(self) -> Following:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave(self)

    def put(self, told: Told) -> None:
        if self.over or (not isinstance(told, CallEvent) and not self._signals):
            return
        if len(self._waiting) < WAITING:
            self._waiting.append(told)
        elif isinstance(told, CallEvent):  # a signal may be dropped
            self.end()
            self._on_overflow()
        self._told.set()

    def end(self) -> None:
        """Nothing more will come."""
        self.over = True
        self._told.set()

    async def next(self, timeout_s: float) -> tuple[Told, ...]:
        """What came, at once or within the time; nothing where nothing did, or it is ``over``."""
        if not self._waiting and not self.over:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._told.wait()
            except TimeoutError:
                return ()
        self._told.clear()
        told = tuple(self._waiting)
        self._waiting.clear()
        return told


class LiveFeed:
    """Who follows what. On the event loop only."""

    def __init__(self) -> None:
        self._of_accounts: dict[str, set[Following]] = {}
        self._of_calls: dict[str, set[Following]] = {}
        self._accounts: dict[str, str] = {}  # of the running calls
        self._open: Counter[str] = Counter()
        self._over = False

    def know(self, call_id: str, account_id: str) -> None:
        """A call that this process did not see arrive: its further events are of that account."""
        self._accounts[call_id] = account_id

    def publish(self, events: Sequence[CallEvent]) -> None:
        """These were committed, in this order."""
        for event in events:
            if isinstance(event.fact, CallArrived):
                self._accounts[event.call_id] = event.fact.account_id
            self._tell(event.call_id, event)
            if isinstance(event.fact, CallEnded):
                self._accounts.pop(event.call_id, None)

    def signal(self, signal: LiveSignal) -> None:
        self._tell(signal.call_id, signal)

    def follow(
        self, account_id: str, *, call_id: str = "", signals: bool = False, on_overflow: Callable[[], None]
    ) -> Following:
        """Every event of an account's calls, or of one of its calls; of live signals only with ``signals``.

        ``on_overflow``: the reader is too slow, and is told no more. Raises ``ApiError``: too many readers.
        """
        place, name = (self._of_calls, call_id) if call_id else (self._of_accounts, account_id)
        if self._open[account_id] >= FOLLOWERS:
            raise too_many(f"{FOLLOWERS} streams are open already", 10, "Close some of them")
        self._open[account_id] += 1

        def leave(following: Following) -> None:
            self._open[account_id] -= 1
            place[name].discard(following)
            if not place[name]:
                del place[name]

        following = Following(signals=signals, on_overflow=on_overflow, leave=leave)
        place.setdefault(name, set()).add(following)
        if self._over:
            following.end()
        return following

    def close(self) -> None:
        """End every stream: the server stops."""
        self._over = True
        for each in self._all():
            each.end()

    @property
    def followers(self) -> int:
        """Streams that are open now."""
        return self._open.total()

    def _all(self) -> Iterable[Following]:
        for place in (self._of_calls, self._of_accounts):
            for followings in place.values():
                yield from followings

    def _tell(self, call_id: str, told: Told) -> None:
        for each in self._of_calls.get(call_id, ()):
            each.put(told)
        for each in self._of_accounts.get(self._accounts.get(call_id, ""), ()):
            each.put(told)
