"""From a hop's host to addresses: IP literals at once, names in a thread, with a cache.

This is where RFC 3263 (NAPTR, SRV) takes its place: ``resolve`` already gives an ordered list of hops, each
with its own transport and port.
"""

from __future__ import annotations

import asyncio
import socket
import time
from dataclasses import dataclass, replace

from offhook.model.errors import UnreachableError
from offhook.sip.events import Hop

ANSWER_TTL_S = 60.0
"""getaddrinfo gives no TTL; a minute keeps up with a carrier that moves, and off the DNS in between."""

FAILURE_TTL_S = 5.0
"""A name that failed is asked again soon, but not once for every retransmission."""

CACHE_NAMES = 1024
"""Names come from peers' Contact headers too: the oldest goes when one more comes."""

LOOKUP_DEADLINE_S = 5.0
"""A resolver's own time-outs reach 30 s; by then timer B (32 s) has ended the transaction anyway."""

CONCURRENT_LOOKUPS = 4
"""getaddrinfo blocks a thread of the loop's pool, which others use too: slow names take no more of it."""

WAITING_LOOKUPS = 64
"""More names than this at once is a flood of them; the rest is refused at once."""


@dataclass(frozen=True, slots=True)
class _Known:
    hosts: tuple[str, ...]
    problem: str
    until: float


class Resolver:
    """Finds the addresses of hops. One per endpoint, used from its event loop only."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._known: dict[str, _Known] = {}
        self._asking: dict[str, asyncio.Task[_Known]] = {}
        self._slots = asyncio.Semaphore(CONCURRENT_LOOKUPS)

    async def resolve(self, hop: Hop) -> tuple[Hop, ...]:
        """The hops to try, best first, each with an IP literal as host. Raises ``UnreachableError``."""
        at_once = self.resolved(hop)
        if at_once is not None:
            return at_once
        lookup = self._ask(hop.host)
        try:
            known = await asyncio.wait_for(asyncio.shield(lookup), LOOKUP_DEADLINE_S)
        except TimeoutError:
            raise UnreachableError(f"{hop.host}: no answer from DNS in {LOOKUP_DEADLINE_S:g} s") from None
        return _hops(hop, known)

    def resolved(self, hop: Hop) -> tuple[Hop, ...] | None:
        """The same without waiting: None when a name must be asked for. Raises ``UnreachableError``."""
        if is_ip_literal(hop.host):
            return (hop,)
        known = self._known.get(hop.host)
        if known is None or known.until < time.monotonic():
            return None
        return _hops(hop, known)

    async def close(self) -> None:
        asking = list(self._asking.values())
        for lookup in asking:
            lookup.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    def _ask(self, name: str) -> asyncio.Task[_Known]:
        lookup = self._asking.get(name)
        if lookup is None:
            if len(self._asking) >= WAITING_LOOKUPS:
                raise UnreachableError(f"{name}: {WAITING_LOOKUPS} other names are being looked up")
            lookup = self._loop.create_task(self._look_up(name))
            self._asking[name] = lookup
            lookup.add_done_callback(lambda _: self._asking.pop(name, None))
        return lookup

    async def _look_up(self, name: str) -> _Known:
        """Ask to the end, however long it takes: a slot is free again when its thread is."""
        try:
            async with self._slots:
                found = await self._loop.getaddrinfo(name, None, type=socket.SOCK_DGRAM)
            hosts = tuple(dict.fromkeys(str(address[0]) for *_, address in found))
            known = _Known(hosts, "", time.monotonic() + ANSWER_TTL_S)
        except (OSError, UnicodeError) as error:  # UnicodeError: a name IDNA cannot encode
            known = _failure(getattr(error, "strerror", None) or str(error))
        self._remember(name, known)
        return known

    def _remember(self, name: str, known: _Known) -> None:
        self._known.pop(name, None)
        while len(self._known) >= CACHE_NAMES:
            del self._known[next(iter(self._known))]
        self._known[name] = known


def is_ip_literal(host: str) -> bool:
    """True for an IPv4 or IPv6 address (with or without zone), as ``Address.host`` always is."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.inet_pton(family, host.partition("%")[0])
    except (OSError, ValueError):  # ValueError: a NUL inside
        return False
    return True


def _hops(hop: Hop, known: _Known) -> tuple[Hop, ...]:
    if not known.hosts:
        raise UnreachableError(f"{hop.host}: {known.problem or 'no address'}")
    return tuple(replace(hop, host=host) for host in known.hosts)


def _failure(problem: str) -> _Known:
    return _Known((), problem, time.monotonic() + FAILURE_TTL_S)
