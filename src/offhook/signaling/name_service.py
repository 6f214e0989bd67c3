"""Questions to DNS, off the loop's time: addresses, SRV and NAPTR records, each with its life and its failure in words.

Without nameservers of our own, addresses come from the system (so that /etc/hosts and Docker's names count), and the
other records from the servers the system names.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import dns.asyncbackend
import dns.asyncresolver
import dns.exception
import dns.message
import dns.name
import dns.nameserver
import dns.rdataclass
import dns.rdatatype
import dns.resolver
from dns.rdtypes.IN.A import A
from dns.rdtypes.IN.AAAA import AAAA
from dns.rdtypes.IN.NAPTR import NAPTR
from dns.rdtypes.IN.SRV import SRV

LIFETIME_S = 4.0
"""For one question, all servers and repetitions together; the caller waits meanwhile."""

TRY_S = 1.0
"""For one server to answer: a dead first server must leave time for the second."""

SYSTEM_TTL_S = 60.0
"""getaddrinfo gives no TTL; a minute keeps up with a carrier that moves, and off the DNS in between."""

TTL_MIN_S, TTL_MAX_S = 5.0, 3600.0
"""Some names say 0 and would be asked for at every call; some say a week and then move."""

NEGATIVE_TTL_S, NEGATIVE_TTL_MAX_S = 5.0, 60.0
"""A name that failed is asked again soon, but not once for every retransmission (RFC 2308 §5 for the upper bound)."""

SLOW_LOOKUPS = 4
"""getaddrinfo blocks a thread of the loop's pool, which others use too: slow names take no more of it."""

RECORDS_READ = 32
"""Of one answer: more servers than any carrier has."""

JOURNAL = 50


class NameServiceError(Exception):
    """No answer of use. ``absent``: the server says that there is none; otherwise nobody could say."""

    def __init__(self, problem: str, *, absent: bool, ttl_s: float = NEGATIVE_TTL_S) -> None:
        super().__init__(problem)
        self.problem = problem
        self.absent = absent
        self.ttl_s = ttl_s


@dataclass(frozen=True, kw_only=True, slots=True)
class Service:
    """An SRV record (RFC 2782). ``target`` "": the service is decidedly not available there."""

    priority: int
    weight: int
    port: int
    target: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Pointer:
    """A NAPTR record (RFC 3403) that leads to an SRV name."""

    order: int
    preference: int
    service: str
    replacement: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """One question and what came of it, for ``offhook doctor``."""

    name: str
    kind: str
    answer: str


class NameService:
    """Asks; remembers nothing but a short journal. Made off the hot path: it reads the system's settings once."""

    def __init__(self, loop: asyncio.AbstractEventLoop, nameservers: Sequence[str] = ()) -> None:
        self._loop = loop
        self._own = bool(nameservers)
        self._resolver = _resolver(nameservers)
        self._backend = dns.asyncbackend.get_backend("asyncio")
        self._slots = asyncio.Semaphore(SLOW_LOOKUPS)
        self.journal: deque[Asked] = deque(maxlen=JOURNAL)

    async def addresses(self, name: str) -> tuple[tuple[str, ...], float]:
        """(IP addresses, seconds they hold). Raises ``NameServiceError``."""
        if not self._own:
            return await self._system_addresses(name)
        found = await asyncio.gather(
            self._ask(name, dns.rdatatype.A), self._ask(name, dns.rdatatype.AAAA), return_exceptions=True
        )
        hosts, life = list[str](), TTL_MAX_S
        for one in found:
            if isinstance(one, NameServiceError):
                continue
            if isinstance(one, BaseException):
                raise one
            hosts += [str(record.address) for record in one[0] if isinstance(record, A | AAAA)]
            life = min(life, one[1])
        if hosts:
            return tuple(dict.fromkeys(hosts)), life
        failures = [one for one in found if isinstance(one, NameServiceError)]
        raise next((one for one in failures if not one.absent), failures[0])

    async def services(self, name: str) -> tuple[tuple[Service, ...], float]:
        """SRV records. Raises ``NameServiceError``."""
        records, life = await self._ask(name, dns.rdatatype.SRV)
        found = tuple(
            Service(priority=one.priority, weight=one.weight, port=one.port, target=_text(one.target))
            for one in records
            if isinstance(one, SRV)
        )
        return found, life

    async def pointers(self, name: str) -> tuple[tuple[Pointer, ...], float]:
        """NAPTR records with the flag "s". Raises ``NameServiceError``."""
        records, life = await self._ask(name, dns.rdatatype.NAPTR)
        found = tuple(
            Pointer(
                order=one.order,
                preference=one.preference,
                service=one.service.decode("ascii", "replace").upper(),
                replacement=_text(one.replacement),
            )
            for one in records
            if isinstance(one, NAPTR) and one.flags.lower() == b"s"
        )
        return found, life

    async def _system_addresses(self, name: str) -> tuple[tuple[str, ...], float]:
        try:
            async with self._slots:
                found = await self._loop.getaddrinfo(name, None, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError) as error:  # UnicodeError: a name IDNA cannot encode
            problem = getattr(error, "strerror", None) or str(error)
            self._note(name, "A/AAAA", problem)
            raise NameServiceError(problem, absent=True) from None
        hosts = tuple(dict.fromkeys(str(address[0]) for *_, address in found))
        self._note(name, "A/AAAA", ", ".join(hosts))
        return hosts, SYSTEM_TTL_S

    async def _ask(self, name: str, kind: dns.rdatatype.RdataType) -> tuple[list[dns.rdata.Rdata], float]:
        try:
            answer = await self._query(name, kind)
        except NameServiceError as error:
            self._note(name, kind.name, error.problem)
            raise
        records = [] if answer.rrset is None else list(answer.rrset)[:RECORDS_READ]
        life = TTL_MIN_S if answer.rrset is None else float(answer.rrset.ttl)
        self._note(name, kind.name, "; ".join(map(str, records)))
        return records, min(max(life, TTL_MIN_S), TTL_MAX_S)

    async def _query(self, name: str, kind: dns.rdatatype.RdataType) -> dns.resolver.Answer:
        if self._resolver is None:
            raise NameServiceError("this machine names no nameserver", absent=True)
        try:
            return await self._resolver.resolve(
                dns.name.from_text(name), kind, search=False, lifetime=LIFETIME_S, backend=self._backend
            )
        except dns.resolver.NXDOMAIN as error:
            raise NameServiceError("no such name", absent=True, ttl_s=_negative_ttl(error)) from None
        except dns.resolver.NoAnswer:
            raise NameServiceError(f"no {kind.name} record", absent=True) from None
        except dns.resolver.NoNameservers as error:
            raise NameServiceError(f"the nameservers failed ({_outcome(error)})", absent=False) from None
        except dns.exception.Timeout:
            raise NameServiceError(f"no answer from {self._servers} in {LIFETIME_S:g} s", absent=False) from None
        except (dns.exception.DNSException, OSError, UnicodeError, ValueError) as error:
            raise NameServiceError(f"{type(error).__name__}: {error}", absent=False) from None

    @property
    def _servers(self) -> str:
        servers = () if self._resolver is None else self._resolver.nameservers
        return ", ".join(map(str, servers)) or "any nameserver"

    def _note(self, name: str, kind: str, answer: str) -> None:
        self.journal.append(Asked(name=name, kind=kind, answer=answer))


def parse_nameserver(text: str) -> tuple[str, int]:
    """``192.0.2.1``, ``192.0.2.1:5353``, ``2001:db8::1`` or ``[2001:db8::1]:5353`` as (address, port).

    Raises ``ValueError``.
    """
    host, port = text, "53"
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":") or "53"
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    return str(ipaddress.ip_address(host)), int(port)


def _resolver(nameservers: Sequence[str]) -> dns.asyncresolver.Resolver | None:
    resolver: dns.asyncresolver.Resolver | None = None
    if nameservers:
        resolver = dns.asyncresolver.Resolver(configure=False)
        servers = [dns.nameserver.Do53Nameserver(*parse_nameserver(text)) for text in nameservers]
        resolver.nameservers = list[str | dns.nameserver.Nameserver](servers)
    else:
        with contextlib.suppress(dns.exception.DNSException, OSError):
            resolver = dns.asyncresolver.Resolver()
    if resolver is not None:
        resolver.timeout = TRY_S
    return resolver


def _text(name: dns.name.Name) -> str:
    """Without the final dot; "" for the root."""
    return name.to_text(omit_final_dot=True).lower() if name != dns.name.root else ""


def _negative_ttl(error: dns.resolver.NXDOMAIN) -> float:
    """RFC 2308 §5: as long as the SOA says."""
    responses: Mapping[dns.name.Name, dns.message.Message] = error.kwargs.get("responses") or {}
    for response in responses.values():
        for rrset in response.authority:
            if rrset.rdtype == dns.rdatatype.SOA:
                return min(max(float(min(rrset.ttl, rrset[0].minimum)), NEGATIVE_TTL_S), NEGATIVE_TTL_MAX_S)
    return NEGATIVE_TTL_S


def _outcome(error: dns.resolver.NoNameservers) -> str:
    """What each server did, such as ``SERVFAIL``."""
    errors = error.kwargs.get("errors", ())
    return ", ".join(dict.fromkeys(str(one[3]) for one in errors)) or "no usable answer"
