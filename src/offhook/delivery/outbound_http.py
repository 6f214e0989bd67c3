"""The one HTTP client: all that offhook asks or tells outside goes through it, guarded against SSRF and slow peers.

What is guarded, and where: URLs and addresses in ``targets_allowed``; names in ``lookup``, at the moment of connecting;
here deadlines, sizes, places, and that nothing is followed, kept or taken from the environment.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address
from types import TracebackType
from typing import Any, Literal, Self
from weakref import WeakSet

import aiohttp
from aiohttp.connector import Connection
from yarl import URL

from offhook import __version__
from offhook.delivery.lookup import FindAddresses, JudgingResolver, Lookup, system_addresses
from offhook.delivery.targets_allowed import Scheme, Target, TargetPolicy, judge_unresolved, read_target, why_refused
from offhook.model.errors import LocalProtocolError, OutboundError, OutboundFault

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"]
_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"})

MAX_RESPONSE_BYTES = 1 << 20
"""Unless a request says otherwise. An answer to a tool or a webhook is a few KB."""

MAX_REQUEST_BYTES = 1 << 20
"""Bodies are held in memory and written at once; ours are below 20 KB."""

MAX_HEADERS, MAX_HEADER_LINE_BYTES = 100, 8190
"""Of a request and of a response alike."""

REQUESTS = 512
"""Under way at once: each may hold a descriptor, which calls need too."""

REQUESTS_PER_HOST = 64
"""Under way or waiting for a connection to one host and port: one that stalls takes no more of ``REQUESTS``."""

CONNECTIONS_PER_HOST = 16

CONNECTIONS_KEPT = 128
"""With more than so many open, a connection is closed after its request instead of kept."""

KEEP_ALIVE_S = 15.0
"""A name is looked up and judged anew when its connection has been idle for so long."""

NEXT_ADDRESS_S = 0.25
"""Until the next address of a name is tried beside a silent one (RFC 8305 §5)."""

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,256}")
"""RFC 9110 §5.1: a token."""

_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
"""RFC 9110 §5.5: no line break, so no second header or request can be smuggled in."""

_OURS = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""How a message is framed and whom it reaches, this client says alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OutboundRequest:
    """``deadline_s`` covers all: the wait for a place, DNS, TLS, the last byte of the answer. What may be secret is not
    in its repr."""

    method: Method
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    deadline_s: float
    max_response_bytes: int = MAX_RESPONSE_BYTES


@dataclass(frozen=True, kw_only=True, slots=True)
class OutboundResponse:
    """Any status, 3xx too: redirects are not followed. Header names in lower case; of equal ones the first counts."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


class OutboundHttp:
    """Used from one event loop; needs ``close``.

    ``policy`` may be replaced at any time: requests under way end under the old one, later ones share no connection
    with them. ``proxy``: the URL of a forward proxy (``http://proxy:4750``, such as smokescreen) that resolves and
    judges names itself; addresses, ports and schemes are judged here all the same. ``tls``: which certificates are
    trusted; by default those of this machine. ``find``: from names to addresses.
    """

    def __init__(
        self,
        policy: TargetPolicy,
        *,
        proxy: str | None = None,
        tls: ssl.SSLContext | None = None,
        find: FindAddresses = system_addresses,
    ) -> None:
        self._policy = policy
        self._proxy = proxy
        self._tls = tls or ssl.create_default_context()
        self._lookup = Lookup(find)
        self._pools: dict[Scheme, _Pool] = {}
        self._retired: set[_Pool] = set()
        self._sockets: WeakSet[socket.socket] = WeakSet()
        self._under_way: Counter[str] = Counter()
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def policy(self) -> TargetPolicy:
        """What is permitted now."""
        return self._policy

    @policy.setter
    def policy(self, policy: TargetPolicy) -> None:
        if policy != self._policy:
            self._policy = policy
            self._retired.update(self._pools.values())
            self._pools.clear()

    @property
    def open_connections(self) -> int:
        """Sockets this client holds now, in use or idle."""
        return sum(each.fileno() != -1 for each in self._sockets)

    async def send(self, request: OutboundRequest) -> OutboundResponse:
        """One request, one response. Raises OutboundError, and nothing else that the outside could bring about."""
        if self._closed:
            raise LocalProtocolError("the HTTP client has been closed")
        target = read_target(request.url, self._policy)
        if self._proxy is not None and target.address is None:
            judge_unresolved(target, self._policy)
        _check(request)
        with_place = self._place(target.origin)
        try:
            async with asyncio.timeout(request.deadline_s), with_place, self._pool(target.scheme) as pool:
                return await self._exchange(pool, target, request)
        except TimeoutError:
            problem = f"{target.origin} gave no complete answer within {request.deadline_s:g} s"
            raise OutboundError("timeout", f"{problem}. See why it is slow, or allow it more time") from None

    async def close(self) -> None:
        """Closes all connections; requests under way end with an error."""
        self._closed = True
        self._lookup.close()
        pools = [*self._pools.values(), *self._retired]
        self._pools.clear()
        self._retired.clear()
        for pool in pools:
            await pool.session.close()

    @asynccontextmanager
    async def _place(self, where: str) -> AsyncIterator[None]:
        if self._under_way.total() >= REQUESTS:
            raise OutboundError("busy", f"{REQUESTS} requests to the outside are under way. Try again later")
        if self._under_way[where] >= REQUESTS_PER_HOST:
            raise OutboundError("busy", f"{REQUESTS_PER_HOST} requests wait for {where} already. See why it is slow")
        self._under_way[where] += 1
        try:
            yield
        finally:
            self._under_way[where] -= 1
            if not self._under_way[where]:
                del self._under_way[where]

    @asynccontextmanager
    async def _pool(self, scheme: Scheme) -> AsyncIterator[_Pool]:
        pool = self._pools.get(scheme)
        if pool is None:
            pool = self._pools[scheme] = self._new_pool(scheme)
        pool.users += 1
        try:
            yield pool
        finally:
            pool.users -= 1
            await self._close_retired()

    async def _close_retired(self) -> None:
        for pool in [each for each in self._retired if not each.users]:
            self._retired.discard(pool)
            await pool.session.close()

    def _new_pool(self, scheme: Scheme) -> _Pool:
        judged = None if self._proxy else self._policy
        connector = aiohttp.TCPConnector(
            resolver=JudgingResolver(self._lookup, scheme, judged),
            use_dns_cache=False,
            socket_factory=_SocketMaker(self._sockets, scheme, judged),
            ssl=self._tls,
            limit=0,
            limit_per_host=CONNECTIONS_PER_HOST,
            keepalive_timeout=KEEP_ALIVE_S,
            happy_eyeballs_delay=NEXT_ADDRESS_S,
        )
        session = aiohttp.ClientSession(
            connector=connector,
            request_class=_AbortingRequest,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            requote_redirect_url=False,
            timeout=aiohttp.ClientTimeout(total=None),
            skip_auto_headers=("Accept", "Content-Type"),
            max_line_size=MAX_HEADER_LINE_BYTES,
            max_field_size=MAX_HEADER_LINE_BYTES,
            max_headers=MAX_HEADERS,
        )
        return _Pool(session)

    async def _exchange(self, pool: _Pool, target: Target, request: OutboundRequest) -> OutboundResponse:
        status: int | None = None
        try:
            async with pool.session.request(
                request.method,
                _url(target),
                data=request.body or None,
                headers=self._headers(request),
                allow_redirects=False,
                proxy=self._proxy,
            ) as response:
                status = response.status
                return await _read(response, target, request)
        except OutboundError:
            raise
        except (aiohttp.ClientError, OSError, RuntimeError, ValueError) as error:
            kind, problem = _fault(error)
            # Without the cause: it would carry path, query and headers into a log.
            raise OutboundError(kind, f"{target.origin} {problem}", status) from None

    def _headers(self, request: OutboundRequest) -> dict[str, str]:
        # A body that is not compressed cannot burst.
        headers = {"User-Agent": f"offhook/{__version__}", "Accept": "*/*", "Accept-Encoding": "identity"}
        given = {name.lower() for name in request.headers}
        headers = {name: value for name, value in headers.items() if name.lower() not in given}
        if self.open_connections > CONNECTIONS_KEPT:
            headers["Connection"] = "close"
        return {**headers, **request.headers}


class _Pool:
    """Connections for one scheme, all judged by one policy. ``users``: requests that use it now."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session
        self.users = 0


class _AbortingRequest(aiohttp.ClientRequest):
    """A connection that is given up is cut off. Closed in good manners, it would wait, for up to 30 s, for a receiver
    that does not read to take the rest of the body or the end of TLS; its socket would count for nobody."""

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        transport = conn.transport
        conn.add_callback(partial(_cut_soon, transport))
        return await super().send(conn)


def _cut_soon(transport: asyncio.Transport | None) -> None:
    """After what comes now: the connection is closed, or goes back to its pool."""
    asyncio.get_running_loop().call_soon(_cut, transport)


def _cut(transport: asyncio.Transport | None) -> None:
    if transport is not None and transport.is_closing():
        transport.abort()


class _SocketMaker:
    """Makes every socket this client has, and so judges every address once more, whoever chose it."""

    def __init__(self, sockets: WeakSet[socket.socket], scheme: Scheme, policy: TargetPolicy | None) -> None:
        self._sockets = sockets
        self._scheme: Scheme = scheme
        self._policy = policy

    def __call__(self, where: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, address = where
        if self._policy is not None:
            why = why_refused(ip_address(address[0]), self._scheme, address[1], self._policy)
            if why is not None:
                raise PermissionError(errno.EACCES, f"{address[0]} {why}")
        made = socket.socket(family, kind, protocol)
        self._sockets.add(made)
        return made


def _check(request: OutboundRequest) -> None:
    """Headers and bodies come from what users configured; they are judged here, whoever made them."""
    if request.method not in _METHODS:
        raise _bad_request(f"the method must be one of {', '.join(sorted(_METHODS))}")
    if len(request.body) > MAX_REQUEST_BYTES:
        raise _bad_request(f"the body is {len(request.body)} bytes long; {MAX_REQUEST_BYTES} are allowed. Send less")
    if len(request.headers) > MAX_HEADERS:
        raise _bad_request(f"there are more than {MAX_HEADERS} headers. Leave some out")
    for name, value in request.headers.items():
        if _HEADER_NAME.fullmatch(name) is None:
            raise _bad_request("a header's name holds a character that headers cannot hold. Correct it")
        if name.lower() in _OURS:
            raise _bad_request(f"the header {name} is set by offhook itself. Leave it out")
        if _HEADER_VALUE.fullmatch(value) is None or len(name) + len(value) > MAX_HEADER_LINE_BYTES:
            raise _bad_request(
                f"the value of the header {name} is too long or holds a line break or the like. Correct it"
            )


def _bad_request(problem: str) -> OutboundError:
    return OutboundError("bad_request", f"the request cannot be sent: {problem}")


def _url(target: Target) -> URL:
    """As it was judged, and encoded already: nothing else is to be read into it."""
    url = URL(target.origin + target.path, encoded=True)
    if (url.raw_host, url.port) != (target.host, target.port):
        raise OutboundError("bad_url", "the URL cannot be used: its host can be read in two ways. Write it plainly")
    return url


async def _read(response: aiohttp.ClientResponse, target: Target, request: OutboundRequest) -> OutboundResponse:
    """The body, as long as it is within its limit; a connection whose body is not wanted is closed."""
    try:
        body = await _body(response, target, request)
    except BaseException:
        response.close()
        raise
    headers: dict[str, str] = {}
    for name, value in response.headers.items():
        headers.setdefault(name.lower(), value)
    return OutboundResponse(status=response.status, headers=headers, body=body)


async def _body(response: aiohttp.ClientResponse, target: Target, request: OutboundRequest) -> bytes:
    if response.status == 101:
        raise OutboundError("broken", f"{target.origin} wants to speak another protocol. Check the URL", 101)
    coding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if coding not in ("", "identity") and request.method != "HEAD":
        problem = "compresses its answer although it was asked not to. Turn compression off there"
        raise OutboundError("broken", f"{target.origin} {problem}", response.status)
    limit = request.max_response_bytes
    announced = response.content_length or 0
    body = bytearray()
    if request.method != "HEAD" and announced > limit:
        raise _too_large(target, limit, response.status)
    async for part in response.content.iter_any():
        body += part
        if len(body) > limit:
            raise _too_large(target, limit, response.status)
    return bytes(body)


def _too_large(target: Target, limit: int, status: int) -> OutboundError:
    problem = f"{target.origin} answers with more than {limit} bytes. Let it answer shorter"
    return OutboundError("too_large", problem, status)


def _fault(error: Exception) -> tuple[OutboundFault, str]:
    """What went wrong, in our words only: those of aiohttp name the URL."""
    match error:
        case aiohttp.ClientConnectorCertificateError(certificate_error=ssl.SSLCertVerificationError() as why):
            return "tls", f"has no certificate that we trust: {why.verify_message}. Renew or correct it there"
        case aiohttp.ClientSSLError():
            return "tls", "could not agree on TLS with us. Check that it speaks TLS 1.2 or newer at this port"
        case aiohttp.ClientProxyConnectionError():
            return "unreachable", "was not asked: the forward proxy does not answer. Check security.http_proxy"
        case aiohttp.ClientHttpProxyError():
            kind: OutboundFault = "refused_target" if error.status in (403, 407) else "unreachable"
            return kind, f"was not reached: the forward proxy says {error.status}. See its log"
        case aiohttp.ClientConnectorError(os_error=ConnectionResetError() | ConnectionAbortedError()):
            return "tls", "broke off while TLS was agreed on. Check that it speaks TLS 1.2 or newer at this port"
        case aiohttp.ClientConnectorError():
            return "unreachable", f"cannot be reached: {_reason(error)}. Check that it runs and lets us in"
        case aiohttp.ClientPayloadError():
            return "broken", "broke off in the middle of its answer. See its log"
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError() | OSError():
            return "broken", "closed the connection before it had answered. See its log"
        case _:
            return "broken", "does not answer in HTTP that can be read. Check the URL and what runs there"


def _reason(error: aiohttp.ClientConnectorError) -> str:
    """The system's words: asyncio puts the address in their place. A refusal of our own speaks for itself."""
    if error.errno and error.errno != errno.EACCES:
        return os.strerror(error.errno)
    return error.strerror or "no connection"
