"""What the generator process is asked, and what it answers: one JSON line each way."""

from __future__ import annotations

import msgspec
from tests.bench.figures import ApiRequest, MediaRun, SetupRun, Spread, SubjectName


class MediaJob(msgspec.Struct, frozen=True, kw_only=True, tag="media"):
    """Carry calls for a while. With ``sip_port``, calls are set up; otherwise RTP goes to ``echo_ports``."""

    subject: SubjectName
    server_pid: int
    calls: int
    seconds: float
    settle_s: float
    """From the last call's start to the window."""
    setups_per_s: float = 40.0
    """Slow enough that a set-up disturbs no other."""
    sip_port: int | None = None
    echo_ports: tuple[int, ...] = ()


class SetupJob(msgspec.Struct, frozen=True, kw_only=True, tag="setup"):
    """Place calls at a steady rate; each is held for a moment, then ended."""

    server_pid: int
    sip_port: int
    rate_per_s: float
    seconds: float
    hold_s: float = 0.5


class ApiJob(msgspec.Struct, frozen=True, kw_only=True):
    """Ask one thing again and again. ``begin_at``: Unix seconds."""

    port: int
    request: ApiRequest
    begin_at: float
    seconds: float


class ApiAnswers(msgspec.Struct, frozen=True, kw_only=True):
    """``failed``: answered with anything but 200."""

    answered: int
    failed: int
    rate_per_s: float
    ms: Spread


Job = MediaJob | SetupJob
Result = MediaRun | SetupRun
