"""Reads the datagrams out of a packet capture."""

from __future__ import annotations

import struct


def udp_payloads(pcap: bytes) -> list[bytes]:
    """The UDP payloads of a little-endian Ethernet capture."""
    payloads, offset = [], 24
    while offset < len(pcap):
        (length,) = struct.unpack_from("<I", pcap, offset + 8)
        frame = pcap[offset + 16 : offset + 16 + length]
        header = 14 + (frame[14] & 0x0F) * 4
        (udp_length,) = struct.unpack_from("!H", frame, header + 4)
        payloads.append(frame[header + 8 : header + udp_length])
        offset += 16 + length
    return payloads
