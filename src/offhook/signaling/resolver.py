"""From a hop to the hops to try (RFC 3263): a cache, the order of servers, and the memory of who failed."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from offhook.model.errors import UnreachableError
from offhook.signaling.name_service import NameService, NameServiceError, is_ip_literal
from offhook.signaling.server_location import Domain, Route, locate
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

STALE_WAIT_S = 1.8
"""RFC 8767 §5: so long the nameservers may take while an old answer is at hand."""

STALE_AGAIN_S = 30.0
"""RFC 8767 §5: how long a stale answer is used before they are asked again."""

FAILED_S = 30.0
"""A server that failed comes last for so long (RFC 3263 §4.3)."""

FAILED_SERVERS = 256

_log = logging.getLogger("offhook.sip")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Known:
    """``good_until``: until when the routes may be used though they are old. ``stale``: they are, and it is logged."""

    routes: tuple[Route, ...]
    problem: str
    until: float
    good_until: float
    stale: bool = False


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
        self._known: OrderedDict[Domain, _Known] = OrderedDict()
        self._asking: dict[Domain, asyncio.Task[_Known]] = {}
        self._failed: OrderedDict[tuple[Transport, Address], float] = OrderedDict()
        self.names = NameService(loop, nameservers)

    async def resolve(self, hop: Hop, choices: tuple[Transport, ...] = ()) -> tuple[Hop, ...]:
        """The hops to try, best first, each with an IP literal as host and a port.

        ``choices``: the transports DNS may choose from, best first, where the URI named none; then a name without a
        port is asked for NAPTR. Raises ``UnreachableError``.
        """
        at_once = self.resolved(hop, choices)
        if at_once is not None:
            return at_once
        return self._hops(hop, await self._wait_for(_domain(hop, choices)))

    def resolved(self, hop: Hop, choices: tuple[Transport, ...] = ()) -> tuple[Hop, ...] | None:
        """The same without waiting: None when a name must be asked for. Raises ``UnreachableError``."""
        if is_ip_literal(hop.host):
            return (hop if hop.port else replace(hop, port=DEFAULT_PORTS[hop.transport]),)
        domain = _domain(hop, choices)
        known = self._known.get(domain)
        if known is None or known.until < time.monotonic():
            return None
        self._known.move_to_end(domain)
        return self._hops(hop, known)

    def mark_failed(self, hop: Hop) -> None:
        """It did not answer: for a while it comes last."""
        self._failed.pop(_server(hop), None)
        while len(self._failed) >= FAILED_SERVERS:
            self._failed.popitem(last=False)
        self._failed[_server(hop)] = time.monotonic() + FAILED_S

    def mark_working(self, hop: Hop) -> None:
        self._failed.pop(_server(hop), None)

    def forget(self, host: str) -> None:
        """Ask for ``host`` anew next time: what we know did not lead there."""
        name = _canonical(host)
        for domain, known in self._known.items():
            if domain.host == name:
                self._known[domain] = replace(known, until=0.0)

    async def close(self) -> None:
        asking = list(self._asking.values())
        for lookup in asking:
            lookup.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    # ── asking ───────────────────────────────────────────────────────────────────────────────────────────

    def _ask(self, domain: Domain) -> asyncio.Task[_Known]:
        lookup = self._asking.get(domain)
        if lookup is None:
            if len(self._asking) >= WAITING_LOOKUPS:
                raise UnreachableError(f"{domain.host}: {WAITING_LOOKUPS} other names are being looked up")
            lookup = self._loop.create_task(self._look_up(domain))
            self._asking[domain] = lookup
            lookup.add_done_callback(lambda _: self._asking.pop(domain, None))
        return lookup

    async def _wait_for(self, domain: Domain) -> _Known:
        lookup = self._ask(domain)
        patience_s = STALE_WAIT_S if self._usable(domain) else LOOKUP_DEADLINE_S
        try:
            return await asyncio.wait_for(asyncio.shield(lookup), patience_s)
        except TimeoutError:
            problem, old = f"no answer from DNS in {patience_s:g} s", self._usable(domain)
            if old is None:
                raise UnreachableError(f"{domain.host}: {self._explain(domain, problem)}") from None
            self._known[domain] = self._stale(domain, old, problem)
            return self._known[domain]
        except asyncio.CancelledError:
            if not lookup.cancelled() or _is_cancelled():
                raise
            raise UnreachableError(f"{domain.host}: no more names are looked up") from None

    async def _look_up(self, domain: Domain) -> _Known:
        """Ask to the end, however long it takes: a slot is free again when its thread is."""
        known = await self._locate(domain)
        self._known.pop(domain, None)
        while len(self._known) >= CACHE_NAMES:
            self._known.popitem(last=False)
        self._known[domain] = known
        return known

    async def _locate(self, domain: Domain) -> _Known:
        try:
            located = await locate(self.names, domain)
        except NameServiceError as error:
            old = None if error.absent else self._usable(domain)
            if old is not None:
                return self._stale(domain, old, error.problem)
            problem = self._explain(domain, error.problem, error)
            return _Known(routes=(), problem=problem, until=time.monotonic() + error.ttl_s, good_until=0.0)
        old = self._usable(domain)
        if located.doubt is not None and old is not None:
            return self._stale(domain, old, located.doubt.problem)
        now = time.monotonic()
        return _Known(
            routes=located.routes, problem="", until=now + located.life_s, good_until=now + located.life_s + STALE_S
        )

    def _usable(self, domain: Domain) -> _Known | None:
        """What was known, for when nobody can say otherwise (RFC 8767)."""
        old = self._known.get(domain)
        return None if old is None or old.good_until < time.monotonic() else old

    def _stale(self, domain: Domain, old: _Known, problem: str) -> _Known:
        if not old.stale:
            _log.warning("DNS: %s: %s; what was known before is used", domain.host, problem)
        return replace(old, until=time.monotonic() + STALE_AGAIN_S, stale=True)

    def _explain(self, domain: Domain, problem: str, error: NameServiceError | None = None) -> str:
        """What was asked of whom, and what to do."""
        fix = "check sip.nameservers" if self.names.configured else "check the nameservers in /etc/resolv.conf"
        if error is not None and error.absent:
            fix = error.fix or "is the name right?"
        return f"{problem} ({domain.asked} asked of {self.names.servers}); {fix}"

    # ── ordering ─────────────────────────────────────────────────────────────────────────────────────────

    def _hops(self, hop: Hop, known: _Known) -> tuple[Hop, ...]:
        """In the order to try. Raises ``UnreachableError`` where there are none."""
        certified = hop.server_name or hop.host.removesuffix(".")
        hops = [
            Hop(
                transport=route.transport,
                host=host,
                port=route.port,
                server_name=certified if route.transport == "TLS" else hop.server_name,
            )
            for route in self._weighted(known.routes)
            for host in route.hosts
        ]
        if not hops:
            raise UnreachableError(f"{hop.host}: {known.problem or 'no address'}")
        if self._failed:
            now = time.monotonic()
            hops.sort(key=lambda one: self._failed.get(_server(one), 0.0) > now)
        return tuple(hops)

    def _weighted(self, routes: Sequence[Route]) -> list[Route]:
        """RFC 2782: by rank; within one, at random by weight."""
        ordered: list[Route] = []
        waiting = sorted(routes, key=lambda route: (route.rank, route.weight > 0))
        while waiting:
            tier = [route for route in waiting if route.rank == waiting[0].rank]
            chosen = self._choose(tier)
            ordered.append(chosen)
            waiting.remove(chosen)
        return ordered

    def _choose(self, tier: list[Route]) -> Route:
        total = sum(route.weight for route in tier)
        if total == 0:  # their owner has no preference
            return tier[int(self._fraction() * len(tier))]
        point = self._fraction() * total
        for route in tier:
            point -= route.weight
            if point < 0:
                return route
        return tier[0]


def _server(hop: Hop) -> tuple[Transport, Address]:
    """What fails or works: TCP that is refused says nothing of UDP on the same port."""
    return (hop.transport, Address(hop.host, hop.port))


def _domain(hop: Hop, choices: tuple[Transport, ...]) -> Domain:
    return Domain(
        host=_canonical(hop.host), port=hop.port, transport=hop.transport, choices=() if hop.port else choices
    )


def _canonical(host: str) -> str:
    return host.lower().removesuffix(".")


def _is_cancelled() -> bool:
    """Whether it is the running task that is to end, and not what it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
