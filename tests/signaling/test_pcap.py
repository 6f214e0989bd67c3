"""A trace as a pcap file: headers and checksums that a reader accepts."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator

import pytest

from offhook.signaling.pcap import pcap
from offhook.signaling.trace import TraceRecord
from offhook.sip.events import Address, Flow, Transport


def record(data: bytes, *, transport: Transport = "UDP", host: str = "10.0.0.2", sent: bool = False) -> TraceRecord:
    local = Address("2001:db8::1" if ":" in host else "10.0.0.1", 5060)
    flow = Flow(transport=transport, local=local, remote=Address(host, 5070))
    return TraceRecord(at=1_700_000_000.25, direction="sent" if sent else "received", flow=flow, data=data)


def packets(file: bytes) -> Iterator[tuple[float, bytes]]:
    """(time, packet) of a pcap file of raw IP packets."""
    magic, major, minor, _, _, _, linktype = struct.unpack_from("<IHHiIII", file)
    assert (magic, major, minor, linktype) == (0xA1B2C3D4, 2, 4, 101)
    position = 24
    while position < len(file):
        seconds, micros, size, original = struct.unpack_from("<IIII", file, position)
        assert size == original
        yield seconds + micros / 1e6, file[position + 16 : position + 16 + size]
        position += 16 + size


def ones_complement_sum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


@pytest.mark.parametrize("host", ["10.0.0.2", "2001:db8::2"])
@pytest.mark.parametrize("transport", ["UDP", "TCP", "TLS"])
@pytest.mark.parametrize("data", [b"OPTIONS sip:a SIP/2.0\r\n\r\n", b"odd"])
def test_headers_and_checksums_hold(host: str, transport: Transport, data: bytes) -> None:
    ((at, packet),) = packets(pcap([record(data, transport=transport, host=host)]))
    assert at == 1_700_000_000.25
    version = packet[0] >> 4
    assert version == (6 if ":" in host else 4)
    header = 40 if version == 6 else 20
    source, target = (packet[8:24], packet[24:40]) if version == 6 else (packet[12:16], packet[16:20])
    protocol = packet[6] if version == 6 else packet[9]
    assert protocol == (17 if transport == "UDP" else 6)
    assert str(ipaddress.ip_address(source)) == host
    if version == 4:
        assert ones_complement_sum(packet[:20]) == 0xFFFF
        assert int.from_bytes(packet[2:4], "big") == len(packet)
    body = packet[header:]
    assert struct.unpack_from(">HH", body) == (5070, 5060)
    assert body.endswith(data)
    pseudo = source + target + struct.pack(">IBBBB", len(body), 0, 0, 0, protocol)
    assert ones_complement_sum(pseudo + body) == 0xFFFF


def test_a_stream_s_sequence_numbers_go_on_both_ways() -> None:
    file = pcap([record(b"a" * 10, transport="TCP"), record(b"b" * 5, transport="TCP", sent=True)] * 2)
    numbers = [struct.unpack_from(">II", packet, 24) for _, packet in packets(file)]
    assert numbers == [(1, 1), (1, 11), (11, 6), (6, 21)]


def test_a_message_longer_than_a_packet_is_split() -> None:
    file = pcap([record(b"x" * 100_000, transport="TCP")])
    assert b"".join(packet[40:] for _, packet in packets(file)) == b"x" * 100_000


@pytest.mark.parametrize("host", ["10.0.0.2", "2001:db8::2"])
def test_the_longest_datagram_is_one_packet(host: str) -> None:
    ((_, packet),) = packets(pcap([record(b"x" * 65_507, host=host)]))
    assert packet.endswith(b"x" * 65_507)
    assert len(packet) == (48 if ":" in host else 28) + 65_507
