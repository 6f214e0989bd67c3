"""Serves a simulated provider over HTTP and websockets, with TLS where wanted, and keeps what clients sent."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

from aiohttp import web

from offhook.model.errors import ListenError
from offhook.simulators.script import Script

MAX_KEPT = 100_000
"""Messages of clients kept to be looked at: half an hour of one call; the oldest go first."""

MAX_MESSAGE_BYTES = 16 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Received:
    """A message or a request of a client. ``path``: with the query. ``at``: monotonic seconds."""

    connection: int
    path: str
    data: bytes | str
    at: float


@dataclass(slots=True)
class Journal:
    """What all clients of a simulator sent. ``audio_of``: put together by the simulator, by connection."""

    received: list[Received] = field(default_factory=list)
    audio_of: dict[int, bytearray] = field(default_factory=dict)
    """The caller's audio as it came, in the session's format."""
    problems: list[str] = field(default_factory=list)
    """What a client did that the real service would refuse, one sentence each."""
    connections: int = 0

    def note(self, connection: int, path: str, data: bytes | str) -> None:
        if len(self.received) >= MAX_KEPT:
            del self.received[: MAX_KEPT // 10]
        self.received.append(Received(connection=connection, path=path, data=data, at=time.monotonic()))

    def hear(self, connection: int, audio: bytes) -> None:
        self.audio_of.setdefault(connection, bytearray()).extend(audio)


class Simulator(Protocol):
    """One provider. Made with its script; ``routes`` may use ``journal`` and ``spent`` (of ``Actor``) as they like.

    ``spent``: how often the moment of each of the script's faults came, by its place there.
    """

    journal: Journal
    spent: Counter[int]

    def routes(self) -> Sequence[web.AbstractRouteDef]: ...


SimulatorFactory = Callable[[Script], Simulator]


class Stage:
    """``async with Stage(simulator) as stage:`` listens on loopback, at ``stage.url`` (http or https)."""

    def __init__(
        self, simulator: Simulator, *, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
    ) -> None:
        self.simulator = simulator
        self._host, self._port, self._tls = host, port, tls
        self._runner: web.AppRunner | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """Without a path; ``ws_url`` is the same for websockets."""
        return f"{'https' if self._tls else 'http'}://{'localhost' if self._tls else self._host}:{self.port}"

    @property
    def ws_url(self) -> str:
        return "ws" + self.url.removeprefix("http")

    async def start(self) -> None:
        """Raises ``ListenError``."""
        app = web.Application(client_max_size=MAX_MESSAGE_BYTES)
        app.add_routes(self.simulator.routes())
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        try:
            site = web.TCPSite(self._runner, self._host, self._port, ssl_context=self._tls)
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise ListenError(f"{self._host}:{self._port}", str(error), "Give another --port") from error
        self.port = self._runner.addresses[0][1]

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


async def open_websocket(request: web.Request) -> web.WebSocketResponse:
    """The server's side of a websocket without compression, which takes messages of any size we expect."""
    websocket = web.WebSocketResponse(max_msg_size=MAX_MESSAGE_BYTES, compress=False, autoping=True)
    await websocket.prepare(request)
    return websocket


async def drop(request: web.Request) -> None:
    """The connection breaks without a word."""
    transport = request.transport
    if transport is not None:
        transport.abort()
    await asyncio.sleep(0)
