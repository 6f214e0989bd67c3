"""From a hop to the hops to try (RFC 3263): NAPTR and SRV, addresses, a cache, and the memory of who failed."""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from offhook.model.errors import UnreachableError
from offhook.signaling.name_service import NEGATIVE_TTL_S, NameService, NameServiceError, Pointer, Service
from offhook.sip.events import Address, Hop, Transport
from offhook.sip.routing import DEFAULT_PORTS

CACHE_NAMES = 1024
"""Names come from peers' Contact headers too: the oldest goes when one more comes."""

LOOKUP_DEADLINE_S = 5.0
"""A resolver's own time-outs reach 30 s; by then timer B (32 s) has ended the transaction anyway."""

WAITING_LOOKUPS = 64
"""More names than this at once is a flood of them; the rest is refused at once."""

STALE_S = 86_400.0
"""RFC 8767: while the nameservers fail, what they said last holds for a day."""

STALE_AGAIN_S = 30.0
"""RFC 8767 §5: how long a stale answer is used before they are asked again."""

FAILED_S = 30.0
"""A server that failed comes last for so long (RFC 3263 §4.3)."""

FAILED_SERVERS = 256

_SERVICE_NAMES = {"TLS": "_sips._tcp", "TCP": "_sip._tcp", "UDP": "_sip._udp"}
_POINTER_SERVICES: dict[str, Transport] = {"SIPS+D2T": "TLS", "SIP+D2T": "TCP", "SIP+D2U": "UDP"}
"""RFC 3263 §4.1."""

_log = logging.getLogger("offhook.sip")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Route:
    """One server: lower ``rank`` first; among equals ``weight`` is its share (RFC 2782)."""

    rank: tuple[int, int]
    weight: int
    transport: Transport
    port: int
    hosts: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Known:
    routes: tuple[_Route, ...]
    problem: str
    until: float
    good_until: float
    """Until when it may be used though it is old."""


_Question = tuple[str, int, Transport, tuple[Transport, ...]]


class Resolver:
    """Finds the addresses of hops. One per endpoint, used from its event loop only.

    ``fraction`` gives random numbers in [0, 1).
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        nameservers: Sequence[str] = (),
        fraction: Callable[[], float] = random.random,
    ) -> None:
        self._loop = loop
        self._fraction = fraction
        self._known: OrderedDict[_Question, _Known] = OrderedDict()
        self._asking: dict[_Question, asyncio.Task[_Known]] = {}
        self._failed: OrderedDict[Address, float] = OrderedDict()
        self.names = NameService(loop, nameservers)

    async def resolve(self, hop: Hop, choices: tuple[Transport, ...] = ()) -> tuple[Hop, ...]:
        """The hops to try, best first, each with an IP literal as host and a port.

        ``choices``: the transports DNS may choose from, best first, where the URI named none; then a name without a
        port is asked for NAPTR. Raises ``UnreachableError``.
        """
        at_once = self.resolved(hop, choices)
        if at_once is not None:
            return at_once
        lookup = self._ask(_question(hop, choices))
        try:
            known = await asyncio.wait_for(asyncio.shield(lookup), LOOKUP_DEADLINE_S)
        except TimeoutError:
            raise UnreachableError(f"{hop.host}: no answer from DNS in {LOOKUP_DEADLINE_S:g} s") from None
        return self._hops(hop, known)

    def resolved(self, hop: Hop, choices: tuple[Transport, ...] = ()) -> tuple[Hop, ...] | None:
        """The same without waiting: None when a name must be asked for. Raises ``UnreachableError``."""
        if is_ip_literal(hop.host):
            return (hop if hop.port else replace(hop, port=DEFAULT_PORTS[hop.transport]),)
        known = self._known.get(_question(hop, choices))
        if known is None or known.until < time.monotonic():
            return None
        return self._hops(hop, known)

    def mark_failed(self, address: Address) -> None:
        """It did not answer: for a while it comes last."""
        self._failed.pop(address, None)
        while len(self._failed) >= FAILED_SERVERS:
            self._failed.popitem(last=False)
        self._failed[address] = time.monotonic() + FAILED_S

    def mark_working(self, address: Address) -> None:
        self._failed.pop(address, None)

    def forget(self, host: str) -> None:
        """Ask for ``host`` anew next time: what we know did not lead there."""
        for question in [one for one in self._known if one[0] == host]:
            known = self._known[question]
            self._known[question] = replace(known, until=0.0)

    async def close(self) -> None:
        asking = list(self._asking.values())
        for lookup in asking:
            lookup.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    # ── asking ───────────────────────────────────────────────────────────────────────────────────────────

    def _ask(self, question: _Question) -> asyncio.Task[_Known]:
        lookup = self._asking.get(question)
        if lookup is None:
            if len(self._asking) >= WAITING_LOOKUPS:
                raise UnreachableError(f"{question[0]}: {WAITING_LOOKUPS} other names are being looked up")
            lookup = self._loop.create_task(self._look_up(question))
            self._asking[question] = lookup
            lookup.add_done_callback(lambda _: self._asking.pop(question, None))
        return lookup

    async def _look_up(self, question: _Question) -> _Known:
        """Ask to the end, however long it takes: a slot is free again when its thread is."""
        now = time.monotonic()
        try:
            routes, life = await self._locate(*question)
            known = _Known(routes=routes, problem="", until=now + life, good_until=now + life + STALE_S)
        except NameServiceError as error:
            known = self._stale(question, error, now) or _Known(
                routes=(), problem=error.problem, until=time.monotonic() + error.ttl_s, good_until=0.0
            )
        self._known.pop(question, None)
        while len(self._known) >= CACHE_NAMES:
            self._known.popitem(last=False)
        self._known[question] = known
        return known

    def _stale(self, question: _Question, error: NameServiceError, now: float) -> _Known | None:
        """What was known, where nobody can say otherwise (RFC 8767)."""
        old = self._known.get(question)
        if error.absent or old is None or old.good_until < now:
            return None
        _log.warning("DNS: %s: %s; what was known before is used", question[0], error.problem)
        return replace(old, until=now + STALE_AGAIN_S)

    async def _locate(
        self, host: str, port: int, transport: Transport, choices: tuple[Transport, ...]
    ) -> tuple[tuple[_Route, ...], float]:
        """RFC 3263 §4.1 and §4.2: which servers, by which transport. Raises ``NameServiceError``."""
        if port:
            hosts, life = await self.names.addresses(host)
            return (_Route(rank=(0, 0), weight=0, transport=transport, port=port, hosts=hosts),), life
        routes, life = await self._by_services(await self._service_names(host, transport, choices))
        if routes:
            return routes, life
        hosts, life = await self.names.addresses(host)
        return (_Route(rank=(0, 0), weight=0, transport=transport, port=DEFAULT_PORTS[transport], hosts=hosts),), life

    async def _service_names(
        self, host: str, transport: Transport, choices: tuple[Transport, ...]
    ) -> list[tuple[Transport, str]]:
        if choices:
            pointers = await self._pointers(host, choices)
            if pointers:
                return pointers
        return [(one, f"{_SERVICE_NAMES[one]}.{host}") for one in choices or (transport,)]

    async def _pointers(self, host: str, choices: tuple[Transport, ...]) -> list[tuple[Transport, str]]:
        try:
            found, _ = await self.names.pointers(host)
        except NameServiceError:
            return []  # no NAPTR is the rule, and who cannot ask for it asks for SRV

        def wanted(pointer: Pointer) -> bool:
            return _POINTER_SERVICES.get(pointer.service) in choices and bool(pointer.replacement)

        ordered = sorted(filter(wanted, found), key=lambda one: (one.order, one.preference))
        return [(_POINTER_SERVICES[one.service], one.replacement) for one in ordered]

    async def _by_services(self, names: list[tuple[Transport, str]]) -> tuple[tuple[_Route, ...], float]:
        """The routes of every SRV name; none where there are no such records. Raises ``NameServiceError``."""
        answers = await asyncio.gather(*(self._services(name) for _, name in names))
        life = min((one[1] for one in answers if one[0]), default=NEGATIVE_TTL_S)
        if answers and all(one[0] and not any(service.target for service in one[0]) for one in answers):
            raise NameServiceError('SRV says "." : this service is decidedly not available there', absent=True)
        services = [
            (place, transport, service)
            for place, ((transport, _), (found, _)) in enumerate(zip(names, answers, strict=True))
            for service in found
            if service.target
        ]
        targets = list(dict.fromkeys(service.target for *_, service in services))
        found = await asyncio.gather(*(self.names.addresses(target) for target in targets), return_exceptions=True)
        hosts: dict[str, tuple[str, ...]] = {}
        problem: NameServiceError | None = None
        for target, one in zip(targets, found, strict=True):
            if isinstance(one, NameServiceError):
                problem = NameServiceError(f"SRV target {target}: {one.problem}", absent=one.absent)
            elif isinstance(one, BaseException):
                raise one
            else:
                hosts[target], life = one[0], min(life, one[1])
        if problem is not None and not hosts:
            raise problem
        return tuple(_routes(services, hosts)), life

    async def _services(self, name: str) -> tuple[tuple[Service, ...], float]:
        try:
            return await self.names.services(name)
        except NameServiceError as error:
            if not error.absent:
                raise
            return (), error.ttl_s

    # ── ordering ─────────────────────────────────────────────────────────────────────────────────────────

    def _hops(self, hop: Hop, known: _Known) -> tuple[Hop, ...]:
        """In the order to try. Raises ``UnreachableError`` where there are none."""
        hops = [
            Hop(
                transport=route.transport,
                host=host,
                port=route.port,
                server_name=(hop.server_name or hop.host) if route.transport == "TLS" else hop.server_name,
            )
            for route in self._weighted(known.routes)
            for host in route.hosts
        ]
        if not hops:
            raise UnreachableError(f"{hop.host}: {known.problem or 'no address'}")
        if self._failed:
            now = time.monotonic()
            hops.sort(key=lambda one: self._failed.get(Address(one.host, one.port), 0.0) > now)
        return tuple(hops)

    def _weighted(self, routes: Sequence[_Route]) -> list[_Route]:
        """RFC 2782: by rank; within one, at random by weight."""
        ordered: list[_Route] = []
        waiting = sorted(routes, key=lambda route: (route.rank, route.weight > 0))
        while waiting:
            tier = [route for route in waiting if route.rank == waiting[0].rank]
            chosen = self._choose(tier)
            ordered.append(chosen)
            waiting.remove(chosen)
        return ordered

    def _choose(self, tier: list[_Route]) -> _Route:
        point = self._fraction() * sum(route.weight for route in tier)
        for route in tier:
            point -= route.weight
            if point < 0:
                return route
        return tier[0]


def _routes(services: Iterable[tuple[int, Transport, Service]], hosts: dict[str, tuple[str, ...]]) -> Iterable[_Route]:
    for place, transport, service in services:
        if service.target in hosts:
            yield _Route(
                rank=(place, service.priority),
                weight=service.weight,
                transport=transport,
                port=service.port,
                hosts=hosts[service.target],
            )


def _question(hop: Hop, choices: tuple[Transport, ...]) -> _Question:
    if hop.port:
        return (hop.host, hop.port, hop.transport, ())
    return (hop.host, 0, hop.transport, choices)


def is_ip_literal(host: str) -> bool:
    """True for an IPv4 or IPv6 address (with or without zone), as ``Address.host`` always is."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.inet_pton(family, host.partition("%")[0])
    except (OSError, ValueError):  # ValueError: a NUL inside
        return False
    return True
