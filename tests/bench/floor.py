"""The machine's floor: the least that receives and sends N streams of RTP in Python. Not a phone.

``python -m tests.bench.floor uvloop|epoll N`` binds N ports, prints them as a JSON list, and echoes nothing
but its own 172 bytes every 20 ms to whoever sent last, in four phase groups, until it is killed.
"""

from __future__ import annotations

import asyncio
import json
import select
import socket
import struct
import sys
import time
from collections.abc import Callable

import uvloop
from tests.bench.rtp_line import SAMPLES, VOICE

FRAME_S = 0.020
GROUPS = 4
PHASE_S = FRAME_S / GROUPS

_NUMBERS = struct.Struct("!HI")


class FloorLine:
    def __init__(self, host: str = "127.0.0.1") -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.bind((host, 0))
        self.port: int = self.socket.getsockname()[1]
        self._source: tuple[str, int] | None = None
        self._packet = bytearray(struct.pack("!BBHII", 0x80, 0, 0, 0, self.port) + VOICE)
        self._sequence = 0
        self._buffer = bytearray(2048)

    def receive(self) -> None:
        _, self._source = self.socket.recvfrom_into(self._buffer)

    def send(self) -> None:
        number = self._sequence = self._sequence + 1
        _NUMBERS.pack_into(self._packet, 2, number & 0xFFFF, number * SAMPLES & 0xFFFFFFFF)
        if self._source is not None:
            self.socket.sendto(self._packet, self._source)


class Pace:
    """Absolute schedule of the phase groups; ``due`` is when the next one sends."""

    def __init__(self, lines: list[FloorLine]) -> None:
        self._groups = [lines[group::GROUPS] for group in range(GROUPS)]
        self._next = 0
        self.due = time.monotonic() + PHASE_S

    def send_due(self) -> None:
        while self.due <= time.monotonic():
            for line in self._groups[self._next]:
                line.send()
            self._next = (self._next + 1) % GROUPS
            self.due += PHASE_S


async def _serve_uvloop(lines: list[FloorLine]) -> None:
    loop = asyncio.get_running_loop()
    pace = Pace(lines)

    def wake() -> None:
        pace.send_due()
        loop.call_later(max(0.0, pace.due - time.monotonic()), wake)

    for line in lines:
        loop.add_reader(line.socket.fileno(), line.receive)
    wake()
    await asyncio.Event().wait()


def _serve_epoll(lines: list[FloorLine]) -> None:
    poll = select.epoll()
    receivers: dict[int, Callable[[], None]] = {}
    for line in lines:
        receivers[line.socket.fileno()] = line.receive
        poll.register(line.socket.fileno(), select.EPOLLIN)
    pace = Pace(lines)
    while True:
        for descriptor, _ in poll.poll(max(0.0, pace.due - time.monotonic())):
            receivers[descriptor]()
        pace.send_due()


def main() -> None:
    kind, calls = sys.argv[1], int(sys.argv[2])
    lines = [FloorLine() for _ in range(calls)]
    print(json.dumps([line.port for line in lines]), flush=True)
    if kind == "uvloop":
        uvloop.run(_serve_uvloop(lines))
    else:
        _serve_epoll(lines)


if __name__ == "__main__":
    main()
