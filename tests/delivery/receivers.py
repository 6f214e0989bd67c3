"""Real receivers on loopback: well-behaved ones, those that misbehave on the wire, and a trap nobody may step into."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress

import trustme
from aiohttp import web

from offhook.delivery.outbound_http import Method, OutboundHttp, OutboundRequest, OutboundResponse
from offhook.delivery.targets_allowed import DEFAULT_PORTS, TargetPolicy, networks
from offhook.model.errors import OutboundError

RECEIVER = "127.0.0.2"
"""Permitted by ``OPEN``; plays the part of the public internet."""

INSIDE = "127.0.0.1"
"""Not permitted by ``OPEN``: the network that must not be reached."""

OPEN = TargetPolicy(allowed_targets=networks("allowed_targets", [RECEIVER]), allow_http=True)

GRACE_S = 0.5

LET_GO_S = 0.05
"""For answers under way at the end of a test; 0 would be without end to aiohttp."""

AUTHORITY = trustme.CA()

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    return context


def certified(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


class Names:
    """A resolver by the script: each question takes the next answer of the name, the last one stays."""

    def __init__(self, **answers: Sequence[Sequence[str]]) -> None:
        self._answers = {name.replace("_", "."): list(given) for name, given in answers.items()}
        self.asked: list[str] = []

    def __call__(self, name: str) -> Sequence[str]:
        self.asked.append(name)
        if name not in self._answers:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        left = self._answers[name]
        return left.pop(0) if len(left) > 1 else left[0]


class Trap:
    """Listens and counts who connected, without ever answering."""

    def __init__(self, bound: socket.socket) -> None:
        self._bound = bound
        self.port: int = bound.getsockname()[1]

    def victims(self) -> int:
        count = 0
        with suppress(BlockingIOError):
            while True:
                self._bound.accept()[0].close()
                count += 1
        return count


@contextmanager
def trap(host: str = "", port: int = 0) -> Iterator[Trap]:
    """On every address of this machine, IPv4 and IPv6, unless ``host`` is given."""
    with socket.socket(socket.AF_INET if host else socket.AF_INET6) as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if not host:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        bound.bind((host or "::", port))
        bound.listen(512)
        bound.setblocking(False)
        yield Trap(bound)


class Receiver:
    """A web server that remembers what it was sent. ``connections``: how many distinct ones carried requests."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self._tls = tls
        self.seen: list[web.Request] = []
        self.bodies: list[bytes] = []
        self.peers: set[object] = set()
        self.server_names: list[str | None] = []
        self.port = 0
        self.answer: Callable[[web.Request], Awaitable[web.StreamResponse]] = self._say_thanks
        if tls is not None:
            tls.sni_callback = lambda sock, name, context: self.server_names.append(name)

    async def _say_thanks(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text="thanks")

    async def receive(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request)
        self.bodies.append(await request.read())
        assert request.transport is not None
        self.peers.add(request.transport.get_extra_info("peername"))
        return await self.answer(request)

    @property
    def connections(self) -> int:
        return len(self.peers)

    def url(self, path: str = "/", host: str = RECEIVER) -> str:
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}{path}"


@asynccontextmanager
async def receiver(tls: ssl.SSLContext | None = None, host: str = RECEIVER) -> AsyncIterator[Receiver]:
    made = Receiver(tls)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.receive)
    runner = web.AppRunner(app, shutdown_timeout=LET_GO_S, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, host, 0, ssl_context=tls).start()
    made.port = runner.addresses[0][1]
    try:
        yield made
    finally:
        await runner.cleanup()


@asynccontextmanager
async def speaker(talk: Talk, host: str = RECEIVER, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server of raw bytes; yields its port. What its talks raise because the other side has left is no matter."""
    talks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        talks.add(task)
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await talk(reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, host, 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in talks:
            task.cancel()
        await asyncio.gather(*talks, return_exceptions=True)
        await server.wait_closed()


def saying(*parts: bytes) -> Talk:
    """Reads the head of a request, says the parts and closes."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for part in parts:
            writer.write(part)
            await writer.drain()

    return talk


def repeating(start: bytes, part: bytes, pause_s: float = 0.0) -> Talk:
    """Reads the head of a request, and never comes to an end."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(start)
        while True:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause_s)

    return talk


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Takes whatever comes and says nothing."""
    while await reader.read(65_536):
        pass


async def never_reading(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


def resetting(after: bytes) -> Talk:
    """Says ``after`` and breaks the connection with an RST."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(after)
        await writer.drain()
        bound = writer.get_extra_info("socket")
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    return talk


def request(
    url: str,
    method: Method = "POST",
    *,
    body: bytes = b"{}",
    deadline_s: float = 5.0,
    limit: int = 1 << 20,
    headers: Mapping[str, str] | None = None,
) -> OutboundRequest:
    return OutboundRequest(
        method=method, url=url, headers=headers or {}, body=body, deadline_s=deadline_s, max_response_bytes=limit
    )


async def fault(client: OutboundHttp, asked: OutboundRequest) -> OutboundError:
    """The error a request ends with."""
    try:
        answer: OutboundResponse = await client.send(asked)
    except OutboundError as error:
        return error
    raise AssertionError(f"no error, but {answer.status} {answer.body[:200]!r}")


async def connections(client: OutboundHttp, at_least: int = 0, at_most: int = 512) -> int:
    """How many it holds, as soon as that is within the bounds; a socket is closed in the next turns of the loop."""
    with suppress(TimeoutError):
        async with asyncio.timeout(GRACE_S):
            while not at_least <= client.open_connections <= at_most:  # noqa: ASYNC110 (no event tells of it)
                await asyncio.sleep(0.002)
    return client.open_connections


def at_any_port(policy: TargetPolicy, *ports: int) -> TargetPolicy:
    return TargetPolicy(
        allowed_targets=policy.allowed_targets,
        allow_http=policy.allow_http,
        allowed_ports=DEFAULT_PORTS.union(ports),
        dev=policy.dev,
    )
