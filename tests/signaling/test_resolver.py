"""Hops become addresses off the loop, once; who failed comes last; old answers serve where there are no new ones."""

from __future__ import annotations

import asyncio
import random
import socket
import statistics
import time
from collections import Counter
from dataclasses import replace

import pytest
from tests.signaling.dns_server import DnsServer
from tests.signaling.names import ANY, Clock, FakeDns, hop, name, texts

from offhook.model.errors import UnreachableError
from offhook.signaling import name_service
from offhook.signaling import resolver as module
from offhook.signaling.resolver import Resolver
from offhook.sip.events import Hop


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


async def test_who_failed_comes_last_until_it_works(server: DnsServer, asking: Resolver) -> None:
    server.zone(
        "_sip._udp.example.org. 60 IN SRV 1 1 5060 a.example.org.\n"
        "_sip._udp.example.org. 60 IN SRV 2 1 5060 b.example.org.\n"
        "a.example.org. 60 IN A 192.0.2.1\nb.example.org. 60 IN A 192.0.2.2"
    )
    first = Hop(transport="UDP", host="192.0.2.1", port=5060)
    await asking.resolve(name("example.org"))
    asking.mark_failed(first)
    assert [one.host for one in await asking.resolve(name("example.org"))] == ["192.0.2.2", "192.0.2.1"]
    asking.mark_failed(replace(first, transport="TCP"))
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


async def test_an_answer_holds_as_long_as_its_ttl_and_a_moved_target_is_found_then(
    server: DnsServer, asking: Resolver, clock: Clock
) -> None:
    server.zone("example.org. 300 IN A 192.0.2.1")
    assert texts(await asking.resolve(name("example.org"))) == ["UDP 192.0.2.1:5060"]
    server.zone("example.org. 300 IN A 192.0.2.2")
    clock.now += 299.0
    assert texts(await asking.resolve(name("example.org"))) == ["UDP 192.0.2.1:5060"]
    clock.now += 2.0
    assert texts(await asking.resolve(name("example.org"))) == ["UDP 192.0.2.2:5060"]


async def test_the_shortest_ttl_on_the_way_counts(server: DnsServer, asking: Resolver, clock: Clock) -> None:
    server.zone(
        'example.org. 600 IN NAPTR 1 1 "s" "SIP+D2U" "" _sip._udp.example.org.\n'
        "_sip._udp.example.org. 500 IN SRV 1 1 5060 alias.example.org.\n"
        "alias.example.org. 40 IN CNAME a.example.org.\na.example.org. 700 IN A 192.0.2.1"
    )
    await asking.resolve(name("example.org"), ANY)
    clock.now += 39.0
    assert asking.resolved(name("example.org"), ANY) is not None
    clock.now += 2.0
    assert asking.resolved(name("example.org"), ANY) is None


@pytest.mark.parametrize(
    ("minimum_s", "holds_s"), [(1, name_service.NEGATIVE_TTL_S), (20, 20.0), (86_400, name_service.NEGATIVE_TTL_MAX_S)]
)
async def test_what_is_not_there_is_remembered_as_its_soa_says(
    server: DnsServer, asking: Resolver, clock: Clock, minimum_s: int, holds_s: float
) -> None:
    server.start_of_authority("example.org.", 90_000, minimum_s)
    with pytest.raises(UnreachableError, match="no such name"):
        await asking.resolve(name("gone.example.org", port=5060))
    asked = len(server.asked)
    clock.now += holds_s - 0.5
    with pytest.raises(UnreachableError, match="no such name"):
        await asking.resolve(name("gone.example.org", port=5060))
    assert len(server.asked) == asked
    clock.now += 1.0
    assert asking.resolved(name("gone.example.org", port=5060)) is None


async def test_an_old_answer_holds_a_day_and_is_told_once(
    server: DnsServer, asking: Resolver, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    server.zone("example.org. 60 IN A 192.0.2.1")
    await asking.resolve(name("example.org"))
    server.rcode = "SERVFAIL"
    for _ in range(3):
        clock.now += 1000.0
        assert texts(await asking.resolve(name("example.org"))) == ["UDP 192.0.2.1:5060"]
    assert [one.getMessage() for one in caplog.records if one.name == "offhook.sip"] == [
        "DNS: example.org: the nameservers failed (SERVFAIL); what was known before is used"
    ]
    clock.now += module.STALE_S
    with pytest.raises(UnreachableError, match="SERVFAIL"):
        await asking.resolve(name("example.org"))


async def test_a_name_that_is_gone_is_not_served_from_memory(server: DnsServer, asking: Resolver, clock: Clock) -> None:
    server.zone("example.org. 60 IN A 192.0.2.1")
    await asking.resolve(name("example.org"))
    server.zone("other.example. 60 IN A 192.0.2.1")
    clock.now += 61.0
    with pytest.raises(UnreachableError, match="no such name"):
        await asking.resolve(name("example.org"))


async def test_an_old_answer_is_not_waited_for_long(
    server: DnsServer, asking: Resolver, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.zone("example.org. 60 IN A 192.0.2.1")
    await asking.resolve(name("example.org"))
    server.silent = True
    clock.now += 61.0
    monkeypatch.setattr(module, "STALE_WAIT_S", 0.05)
    monkeypatch.setattr(module, "LOOKUP_DEADLINE_S", 60.0)
    monkeypatch.setattr(name_service, "LIFETIME_S", 60.0)
    async with asyncio.timeout(10.0):
        assert texts(await asking.resolve(name("example.org"))) == ["UDP 192.0.2.1:5060"]
    assert asking.resolved(name("example.org")) is not None


async def test_a_system_that_cannot_say_leaves_the_old_answer(
    resolver: Resolver, dns: FakeDns, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    dns.answers["pbx"] = ["192.0.2.1"]
    await resolver.resolve(hop("pbx"))

    async def again(*_: object, **__: object) -> list[object]:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", again)
    clock.now += name_service.SYSTEM_TTL_S + 1.0
    assert await resolver.resolve(hop("pbx")) == (hop("192.0.2.1"),)
    with pytest.raises(UnreachableError, match=r"Temporary failure .*check the nameservers in /etc/resolv\.conf"):
        await resolver.resolve(hop("never-known"))


async def test_an_error_names_what_was_asked_of_whom_and_what_to_do(server: DnsServer, asking: Resolver) -> None:
    with pytest.raises(UnreachableError) as absent:
        await asking.resolve(name("gone.example"), ANY)
    assert str(absent.value) == (
        f"gone.example: no such name (NAPTR, SRV, A and AAAA asked of {server.text}); is the name right?"
    )
    server.rcode = "REFUSED"
    with pytest.raises(UnreachableError) as failed:
        await asking.resolve(name("other.example", port=5060))
    assert str(failed.value) == (
        f"other.example: the nameservers failed (REFUSED) (A and AAAA asked of {server.text}); check sip.nameservers"
    )


async def test_case_and_final_dot_make_no_other_name(server: DnsServer, asking: Resolver) -> None:
    server.zone("example.org. 60 IN A 192.0.2.1")
    (found,) = await asking.resolve(name("Example.ORG.", "TLS"))
    assert found.server_name == "Example.ORG"
    asked = len(server.asked)
    assert await asking.resolve(name("example.org", "TLS"))
    assert len(server.asked) == asked
    asking.forget("EXAMPLE.org")
    assert asking.resolved(name("example.org", "TLS")) is None


async def test_weights_of_zero_share_evenly_and_priorities_come_first(server: DnsServer) -> None:
    server.zone(
        "\n".join(f"_sip._udp.example.org. 60 IN SRV 2 0 5060 192.0.2.{n}." for n in range(1, 5))
        + "\n_sip._udp.example.org. 60 IN SRV 1 0 5060 192.0.2.9."
    )
    resolver = Resolver(asyncio.get_running_loop(), [server.text], fraction=random.Random(1).random)
    orders = [[one.host for one in await resolver.resolve(name("example.org"))] for _ in range(1000)]
    assert {order[0] for order in orders} == {"192.0.2.9"}
    seconds = Counter(order[1] for order in orders)
    assert len(seconds) == 4
    assert all(200 <= count <= 300 for count in seconds.values())
    assert all(len(set(order)) == 5 for order in orders)
    await resolver.close()


async def test_who_waits_is_told_when_the_resolver_closes(server: DnsServer) -> None:
    server.silent = True
    resolver = Resolver(asyncio.get_running_loop(), [server.text])
    waiting = asyncio.create_task(resolver.resolve(name("example.org")))
    await asyncio.sleep(0)
    await resolver.close()
    with pytest.raises(UnreachableError, match="no more names are looked up"):
        await waiting


async def test_who_gives_up_waiting_leaves_the_lookup_to_others(server: DnsServer, asking: Resolver) -> None:
    server.zone("example.org. 60 IN A 192.0.2.1")
    impatient = asyncio.create_task(asking.resolve(name("example.org")))
    patient = asyncio.create_task(asking.resolve(name("example.org")))
    await asyncio.sleep(0)
    impatient.cancel()
    assert texts(await patient) == ["UDP 192.0.2.1:5060"]
    with pytest.raises(asyncio.CancelledError):
        await impatient


async def test_thousands_of_names_neither_grow_memory_nor_stop_the_loop(server: DnsServer, asking: Resolver) -> None:
    server.zone("a.example. 60 IN A 192.0.2.1")
    lags: list[float] = []

    async def probe() -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.0)
            lags.append(time.perf_counter() - before)

    probing = asyncio.create_task(probe())
    for batch in range(0, 3000, 30):
        outcomes = await asyncio.gather(
            *(asking.resolve(name(f"n{n}.example", port=5060)) for n in range(batch, batch + 30)),
            return_exceptions=True,
        )
        assert {type(one) for one in outcomes} == {UnreachableError}
    probing.cancel()
    assert len(asking._known) == module.CACHE_NAMES
    assert asking._asking == {}
    assert len(asking.names.journal) == name_service.JOURNAL
    # One turn of the loop serves up to thirty questions and, here, their nameserver too.
    assert statistics.median(lags) < 0.02
    assert statistics.quantiles(lags, n=100)[98] < 0.25
