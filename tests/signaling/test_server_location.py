"""RFC 3263: which servers, by which transport, also when parts of DNS fail or lie."""

from __future__ import annotations

from collections import Counter

import pytest
from tests.signaling.dns_server import DnsServer
from tests.signaling.names import ANY, TWO_WAYS, Clock, FakeDns, name, texts

from offhook.model.errors import UnreachableError
from offhook.signaling import name_service, server_location
from offhook.signaling.resolver import Resolver


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


async def test_a_service_that_says_dot_is_decidedly_not_there(server: DnsServer, asking: Resolver) -> None:
    server.zone("_sip._udp.example.org. 60 IN SRV 0 0 0 .\nexample.org. 60 IN A 192.0.2.1")
    with pytest.raises(UnreachableError, match="decidedly not available"):
        await asking.resolve(name("example.org"))


async def test_a_transport_refused_is_not_fallen_back_on(server: DnsServer, asking: Resolver) -> None:
    server.zone("_sip._udp.example.org. 60 IN SRV 0 0 0 .\nexample.org. 60 IN A 192.0.2.1")
    assert texts(await asking.resolve(name("example.org"), ("UDP", "TCP"))) == ["TCP 192.0.2.1:5060"]


async def test_a_domain_that_points_to_tls_first_is_not_reached_by_less(server: DnsServer, asking: Resolver) -> None:
    server.zone(
        """
        example.org. 60 IN NAPTR 1 1 "s" "SIPS+D2T" "" _sips._tcp.example.org.
        example.org. 60 IN NAPTR 2 1 "s" "SIP+D2U" "" _sip._udp.example.org.
        example.org. 60 IN A 192.0.2.1
        """
    )
    (found,) = await asking.resolve(name("example.org"), ANY)
    assert (found.transport, found.port, found.server_name) == ("TLS", 5061, "example.org")


async def test_records_that_lead_nowhere_are_passed_over(server: DnsServer, asking: Resolver) -> None:
    server.zone(
        """
        example.org. 60 IN NAPTR 1 1 "u" "SIP+D2U" "!^.*$!sip:evil@192.0.2.66!" .
        example.org. 60 IN NAPTR 1 2 "s" "SIP+D2U" "" .
        example.org. 60 IN NAPTR 1 3 "s" "SIP+D2W" "" _sip._ws.example.org.
        _sip._udp.example.org. 60 IN SRV 0 0 0 .
        _sip._udp.example.org. 60 IN SRV 1 0 5070 192.0.2.7.
        """
    )
    assert texts(await asking.resolve(name("example.org"), ("UDP",))) == ["UDP 192.0.2.7:5070"]


async def test_a_domain_that_names_many_servers_is_asked_for_a_few(server: DnsServer, asking: Resolver) -> None:
    pointers = [f'evil.example. 60 IN NAPTR {n} 1 "s" "SIP+D2U" "" _s{n}.evil.example.' for n in range(40)]
    services = [f"_s{n}.evil.example. 60 IN SRV 1 1 5060 t{n}-{m}.evil.example." for n in range(40) for m in range(9)]
    targets = [f"t{n}-{m}.evil.example. 60 IN A 192.0.2.{m}" for n in range(40) for m in range(9)]
    server.zone("\n".join(pointers + services + targets))
    found = await asking.resolve(name("evil.example"), ANY)
    kinds = Counter(kind for _, kind in server.asked)
    assert kinds["SRV"] == server_location.POINTERS_FOLLOWED + len(ANY)
    assert kinds["A"] == kinds["AAAA"] == server_location.TARGETS_ASKED
    assert len(found) == server_location.TARGETS_ASKED


async def test_a_target_that_does_not_exist_is_named(server: DnsServer, asking: Resolver) -> None:
    server.zone("_sip._udp.example.org. 60 IN SRV 1 1 5060 gone.example.org.")
    with pytest.raises(UnreachableError, match=r"SRV target gone\.example\.org: no such name"):
        await asking.resolve(name("example.org"))


async def test_one_target_that_fails_leaves_the_others_for_a_while(
    server: DnsServer, asking: Resolver, clock: Clock
) -> None:
    server.zone(
        "_sip._udp.example.org. 600 IN SRV 1 1 5060 gone.example.org.\n"
        "_sip._udp.example.org. 600 IN SRV 2 1 5060 a.example.org.\na.example.org. 600 IN A 192.0.2.1"
    )
    assert texts(await asking.resolve(name("example.org"))) == ["UDP 192.0.2.1:5060"]
    clock.now += name_service.UNSURE_S + 1.0
    assert asking.resolved(name("example.org")) is None


async def test_where_srv_fails_the_address_serves_for_a_while(
    server: DnsServer, asking: Resolver, clock: Clock
) -> None:
    server.zone("example.org. 600 IN A 192.0.2.1")
    server.failing = {"SRV", "NAPTR"}
    assert texts(await asking.resolve(name("example.org"), ANY)) == ["UDP 192.0.2.1:5060"]
    clock.now += name_service.UNSURE_S + 1.0
    assert asking.resolved(name("example.org"), ANY) is None


async def test_where_srv_fails_the_servers_known_before_are_better_than_the_address(
    server: DnsServer, asking: Resolver, clock: Clock
) -> None:
    server.zone(TWO_WAYS + "example.org. 60 IN A 192.0.2.9")
    assert texts(await asking.resolve(name("example.org"))) == ["UDP 192.0.2.1:5070"]
    server.failing = {"SRV"}
    clock.now += 61.0
    assert texts(await asking.resolve(name("example.org"))) == ["UDP 192.0.2.1:5070"]


async def test_a_firewall_that_drops_naptr_costs_little(
    server: DnsServer, asking: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(name_service, "POINTER_LIFETIME_S", 0.2)
    server.zone(TWO_WAYS)
    server.dropping = {"NAPTR"}
    found = await asking.resolve(name("example.org"), ("UDP", "TCP"))
    assert texts(found) == ["UDP 192.0.2.1:5070", "TCP 192.0.2.2:5071"]


async def test_a_name_only_this_machine_knows_is_asked_no_nameserver(
    resolver: Resolver, dns: FakeDns, monkeypatch: pytest.MonkeyPatch
) -> None:
    dns.answers["pbx"] = ["192.0.2.1"]

    async def never(*_: object, **__: object) -> None:
        raise AssertionError("a nameserver was asked")

    monkeypatch.setattr(resolver.names, "_query", never)
    assert texts(await resolver.resolve(name("pbx", "TCP"))) == ["TCP 192.0.2.1:5060"]
