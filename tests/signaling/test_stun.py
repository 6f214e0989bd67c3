"""STUN: one question, one answer, from whom was asked."""

from __future__ import annotations

import asyncio
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.signaling.wire import Noted

from offhook.model.errors import UnreachableError
from offhook.signaling import transports as module
from offhook.signaling.stun import MAGIC_COOKIE, binding_request, is_stun, mapped_address
from offhook.signaling.transports import Transports
from offhook.sip.events import Address, Hop

ID = bytes(range(12))
RFC_5769 = bytes.fromhex(
    "0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000080001a147e112a643"
    "000800142b91f599fd9e90c38c7489f92af9ba53f06be7d780280004c07d4c96"
)
"""§2.2, the sample IPv4 response."""


def answer(transaction_id: bytes, attribute: int, value: bytes, kind: int = 0x0101) -> bytes:
    body = struct.pack(">HH", attribute, len(value)) + value
    return struct.pack(">HHI12s", kind, len(body), MAGIC_COOKIE, transaction_id) + body


def test_a_request_is_a_header_alone() -> None:
    assert binding_request(ID) == bytes.fromhex("000100002112a442") + ID
    assert is_stun(binding_request(ID))


def test_the_sample_of_the_rfc_is_read() -> None:
    assert mapped_address(RFC_5769, RFC_5769[8:20]) == Address("192.0.2.1", 32853)


def test_the_older_attribute_will_do_and_ipv6_too() -> None:
    plain = answer(ID, 0x0001, bytes([0, 1]) + (4000).to_bytes(2, "big") + bytes([203, 0, 113, 7]))
    assert mapped_address(plain, ID) == Address("203.0.113.7", 4000)
    mask = MAGIC_COOKIE.to_bytes(4, "big") + ID
    packed = bytes.fromhex("20010db8000000000000000000000001")
    xored = bytes(one ^ other for one, other in zip(packed, mask, strict=True))
    port = (4000 ^ (MAGIC_COOKIE >> 16)).to_bytes(2, "big")
    assert mapped_address(answer(ID, 0x0020, bytes([0, 2]) + port + xored), ID) == Address("2001:db8::1", 4000)


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"INVITE sip:a@b SIP/2.0\r\n\r\n",
        binding_request(ID),
        answer(bytes(12), 0x0020, bytes(8)),
        answer(ID, 0x0020, bytes(8), kind=0x0111),
        answer(ID, 0x0020, bytes(3)),
        answer(ID, 0x0020, bytes([0, 2, 0, 0, 1, 2, 3, 4])),
        answer(ID, 0x0020, bytes(8))[:-4],
    ],
)
def test_anything_else_is_no_answer(datagram: bytes) -> None:
    assert mapped_address(datagram, ID) is None


@given(st.binary(max_size=200))
def test_nothing_raises(datagram: bytes) -> None:
    mapped_address(struct.pack(">HHI12s", 0x0101, len(datagram), MAGIC_COOKIE, ID) + datagram, ID)
    mapped_address(datagram, ID)


class StunServer(asyncio.DatagramProtocol):
    """Tells every asker that it is 203.0.113.7:31000."""

    def __init__(self) -> None:
        self.asked = 0
        self.silent_for = 0
        self._transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.DatagramTransport) or hasattr(transport, "sendto")
        self._transport = transport  # type: ignore[assignment]  # uvloop's is no subclass

    def datagram_received(self, data: bytes, addr: tuple[object, int]) -> None:
        self.asked += 1
        if self.asked > self.silent_for:
            value = bytes([0, 1]) + (31000).to_bytes(2, "big") + bytes([203, 0, 113, 7])
            self._transport.sendto(answer(data[8:20], 0x0001, value), addr)


async def test_our_socket_learns_its_address_in_spite_of_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SCHEDULE_S", (0.05, 0.05, 0.5))
    loop = asyncio.get_running_loop()
    server, protocol = await loop.create_datagram_endpoint(StunServer, ("127.0.0.1", 0))
    protocol.silent_for = 2
    one = Transports(Noted(), loop)
    address = await one.listen("UDP", "127.0.0.1", 0)
    hop = Hop(transport="UDP", host="127.0.0.1", port=server.get_extra_info("sockname")[1])
    assert await one.discover(hop) is True
    assert one.advertised.towards(address, "8.8.8.8") == Address("203.0.113.7", 31000)
    assert await one.discover(hop) is False
    await one.close()
    server.close()


async def test_a_server_that_is_silent_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SCHEDULE_S", (0.01, 0.01))
    one = Transports(Noted(), asyncio.get_running_loop())
    await one.listen("UDP", "127.0.0.1", 0)
    with pytest.raises(UnreachableError, match="STUN server"):
        await one.discover(Hop(transport="UDP", host="127.0.0.1", port=9))
    await one.close()


async def test_an_answer_from_somebody_else_is_none() -> None:
    one = Transports(Noted(), asyncio.get_running_loop())
    await one.listen("UDP", "127.0.0.1", 0)
    one._stun_waiting[ID] = (Address("192.0.2.1", 3478), asyncio.get_running_loop().create_future())
    value = bytes([0, 1]) + (31000).to_bytes(2, "big") + bytes([203, 0, 113, 7])
    one._stun_answered(answer(ID, 0x0001, value), Address("198.51.100.66", 3478))
    assert not one._stun_waiting.pop(ID)[1].done()
    await one.close()
