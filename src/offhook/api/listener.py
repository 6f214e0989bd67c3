"""Where the HTTP server listens: on loopback while nobody has made a key, and everywhere from then on."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from aiohttp import web

from offhook.model.errors import ConfigError, ListenError

LOOPBACK = ("127.0.0.1", "::1")
EVERYWHERE = ("0.0.0.0", "::")

BACKLOG = 256
"""Connections that wait to be accepted: more than come within one lag of the event loop."""

SHUTDOWN_S = 5.0
"""For requests that are being answered when the server stops. Streams end by themselves before."""

_log = logging.getLogger("offhook.api")


@dataclass(frozen=True, kw_only=True, slots=True)
class Where:
    """``host`` "": loopback without keys, every address with them. ``port`` 0: a free one."""

    host: str = ""
    port: int = 0
    allow_anonymous: bool = False

    def hosts(self, *, has_keys: bool) -> tuple[str, ...]:
        """The addresses to listen on. Raises ``ConfigError``: others could come in, and need no key."""
        if not self.host:
            return EVERYWHERE if has_keys else LOOPBACK
        if not has_keys and not self.allow_anonymous and not _is_loopback(self.host):
            fix = "Make a key with `offhook keys create`, or leave http.host out, or set security.allow_anonymous"
            raise ConfigError("http.host", f"{self.host} can be reached by others, and no API key exists", fix)
        return (self.host,)


class HttpListener:
    """Listens for ``app``. Connections that are open stay so when the addresses change."""

    def __init__(self, app: web.Application, where: Where) -> None:
        self._where = where
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_S, handle_signals=False)
        self._servers: list[asyncio.Server] = []
        self._hosts: tuple[str, ...] = ()
        self._port = where.port
        self._turn = asyncio.Lock()

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """(host, port) of every socket."""
        return tuple(one.getsockname()[:2] for server in self._servers for one in server.sockets)

    @property
    def port(self) -> int:
        """The one in use once it listens."""
        return self._port

    async def start(self, *, has_keys: bool) -> None:
        """Raises ``ConfigError`` or ``ListenError``; then nothing is open."""
        hosts = self._where.hosts(has_keys=has_keys)
        await self._runner.setup()
        try:
            await self._listen(hosts)
        except ListenError:
            await self.close()
            raise

    async def keys_changed(self, *, has_keys: bool) -> None:
        """Listen where one listens with keys, or without. What cannot be opened is logged, and nothing changes."""
        async with self._turn:
            if self._where.host:
                return  # it was said where
            before, hosts = self._hosts, self._where.hosts(has_keys=has_keys)
            if hosts == before:
                return
            self._stop_listening()  # first: 0.0.0.0 and 127.0.0.1 cannot have one port at the same time
            try:
                await self._listen(hosts)
            except ListenError as error:
                _log.error("the HTTP server stays on %s: %s", " and ".join(before), error)
                await self._listen(before)
            _log.info("the HTTP server listens on %s, port %d", " and ".join(self._hosts), self._port)

    async def close(self) -> None:
        """Take no more connections, end streams, let requests finish for ``SHUTDOWN_S``."""
        self._stop_listening()
        await self._runner.cleanup()

    async def _listen(self, hosts: Sequence[str]) -> None:
        """Raises ``ListenError``. A machine without IPv6 listens on the other one alone."""
        server = self._runner.server
        assert server is not None
        opened: list[asyncio.Server] = []
        for one in await _sockets(hosts, self._port):
            opened.append(await asyncio.get_running_loop().create_server(server, sock=one, backlog=BACKLOG))
            self._port = one.getsockname()[1]
        self._servers, self._hosts = opened, tuple(hosts)

    def _stop_listening(self) -> None:
        for server in self._servers:
            server.close()
        self._servers = []


async def _sockets(hosts: Sequence[str], port: int) -> list[socket.socket]:
    """Bound, on one port. Raises ``ListenError``."""
    opened: list[socket.socket] = []
    try:
        for host in hosts:
            try:
                opened.append(await _socket(host, port or (opened[0].getsockname()[1] if opened else 0)))
            except OSError as error:
                if not opened or error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                    raise _refused(host, port, error) from None
    except ListenError:
        for one in opened:
            one.close()
        raise
    return opened


async def _socket(host: str, port: int) -> socket.socket:
    """Raises ``OSError``."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    family, kind, protocol, _, address = found[0]
    opened = socket.socket(family, kind, protocol)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.bind(address)
    except OSError:
        opened.close()
        raise
    opened.setblocking(False)
    return opened


def _refused(host: str, port: int, error: OSError) -> ListenError:
    fix = "Set http.port to another one, or http.host to an address of this machine"
    return ListenError(f"{host} port {port} (HTTP)", error.strerror or str(error), fix)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
