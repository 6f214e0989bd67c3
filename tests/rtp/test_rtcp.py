from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.rtp.rtcp import (
    INTERVAL_S,
    ControlReport,
    ReportBlock,
    SenderFigures,
    build_report,
    interval_s,
    middle_of,
    ntp_of,
    parse_report,
    round_trip_s,
)

WORD = st.integers(0, 0xFFFFFFFF)
BLOCKS = st.builds(
    ReportBlock,
    ssrc=WORD,
    fraction_lost=st.integers(0, 255),
    cumulative_lost=st.integers(-0x800000, 0x7FFFFF),
    highest_sequence=WORD,
    jitter=WORD,
    last_sender_report=WORD,
    delay_since_last=WORD,
)
REPORTS = st.builds(
    ControlReport,
    ssrc=WORD,
    sender=st.none()
    | st.builds(SenderFigures, ntp=st.integers(0, 2**64 - 1), rtp_timestamp=WORD, packets=WORD, octets=WORD),
    blocks=st.lists(BLOCKS, max_size=31).map(tuple),
    cname=st.text("abcdefghij@.", max_size=255),
    goodbye=st.none() | st.text("abc def", max_size=100),
)
BLOCK = ReportBlock(
    ssrc=1,
    fraction_lost=0,
    cumulative_lost=0,
    highest_sequence=0,
    jitter=0,
    last_sender_report=0,
    delay_since_last=0,
)


@given(REPORTS)
def test_what_is_built_is_what_is_parsed(report: ControlReport) -> None:
    datagram = build_report(report)
    if len(datagram) <= 1500:
        assert parse_report(datagram) == report


@given(REPORTS)
def test_every_packet_of_a_compound_is_whole_words(report: ControlReport) -> None:
    datagram = build_report(report)
    kinds = []
    offset = 0
    while offset < len(datagram):
        assert datagram[offset] >> 6 == 2
        kinds.append(datagram[offset + 1])
        offset += 4 + 4 * int.from_bytes(datagram[offset + 2 : offset + 4], "big")
    assert offset == len(datagram)
    assert kinds == [200 if report.sender else 201, 202, *([203] if report.goodbye is not None else [])]


def test_a_sender_report_byte_by_byte() -> None:
    sender = SenderFigures(ntp=0x0102030405060708, rtp_timestamp=160, packets=3, octets=480)
    report = ControlReport(ssrc=0xABCD, sender=sender, cname="ab")
    assert build_report(report) == bytes.fromhex(
        "80c80006 0000abcd 01020304 05060708 000000a0 00000003 000001e0"  # §6.4.1
        "81ca0003 0000abcd 01026162 00000000"  # §6.5: the list of items ends in a null and is padded
    )


def test_lost_packets_are_clamped_and_not_wrapped() -> None:
    block = ReportBlock(
        ssrc=1,
        fraction_lost=255,
        cumulative_lost=20_000_000,
        highest_sequence=5,
        jitter=2**40,
        last_sender_report=0,
        delay_since_last=2**40,
    )
    parsed = parse_report(build_report(ControlReport(ssrc=9, blocks=(block,))))
    assert parsed is not None
    (got,) = parsed.blocks
    assert (got.cumulative_lost, got.jitter, got.delay_since_last) == (0x7FFFFF, 0xFFFFFFFF, 0xFFFFFFFF)


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"\x80\xc8",
        bytes.fromhex("80c80006 0000abcd"),  # shorter than it says
        bytes.fromhex("81c90001 0000abcd"),  # one block announced, none there
        bytes.fromhex("80ca0001 0000abcd"),  # a compound that begins with no report (§6.1)
        bytes.fromhex("40c90001 0000abcd"),  # version 1
        bytes.fromhex("80c90000"),  # a report without an SSRC
        bytes.fromhex("80c90001 0000abcd 80"),  # a tail of one byte
        bytes.fromhex("80c90001 0000abcd") * 17,
        bytes.fromhex("80c90001 0000abcd") + bytes.fromhex("80cd016f") + bytes(4 * 0x16F) + bytes(100),
    ],
)
def test_what_is_no_compound_is_none(datagram: bytes) -> None:
    assert parse_report(datagram) is None


def test_unknown_packets_are_passed_over() -> None:
    datagram = bytes.fromhex("80c90001 0000abcd80cc0002 0000abcd 6e616d6581cb0001 0000abcd")
    assert parse_report(datagram) == ControlReport(ssrc=0xABCD, goodbye="")


@given(st.binary(max_size=200))
def test_whatever_arrives_nothing_is_raised(datagram: bytes) -> None:
    parse_report(datagram)


@given(REPORTS, st.data())
def test_a_report_with_bytes_turned_over_raises_nothing(report: ControlReport, data: st.DataObject) -> None:
    datagram = bytearray(build_report(report)[:1500])
    for _ in range(3):
        datagram[data.draw(st.integers(0, len(datagram) - 1))] = data.draw(st.integers(0, 255))
    parse_report(bytes(datagram))


def test_ntp_counts_from_1900() -> None:
    assert ntp_of(0.5) == 2_208_988_800 << 32 | 0x80000000
    assert middle_of(0x11112222_33334444) == 0x22223333


def test_the_round_trip_is_what_is_left_of_the_time() -> None:
    sent, answered_after_s, round_trip = ntp_of(1000.0), 2.5, 0.25
    block = ReportBlock(
        ssrc=1,
        fraction_lost=0,
        cumulative_lost=0,
        highest_sequence=0,
        jitter=0,
        last_sender_report=middle_of(sent),
        delay_since_last=int(answered_after_s * 65536),
    )
    assert round_trip_s(block, ntp_of(1000.0 + answered_after_s + round_trip)) == pytest.approx(round_trip, abs=1e-4)
    assert round_trip_s(block, ntp_of(1000.0)) is None  # an answer before the question
    assert round_trip_s(BLOCK, ntp_of(1000.0)) is None  # no report of ours has arrived there yet


def test_reports_are_spread_around_the_interval() -> None:
    assert (interval_s(0.0), interval_s(0.5), interval_s(1.0)) == (INTERVAL_S / 2, INTERVAL_S, INTERVAL_S * 1.5)
