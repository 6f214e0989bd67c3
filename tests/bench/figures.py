"""What the benchmark measures, as data: this is the shape of its JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

SubjectName = Literal["offhook", "floor_uvloop", "floor_epoll"]

LATE_GAP_MS = 25.0
"""A gap above this is one the remote jitter buffer notices; the issue's limit for p99."""

HOLE_GAP_MS = 40.0
"""A gap above this is a frame that never came in time: a hole one hears."""


class _Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Frozen; keys are field names."""


class Spread(_Figures, frozen=True):
    """A distribution by three of its points."""

    p50: float
    p99: float
    max: float


class Cpu(_Figures, frozen=True):
    """Of the measured process, user and system; 100 percent is one core."""

    percent: float
    percent_per_call: float
    us_per_packet_pair: float
    """Microseconds for one packet received and one sent, everything included."""


class Memory(_Figures, frozen=True):
    """Resident set."""

    idle_kb: int
    loaded_kb: int
    kb_per_call: float


class Packets(_Figures, frozen=True):
    """RTP of the window."""

    sent: int
    received: int
    missing: int
    """Frames of 20 ms that no packet came for: skipped by the subject, or lost."""
    lost: int
    """Packets the subject numbered and the generator never got."""
    silent: int
    """Received packets that held digital silence."""
    dropped_unread: int
    """Datagrams the kernel threw away since the start because the subject's RTP sockets were full."""


class Setups(_Figures, frozen=True):
    """INVITE to 200 as the caller sees it, by kernel receive time."""

    offered: int
    answered: int
    failed: int
    resent: int
    """INVITEs sent again because nothing came for 500 ms (T1, RFC 3261 §17.1.1.2)."""
    ms: Spread


class GeneratorHealth(_Figures, frozen=True):
    """Whether the generator, not the subject, was the bottleneck."""

    cpu_percent: float
    late_ms: Spread
    """How late packets left the generator."""
    dropped_unread: int


class Surroundings(_Figures, frozen=True):
    """What else the machine did meanwhile."""

    load_average: float
    busy_elsewhere_percent: float
    """CPU of every process but the measured one and the generator; 100 is one core."""
    steal_percent: float
    """Time the hypervisor gave to others; 100 is one core."""


class MediaRun(_Figures, frozen=True):
    """One subject carrying ``calls`` calls."""

    subject: SubjectName
    calls: int
    seconds: float
    cpu: Cpu
    memory: Memory
    gap_ms: Spread
    jitter_ms: Spread
    """|gap - 20 ms|."""
    late_gaps: int
    holes: int
    packets: Packets
    setups: Setups | None
    """None for the floor, which has no signalling."""
    generator: GeneratorHealth
    surroundings: Surroundings


class SetupRun(_Figures, frozen=True):
    """Calls placed and ended at a steady rate."""

    rate_per_s: float
    setups: Setups
    cpu_percent: float
    ms_of_cpu_per_call: float
    clean: bool
    """Nothing failed, was resent, or took longer than T1 at p99."""


GOOD_P99_MS = 300.0
"""INVITE to 200: the aim of the issue."""


class GroundRun(_Figures, frozen=True):
    """Calls placed and ended at a steady rate, each stored and its events told to a webhook."""

    rate_per_s: float
    seconds: float
    setups: Setups
    kept: int
    """Records that have their end."""
    told: int
    """Calls whose end the receiver was told."""
    told_ms: Spread
    """From a call's end to the receiver."""
    cpu_percent: float
    ms_of_cpu_per_call: float

    @property
    def good(self) -> bool:
        """No call failed, none is missing in the database or at the receiver, and callers did not wait."""
        offered = self.setups.offered
        return (self.setups.failed, self.kept, self.told) == (0, offered, offered) and self.setups.ms.p99 <= GOOD_P99_MS


ApiRequest = Literal["list calls", "read a call", "patch an agent"]


class ApiRun(_Figures, frozen=True):
    """The API asked one thing as fast as it answers, while calls run. ``request`` None: nobody asked."""

    request: ApiRequest | None
    calls: int
    answered: int
    failed: int
    rate_per_s: float
    ms: Spread
    cpu_percent: float
    gap_ms: Spread
    """Of the calls' media."""
    holes: int


class BridgedRun(_Figures, frozen=True):
    """Calls that an OpenAI session speaks to without end."""

    tls: bool
    media: MediaRun


class TurnsFigures(_Figures, frozen=True):
    """Our part of a turn, in milliseconds; see ``turns.TurnsRun``. ``latency_off_ms``: the record's latency of a turn
    against the one seen at the caller's end."""

    calls: int
    turns: int
    lost: int
    inward_ms: Spread
    outward_ms: Spread
    stop_ms: Spread
    latency_off_ms: Spread


class Ratio(_Figures, frozen=True):
    """offhook's figure over the floor's at the same number of calls."""

    calls: int
    floor: SubjectName
    cpu: float
    memory: float
    gap_p99: float


class Machine(_Figures, frozen=True):
    cores: int
    model: str
    python: str
    kernel: str
    pinned: bool
    """Subject and generator each had a core of their own."""


class Report(_Figures, frozen=True):
    name: str
    started_at: str
    commit: str
    machine: Machine
    media: tuple[MediaRun, ...]
    setup_rates: tuple[SetupRun, ...]
    highest_clean_rate_per_s: float | None
    """None when set-up rates were not measured or none was clean."""
    ratios: tuple[Ratio, ...]
    ground: tuple[GroundRun, ...] = ()
    api: tuple[ApiRun, ...] = ()
    bridged: tuple[BridgedRun, ...] = ()
    turns: tuple[TurnsFigures, ...] = ()


def spread(values: Sequence[float], digits: int = 3) -> Spread:
    """Nearest-rank percentiles; zeros for no values."""
    if not values:
        return Spread(p50=0.0, p99=0.0, max=0.0)
    ordered = sorted(values)
    last = len(ordered) - 1
    p50, p99 = ordered[round(last * 0.50)], ordered[round(last * 0.99)]
    return Spread(p50=round(p50, digits), p99=round(p99, digits), max=round(ordered[-1], digits))


def ratios(runs: Sequence[MediaRun]) -> tuple[Ratio, ...]:
    """Every offhook run beside every floor run with as many calls."""
    return tuple(
        Ratio(
            calls=run.calls,
            floor=floor.subject,
            cpu=_ratio(run.cpu.percent, floor.cpu.percent),
            memory=_ratio(run.memory.loaded_kb, floor.memory.loaded_kb),
            gap_p99=_ratio(run.gap_ms.p99, floor.gap_ms.p99),
        )
        for run in runs
        if run.subject == "offhook"
        for floor in runs
        if floor.subject != "offhook" and floor.calls == run.calls
    )


def _ratio(ours: float, floor: float) -> float:
    return round(ours / floor, 2) if floor else 0.0
