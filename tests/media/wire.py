"""A remote party on loopback: one RTP socket that sends and collects packets, for tests with real sockets."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from offhook.media.clock import MediaClock
from offhook.media.events import MediaEvent
from offhook.media.ports import PortPool
from offhook.media.session import MediaSession
from offhook.model.audio import Encoding
from offhook.rtp.packet import RtpPacket, parse_packet
from offhook.sdp.offer_answer import Agreement, Direction

HOST = "127.0.0.1"
PCMU_SILENCE = b"\xff" * 160
EVENT_TYPE = 101


class RemoteParty:
    """``packets`` holds (arrival, packet) of all RTP heard; ``control`` the RTCP datagrams."""

    def __init__(self, host: str = HOST, *, ssrc: int = 0x5EED) -> None:
        self._rtp = _socket(host)
        self._rtcp = _socket(host)
        self.address: tuple[str, int] = self._rtp.getsockname()[:2]
        self.control_address: tuple[str, int] = self._rtcp.getsockname()[:2]
        self.packets: list[tuple[float, RtpPacket]] = []
        self.control: list[bytes] = []
        self.ssrc = ssrc
        self.sequence = 1000
        self.timestamp = 160_000
        loop = asyncio.get_running_loop()
        loop.add_reader(self._rtp, self._hear)
        loop.add_reader(self._rtcp, lambda: self.control.append(self._rtcp.recv(2048)))

    def agreement(self, **changes: Any) -> Agreement:
        values: dict[str, Any] = {
            "encoding": Encoding.PCMU,
            "payload_type": 0,
            "receive_payload_type": 0,
            "ptime_ms": 20,
            "dtmf_payload_type": EVENT_TYPE,
            "dtmf_receive_payload_type": EVENT_TYPE,
            "remote": self.address,
            "remote_rtcp": self.control_address,
            "direction": "sendrecv",
        }
        return Agreement(**(values | changes))

    def send(
        self, payload: bytes, to: tuple[str, int], *, payload_type: int = 0, marker: bool = False, advance: int = 160
    ) -> None:
        """Send one packet and count on."""
        packet = RtpPacket(
            payload_type=payload_type,
            sequence=self.sequence & 0xFFFF,
            timestamp=self.timestamp & 0xFFFFFFFF,
            ssrc=self.ssrc,
            payload=payload,
            marker=marker,
        )
        self.sequence += 1
        self.timestamp += advance
        self._rtp.sendto(bytes(packet), to)

    def send_raw(self, datagram: bytes, to: tuple[str, int]) -> None:
        self._rtp.sendto(datagram, to)

    def send_control(self, datagram: bytes, to: tuple[str, int]) -> None:
        self._rtcp.sendto(datagram, to)

    @property
    def audio(self) -> bytes:
        """All audio heard, in the order of its timestamps."""
        frames = [packet for _, packet in self.packets if packet.payload_type != EVENT_TYPE]
        return b"".join(packet.payload for packet in frames)

    def close(self) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._rtp)
        loop.remove_reader(self._rtcp)
        self._rtp.close()
        self._rtcp.close()

    def _hear(self) -> None:
        packet = parse_packet(self._rtp.recv(2048))
        if packet is not None:
            self.packets.append((time.monotonic(), packet))


class Desk:
    """A clock, a pool and a session with the events it told.

    Its clock skips nothing, unless told to: a busy machine must not decide what a test sees.
    """

    def __init__(
        self, *, low: int = 10_000, high: int = 15_999, host: str = HOST, most_due: int = 10_000, **options: Any
    ) -> None:
        self.clock = MediaClock(most_due=most_due)
        self.pool = PortPool(low, high)
        self.events: list[MediaEvent] = []
        self.session = MediaSession(
            clock=self.clock, pool=self.pool, local_host=host, ssrc=0xAFFE, listener=self.events.append, **options
        )
        self.address = (host, self.session.local_port)
        self.control_address = (host, self.session.local_port + 1)

    def told(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


async def until(condition: Callable[[], object], *, within_s: float = 20.0) -> None:
    """Wait for something to become true; ``within_s`` guards against hanging only."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.005)


def free_ports(count: int) -> int:
    """The first, even, of ``count`` neighbouring UDP ports that nobody holds, outside the system's own range."""
    while True:
        first = random.randrange(16_000, 30_000, 2)
        with ExitStack() as stack:
            try:
                for port in range(first, first + count):
                    stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)).bind((HOST, port))
            except OSError:
                continue
        return first


def direction(value: Direction) -> dict[str, Direction]:
    return {"direction": value}


def _socket(host: str) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    made.setblocking(False)
    made.bind((host, 0))
    return made
