from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.rtp.packet import (
    RtpPacket,
    parse_packet,
    payload_bounds,
    sequence_distance,
    timestamp_distance,
)

PLAIN = RtpPacket(payload_type=0, sequence=7, timestamp=160, ssrc=0xABCD, payload=b"\x55" * 160)


def wire(first: int, rest: bytes, *, payload_type: int = 8) -> bytes:
    return bytes([first, payload_type]) + bytes([0, 1, 0, 0, 0, 160, 0, 0, 0, 9]) + rest


PACKETS = st.builds(
    RtpPacket,
    payload_type=st.integers(0, 127),
    sequence=st.integers(0, 0xFFFF),
    timestamp=st.integers(0, 0xFFFFFFFF),
    ssrc=st.integers(0, 0xFFFFFFFF),
    payload=st.binary(),
    marker=st.booleans(),
)


@given(PACKETS)
def test_what_is_built_is_what_is_parsed(packet: RtpPacket) -> None:
    assert parse_packet(bytes(packet)) == packet


def test_contributing_sources_are_passed_over() -> None:
    packet = parse_packet(wire(0x82, b"\0\0\0\1\0\0\0\2" + b"audio"))
    assert packet is not None
    assert (packet.payload, packet.payload_type, packet.sequence, packet.ssrc) == (b"audio", 8, 1, 9)


def test_a_header_extension_is_passed_over() -> None:
    packet = parse_packet(wire(0x90, b"\xbe\xde\0\2" + b"extended" + b"audio"))
    assert packet is not None
    assert packet.payload == b"audio"


def test_padding_is_cut_off() -> None:
    packet = parse_packet(wire(0xA0, b"audio" + b"\0\0\3"))
    assert packet is not None
    assert packet.payload == b"audio"


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        bytes(PLAIN)[:11],
        wire(0x00, b"audio"),  # version 0: STUN, T.140, garbage
        wire(0x40, b"audio"),  # version 1
        wire(0xC0, b"audio"),  # version 3
        wire(0x8F, b"audio"),  # 15 CSRCs that are not there
        wire(0x90, b"\0\0"),  # an extension header cut short
        wire(0x90, b"\0\0\0\2four"),  # an extension longer than the packet
        wire(0xA0, b"audio\0"),  # padding of no bytes
        wire(0xA0, b"audio\x07"),  # padding longer than the payload
        wire(0xA0, b""),  # padding of an empty packet: the count is the header's last byte
    ],
)
def test_what_is_no_rtp_is_none(datagram: bytes) -> None:
    assert parse_packet(datagram) is None


def test_padding_may_take_the_whole_payload() -> None:
    packet = parse_packet(wire(0xA0, b"\0\0\3"))
    assert packet is not None
    assert packet.payload == b""


def test_bounds_are_of_the_received_length_and_not_of_the_buffer() -> None:
    buffer = bytearray(bytes(PLAIN) + bytes(1000))
    assert payload_bounds(buffer, len(bytes(PLAIN))) == (12, 172)


@given(st.binary(max_size=64))
def test_whatever_arrives_the_payload_lies_within_it(datagram: bytes) -> None:
    bounds = payload_bounds(datagram, len(datagram))
    assert bounds is None or 12 <= bounds[0] <= bounds[1] <= len(datagram)


@pytest.mark.parametrize(
    ("later", "earlier", "distance"),
    [(1, 0, 1), (0, 1, -1), (0, 0xFFFF, 1), (0xFFFF, 0, -1), (0x7FFF, 0, 0x7FFF), (0x8000, 0, -0x8000), (5, 5, 0)],
)
def test_sequence_numbers_wrap(later: int, earlier: int, distance: int) -> None:
    assert sequence_distance(later, earlier) == distance


@pytest.mark.parametrize(
    ("later", "earlier", "distance"),
    [(160, 0xFFFFFFFF, 161), (0xFFFFFFFF, 160, -161), (7, 7, 0), (1 << 31, 0, -(1 << 31))],
)
def test_timestamps_wrap(later: int, earlier: int, distance: int) -> None:
    assert timestamp_distance(later, earlier) == distance
