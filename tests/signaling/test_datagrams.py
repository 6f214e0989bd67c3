"""UDP sockets that answer from the address they were called at."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace

import pytest

from offhook.signaling import budget, datagrams
from offhook.signaling.budget import WorkBudget
from offhook.signaling.datagrams import DATAGRAMS_PER_WAKE_UP, DatagramReceiver, UdpSocket, local_host_towards
from offhook.sip.events import Address

Opener = Callable[..., UdpSocket]


@pytest.fixture
async def opened() -> AsyncIterator[Opener]:
    """``opened(host, receiver) -> UdpSocket``; closes them all."""
    loop = asyncio.get_running_loop()
    sockets: list[UdpSocket] = []

    def open_one(host: str, receiver: DatagramReceiver) -> UdpSocket:
        bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        bound.setblocking(False)
        bound.bind((host, 0))
        sockets.append(UdpSocket(bound, receiver, loop, WorkBudget(loop)))
        return sockets[-1]

    yield open_one
    for one in sockets:
        one.close()


class Mailbox:
    """Collects datagrams; ``take(n)`` waits for n of them."""

    def __init__(self) -> None:
        self.received: list[tuple[bytes, Address, Address]] = []
        self._arrived = asyncio.Event()

    def __call__(self, data: bytes, local: Address, remote: Address) -> None:
        self.received.append((data, local, remote))
        self._arrived.set()

    async def take(self, count: int) -> list[tuple[bytes, Address, Address]]:
        async with asyncio.timeout(5):
            while len(self.received) < count:
                self._arrived.clear()
                await self._arrived.wait()
        return self.received


@pytest.mark.parametrize(
    ("bind_to", "call_at"),
    [
        ("0.0.0.0", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.2"),
        ("0.0.0.0", "127.1.2.3"),
        ("127.0.0.2", "127.0.0.2"),
        ("::", "::1"),
        ("::1", "::1"),
    ],
)
async def test_a_reply_leaves_from_the_address_that_was_called(opened: Opener, bind_to: str, call_at: str) -> None:
    server_mail, client_mail = Mailbox(), Mailbox()
    server = opened(bind_to, server_mail)
    client = opened("::1" if ":" in call_at else "127.0.0.1", client_mail)
    called = Address(call_at, server.address.port)
    client.send(b"hello", client.address.host, called)
    [(data, local, remote)] = await server_mail.take(1)
    assert (data, local, remote) == (b"hello", called, client.address)
    server.send(b"there", local.host, remote)
    assert await client_mail.take(1) == [(b"there", client.address, called)]


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
async def test_a_platform_that_does_not_tell_asks_for_its_route(
    opened: Opener, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setattr(datagrams, "_ask_for_destination", lambda bound: False)
    server_mail, client_mail = Mailbox(), Mailbox()
    server = opened(host, server_mail)
    loopback = "::1" if host == "::" else "127.0.0.1"
    client = opened(loopback, client_mail)
    client.send(b"hello", loopback, Address(loopback, server.address.port))
    [(_, local, remote)] = await server_mail.take(1)
    assert local == Address(loopback, server.address.port)
    server.send(b"there", local.host, remote)
    assert [data for data, _, _ in await client_mail.take(1)] == [b"there"]


async def test_the_largest_datagram_arrives_whole(opened: Opener) -> None:
    mail = Mailbox()
    server = opened("127.0.0.1", mail)
    client = opened("127.0.0.1", Mailbox())
    largest = bytes(range(256)) * 255 + bytes(227)  # 65,507: 65,535 less the IPv4 and UDP headers
    client.send(largest, "127.0.0.1", server.address)
    assert (await mail.take(1))[0][0] == largest


async def test_an_unreachable_peer_is_an_error_or_silence_and_the_socket_lives(opened: Opener) -> None:
    mail = Mailbox()
    server = opened("0.0.0.0", mail)
    with pytest.raises(OSError):  # noqa: PT011  the kernel's text
        server.send(b"x", "192.0.2.77", Address("127.0.0.1", 9))  # not an address of ours
    server.send(b"x", "127.0.0.1", Address("127.0.0.1", 9))  # nobody there: UDP does not tell
    opened("127.0.0.1", Mailbox()).send(b"y", "127.0.0.1", Address("127.0.0.1", server.address.port))
    assert [data for data, _, _ in await mail.take(1)] == [b"y"]


async def test_one_wake_up_takes_a_bounded_number(opened: Opener) -> None:
    mail = Mailbox()
    server = opened("127.0.0.1", mail)
    client = opened("127.0.0.1", Mailbox())
    for number in range(3 * DATAGRAMS_PER_WAKE_UP):
        client.send(b"%d" % number, "127.0.0.1", server.address)
    await asyncio.sleep(0)  # one turn of the loop: at most one wake-up
    assert len(mail.received) <= DATAGRAMS_PER_WAKE_UP
    everything = await mail.take(3 * DATAGRAMS_PER_WAKE_UP)
    assert [data for data, _, _ in everything] == [b"%d" % number for number in range(3 * DATAGRAMS_PER_WAKE_UP)]


async def test_costly_datagrams_leave_time_for_media(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver that takes 1.1 ms, by the clock of this test, for each of 100 datagrams."""
    now = 1000.0
    mail = Mailbox()

    def slowly(data: bytes, local: Address, remote: Address) -> None:
        nonlocal now
        now += 0.0011
        mail(data, local, remote)

    for module in (budget, datagrams):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now))
    server = opened("127.0.0.1", slowly)
    client = opened("127.0.0.1", Mailbox())
    for number in range(100):
        client.send(b"%d" % number, "127.0.0.1", server.address)
    between: list[int] = []
    while len(mail.received) < 100:
        before = len(mail.received)
        await asyncio.sleep(0)
        between.append(len(mail.received) - before)
    assert max(between) == 2  # 2 ms of share and the one begun in it; without the budget: 32


async def test_closing_within_a_datagram_is_safe(opened: Opener) -> None:
    seen: list[bytes] = []
    closing: list[UdpSocket] = []

    def close_at_once(data: bytes, local: Address, remote: Address) -> None:
        seen.append(data)
        closing[0].close()

    closing.append(opened("127.0.0.1", close_at_once))
    client = opened("127.0.0.1", Mailbox())
    for _ in range(3):
        client.send(b"x", "127.0.0.1", closing[0].address)
    await asyncio.sleep(0.05)
    assert seen == [b"x"]


def test_the_route_tells_our_address() -> None:
    assert local_host_towards(Address("127.0.0.9", 5060)).startswith("127.0.0.")
    assert local_host_towards(Address("::1", 5060)) == "::1"
