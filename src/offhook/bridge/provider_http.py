"""HTTP to AI providers: one client a process, connections kept, answers streamed."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from offhook.bridge.guard import Guard, RefusedTargetError
from offhook.bridge.hiding import Secrets, hidden, secrets_of
from offhook.bridge.wire import HttpAnswer, HttpRequest

MAX_ANSWER_BYTES = 4 << 20
"""Of an answer that is read whole; the largest are lists of voices."""

CONNECT_S = 5.0

WHOLE_S = 30.0
"""An answer that is read whole, refusals above all, is there by then, however it trickles."""

STREAM_S = 300.0
"""A streamed one too: no answer in a call goes on for five minutes, unless it never ends."""

STALL_S = 20.0
"""A stream that says nothing for so long has died; models think for seconds, not for more."""

KEEP_ALIVE_S = 60.0
"""Setting a connection up costs one to three round trips on the way to the caller's answer."""


class HttpStream:
    """The body of an answer as it comes. ``status`` and nothing else is sure to be right."""

    def __init__(self, response: aiohttp.ClientResponse, secrets: Secrets = ()) -> None:
        self._response = response
        self._secrets = secrets
        self.status = response.status
        self.content_type = response.content_type

    async def read(self) -> bytes:
        """All of it. Raises ``OSError``, also where it is larger than ``MAX_ANSWER_BYTES``."""
        whole = bytearray()
        async with asyncio.timeout(WHOLE_S):
            async for chunk in self.chunks():
                whole += chunk
                if len(whole) > MAX_ANSWER_BYTES:
                    raise OSError(f"the answer is larger than {MAX_ANSWER_BYTES} bytes")
        return hidden(bytes(whole), self._secrets)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Pieces of any size, as they arrive. Raises ``OSError`` where the connection breaks, stalls or never ends."""
        clock = asyncio.get_running_loop().time
        over_at = clock() + STREAM_S
        try:
            async for chunk in self._response.content.iter_any():
                if clock() > over_at:
                    raise OSError(f"the answer goes on after {STREAM_S:g} s")
                yield hidden(chunk, self._secrets)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise OSError(f"the answer broke off: {error!r}") from error


class ProviderHttp:
    """Needs ``close``. Nothing is taken from the environment, no redirect is followed.

    ``tls``: who is trusted, by HTTP and by websockets; None is whom the system trusts. ``guard``: judges where all that
    goes by this client leads; its connections are its own. None: the operator chose where.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None, guard: Guard | None = None) -> None:
        self.tls = tls
        self.guard = guard
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    async def ask(self, request: HttpRequest, deadline_s: float) -> HttpAnswer:
        """Raises ``OSError`` (``TimeoutError``) where no answer comes."""
        async with asyncio.timeout(deadline_s), self.stream(request) as stream:
            return HttpAnswer(status=stream.status, body=await stream.read())

    @asynccontextmanager
    async def stream(self, request: HttpRequest) -> AsyncIterator[HttpStream]:
        """The head of the answer is there; who leaves early closes the connection, which stops a model.

        Raises ``OSError``, ``RefusedTargetError`` among them.
        """
        if self.guard is not None:
            self.guard.check(request.url)
        session = self._opened(secure=request.url.lower().startswith("https:"))
        try:
            async with session.request(
                request.method, request.url, headers=request.headers, data=request.body or None, allow_redirects=False
            ) as response:
                yield HttpStream(response, secrets_of(request))
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, RefusedTargetError):
                raise error.os_error from None
            raise OSError(str(error)) from error
        except aiohttp.InvalidURL:
            raise OSError("the URL cannot be used") from None  # its own text has all of it, keys and all
        except aiohttp.ClientError as error:
            raise OSError(str(error) or type(error).__name__) from error

    async def close(self) -> None:
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            await session.close()

    def _opened(self, *, secure: bool) -> aiohttp.ClientSession:
        session = self._sessions.get(secure)
        if session is None:
            resolver = None if self.guard is None else _Judged(self.guard, secure=secure)
            session = self._sessions[secure] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0,
                    keepalive_timeout=KEEP_ALIVE_S,
                    ssl=self.tls or True,
                    resolver=resolver,
                    use_dns_cache=resolver is None,
                ),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=STALL_S),
                trust_env=False,
                auto_decompress=True,
            )
        return session


class _Judged(AbstractResolver):
    """What aiohttp asks about names when it connects. About addresses it does not ask: ``Guard.check`` judges them."""

    def __init__(self, guard: Guard, *, secure: bool) -> None:
        self._guard = guard
        self._secure = secure

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._guard.addresses(host, port, secure=self._secure)
        return [_result(host, port, address) for address in found]

    async def close(self) -> None:
        """Nothing is held."""


def _result(host: str, port: int, address: str) -> ResolveResult:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=socket.AI_NUMERICHOST)
