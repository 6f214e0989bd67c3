"""What arrives at a running call, in one closed union; handled one at a time, in the order it came."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from offhook.bridge.codec import BridgeEvent, TextInput
from offhook.call.answering_machine import Step
from offhook.call.leg import DialPlan
from offhook.call.ports import AgentAnswer
from offhook.media.events import MediaEvent
from offhook.model.audio import AudioFormat
from offhook.model.call_events import EndCause, EndedBy, ToolReturned
from offhook.model.errors import BridgeError
from offhook.model.records import TransferDestination
from offhook.sip.events import Flow, InviteReceived, SipEvent

MAX_WAITING = 2000
"""Facts a call may have waiting; a peer that outruns this floods. Then its call ends, and no other suffers."""

Timer = Literal[
    "no_answer",  # of a leg that is dialled
    "next_way",
    "duration_limit",
    "judgement",  # of a caller's sound over the agent's voice
    "goodbye",
    "first_words",  # of a goodbye
    "filler",  # a tool of the agent's runs for a while
    "silence",
    "reassure",  # the provider failed, and nobody is heard
    "transfer",  # the present step of a transfer takes too long
    "digits",  # the next digit by INFO
    "voicemail",  # the agent leaves a message
    "teardown",
]


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
    """``leg_id``: the leg that this agent speaks with; "" is the call's first."""

    event: BridgeEvent
    leg_id: str = ""
    session: int = 0
    """Of the agent's providers, the one that came first is 0."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentReady:
    """The provider is open; or, with the ``session`` ``NO_PROVIDER``, none is, and yet somebody should pick up."""

    leg_id: str = ""
    session: int = 0


NO_PROVIDER = -1


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentFailed:
    """The provider could not be opened; there may be another."""

    error: BridgeError
    leg_id: str = ""
    session: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentLost:
    """No provider could be opened for a call that nobody has answered, and nothing takes its place."""

    problem: str
    leg_id: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class SayText:
    """The command to say something to the caller, ``exact``: word by word."""

    text: str
    exact: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Inject:
    """The command to tell the agent something in the middle of the talk."""

    text: TextInput


@dataclass(frozen=True, kw_only=True, slots=True)
class Voiced:
    """``text`` was spoken by the local voice: ``audio``, in this format; None where it could not."""

    text: str
    audio: bytes | None
    format: AudioFormat


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolAnswered:
    """A tool of the agent's that somebody else's server runs is done; ``leg_id`` as in ``AgentFact``."""

    told: ToolReturned
    leg_id: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """The call's first fact is on disk: others may hear of the call."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NotKept:
    """It is not, and was given time enough."""

    problem: str


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentChosen:
    """What came of asking who answers."""

    answer: AgentAnswer


@dataclass(frozen=True, kw_only=True, slots=True)
class WayFound:
    """The target of a leg was resolved: the ways to it, best first."""

    leg_id: str
    plans: tuple[DialPlan, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class WayBack:
    """The peer of a restored leg can be reached by this flow."""

    flow: Flow


@dataclass(frozen=True, kw_only=True, slots=True)
class NoWay:
    """The target of a leg cannot be reached: its name does not resolve, or no transport serves it."""

    leg_id: str
    problem: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PickupMoved:
    """Who picked up, or what, is known by what was heard; or more of it is."""

    step: Step


@dataclass(frozen=True, kw_only=True, slots=True)
class TimerFired:
    timer: Timer
    leg_id: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class HangUp:
    """The command to end the call, by whom and why."""

    by: EndedBy
    cause: EndCause
    reason: str = ""
    goodbye_s: float = 0.0
    """So long, at most, the agent may say goodbye."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Hold:
    """The command to let the caller wait, hearing the hold audio, or to take him back."""

    wanted: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class TransferCaller:
    """The command to transfer the caller; ``tool_call_id``: of the agent that asked for it, and is told the end."""

    destination: TransferDestination
    tool_call_id: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class BriefingJudged:
    """The operator takes the caller, or does not; as the agent understood that briefed it."""

    accept: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Replaced:
    """Somebody else comes in the place of our remote party, by an INVITE with Replaces (RFC 3891)."""

    invite: InviteReceived


InboxFact = (
    SipFact
    | MediaFact
    | AgentFact
    | AgentReady
    | AgentFailed
    | AgentLost
    | SayText
    | Inject
    | Voiced
    | ToolAnswered
    | Kept
    | NotKept
    | AgentChosen
    | WayFound
    | WayBack
    | NoWay
    | PickupMoved
    | TimerFired
    | HangUp
    | Hold
    | TransferCaller
    | BriefingJudged
    | Replaced
)
