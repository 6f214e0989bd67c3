"""Which packets of a stream are new, doubled or astray, and how many were lost (RFC 3550 A.1, A.3)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

MAX_DROPOUT = 3000
"""RFC 3550 A.1: a jump forward of up to a minute is loss; beyond it the sender has restarted."""

MAX_MISORDER = 100
"""RFC 3550 A.1: two seconds of packets may overtake one another; further back is a restart."""

_SEEN_MASK = (1 << (MAX_MISORDER + 1)) - 1


class Admission(Enum):
    """What to do with a packet, judged by SSRC and sequence number alone."""

    FRESH = "fresh"
    DUPLICATE = "duplicate"  # seen before: drop
    SUSPECT = "suspect"  # far off: drop, unless the next one follows it
    RESTART = "restart"  # first packet, or the second in a row of a new stream: reset, then use it


@dataclass(slots=True, eq=False)
class Reception:
    """Sequence bookkeeping of one inbound stream.

    ``received`` counts distinct packets; ``lost`` is what the gaps in the numbering leave. Both run on over
    restarts, so that they add up for the call; ``extended_highest`` is of the current stream.
    """

    ssrc: int | None = None
    received: int = 0
    duplicates: int = 0
    reordered: int = 0
    suspects: int = 0
    restarts: int = 0
    _highest: int = 0  # 16 bits
    _extended: int = 0
    _base: int = 0
    _seen: int = 0  # bit n: the packet n before the highest was received
    _expected_before: int = 0  # of streams that ended by a restart
    _suspect: tuple[int, int] | None = None
    _reported_expected: int = 0
    _reported_received: int = 0

    def admit(self, ssrc: int, sequence: int) -> Admission:
        """Judge one packet and count it."""
        ahead = (sequence - self._highest) & 0xFFFF
        if 0 < ahead < MAX_DROPOUT and ssrc == self.ssrc:
            self._highest = sequence
            self._extended += ahead
            self._seen = (self._seen << ahead | 1) & _SEEN_MASK
            self.received += 1
            return Admission.FRESH
        if ssrc == self.ssrc and (behind := -ahead & 0xFFFF) <= MAX_MISORDER:
            return self._admit_late(behind)
        return self._admit_stranger(ssrc, sequence)

    @property
    def expected(self) -> int:
        """Packets the numbering says were sent."""
        current = 0 if self.ssrc is None else self._extended - self._base + 1
        return self._expected_before + current

    @property
    def lost(self) -> int:
        return max(0, self.expected - self.received)

    @property
    def extended_highest(self) -> int:
        """Extended highest sequence number received, 32 bits (RFC 3550 §6.4.1)."""
        return self._extended & 0xFFFFFFFF

    def fraction_lost(self) -> int:
        """Loss since the last call in 1/256 (RFC 3550 A.3); to be asked once per report."""
        expected = self.expected - self._reported_expected
        lost = expected - (self.received - self._reported_received)
        self._reported_expected = self.expected
        self._reported_received = self.received
        return min(255, (lost << 8) // expected) if expected > 0 and lost > 0 else 0

    def _admit_late(self, behind: int) -> Admission:
        if self._seen >> behind & 1:
            self.duplicates += 1
            return Admission.DUPLICATE
        self._seen |= 1 << behind
        self._base = min(self._base, self._extended - behind)  # the first to arrive was not the first sent
        self.received += 1
        self.reordered += 1
        return Admission.FRESH

    def _admit_stranger(self, ssrc: int, sequence: int) -> Admission:
        # A.1: two packets in a row make a new stream; one alone is garbage. The very first is believed.
        if self.ssrc is not None and self._suspect != (ssrc, sequence):
            self._suspect = (ssrc, (sequence + 1) & 0xFFFF)
            self.suspects += 1
            return Admission.SUSPECT
        self._begin(ssrc, sequence)
        return Admission.RESTART

    def renumber(self, sequence: int) -> None:
        """Believe a packet judged ``DUPLICATE``: the sender has begun again at numbers it had used before."""
        assert self.ssrc is not None
        self.duplicates -= 1
        self._begin(self.ssrc, sequence)

    def _begin(self, ssrc: int, sequence: int) -> None:
        self._expected_before = self.expected
        self.restarts += self.ssrc is not None
        self.ssrc = ssrc
        self._suspect = None
        self._highest = self._extended = self._base = sequence
        self._seen = 1
        self.received += 1
