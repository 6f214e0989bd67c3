"""The sockets of one leg: plain UDP, RTP and RTCP. SRTP takes this one's place later, with the same shape.

The sockets stay unconnected: strangers must be seen to be counted and a source that moved must be heard
(latching rules 4 and 5). ``connect`` would save 1 µs of some 15 per packet pair.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from offhook.media.ports import PortPair
from offhook.rtp.packet import MAX_PACKET_BYTES

Address = tuple[str, int]

_DRAIN_LIMIT = 64
"""Datagrams read at once when a late tick asks for what has queued up; the socket buffer holds fewer."""


class UdpTransport:
    """Reads into one buffer and hands out its length and source; never raises for what the network does.

    ``on_rtp(length, source)`` finds the datagram in ``buffer``; ``on_rtcp(datagram, source)`` is given a copy.
    ``source`` is (host, port), of IPv6 too. Until they are set, what comes is dropped.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, pair: PortPair) -> None:
        self._loop = loop
        self.on_rtp: Callable[[int, Address], None] = _drop
        self.on_rtcp: Callable[[bytes, Address], None] = _drop
        self._rtp = pair.rtp
        self._rtcp = pair.rtcp
        self._receive = pair.rtp.recvfrom_into
        self._send = pair.rtp.sendto
        self.buffer = bytearray(MAX_PACKET_BYTES)
        self.send_failures = 0
        self.receive_failures = 0
        loop.add_reader(self._rtp.fileno(), self._rtp_readable)
        loop.add_reader(self._rtcp.fileno(), self._rtcp_readable)

    def send(self, packet: bytes | bytearray, destination: Address) -> bool:
        """Send one RTP packet; False when the network refused it (counted, never raised)."""
        try:
            self._send(packet, destination)
        except OSError:
            # ECONNREFUSED of an earlier packet, no route, a full queue: RTP goes on, the next may arrive.
            self.send_failures += 1
            return False
        return True

    def send_control(self, packet: bytes, destination: Address) -> None:
        try:
            self._rtcp.sendto(packet, destination)
        except OSError:
            self.send_failures += 1

    def drain(self) -> None:
        """Read what has queued up while the loop stalled: a late tick comes before the loop would."""
        for _ in range(_DRAIN_LIMIT):
            if not self._rtp_readable():
                return

    def close(self) -> None:
        """Stop reading; the sockets belong to the port pool."""
        self._loop.remove_reader(self._rtp.fileno())
        self._loop.remove_reader(self._rtcp.fileno())

    def _rtp_readable(self) -> bool:
        try:
            length, source = self._receive(self.buffer)
        except BlockingIOError:
            return False
        except OSError:
            self.receive_failures += 1
            return False
        self.on_rtp(length, source if len(source) == 2 else source[:2])
        return True

    def _rtcp_readable(self) -> None:
        try:
            datagram, source = self._rtcp.recvfrom(MAX_PACKET_BYTES)
        except OSError:
            self.receive_failures += 1
            return
        self.on_rtcp(datagram, _host_and_port(source))


def _drop(datagram: object, source: Address) -> None:
    """Nobody listens yet."""


def _host_and_port(source: Any) -> Address:
    return source[0], source[1]
