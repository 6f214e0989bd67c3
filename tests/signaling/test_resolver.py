"""Names become addresses off the loop, once."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from offhook.model.errors import UnreachableError
from offhook.signaling import resolver as module
from offhook.signaling.resolver import Resolver, is_ip_literal
from offhook.sip.events import Hop


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
    monkeypatch.setattr(module, "ANSWER_TTL_S", -1.0)
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
    for _ in range(3):
        await asyncio.sleep(0)
    with pytest.raises(UnreachableError, match="other names are being looked up"):
        await resolver.resolve(hop("one-too-many"))
    assert len(dns.asked) == module.CONCURRENT_LOOKUPS
    dns.may_answer.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(one) for one in results] == [UnreachableError] * module.WAITING_LOOKUPS


async def test_memory_of_names_is_bounded(resolver: Resolver, dns: FakeDns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CACHE_NAMES", 4)
    for number in range(9):
        dns.answers[f"n{number}"] = ["192.0.2.1"]
        await resolver.resolve(hop(f"n{number}"))
    assert [resolver.resolved(hop(f"n{number}")) is not None for number in range(9)] == [False] * 5 + [True] * 4
