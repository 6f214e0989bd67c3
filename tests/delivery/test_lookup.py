"""Names are looked up off the loop, once for all who wait, and a silent nameserver delays nobody else."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest
from aiohttp.abc import AbstractResolver
from tests.delivery.receivers import OPEN, RECEIVER, fault, receiver, request, trusting

from offhook.delivery.lookup import ANSWERS_TRIED, JudgingResolver, Lookup, system_addresses
from offhook.delivery.outbound_http import OutboundHttp
from offhook.delivery.targets_allowed import TargetPolicy
from offhook.model.errors import OutboundError

TLS = trusting()


class SlowNames:
    """Names that begin with ``slow`` are answered once ``go_on`` is set."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.asked: Counter[str] = Counter()
        self.threads: set[int] = set()

    def __call__(self, name: str) -> Sequence[str]:
        self.asked[name] += 1
        self.threads.add(threading.get_ident())
        if name.startswith("slow"):
            self.go_on.wait(10)
        return [RECEIVER]


@pytest.fixture
def names() -> Iterator[SlowNames]:
    made = SlowNames()
    yield made
    made.go_on.set()


async def test_the_loop_goes_on_meanwhile(names: SlowNames) -> None:
    lookup = Lookup(names)
    waiting = asyncio.create_task(lookup.addresses("slow.example.com"))
    assert await lookup.addresses("quick.example.com") == [RECEIVER]
    assert not waiting.done()
    names.go_on.set()
    assert await waiting == [RECEIVER]
    assert threading.get_ident() not in names.threads


async def test_a_name_is_asked_for_once_however_many_wait(names: SlowNames) -> None:
    lookup = Lookup(names)
    waiting = [asyncio.create_task(lookup.addresses("slow.example.com")) for _ in range(20)]
    await lookup.addresses("quick.example.com")
    names.go_on.set()
    assert await asyncio.gather(*waiting) == [[RECEIVER]] * 20
    assert names.asked["slow.example.com"] == 1
    await lookup.addresses("slow.example.com")
    assert names.asked["slow.example.com"] == 2, "nothing is remembered"


async def test_one_who_gives_up_takes_nothing_from_the_others(names: SlowNames) -> None:
    lookup = Lookup(names)
    first, second = (asyncio.create_task(lookup.addresses("slow.example.com")) for _ in range(2))
    await lookup.addresses("quick.example.com")
    first.cancel()
    names.go_on.set()
    assert await second == [RECEIVER]


async def test_only_so_many_threads_wait_for_nameservers(names: SlowNames, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("offhook.delivery.lookup.LOOKUPS", 2)
    lookup = Lookup(names)
    waiting = [asyncio.create_task(lookup.addresses(f"slow-{n}.example.com")) for n in range(5)]
    late = asyncio.create_task(lookup.addresses("quick.example.com"))
    done, _ = await asyncio.wait([*waiting, late], timeout=0.05)
    assert not done
    assert names.asked.total() == 2
    names.go_on.set()
    assert await asyncio.gather(*waiting, late) == [[RECEIVER]] * 6


async def test_close_gives_up(names: SlowNames) -> None:
    lookup = Lookup(names)
    waiting = asyncio.create_task(lookup.addresses("slow.example.com"))
    await lookup.addresses("quick.example.com")
    lookup.close()
    with pytest.raises(OSError, match="given up"):
        await waiting


@pytest.mark.parametrize("error", [OSError("no"), UnicodeError("label too long"), ValueError("null character")])
async def test_whatever_a_resolver_raises_is_no_address(error: Exception) -> None:
    def find(name: str) -> Sequence[str]:
        raise error

    async with OutboundHttp(OPEN, tls=TLS, find=find) as client:
        assert (await fault(client, request("https://hooks.example.com/"))).kind == "unresolvable"


async def test_no_answer_is_no_address() -> None:
    async with OutboundHttp(OPEN, tls=TLS, find=lambda name: []) as client:
        assert (await fault(client, request("https://hooks.example.com/"))).kind == "unresolvable"


async def test_a_silent_nameserver_ends_with_the_deadline_and_delays_no_other(names: SlowNames) -> None:
    async with receiver() as server, OutboundHttp(OPEN, tls=TLS, find=names) as client:
        slow = asyncio.create_task(fault(client, request(server.url(host="slow.example.com"), deadline_s=0.2)))
        assert (await client.send(request(server.url(host="quick.example.com")))).status == 200
        assert not slow.done()
        assert (await slow).kind == "timeout"


async def test_close_ends_what_waits_for_a_name(names: SlowNames) -> None:
    client = OutboundHttp(OPEN, tls=TLS, find=names)
    slow = asyncio.create_task(fault(client, request("https://slow.example.com/")))
    while not names.asked:  # noqa: ASYNC110 (the thread has no event of this loop)
        await asyncio.sleep(0.001)
    await client.close()
    assert (await slow).kind == "unresolvable"


async def test_few_of_many_addresses_are_tried_but_all_are_judged() -> None:
    def resolver(answers: Sequence[str]) -> AbstractResolver:
        return JudgingResolver(Lookup(lambda name: answers), "https", TargetPolicy())

    many = [f"8.8.8.{n}" for n in range(100)]
    found = await resolver(many).resolve("hooks.example.com", 443)
    assert [each["host"] for each in found] == many[:ANSWERS_TRIED]
    with pytest.raises(OutboundError):
        await resolver([*many, "10.0.0.1"]).resolve("hooks.example.com", 443)


def test_this_machine_knows_itself() -> None:
    found = system_addresses("localhost")
    assert "127.0.0.1" in found
    assert len(set(found)) == len(found)
