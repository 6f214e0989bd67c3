"""Measures a server's playout delay from outside: beeps that left at known times, found again in its recording.

A recording has one frame a tick on both sides, so what the server says on its right channel tells when each tick was:
its first loud packet came to us one network delay after the tick that wrote it.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time

import numpy as np
from tests.interop.speech import RATE_HZ, Samples

from offhook.audio.tones import tone
from offhook.model.audio import Encoding

FRAME_S = 0.02
FRAME = 160
SILENCE = b"\xff" * FRAME  # PCMU
BEEP = tone(1000, 60, -10, Encoding.PCMU)
BETWEEN_S = 0.5
"""From one beep to the next: longer than any playout delay."""

LOUD = 500.0
_HEADER = struct.Struct("!BBHII")


class PlayoutMeter:
    """One audio port: sends 20 ms of PCMU without pause to whoever sends to it."""

    def __init__(self, bound: socket.socket) -> None:
        bound.setblocking(False)
        self._socket = bound
        self.port = int(bound.getsockname()[1])
        self._remote: tuple[str, int] | None = None
        self._frames: list[bytes] = []
        self._began: asyncio.Future[float] | None = None
        self._connected = asyncio.Event()
        self.spoken_to_at = 0.0
        """When the first packet came that was not silent; 0.0: none yet."""
        asyncio.get_running_loop().add_reader(bound.fileno(), self._readable)
        self._sender = asyncio.create_task(self._send())

    async def connected(self, timeout_s: float = 20.0) -> None:
        """Wait for the far end's first packet."""
        await asyncio.wait_for(self._connected.wait(), timeout_s)

    async def beeps(self, number: int) -> list[float]:
        """Beep so often; returns when each beep's first packet left."""
        left: list[float] = []
        for _ in range(number):
            self._began = asyncio.get_running_loop().create_future()
            self._frames = [BEEP[at : at + FRAME] for at in range(0, len(BEEP), FRAME)]
            left.append(await self._began)
            await asyncio.sleep(BETWEEN_S)
        return left

    async def close(self) -> None:
        self._sender.cancel()
        await asyncio.gather(self._sender, return_exceptions=True)
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()

    async def _send(self) -> None:
        sequence, due = 0, time.monotonic()
        while True:
            if self._remote is not None:
                payload = self._next_frame()
                self._socket.sendto(_HEADER.pack(0x80, 0, sequence, sequence * FRAME, 0xECC0) + payload, self._remote)
                sequence += 1
            due += FRAME_S
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    def _next_frame(self) -> bytes:
        if not self._frames:
            return SILENCE
        if self._began is not None and not self._began.done():
            self._began.set_result(time.monotonic())
        return self._frames.pop(0)

    def _readable(self) -> None:
        try:
            packet, self._remote = self._socket.recvfrom(2048)
        except OSError:
            return
        self._connected.set()
        payload = packet[_HEADER.size :]
        if not self.spoken_to_at and payload.count(0xFF) + payload.count(0x7F) < len(payload) // 2:
            self.spoken_to_at = time.monotonic()


def onsets_s(heard: Samples) -> list[float]:
    """When each beep begins, in seconds of the recording."""
    loud = np.flatnonzero(np.abs(heard) > LOUD)
    first = np.concatenate(([True], np.diff(loud) > RATE_HZ * BETWEEN_S / 2))
    return [float(at) / RATE_HZ for at in loud[first]]
