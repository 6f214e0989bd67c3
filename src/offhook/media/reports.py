"""A leg's RTCP: reports sent every five seconds or so, the remote side's read (RFC 3550 §6)."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from offhook.media.inbound import InboundStream
from offhook.media.outbound import OutboundStream, is_sendable
from offhook.rtp.latching import Address, ControlLatch, Verdict
from offhook.rtp.rtcp import (
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


class ReportExchange:
    """Speaks RTCP for one leg. ``cname`` is the same for all streams of a call and tells nothing of the host."""

    def __init__(
        self,
        *,
        ssrc: int,
        cname: str,
        remote: Address,
        inbound: InboundStream,
        outbound: OutboundStream,
        send: Callable[[bytes, Address], None],
        monotonic: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._ssrc = ssrc
        self._cname = cname
        self._inbound = inbound
        self._outbound = outbound
        self._send = send
        self._monotonic = monotonic
        self._chance = chance
        # Wall time is read once: a clock that is set must not bend round trips.
        self._unix_offset = time.time() - monotonic()
        self.latch = ControlLatch(declared=remote, rtp=inbound.latch)
        self._next_at = monotonic() + interval_s(chance()) / 2  # §6.2: the first one after half the time
        self._heard: tuple[int, float] | None = None  # LSR and its arrival
        self.malformed = 0
        self.round_trip_ms: float | None = None
        self.remote_loss_percent: float | None = None
        self.remote_jitter_ms: float | None = None
        self.remote_left = False

    def send_due(self, now: float) -> None:
        """Send a report when its time has come."""
        if now >= self._next_at:
            self._next_at = now + interval_s(self._chance())
            self._send_report(now, None)

    def send_by(self, send: Callable[[bytes, Address], None]) -> None:
        """Another transport took over."""
        self._send = send

    def close(self, reason: str = "") -> None:
        """Say goodbye (§6.6)."""
        self._send_report(self._monotonic(), reason)

    def receive(self, datagram: bytes, source: Address) -> None:
        """Take a datagram; what is no report, or from elsewhere, is counted and dropped."""
        report = parse_report(datagram)
        if report is None:
            self.malformed += 1
            return
        if self.latch.judge(source, report.ssrc, self._inbound.reception.ssrc) is Verdict.DROP:
            return
        now = self._monotonic()
        if report.sender is not None:
            self._heard = (middle_of(report.sender.ntp), now)
        self.remote_left = self.remote_left or report.goodbye is not None
        for block in report.blocks:
            if block.ssrc == self._ssrc:
                self._learn(block, now)

    def _learn(self, block: ReportBlock, now: float) -> None:
        """What the remote side says of our stream."""
        round_trip = round_trip_s(block, self._ntp(now))
        if round_trip is not None:
            self.round_trip_ms = round_trip * 1000
        self.remote_jitter_ms = 1000 * block.jitter / self._outbound.clock_hz
        expected = block.highest_sequence - self._outbound.first_sequence + 1
        if 0 < expected <= self._outbound.packets:
            self.remote_loss_percent = min(100.0, max(0.0, 100 * block.cumulative_lost / expected))
        else:
            self.remote_loss_percent = 100 * block.fraction_lost / 256

    def _send_report(self, now: float, goodbye: str | None) -> None:
        destination = self.latch.destination
        if not is_sendable(destination):
            return
        outbound = self._outbound
        sender = None
        if outbound.packets:
            sender = SenderFigures(
                ntp=self._ntp(now), rtp_timestamp=outbound.timestamp, packets=outbound.packets, octets=outbound.octets
            )
        report = ControlReport(
            ssrc=self._ssrc, sender=sender, blocks=self._blocks(now), cname=self._cname, goodbye=goodbye
        )
        self._send(build_report(report), destination)

    def _blocks(self, now: float) -> tuple[ReportBlock, ...]:
        reception = self._inbound.reception
        if reception.ssrc is None:
            return ()
        last, delay = 0, 0
        if self._heard is not None:
            # A tick that is late reads what came after it was due.
            last, delay = self._heard[0], max(0, int((now - self._heard[1]) * 65536))
        block = ReportBlock(
            ssrc=reception.ssrc,
            fraction_lost=reception.fraction_lost(),
            cumulative_lost=reception.lost,
            highest_sequence=reception.extended_highest,
            jitter=int(self._inbound.jitter_buffer.jitter),
            last_sender_report=last,
            delay_since_last=delay,
        )
        return (block,)

    def _ntp(self, now: float) -> int:
        return ntp_of(now + self._unix_offset)
