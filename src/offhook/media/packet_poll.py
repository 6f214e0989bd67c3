"""The RTP sockets of one phase group, asked all at once which of them have something to read.

A reader per socket on the loop wakes it once per packet: 10,000 times a second at 200 calls, a quarter of
all the media plane cost. Here the clock asks when frames are due, and nobody needs them before. That a
packet lies in its socket for up to 20 ms bends no measure, since the kernel notes when it arrived.
"""

from __future__ import annotations

import asyncio
import select
import time
from collections.abc import Callable

Reader = Callable[[float, float], object]
"""Reads one datagram. Given monotonic seconds now, and how far the system's clock is ahead of them."""

MOST_READ = 64
"""Datagrams of one socket in one turn: more than its buffer holds after a stall, so only a flood gets there.
It costs the others 0.3 ms, then they are served."""


class PacketPoll:
    """Sockets and their readers. Holds a descriptor of its own only while it watches any.

    Where the system has no epoll (macOS), the loop calls the readers as packets come.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, report: Callable[[Exception], None]) -> None:
        self._loop = loop
        self._report = report
        self._readers: dict[int, Reader] = {}
        self._epoll: select.epoll | None = None

    def watch(self, descriptor: int, reader: Reader) -> None:
        self._readers[descriptor] = reader
        if not hasattr(select, "epoll"):
            self._loop.add_reader(descriptor, self._call, [(descriptor, 0)])
            return
        if self._epoll is None:
            self._epoll = select.epoll()
        self._epoll.register(descriptor, select.EPOLLIN)

    def unwatch(self, descriptor: int) -> None:
        """Idempotent; allowed from within a reader. To be called before the socket is closed."""
        if self._readers.pop(descriptor, None) is None:
            return
        if self._epoll is None:
            self._loop.remove_reader(descriptor)
            return
        self._epoll.unregister(descriptor)
        if not self._readers:
            self._epoll.close()
            self._epoll = None

    def read(self) -> None:
        """One datagram of each socket that has any, and again until none has or ``MOST_READ`` were read of one.

        What a reader raises is reported, and the others are read.
        """
        for _ in range(MOST_READ):
            if self._epoll is None:
                return
            ready = self._epoll.poll(0, len(self._readers))
            if not ready:
                return
            self._call(ready)

    def _call(self, ready: list[tuple[int, int]]) -> None:
        now = time.monotonic()
        ahead_s = time.time() - now
        for descriptor, _ in ready:
            reader = self._readers.get(descriptor)
            if reader is None:
                continue  # let go of by what one before it read
            try:
                reader(now, ahead_s)
            except Exception as error:
                self._report(error)
