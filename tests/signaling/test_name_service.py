"""Questions to nameservers that fail, lie, or say too much."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.signaling.dns_server import DnsServer
from tests.signaling.names import Clock, name, texts

from offhook.model.errors import UnreachableError
from offhook.signaling import name_service
from offhook.signaling.name_service import is_ip_literal
from offhook.signaling.resolver import Resolver


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


@pytest.mark.parametrize(("ttl_s", "holds_s"), [(0, name_service.TTL_MIN_S), (604_800, name_service.TTL_MAX_S)])
async def test_no_ttl_is_taken_to_extremes(
    server: DnsServer, asking: Resolver, clock: Clock, ttl_s: int, holds_s: float
) -> None:
    server.zone(f"example.org. {ttl_s} IN A 192.0.2.1")
    await asking.resolve(name("example.org"))
    clock.now += holds_s - 0.5
    assert asking.resolved(name("example.org")) is not None
    clock.now += 1.0
    assert asking.resolved(name("example.org")) is None


async def test_one_family_that_fails_leaves_the_other_for_a_while(
    server: DnsServer, asking: Resolver, clock: Clock
) -> None:
    server.zone("example.org. 600 IN AAAA 2001:db8::1\nexample.org. 600 IN A 192.0.2.1")
    server.failing = {"A"}
    assert texts(await asking.resolve(name("example.org"))) == ["UDP 2001:db8::1:5060"]
    server.failing = set()
    clock.now += name_service.UNSURE_S + 1.0
    assert texts(await asking.resolve(name("example.org"))) == ["UDP 192.0.2.1:5060", "UDP 2001:db8::1:5060"]


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


async def test_the_second_nameserver_answers_where_the_first_fails_and_is_asked_first_from_then_on(
    server: DnsServer,
) -> None:
    async with DnsServer() as failing:
        failing.rcode = "SERVFAIL"
        server.zone("a.example. 60 IN A 192.0.2.1\nb.example. 60 IN A 192.0.2.2")
        resolver = Resolver(asyncio.get_running_loop(), [failing.text, server.text])
        assert texts(await resolver.resolve(name("a.example", port=5060))) == ["UDP 192.0.2.1:5060"]
        failing.asked.clear()
        assert texts(await resolver.resolve(name("b.example", port=5060))) == ["UDP 192.0.2.2:5060"]
        assert failing.asked == []
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


async def test_an_answer_as_long_as_tcp_allows_is_not_read(server: DnsServer, asking: Resolver) -> None:
    server.truncate = True
    server.zone("\n".join(f"evil.example. 60 IN A 10.0.{n >> 8}.{n & 255}" for n in range(3900)))
    with pytest.raises(UnreachableError, match=r"an answer of 6[0-9]{4} bytes, 4096 are read"):
        await asking.resolve(name("evil.example", port=5060))


async def test_rubbish_is_no_answer(server: DnsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(name_service, "LIFETIME_S", 0.3)
    server.rubbish = b"\x00\x01not dns at all"
    resolver = Resolver(asyncio.get_running_loop(), [server.text])
    with pytest.raises(UnreachableError):
        await resolver.resolve(name("example.org"))
    await resolver.close()


@pytest.mark.parametrize("rubbish", [b"", b"\0", b"\xff" * 12, b"\0\0" + b"\x80" * 10, b"\xc0\x0c" * 40])
async def test_rubbish_by_tcp_is_no_answer(rubbish: bytes, server: DnsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(name_service, "LIFETIME_S", 0.3)
    server.truncate = True
    server.rubbish_by_tcp = rubbish
    resolver = Resolver(asyncio.get_running_loop(), [server.text])
    with pytest.raises(UnreachableError, match=r"the nameservers failed|no answer from"):
        await resolver.resolve(name("example.org", port=5060))
    await resolver.close()


async def test_aliases_are_followed_and_circles_end(server: DnsServer, asking: Resolver) -> None:
    server.zone("a.example. 60 IN CNAME b.example.\nb.example. 60 IN A 192.0.2.1")
    assert texts(await asking.resolve(name("a.example"))) == ["UDP 192.0.2.1:5060"]
    server.zone("x.example. 60 IN CNAME y.example.\ny.example. 60 IN CNAME x.example.")
    with pytest.raises(UnreachableError):
        await asking.resolve(name("x.example"))


async def test_a_machine_in_another_network_reads_its_settings_again(
    server: DnsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.zone("_sip._udp.example.org. 60 IN SRV 1 1 5070 192.0.2.1.")
    async with DnsServer() as old:
        old.rcode = "SERVFAIL"
        now = [name_service.parse_nameserver(old.text)]
        monkeypatch.setattr(
            name_service, "_system_servers", lambda: [name_service._Nameserver(*address) for address in now]
        )
        monkeypatch.setattr(name_service, "REREAD_S", 0.0)
        names = name_service.NameService(asyncio.get_running_loop())
        now[:] = [name_service.parse_nameserver(server.text)]
        with pytest.raises(name_service.NameServiceError, match="SERVFAIL"):
            await names.services("_sip._udp.example.org")
        found, _ = await names.services("_sip._udp.example.org")
        assert [one.target for one in found] == ["192.0.2.1"]


async def test_a_nameserver_may_have_an_ipv6_address() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 on this machine")
    async with DnsServer("::1") as server:
        server.zone("example.org. 60 IN AAAA 2001:db8::5")
        resolver = Resolver(asyncio.get_running_loop(), [server.text])
        assert texts(await resolver.resolve(name("example.org"))) == ["UDP 2001:db8::5:5060"]
        await resolver.close()


async def test_the_journal_tells_what_was_asked_and_answered(server: DnsServer, asking: Resolver) -> None:
    server.zone("example.org. 60 IN A 192.0.2.1")
    await asking.resolve(name("example.org"))
    told = {(one.name, one.kind): one.answer for one in asking.names.journal}
    assert told["_sip._udp.example.org", "SRV"] == "no such name"
    assert told["example.org", "A"] == "192.0.2.1"


SOURCE = str(Path(name_service.__file__).parents[2])


PROGRAM = """
import asyncio, sys, uvloop
from offhook.model.errors import UnreachableError
from offhook.signaling.resolver import Resolver
from offhook.sip.events import Hop

async def main(nameserver):
    resolver = Resolver(asyncio.get_running_loop(), [nameserver])
    loaded = set(sys.modules)
    for host in ("first.example", "alias.example", "gone.example", "b\u00fccher.example"):
        try:
            await resolver.resolve(Hop(transport="UDP", host=host, port=0), ("UDP", "TCP"))
        except UnreachableError:
            pass
    print(*(set(sys.modules) - loaded))

uvloop.run(main(sys.argv[1]))
"""


async def test_the_first_questions_of_a_fresh_program_import_nothing_on_the_loop(server: DnsServer) -> None:
    server.zone(
        "first.example. 60 IN A 192.0.2.1\n"
        "alias.example. 60 IN CNAME first.example.\n_sip._udp.first.example. 60 IN SRV 1 1 5060 first.example."
    )
    server.start_of_authority("example.", 60, 60)
    fresh = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, server.text, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": SOURCE}
    )
    out, _ = await fresh.communicate()
    assert fresh.returncode == 0
    assert out.decode().split() == []
