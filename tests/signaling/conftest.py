"""The resolver's worlds: the system's names, and a nameserver on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.signaling.dns_server import DnsServer
from tests.signaling.names import Clock, FakeDns

from offhook.signaling import resolver as module
from offhook.signaling.resolver import Resolver


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


@pytest.fixture
async def server() -> AsyncIterator[DnsServer]:
    async with DnsServer() as one:
        yield one


@pytest.fixture
async def asking(server: DnsServer) -> AsyncIterator[Resolver]:
    one = Resolver(asyncio.get_running_loop(), [server.text], fraction=lambda: 0.0)
    yield one
    await one.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    one = Clock()
    monkeypatch.setattr(module, "time", one)
    return one
