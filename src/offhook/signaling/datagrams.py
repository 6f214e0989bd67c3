"""UDP for SIP: raw non-blocking sockets that know which of our addresses a datagram came to.

asyncio's datagram transport hides the destination address; on a wildcard bind the kernel would then choose
the source of a reply, and a peer that called 127.0.0.2 would be answered from 127.0.0.1 (RFC 3581 §4: the
response is sent from the address the request was received on).
"""

from __future__ import annotations

import asyncio
import errno
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Callable

from offhook.signaling.budget import WorkBudget
from offhook.sip.events import Address

DATAGRAMS_PER_WAKE_UP = 32
"""Bound of one wake-up even when each datagram costs nothing; the time bound is ``WorkBudget``."""

LARGEST_DATAGRAM_BYTES = 65_535
"""The most UDP can carry (RFC 768: a 16-bit length); RFC 3261 §18.1.1 asks to take all of it."""

RECEIVE_BUFFER_BYTES = 4 << 20
"""Asked for; the kernel grants what net.core.rmem_max allows. A burst waits here while media is served."""

_ANCILLARY_BYTES = 256
_IN_PKTINFO = struct.Struct("=i4s4s")  # ip(7): interface, local (source to use) address, header destination
_IN6_PKTINFO = struct.Struct("=16si")  # RFC 3542 §6: address, interface
_UNSPECIFIED = bytes(4)
_EXTENDED_ERROR = struct.Struct("=IBBBBII")  # ip(7), sock_extended_err: errno, origin, type, code, pad, info, data
_ORIGINS_ICMP = {2, 3}
_ERRORS_PER_WAKE_UP = 32
_IP_PKTINFO: int | None = {"linux": 8, "darwin": 26}.get(sys.platform)
"""Python 3.11 does not name it. Elsewhere ``UdpSocket`` falls back to asking the kernel for its route."""

_IP_RECVERR, _IPV6_RECVERR = 11, 25
"""Linux, ip(7) and ipv6(7); Python does not name them."""

DatagramReceiver = Callable[[bytes, Address, Address], None]
"""(datagram, our concrete address it came to, the address it came from)"""

UnreachableReceiver = Callable[[Address, str], None]
"""(where a datagram of ours did not arrive, the ICMP error in words)"""


class UdpSocket:
    """One bound UDP socket, IPv4 or IPv6, concrete or wildcard."""

    def __init__(
        self,
        bound: socket.socket,
        receiver: DatagramReceiver,
        loop: asyncio.AbstractEventLoop,
        budget: WorkBudget,
        on_unreachable: UnreachableReceiver | None = None,
    ) -> None:
        self._on_unreachable = on_unreachable if on_unreachable is not None and _ask_for_errors(bound) else None
        self._socket = bound
        self._receiver = receiver
        self._loop = loop
        self._budget = budget
        self._buffer = bytearray(LARGEST_DATAGRAM_BYTES)
        self._reading = False
        self._errors = _poll_of(bound) if self._on_unreachable is not None else None
        self._watched = bound.fileno() if self._errors is None else self._errors.fileno()
        self.family = bound.family
        self.address = Address(*bound.getsockname()[:2])
        self.wildcard = self.address.host in {"0.0.0.0", "::"}
        self._told_destination = self.wildcard and _ask_for_destination(bound)
        self.receive_errors = 0
        self._start_reading()

    def send(self, data: bytes, source_host: str, remote: Address) -> None:
        """Send from ``source_host``. ``remote.host`` is an IP literal. Raises ``OSError``."""
        try:
            self._send(data, source_host, remote)
        except OSError as error:
            if self._on_unreachable is None or error.errno not in _ICMP_ERRNOS:
                raise
            # The error of an earlier datagram, to whomever: it is told, and this one goes out now.
            self._send(data, source_host, remote)

    def _send(self, data: bytes, source_host: str, remote: Address) -> None:
        if self._told_destination:
            self._socket.sendmsg([data], [_source_option(self.family, source_host)], 0, remote)
        else:
            self._socket.sendto(data, remote)

    def close(self) -> None:
        if self._socket.fileno() != -1:
            self._stop_reading()
            if self._errors is not None:
                self._errors.close()
            self._socket.close()

    def _start_reading(self) -> None:
        if self._socket.fileno() != -1 and not self._reading:
            self._reading = True
            self._loop.add_reader(self._watched, self._readable)

    def _stop_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._watched)

    def _readable(self) -> None:
        for count in range(DATAGRAMS_PER_WAKE_UP):
            if self._budget.exhausted:
                self._stop_reading()
                self._budget.when_refilled(self._start_reading)
                return
            started = time.monotonic()
            if not self._read_one():
                if count == 0:  # what woke us was no datagram
                    self._read_errors()
                return
            self._budget.charge(started)

    def _read_one(self) -> bool:
        """Read and hand on one datagram; False when there was none."""
        try:
            size, ancillary, _, source = self._socket.recvmsg_into([self._buffer], _ANCILLARY_BYTES)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:  # an ICMP error of an earlier send, or the interface went down: the socket lives on
            self.receive_errors += 1
            return self._read_errors()
        remote = _address(source)
        local_host = self._destination(ancillary, remote) if self.wildcard else self.address.host
        self._receiver(bytes(self._buffer[:size]), Address(local_host, self.address.port), remote)
        return self._reading  # the receiver may have closed us

    def _read_errors(self) -> bool:
        """Report the ICMP errors that came; True when there were any."""
        if self._on_unreachable is None:
            return False
        for count in range(_ERRORS_PER_WAKE_UP):
            try:
                _, ancillary, _, sent_to = self._socket.recvmsg(0, _ANCILLARY_BYTES, socket.MSG_ERRQUEUE)
            except OSError:
                return count > 0
            for level, kind, data in ancillary:
                if (level, kind) in _RECVERR and len(data) >= _EXTENDED_ERROR.size:
                    number, origin, *_ = _EXTENDED_ERROR.unpack_from(data)
                    if origin in _ORIGINS_ICMP and number in _ICMP_ERRNOS:
                        self._on_unreachable(_address(sent_to), os.strerror(number))
        return True

    def _destination(self, ancillary: list[tuple[int, int, bytes]], remote: Address) -> str:
        for level, kind, data in ancillary:
            if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
                _, local, destination = _IN_PKTINFO.unpack_from(data)
                # Linux gives the address to answer from; Darwin leaves it empty and gives the header's.
                return socket.inet_ntoa(destination if local == _UNSPECIFIED else local)
            if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
                return socket.inet_ntop(socket.AF_INET6, data[:16])
        return local_host_towards(remote)


def local_host_towards(remote: Address) -> str:
    """The address the kernel would send from. ``remote.host`` is an IP literal. Raises ``OSError``: no route.

    A connected UDP socket asks for the route without a packet (about 15 µs).
    """
    family = socket.AF_INET6 if ":" in remote.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.setblocking(False)
        probe.connect((remote.host, remote.port or 5060))
        return str(probe.getsockname()[0])


def _ask_for_destination(bound: socket.socket) -> bool:
    """Ask the kernel to say which of our addresses each datagram came to. False: this platform does not."""
    try:
        if bound.family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        elif _IP_PKTINFO is None:
            return False
        else:
            bound.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    except OSError:
        return False
    return True


_RECVERR = {(socket.IPPROTO_IP, _IP_RECVERR), (socket.IPPROTO_IPV6, _IPV6_RECVERR)}
_ICMP_ERRNOS = frozenset({errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH})
"""Port, host and network unreachable: the three RFC 3261 §18.4 speaks of."""


def _poll_of(bound: socket.socket) -> select.epoll:
    """What the loop watches instead of the socket: libuv stops watching one that has an error to tell."""
    poll = select.epoll()
    poll.register(bound.fileno(), select.EPOLLIN)
    return poll


def _ask_for_errors(bound: socket.socket) -> bool:
    """Ask the kernel to report ICMP errors of what we send; False: this platform does not tell to whom."""
    if sys.platform != "linux":
        return False
    try:
        if bound.family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
        else:
            bound.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
    except OSError:
        return False
    return True


def _source_option(family: int, host: str) -> tuple[int, int, bytes]:
    """The ancillary datum that makes the kernel send from ``host``. Raises ``OSError`` for no address."""
    if family == socket.AF_INET6:
        packed = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
        return socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, _IN6_PKTINFO.pack(packed, 0)
    assert _IP_PKTINFO is not None
    packed = socket.inet_pton(socket.AF_INET, host)
    return socket.IPPROTO_IP, _IP_PKTINFO, _IN_PKTINFO.pack(0, packed, _UNSPECIFIED)


def _address(source: tuple[str, int] | tuple[str, int, int, int]) -> Address:
    """A peer's address; a link-local one keeps its zone (RFC 4007 §11), or it could not be answered."""
    host, port, *ipv6 = source
    return Address(f"{host}%{ipv6[1]}" if ipv6 and ipv6[1] else host, port)
