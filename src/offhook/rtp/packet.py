"""RTP packets (RFC 3550 §5.1): bytes <-> fields, and the serial arithmetic of their wrapping counters.

The hot path reads a header with ``HEADER.unpack_from`` and asks ``payload_bounds`` only when the first
byte is not ``PLAIN_FIRST_BYTE``; ``RtpPacket`` is for everything that is not in a hurry.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

HEADER = struct.Struct("!BBHII")
"""First byte (V, P, X, CC), second byte (M, PT), sequence number, timestamp, SSRC."""

HEADER_BYTES = HEADER.size
MAX_PACKET_BYTES = 2048
"""Above an Ethernet frame; a longer datagram is no RTP we can have asked for."""

PLAIN_FIRST_BYTE = 0x80
"""Version 2, no padding, no extension, no CSRC: what nearly every telephone sends."""

MARKER = 0x80
COMFORT_NOISE = 13
"""RFC 3389 §4: the static payload type of comfort noise at 8000 Hz."""

_VERSION_MASK = 0xC0
_PADDING = 0x20
_EXTENSION = 0x10
_CSRC_COUNT_MASK = 0x0F
_WORD_BYTES = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class RtpPacket:
    """One packet. ``timestamp`` counts samples of the payload's clock; counters are as on the wire."""

    payload_type: int
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes
    marker: bool = False

    def __bytes__(self) -> bytes:
        second = (MARKER if self.marker else 0) | self.payload_type
        return HEADER.pack(PLAIN_FIRST_BYTE, second, self.sequence, self.timestamp, self.ssrc) + self.payload


def parse_packet(datagram: bytes) -> RtpPacket | None:
    """The packet in a datagram; None when it is none (RFC 3550 Appendix A.1 header checks)."""
    bounds = payload_bounds(datagram, len(datagram))
    if bounds is None:
        return None
    _, second, sequence, timestamp, ssrc = HEADER.unpack_from(datagram)
    return RtpPacket(
        payload_type=second & 0x7F,
        sequence=sequence,
        timestamp=timestamp,
        ssrc=ssrc,
        payload=datagram[bounds[0] : bounds[1]],
        marker=second >= MARKER,
    )


def payload_bounds(datagram: bytes | bytearray, length: int) -> tuple[int, int] | None:
    """Where the payload lies in the first ``length`` bytes; None when this is not RTP version 2."""
    if length < HEADER_BYTES or datagram[0] & _VERSION_MASK != PLAIN_FIRST_BYTE:
        return None
    first = datagram[0]
    start = HEADER_BYTES + _WORD_BYTES * (first & _CSRC_COUNT_MASK)
    if first & _EXTENSION:
        # §5.3.1: 16 bits of profile, 16 bits of length in words that follow these four bytes
        if start + _WORD_BYTES > length:
            return None
        start += _WORD_BYTES * (1 + int.from_bytes(datagram[start + 2 : start + 4], "big"))
    padding = datagram[length - 1] if first & _PADDING else 0
    # §5.1: the last octet of the padding counts itself, so zero is no valid count
    if (first & _PADDING and padding == 0) or start + padding > length:
        return None
    return start, length - padding


def sequence_distance(later: int, earlier: int) -> int:
    """How far ``later`` lies ahead of ``earlier``, both 16 bits and wrapping; negative when behind."""
    distance = (later - earlier) & 0xFFFF
    return distance - 0x10000 if distance & 0x8000 else distance


def timestamp_distance(later: int, earlier: int) -> int:
    """How far ``later`` lies ahead of ``earlier``, both 32 bits and wrapping; negative when behind."""
    distance = (later - earlier) & 0xFFFFFFFF
    return distance - 0x100000000 if distance & 0x80000000 else distance
