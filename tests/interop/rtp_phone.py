"""The media half of a telephone: sends 20 ms of G.711 without pause, speaks and dials, keeps what it hears."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections import deque
from collections.abc import Mapping

import numpy as np
from tests.interop.speech import RATE_HZ, Samples

from offhook.audio import g711
from offhook.model.audio import Encoding

FRAME = 160
FRAME_S = 0.02
SILENCE = {Encoding.PCMU: bytes([0xFF]) * FRAME, Encoding.PCMA: bytes([0xD5]) * FRAME}
TELEPHONE_EVENT = 101
ECHO_FRAMES = 6
"""120 ms after it came: a network and a hybrid at its end."""
DIGITS = "0123456789*#ABCD"  # RFC 4733 §3.2: event codes
EVENT_FRAMES = 8
_ENCODINGS = {0: Encoding.PCMU, 8: Encoding.PCMA}
_PAYLOAD_TYPES = {encoding: number for number, encoding in _ENCODINGS.items()}
_HEADER = struct.Struct("!BBHII")
_Place = tuple[int, int]
"""SSRC and timestamp."""


class RtpPhone:
    """One audio port. ``remote`` is where to send; None: to whoever sends to us first. ``encoding``: what it sends."""

    def __init__(self, bound: socket.socket) -> None:
        bound.setblocking(False)
        self._socket = bound
        self.port = int(bound.getsockname()[1])
        self.remote: tuple[str, int] | None = None
        self.encoding = Encoding.PCMU
        self.echo_db: float | None = None
        """What is heard goes back so much quieter, with what is said; None: not at all."""
        self._late: deque[bytes] = deque([bytes(2 * FRAME)] * ECHO_FRAMES)
        self.sources: set[tuple[str, int]] = set()
        self.arrivals: list[float] = []
        """When each packet of audio came, in monotonic seconds."""
        self.payload_types: list[int] = []
        self.payloads: list[bytes] = []
        """Of each of them."""
        self._frames: dict[_Place, bytes] = {}
        self._places: list[_Place] = []
        self._events: dict[int, int] = {}
        self._queue: list[tuple[int, bool, bytes]] = []
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        loop = asyncio.get_running_loop()
        loop.add_reader(bound.fileno(), self._readable)
        self._sender = loop.create_task(self._send())

    @classmethod
    def open(cls, host: str = "127.0.0.1") -> RtpPhone:
        bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        bound.bind((host, 0))
        return cls(bound)

    async def say(self, samples: Samples) -> None:
        """Speak; returns when the last packet has left."""
        self.begin_to_say(samples)
        await self._sent()

    def begin_to_say(self, samples: Samples) -> None:
        """Speak from the moment there is somewhere to send to."""
        encoded = g711.encode(self.encoding, samples.astype("<i2").tobytes())
        encoded += SILENCE[self.encoding][: -len(encoded) % FRAME]
        payload_type = _PAYLOAD_TYPES[self.encoding]
        self._queue += [(payload_type, False, encoded[at : at + FRAME]) for at in range(0, len(encoded), FRAME)]

    def falls_silent(self) -> None:
        """Say nothing of what is still to be said."""
        self._queue.clear()

    async def dial(self, digits: str) -> None:
        """Send telephone-events, each 160 ms and thrice ended (RFC 4733 §2.5.1.4), with 100 ms between."""
        for digit in digits:
            code = DIGITS.index(digit)
            for step in range(1, EVENT_FRAMES + 3):
                end = 0x80 if step >= EVENT_FRAMES else 0
                event = struct.pack("!BBH", code, end | 10, min(step, EVENT_FRAMES) * FRAME)
                self._queue.append((TELEPHONE_EVENT, step == 1, event))
            self._queue += [self._silence()] * 5
        await self._sent()

    def heard(self) -> Samples:
        """All audio so far, by SSRC and RTP timestamp; what is missing is silence."""
        return _joined(self._frames)

    def heard_between(self, start: float, end: float) -> Samples:
        """The same of what came in that time, in monotonic seconds."""
        came = zip(self.arrivals, self._places, strict=True)
        return _joined({place: self._frames[place] for at, place in came if start <= at < end})

    def digits(self) -> str:
        """The telephone-events that came, each once however often it was repeated (RFC 4733 §2.5.1.4)."""
        return "".join(DIGITS[code] for _, code in sorted(self._events.items()))

    async def hears_ms(self, ms: float, timeout_s: float = 10.0) -> None:
        """Wait until that much audio has come."""
        async with asyncio.timeout(timeout_s):
            while len(self.heard()) < ms * RATE_HZ / 1000:
                self._arrived.clear()
                await self._arrived.wait()

    async def close(self) -> None:
        self._sender.cancel()
        await asyncio.gather(self._sender, return_exceptions=True)
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()

    async def _sent(self) -> None:
        self._idle.clear()
        await self._idle.wait()

    async def _send(self) -> None:
        sequence, timestamp, event_start = 1000, 160_000, 0
        due = time.monotonic()
        while True:
            if self.remote is not None:
                payload_type, marker, payload = self._queue.pop(0) if self._queue else self._silence()
                payload = self._with_echo(payload_type, payload)
                event_start = timestamp if marker else event_start
                stamp = event_start if payload_type == TELEPHONE_EVENT else timestamp
                # the port for an SSRC: two phones have two
                header = _HEADER.pack(0x80, marker << 7 | payload_type, sequence & 0xFFFF, stamp, self.port)
                self._socket.sendto(header + payload, self.remote)
                sequence, timestamp = sequence + 1, timestamp + FRAME
            if not self._queue:
                self._idle.set()
            due += FRAME_S
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    def _with_echo(self, payload_type: int, payload: bytes) -> bytes:
        if self.echo_db is None or payload_type == TELEPHONE_EVENT or not self._late:
            return payload
        said, echo = (np.frombuffer(pcm, "<i2") for pcm in (g711.decode(self.encoding, payload), self._late.popleft()))
        both = np.clip(said + echo * 10 ** (self.echo_db / 20), -32768, 32767)
        return g711.encode(self.encoding, both.astype("<i2").tobytes())

    def _silence(self) -> tuple[int, bool, bytes]:
        return _PAYLOAD_TYPES[self.encoding], False, SILENCE[self.encoding]

    def _readable(self) -> None:
        while True:
            try:
                packet, source = self._socket.recvfrom(2048)
            except BlockingIOError:
                return
            except ConnectionRefusedError:  # the other side closed its port
                continue
            self._take(packet, source[:2])

    def _take(self, packet: bytes, source: tuple[str, int]) -> None:
        self.sources.add(source)
        if self.remote is None:
            self.remote = source
        _, marked_type, _, timestamp, source_id = _HEADER.unpack_from(packet)
        payload_type = marked_type & 0x7F
        if payload_type == TELEPHONE_EVENT:
            self._events[timestamp] = packet[_HEADER.size]
        encoding = _ENCODINGS.get(payload_type)
        if encoding is not None:
            self.arrivals.append(time.monotonic())
            self.payload_types.append(payload_type)
            self.payloads.append(packet[_HEADER.size :])
            self._places.append((source_id, timestamp))
            self._arrived.set()
            pcm = self._frames[source_id, timestamp] = g711.decode(encoding, packet[_HEADER.size :])
            if self.echo_db is not None:
                self._late.append(pcm)


def _joined(frames: Mapping[_Place, bytes]) -> Samples:
    """One stream after the other, each by its own timestamps."""
    streams: dict[int, dict[int, bytes]] = {}
    for (source_id, timestamp), pcm in frames.items():
        streams.setdefault(source_id, {})[timestamp] = pcm
    return np.concatenate([np.zeros(0), *(_placed(stream) for stream in streams.values())])


def _placed(frames: Mapping[int, bytes]) -> Samples:
    start, end = min(frames), max(frames) + FRAME
    samples = np.zeros(end - start)
    for at, pcm in frames.items():
        samples[at - start : at - start + len(pcm) // 2] = np.frombuffer(pcm, "<i2")
    return samples
