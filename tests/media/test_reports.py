"""RTCP of a leg in virtual time."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from tests.media.test_inbound import Ear, tone_stream
from tests.media.test_outbound import Mouth

from offhook.media.reports import ReportExchange
from offhook.rtp.rtcp import (
    INTERVAL_S,
    ControlReport,
    ReportBlock,
    SenderFigures,
    build_report,
    middle_of,
    ntp_of,
    parse_report,
)

CONTROL = ("10.0.0.5", 4001)
OURS, THEIRS = 0xAFFE, 0xABCD


@dataclass(slots=True)
class Exchange:
    ear: Ear = field(default_factory=Ear)
    mouth: Mouth = field(default_factory=Mouth)
    sent: list[tuple[bytes, tuple[str, int]]] = field(default_factory=list)
    reports: ReportExchange = field(init=False)

    def __post_init__(self) -> None:
        self.reports = ReportExchange(
            ssrc=OURS,
            cname="call",
            remote=CONTROL,
            inbound=self.ear.stream,
            outbound=self.mouth.stream,
            send=lambda datagram, destination: self.sent.append((datagram, destination)),
            monotonic=lambda: self.ear.now,
            chance=lambda: 0.5,
        )

    def last(self) -> ControlReport:
        report = parse_report(self.sent[-1][0])
        assert report is not None
        return report

    def wait(self, seconds: float) -> None:
        for _ in range(round(seconds * 10)):
            self.ear.now += 0.1
            self.reports.send_due(self.ear.now)

    def receive(self, report: ControlReport, source: tuple[str, int] = CONTROL) -> None:
        self.reports.receive(build_report(report), source)


def block(*, lost: int = 0, fraction: int = 0, highest: int = 0, last: int = 0, delay: int = 0) -> ReportBlock:
    return ReportBlock(
        ssrc=OURS,
        fraction_lost=fraction,
        cumulative_lost=lost,
        highest_sequence=highest,
        jitter=80,
        last_sender_report=last,
        delay_since_last=delay,
    )


def test_the_first_report_comes_after_half_the_interval_and_then_one_each() -> None:
    exchange = Exchange()
    exchange.wait(INTERVAL_S / 2 - 0.2)
    assert exchange.sent == []
    exchange.wait(0.4)
    assert len(exchange.sent) == 1
    exchange.wait(INTERVAL_S * 4 + 1)
    assert len(exchange.sent) == 5
    assert {destination for _, destination in exchange.sent} == {CONTROL}


def test_without_a_packet_sent_it_is_a_receiver_report() -> None:
    exchange = Exchange()
    exchange.wait(3)
    assert exchange.last() == ControlReport(ssrc=OURS, cname="call")


def test_a_report_carries_both_directions() -> None:
    exchange = Exchange()
    packets = tone_stream(10)
    del packets[100:150]
    exchange.ear.listen(packets, tail_s=0.02)
    exchange.mouth.tick(500)
    exchange.wait(0.1)
    report = exchange.last()
    assert report.sender is not None
    assert (report.sender.packets, report.sender.octets) == (500, 80_000)
    assert report.sender.rtp_timestamp == exchange.mouth.stream.timestamp
    (got,) = report.blocks
    assert (got.ssrc, got.cumulative_lost, got.fraction_lost) == (THEIRS, 50, 25)
    assert got.highest_sequence == 65_500 + 499


def test_the_remote_partys_report_is_acknowledged_and_the_round_trip_measured() -> None:
    exchange = Exchange()
    exchange.ear.listen(tone_stream(1), tail_s=0.0)
    exchange.mouth.tick(50)
    while not exchange.sent:
        exchange.wait(0.1)
    ours = exchange.last()
    assert ours.sender is not None
    theirs = SenderFigures(ntp=ntp_of(5000), rtp_timestamp=1, packets=1, octets=160)
    sent_at = exchange.ear.now
    exchange.ear.now += 1.5
    held_s = 1.4
    seen = block(last=middle_of(ours.sender.ntp), delay=int(held_s * 65_536))
    exchange.receive(ControlReport(ssrc=THEIRS, sender=theirs, blocks=(seen,)))
    assert exchange.reports.round_trip_ms is not None
    assert exchange.reports.round_trip_ms == pytest.approx((exchange.ear.now - sent_at - held_s) * 1000, abs=1)
    exchange.wait(6)
    (got,) = exchange.last().blocks
    assert got.last_sender_report == middle_of(theirs.ntp)
    assert 0 < got.delay_since_last < 7 * 65_536


def test_what_the_remote_party_lost_is_a_share_of_what_it_should_have_had() -> None:
    exchange = Exchange()
    exchange.mouth.tick(1000)
    highest = exchange.mouth.stream.first_sequence + 999
    exchange.receive(ControlReport(ssrc=THEIRS, blocks=(block(lost=30, fraction=200, highest=highest),)))
    assert exchange.reports.remote_loss_percent == pytest.approx(3.0)
    assert exchange.reports.remote_jitter_ms == 10


def test_a_numbering_that_does_not_fit_leaves_the_fraction() -> None:
    exchange = Exchange()
    exchange.mouth.tick(10)
    exchange.receive(ControlReport(ssrc=THEIRS, blocks=(block(lost=30, fraction=64, highest=0xFFFF_FFFF),)))
    assert exchange.reports.remote_loss_percent == 25


def test_blocks_of_other_sources_say_nothing_of_us() -> None:
    exchange = Exchange()
    exchange.receive(ControlReport(ssrc=THEIRS, blocks=(replace(block(fraction=64), ssrc=1),)))
    assert exchange.reports.remote_loss_percent is None


def test_goodbye_is_said_and_heard() -> None:
    exchange = Exchange()
    exchange.receive(ControlReport(ssrc=THEIRS, goodbye="done"))
    assert exchange.reports.remote_left
    exchange.reports.close("bye")
    assert exchange.last().goodbye == "bye"


def test_strangers_and_garbage_are_dropped_and_counted() -> None:
    exchange = Exchange()
    exchange.reports.receive(b"garbage", CONTROL)
    exchange.receive(ControlReport(ssrc=THEIRS, goodbye=""), ("198.51.100.1", 4001))
    assert (exchange.reports.malformed, exchange.reports.latch.dropped) == (1, 1)
    assert not exchange.reports.remote_left


def test_an_address_that_names_no_host_is_not_sent_to() -> None:
    exchange = Exchange()
    exchange.reports.latch.renew(declared=("0.0.0.0", 4001))
    exchange.wait(20)
    assert exchange.sent == []


def test_what_came_after_a_late_tick_was_due_came_just_now() -> None:
    exchange = Exchange()
    exchange.ear.listen(tone_stream(1), tail_s=0.0)
    exchange.ear.now += 30.0
    figures = SenderFigures(ntp=1 << 32, rtp_timestamp=0, packets=1, octets=1)
    exchange.receive(ControlReport(ssrc=THEIRS, sender=figures))
    exchange.reports.send_due(exchange.ear.now - 0.1)
    (told,) = exchange.last().blocks
    assert told.delay_since_last == 0
