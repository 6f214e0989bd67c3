"""The sockets of one leg: plain UDP, RTP and RTCP; and SRTP over them, with the same shape.

The sockets stay unconnected: strangers must be seen to be counted and a source that moved must be heard
(latching rules 4 and 5). ``connect`` would save 1 µs of some 15 per packet pair.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any

from offhook.media.ports import PortPair
from offhook.model.srtp import Crypto
from offhook.rtp.packet import MAX_PACKET_BYTES
from offhook.rtp.srtp import SrtpReceiver, SrtpSender

Address = tuple[str, int]

_MOST_QUEUED = 64
"""Datagrams a socket's buffer can hold, and some more."""

_SO_TIMESTAMPNS = 35
"""socket(7), <asm-generic/socket.h>: each datagram comes with the time the kernel received it; 0.6 µs."""

_STAMP = struct.Struct("@ll")
"""struct timespec, CLOCK_REALTIME."""

_STAMP_SPACE = socket.CMSG_SPACE(_STAMP.size)

_OLDEST_S = 2.0
"""Older than what a buffer can have kept: the system's clock was set meanwhile, the stamp means nothing."""


class UdpTransport:
    """Hands out datagrams; never raises for what the network does.

    RTP is read by whoever calls ``read`` and goes to ``on_rtp(datagram, source, arrival_s)``; RTCP is read by the
    loop and goes to ``on_rtcp(datagram, source)``. ``source`` is (host, port), of IPv6 too. Until they are set,
    what comes is dropped.
    """

    packets_unauthentic = 0
    packets_replayed = 0
    """As ``SrtpTransport`` counts them: in clear nobody can tell."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pair: PortPair) -> None:
        self._loop = loop
        self.on_rtp: Callable[[bytes, Address, float], None] = _drop
        self.on_rtcp: Callable[[bytes, Address], None] = _drop
        self._rtp = pair.rtp
        self._rtcp = pair.rtcp
        self._send = pair.rtp.sendto
        self._receive = pair.rtp.recvmsg
        self.send_failures = 0
        self.receive_failures = 0
        _ask_for_stamps(self._rtp)
        loop.add_reader(self._rtcp.fileno(), self._rtcp_readable)

    def fileno(self) -> int:
        """The RTP socket's descriptor."""
        return self._rtp.fileno()

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

    def read(self, now: float, ahead_s: float) -> bool:
        """Read one RTP datagram; False when there is none. The system's clock is ``ahead_s`` ahead of ``now``."""
        try:
            datagram, stamps, _, source = self._receive(MAX_PACKET_BYTES, _STAMP_SPACE)
        except BlockingIOError:
            return False
        except OSError:
            self.receive_failures += 1
            return False
        arrival_s = now
        if stamps:
            seconds, nanoseconds = _STAMP.unpack(stamps[0][2])
            stamped_s = seconds + nanoseconds * 1e-9 - ahead_s
            if now - _OLDEST_S < stamped_s < now:
                arrival_s = stamped_s
        self.on_rtp(datagram, source if len(source) == 2 else source[:2], arrival_s)
        return True

    def discard(self) -> None:
        """Throw away what RTP came so far: it was sent to a party that was not there yet."""
        for _ in range(_MOST_QUEUED):
            try:
                self._rtp.recv(1)
            except OSError:
                return

    def close(self) -> None:
        """Stop reading; the sockets belong to the port pool."""
        self._loop.remove_reader(self._rtcp.fileno())

    def _rtcp_readable(self) -> None:
        try:
            datagram, source = self._rtcp.recvfrom(MAX_PACKET_BYTES)
        except OSError:
            self.receive_failures += 1
            return
        self.on_rtcp(datagram, _host_and_port(source))


class SrtpTransport:
    """The same over SRTP and SRTCP, in the sockets of ``clear``: what leaves is encrypted, or does not leave.

    What comes is handed on once its tag was verified: so nothing is learned from anything else (latching rule 6).
    """

    def __init__(self, clear: UdpTransport, crypto: Crypto) -> None:
        self.on_rtp: Callable[[bytes, Address, float], None] = _drop
        self.on_rtcp: Callable[[bytes, Address], None] = _drop
        self.clear = clear
        self._crypto = crypto
        self._sender = SrtpSender(crypto)
        self._receiver = SrtpReceiver(crypto)
        self._send = clear.send
        self.fileno = clear.fileno
        self.read = clear.read
        self.discard = clear.discard
        self.close = clear.close
        clear.on_rtp = self._take_rtp
        clear.on_rtcp = self._take_rtcp

    def rekey(self, crypto: Crypto, now: float) -> None:
        """Other keys were agreed on. A direction whose key stayed goes on as it was, with its numbering."""
        before, self._crypto = self._crypto, crypto
        if (crypto.suite, crypto.send) != (before.suite, before.send):
            self._sender = SrtpSender(crypto)
        if (crypto.suite, crypto.receive) != (before.suite, before.receive):
            self._receiver.rekey(crypto, now)

    def send(self, packet: bytes | bytearray, destination: Address) -> bool:
        """As ``UdpTransport.send``; False as well for what cannot be encrypted."""
        protected = self._sender.protect(bytes(packet))
        if protected is None:
            self.clear.send_failures += 1
            return False
        return self._send(protected, destination)

    def send_control(self, packet: bytes, destination: Address) -> None:
        protected = self._sender.protect_control(packet)
        if protected is None:
            self.clear.send_failures += 1
        else:
            self.clear.send_control(protected, destination)

    @property
    def send_failures(self) -> int:
        return self.clear.send_failures

    @property
    def receive_failures(self) -> int:
        return self.clear.receive_failures

    @property
    def packets_unauthentic(self) -> int:
        """RTP and RTCP whose tag was wrong, that came in clear, or were no packets at all."""
        return self._receiver.unauthentic

    @property
    def packets_replayed(self) -> int:
        return self._receiver.replayed

    def _take_rtp(self, datagram: bytes, source: Address, arrival_s: float) -> None:
        packet = self._receiver.unprotect(datagram, arrival_s)
        if packet is not None:
            self.on_rtp(packet, source, arrival_s)

    def _take_rtcp(self, datagram: bytes, source: Address) -> None:
        packet = self._receiver.unprotect_control(datagram)
        if packet is not None:
            self.on_rtcp(packet, source)


Transport = UdpTransport | SrtpTransport


def transport_for(crypto: Crypto | None, current: Transport, now: float) -> Transport:
    """The transport for what was agreed: ``current``, with its keys changed where they changed, or its successor.

    A successor takes the sockets over; its ``on_rtp`` and ``on_rtcp`` are to be set, and ``current`` is not used again.
    """
    if isinstance(current, UdpTransport):
        return current if crypto is None else SrtpTransport(current, crypto)
    if crypto is None:
        return current.clear
    current.rekey(crypto, now)
    return current


def _ask_for_stamps(rtp: socket.socket) -> None:
    """Where the system gives none, a packet has arrived when it is read."""
    if sys.platform == "linux":
        try:
            rtp.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        except OSError:
            return


def _drop(*_: object) -> None:
    """Nobody listens yet."""


def _host_and_port(source: Any) -> Address:
    return source[0], source[1]
