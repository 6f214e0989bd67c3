"""The generator's one loop: sends each line's packet when it is due, reads whatever has come, naps.

The lines' phases are spread evenly over 20 ms, as those of unrelated callers are. Reading may wait: the
kernel has noted when each datagram came.
"""

from __future__ import annotations

import select
import time
from array import array
from collections.abc import Callable

from tests.bench.rtp_line import RtpLine
from tests.bench.sip_caller import SipCaller

FRAME_S = 0.020
LONGEST_NAP_S = 0.001
"""An answer waits no longer than this for its ACK."""

CHORES_S = 0.1


class Pacer:
    """``late_ms`` holds how late each packet since the last ``forget`` left."""

    def __init__(self, lines: list[RtpLine], caller: SipCaller | None = None) -> None:
        self._lines = lines
        self._caller = caller
        self._poll = select.epoll()
        self._receivers: dict[int, Callable[[], None]] = {}
        self._slot_s = FRAME_S / max(1, len(lines))
        self._next = 0
        self._due = time.monotonic()
        self._chores_at = self._due
        self.late_ms: array[float] = array("d")
        for line in lines:
            self._watch(line.socket.fileno(), line.receive)
        if caller is not None:
            self._watch(caller.socket.fileno(), caller.receive)

    def forget(self) -> None:
        self.late_ms = array("d")
        for line in self._lines:
            line.forget()

    def run_until(self, until: float, work: Callable[[float], None] | None = None) -> None:
        """Until monotonic ``until``; ``work(now)`` is called about every millisecond."""
        self.run_while(lambda: True, until, work)

    def run_while(self, wanted: Callable[[], bool], until: float, work: Callable[[float], None] | None = None) -> None:
        """The same, but stop as soon as ``wanted`` says no."""
        while (now := time.monotonic()) < until and wanted():
            self._send_due(now)
            for descriptor, _ in self._poll.poll(0):
                self._receivers[descriptor]()
            if work is not None:
                work(now)
            self._do_chores(now)
            nap_s = min(LONGEST_NAP_S, self._due - time.monotonic()) if self._lines else LONGEST_NAP_S
            if nap_s > 0:
                time.sleep(nap_s)

    def _watch(self, descriptor: int, receive: Callable[[], None]) -> None:
        self._receivers[descriptor] = receive
        self._poll.register(descriptor, select.EPOLLIN)

    def _send_due(self, now: float) -> None:
        lines, due, slot_s, late_ms = self._lines, self._due, self._slot_s, self.late_ms
        if not lines:
            return
        while due <= now:
            line = lines[self._next]
            if line.sending:
                line.send()
                late_ms.append((time.monotonic() - due) * 1000)
            self._next = (self._next + 1) % len(lines)
            due += slot_s
        self._due = due

    def _do_chores(self, now: float) -> None:
        if self._caller is not None and now >= self._chores_at:
            self._chores_at = now + CHORES_S
            self._caller.resend_due(now)
