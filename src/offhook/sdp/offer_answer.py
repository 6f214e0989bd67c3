"""Offer and answer (RFC 3264) for one audio stream, as pure functions of values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from offhook.model.audio import FRAME_MS, Encoding

Direction = Literal["sendrecv", "sendonly", "recvonly", "inactive"]
"""RFC 3264 §5.1: what one side is willing to do with the stream."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Capabilities:
    """What a leg can do, and where it takes its media; per leg, so that a trunk may differ."""

    codecs: tuple[Encoding, ...] = (Encoding.PCMU, Encoding.PCMA)
    """Best first."""
    telephone_event: bool = True
    ptime_ms: int = FRAME_MS
    address: str
    port: int
    session_id: int
    version: int
    direction: Direction = "sendrecv"


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """What both sides settled on, seen from ours."""

    encoding: Encoding
    payload_type: int
    """What we send."""
    receive_payload_type: int
    ptime_ms: int
    """What the remote side wants in one packet."""
    dtmf_payload_type: int | None
    """What we send telephone-events as (RFC 4733); None: the remote side takes none."""
    dtmf_receive_payload_type: int | None
    remote: tuple[str, int]
    remote_rtcp: tuple[str, int]
    direction: Direction
    """Ours: what we may do."""


@dataclass(frozen=True, slots=True)
class NoCommonCodec:
    """Why no media can flow: a 488 with a Warning (RFC 3261 §20.43)."""

    why: str
    """The Warning's text; names what was offered and what we have."""
    warning: int = 305
    """The Warning's code: 304 media type not available, 305 incompatible media format."""
