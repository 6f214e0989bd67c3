"""HTTP to AI providers: one client a process, connections kept, answers streamed."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from offhook.bridge.wire import HttpAnswer, HttpRequest

MAX_ANSWER_BYTES = 4 << 20
"""Of an answer that is read whole; the largest are lists of voices."""

CONNECT_S = 5.0

STALL_S = 20.0
"""A stream that says nothing for so long has died; models think for seconds, not for more."""

KEEP_ALIVE_S = 60.0
"""Setting a connection up costs one to three round trips on the way to the caller's answer."""


class HttpStream:
    """The body of an answer as it comes. ``status`` and nothing else is sure to be right."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.content_type = response.content_type

    async def read(self) -> bytes:
        """All of it. Raises ``OSError``, also where it is larger than ``MAX_ANSWER_BYTES``."""
        whole = bytearray()
        async for chunk in self.chunks():
            whole += chunk
            if len(whole) > MAX_ANSWER_BYTES:
                raise OSError(f"the answer is larger than {MAX_ANSWER_BYTES} bytes")
        return bytes(whole)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Pieces of any size, as they arrive. Raises ``OSError`` where the connection breaks or stalls."""
        try:
            async for chunk in self._response.content.iter_any():
                yield chunk
        except (aiohttp.ClientError, TimeoutError) as error:
            raise OSError(f"the answer broke off: {error!r}") from error


class ProviderHttp:
    """Needs ``close``. Nothing is taken from the environment, no redirect is followed.

    ``tls``: who is trusted, by HTTP and by websockets; None is whom the system trusts.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.tls = tls
        self._session: aiohttp.ClientSession | None = None

    async def ask(self, request: HttpRequest, deadline_s: float) -> HttpAnswer:
        """Raises ``OSError`` (``TimeoutError``) where no answer comes."""
        async with asyncio.timeout(deadline_s), self.stream(request) as stream:
            return HttpAnswer(status=stream.status, body=await stream.read())

    @asynccontextmanager
    async def stream(self, request: HttpRequest) -> AsyncIterator[HttpStream]:
        """The head of the answer is there; who leaves early closes the connection, which stops a model.

        Raises ``OSError``.
        """
        session = self._opened()
        try:
            async with session.request(
                request.method, request.url, headers=request.headers, data=request.body or None, allow_redirects=False
            ) as response:
                yield HttpStream(response)
        except aiohttp.ClientError as error:
            raise OSError(str(error) or type(error).__name__) from error

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S, ssl=self.tls or True),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=STALL_S),
                trust_env=False,
                auto_decompress=True,
            )
        return self._session
