"""Where to listen, which socket a message takes, and what is said when it cannot."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterator

import pytest
from tests.signaling.wire import Noted, outbound, request

from offhook.model.errors import ListenError, LocalProtocolError, UnreachableError
from offhook.signaling import transports as module
from offhook.signaling.trace import TraceRecord
from offhook.signaling.transports import Transports
from offhook.sip.events import Address, Flow, Hop, Outbound, Transport


@contextlib.asynccontextmanager
async def transports() -> AsyncIterator[tuple[Transports, Noted]]:
    noted = Noted()
    one = Transports(noted, asyncio.get_running_loop())
    try:
        yield one, noted
    finally:
        await one.close()


@pytest.fixture(params=["UDP", "TCP"])
def transport(request: pytest.FixtureRequest) -> Transport:
    chosen: Transport = request.param
    return chosen


@contextlib.contextmanager
def occupied(transport: Transport, host: str = "127.0.0.1") -> Iterator[int]:
    """A port somebody else listens on."""
    kind = socket.SOCK_DGRAM if transport == "UDP" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind) as other:
        other.bind((host, 0))
        if transport == "TCP":
            other.listen()
        yield other.getsockname()[1]


# ── listening ────────────────────────────────────────────────────────────────────────────────────────────


async def test_listening_tells_the_port_that_was_free(transport: Transport) -> None:
    async with transports() as (one, _):
        address = await one.listen(transport, "127.0.0.1", 0)
        assert address.host == "127.0.0.1"
        assert address.port > 0
        assert one.listening == ((transport, address),)


async def test_no_host_means_every_address_of_both_families(transport: Transport) -> None:
    async with transports() as (one, _):
        address = await one.listen(transport, "", 0)
        assert address.host == "0.0.0.0"
        assert one.listening == ((transport, address), (transport, Address("::", address.port)))


async def test_a_machine_without_ipv6_listens_on_ipv4(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    bind_one = module._bind_one

    def without_ipv6(transport: Transport, host: str, port: int) -> socket.socket:
        if ":" in host:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return bind_one(transport, host, port)

    monkeypatch.setattr(module, "_bind_one", without_ipv6)
    async with transports() as (one, _):
        address = await one.listen(transport, "", 0)
        assert one.listening == ((transport, address),)


async def test_a_busy_port_is_named_with_what_to_do(transport: Transport) -> None:
    async with transports() as (one, _):
        with occupied(transport) as port, pytest.raises(ListenError) as raised:
            await one.listen(transport, "127.0.0.1", port)
        assert str(raised.value).startswith(f"cannot listen on {transport} 127.0.0.1:{port}: port {port} is in use")
        assert f":{port}" in raised.value.fix
        assert "another port" in raised.value.fix
        assert one.listening == ()


async def test_a_port_busy_on_ipv6_only_is_busy_for_both(transport: Transport) -> None:
    async with transports() as (one, _):
        with occupied(transport, "::") as port, pytest.raises(ListenError, match="in use"):
            await one.listen(transport, "", port)
        assert one.listening == ()


@pytest.mark.parametrize(
    ("number", "problem", "fix"),
    [
        (errno.EACCES, "this user may not open port 5060", "1024"),
        (errno.EADDRNOTAVAIL, "this machine has no such address", "ip addr"),
        (errno.EAFNOSUPPORT, "this machine has no IPv6", "IPv4"),
        (errno.ENOBUFS, os.strerror(errno.ENOBUFS), "another address"),
    ],
)
async def test_each_failure_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, number: int, problem: str, fix: str
) -> None:
    def refuse(*_: object) -> socket.socket:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(module, "_bind_one", refuse)
    async with transports() as (one, _):
        with pytest.raises(ListenError) as raised:
            await one.listen("UDP", "::1", 5060)
    assert f"cannot listen on UDP [::1]:5060: {problem}" in str(raised.value)
    assert fix in raised.value.fix


@pytest.mark.parametrize(("host", "port"), [("localhost", 5060), ("192.0.2.300", 5060), ("127.0.0.1", 65_536)])
async def test_what_is_no_address_is_refused(host: str, port: int) -> None:
    async with transports() as (one, _):
        with pytest.raises(ListenError):
            await one.listen("UDP", host, port)


async def test_an_address_of_another_machine_is_refused(transport: Transport) -> None:
    async with transports() as (one, _):
        with pytest.raises(ListenError, match="this machine has no such address"):
            await one.listen(transport, "198.51.100.1", 0)


async def test_a_closed_port_can_be_opened_again_at_once(transport: Transport) -> None:
    async with transports() as (one, _):
        port = (await one.listen(transport, "127.0.0.1", 0)).port
    async with transports() as (one, _):
        assert await one.listen(transport, "127.0.0.1", port) == Address("127.0.0.1", port)


# ── the way to a peer ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("listen_on", "peer", "local"),
    [
        ("", "127.0.0.9", "127.0.0.1"),
        ("", "::1", "::1"),
        ("0.0.0.0", "127.0.0.1", "127.0.0.1"),
        ("127.0.0.2", "127.0.0.1", "127.0.0.2"),
        ("::1", "::1", "::1"),
    ],
)
async def test_a_flow_says_where_the_peer_can_reach_us(
    transport: Transport, listen_on: str, peer: str, local: str
) -> None:
    async with transports() as (one, _):
        port = (await one.listen(transport, listen_on, 0)).port
        hop = Hop(transport=transport, host=peer, port=5070)
        ((flow, resolved),) = await one.ways_to(hop)
        if peer != "127.0.0.9":  # the kernel may choose any loopback address towards that one
            assert flow.local == Address(local, port)
        assert flow == Flow(transport=transport, local=flow.local, remote=Address(peer, 5070))
        assert resolved == hop


async def test_a_name_is_resolved_to_a_family_we_listen_on() -> None:
    async with transports() as (one, _):
        address = await one.listen("UDP", "127.0.0.1", 0)
        ((flow, hop), *_) = await one.ways_to(Hop(transport="UDP", host="localhost", port=5070))
        assert flow == Flow(transport="UDP", local=address, remote=Address("127.0.0.1", 5070))
        assert hop == Hop(transport="UDP", host="127.0.0.1", port=5070)


async def test_no_flow_without_a_socket_of_its_family() -> None:
    async with transports() as (one, _):
        await one.listen("UDP", "127.0.0.1", 0)
        with pytest.raises(UnreachableError, match="::1: no UDP socket of its address family"):
            await one.ways_to(Hop(transport="UDP", host="::1", port=5070))


async def test_a_flow_needs_listening_first() -> None:
    async with transports() as (one, _):
        await one.listen("UDP", "127.0.0.1", 0)
        with pytest.raises(LocalProtocolError, match="TCP"):
            await one.ways_to(Hop(transport="TCP", host="127.0.0.1", port=5070))


# ── datagrams ────────────────────────────────────────────────────────────────────────────────────────────


async def test_two_talk_over_udp_on_either_family() -> None:
    async with transports() as (one, at_one), transports() as (other, at_other):
        for host in ("127.0.0.1", "::1"):
            ours, theirs = await one.listen("UDP", host, 0), await other.listen("UDP", host, 0)
            one.send(outbound(b"question", Flow(transport="UDP", local=ours, remote=theirs)))
            await at_other.until(lambda: bool(at_other.datagrams))
            [(data, flow)] = at_other.datagrams
            assert (data, flow) == (b"question", Flow(transport="UDP", local=theirs, remote=ours))
            other.send(outbound(b"answer", flow))
            await at_one.until(lambda: bool(at_one.datagrams))
            assert [data for data, _ in at_one.datagrams] == [b"answer"]
            at_one.datagrams.clear()
            at_other.datagrams.clear()


async def test_the_socket_bound_to_the_address_goes_before_the_wildcard() -> None:
    async with transports() as (one, _), transports() as (other, at_other):
        exact = await one.listen("UDP", "127.0.0.2", 0)
        theirs = await other.listen("UDP", "127.0.0.1", 0)
        one.send(outbound(b"x", Flow(transport="UDP", local=exact, remote=theirs)))
        await at_other.until(lambda: bool(at_other.datagrams))
        assert at_other.datagrams[0][1].remote == exact


async def test_a_name_as_next_hop_is_looked_up_without_waiting() -> None:
    async with transports() as (one, _), transports() as (other, at_other):
        ours, theirs = await one.listen("UDP", "127.0.0.1", 0), await other.listen("UDP", "127.0.0.1", 0)
        flow = Flow(transport="UDP", local=ours, remote=Address("198.51.100.1", 5060))
        hop = Hop(transport="UDP", host="localhost", port=theirs.port)
        one.send(Outbound(data=b"by name", flow=flow, next_hop=hop, token=1))
        await at_other.until(lambda: bool(at_other.datagrams))
        assert at_other.datagrams[0][0] == b"by name"


@pytest.mark.parametrize(
    ("host", "port", "problem"),
    [
        ("name.invalid", 5060, "name.invalid"),
        ("::1", 5060, "no UDP socket of its address family"),
        ("127.0.0.1", 70_000, "127.0.0.1:70000"),
        ("", 5060, ""),
    ],
)
async def test_where_nothing_can_be_sent_the_core_is_told(host: str, port: int, problem: str) -> None:
    async with transports() as (one, noted):
        ours = await one.listen("UDP", "127.0.0.1", 0)
        one.send(outbound(b"x", Flow(transport="UDP", local=ours, remote=Address(host, port)), token=42))
        await noted.until(lambda: bool(noted.failures), timeout_s=10)
        [(token, why)] = noted.failures
        assert token == 42
        assert problem in why


async def test_a_flow_of_one_family_does_not_lead_to_the_other(transport: Transport) -> None:
    async with transports() as (one, noted):
        ours = await one.listen(transport, "", 0)
        flow = Flow(transport=transport, local=Address("127.0.0.1", ours.port), remote=Address("127.0.0.1", 9))
        hop = Hop(transport="TCP", host="::1", port=9)
        one.send(Outbound(data=b"x", flow=flow, next_hop=hop, token=3))
        assert noted.failures == [(3, "::1: our end of this flow is of the other address family")]


async def test_a_flood_of_names_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITING_SENDS", 2)
    async with transports() as (one, noted):
        ours = await one.listen("UDP", "127.0.0.1", 0)
        flow = Flow(transport="UDP", local=ours, remote=Address("198.51.100.1", 5060))
        for token in range(1, 4):
            hop = Hop(transport="UDP", host=f"n{token}.invalid", port=5060)
            one.send(Outbound(data=b"x", flow=flow, next_hop=hop, token=token))
        assert [token for token, _ in noted.failures] == [3]


async def test_keepalives_of_nothing_are_counted_and_dropped() -> None:
    async with transports() as (one, noted), transports() as (other, _):
        theirs, ours = await other.listen("UDP", "127.0.0.1", 0), await one.listen("UDP", "127.0.0.1", 0)
        for data in (b"\r\n\r\n", b"\0", b"", b"\r\n", b"last"):
            other.send(outbound(data, Flow(transport="UDP", local=theirs, remote=ours)))
        await noted.until(lambda: bool(noted.datagrams))
        assert [data for data, _ in noted.datagrams] == [b"last"]
        assert one.datagram_counts.keepalives == 4


async def test_what_is_sent_is_traced_with_its_flow() -> None:
    records: list[TraceRecord] = []
    noted = Noted()
    one = Transports(noted, asyncio.get_running_loop(), trace=records.append)
    ours = await one.listen("UDP", "127.0.0.1", 0)
    flow = Flow(transport="UDP", local=ours, remote=Address("127.0.0.1", 9))
    one.send(outbound(request(transport="UDP"), flow))
    assert [(record.direction, record.flow, record.data) for record in records] == [
        ("sent", flow, request(transport="UDP"))
    ]
    await one.close()


async def test_closing_twice_is_closing_once() -> None:
    async with transports() as (one, _):
        await one.listen("UDP", "127.0.0.1", 0)
        await one.listen("TCP", "127.0.0.1", 0)
        await one.close()
        assert one.listening == ()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells to whom an ICMP error belongs")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_an_icmp_error_is_told_and_the_socket_goes_on(host: str) -> None:
    async with transports() as (one, noted), transports() as (other, heard):
        ours, theirs = await one.listen("UDP", host, 0), await other.listen("UDP", host, 0)
        nobody = Address(host, 9)
        one.send(outbound(request(), Flow(transport="UDP", local=ours, remote=nobody)))
        await noted.until(lambda: noted.unreached == [(nobody, "Connection refused")])
        for number in range(3):
            one.send(outbound(request(), Flow(transport="UDP", local=ours, remote=nobody)))
            one.send(outbound(b"%d" % number * 50, Flow(transport="UDP", local=ours, remote=theirs)))
        await heard.until(lambda: len(heard.datagrams) == 3)
        assert noted.failures == []


async def test_a_connection_s_messages_are_told_our_address_as_it_is_known_now() -> None:
    """Who dials his registrar is told by the answer how he is seen; the calls that come back that way need it."""
    async with transports() as (ours, noted), transports() as (theirs, _):
        local = await ours.listen("TCP", "127.0.0.1", 0)
        await theirs.listen("TCP", "127.0.0.2", 0)
        ((flow, hop), *_) = await theirs.ways_to(Hop(transport="TCP", host=local.host, port=local.port))
        theirs.send(Outbound(data=request(call_id="1"), flow=flow, next_hop=hop))
        await noted.until(lambda: len(noted.items) == 1)
        _, before = noted.items[0]
        assert (before.local, before.interface) == (local, "")
        ours.advertised.learn(before.remote.host, local, Address("203.0.113.7", 40_000), "TCP")
        theirs.send(Outbound(data=request(call_id="2"), flow=flow, next_hop=hop))
        await noted.until(lambda: len(noted.items) == 2)
        _, after = noted.items[1]
        assert (after.local, after.bind_host) == (Address("203.0.113.7", 40_000), local.host)
        assert (after.remote, after.connection) == (before.remote, before.connection)
