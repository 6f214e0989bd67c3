"""Messages that were refused or discarded before any call was made of them: counted, and logged without a flood."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable

from offhook.sip.events import MessageRejected

LOG_AGAIN_S = 60.0
"""A rule and a source are logged once, and then once a minute with how often it was."""

SOURCES = 1000
"""(rule, source) pairs told apart; a scanner with more addresses is summed up."""

LATEST = 200
"""Kept to be read, the latest last."""

_log = logging.getLogger("offhook.rejected")


class Rejections:
    """``clock`` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._logged: dict[tuple[str, str], float] = {}
        self._since: Counter[tuple[str, str]] = Counter()
        self.counts: Counter[str] = Counter()
        """By rule."""
        self.latest: deque[MessageRejected] = deque(maxlen=LATEST)
        self.watcher: Callable[[MessageRejected], None] = lambda rejected: None
        """Is told each one."""

    def note(self, rejected: MessageRejected) -> None:
        self.counts[rejected.rule] += 1
        self.latest.append(rejected)
        self.watcher(rejected)
        now = self._clock()
        key = self._key(rejected, now)
        self._since[key] += 1
        if now - self._logged.get(key, -LOG_AGAIN_S) < LOG_AGAIN_S:
            return
        self._logged[key] = now
        times = self._since.pop(key)
        _log.warning("%s", describe(rejected, times))

    def _key(self, rejected: MessageRejected, now: float) -> tuple[str, str]:
        key = (rejected.rule, rejected.source.host)
        if key in self._logged or len(self._logged) < SOURCES:
            return key
        for old in [one for one, at in self._logged.items() if now - at >= LOG_AGAIN_S]:
            del self._logged[old]
            self._since.pop(old, None)
        return key if len(self._logged) < SOURCES else (rejected.rule, "many")


def describe(rejected: MessageRejected, times: int = 1) -> str:
    """One line: who, what was done, by which rule, what shows it, what to change."""
    done = "ignored" if rejected.status is None else f"refused with {rejected.status}"
    often = f" ({times} times)" if times > 1 else ""
    host = rejected.source.host
    return f"{host}: {done}{often}: {rejected.rule} [{rejected.evidence}] → {rejected.fix}"
