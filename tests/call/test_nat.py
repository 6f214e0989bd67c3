"""A phone behind an address translator: what each peer is told in Via, Contact and SDP, and where media binds."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from tests.call.phones import HOST, PATIENCE_S, SILENT, Facts, RawPeer, TestPhone, sdp
from tests.interop.tools import free_sip_port

from offhook.bridge.registry import SCRIPTED, BridgeRegistry
from offhook.call.dialling import PlaceCall
from offhook.media.ports import PortPool
from offhook.model.call_events import CallEnded
from offhook.model.errors import UnreachableError
from offhook.model.records import Number
from offhook.server.phone import Surroundings, build_phone
from offhook.signaling.advertised import AdvertisedAddresses
from offhook.signaling.stun import MAGIC_COOKIE
from offhook.sip.events import Address, Hop, Transport
from offhook.sip.message import Request, Response
from offhook.sip.parser import parse_message
from offhook.sip.uri import SipUri
from offhook.store.directory import InMemoryDirectory

PUBLIC = "203.0.113.7"
FAR_HOST = "127.9.0.1"
NEAR = "127.0.0.0/16"
"""The part of loopback that shares our network in these tests; ``FAR_HOST`` is across the translator."""

MAPPED_PORT = 31_000
_PORTS = iter(range(30_000, 32_700, 100))


@asynccontextmanager
async def behind_nat(fixed: str = PUBLIC) -> AsyncIterator[TestPhone]:
    """A phone on ``127.0.0.1`` that is known outside as ``fixed``; "" for a phone that has to ask by STUN."""
    facts, low = Facts(), next(_PORTS)
    ports = PortPool(low, low + 99)
    built = build_phone(
        bridges=BridgeRegistry({"scripted": SCRIPTED}),
        directory=InMemoryDirectory([SILENT], [Number(user="*", agent_id=SILENT.agent_id)]),
        events=facts,
        max_calls=5,
        ports=ports,
        recordings_folder=Path(),
        media_timeout_s=60.0,
        teardown_s=0.2,
        surroundings=Surroundings(advertised=AdvertisedAddresses(fixed, [NEAR])),
    )
    try:
        address = await built.endpoint.listen("UDP", HOST, free_sip_port(HOST))
        await built.endpoint.listen("TCP", HOST, address.port)
        yield TestPhone(built, facts, ports, address)
    finally:
        await built.close()


class Peer(RawPeer):
    """A bare SIP peer with an address of its own choice."""

    def __init__(self, host: str) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((host, 0))
        self._socket.setblocking(False)
        self.address = Address(*self._socket.getsockname())

    async def invited(self) -> Request:
        message = parse_message((await self.receive()).encode())
        assert isinstance(message, Request)
        assert message.method == "INVITE"
        return message

    def accept(self, invite: Request, target: Address, media_port: int) -> None:
        """200 with an answer."""
        copied = "".join(f"{name}: {invite.headers.get(name)}\n" for name in ("Via", "From", "Call-ID", "CSeq"))
        body = sdp(port=media_port).replace(HOST, self.address.host)
        self.send(
            target,
            f"SIP/2.0 200 OK\n{copied}To: {invite.headers.get('To')};tag=there\n"
            f"Contact: <sip:{self.address.host}:{self.address.port}>\nContent-Type: application/sdp\n"
            f"Content-Length: {len(body) + body.count(chr(10))}\n\n{body}",
        )


@contextmanager
def peer(host: str) -> Iterator[Peer]:
    made = Peer(host)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def udp(host: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind((host, 0))
        made.setblocking(False)
        yield made


async def next_source(one: socket.socket) -> Address:
    """Where the next datagram comes from; uvloop has no ``sock_recvfrom``."""
    loop, readable = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(one, readable.set)
    try:
        async with asyncio.timeout(PATIENCE_S):
            await readable.wait()
    finally:
        loop.remove_reader(one)
    return Address(*one.recvfrom(2048)[1])


def sdp_host_and_port(body: bytes) -> Address:
    lines = body.decode().split("\r\n")
    host = next(line.split()[-1] for line in lines if line.startswith("c="))
    return Address(host, int(next(line.split()[1] for line in lines if line.startswith("m=audio"))))


def contact(message: Request | Response) -> Address:
    assert message.contact is not None
    uri = message.contact.sip_uri()
    return Address(uri.host, uri.port or 0)


# ── calls of ours ────────────────────────────────────────────────────────────────────────────────────────


async def test_a_far_callee_is_told_the_advertised_address_and_media_binds_the_machine_s_own() -> None:
    async with behind_nat() as ours:
        with peer(FAR_HOST) as callee, udp(FAR_HOST) as media:
            ours.call(callee.address)
            invite = await callee.invited()
            advertised = Address(PUBLIC, ours.address.port)
            assert Address(invite.via_top.host, invite.via_top.port or 0) == advertised
            assert invite.via_top.rport is not None
            assert contact(invite) == advertised
            offered = sdp_host_and_port(invite.body)
            assert offered.host == PUBLIC
            callee.accept(invite, ours.address, media.getsockname()[1])
            assert (await callee.receive()).startswith("ACK ")
            assert await next_source(media) == Address(HOST, offered.port)


async def test_a_near_callee_is_told_the_machine_s_own() -> None:
    async with behind_nat() as ours:
        with peer("127.0.0.9") as callee:
            ours.call(callee.address)
            invite = await callee.invited()
            assert Address(invite.via_top.host, invite.via_top.port or 0) == ours.address
            assert contact(invite) == ours.address
            assert sdp_host_and_port(invite.body).host == HOST


async def test_a_far_callee_by_tcp_is_told_our_listening_port() -> None:
    arrived: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set_result(await reader.readuntil(b"\r\n\r\n"))
        writer.close()

    server = await asyncio.start_server(note, FAR_HOST, 0)
    async with behind_nat() as ours, server:
        target = SipUri.parse(f"sip:demo@{FAR_HOST}:{server.sockets[0].getsockname()[1]};transport=tcp")
        ours.phone.manager.place(PlaceCall(target=target, agent=SILENT))
        async with asyncio.timeout(PATIENCE_S):
            head = (await arrived).decode()
        assert f"Via: SIP/2.0/TCP {PUBLIC}:{ours.address.port};rport" in head
        assert f"@{PUBLIC}:{ours.address.port};transport=tcp>" in head


# ── calls to us ──────────────────────────────────────────────────────────────────────────────────────────


async def test_private_callers_beside_public_ones() -> None:
    async with behind_nat() as ours:
        for host, told in ((FAR_HOST, PUBLIC), ("127.0.0.9", HOST), (FAR_HOST, PUBLIC)):
            with peer(host) as caller:
                caller.send(ours.address, caller.invite(ours.address, sdp=sdp().replace(HOST, host)))
                answer = parse_message((await caller.final_response()).encode())
                assert isinstance(answer, Response)
                assert answer.status == 200
                assert contact(answer) == Address(told, ours.address.port)
                assert sdp_host_and_port(answer.body).host == told


async def test_our_bye_finds_a_caller_who_believes_in_a_private_address() -> None:
    async with behind_nat() as ours:
        with peer(FAR_HOST) as caller:
            seen, hidden = f"{FAR_HOST}:{caller.address.port}", f"192.168.1.5:{caller.address.port}"
            text = caller.invite(ours.address, sdp=sdp()).replace(seen, hidden)
            caller.send(ours.address, text.replace(";branch", ";rport;branch", 1))
            answer = await caller.final_response()
            assert f"received={FAR_HOST}" in answer
            caller.send(ours.address, caller.ack(answer, ours.address).replace(seen, hidden))
            await ours.phone.manager.close()
            assert (await caller.receive()).startswith(f"BYE sip:raw@{hidden} SIP/2.0")
        assert (await ours.facts.until(CallEnded)).by == "system"


# ── STUN ─────────────────────────────────────────────────────────────────────────────────────────────────


class StunServer(asyncio.DatagramProtocol):
    """Sees everybody as ``seen_as``."""

    def __init__(self) -> None:
        self.seen_as = Address(PUBLIC, MAPPED_PORT)
        self.askers: list[Address] = []
        self._send: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._send = transport  # type: ignore[assignment]  # a DatagramTransport by another loop's name

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.askers.append(Address(*addr))
        port = self.seen_as.port ^ (MAGIC_COOKIE >> 16)
        host = int.from_bytes(socket.inet_aton(self.seen_as.host), "big") ^ MAGIC_COOKIE
        value = struct.pack(">BBHI", 0, 1, port, host)
        assert self._send is not None
        self._send.sendto(struct.pack(">HHI", 0x0101, 12, MAGIC_COOKIE) + data[8:20] + b"\0\x20\0\x08" + value, addr)


@asynccontextmanager
async def stun_server() -> AsyncIterator[tuple[StunServer, Hop]]:
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(StunServer, (FAR_HOST, 0))
    try:
        yield protocol, Hop(transport="UDP", host=FAR_HOST, port=transport.get_extra_info("sockname")[1])
    finally:
        transport.close()


async def test_what_stun_found_goes_into_via_contact_and_sdp() -> None:
    async with behind_nat(fixed="") as ours, stun_server() as (server, hop):
        assert await ours.phone.endpoint.discover(hop) is True
        assert server.askers == [ours.address]  # asked from the very socket that SIP uses
        with peer(FAR_HOST) as callee:
            ours.call(callee.address)
            invite = await callee.invited()
            assert Address(invite.via_top.host, invite.via_top.port or 0) == Address(PUBLIC, MAPPED_PORT)
            assert contact(invite) == Address(PUBLIC, MAPPED_PORT)
            assert sdp_host_and_port(invite.body).host == PUBLIC


async def test_a_mapping_that_changed_is_news() -> None:
    async with behind_nat(fixed="") as ours, stun_server() as (server, hop):
        endpoint = ours.phone.endpoint
        assert await endpoint.discover(hop) is True
        assert await endpoint.discover(hop) is False
        server.seen_as = Address("198.51.100.3", 40_000)
        assert await endpoint.discover(hop) is True
        assert endpoint.advertised.towards(ours.address, FAR_HOST) == server.seen_as


@pytest.mark.parametrize(("transport", "port"), [("UDP", MAPPED_PORT), ("TCP", 5060), ("TLS", 5060)])
def test_stun_tells_the_port_of_udp_alone(transport: Transport, port: int) -> None:
    """SIP listens on one port number by UDP and TCP; the translator gives each another."""
    advertised = AdvertisedAddresses()
    advertised.set_mapped(Address("0.0.0.0", 5060), Address(PUBLIC, MAPPED_PORT))
    assert advertised.towards(Address("10.0.0.5", 5060), "8.8.8.8", transport) == Address(PUBLIC, port)


def test_what_a_server_saw_of_a_connection_is_not_said_by_udp() -> None:
    advertised, local = AdvertisedAddresses(), Address("10.0.0.5", 5060)
    advertised.learn("198.51.100.1", local, Address(PUBLIC, 49_152), "TCP")
    assert advertised.towards(local, "198.51.100.1", "TCP") == Address(PUBLIC, 49_152)
    assert advertised.towards(local, "198.51.100.1", "UDP") == local
    advertised.forget("198.51.100.1", "UDP")
    assert advertised.towards(local, "198.51.100.1", "TCP") == Address(PUBLIC, 49_152)


@pytest.mark.parametrize("seen_as", [Address("0.0.0.0", 5060), Address(PUBLIC, 0), Address("224.0.0.1", 5060)])
async def test_an_address_nobody_can_send_to_is_not_advertised(
    seen_as: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("offhook.signaling.transports.SCHEDULE_S", (0.02,))
    async with behind_nat(fixed="") as ours, stun_server() as (server, hop):
        server.seen_as = seen_as
        with pytest.raises(UnreachableError, match="no answer"):
            await ours.phone.endpoint.discover(hop)
        assert ours.phone.endpoint.advertised.towards(ours.address, FAR_HOST) == ours.address
