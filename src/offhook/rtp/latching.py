"""Symmetric RTP with a bolt: from which address media is taken, and to which it is sent.

The rules are numbered as in our reliability notes; they answer CVE-2025-53399 and its kind, where a relay
learns a wrong address and lets a stranger listen in or speak.

1. Declared address = signalling source and public: nothing is learned, only that address is taken.
2. Otherwise learn for 3 s after an answer (once it has arrived: the ACK) or re-INVITE, from 4 packets in sequence, one
   SSRC, a negotiated payload type, from the declared IP address, else the signalling one; never from anyone else.
3. Send to the declared address until locked, never to a source that is not.
4. Locked is strict: all others are dropped and counted.
5. Learn again only after a re-INVITE, or after 2 s of silence from the same IP address, the same SSRC going on.
7. RTCP alike.

(6 is SRTP's: the tag is verified before. 8 is the port pool's. 9, a new SSRC or a jump from the locked
source, is ``Reception``'s.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_address

from offhook.rtp.packet import sequence_distance

Address = tuple[str, int]

LEARNING_S = 3.0
PACKETS_TO_LOCK = 4
SILENCE_BEFORE_MOVE_S = 2.0
MAX_CANDIDATES = 8
"""Sources watched at once while learning; a flood of ports from one address does not grow memory."""

_CONTINUES_WITHIN = 3000
"""RFC 3550 A.1 (MAX_DROPOUT): the farthest a sequence may have run on during the silence before a move."""


class LatchState(Enum):
    DECLARED = "declared"  # rule 1, or learning ended without a lock: the declared address only
    LEARNING = "learning"  # rule 2
    LOCKED = "locked"  # rule 4


class Evidence(Enum):
    """What a packet's source proves."""

    EXPECTED = "expected"  # the address the state takes media from
    PROVEN_EXPECTED = "proven_expected"  # the same, for the fourth time in sequence
    UNPROVEN = "unproven"  # an eligible source, not yet in sequence often enough
    PROVEN = "proven"  # an eligible source, for the fourth time in sequence
    STRANGER = "stranger"


class Verdict(Enum):
    TAKE = "take"
    DROP = "drop"
    LOCK = "lock"  # take it; its source is the remote address from now on


LATCH: Mapping[tuple[LatchState, Evidence], tuple[LatchState, Verdict]] = {
    (LatchState.DECLARED, Evidence.EXPECTED): (LatchState.DECLARED, Verdict.TAKE),
    (LatchState.DECLARED, Evidence.PROVEN_EXPECTED): (LatchState.LOCKED, Verdict.LOCK),
    (LatchState.DECLARED, Evidence.UNPROVEN): (LatchState.DECLARED, Verdict.DROP),
    (LatchState.DECLARED, Evidence.PROVEN): (LatchState.DECLARED, Verdict.DROP),
    (LatchState.DECLARED, Evidence.STRANGER): (LatchState.DECLARED, Verdict.DROP),
    (LatchState.LEARNING, Evidence.EXPECTED): (LatchState.LEARNING, Verdict.TAKE),
    (LatchState.LEARNING, Evidence.PROVEN_EXPECTED): (LatchState.LOCKED, Verdict.LOCK),
    (LatchState.LEARNING, Evidence.UNPROVEN): (LatchState.LEARNING, Verdict.DROP),
    (LatchState.LEARNING, Evidence.PROVEN): (LatchState.LOCKED, Verdict.LOCK),
    (LatchState.LEARNING, Evidence.STRANGER): (LatchState.LEARNING, Verdict.DROP),
    (LatchState.LOCKED, Evidence.EXPECTED): (LatchState.LOCKED, Verdict.TAKE),
    (LatchState.LOCKED, Evidence.PROVEN_EXPECTED): (LatchState.LOCKED, Verdict.TAKE),
    (LatchState.LOCKED, Evidence.UNPROVEN): (LatchState.LOCKED, Verdict.DROP),
    (LatchState.LOCKED, Evidence.PROVEN): (LatchState.LOCKED, Verdict.LOCK),  # rule 5
    (LatchState.LOCKED, Evidence.STRANGER): (LatchState.LOCKED, Verdict.DROP),
}


@dataclass(slots=True)
class _Run:
    """Packets in sequence from one source."""

    ssrc: int
    next_sequence: int
    length: int


class Latch:
    """The remote address of one RTP stream.

    ``declared`` comes from SDP, ``signalling_ip`` is where the SIP messages come from. The hot path
    compares a source with ``locked`` itself and asks ``judge`` only when they differ.
    """

    def __init__(self, *, declared: Address, signalling_ip: str | None, now: float) -> None:
        self.dropped = 0
        self.renew(declared=declared, signalling_ip=signalling_ip, now=now)

    def renew(self, *, declared: Address, signalling_ip: str | None, now: float) -> None:
        """A re-INVITE or its answer named another address: rule 5 lets learning begin again."""
        self.declared = canonical(declared)
        self.locked: Address | None = None
        self._signalling_ip = None if signalling_ip is None else canonical((signalling_ip, 0))[0]
        self._learning_ends = now + LEARNING_S
        self._runs: dict[Address, _Run] = {}
        self._ssrc = 0
        self._highest = 0
        self._heard_at = now
        self._trusted = self.declared[0] == self._signalling_ip and _is_public(self.declared[0])
        self.state = LatchState.DECLARED if self._trusted else LatchState.LEARNING

    def confirm(self, now: float) -> None:
        """The peer has our address: its time to be learned begins. A trusted or locked one stays as it is."""
        if self.locked is not None or self._trusted:
            return
        if now >= self._learning_ends:
            self._runs = {}  # what came between two times of learning proves nothing
        self._learning_ends = now + LEARNING_S
        self.state = LatchState.LEARNING

    @property
    def destination(self) -> Address:
        """Where media is sent (rule 3)."""
        return self.locked or self.declared

    def heard(self, ssrc: int, sequence: int, now: float) -> None:
        """A packet of the locked source was taken without asking: what rule 5 has to know."""
        self._ssrc, self._highest, self._heard_at = ssrc, sequence, now

    def judge(self, source: Address, ssrc: int, sequence: int, negotiated: bool, now: float) -> Verdict:
        """What to do with a packet; ``negotiated``: its payload type is one of the agreement's."""
        if self.state is LatchState.LEARNING and now >= self._learning_ends:
            self.state, self._runs = LatchState.DECLARED, {}
        evidence = self._weigh(source, ssrc, sequence, negotiated, now)
        self.state, verdict = LATCH[self.state, evidence]
        if verdict is Verdict.LOCK:
            self.locked = source
            self._runs = {}
        if verdict is Verdict.DROP:
            self.dropped += 1
        else:
            self.heard(ssrc, sequence, now)
        return verdict

    def _weigh(self, source: Address, ssrc: int, sequence: int, negotiated: bool, now: float) -> Evidence:
        if self.state is LatchState.LOCKED:
            if source == self.locked:
                return Evidence.EXPECTED
            eligible = self._may_move(source, ssrc, sequence, now)
        else:
            eligible = source == self.declared or source[0] in (self.declared[0], self._signalling_ip)
        if not eligible:
            return Evidence.STRANGER
        proven = negotiated and self._run(source, ssrc, sequence) >= PACKETS_TO_LOCK
        if source == self.declared and self.state is not LatchState.LOCKED:
            return Evidence.PROVEN_EXPECTED if proven else Evidence.EXPECTED
        return Evidence.PROVEN if proven else Evidence.UNPROVEN

    def _may_move(self, source: Address, ssrc: int, sequence: int, now: float) -> bool:
        """Rule 5, without a re-INVITE: a NAT gave the same stream another port."""
        return (
            self.locked is not None
            and source[0] == self.locked[0]
            and now - self._heard_at >= SILENCE_BEFORE_MOVE_S
            and ssrc == self._ssrc
            and 0 < sequence_distance(sequence, self._highest) < _CONTINUES_WITHIN
        )

    def _run(self, source: Address, ssrc: int, sequence: int) -> int:
        """How many packets in sequence this source has sent, this one included."""
        run = self._runs.get(source)
        if run is not None and run.ssrc == ssrc and run.next_sequence == sequence:
            run.length += 1
            run.next_sequence = (sequence + 1) & 0xFFFF
            return run.length
        if run is not None or len(self._runs) < MAX_CANDIDATES:
            self._runs[source] = _Run(ssrc=ssrc, next_sequence=(sequence + 1) & 0xFFFF, length=1)
        return 1


class ControlLatch:
    """The remote address of the stream's RTCP: rule 7.

    Reports come every five seconds, so four in a row cannot be waited for: the declared address is taken,
    and once RTP is locked, the locked IP address with the locked stream's SSRC, which then is kept.
    """

    def __init__(self, *, declared: Address, rtp: Latch) -> None:
        self.dropped = 0
        self._rtp = rtp
        self.renew(declared=declared)

    def renew(self, *, declared: Address) -> None:
        self.declared = canonical(declared)
        self.locked: Address | None = None

    @property
    def destination(self) -> Address:
        return self.locked or self.declared

    def judge(self, source: Address, ssrc: int, stream_ssrc: int | None) -> Verdict:
        """``ssrc`` is the report's sender, ``stream_ssrc`` that of the RTP taken so far."""
        locked_rtp = self._rtp.locked
        if locked_rtp is None or self.locked is not None:
            taken = source == self.destination
            lock = False
        else:
            taken = lock = source[0] == locked_rtp[0] and ssrc == stream_ssrc
        if lock:
            self.locked = source
            return Verdict.LOCK
        self.dropped += not taken
        return Verdict.TAKE if taken else Verdict.DROP


def canonical(address: Address) -> Address:
    """An address as a socket names it: IPv6 has many spellings. A host that is no IP address stays as it is."""
    try:
        return str(ip_address(address[0])), address[1]
    except ValueError:
        return address


def _is_public(host: str) -> bool:
    try:
        return ip_address(host).is_global
    except ValueError:
        return False
