"""TCP for SIP: connections accepted and dialled, framed, reused both ways, and bounded (RFC 3261 §18).

A response goes back on the connection of its request (§18.2.2); a request reuses an open connection to its
destination, otherwise one is dialled (§18.1.1). TLS (issue 3) is another way to make the same connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol, cast

from offhook.model.errors import UnreachableError
from offhook.signaling.budget import WorkBudget
from offhook.sip.events import Address, Flow
from offhook.sip.parser import Broken, KeepAlive, StreamItem, StreamParser

CONNECTIONS = 2000
"""All connections together; beyond, a new one is closed at once. Bounds descriptors and parser buffers."""

CONNECTIONS_PER_PEER = 32
"""Accepted from one IPv4 address or IPv6 /64: a carrier uses a handful, and one peer must not take all there are."""

FIRST_MESSAGE_S = 10.0
"""From accept to the first whole message, and from the first byte of any message to its last: slow loris."""

IDLE_S = 120.0
"""Without a message, on a connection that never carried a call."""

IDLE_WITH_CALL_S = 7200.0
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

_CLOSED = "the endpoint was closed"
_PONG = b"\r\n"  # RFC 5626 §4.4.1: the answer to a double CRLF


class StreamOwner(Protocol):
    """Who gets what the streams bring. Called on the event loop."""

    def stream_received(self, item: StreamItem, flow: Flow) -> None: ...

    def send_failed(self, token: int, problem: str) -> None: ...

    def connection_lost(self, number: int) -> None: ...

    def listening_port(self, local_host: str) -> int | None:
        """The TCP port we listen on at ``local_host``: what a peer can call back, unlike a dialled one's."""
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


@dataclass(slots=True)
class _Dialling:
    task: asyncio.Task[None]
    waiting: list[tuple[bytes, int]] = field(default_factory=list)


class StreamConnection(asyncio.BufferedProtocol):
    """One TCP connection with its parser. ``number`` is its id in ``Flow.connection``."""

    def __init__(self, pool: StreamPool, number: int, *, dialled: bool) -> None:
        self._pool = pool
        self._parser = StreamParser()
        self._buffer = bytearray(READ_BYTES)
        self._unread = 0
        self._transport: asyncio.Transport | None = None
        self.number = number
        self.dialled = dialled
        self.flow: Flow
        self.carried_call = False
        self._opened_at = time.monotonic()
        # None: the first message is still due. Who was dialled by us owes none.
        self._heard_at = self._opened_at if dialled else None
        self._partial_since: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        stream = cast(asyncio.Transport, transport)  # uvloop's transports are no subclasses of asyncio's
        self._transport = stream
        flow = self._pool.flow_of(stream, self.number)
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
        self._pool.forget(self)

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def write(self, data: bytes) -> None:
        """Raises ``UnreachableError`` when the connection is gone or the peer does not read."""
        transport = self._transport
        if transport is None or transport.is_closing():
            raise UnreachableError("the connection is closed")
        if transport.get_write_buffer_size() + len(data) > WRITE_BUFFER_BYTES:
            self._pool.counts.choked += 1
            self.abort()
            raise UnreachableError(f"the peer left {WRITE_BUFFER_BYTES} bytes unread")
        transport.write(data)

    def close(self) -> None:
        """After what is written has left."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def overdue(self, now: float) -> bool:
        """Whether a deadline has passed."""
        if self._heard_at is None:
            return now - self._opened_at > FIRST_MESSAGE_S
        if self._partial_since is not None:
            return now - self._partial_since > FIRST_MESSAGE_S
        return now - self._heard_at > (IDLE_WITH_CALL_S if self.carried_call else IDLE_S)

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
        items = self._parser.feed(data)
        self._note_progress(items, now)
        pings = 0
        for item in items:
            if isinstance(item, KeepAlive):
                pings += 1
            elif self.open:
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
        if not self._parser.buffered:
            self._partial_since = None
        elif items or self._partial_since is None:
            self._partial_since = now


class StreamPool:
    """Every TCP connection of an endpoint."""

    def __init__(self, owner: StreamOwner, loop: asyncio.AbstractEventLoop, budget: WorkBudget) -> None:
        self.owner = owner
        self.budget = budget
        self.counts = StreamCounts()
        self._loop = loop
        self._numbers = itertools.count(1)
        self._connections: dict[int, StreamConnection] = {}
        self._by_remote: dict[Address, StreamConnection] = {}
        self._accepted_from: Counter[str] = Counter()
        self._dialling: dict[Address, _Dialling] = {}
        self._servers: list[asyncio.Server] = []
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._emptied = asyncio.Event()
        self._emptied.set()

    def __len__(self) -> int:
        return len(self._connections)

    async def listen(self, bound: socket.socket, backlog: int) -> None:
        """Accept on ``bound``, a listening TCP socket."""
        server = await self._loop.create_server(self._accepted, sock=bound, backlog=backlog)
        self._servers.append(server)

    def send(self, data: bytes, token: int, flow: Flow, remote: Address) -> Flow:
        """Send on ``flow.connection``, on another open connection to ``remote``, or on a new one.

        Returns the flow it takes (connection 0: still being dialled). Raises ``UnreachableError``; a failure
        that comes later is told to ``StreamOwner.send_failed``.
        """
        connection = self._find(flow, remote)
        if connection is not None:
            connection.write(data)
            return connection.flow
        self._dial(flow, remote).waiting.append((data, token))
        return Flow(transport="TCP", local=flow.local, remote=remote)

    def carries_call(self, number: int) -> None:
        """From now on the connection is kept through long silence."""
        connection = self._connections.get(number)
        if connection is not None:
            connection.carried_call = True

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
        for remote in list(self._dialling):  # those whose task had not begun
            self._deliver(remote, None, _CLOSED)
        for connection in list(self._connections.values()):
            connection.close()
        try:
            await asyncio.wait_for(self._emptied.wait(), grace_s)
        except TimeoutError:
            for connection in list(self._connections.values()):
                connection.abort()
            await self._emptied.wait()

    # ── for the connections ──

    def flow_of(self, transport: asyncio.Transport, number: int) -> Flow | None:
        """None when the peer is gone already."""
        ours, theirs = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
        if ours is None or theirs is None:
            return None
        local, remote = Address(*ours[:2]), Address(*theirs[:2])
        port = self.owner.listening_port(local.host) or local.port
        return Flow(transport="TCP", local=Address(local.host, port), remote=remote, connection=number)

    def admit(self, connection: StreamConnection) -> bool:
        """Take a new connection into the tables; False: there are too many."""
        peer = _peer(connection.flow.remote.host)
        crowded = not connection.dialled and self._accepted_from[peer] >= CONNECTIONS_PER_PEER
        if crowded or len(self._connections) >= CONNECTIONS:
            self.counts.refused += 1
            return False
        if connection.dialled:
            self.counts.dialled += 1
        else:
            self.counts.accepted += 1
            self._accepted_from[peer] += 1
        self._connections[connection.number] = connection
        self._by_remote[connection.flow.remote] = connection
        self._emptied.clear()
        if self._sweep_timer is None:
            self._sweep_timer = self._loop.call_later(SWEEP_S, self._sweep)
        return True

    def forget(self, connection: StreamConnection) -> None:
        if self._connections.pop(connection.number, None) is None:
            return  # it was never admitted
        remote = connection.flow.remote
        if self._by_remote.get(remote) is connection:
            del self._by_remote[remote]
        if not connection.dialled:
            peer = _peer(remote.host)
            self._accepted_from[peer] -= 1
            if not self._accepted_from[peer]:
                del self._accepted_from[peer]
        if not self._connections:
            self._emptied.set()
        self.owner.connection_lost(connection.number)

    # ── inside ──

    def _accepted(self) -> StreamConnection:
        return StreamConnection(self, next(self._numbers), dialled=False)

    def _find(self, flow: Flow, remote: Address) -> StreamConnection | None:
        """The flow's own connection if it leads to that host, else any open one to the very address.

        A dialog's peer may name another port in its Contact than the one its connection comes from; the
        connection it called on is the one that certainly reaches it (RFC 5626 §1).
        """
        own = self._connections.get(flow.connection)
        if own is not None and own.open and own.flow.remote.host == remote.host:
            return own
        if remote in self._dialling:
            return None  # what already waits for the handshake goes first
        other = self._by_remote.get(remote)
        return other if other is not None and other.open else None

    def _dial(self, flow: Flow, remote: Address) -> _Dialling:
        dialling = self._dialling.get(remote)
        if dialling is None:
            if len(self._connections) + len(self._dialling) >= CONNECTIONS:
                raise UnreachableError(f"{CONNECTIONS} connections are open already")
            dialling = _Dialling(self._loop.create_task(self._connect(flow.local.host, remote)))
            self._dialling[remote] = dialling
        if len(dialling.waiting) >= DIAL_WAITING_MESSAGES:
            raise UnreachableError(f"{DIAL_WAITING_MESSAGES} messages wait for this connection already")
        return dialling

    async def _connect(self, local_host: str, remote: Address) -> None:
        problem = _CLOSED
        connection: StreamConnection | None = None
        try:
            async with asyncio.timeout(DIAL_S):
                _, connection = await self._loop.create_connection(
                    lambda: StreamConnection(self, next(self._numbers), dialled=True),
                    remote.host,
                    remote.port,
                    local_addr=(local_host, 0),
                )
        except TimeoutError:
            problem = f"no TCP connection in {DIAL_S:g} s"
        except OSError as error:
            problem = error.strerror or str(error)
        finally:
            self._deliver(remote, connection, problem)

    def _deliver(self, remote: Address, connection: StreamConnection | None, problem: str) -> None:
        """Send what waited for the connection to ``remote``, or say why it cannot be sent."""
        for data, token in self._dialling.pop(remote).waiting:
            try:
                if connection is None:
                    raise UnreachableError(problem)
                connection.write(data)
            except UnreachableError as error:
                self.owner.send_failed(token, str(error))

    def _sweep(self) -> None:
        self._sweep_timer = None
        now = time.monotonic()
        for connection in [one for one in self._connections.values() if one.overdue(now)]:
            self.counts.expired += 1
            connection.abort()
        if self._connections:
            self._sweep_timer = self._loop.call_later(SWEEP_S, self._sweep)


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
