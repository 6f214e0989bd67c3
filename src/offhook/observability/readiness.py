"""Whether this server should be sent calls, part by part: a pure function of the facts it is given (GET /ready)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from offhook.model.trunks import TrunkPhase
from offhook.observability.loop_lag import STALL_S

Status = Literal["ok", "degraded", "failed"]
"""``degraded``: calls are served, but somebody should look. ``failed``: no calls should be sent here."""

LATE_SHARE = 0.1
"""When one wake-up in ten comes 50 ms late, every call has a hole each second: send no more here."""

DISK_LOW_BYTES = 1024**3
"""About a day of recordings for ten calls at a time (8 kB/s a side)."""
DISK_FULL_BYTES = 100 * 1024**2
"""Below this the database and the recordings fail one after the other."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadinessFacts:
    """``sip``: sockets that listen, as ``host:port/TRANSPORT``. ``registrations``: phase of each trunk that registers.

    ``other_ways``: whether calls come by trunks that register nowhere, or from anyone. ``store_problem``: why the
    database cannot be reached, "" where it can. ``journal_full``: events wait in memory, and no more are taken.
    ``lags_s``: how late the event loop woke in the last seconds. ``disk_free_bytes`` of the data folder; None: unknown.
    """

    sip: tuple[str, ...] = ()
    registrations: Mapping[str, TrunkPhase] = field(default_factory=dict)
    other_ways: bool = True
    store_problem: str = ""
    spooled: int = 0
    journal_full: bool = False
    lags_s: tuple[float, ...] = ()
    draining: bool = False
    disk_free_bytes: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """``sentence`` may be shown to anybody. ``about``: names and reasons, for the operator."""

    name: str
    status: Status
    sentence: str
    about: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Readiness:
    ready: bool
    parts: tuple[Part, ...]


def readiness(facts: ReadinessFacts) -> Readiness:
    """Ready unless a part has failed."""
    parts = (_sip(facts), _trunks(facts), _store(facts), _loop(facts), _draining(facts), _disk(facts))
    return Readiness(ready=all(part.status != "failed" for part in parts), parts=parts)


def _sip(facts: ReadinessFacts) -> Part:
    if not facts.sip:
        return Part(name="sip", status="failed", sentence="no SIP socket listens")
    return Part(name="sip", status="ok", sentence=f"listens on {len(facts.sip)} sockets", about=facts.sip)


def _trunks(facts: ReadinessFacts) -> Part:
    number = len(facts.registrations)
    missing = tuple(
        f"{trunk_id}: {phase}" for trunk_id, phase in sorted(facts.registrations.items()) if phase != "online"
    )
    if not missing:
        return Part(name="trunks", status="ok", sentence=f"{number} of {number} are registered")
    status: Status = "failed" if len(missing) == number and not facts.other_ways else "degraded"
    sentence = f"{number - len(missing)} of {number} are registered"
    return Part(name="trunks", status=status, sentence=sentence, about=missing)


def _store(facts: ReadinessFacts) -> Part:
    about = (facts.store_problem,) if facts.store_problem else ()
    if facts.journal_full:
        sentence = "events cannot be written, and no more are taken"
        return Part(name="store", status="failed", sentence=sentence, about=about)
    if facts.store_problem:
        sentence = "the database is away: events go to the spool"
        return Part(name="store", status="degraded", sentence=sentence, about=about)
    if facts.spooled:
        return Part(name="store", status="degraded", sentence=f"{facts.spooled} events of the spool are being written")
    return Part(name="store", status="ok", sentence="the database answers")


def _loop(facts: ReadinessFacts) -> Part:
    worst_ms = round(max(facts.lags_s, default=0.0) * 1000)
    late = sum(lag >= STALL_S for lag in facts.lags_s)
    sentence = f"the event loop woke at most {worst_ms} ms late"
    if late > 1 and late >= len(facts.lags_s) * LATE_SHARE:
        return Part(name="loop", status="failed", sentence=f"{sentence}, and too often: this machine is too slow")
    return Part(name="loop", status="degraded" if late else "ok", sentence=sentence)


def _draining(facts: ReadinessFacts) -> Part:
    if facts.draining:
        return Part(name="draining", status="failed", sentence="stops when its calls are over, and takes no new ones")
    return Part(name="draining", status="ok", sentence="takes calls")


def _disk(facts: ReadinessFacts) -> Part:
    free = facts.disk_free_bytes
    if free is None:
        return Part(name="disk", status="ok", sentence="the free space is not known")
    sentence = f"{free // 1024**2} MiB are free in the data folder"
    if free < DISK_FULL_BYTES:
        return Part(name="disk", status="failed", sentence=sentence)
    return Part(name="disk", status="degraded" if free < DISK_LOW_BYTES else "ok", sentence=sentence)
