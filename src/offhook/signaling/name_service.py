"""Questions to DNS, off the loop's time: addresses, SRV and NAPTR records, each with its life and its failure in words.

Without nameservers of our own, addresses come from the system (so that /etc/hosts and Docker's names count), and the
other records from the servers the system names.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dns.asyncbackend
import dns.asyncresolver
import dns.exception
import dns.message
import dns.name
import dns.nameserver
import dns.query
import dns.rdata
import dns.rdatatype
import dns.resolver
from dns.rdtypes.IN.A import A
from dns.rdtypes.IN.AAAA import AAAA
from dns.rdtypes.IN.NAPTR import NAPTR
from dns.rdtypes.IN.SRV import SRV

LIFETIME_S = 4.0
"""For one question, all servers and repetitions together; the caller waits meanwhile."""

POINTER_LIFETIME_S = 2.0
"""For NAPTR: firewalls that drop record types they do not know must not cost a whole lookup."""

TRY_S = 1.0
"""For one server to answer: a dead first server must leave time for the second."""

SYSTEM_TTL_S = 60.0
"""getaddrinfo gives no TTL; a minute keeps up with a carrier that moves, and off the DNS in between."""

TTL_MIN_S, TTL_MAX_S = 5.0, 3600.0
"""Some names say 0 and would be asked for at every call; some say a week and then move."""

NEGATIVE_TTL_S, NEGATIVE_TTL_MAX_S = 5.0, 60.0
"""A name that failed is asked again soon, but not once for every retransmission (RFC 2308 §5 for the upper bound)."""

UNSURE_S = 30.0
"""How long an answer holds where a part of it could not be had: a little, for the rest may come back."""

SLOW_LOOKUPS = 4
"""getaddrinfo blocks a thread of the loop's pool, which others use too: slow names take no more of it."""

RECORDS_READ = 32
"""Of one answer: more servers than any carrier has."""

ANSWER_BYTES = 4096
"""By TCP, where anybody's zone could send 64 KiB: dnspython takes 1.7 ms of the loop for each KiB. A hundred SRV
records fit."""

REREAD_S = 30.0
"""At most this often the system's settings are read again after a failure: its network may have changed."""

JOURNAL = 50

_ABSENT = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}
"""What getaddrinfo says of a name that is not there; all else, such as EAI_AGAIN, is a failure of those it asked."""


class NameServiceError(Exception):
    """No answer of use. ``absent``: the server says that there is none; otherwise nobody could say.

    ``fix``: what to do, where it is something special.
    """

    def __init__(self, problem: str, *, absent: bool, ttl_s: float = NEGATIVE_TTL_S, fix: str = "") -> None:
        super().__init__(problem)
        self.fix = fix
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
    """One question and what came of it, for ``offhook doctor``. ``life_s`` None: no answer that holds."""

    name: str
    kind: str
    answer: str
    life_s: float | None = None


class NameService:
    """Asks; remembers nothing but a short journal, and which nameserver answered last.

    Made off the hot path: it reads files and imports once what would otherwise stop the loop at some question.
    ``configured``: whether the nameservers are the configuration's, and not the system's.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, nameservers: Sequence[str] = ()) -> None:
        self._loop = loop
        self.configured = bool(nameservers)
        self._reread_at = loop.time() + REREAD_S
        self._resolver = dns.asyncresolver.Resolver(configure=False)
        self._resolver.timeout = TRY_S
        self._set_servers(_servers(nameservers) if nameservers else _system_servers())
        self._backend = dns.asyncbackend.get_backend("asyncio")
        self._slots = asyncio.Semaphore(SLOW_LOOKUPS)
        self.journal: deque[Asked] = deque(maxlen=JOURNAL)
        dns.rdata.load_all_types()  # type: ignore[no-untyped-call]
        dns.name.from_text("b\u00fccher.example")  # the tables of IDNA

    @property
    def servers(self) -> str:
        """Whom it asks, in words."""
        asked = ", ".join(f"{host}:{port}" for host, port in map(_address, self._nameservers))
        return asked if self.configured else f"this machine's nameservers ({asked or 'it has none'})"

    async def addresses(self, name: str) -> tuple[tuple[str, ...], float]:
        """(IP addresses, seconds they hold). Raises ``NameServiceError``."""
        if not self.configured:
            return await self._system_addresses(name)
        found = await asyncio.gather(
            self._ask(name, dns.rdatatype.A), self._ask(name, dns.rdatatype.AAAA), return_exceptions=True
        )
        hosts, life, failures = list[str](), TTL_MAX_S, list[NameServiceError]()
        for one in found:
            if isinstance(one, NameServiceError):
                failures.append(one)
            elif isinstance(one, BaseException):
                raise one
            else:
                hosts += [str(record.address) for record in one[0] if isinstance(record, A | AAAA)]
                life = min(life, one[1])
        unsure = next((one for one in failures if not one.absent), None)
        if hosts:
            return tuple(dict.fromkeys(hosts)), life if unsure is None else min(life, UNSURE_S)
        raise unsure or next(iter(failures), NameServiceError("no address in the answer", absent=True))

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
        records, life = await self._ask(name, dns.rdatatype.NAPTR, POINTER_LIFETIME_S)
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
        except (OSError, ValueError) as error:  # ValueError: a NUL inside, or a name IDNA cannot encode
            problem = getattr(error, "strerror", None) or str(error)
            self._note(name, "A/AAAA", problem)
            absent = not isinstance(error, OSError) or error.errno in _ABSENT
            raise NameServiceError(problem, absent=absent) from None
        hosts = tuple(dict.fromkeys(str(address[0]) for *_, address in found))
        self._note(name, "A/AAAA", ", ".join(hosts), SYSTEM_TTL_S)
        return hosts, SYSTEM_TTL_S

    async def _ask(
        self, name: str, kind: dns.rdatatype.RdataType, lifetime_s: float | None = None
    ) -> tuple[list[dns.rdata.Rdata], float]:
        try:
            answer = await self._query(name, kind, lifetime_s or LIFETIME_S)
        except NameServiceError as error:
            self._note(name, kind.name, error.problem)
            raise
        records = list(answer.rrset or ())[:RECORDS_READ]
        # The shortest life on the way through aliases counts.
        life = min(max(float(answer.chaining_result.minimum_ttl), TTL_MIN_S), TTL_MAX_S)
        self._note(name, kind.name, "; ".join(map(str, records)), life)
        return records, life

    async def _query(self, name: str, kind: dns.rdatatype.RdataType, lifetime_s: float) -> dns.resolver.Answer:
        if not self._nameservers:
            raise NameServiceError("this machine names no nameserver", absent=True)
        try:
            answer = await self._resolver.resolve(
                dns.name.from_text(name), kind, search=False, lifetime=lifetime_s, backend=self._backend
            )
        except dns.resolver.NXDOMAIN as error:
            responses: Mapping[dns.name.Name, dns.message.Message] = error.kwargs.get("responses") or {}
            raise NameServiceError("no such name", absent=True, ttl_s=_negative_ttl(*responses.values())) from None
        except dns.resolver.NoAnswer as error:
            ttl_s = _negative_ttl(error.kwargs["response"])
            raise NameServiceError(f"no {kind.name} record", absent=True, ttl_s=ttl_s) from None
        except dns.resolver.NoNameservers as error:
            problem = f"the nameservers failed ({_outcome(error)})"
        except dns.exception.Timeout:
            problem = f"no answer from {self.servers} in {lifetime_s:g} s"
        except (dns.exception.DNSException, OSError, UnicodeError, ValueError) as error:
            raise NameServiceError(f"no name DNS can hold: {error}", absent=True) from None
        else:
            self._prefer(answer)
            return answer
        await self._reread()
        raise NameServiceError(problem, absent=False)

    # ── nameservers ──────────────────────────────────────────────────────────────────────────────────────

    def _set_servers(self, servers: list[_Nameserver]) -> None:
        self._nameservers = servers
        self._resolver.nameservers = list[str | dns.nameserver.Nameserver](servers)

    def _prefer(self, answer: dns.resolver.Answer) -> None:
        """Ask first who answered: a dead one would cost ``TRY_S`` at every question."""
        first = self._nameservers[0] if self._nameservers else None
        if first is not None and (answer.nameserver, answer.port) != _address(first):
            answered = [one for one in self._nameservers if _address(one) == (answer.nameserver, answer.port)]
            self._set_servers([*answered, *(one for one in self._nameservers if one not in answered)])

    async def _reread(self) -> None:
        """Nobody answered: this machine may be in another network by now."""
        if self.configured or self._loop.time() < self._reread_at:
            return
        self._reread_at = self._loop.time() + REREAD_S
        self._set_servers(await self._loop.run_in_executor(None, _system_servers))

    def _note(self, name: str, kind: str, answer: str, life_s: float | None = None) -> None:
        self.journal.append(Asked(name=name, kind=kind, answer=answer, life_s=life_s))


class _Nameserver(dns.nameserver.Do53Nameserver):
    """As dnspython asks it, but what comes by TCP is limited."""

    async def async_query(self, request: dns.message.QueryMessage, *more: Any, **options: Any) -> dns.message.Message:
        if not options["max_size"]:  # dnspython's word for TCP
            return await super().async_query(request, *more, **options)
        try:
            async with asyncio.timeout(options["timeout"]):
                return await self._ask_by_tcp(request)
        except TimeoutError:
            raise dns.exception.Timeout from None

    async def _ask_by_tcp(self, request: dns.message.QueryMessage) -> dns.message.Message:
        """Raises ``OSError`` or ``DNSException``, upon which dnspython asks this server no more."""
        reader, writer = await asyncio.open_connection(self.address, self.port, limit=ANSWER_BYTES)
        try:
            writer.write(request.to_wire(prepend_length=True))
            size = int.from_bytes(await reader.readexactly(2), "big")
            if size > ANSWER_BYTES:
                raise OSError(f"an answer of {size} bytes, {ANSWER_BYTES} are read")
            response = dns.message.from_wire(await reader.readexactly(size))
        finally:
            writer.close()
        if not request.is_response(response):
            raise dns.query.BadResponse
        return response


def is_ip_literal(host: str) -> bool:
    """True for an IPv4 or IPv6 address (with or without zone), as ``Address.host`` always is."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.inet_pton(family, host.partition("%")[0])
    except (OSError, ValueError):  # ValueError: a NUL inside
        return False
    return True


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


def _servers(nameservers: Sequence[str]) -> list[_Nameserver]:
    return [_Nameserver(*parse_nameserver(text)) for text in nameservers]


def _system_servers() -> list[_Nameserver]:
    try:
        system = dns.resolver.Resolver()
    except (dns.exception.DNSException, OSError):
        return []
    return [_Nameserver(one, system.port) for one in system.nameservers if isinstance(one, str)]


def _address(server: _Nameserver) -> tuple[str, int]:
    return server.address, server.port


def _text(name: dns.name.Name) -> str:
    """Without the final dot; "" for the root."""
    return name.to_text(omit_final_dot=True).lower() if name != dns.name.root else ""


def _negative_ttl(*responses: dns.message.Message) -> float:
    """RFC 2308 §5: as long as the SOA says."""
    for response in responses:
        for rrset in response.authority:
            if rrset.rdtype == dns.rdatatype.SOA:
                return min(max(float(min(rrset.ttl, rrset[0].minimum)), NEGATIVE_TTL_S), NEGATIVE_TTL_MAX_S)
    return NEGATIVE_TTL_S


def _outcome(error: dns.resolver.NoNameservers) -> str:
    """What each server did, such as ``SERVFAIL``."""
    errors = error.kwargs.get("errors", ())
    return ", ".join(dict.fromkeys(str(one[3]) for one in errors)) or "no usable answer"
