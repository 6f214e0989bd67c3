"""The sockets of an endpoint, and which of them a message takes."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import secrets
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, assert_never

from offhook.model.errors import ListenError, LocalProtocolError, UnreachableError
from offhook.signaling.advertised import AdvertisedAddresses
from offhook.signaling.budget import WorkBudget
from offhook.signaling.datagrams import RECEIVE_BUFFER_BYTES, UdpSocket, local_host_towards
from offhook.signaling.resolver import Resolver
from offhook.signaling.streams import StreamCounts, StreamPool
from offhook.signaling.stun import SCHEDULE_S, TRANSACTION_ID_BYTES, binding_request, is_stun, mapped_address
from offhook.signaling.tls import TlsContexts
from offhook.signaling.trace import Trace, TraceRecord
from offhook.sip.events import Address, Flow, Hop, Outbound, Transport
from offhook.sip.parser import StreamItem, is_keep_alive

WAITING_SENDS = 256
"""Messages whose next hop is a name being looked up; more at once is a flood of such names."""

SAME_PORT_ATTEMPTS = 16
"""Tries to find one free port on IPv4 and IPv6 alike when any port will do."""

LISTEN_BACKLOG = 32
"""Handshakes done but not yet accepted. The loop accepts all of them in one turn, at about 60 µs each."""

CLOSE_GRACE_S = 1.0
"""For what is written on TCP connections to leave when the endpoint closes."""

_WILDCARDS = {"0.0.0.0", "::"}


class TransportsOwner(Protocol):
    """Who gets what the sockets bring. Called on the event loop."""

    def datagram_received(self, data: bytes, flow: Flow) -> None: ...

    def stream_received(self, item: StreamItem, flow: Flow) -> None: ...

    def send_failed(self, token: int, problem: str) -> None: ...

    def unreachable(self, remote: Address, problem: str) -> None:
        """An ICMP error: what was sent to ``remote`` by UDP did not arrive."""
        ...

    def connection_lost(self, number: int) -> None: ...


@dataclass(slots=True)
class DatagramCounts:
    keepalives: int = 0
    """Datagrams of nothing but CRLF or zero bytes: they keep a NAT binding open and want no answer."""
    unsent: int = 0
    """The kernel's send buffer was full; SIP repeats."""


class Transports:
    """Listens, receives and sends. Used from the event loop only."""

    def __init__(
        self,
        owner: TransportsOwner,
        loop: asyncio.AbstractEventLoop,
        *,
        trace: Trace | None = None,
        tls: TlsContexts | None = None,
        nameservers: Sequence[str] = (),
        advertised: AdvertisedAddresses | None = None,
    ) -> None:
        self._owner = owner
        self._loop = loop
        self._trace = trace
        self._tls = tls
        self._udp: list[UdpSocket] = []
        self._streams: list[tuple[Transport, Address]] = []
        self._sending: set[asyncio.Task[None]] = set()
        self._stun_waiting: dict[bytes, tuple[Address, asyncio.Future[Address]]] = {}
        self.budget = WorkBudget(loop)
        self.resolver = Resolver(loop, nameservers)
        self.advertised = advertised or AdvertisedAddresses()
        self.streams = StreamPool(self, loop, self.budget, tls)
        self.datagram_counts = DatagramCounts()

    @property
    def stream_counts(self) -> StreamCounts:
        return self.streams.counts

    @property
    def listening(self) -> tuple[tuple[Transport, Address], ...]:
        return (*(("UDP", one.address) for one in self._udp), *self._streams)

    async def listen(self, transport: Transport, host: str, port: int) -> Address:
        """See ``SipEndpoint.listen``."""
        if transport == "TLS" and (self._tls is None or self._tls.server is None):
            raise ListenError(
                f"TLS {host}:{port}", "there is no certificate", "Set tls.certificate and tls.private_key"
            )
        sockets = _bind(transport, host, port)
        addresses = [Address(*one.getsockname()[:2]) for one in sockets]
        for bound in sockets:
            if transport == "UDP":
                self._udp.append(
                    UdpSocket(bound, self._datagram_received, self._loop, self.budget, self._owner.unreachable)
                )
            else:
                await self.streams.listen(bound, LISTEN_BACKLOG, transport)
        if transport != "UDP":
            self._streams.extend((transport, address) for address in addresses)
        return addresses[0]

    async def ways_to(self, hop: Hop, choices: tuple[Transport, ...] = ()) -> tuple[tuple[Flow, Hop], ...]:
        """See ``SipEndpoint.ways_to``."""
        ours = {transport for transport, _ in self.listening}
        if self._tls is not None:
            ours.add("TLS")  # who connects by TLS need not be connected to
        if not ours.intersection(choices or (hop.transport,)):
            raise LocalProtocolError(f"no {hop.transport} socket: call listen() first")
        problem = f"no {hop.transport} socket of its address family"
        ways: list[tuple[Flow, Hop]] = []
        for one in await self.resolver.resolve(hop, tuple(choice for choice in choices if choice in ours)):
            remote = Address(one.host, one.port)
            try:
                local = self._local_towards(one.transport, remote)
            except OSError as error:
                problem = error.strerror or str(error)
                continue
            if local is not None:
                ways.append((self._flow(one.transport, local, remote), one))
        if not ways:
            raise UnreachableError(f"{hop.host}: {problem}")
        return tuple(ways)

    def send(self, outbound: Outbound) -> None:
        """Send now, or once a name is known. A failure is told to ``TransportsOwner.send_failed``, now or later."""
        flow = outbound.flow
        hop = outbound.next_hop or Hop(transport=flow.transport, host=flow.remote.host, port=flow.remote.port)
        try:
            resolved = self.resolver.resolved(hop)
            if resolved is not None:
                self._send_to_first(outbound, resolved)
                return
            if len(self._sending) >= WAITING_SENDS:
                raise UnreachableError(f"{WAITING_SENDS} messages wait for names to be looked up")
        except UnreachableError as error:
            self._owner.send_failed(outbound.token, str(error))
            return
        task = self._loop.create_task(self._send_when_resolved(outbound, hop))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def discover(self, server: Hop) -> bool:
        """Ask a STUN server how it sees each UDP socket; True when an answer brought news.

        Raises ``UnreachableError``: no such name, or no answer.
        """
        found = [
            (one, hop)
            for hop in await self.resolver.resolve(server)
            for one in self._udp
            if one.family == (socket.AF_INET6 if _is_ipv6(hop.host) else socket.AF_INET)
        ]
        if not found:
            raise UnreachableError(f"{server.host}: no UDP socket of its address family")
        firsts = dict(reversed(found))  # the best hop for each socket
        answers = await asyncio.gather(*(self._ask_stun(one, hop) for one, hop in firsts.items()))
        if not any(answers):
            raise UnreachableError(f"STUN server {server.host}:{server.port} gave no answer: is UDP let through?")
        news = [
            self.advertised.set_mapped(one.address, mapped)
            for one, mapped in zip(firsts, answers, strict=True)
            if mapped is not None
        ]
        return any(news)

    async def _ask_stun(self, one: UdpSocket, hop: Hop) -> Address | None:
        transaction_id, remote = secrets.token_bytes(TRANSACTION_ID_BYTES), Address(_canonical(hop.host), hop.port)
        answer: asyncio.Future[Address] = self._loop.create_future()
        self._stun_waiting[transaction_id] = (remote, answer)
        try:
            source_host = local_host_towards(remote) if one.wildcard else one.address.host
            for pause_s in SCHEDULE_S:
                with contextlib.suppress(BlockingIOError):
                    one.send(binding_request(transaction_id), source_host, remote)
                done, _ = await asyncio.wait({answer}, timeout=pause_s)
                if done:
                    return answer.result()
        except OSError:
            pass  # no route: no answer
        finally:
            del self._stun_waiting[transaction_id]
        return None

    def _stun_answered(self, data: bytes, remote: Address) -> None:
        """From the server that was asked alone: anybody else could tell us any address."""
        waiting = self._stun_waiting.get(data[8:20])
        if waiting is None or waiting[0] != remote or waiting[1].done():
            return
        mapped = mapped_address(data, data[8:20])
        if mapped is not None and _is_ipv6(mapped.host) == _is_ipv6(remote.host):
            waiting[1].set_result(mapped)

    def keep_open(self, flow: Flow) -> None:
        """Send a double CRLF by UDP: the way back stays open. RFC 5626 §3.5.2 asks for STUN; few servers have it."""
        with contextlib.suppress(UnreachableError):
            self._send_datagram(b"\r\n\r\n", flow, flow.remote)

    async def close(self) -> None:
        """Close every socket; idempotent."""
        for task in list(self._sending):
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)
        for one in self._udp:
            one.close()
        await self.streams.close(CLOSE_GRACE_S)
        await self.resolver.close()
        self.budget.close()
        self._udp.clear()
        self._streams.clear()

    # ── for StreamPool ──

    def stream_received(self, item: StreamItem, flow: Flow) -> None:
        """With our address as it is known now: the connection may be older than what its server told of us."""
        local = Address(flow.bind_host, flow.local.port)
        now = self.stream_flow(flow.transport, local, flow.remote, flow.connection)
        self._owner.stream_received(item, now)

    def send_failed(self, token: int, problem: str) -> None:
        self._owner.send_failed(token, problem)

    def connection_lost(self, number: int) -> None:
        self._owner.connection_lost(number)

    def stream_flow(self, transport: Transport, local: Address, remote: Address, number: int) -> Flow:
        bound = [address for kind, address in self._streams if kind == transport]
        port = next((one.port for one in _serving(bound, local.host)), local.port)
        return self._flow(transport, Address(local.host, port), remote, number)

    # ── inside ──

    def _datagram_received(self, data: bytes, local: Address, remote: Address) -> None:
        if is_keep_alive(data):
            self.datagram_counts.keepalives += 1
            return
        if is_stun(data):
            self._stun_answered(data, remote)
            return
        self._owner.datagram_received(data, self._flow("UDP", local, remote))

    def _flow(self, transport: Transport, local: Address, remote: Address, number: int = 0) -> Flow:
        """With our address as this peer should see it."""
        public = self.advertised.towards(local, remote.host, transport)
        interface = "" if public.host == local.host else local.host
        return Flow(transport=transport, local=public, remote=remote, connection=number, interface=interface)

    async def _send_when_resolved(self, outbound: Outbound, hop: Hop) -> None:
        try:
            self._send_to_first(outbound, await self.resolver.resolve(hop))
        except UnreachableError as error:
            self._owner.send_failed(outbound.token, str(error))

    def _send_to_first(self, outbound: Outbound, hops: tuple[Hop, ...]) -> None:
        """Send to the first hop that a socket leads to. Raises ``UnreachableError`` with the last problem."""
        problem = UnreachableError("no address")
        for hop in hops:
            try:
                flow = self._send_to(outbound, hop)
            except UnreachableError as error:
                problem = error
                continue
            if self._trace is not None:
                self._trace(TraceRecord(at=time.time(), direction="sent", flow=flow, data=outbound.data))
            return
        raise problem

    def _send_to(self, outbound: Outbound, hop: Hop) -> Flow:
        remote = Address(hop.host, hop.port)
        match hop.transport:
            case "UDP":
                self._send_datagram(outbound.data, outbound.flow, remote)
                return replace(outbound.flow, transport="UDP", remote=remote, connection=0)
            case "TCP" | "TLS":
                if _is_ipv6(remote.host) != _is_ipv6(outbound.flow.bind_host):
                    raise UnreachableError(f"{remote.host}: our end of this flow is of the other address family")
                return self.streams.send(outbound.data, outbound.token, outbound.flow, hop)
            case _:
                assert_never(hop.transport)

    def _send_datagram(self, data: bytes, flow: Flow, remote: Address) -> None:
        one = self._udp_socket(flow, remote)
        try:
            one.send(data, flow.bind_host, remote)
        except BlockingIOError:
            self.datagram_counts.unsent += 1
        except (OSError, OverflowError) as error:  # OverflowError: a port beyond 65,535
            raise UnreachableError(f"{remote.host}:{remote.port}: {error}") from error

    def _udp_socket(self, flow: Flow, remote: Address) -> UdpSocket:
        """The socket that the flow's local end belongs to: bound to that very address, else a wildcard.

        A translator may change the port we are known by; then the address family and the interface decide.
        """
        family = socket.AF_INET6 if _is_ipv6(remote.host) else socket.AF_INET
        fitting = [
            one for one in self._udp if one.family == family and (one.address.host == flow.bind_host or one.wildcard)
        ]
        if not fitting:
            raise UnreachableError(f"{remote.host}: no UDP socket of its address family on port {flow.local.port}")
        return min(fitting, key=lambda one: (one.address.port != flow.local.port, one.wildcard))

    def _local_towards(self, transport: Transport, remote: Address) -> Address | None:
        """Our address on the way to ``remote``; None without a socket of its family. Raises ``OSError``: no route."""
        bound = [address for kind, address in self.listening if kind == transport]
        if transport == "TLS" and not bound:
            return Address(local_host_towards(remote), 0)  # we only dial: nobody can call back but on that connection
        same_family = [one for one in bound if _is_ipv6(one.host) == _is_ipv6(remote.host)]
        if not same_family:
            return None
        host = local_host_towards(remote)
        serving = next(_serving(same_family, host), None)
        return Address(host, serving.port) if serving is not None else same_family[0]


def _serving(bound: list[Address], host: str) -> Iterator[Address]:
    """Those of ``bound`` that take what comes to ``host``, exact ones first."""
    yield from (one for one in bound if one.host == host)
    yield from (one for one in bound if one.host in _WILDCARDS and _is_ipv6(one.host) == _is_ipv6(host))


def _is_ipv6(literal: str) -> bool:
    return ":" in literal


def _canonical(literal: str) -> str:
    """As a socket names it: IPv6 has many spellings."""
    return str(ipaddress.ip_address(literal))


# ── binding ──────────────────────────────────────────────────────────────────────────────────────────────


def _bind(transport: Transport, host: str, port: int) -> list[socket.socket]:
    """Bound sockets: one, or with ``host`` "" one each for IPv4 and, where the machine has it, IPv6."""
    where = f"{transport} {f'[{host}]' if ':' in host else host or '*'}:{port}"
    if not 0 <= port <= 65_535:
        raise ListenError(where, "there is no such port", "Choose one from 1 to 65535")
    try:
        if host:
            return [_bind_one(transport, host, port)]
        return _bind_both(transport, port)
    except OSError as error:
        raise _listen_error(where, port, error) from error
    except ValueError as error:
        raise ListenError(where, "it is not an IP address", "Give one of this machine's, or 0.0.0.0") from error


def _bind_both(transport: Transport, port: int) -> list[socket.socket]:
    for attempt in range(SAME_PORT_ATTEMPTS):
        ipv4 = _bind_one(transport, "0.0.0.0", port)
        try:
            return [ipv4, _bind_one(transport, "::", ipv4.getsockname()[1])]
        except OSError as error:
            if error.errno in {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}:
                return [ipv4]  # a machine without IPv6
            ipv4.close()
            if port or error.errno != errno.EADDRINUSE or attempt == SAME_PORT_ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable: the last attempt returns or raises")


def free_port(host: str, transports: Sequence[Transport]) -> int:
    """A port that is free for all of ``transports`` on ``host`` just now. Raises ``OSError`` where none is found."""
    problem = OSError(errno.EADDRINUSE, "no port is free for all transports")
    for _ in range(SAME_PORT_ATTEMPTS):
        with contextlib.ExitStack() as probes:
            port = 0
            try:
                for transport in transports:
                    probe = probes.enter_context(_bind_one(transport, host or "0.0.0.0", port))
                    port = probe.getsockname()[1]
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                problem = error
                continue
            return port
    raise problem


def _bind_one(transport: Transport, host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
    kind = socket.SOCK_DGRAM if transport == "UDP" else socket.SOCK_STREAM
    one = socket.socket(family, kind)
    try:
        one.setblocking(False)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # IPv4 has a socket of its own
        if kind == socket.SOCK_STREAM:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # past connections in TIME_WAIT
        else:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        one.bind((host, port))
        if kind == socket.SOCK_STREAM:
            one.listen(LISTEN_BACKLOG)  # here, where "in use" is told: two may bind with SO_REUSEADDR, one listens
    except OSError:
        one.close()
        raise
    return one


def _listen_error(where: str, port: int, error: OSError) -> ListenError:
    problem = error.strerror or str(error)
    match error.errno:
        case errno.EADDRINUSE:
            return ListenError(
                where,
                f"port {port} is in use by another program",
                f"Stop it (ss -anp | grep :{port} shows which) or choose another port",
            )
        case errno.EACCES:
            return ListenError(
                where,
                f"this user may not open port {port}",
                "Choose a port from 1024 up, or grant CAP_NET_BIND_SERVICE",
            )
        case errno.EADDRNOTAVAIL:
            return ListenError(
                where, "this machine has no such address", "Give one of its own (ip addr), or 0.0.0.0 for all"
            )
        case errno.EAFNOSUPPORT:
            return ListenError(where, "this machine has no IPv6", "Give an IPv4 address")
        case _:
            return ListenError(where, problem, "Choose another address or port")
