"""A trace as a pcap file that Wireshark and tshark read: IP and UDP or TCP headers made for each message.

TLS is written as what it carried, on TCP: the keys would open everything else on that connection too.
"""

from __future__ import annotations

import ipaddress
import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator

from offhook.signaling.trace import TraceRecord
from offhook.sip.events import Address

LINKTYPE_RAW = 101
"""Packets begin with the IP header, version 4 or 6 by their first bits."""

MAX_SEGMENT_BYTES = 60_000
"""An IP packet holds 65,535 bytes with its headers; a longer message of a stream becomes several."""

MAX_DATAGRAM_BYTES = 65_507
"""What UDP carries in one IPv4 packet; longer than that is none that was sent or received."""

_FILE_HEADER = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, LINKTYPE_RAW)
_PACKET_HEADER = struct.Struct("<IIII")
_IPV4 = struct.Struct(">BBHHHBBH4s4s")
_IPV6 = struct.Struct(">IHBB16s16s")
_UDP = struct.Struct(">HHHH")
_TCP = struct.Struct(">HHIIBBHHH")
_UDP_NUMBER, _TCP_NUMBER = 17, 6
_PUSH_ACK = 0x18


def pcap(records: Iterable[TraceRecord]) -> bytes:
    """The file; messages in the order of time."""
    sequence: defaultdict[tuple[Address, Address], int] = defaultdict(lambda: 1)
    packets = [_FILE_HEADER]
    for record in sorted(records, key=lambda one: one.at):
        for packet in _packets(record, sequence):
            seconds, fraction = divmod(round(record.at * 1_000_000), 1_000_000)
            packets.append(_PACKET_HEADER.pack(seconds, fraction, len(packet), len(packet)) + packet)
    return b"".join(packets)


def _packets(record: TraceRecord, sequence: dict[tuple[Address, Address], int]) -> Iterator[bytes]:
    ours = Address(record.flow.bind_host, record.flow.local.port)
    theirs = record.flow.remote
    source, target = (ours, theirs) if record.direction == "sent" else (theirs, ours)
    if record.flow.transport == "UDP":
        data = record.data[:MAX_DATAGRAM_BYTES]
        header = _UDP.pack(source.port, target.port, _UDP.size + len(data), 0)
        yield _packet(source, target, _UDP_NUMBER, header, data, checksum_at=6)
        return
    for start in range(0, len(record.data), MAX_SEGMENT_BYTES):
        data = record.data[start : start + MAX_SEGMENT_BYTES]
        sent, heard = sequence[source, target], sequence[target, source]
        header = _TCP.pack(source.port, target.port, sent, heard, _TCP.size // 4 << 4, _PUSH_ACK, 65_535, 0, 0)
        yield _packet(source, target, _TCP_NUMBER, header, data, checksum_at=16)
        sequence[source, target] = (sent + len(data)) & 0xFFFFFFFF


def _packet(source: Address, target: Address, protocol: int, header: bytes, data: bytes, *, checksum_at: int) -> bytes:
    one, other = (ipaddress.ip_address(end.host.partition("%")[0]).packed for end in (source, target))
    size = len(header) + len(data)
    pseudo = one + other + struct.pack(">IBBBB", size, 0, 0, 0, protocol)
    checksum = _checksum(pseudo + header + data) or 0xFFFF
    body = header[:checksum_at] + checksum.to_bytes(2, "big") + header[checksum_at + 2 :] + data
    if len(one) == 16:
        return _IPV6.pack(6 << 28, size, protocol, 64, one, other) + body
    plain = _IPV4.pack(0x45, 0, _IPV4.size + size, 0, 0x4000, 64, protocol, 0, one, other)
    return plain[:10] + _checksum(plain).to_bytes(2, "big") + plain[12:] + body


def _checksum(data: bytes) -> int:
    """RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
