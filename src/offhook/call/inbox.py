"""What arrives at a running call, in one closed union; handled one at a time, in the order it came."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from offhook.bridge.codec import BridgeEvent
from offhook.call.leg import DialPlan
from offhook.media.events import MediaEvent
from offhook.model.call_events import EndCause, EndedBy
from offhook.model.errors import BridgeError
from offhook.sip.events import Flow, SipEvent

MAX_WAITING = 2000
"""Facts a call may have waiting; a peer that outruns this floods. Then its call ends, and no other suffers."""

Timer = Literal["no_answer", "next_way", "duration_limit", "judgement", "goodbye", "teardown"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SipFact:
    """Something happened to a leg's INVITE usage."""

    event: SipEvent


@dataclass(frozen=True, kw_only=True, slots=True)
class MediaFact:
    leg_id: str
    event: MediaEvent


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentFact:
    event: BridgeEvent


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentReady:
    """The provider is open."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentFailed:
    error: BridgeError


@dataclass(frozen=True, kw_only=True, slots=True)
class WayFound:
    """The outbound target was resolved: the ways to it, best first."""

    plans: tuple[DialPlan, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class WayBack:
    """The peer of a restored leg can be reached by this flow."""

    flow: Flow


@dataclass(frozen=True, kw_only=True, slots=True)
class NoWay:
    """The outbound target cannot be reached: its name does not resolve, or no transport serves it."""

    problem: str


@dataclass(frozen=True, kw_only=True, slots=True)
class TimerFired:
    timer: Timer


@dataclass(frozen=True, kw_only=True, slots=True)
class HangUp:
    """The command to end the call, by whom and why."""

    by: EndedBy
    cause: EndCause
    reason: str = ""


InboxFact = (
    SipFact | MediaFact | AgentFact | AgentReady | AgentFailed | WayFound | WayBack | NoWay | TimerFired | HangUp
)
