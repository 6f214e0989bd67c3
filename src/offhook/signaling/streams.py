"""TCP and TLS for SIP: connections accepted and dialled, framed, reused both ways, and bounded (RFC 3261 §18).

A response goes back on the connection of its request (§18.2.2); a request reuses an open connection to its
destination, otherwise one is dialled (§18.1.1). With TLS a connection is admitted and counted before the handshake, so
that the limits hold for those who never end it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import ssl
import time
from collections import Counter, deque
from dataclasses import dataclass, field, replace
from typing import Protocol, cast

from offhook.model.errors import UnreachableError
from offhook.signaling.budget import WorkBudget
from offhook.signaling.handshakes import Handshakes
from offhook.signaling.tls import HANDSHAKE_S, TLS_LOST_UNHEARD, TlsContexts, explain_handshake
from offhook.sip.events import Address, Flow, Hop, Transport
from offhook.sip.parser import Broken, KeepAlive, StreamItem, StreamParser

CONNECTIONS = 2000
"""All connections together; beyond, a new one is closed at once. Bounds descriptors and parser buffers."""

CONNECTIONS_PER_PEER = 32
"""Accepted from one IPv4 address or IPv6 /64: a carrier uses a handful, and one peer must not take all there are."""

FIRST_MESSAGE_S = 10.0
"""From accept to the first whole message, and from the first byte of any message to its last: slow loris."""

IDLE_S = 120.0
"""Without a message, on a connection that never carried a call or a registration."""

IDLE_KEPT_S = 7200.0
"""On one that did: longer than any call (3600 s), since a caller behind NAT gets our BYE on it alone.
Peers that vanished are found by the kernel's keepalive long before."""

DIAL_S = 5.0
"""For the TCP handshake; RFC 3261 leaves it to us, and timer B leaves room for a second address."""

DIAL_WAITING_MESSAGES = 64
"""Messages kept while the handshake runs, for one peer."""

WRITE_BUFFER_BYTES = 256 * 1024
"""Not yet taken by the peer's TCP: two of the largest messages. A peer that reads nothing is cut off."""

READ_BYTES = 2048
"""One read, that is, at most about eight messages between two looks at the ``WorkBudget``."""

SWEEP_S = 1.0
"""How often deadlines are looked at; there are at most ``CONNECTIONS`` of them, a fraction of a millisecond."""

KEEPALIVE_IDLE_S = 60
"""TCP keepalive: probes begin after a minute of silence; the system's default of two hours is no use."""

UNANSWERED_REQUESTS = 64
"""Of one connection, who are told when it is lost before anything came back; more than wait for it to be dialled."""

_CLOSED = "the endpoint was closed"
_RESPONSE = b"SIP/2.0 "

PING_S = 20.0
"""Translators forget a silent connection after 25 s at the worst we have seen; RFC 5382 asks for two hours."""

_PING = b"\r\n\r\n"
_PONG = b"\r\n"  # RFC 5626 §4.4.1: the answer to a double CRLF


class StreamOwner(Protocol):
    """Who gets what the streams bring. Called on the event loop."""

    def stream_received(self, item: StreamItem, flow: Flow) -> None: ...

    def send_failed(self, token: int, problem: str) -> None: ...

    def connection_lost(self, number: int) -> None: ...

    def stream_flow(self, transport: Transport, local: Address, remote: Address, number: int) -> Flow:
        """The flow of a connection: with the port that a peer can call back, unlike a dialled one's."""
        ...


@dataclass(slots=True)
class StreamCounts:
    accepted: int = 0
    dialled: int = 0
    refused: int = 0
    """Closed at once: too many connections."""
    expired: int = 0
    """Closed by a deadline: no first message, a message never finished, idle."""
    broken: int = 0
    """Closed because what came cannot be framed."""
    choked: int = 0
    """Closed because the peer does not read."""
    handshakes_failed: int = 0
    """TLS connections to us that came to nothing."""


Destination = tuple[Transport, Address, str]
"""Where a connection leads: transport, address, and whose certificate was verified ("": nobody's, it was accepted)."""


@dataclass(slots=True)
class _Dialling:
    task: asyncio.Task[None]
    waiting: list[tuple[bytes, int]] = field(default_factory=list)


class StreamConnection(asyncio.BufferedProtocol):
    """One connection with its parser. ``number`` is its id in ``Flow.connection``.

    ``server_name``: of a TLS connection that we dialled, whose certificate was verified. With TLS it is made after
    the handshake.
    """

    def __init__(
        self, pool: StreamPool, number: int, *, dialled: bool, transport: Transport = "TCP", server_name: str = ""
    ) -> None:
        self._pool = pool
        self.kind: Transport = transport
        self.server_name = server_name
        self._parser = StreamParser()
        self._buffer = bytearray(READ_BYTES)
        self._unread = 0
        self._transport: asyncio.Transport | None = None
        self.number = number
        self.dialled = dialled
        self.flow: Flow
        self.kept = False
        self._opened_at = time.monotonic()
        # None: the first message is still due. Who was dialled by us owes none.
        self._heard_at = self._opened_at if dialled else None
        self._partial_since: float | None = None
        self._pinged_at = self._opened_at
        self.unanswered: deque[int] = deque(maxlen=UNANSWERED_REQUESTS)
        """Tokens of the requests written since the peer last sent a message."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        stream = cast(asyncio.Transport, transport)  # uvloop's transports are no subclasses of asyncio's
        self._transport = stream
        flow = self._pool.flow_of(stream, self)
        if flow is None:  # reset before it was accepted
            self.abort()
            return
        self.flow = flow
        _keep_alive(stream.get_extra_info("socket"))
        if not self._pool.admit(self):
            self.abort()

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._unread = nbytes
        self._take()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._pool.forget(self, self._lost_because(exc))

    @property
    def destination(self) -> Destination:
        return (self.kind, self.flow.remote, self.server_name)

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def write(self, data: bytes, token: int = 0) -> None:
        """Raises ``UnreachableError`` when the connection is gone or the peer does not read.

        ``token``: the message's, told as failed if the connection is lost before anything comes back.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            raise UnreachableError("the connection is closed")
        if transport.get_write_buffer_size() + len(data) > WRITE_BUFFER_BYTES:
            self._pool.counts.choked += 1
            self.abort()
            raise UnreachableError(f"the peer left {WRITE_BUFFER_BYTES} bytes unread")
        transport.write(data)
        if token and not data.startswith(_RESPONSE):
            self.unanswered.append(token)

    def close(self) -> None:
        """After what is written has left."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def ping(self, now: float) -> None:
        """RFC 5626 §4.4.1: a double CRLF now and then on a connection that we dialled keeps the way back open."""
        if self.dialled and self.open and now - self._pinged_at >= PING_S:
            self._pinged_at = now
            with contextlib.suppress(UnreachableError):
                self.write(_PING)

    def overdue(self, now: float) -> bool:
        """Whether a deadline has passed."""
        if self._heard_at is None:
            return now - self._opened_at > FIRST_MESSAGE_S
        if self._partial_since is not None:
            return now - self._partial_since > FIRST_MESSAGE_S
        return now - self._heard_at > (IDLE_KEPT_S if self.kept else IDLE_S)

    def _lost_because(self, error: Exception | None) -> str:
        if isinstance(error, ssl.SSLError):
            return explain_handshake(error, self.server_name)
        if isinstance(error, OSError) and error.errno:
            return f"the connection was lost before an answer came: {os.strerror(error.errno)}"
        if self.kind == "TLS" and self._heard_at == self._opened_at:
            return TLS_LOST_UNHEARD
        return "the connection was closed before an answer came"

    def _take(self) -> None:
        """Read what is in the buffer, or wait with it until the loop has time for SIP again."""
        if not self.open:
            return
        budget = self._pool.budget
        if not budget.exhausted:
            started = time.monotonic()
            size, self._unread = self._unread, 0
            self._read(bytes(self._buffer[:size]), started)
            if budget.charge(started):
                return
        if self._transport is not None:
            self._transport.pause_reading()
            budget.when_refilled(self._resume)

    def _resume(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.resume_reading()
        if self._unread:
            self._take()

    def _read(self, data: bytes, now: float) -> None:
        if self.dialled and data == _PONG and not self._parser.unfinished:
            return  # two of them are no ping
        items = self._parser.feed(data)
        self._note_progress(items, now)
        pings = 0
        for item in items:
            if isinstance(item, KeepAlive):
                pings += 1
            elif self.open:
                self.unanswered.clear()
                self._pool.owner.stream_received(item, self.flow)
            if isinstance(item, Broken):
                self._pool.counts.broken += 1
                self.close()  # the answer to a malformed request leaves first
                return
        if pings and self.open:
            with contextlib.suppress(UnreachableError):
                self.write(_PONG * pings)

    def _note_progress(self, items: list[StreamItem], now: float) -> None:
        if self._heard_at is not None or any(not isinstance(item, KeepAlive) for item in items):
            self._heard_at = now if items else self._heard_at
        if not self._parser.unfinished:
            self._partial_since = None
        elif items or self._partial_since is None:
            self._partial_since = now


class StreamPool:
    """Every TCP and TLS connection of an endpoint. Without ``tls`` there is no TLS."""

    def __init__(
        self,
        owner: StreamOwner,
        loop: asyncio.AbstractEventLoop,
        budget: WorkBudget,
        tls: TlsContexts | None = None,
    ) -> None:
        self.owner = owner
        self.budget = budget
        self.counts = StreamCounts()
        self.loop = loop
        self._tls = tls
        self._handshakes = Handshakes(self, loop, budget, tls)
        self._numbers = itertools.count(1)
        self._connections: dict[int, StreamConnection] = {}
        self._by_destination: dict[Destination, StreamConnection] = {}
        self._accepted_from: Counter[str] = Counter()
        self._dialling: dict[Destination, _Dialling] = {}
        self._servers: list[asyncio.Server] = []
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._emptied = asyncio.Event()
        self._emptied.set()

    def __len__(self) -> int:
        return len(self._connections)

    async def listen(self, bound: socket.socket, backlog: int, transport: Transport = "TCP") -> None:
        """Accept on ``bound``, a listening TCP socket."""
        if transport == "TLS":
            self._handshakes.listen(bound)
        else:
            server = await self.loop.create_server(self._accepted, sock=bound, backlog=backlog)
            self._servers.append(server)

    def send(self, data: bytes, token: int, flow: Flow, hop: Hop) -> Flow:
        """Send on ``flow.connection``, on another open connection to ``hop``, or on a new one.

        Returns the flow it takes (connection 0: still being dialled). Raises ``UnreachableError``; a failure
        that comes later is told to ``StreamOwner.send_failed``.
        """
        destination = destination_of(hop)
        connection = self._find(flow, destination)
        if connection is not None:
            connection.write(data, token)
            return connection.flow
        self._dial(flow, destination).waiting.append((data, token))
        return replace(flow, transport=hop.transport, remote=destination[1], connection=0)

    def keep(self, number: int) -> None:
        """From now on the connection is kept through long silence."""
        connection = self._connections.get(number)
        if connection is not None:
            connection.kept = True

    async def close(self, grace_s: float) -> None:
        """Stop accepting, let what is written leave for at most ``grace_s``, then cut off."""
        for server in self._servers:
            server.close()
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
        dialling = [one.task for one in self._dialling.values()]
        for task in dialling:
            task.cancel()
        await asyncio.gather(*dialling, return_exceptions=True)
        for destination in list(self._dialling):  # those whose task had not begun
            self._deliver(destination, None, _CLOSED)
        await self._handshakes.close()
        for connection in list(self._connections.values()):
            connection.close()
        try:
            await asyncio.wait_for(self._emptied.wait(), grace_s)
        except TimeoutError:
            for connection in list(self._connections.values()):
                connection.abort()
            await self._emptied.wait()

    # ── for the connections ──

    def flow_of(self, transport: asyncio.Transport, connection: StreamConnection) -> Flow | None:
        """None when the peer is gone already."""
        ours, theirs = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
        if ours is None or theirs is None:
            return None
        local, remote = Address(*ours[:2]), Address(*theirs[:2])
        return self.owner.stream_flow(connection.kind, local, remote, connection.number)

    def admit(self, connection: StreamConnection) -> bool:
        """Take a new connection into the tables; False: there are too many."""
        peer = _peer(connection.flow.remote.host)
        crowded = not connection.dialled and self._crowded(peer)
        if crowded or len(self._connections) >= CONNECTIONS:
            self.counts.refused += 1
            return False
        if connection.dialled:
            self.counts.dialled += 1
        else:
            self.counts.accepted += 1
            self._accepted_from[peer] += 1
        self._connections[connection.number] = connection
        self._by_destination[connection.destination] = connection
        self._emptied.clear()
        if self._sweep_timer is None:
            self._sweep_timer = self.loop.call_later(SWEEP_S, self._sweep)
        return True

    def forget(self, connection: StreamConnection, problem: str) -> None:
        """It is lost, and why."""
        if self._connections.pop(connection.number, None) is None:
            return  # it was never admitted
        if self._by_destination.get(connection.destination) is connection:
            del self._by_destination[connection.destination]
        if not connection.dialled:
            peer = _peer(connection.flow.remote.host)
            self._accepted_from[peer] -= 1
            if not self._accepted_from[peer]:
                del self._accepted_from[peer]
        if not self._connections:
            self._emptied.set()
        # A peer may refuse us after our side of the handshake is done (TLS 1.3): this is then the only evidence.
        for token in connection.unanswered:
            self.owner.send_failed(token, problem)
        self.owner.connection_lost(connection.number)

    # ── for the handshakes ──

    def may_begin(self, host: str, waiting: int, waiting_there: int) -> bool:
        full = len(self._connections) + waiting >= CONNECTIONS
        if full or self._accepted_from[_peer(host)] + waiting_there >= CONNECTIONS_PER_PEER:
            self.counts.refused += 1
            return False
        return True

    def new_connection(self) -> StreamConnection:
        return StreamConnection(self, next(self._numbers), dialled=False, transport="TLS")

    def peer_of(self, host: str) -> str:
        return _peer(host)

    def handshake_failed(self) -> None:
        self.counts.handshakes_failed += 1

    # ── inside ──

    def _accepted(self) -> StreamConnection:
        return StreamConnection(self, next(self._numbers), dialled=False)

    def _crowded(self, peer: str) -> bool:
        return self._accepted_from[peer] >= CONNECTIONS_PER_PEER

    def _find(self, flow: Flow, destination: Destination) -> StreamConnection | None:
        """The flow's own connection if it leads to that host, else any open one to the very destination.

        A dialog's peer may name another port in its Contact than the one its connection comes from; the
        connection it called on is the one that certainly reaches it (RFC 5626 §1).
        """
        transport, remote, server_name = destination
        own = self._connections.get(flow.connection)
        if own is not None and own.open and own.flow.remote.host == remote.host and own.kind == transport:
            return own
        if destination in self._dialling:
            return None  # what already waits for the handshake goes first
        other = self._by_destination.get(destination)
        if other is None and server_name == remote.host:  # it connected to us; who asks for a name gets one verified
            other = self._by_destination.get((transport, remote, ""))
        return other if other is not None and other.open else None

    def _dial(self, flow: Flow, destination: Destination) -> _Dialling:
        dialling = self._dialling.get(destination)
        if dialling is None:
            if len(self._connections) + len(self._dialling) >= CONNECTIONS:
                raise UnreachableError(f"{CONNECTIONS} connections are open already")
            dialling = _Dialling(self.loop.create_task(self._connect(flow.bind_host, destination)))
            self._dialling[destination] = dialling
        if len(dialling.waiting) >= DIAL_WAITING_MESSAGES:
            raise UnreachableError(f"{DIAL_WAITING_MESSAGES} messages wait for this connection already")
        return dialling

    async def _connect(self, local_host: str, destination: Destination) -> None:
        problem = _CLOSED
        connection: StreamConnection | None = None
        try:
            connection = await self._open(local_host, destination)
        except TimeoutError:
            problem = f"no TCP connection in {DIAL_S:g} s"
        except UnreachableError as error:
            problem = str(error)
        except OSError as error:
            problem = os.strerror(error.errno) if error.errno else str(error)
        finally:
            self._deliver(destination, connection, problem)

    async def _open(self, local_host: str, destination: Destination) -> StreamConnection:
        """Raises ``OSError``, ``TimeoutError``; ``UnreachableError`` that says why no TLS came about."""
        transport, remote, server_name = destination

        def made() -> StreamConnection:
            return StreamConnection(
                self, next(self._numbers), dialled=True, transport=transport, server_name=server_name
            )

        async with asyncio.timeout(DIAL_S):
            plain = await self._connected(local_host, remote)
        if transport == "TCP":
            return (await self.loop.create_connection(made, sock=plain))[1]
        if self._tls is None:
            plain.close()
            raise UnreachableError("TLS is not set up: no contexts were given")
        try:
            _, connection = await self.loop.create_connection(
                made, sock=plain, ssl=self._tls.client, server_hostname=server_name, ssl_handshake_timeout=HANDSHAKE_S
            )
        except (OSError, TimeoutError) as error:
            plain.close()
            raise UnreachableError(explain_handshake(error, server_name)) from error
        except asyncio.CancelledError:
            plain.close()
            raise
        return connection

    async def _connected(self, local_host: str, remote: Address) -> socket.socket:
        """A TCP connection without a transport: a handshake on it has a deadline and errors of its own."""
        plain = socket.socket(socket.AF_INET6 if ":" in remote.host else socket.AF_INET, socket.SOCK_STREAM)
        try:
            plain.setblocking(False)
            plain.bind((local_host, 0))
            await self.loop.sock_connect(plain, (remote.host, remote.port))
        except BaseException:
            plain.close()
            raise
        return plain

    def _deliver(self, destination: Destination, connection: StreamConnection | None, problem: str) -> None:
        """Send what waited for the connection, or say why it cannot be sent."""
        for data, token in self._dialling.pop(destination).waiting:
            try:
                if connection is None:
                    raise UnreachableError(problem)
                connection.write(data, token)
            except UnreachableError as error:
                self.owner.send_failed(token, str(error))

    def _sweep(self) -> None:
        self._sweep_timer = None
        now = time.monotonic()
        for connection in list(self._connections.values()):
            if connection.overdue(now):
                self.counts.expired += 1
                connection.abort()
            else:
                connection.ping(now)
        if self._connections:
            self._sweep_timer = self.loop.call_later(SWEEP_S, self._sweep)


def destination_of(hop: Hop) -> Destination:
    """For a hop with an IP address."""
    return (hop.transport, Address(hop.host, hop.port), (hop.server_name or hop.host) if hop.transport == "TLS" else "")


def _peer(host: str) -> str:
    """Whom connections are counted by: one subscriber has 2**64 IPv6 addresses (RFC 6177 §2)."""
    if ":" not in host:
        return host
    return socket.inet_pton(socket.AF_INET6, host.partition("%")[0])[:8].hex()


def _keep_alive(connected: socket.socket) -> None:
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    idle = getattr(socket, "TCP_KEEPIDLE", None) or getattr(socket, "TCP_KEEPALIVE", None)  # Linux, Darwin
    if idle is not None:
        connected.setsockopt(socket.IPPROTO_TCP, idle, KEEPALIVE_IDLE_S)
