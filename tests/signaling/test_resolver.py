"""Names become addresses off the loop, once."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.signaling.dns_server import DnsServer

from offhook.model.errors import UnreachableError
from offhook.signaling import name_service
from offhook.signaling import resolver as module
from offhook.signaling.name_service import is_ip_literal
from offhook.signaling.resolver import Resolver
from offhook.sip.events import Address, Hop, Transport


class FakeDns:
    """Stands in for the loop's getaddrinfo: counts questions, answers from a table, can be held back."""

    def __init__(self) -> None:
        self.answers: dict[str, list[str]] = {}
        self.asked: list[str] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def getaddrinfo(self, host: str, port: object, **_: object) -> list[Any]:
        self.asked.append(host)
        await self.may_answer.wait()
        if host not in self.answers:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(0, 0, 0, "", (address, 0)) for address in self.answers[host]]


@pytest.fixture
async def dns(monkeypatch: pytest.MonkeyPatch) -> FakeDns:
    fake = FakeDns()
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", fake.getaddrinfo)
    return fake


@pytest.fixture
async def resolver() -> AsyncIterator[Resolver]:
    one = Resolver(asyncio.get_running_loop())
    yield one
    await one.close()


def hop(host: str) -> Hop:
    return Hop(transport="UDP", host=host, port=5070)


@pytest.mark.parametrize(
    ("host", "literal"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("fe80::1%eth0", True),
        ("example.org", False),
        ("1.2.3", False),
        ("1.2.3.4.5", False),
        ("", False),
        (":", False),
        ("a\0b", False),
        ("127.1", False),
    ],
)
def test_ip_literals_are_told_from_names(host: str, literal: bool) -> None:
    assert is_ip_literal(host) is literal


async def test_a_literal_needs_no_question(resolver: Resolver, dns: FakeDns) -> None:
    assert await resolver.resolve(hop("192.0.2.1")) == (hop("192.0.2.1"),)
    assert dns.asked == []


async def test_a_name_gives_every_address_once_and_keeps_transport_and_port(resolver: Resolver, dns: FakeDns) -> None:
    dns.answers["pbx"] = ["192.0.2.1", "192.0.2.1", "2001:db8::1"]
    assert await resolver.resolve(hop("pbx")) == (hop("192.0.2.1"), hop("2001:db8::1"))


async def test_an_answer_is_remembered(resolver: Resolver, dns: FakeDns) -> None:
    dns.answers["pbx"] = ["192.0.2.1"]
    assert resolver.resolved(hop("pbx")) is None
    await resolver.resolve(hop("pbx"))
    assert resolver.resolved(hop("pbx")) == (hop("192.0.2.1"),)
    await resolver.resolve(hop("pbx"))
    assert dns.asked == ["pbx"]


async def test_an_old_answer_is_asked_for_again(
    resolver: Resolver, dns: FakeDns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(name_service, "SYSTEM_TTL_S", -1.0)
    dns.answers["pbx"] = ["192.0.2.1"]
    await resolver.resolve(hop("pbx"))
    await resolver.resolve(hop("pbx"))
    assert dns.asked == ["pbx", "pbx"]


async def test_a_failure_names_the_host_and_is_remembered(resolver: Resolver, dns: FakeDns) -> None:
    for _ in range(2):
        with pytest.raises(UnreachableError, match="nowhere: Name or service not known"):
            await resolver.resolve(hop("nowhere"))
    assert dns.asked == ["nowhere"]


async def test_a_name_no_dns_can_hold_is_a_failure_too(resolver: Resolver) -> None:
    with pytest.raises(UnreachableError):
        await resolver.resolve(hop("a" * 300))


async def test_many_wait_for_one_question(resolver: Resolver, dns: FakeDns) -> None:
    dns.answers["pbx"] = ["192.0.2.1"]
    dns.may_answer.clear()
    waiting = [asyncio.create_task(resolver.resolve(hop("pbx"))) for _ in range(20)]
    await asyncio.sleep(0)
    dns.may_answer.set()
    assert await asyncio.gather(*waiting) == [(hop("192.0.2.1"),)] * 20
    assert dns.asked == ["pbx"]


async def test_slow_dns_is_given_up_and_its_late_answer_kept(
    resolver: Resolver, dns: FakeDns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOKUP_DEADLINE_S", 0.02)
    dns.answers["slow"] = ["192.0.2.1"]
    dns.may_answer.clear()
    with pytest.raises(UnreachableError, match="slow: no answer from DNS"):
        await resolver.resolve(hop("slow"))
    dns.may_answer.set()
    assert await resolver.resolve(hop("slow")) == (hop("192.0.2.1"),)
    assert dns.asked == ["slow"]


async def test_a_flood_of_names_is_refused_and_takes_few_threads(resolver: Resolver, dns: FakeDns) -> None:
    dns.may_answer.clear()
    waiting = [asyncio.create_task(resolver.resolve(hop(f"n{number}"))) for number in range(module.WAITING_LOOKUPS)]
    for _ in range(5):
        await asyncio.sleep(0)
    with pytest.raises(UnreachableError, match="other names are being looked up"):
        await resolver.resolve(hop("one-too-many"))
    assert len(dns.asked) == name_service.SLOW_LOOKUPS
    dns.may_answer.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(one) for one in results] == [UnreachableError] * module.WAITING_LOOKUPS


async def test_memory_of_names_is_bounded(resolver: Resolver, dns: FakeDns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CACHE_NAMES", 4)
    for number in range(9):
        dns.answers[f"n{number}"] = ["192.0.2.1"]
        await resolver.resolve(hop(f"n{number}"))
    assert [resolver.resolved(hop(f"n{number}")) is not None for number in range(9)] == [False] * 5 + [True] * 4


# ── RFC 3263, against a nameserver on loopback ───────────────────────────────────────────────────────────


@pytest.fixture
async def server() -> AsyncIterator[DnsServer]:
    async with DnsServer() as one:
        yield one


@pytest.fixture
async def asking(server: DnsServer) -> AsyncIterator[Resolver]:
    one = Resolver(asyncio.get_running_loop(), [server.text], fraction=lambda: 0.0)
    yield one
    await one.close()


def name(host: str, transport: Transport = "UDP", port: int = 0) -> Hop:
    return Hop(transport=transport, host=host, port=port)


def texts(hops: tuple[Hop, ...]) -> list[str]:
    return [f"{one.transport} {one.host}:{one.port}" for one in hops]


ANY: tuple[Transport, ...] = ("UDP", "TCP", "TLS")


async def test_naptr_then_srv_then_addresses(server: DnsServer, asking: Resolver) -> None:
    server.zone(
        """
        example.org.            60 IN NAPTR 20 50 "s" "SIP+D2U"  "" _sip._udp.example.org.
        example.org.            60 IN NAPTR 10 50 "s" "SIPS+D2T" "" _sips._tcp.elsewhere.example.
        example.org.            60 IN NAPTR 10 60 "s" "SIP+D2S"  "" _sip._sctp.example.org.
        _sips._tcp.elsewhere.example. 60 IN SRV 1 1 5081 tls.example.org.
        _sip._udp.example.org.  60 IN SRV 2 1 5070 b.example.org.
        _sip._udp.example.org.  60 IN SRV 1 1 5060 a.example.org.
        tls.example.org.        60 IN A 192.0.2.9
        a.example.org.          60 IN A 192.0.2.1
        a.example.org.          60 IN AAAA 2001:db8::1
        b.example.org.          60 IN A 192.0.2.2
        """
    )
    hops = await asking.resolve(name("example.org"), ANY)
    assert texts(hops) == [
        "TLS 192.0.2.9:5081",
        "UDP 192.0.2.1:5060",
        "UDP 2001:db8::1:5060",
        "UDP 192.0.2.2:5070",
    ]
    assert [one.server_name for one in hops] == ["example.org", "", "", ""]
    asked = len(server.asked)
    assert await asking.resolve(name("example.org"), ANY) == hops
    assert len(server.asked) == asked


async def test_without_naptr_srv_is_asked_for_each_transport_allowed(server: DnsServer, asking: Resolver) -> None:
    server.zone("_sip._tcp.example.org. 60 IN SRV 1 1 5062 a.example.org.\na.example.org. 60 IN A 192.0.2.1")
    assert texts(await asking.resolve(name("example.org"), ANY)) == ["TCP 192.0.2.1:5062"]
    assert texts(await asking.resolve(name("example.org", "TCP"))) == ["TCP 192.0.2.1:5062"]


async def test_without_srv_the_address_and_the_default_port(server: DnsServer, asking: Resolver) -> None:
    server.zone("example.org. 60 IN A 192.0.2.1")
    assert texts(await asking.resolve(name("example.org"), ANY)) == ["UDP 192.0.2.1:5060"]
    (hop,) = await asking.resolve(name("example.org", "TLS"))
    assert (hop.port, hop.server_name) == (5061, "example.org")


async def test_a_port_means_no_srv(server: DnsServer, asking: Resolver) -> None:
    server.zone(
        "_sip._udp.example.org. 60 IN SRV 1 1 5070 b.example.org.\n"
        "b.example.org. 60 IN A 192.0.2.2\nexample.org. 60 IN A 192.0.2.1"
    )
    assert texts(await asking.resolve(name("example.org", port=5065))) == ["UDP 192.0.2.1:5065"]


async def test_weights_share_the_calls(server: DnsServer) -> None:
    server.zone(
        "_sip._udp.example.org. 60 IN SRV 1 90 5060 a.example.org.\n"
        "_sip._udp.example.org. 60 IN SRV 1 10 5060 b.example.org.\n"
        "a.example.org. 60 IN A 192.0.2.1\nb.example.org. 60 IN A 192.0.2.2"
    )
    seeded = random.Random(1)
    resolver = Resolver(asyncio.get_running_loop(), [server.text], fraction=seeded.random)
    first = [(await resolver.resolve(name("example.org")))[0].host for _ in range(1000)]
    assert 870 <= first.count("192.0.2.1") <= 930
    await resolver.close()


async def test_a_service_that_says_dot_is_decidedly_not_there(server: DnsServer, asking: Resolver) -> None:
    server.zone("_sip._udp.example.org. 60 IN SRV 0 0 0 .\nexample.org. 60 IN A 192.0.2.1")
    with pytest.raises(UnreachableError, match="decidedly not available"):
        await asking.resolve(name("example.org"))


async def test_a_target_that_does_not_exist_is_named(server: DnsServer, asking: Resolver) -> None:
    server.zone("_sip._udp.example.org. 60 IN SRV 1 1 5060 gone.example.org.")
    with pytest.raises(UnreachableError, match=r"SRV target gone\.example\.org: no such name"):
        await asking.resolve(name("example.org"))


async def test_who_failed_comes_last_until_it_works(server: DnsServer, asking: Resolver) -> None:
    server.zone(
        "_sip._udp.example.org. 60 IN SRV 1 1 5060 a.example.org.\n"
        "_sip._udp.example.org. 60 IN SRV 2 1 5060 b.example.org.\n"
        "a.example.org. 60 IN A 192.0.2.1\nb.example.org. 60 IN A 192.0.2.2"
    )
    first = Address("192.0.2.1", 5060)
    await asking.resolve(name("example.org"))
    asking.mark_failed(first)
    assert [one.host for one in await asking.resolve(name("example.org"))] == ["192.0.2.2", "192.0.2.1"]
    asking.mark_working(first)
    assert [one.host for one in await asking.resolve(name("example.org"))] == ["192.0.2.1", "192.0.2.2"]


async def test_a_moved_target_is_found_once_it_is_forgotten(server: DnsServer, asking: Resolver) -> None:
    server.zone("example.org. 600 IN A 192.0.2.1")
    await asking.resolve(name("example.org"))
    server.zone("example.org. 600 IN A 192.0.2.2")
    assert texts(await asking.resolve(name("example.org"))) == ["UDP 192.0.2.1:5060"]
    asking.forget("example.org")
    assert texts(await asking.resolve(name("example.org"))) == ["UDP 192.0.2.2:5060"]


async def test_while_the_nameserver_fails_the_old_answer_holds(server: DnsServer, asking: Resolver) -> None:
    server.zone("example.org. 600 IN A 192.0.2.1")
    await asking.resolve(name("example.org"))
    server.rcode = "SERVFAIL"
    asking.forget("example.org")
    assert texts(await asking.resolve(name("example.org"))) == ["UDP 192.0.2.1:5060"]


async def test_a_nameserver_that_fails_is_said_to_fail(server: DnsServer, asking: Resolver) -> None:
    server.rcode = "SERVFAIL"
    with pytest.raises(UnreachableError, match=r"example\.org: the nameservers failed \(SERVFAIL\)"):
        await asking.resolve(name("example.org"))


async def test_the_second_nameserver_answers_for_a_silent_first(server: DnsServer) -> None:
    async with DnsServer() as silent:
        silent.silent = True
        server.zone("example.org. 60 IN A 192.0.2.1")
        resolver = Resolver(asyncio.get_running_loop(), [silent.text, server.text])
        assert texts(await resolver.resolve(name("example.org", port=5060))) == ["UDP 192.0.2.1:5060"]
        await resolver.close()


async def test_silence_everywhere_ends_in_time(server: DnsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(name_service, "LIFETIME_S", 0.3)
    server.silent = True
    resolver = Resolver(asyncio.get_running_loop(), [server.text])
    with pytest.raises(UnreachableError, match="no answer from"):
        await resolver.resolve(name("example.org"))
    await resolver.close()


async def test_a_long_answer_comes_by_tcp(server: DnsServer, asking: Resolver) -> None:
    server.truncate = True
    server.zone("example.org. 60 IN A 192.0.2.1")
    assert texts(await asking.resolve(name("example.org"))) == ["UDP 192.0.2.1:5060"]


async def test_aliases_are_followed_and_circles_end(server: DnsServer, asking: Resolver) -> None:
    server.zone("a.example. 60 IN CNAME b.example.\nb.example. 60 IN A 192.0.2.1")
    assert texts(await asking.resolve(name("a.example"))) == ["UDP 192.0.2.1:5060"]
    server.zone("x.example. 60 IN CNAME y.example.\ny.example. 60 IN CNAME x.example.")
    with pytest.raises(UnreachableError):
        await asking.resolve(name("x.example"))


async def test_rubbish_is_no_answer(server: DnsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(name_service, "LIFETIME_S", 0.3)
    server.rubbish = b"\x00\x01not dns at all"
    resolver = Resolver(asyncio.get_running_loop(), [server.text])
    with pytest.raises(UnreachableError):
        await resolver.resolve(name("example.org"))
    await resolver.close()


async def test_the_journal_tells_what_was_asked_and_answered(server: DnsServer, asking: Resolver) -> None:
    server.zone("example.org. 60 IN A 192.0.2.1")
    await asking.resolve(name("example.org"))
    told = {(one.name, one.kind): one.answer for one in asking.names.journal}
    assert told["_sip._udp.example.org", "SRV"] == "no such name"
    assert told["example.org", "A"] == "192.0.2.1"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", ("192.0.2.1", 53)),
        ("192.0.2.1:5353", ("192.0.2.1", 5353)),
        ("2001:db8::1", ("2001:db8::1", 53)),
        ("[2001:db8::1]:5353", ("2001:db8::1", 5353)),
    ],
)
def test_nameservers_are_addresses_with_or_without_a_port(text: str, address: tuple[str, int]) -> None:
    assert name_service.parse_nameserver(text) == address
