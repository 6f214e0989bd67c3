"""Where tenants' URLs of AI providers lead, judged when they are connected to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import ip_network

import pytest
from tests.delivery.ssrf_tricks import HOSTS

from offhook.bridge.guard import RefusedTargetError
from offhook.delivery.connect_guard import ConnectGuard
from offhook.delivery.targets_allowed import TargetPolicy

ADDRESSES = {
    "public.example": ["93.184.216.34"],
    "inside.example": ["127.0.0.1"],
    "metadata.example": ["169.254.169.254"],
    "private.example": ["10.0.0.1"],
    "mapped.example": ["::ffff:10.0.0.1"],
    "both.example": ["93.184.216.34", "10.0.0.1"],
    "nothing.example": [],
}


def find(name: str) -> Sequence[str]:
    return ADDRESSES.get(name, ["127.0.0.1"])


@pytest.fixture
def guard() -> Iterator[ConnectGuard]:
    made = ConnectGuard(TargetPolicy, find=find)
    yield made
    made.close()


async def test_a_name_with_public_addresses_may_be_reached_at_them(guard: ConnectGuard) -> None:
    guard.check("wss://public.example/v1")
    assert await guard.addresses("public.example", 443, secure=True) == ["93.184.216.34"]


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("inside.example", "127.0.0.1, which is a loopback address"),
        ("metadata.example", "169.254.169.254, which is where a cloud hands out credentials"),
        ("private.example", "10.0.0.1, which is a private address"),
        ("mapped.example", "which is a private address"),
        ("both.example", "10.0.0.1, which is a private address"),
    ],
)
async def test_one_address_inside_refuses_a_name(guard: ConnectGuard, host: str, why: str) -> None:
    with pytest.raises(RefusedTargetError, match=why):
        await guard.addresses(host, 443, secure=True)


async def test_plain_http_is_refused_by_name_and_by_url(guard: ConnectGuard) -> None:
    with pytest.raises(RefusedTargetError, match="plain http"):
        guard.check("ws://public.example/")
    with pytest.raises(RefusedTargetError, match="plain http"):
        await guard.addresses("public.example", 80, secure=False)


async def test_a_name_without_addresses_may_have_some_later(guard: ConnectGuard) -> None:
    with pytest.raises(OSError, match="has no address") as failed:
        await guard.addresses("nothing.example", 443, secure=True)
    assert not isinstance(failed.value, RefusedTargetError)


@pytest.mark.parametrize("host", HOSTS)
async def test_no_spelling_of_loopback_passes(guard: ConnectGuard, host: str) -> None:
    async def reach() -> None:
        guard.check(f"wss://{host}/v1")
        await guard.addresses(host, 443, secure=True)

    with pytest.raises(RefusedTargetError):
        await reach()


async def test_the_policy_is_that_of_the_moment() -> None:
    policies = [TargetPolicy(allowed_targets=(ip_network("10.0.0.1"),))]
    guard = ConnectGuard(lambda: policies[-1], find=find)
    assert await guard.addresses("private.example", 443, secure=True) == ["10.0.0.1"]
    policies.append(TargetPolicy())
    with pytest.raises(RefusedTargetError):
        await guard.addresses("private.example", 443, secure=True)
    guard.close()
