"""What happens in a call, in two closed unions that never mix.

``CallEvent`` carries one durable fact: stored, numbered per call, delivered in order, never dropped.
``LiveSignal`` is for streams and meters: it may be dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DEFAULT_ACCOUNT = "default"
"""The one account of an installation that makes no other."""

Direction = Literal["inbound", "outbound"]
Speaker = Literal["caller", "agent", "operator"]
"""``caller`` is the remote party of the call's first leg, whoever dialled; ``operator`` the second party."""

EndedBy = Literal["caller", "agent", "operator", "system"]
CallPhase = Literal["arrived", "resolving", "ringing", "up", "ending", "ended"]

EndCause = Literal[
    "hangup",  # a BYE, or our own BYE after a goodbye
    "transferred",  # the caller was connected to somebody else by REFER, and speaks with him without us
    "session_expired",  # nobody refreshed the session in time (RFC 4028 §10)
    "cancelled",  # CANCEL while resolving or ringing, or hung up by us before an answer
    "refused",  # we refused, or were refused: sip_code says with what
    "no_answer",  # nobody picked up in time
    "unreachable",  # no answer from the transport, time-out of a transaction
    "ack_missing",  # our 200 was never acknowledged (RFC 3261 §13.3.1.4)
    "media_timeout",  # no RTP for longer than the limit
    "provider_failed",
    "duration_limit",
    "answering_machine",  # no person picked up, and we left
    "silence_timeout",  # the caller said nothing for as long as his agent waits
    "shutdown",
    "server_lost",  # the process that had it died; stated by the next one
    "internal_error",
]


TransferMode = Literal["blind", "attended", "bridge", "warm"]
"""How a caller gets to somebody else.

``blind``: his own side is asked to call there (REFER). ``attended``: we call there, and his side takes that call over
(REFER with Replaces). ``bridge``: we call there, and stay between the two. ``warm``: the same, after an agent told the
operator what it is about.
"""

TransferOutcome = Literal["connected", "busy", "no_answer", "refused", "failed", "abandoned"]
"""How every transfer ends. ``refused``: somebody said no. ``failed``: nobody could be reached, or asked.
``abandoned``: the caller hung up meanwhile."""

ReplacedBy = Literal["refer", "replaces"]

AnsweredBy = Literal["human", "voicemail", "screening", "sit", "fax"]
"""Who or what picked up, or spoke before anybody did. ``screening``: an assistant of the called person asks who calls.
``sit``: the network's information tones (ITU-T E.180 §6): the number cannot be reached."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CallArrived:
    """The first fact of every call: who, whom, how. ``headers``: those of the INVITE that no standard knows (X-…).

    ``event_webhooks``: who is told of this call beside the account's webhooks (``CallRecord``). ``agent_id`` and
    ``provider``: who is to speak in a call of ours; "" where that is not known yet.
    """

    direction: Direction
    from_uri: str
    to_uri: str
    sip_call_id: str
    transport: str
    remote_address: str
    trunk_id: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    account_id: str = DEFAULT_ACCOUNT
    event_webhooks: tuple[str, ...] = ()
    agent_id: str = ""
    provider: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class WayTaken:
    """Our INVITE went out to ``server`` (``host:port/TRANSPORT``) under this Call-ID.

    ``problem``: why the way before came to nothing; "" for the first.
    """

    sip_call_id: str
    server: str
    problem: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class CallRinging:
    """The remote party was told, or told us, that it rings. ``status`` is the SIP status, 180 or 183."""

    status: int


@dataclass(frozen=True, kw_only=True, slots=True)
class CallAnswered:
    """A 2xx was sent or received. ``codec`` is the SDP encoding name, ``srtp`` the suite; "" for audio in clear."""

    codec: str
    setup_ms: int
    srtp: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerJudged:
    """Who or what we reached; a later one corrects an earlier one (a greeting that sounded like a person, then a beep).

    ``evidence``: what decided. ``after_ms``: of sound, from the first that was heard. ``early``: it was heard before
    anybody answered.
    """

    by: AnsweredBy
    evidence: str
    after_ms: int
    early: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class CallRefused:
    """Why a call was refused, by either side: the rule, the header or line, and what to change."""

    status: int
    rule: str
    evidence: str
    fix: str


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentJoined:
    agent_id: str
    provider: str


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentLeft:
    agent_id: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class TurnSpoken:
    """One finished utterance, as it was heard. Times are milliseconds since the answer.

    ``latency_ms`` (agent turns that answer the caller): from the caller's last speech packet on the
    wire to the agent's first speech packet on the wire. ``interrupted``: ``text`` holds only what was heard.
    """

    speaker: Speaker
    text: str
    started_ms: int
    ended_ms: int
    interrupted: bool = False
    latency_ms: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class InterruptionResumed:
    """The caller's sound was no turn (a cough, "mm-hm"): the agent went on after ``paused_ms``."""

    paused_ms: int


@dataclass(frozen=True, kw_only=True, slots=True)
class DigitReceived:
    digit: str
    duration_ms: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolCalled:
    """``arguments``: JSON text, as the model gave it. ``own``: a function of the agent's own, no tool of offhook's."""

    tool: str
    arguments: str
    tool_call_id: str = ""
    own: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolReturned:
    """What the model got back from somebody else's server: a result, or what went wrong."""

    tool: str
    output: str
    is_error: bool = False
    took_ms: int = 0
    tool_call_id: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class HoldChanged:
    """The remote party put us on hold, or took us back; meanwhile the agent is silent and hears nothing."""

    held: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class SipMessageReceived:
    """An INFO or MESSAGE came in the call (RFC 6086, RFC 3428) that is no digit."""

    method: str
    content_type: str
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class TransferStarted:
    """``destination``: its name among the agent's; "" where the target was given itself."""

    mode: TransferMode
    target: str
    destination: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class TransferEnded:
    """What became of a transfer, exactly once for each ``TransferStarted``. Unless ``connected``, the agent goes on.

    ``mode``: the way it ended by; a ``blind`` one may have gone on as ``bridge``. ``tool_call_id``: of the model's call
    that asked for it.
    """

    mode: TransferMode
    target: str
    outcome: TransferOutcome
    sip_code: int | None = None
    reason: str = ""
    tool_call_id: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class LegDialled:
    """A second party is called for this call; the event's leg_id names its leg from here on."""

    to_uri: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LegAnswered:
    """The second party picked up."""

    codec: str
    srtp: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class LegEnded:
    """The second party is gone: ``sip_code`` and ``reason`` where it never answered."""

    sip_code: int | None = None
    reason: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class PartyReplaced:
    """The remote party is another from here on: it was sent to us (Replaces), or we to it (REFER)."""

    by: ReplacedBy
    remote_uri: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ProviderFailed:
    provider: str
    problem: str
    verdict: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ProviderReplaced:
    """Another provider goes on with the talk, as the same agent; ``problem``: why."""

    failed: str
    by: str
    problem: str


@dataclass(frozen=True, kw_only=True, slots=True)
class UsageAmount:
    """``units``: what the provider counts, as it calls it: ``input_tokens``, ``seconds``, ``characters`` …"""

    units: str
    amount: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ProviderUsage:
    """What the provider said was used of it, from when it joined the call until it left."""

    provider: str
    amounts: tuple[UsageAmount, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskCompleted:
    """What came of the agent's task, in its own words; it says goodbye then."""

    outcome: str
    summary: str


@dataclass(frozen=True, kw_only=True, slots=True)
class MediaPathChanged:
    """Symmetric RTP locked on, or moved to, another address (reliability rules 2-5)."""

    remote_address: str


@dataclass(frozen=True, kw_only=True, slots=True)
class MediaReported:
    """A leg's figures at its end (RFC 3550 §6.4): packets, loss of both directions, jitter, concealment."""

    packets_sent: int
    packets_received: int
    packets_lost: int
    loss_percent: float
    remote_loss_percent: float | None
    jitter_ms: float
    concealed_frames: int
    late_ticks: int
    round_trip_ms: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordingWritten:
    path: str
    duration_ms: int


@dataclass(frozen=True, kw_only=True, slots=True)
class CallEnded:
    """The last fact of every call, exactly one. ``spend``: what its trunk asks for its duration."""

    by: EndedBy
    phase: CallPhase
    cause: EndCause
    sip_code: int | None = None
    reason: str = ""
    provider_fault: str | None = None
    duration_ms: int = 0
    spend: float = 0.0


CallFact = (
    CallArrived
    | WayTaken
    | CallRinging
    | CallAnswered
    | AnswerJudged
    | CallRefused
    | AgentJoined
    | AgentLeft
    | TurnSpoken
    | InterruptionResumed
    | DigitReceived
    | ToolCalled
    | ToolReturned
    | HoldChanged
    | SipMessageReceived
    | TransferStarted
    | TransferEnded
    | LegDialled
    | LegAnswered
    | LegEnded
    | PartyReplaced
    | ProviderFailed
    | ProviderReplaced
    | ProviderUsage
    | TaskCompleted
    | MediaPathChanged
    | MediaReported
    | RecordingWritten
    | CallEnded
)


@dataclass(frozen=True, kw_only=True, slots=True)
class CallEvent:
    """A fact with its place: ``seq`` rises by one per call from 1; ``at`` is Unix time in seconds."""

    call_id: str
    leg_id: str
    seq: int
    at: float
    fact: CallFact


@dataclass(frozen=True, kw_only=True, slots=True)
class InterimTranscript:
    """What the recogniser thinks so far; replaced by a later one, then by a ``TurnSpoken``."""

    call_id: str
    speaker: Speaker
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SpeechStateChanged:
    call_id: str
    speaker: Speaker
    speaking: bool


LiveSignal = InterimTranscript | SpeechStateChanged
