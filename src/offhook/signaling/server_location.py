"""Where a domain's SIP servers are (RFC 3263 §4.1 and §4.2): NAPTR, SRV, addresses.

NAPTR and SRV are asked for at once: few domains have NAPTR, and some firewalls drop it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from offhook.signaling.name_service import (
    TTL_MAX_S,
    UNSURE_S,
    NameService,
    NameServiceError,
    Pointer,
    Service,
    is_ip_literal,
)
from offhook.sip.events import Transport
from offhook.sip.routing import DEFAULT_PORTS

POINTERS_FOLLOWED = 6
"""Of one domain: two for each transport. Anybody's domain may say more, and each costs an SRV question."""

TARGETS_ASKED = 16
"""Servers of one domain, best first: more are not tried for one call, and each costs two questions."""

_SERVICE_NAMES = {"TLS": "_sips._tcp", "TCP": "_sip._tcp", "UDP": "_sip._udp"}
_POINTER_SERVICES: dict[str, Transport] = {"SIPS+D2T": "TLS", "SIP+D2T": "TCP", "SIP+D2U": "UDP"}
"""RFC 3263 §4.1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """One server: lower ``rank`` first; among equals ``weight`` is its share (RFC 2782)."""

    rank: tuple[int, int]
    weight: int
    transport: Transport
    port: int
    hosts: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Located:
    """The routes and how long they hold.

    ``doubt``: why they are only the next best: nobody could say whether there are SRV records.
    """

    routes: tuple[Route, ...]
    life_s: float
    doubt: NameServiceError | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Offer:
    """What SRV says of one transport. ``problem``: nobody could say."""

    transport: Transport
    services: tuple[Service, ...] = ()
    life_s: float = TTL_MAX_S
    problem: NameServiceError | None = None

    @property
    def refused(self) -> bool:
        """RFC 2782: the target "." says that the service is decidedly not available."""
        return bool(self.services) and not any(one.target for one in self.services)


@dataclass(frozen=True, kw_only=True, slots=True)
class Domain:
    """What is asked: ``port`` 0: none was given; ``choices``: the transports DNS may choose from, best first."""

    host: str
    port: int
    transport: Transport
    choices: tuple[Transport, ...] = ()

    @property
    def asked(self) -> str:
        """The record types, in words."""
        if self.port:
            return "A and AAAA"
        return "NAPTR, SRV, A and AAAA" if self.choices else "SRV, A and AAAA"


async def locate(names: NameService, domain: Domain) -> Located:
    """Every server of ``domain``, in no order within a rank. Raises ``NameServiceError``."""
    if domain.port or not _may_have_services(names, domain.host):
        return await _by_address(names, domain.host, domain.port, domain.transport)
    offers, pointed, life_s = await _offers(names, domain)
    records = [
        (place, offer.transport, one) for place, offer in enumerate(offers) for one in offer.services if one.target
    ]
    if records:
        life_s = min([life_s, *(one.life_s if one.problem is None else UNSURE_S for one in offers)])
        return await _by_services(names, records, life_s)
    left = [one.transport for one in offers if not one.refused]
    if not left:
        raise NameServiceError(
            'SRV says "." : this service is decidedly not available there', absent=True, fix="try another transport"
        )
    # A domain that points to TLS is not fallen back to UDP on.
    transport = domain.transport if domain.transport in left and not pointed else left[0]
    doubt = next((one.problem for one in offers if one.problem is not None), None)
    try:
        found = await _by_address(names, domain.host, 0, transport)
    except NameServiceError as error:
        raise doubt or error from None
    if doubt is None:
        return found
    return Located(routes=found.routes, life_s=min(found.life_s, UNSURE_S), doubt=doubt)


def _may_have_services(names: NameService, host: str) -> bool:
    """Of names without a dot only the machine knows: /etc/hosts, Docker. Their SRV would be asked of the Internet."""
    return names.configured or "." in host


async def _by_address(names: NameService, host: str, port: int, transport: Transport) -> Located:
    hosts, life_s = await names.addresses(host)
    route = Route(rank=(0, 0), weight=0, transport=transport, port=port or DEFAULT_PORTS[transport], hosts=hosts)
    return Located(routes=(route,), life_s=life_s)


async def _offers(names: NameService, domain: Domain) -> tuple[list[_Offer], bool, float]:
    """(What SRV says, best transport first; whether NAPTR named them; how long NAPTR's part holds)."""
    usual = [(one, f"{_SERVICE_NAMES[one]}.{domain.host}") for one in domain.choices or (domain.transport,)]
    (pointers, life_s), offers = await asyncio.gather(_pointers(names, domain), _each_offer(names, usual))
    if not pointers:
        return offers, False, life_s
    known = dict(zip(usual, offers, strict=True))
    more = [one for one in pointers if one not in known]
    known.update(zip(more, await _each_offer(names, more), strict=True))
    return [known[one] for one in pointers], True, life_s


async def _pointers(names: NameService, domain: Domain) -> tuple[list[tuple[Transport, str]], float]:
    """NAPTR: the SRV names of the transports allowed, best first. None is the rule."""
    if not domain.choices:
        return [], TTL_MAX_S
    try:
        found, life_s = await names.pointers(domain.host)
    except NameServiceError as error:
        return [], TTL_MAX_S if error.absent else UNSURE_S

    def wanted(pointer: Pointer) -> bool:
        return _POINTER_SERVICES.get(pointer.service) in domain.choices and bool(pointer.replacement)

    ordered = sorted(filter(wanted, found), key=lambda one: (one.order, one.preference))
    names_of_services = dict.fromkeys((_POINTER_SERVICES[one.service], one.replacement) for one in ordered)
    return list(names_of_services)[:POINTERS_FOLLOWED], life_s


async def _each_offer(names: NameService, asked: Sequence[tuple[Transport, str]]) -> list[_Offer]:
    return list(await asyncio.gather(*(_offer(names, transport, name) for transport, name in asked)))


async def _offer(names: NameService, transport: Transport, name: str) -> _Offer:
    try:
        services, life_s = await names.services(name)
    except NameServiceError as error:
        return _Offer(transport=transport, problem=None if error.absent else error)
    return _Offer(transport=transport, services=services, life_s=life_s)


async def _by_services(names: NameService, records: Sequence[tuple[int, Transport, Service]], life_s: float) -> Located:
    """Raises ``NameServiceError`` where no target has an address."""
    ordered = sorted(records, key=lambda one: (one[0], one[2].priority))
    targets = list(dict.fromkeys(service.target for *_, service in ordered))[:TARGETS_ASKED]
    found = await asyncio.gather(*(_hosts(names, one) for one in targets), return_exceptions=True)
    hosts: dict[str, tuple[str, ...]] = {}
    problems: list[NameServiceError] = []
    for target, one in zip(targets, found, strict=True):
        if isinstance(one, NameServiceError):
            problems.append(NameServiceError(f"SRV target {target}: {one.problem}", absent=one.absent))
        elif isinstance(one, BaseException):
            raise one
        else:
            hosts[target], life_s = one[0], min(life_s, one[1])
    if not hosts:
        raise next((one for one in problems if not one.absent), problems[0])
    routes = tuple(
        Route(
            rank=(place, service.priority),
            weight=service.weight,
            transport=transport,
            port=service.port,
            hosts=hosts[service.target],
        )
        for place, transport, service in ordered
        if service.target in hosts
    )
    return Located(routes=routes, life_s=min(life_s, UNSURE_S) if problems else life_s)


async def _hosts(names: NameService, target: str) -> tuple[tuple[str, ...], float]:
    """RFC 2782 wants a name; who writes an address there means it."""
    return ((target,), TTL_MAX_S) if is_ip_literal(target) else await names.addresses(target)
