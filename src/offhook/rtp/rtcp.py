"""RTCP (RFC 3550 §6): sender and receiver reports, source description and goodbye, built and parsed.

Everything sent is a compound packet: SR or RR, SDES with a CNAME, and BYE at the end of the call (§6.1).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

INTERVAL_S = 5.0
"""§6.2: the least interval between two reports of one participant."""

MAX_COMPOUND_BYTES = 1500
MAX_PACKETS = 16  # in one compound; two or three are usual
MAX_BLOCKS = 31  # RC is five bits

_SENDER_REPORT, _RECEIVER_REPORT, _SOURCE_DESCRIPTION, _GOODBYE = 200, 201, 202, 203
_CNAME = 1
_VERSION = 2
_NTP_EPOCH = 2_208_988_800  # seconds from 1900 to 1970

_HEADER = struct.Struct("!BBH")
_SENDER = struct.Struct("!IIIIII")  # SSRC, NTP seconds, NTP fraction, RTP timestamp, packets, octets
_BLOCK = struct.Struct("!IIIIII")  # SSRC, fraction + cumulative lost, highest, jitter, LSR, DLSR
_WORD = struct.Struct("!I")


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportBlock:
    """What a receiver says of one source (§6.4.1). ``jitter`` in timestamp units, the last two in 1/65536 s."""

    ssrc: int
    fraction_lost: int  # of 256
    cumulative_lost: int
    highest_sequence: int
    jitter: int
    last_sender_report: int
    delay_since_last: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SenderFigures:
    """The sender's half of a sender report. ``ntp``: 64 bits, 32 of them the fraction."""

    ntp: int
    rtp_timestamp: int
    packets: int
    octets: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ControlReport:
    """One compound packet. ``sender`` None: a receiver report. ``goodbye`` None: no BYE, else its reason."""

    ssrc: int
    sender: SenderFigures | None = None
    blocks: tuple[ReportBlock, ...] = ()
    cname: str = ""
    goodbye: str | None = None


def ntp_of(unix_s: float) -> int:
    """The 64-bit NTP timestamp of a Unix time (§4)."""
    return int((unix_s + _NTP_EPOCH) * (1 << 32)) & 0xFFFFFFFFFFFFFFFF


def middle_of(ntp: int) -> int:
    """The middle 32 bits, which LSR carries: 16 of the seconds, 16 of the fraction."""
    return (ntp >> 16) & 0xFFFFFFFF


def round_trip_s(block: ReportBlock, now_ntp: int) -> float | None:
    """§6.4.1: arrival - LSR - DLSR; None where the remote has had no report of ours, or the sum makes no sense."""
    if not block.last_sender_report:
        return None
    units = (middle_of(now_ntp) - block.last_sender_report - block.delay_since_last) & 0xFFFFFFFF
    return None if units & 0x80000000 else units / 65536


def interval_s(chance: float) -> float:
    """§6.3.1: 0.5 to 1.5 times the interval; ``chance`` is a random number from 0 to 1."""
    return INTERVAL_S * (0.5 + chance)


def build_report(report: ControlReport) -> bytes:
    """The compound packet on the wire."""
    packets = [_build_report(report), _build_cname(report.ssrc, report.cname)]
    if report.goodbye is not None:
        packets.append(_build_goodbye(report.ssrc, report.goodbye))
    return b"".join(packets)


def parse_report(datagram: bytes) -> ControlReport | None:
    """What a compound packet says; None when it breaks §6.1 or A.2. Unknown packet types are passed over."""
    packets = _split(datagram)
    if not packets or packets[0][0] not in (_SENDER_REPORT, _RECEIVER_REPORT):
        return None
    sender: SenderFigures | None = None
    blocks: list[ReportBlock] = []
    cname, goodbye = "", None
    ssrc = None
    for kind, count, body in packets:
        if kind in (_SENDER_REPORT, _RECEIVER_REPORT):
            parsed = _parse_report(kind, count, body)
            if parsed is None:
                return None
            ssrc = parsed[0] if ssrc is None else ssrc
            sender = parsed[1] or sender
            blocks += parsed[2]
        elif kind == _SOURCE_DESCRIPTION:
            cname = _parse_cname(body) or cname
        elif kind == _GOODBYE:
            goodbye = _parse_goodbye(count, body)
    assert ssrc is not None
    return ControlReport(ssrc=ssrc, sender=sender, blocks=tuple(blocks[:MAX_BLOCKS]), cname=cname, goodbye=goodbye)


# ── building ─────────────────────────────────────────────────────────────────────────────────────────────


def _packet(kind: int, count: int, body: bytes) -> bytes:
    return _HEADER.pack(_VERSION << 6 | count, kind, len(body) // 4) + body


def _build_report(report: ControlReport) -> bytes:
    blocks = b"".join(map(_build_block, report.blocks[:MAX_BLOCKS]))
    if report.sender is None:
        return _packet(_RECEIVER_REPORT, len(report.blocks), _WORD.pack(report.ssrc) + blocks)
    figures = report.sender
    head = _SENDER.pack(
        report.ssrc,
        figures.ntp >> 32,
        figures.ntp & 0xFFFFFFFF,
        figures.rtp_timestamp & 0xFFFFFFFF,
        figures.packets & 0xFFFFFFFF,
        figures.octets & 0xFFFFFFFF,
    )
    return _packet(_SENDER_REPORT, len(report.blocks), head + blocks)


def _build_block(block: ReportBlock) -> bytes:
    # §6.4.1: cumulative lost is a signed 24-bit number and is clamped, not wrapped
    lost = max(-0x800000, min(block.cumulative_lost, 0x7FFFFF)) & 0xFFFFFF
    return _BLOCK.pack(
        block.ssrc,
        block.fraction_lost << 24 | lost,
        block.highest_sequence & 0xFFFFFFFF,
        min(block.jitter, 0xFFFFFFFF),
        block.last_sender_report & 0xFFFFFFFF,
        min(block.delay_since_last, 0xFFFFFFFF),
    )


def _build_cname(ssrc: int, cname: str) -> bytes:
    text = cname.encode()[:255]
    item = _WORD.pack(ssrc) + bytes([_CNAME, len(text)]) + text
    return _packet(_SOURCE_DESCRIPTION, 1, item + bytes(4 - len(item) % 4))  # §6.5: ends in at least one null


def _build_goodbye(ssrc: int, reason: str) -> bytes:
    text = reason.encode()[:255]
    body = _WORD.pack(ssrc) + (bytes([len(text)]) + text if text else b"")
    return _packet(_GOODBYE, 1, body + bytes(-len(body) % 4))


# ── parsing ──────────────────────────────────────────────────────────────────────────────────────────────


def _split(datagram: bytes) -> list[tuple[int, int, bytes]] | None:
    """The packets of a compound as (type, count, body); None when the lengths do not add up (A.2)."""
    if len(datagram) > MAX_COMPOUND_BYTES:
        return None
    packets: list[tuple[int, int, bytes]] = []
    offset = 0
    while offset < len(datagram):
        if len(datagram) - offset < _HEADER.size or len(packets) == MAX_PACKETS:
            return None
        first, kind, words = _HEADER.unpack_from(datagram, offset)
        end = offset + 4 + 4 * words
        if first >> 6 != _VERSION or end > len(datagram):
            return None
        packets.append((kind, first & 0x1F, datagram[offset + 4 : end]))
        offset = end
    return packets


def _parse_report(kind: int, count: int, body: bytes) -> tuple[int, SenderFigures | None, list[ReportBlock]] | None:
    head = _SENDER.size if kind == _SENDER_REPORT else _WORD.size
    if len(body) < head + count * _BLOCK.size:
        return None
    sender = None
    if kind == _SENDER_REPORT:
        _, seconds, fraction, timestamp, packets, octets = _SENDER.unpack_from(body)
        sender = SenderFigures(ntp=seconds << 32 | fraction, rtp_timestamp=timestamp, packets=packets, octets=octets)
    blocks = [_parse_block(body, head + index * _BLOCK.size) for index in range(count)]
    (ssrc,) = _WORD.unpack_from(body)
    return ssrc, sender, blocks


def _parse_block(body: bytes, offset: int) -> ReportBlock:
    ssrc, loss, highest, jitter, last, delay = _BLOCK.unpack_from(body, offset)
    lost = loss & 0xFFFFFF
    return ReportBlock(
        ssrc=ssrc,
        fraction_lost=loss >> 24,
        cumulative_lost=lost - 0x1000000 if lost & 0x800000 else lost,
        highest_sequence=highest,
        jitter=jitter,
        last_sender_report=last,
        delay_since_last=delay,
    )


def _parse_cname(body: bytes) -> str:
    """The CNAME of the first chunk; empty when it has none or is cut short."""
    offset = _WORD.size
    while offset + 2 <= len(body) and body[offset]:
        end = offset + 2 + body[offset + 1]
        if body[offset] == _CNAME and end <= len(body):
            return body[offset + 2 : end].decode("utf-8", "replace")
        offset = end
    return ""


def _parse_goodbye(count: int, body: bytes) -> str:
    """The reason for leaving; empty when none is given."""
    start = count * _WORD.size
    if start >= len(body):
        return ""
    return body[start + 1 : start + 1 + body[start]].decode("utf-8", "replace")
