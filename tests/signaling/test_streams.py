"""TCP: framing, reuse both ways, and peers that mean no good."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest
from tests.signaling.wire import Noted, Telnet, outbound, request

from offhook.signaling import budget, streams
from offhook.signaling.transports import Transports
from offhook.sip.events import Address, Flow
from offhook.sip.message import Request
from offhook.sip.parser import Broken, MalformedRequest, StreamItem

RESPONSE_TO_ALL = (
    b"SIP/2.0 200 OK\r\nVia: SIP/2.0/TCP 127.0.0.1;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n"
    b"To: <sip:a@b>;tag=2\r\nCall-ID: answer\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
)
RESPONSE = b"SIP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"


class Listening:
    """Transports with one TCP listener."""

    def __init__(self, transports: Transports, noted: Noted, address: Address) -> None:
        self.transports = transports
        self.noted = noted
        self.address = address

    @property
    def pool(self) -> streams.StreamPool:
        return self.transports.streams

    @property
    def counts(self) -> streams.StreamCounts:
        return self.transports.stream_counts

    def flow_to(self, remote: Address, connection: int = 0) -> Flow:
        return Flow(transport="TCP", local=self.address, remote=remote, connection=connection)


@contextlib.asynccontextmanager
async def listening(host: str = "127.0.0.1") -> AsyncIterator[Listening]:
    noted = Noted()
    transports = Transports(noted, asyncio.get_running_loop())
    try:
        yield Listening(transports, noted, await transports.listen("TCP", host, 0))
    finally:
        await transports.close()


@contextlib.asynccontextmanager
async def closed_at_last(one: asyncio.Server) -> AsyncIterator[None]:
    try:
        yield
    finally:
        one.close()


@pytest.fixture
async def server() -> AsyncIterator[Listening]:
    async with listening() as one:
        yield one


@pytest.fixture
def quick_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "SWEEP_S", 0.01)


# ── framing ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_message_arrives_with_its_flow(server: Listening) -> None:
    client = await Telnet.to(server.address)
    await client.send(request(call_id="a", body=b"hello"))
    await server.noted.until(lambda: len(server.noted.items) == 1)
    [(item, flow)] = server.noted.items
    assert isinstance(item, Request)
    assert (item.sip_call_id, item.body) == ("a", b"hello")
    assert flow == Flow(transport="TCP", local=server.address, remote=client.address, connection=1)
    await client.close()


async def test_a_message_cut_anywhere_arrives_once(server: Listening) -> None:
    client = await Telnet.to(server.address)
    whole = request(call_id="cut", body=b"body")
    for at in range(1, len(whole), 7):
        await client.send(whole[:at])
        await asyncio.sleep(0)
        await client.send(whole[at:])
    count = len(range(1, len(whole), 7))
    await server.noted.until(lambda: len(server.noted.items) == count)
    assert server.noted.call_ids == ["cut"] * count
    await client.close()


async def test_many_messages_in_one_segment_keep_their_order(server: Listening) -> None:
    client = await Telnet.to(server.address)
    await client.send(b"".join(request(call_id=str(number)) for number in range(50)))
    await server.noted.until(lambda: len(server.noted.items) == 50)
    assert server.noted.call_ids == [str(number) for number in range(50)]
    await client.close()


async def test_the_largest_body_passes(server: Listening) -> None:
    client = await Telnet.to(server.address)
    await client.send(request(body=bytes(65_536)))
    await server.noted.until(lambda: len(server.noted.items) == 1)
    item = server.noted.items[0][0]
    assert isinstance(item, Request)
    assert item.body == bytes(65_536)
    await client.close()


async def test_a_ping_gets_its_pong(server: Listening) -> None:
    client = await Telnet.to(server.address)
    await client.send(b"\r\n\r\n" + request(call_id="x") + b"\r\n\r\n\r\n\r\n")
    assert await client.read(6) == b"\r\n\r\n\r\n"
    assert server.noted.call_ids == ["x"]
    await client.close()


async def test_a_malformed_request_is_handed_on_and_the_stream_goes_on(server: Listening) -> None:
    client = await Telnet.to(server.address)
    await client.send(request(call_id="bad").replace(b"CSeq: 1 OPTIONS", b"CSeq: x OPTIONS"))
    await client.send(request(call_id="good"))
    await server.noted.until(lambda: len(server.noted.items) == 2)
    assert isinstance(server.noted.items[0][0], MalformedRequest)
    assert server.noted.call_ids == ["good"]
    await client.close()


@pytest.mark.parametrize(
    "garbage",
    [
        request().replace(b"Content-Length: 0\r\n", b""),
        request().replace(b"Content-Length: 0", b"Content-Length: 99999999"),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) * 300,
        b"x" * 70_000,
    ],
    ids=["no-length", "huge-length", "http", "tls", "endless-line"],
)
async def test_a_stream_that_cannot_be_framed_is_closed(server: Listening, garbage: bytes) -> None:
    client = await Telnet.to(server.address)
    with contextlib.suppress(ConnectionError):
        await client.send(garbage)
    assert await client.closed_by_peer()
    assert [type(item) for item, _ in server.noted.items] == [Broken]
    assert server.counts.broken == 1
    await client.close()


# ── reuse ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_response_goes_back_on_its_connection(server: Listening) -> None:
    clients = [await Telnet.to(server.address) for _ in range(3)]
    for number, client in enumerate(clients):
        await client.send(request(call_id=str(number)))
    await server.noted.until(lambda: len(server.noted.items) == 3)
    for item, flow in server.noted.items:
        assert isinstance(item, Request)
        server.transports.send(outbound(RESPONSE.replace(b"OK", item.sip_call_id.encode()), flow))
    for number, client in enumerate(clients):
        assert (await client.read_message()).startswith(b"SIP/2.0 200 %d\r\n" % number)
        await client.close()


async def test_requests_to_one_peer_share_one_connection_even_while_it_is_dialled(server: Listening) -> None:
    async with listening() as peer:
        for number in range(5):
            server.transports.send(outbound(request(call_id=str(number)), server.flow_to(peer.address)))
        await peer.noted.until(lambda: len(peer.noted.items) == 5)
        server.transports.send(outbound(request(call_id="5"), server.flow_to(peer.address)))
        await peer.noted.until(lambda: len(peer.noted.items) == 6)
        assert peer.noted.call_ids == ["0", "1", "2", "3", "4", "5"]
        assert (peer.counts.accepted, server.counts.dialled) == (1, 1)


async def test_a_dialled_connection_carries_requests_back_and_tells_our_listening_port(server: Listening) -> None:
    async with listening() as peer:
        server.transports.send(outbound(request(call_id="there"), server.flow_to(peer.address)))
        await peer.noted.until(lambda: len(peer.noted.items) == 1)
        back = peer.noted.items[0][1]
        peer.transports.send(outbound(request(call_id="back"), back))
        await server.noted.until(lambda: len(server.noted.items) == 1)
        assert server.noted.call_ids == ["back"]
        assert server.noted.items[0][1].local == server.address
        assert peer.counts.dialled == 0


async def test_a_dialog_reaches_its_caller_on_the_callers_connection(server: Listening) -> None:
    """A caller behind NAT: its Contact names a port nobody can connect to, its connection stands."""
    client = await Telnet.to(server.address)
    await client.send(request(call_id="1"))
    await server.noted.until(lambda: len(server.noted.items) == 1)
    flow = server.noted.items[0][1]
    contact = Address(flow.remote.host, 9)
    server.transports.send(outbound(RESPONSE, server.flow_to(contact, flow.connection)))
    assert await client.read_message() == RESPONSE
    await client.close()


async def test_a_connection_is_not_used_for_another_host(server: Listening) -> None:
    client = await Telnet.to(server.address)
    await client.send(request())
    await server.noted.until(lambda: len(server.noted.items) == 1)
    flow = server.noted.items[0][1]
    async with listening("127.0.0.2") as proxy:
        server.transports.send(outbound(request(call_id="via"), server.flow_to(proxy.address, flow.connection)))
        await proxy.noted.until(lambda: len(proxy.noted.items) == 1)
    await client.close()


async def test_after_a_connection_is_lost_the_next_request_dials_again(server: Listening) -> None:
    async with listening() as peer:
        server.transports.send(outbound(request(call_id="1"), server.flow_to(peer.address), token=1))
        await peer.noted.until(lambda: len(peer.noted.items) == 1)
        await peer.pool.close(1)
        await server.noted.until(lambda: server.noted.lost == [1])
        assert server.noted.failures == [(1, "the connection was closed before an answer came")]
    async with listening() as again:
        server.transports.send(outbound(request(call_id="2"), server.flow_to(again.address)))
        await again.noted.until(lambda: again.noted.call_ids == ["2"])
    assert server.counts.dialled == 2


async def test_a_lost_connection_fails_the_requests_nobody_answered_and_no_other(server: Listening) -> None:
    async with listening() as peer:
        for token in (1, 2):
            server.transports.send(outbound(request(call_id=str(token)), server.flow_to(peer.address), token))
        await peer.noted.until(lambda: len(peer.noted.items) == 2)
        flow = peer.noted.items[0][1]
        peer.transports.send(outbound(RESPONSE_TO_ALL, flow))
        await server.noted.until(lambda: len(server.noted.items) == 1)
        server.transports.send(outbound(RESPONSE_TO_ALL, server.noted.items[0][1], token=3))
        server.transports.send(outbound(request(call_id="4"), server.flow_to(peer.address), token=4))
        await peer.noted.until(lambda: peer.noted.call_ids[-1] == "4")
        await peer.pool.close(1)
        await server.noted.until(lambda: bool(server.noted.lost))
    assert server.noted.failures == [(4, "the connection was closed before an answer came")]


async def test_what_is_told_of_a_lost_connection_is_bounded(server: Listening) -> None:
    async with listening() as peer:
        for token in range(1, streams.UNANSWERED_REQUESTS + 3):
            server.transports.send(outbound(request(), server.flow_to(peer.address), token))
            await peer.noted.until(lambda token=token: len(peer.noted.items) == token)  # type: ignore[misc]
        await peer.pool.close(1)
        await server.noted.until(lambda: bool(server.noted.lost))
    assert [token for token, _ in server.noted.failures] == list(range(3, streams.UNANSWERED_REQUESTS + 3))


# ── keep-alives ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("quick_sweep")
async def test_who_dialled_pings_and_who_accepted_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 5626 §4.4.1: the double CRLF is the client's."""
    monkeypatch.setattr(streams, "PING_S", 0.03)
    heard: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        heard.append(await reader.readexactly(8))
        writer.write(b"\r\n")
        heard.append(await reader.readexactly(4))
        writer.close()

    phone = await asyncio.start_server(listen, "127.0.0.1", 0)
    async with closed_at_last(phone), listening() as dialler:
        remote = Address(*phone.sockets[0].getsockname()[:2])
        dialler.transports.send(outbound(request(), dialler.flow_to(remote)))
        await dialler.noted.until(lambda: bool(dialler.noted.lost))
        assert heard == [b"\r\n\r\n\r\n\r\n", b"\r\n\r\n"]
        accepted = await Telnet.to(dialler.address)
        await accepted.send(request(call_id="in"))
        await dialler.noted.until(lambda: dialler.noted.call_ids == ["in"])
        assert not await accepted.closed_by_peer(0.2)
        assert accepted.unread == b""
        await accepted.close()


async def test_two_talk_over_ipv6() -> None:
    async with listening("::1") as one, listening("::1") as other:
        one.transports.send(outbound(request(call_id="six"), one.flow_to(other.address)))
        await other.noted.until(lambda: other.noted.call_ids == ["six"])
        item, flow = other.noted.items[0]
        assert isinstance(item, Request)
        assert flow.local == other.address
        assert flow.remote.host == "::1"


@pytest.mark.usefixtures("quick_sweep")
async def test_pongs_are_neither_unfinished_messages_nor_pings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "PING_S", 0.05)
    monkeypatch.setattr(streams, "FIRST_MESSAGE_S", 0.02)
    heard = asyncio.Queue[bytes]()

    async def answer_pings(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for _ in range(6):
            heard.put_nowait(await reader.readexactly(4))
            writer.write(b"\r\n")
        heard.put_nowait(await reader.readexactly(1))

    registrar = await asyncio.start_server(answer_pings, "127.0.0.1", 0)
    async with closed_at_last(registrar), listening() as dialler:
        remote = Address(*registrar.sockets[0].getsockname()[:2])
        dialler.transports.send(outbound(request(), dialler.flow_to(remote)))
        for _ in range(6):
            assert await asyncio.wait_for(heard.get(), 5) == b"\r\n\r\n"
        assert (dialler.counts.expired, dialler.noted.lost) == (0, [])


@pytest.mark.usefixtures("quick_sweep")
async def test_a_single_line_break_keeps_a_phone_s_connection(
    server: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "FIRST_MESSAGE_S", 0.1)
    client = await Telnet.to(server.address)
    await client.send(request(call_id="1") + b"\r\n")
    await server.noted.until(lambda: server.noted.call_ids == ["1"])
    assert not await client.closed_by_peer(0.3)
    await client.send(request(call_id="2"))
    await server.noted.until(lambda: server.noted.call_ids == ["1", "2"])
    await client.close()


# ── what fails ───────────────────────────────────────────────────────────────────────────────────────────


async def test_a_refused_connection_is_told_for_each_message(server: Listening) -> None:
    nobody = Address("127.0.0.1", 9)
    for token in (1, 2):
        server.transports.send(outbound(request(), server.flow_to(nobody), token))
    await server.noted.until(lambda: len(server.noted.failures) == 2)
    assert [token for token, _ in server.noted.failures] == [1, 2]
    assert "127.0.0.1" in server.noted.failures[0][1] or "refused" in server.noted.failures[0][1]


async def test_a_handshake_that_never_ends_is_given_up(server: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "DIAL_S", 0.05)

    async def hang(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", hang)
    server.transports.send(outbound(request(), server.flow_to(Address("198.51.100.1", 5060)), 3))
    await server.noted.until(lambda: len(server.noted.failures) == 1)
    assert server.noted.failures == [(3, "no TCP connection in 0.05 s")]


async def test_what_waits_for_a_handshake_is_bounded(server: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "DIAL_WAITING_MESSAGES", 2)
    flow = server.flow_to(Address("127.0.0.1", 9))
    for token in (1, 2, 3):
        server.transports.send(outbound(request(), flow, token))
    assert [token for token, _ in server.noted.failures] == [3]
    await server.noted.until(lambda: len(server.noted.failures) == 3)


async def test_closing_tells_those_who_still_wait() -> None:
    async with listening() as one:
        one.transports.send(outbound(request(), one.flow_to(Address("127.0.0.1", 9)), 5))
        await one.transports.close()
        assert one.noted.failures == [(5, "the endpoint was closed")]


async def test_a_peer_that_reads_nothing_is_cut_off(server: Listening) -> None:
    client = await Telnet.to(server.address)
    await client.send(request())
    await server.noted.until(lambda: len(server.noted.items) == 1)
    flow = server.noted.items[0][1]
    large = RESPONSE.replace(b"Content-Length: 0", b"Content-Length: 60000") + bytes(60_000)
    for token in range(1, 500):
        server.transports.send(outbound(large, flow, token))
        await asyncio.sleep(0)
        if server.noted.failures:
            break
    assert "unread" in server.noted.failures[0][1]
    assert server.counts.choked == 1
    await server.noted.until(lambda: server.noted.lost == [1])
    await client.close()


# ── limits ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_one_peer_gets_so_many_connections_and_another_still_gets_one(
    server: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "CONNECTIONS_PER_PEER", 3)
    clients = [await Telnet.to(server.address) for _ in range(3)]
    await server.noted.until(lambda: server.counts.accepted == 3)
    surplus = await Telnet.to(server.address)
    assert await surplus.closed_by_peer()
    reader, writer = await asyncio.open_connection(*server.address, local_addr=("127.0.0.2", 0))
    other = Telnet(reader, writer)
    await other.send(request(call_id="other"))
    await server.noted.until(lambda: server.noted.call_ids == ["other"])
    assert (server.counts.accepted, server.counts.refused, len(server.pool)) == (4, 1, 4)
    await clients[0].close()
    await server.noted.until(lambda: bool(server.noted.lost))
    again = await Telnet.to(server.address)
    await again.send(request(call_id="again"))
    await server.noted.until(lambda: server.noted.call_ids == ["other", "again"])
    for one in (*clients[1:], surplus, other, again):
        await one.close()


def test_a_peer_is_an_ipv4_address_or_an_ipv6_subnet() -> None:
    assert streams._peer("192.0.2.1") != streams._peer("192.0.2.2")
    assert streams._peer("2001:db8:0:1::1") == streams._peer("2001:db8::1:ffff:0:0:2")
    assert streams._peer("2001:db8:0:1::1") != streams._peer("2001:db8:0:2::1")
    assert streams._peer("fe80::1%2") == streams._peer("fe80::2%2")


async def test_all_connections_together_are_bounded(server: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "CONNECTIONS", 2)
    clients = [await Telnet.to(server.address) for _ in range(2)]
    surplus = await Telnet.to(server.address)
    assert await surplus.closed_by_peer()
    server.transports.send(outbound(request(), server.flow_to(Address("127.0.0.1", 9)), 8))
    assert server.noted.failures == [(8, "2 connections are open already")]
    for one in (*clients, surplus):
        await one.close()


@pytest.mark.usefixtures("quick_sweep")
@pytest.mark.parametrize("said", [b"", b"INVITE sip:", b"\r\n\r\n"], ids=["nothing", "a-start", "only-pings"])
async def test_who_connects_and_brings_no_message_is_closed(
    server: Listening, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(streams, "FIRST_MESSAGE_S", 0.1)
    client = await Telnet.to(server.address)
    await client.send(said)
    assert await client.closed_by_peer()
    assert server.counts.expired == 1
    await client.close()


@pytest.mark.usefixtures("quick_sweep")
async def test_a_slow_loris_is_closed_even_after_a_good_message(
    server: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "FIRST_MESSAGE_S", 0.2)
    client = await Telnet.to(server.address)
    await client.send(request())
    started = time.monotonic()
    with contextlib.suppress(ConnectionError):
        for octet in request():
            await client.send(bytes([octet]))
            await asyncio.sleep(0.01)
    assert await client.closed_by_peer()
    assert 0.2 <= time.monotonic() - started < 1.5
    assert server.counts.expired == 1
    await client.close()


@pytest.mark.usefixtures("quick_sweep")
async def test_an_idle_connection_is_closed_but_not_one_that_carried_a_call(
    server: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "IDLE_S", 0.1)
    idle, calling = await Telnet.to(server.address), await Telnet.to(server.address)
    await calling.send(request(call_id="calling"))
    await server.noted.until(lambda: len(server.noted.items) == 1)
    server.pool.keep(server.noted.items[0][1].connection)
    await idle.send(request(call_id="idle"))
    assert await idle.closed_by_peer()
    await calling.send(request(call_id="later"))
    await server.noted.until(lambda: server.noted.call_ids == ["calling", "idle", "later"])
    assert len(server.pool) == 1
    for one in (idle, calling):
        await one.close()


async def test_a_peer_that_vanishes_leaves_nothing_behind(server: Listening) -> None:
    clients = [await Telnet.to(server.address) for _ in range(10)]
    for client in clients:
        await client.send(b"INVITE sip:half")
    await server.noted.until(lambda: server.counts.accepted == 10)
    for client in clients:
        client._writer.transport.abort()
    await server.noted.until(lambda: len(server.noted.lost) == 10)
    assert len(server.pool) == 0
    assert server.pool._by_destination == {}
    assert not server.pool._accepted_from


async def test_a_flood_on_many_connections_leaves_time_for_media(
    server: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each message costs 0.3 ms by the clock of this test; 8 connections bring 50 each."""
    now = 1000.0
    receive = server.noted.stream_received

    def slowly(item: StreamItem, flow: Flow) -> None:
        nonlocal now
        now += 0.0003
        receive(item, flow)

    for module in (budget, streams):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(server.noted, "stream_received", slowly)
    clients = [await Telnet.to(server.address) for _ in range(8)]
    for number, client in enumerate(clients):
        await client.send(b"".join(request(call_id=f"{number}-{count}") for count in range(50)))
    between: list[int] = []
    while len(server.noted.items) < 400:
        before = len(server.noted.items)
        await asyncio.sleep(0)
        between.append(len(server.noted.items) - before)
    # A turn of the loop: 2 ms of share (7 messages) and the read begun in it (2,048 octets: 7 messages).
    # Without the budget: one read of each connection, 56.
    assert max(between) <= 14
    for number in range(8):
        ours = [one for one in server.noted.call_ids if one.startswith(f"{number}-")]
        assert ours == [f"{number}-{count}" for count in range(50)]
    for client in clients:
        await client.close()
