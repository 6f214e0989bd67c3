"""RTP ports: a random even port for each leg, RTCP on the odd one above, rested for 30 s after use."""

from __future__ import annotations

import random
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from offhook.model.errors import ResourceExhaustedError

QUARANTINE_S = 30.0
"""Latching rule 8: late packets of one call must never be heard in the next."""

ONLY_PORT_RESTS_S = 1.0
"""Who forces one port looks into a single call, hangs up and calls again."""

RECEIVE_BUFFER_BYTES = 32_768
"""Some 40 small packets as the kernel counts them: what a stall leaves; older audio is of no use."""

EXPEDITED_FORWARDING = 46 << 2
"""DSCP EF in the TOS byte (RFC 4594 §4.1: telephony bearer)."""

_BIND_TRIES = 32
"""Ports of the range that other programs hold are passed over this often."""


class PortPair(NamedTuple):
    """Two bound, non-blocking UDP sockets; ``port`` is the RTP one, RTCP is one above (RFC 3550 §11)."""

    port: int
    rtp: socket.socket
    rtcp: socket.socket

    def close(self) -> None:
        self.rtp.close()
        self.rtcp.close()


class PortPool:
    """The RTP range ``low`` to ``high`` inclusive of this node."""

    def __init__(
        self,
        low: int = 16_384,
        high: int = 32_767,
        *,
        rng: random.Random | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._low, self._high = low, high
        self._free = list(range(low + low % 2, high, 2))
        self._rest_s = QUARANTINE_S if len(self._free) > 1 else ONLY_PORT_RESTS_S
        self._resting: deque[tuple[float, int]] = deque()
        self._rng = rng or random.SystemRandom()  # a port that can be guessed can be injected into
        self._monotonic = monotonic
        self.in_use = 0

    @property
    def capacity(self) -> int:
        """Legs the range can carry at once."""
        return len(self._free) + len(self._resting) + self.in_use

    def open(self, host: str) -> PortPair:
        """Bind a random pair on ``host``. Raises ``ResourceExhaustedError`` when there is none."""
        self._release_rested()
        held_by_others: list[int] = []
        try:
            while self._free and len(held_by_others) < _BIND_TRIES:
                port = self._draw()
                try:
                    pair = _bind_pair(host, port)
                except OSError as error:
                    held_by_others.append(port)
                    problem = error.strerror or str(error)
                else:
                    self.in_use += 1
                    return pair
        finally:
            self._free += held_by_others
        why = f"the last bind failed: {problem}" if held_by_others else "all are in use or resting"
        raise ResourceExhaustedError(f"no RTP port free from {self._low} to {self._high} on {host}: {why}")

    def release(self, pair: PortPair) -> None:
        """Close the pair; its port rests before it is drawn again."""
        pair.close()
        self.in_use -= 1
        self._resting.append((self._monotonic() + self._rest_s, pair.port))

    def _release_rested(self) -> None:
        now = self._monotonic()
        while self._resting and self._resting[0][0] <= now:
            self._free.append(self._resting.popleft()[1])

    def _draw(self) -> int:
        index = self._rng.randrange(len(self._free))
        self._free[index], self._free[-1] = self._free[-1], self._free[index]
        return self._free.pop()


def _bind_pair(host: str, port: int) -> PortPair:
    rtp = _bind(host, port)
    try:
        return PortPair(port=port, rtp=rtp, rtcp=_bind(host, port + 1))
    except OSError:
        rtp.close()
        raise


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_DGRAM)
    try:
        bound.setblocking(False)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        _mark_expedited(bound, family)
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    return bound


def _mark_expedited(bound: socket.socket, family: int) -> None:
    """Ask for telephone priority; containers may forbid it, and calls work without."""
    try:
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, EXPEDITED_FORWARDING)
        else:
            bound.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, EXPEDITED_FORWARDING)
    except OSError:
        pass
