"""What a media session tells its call, and what it answers a flush with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class Drained:
    """A finished item was played to its end: ``played_ms`` of it left on RTP."""

    item: str
    played_ms: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SpeechSent:
    """The first frame of ``item`` that is not silence left at monotonic time ``at``.

    ``caller_speech_at`` is the arrival of the caller's last speech packet before it, 0.0 if there was none:
    the difference is the turn's latency on the wire.
    """

    item: str
    at: float
    caller_speech_at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class DtmfReceived:
    """A key of the remote party, by events (RFC 4733), or by tones where it never agreed to events."""

    digit: str
    duration_ms: int
    source: Literal["rfc4733", "inband"] = "rfc4733"


@dataclass(frozen=True, kw_only=True, slots=True)
class MediaTimedOut:
    """No RTP for ``after_s`` seconds although it should flow. Told once, again only after RTP came back."""

    after_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class PathChanged:
    """Media is sent to and taken from another address than before."""

    remote: tuple[str, int]


MediaEvent = Drained | SpeechSent | DtmfReceived | MediaTimedOut | PathChanged


@dataclass(frozen=True, kw_only=True, slots=True)
class Played:
    """How much of a flushed item really left on RTP; 0 for one that had not begun."""

    item: str
    played_ms: int
