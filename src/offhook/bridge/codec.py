"""What crosses between a call and an AI provider.

Inward: audio frames (``BridgeConnection.send_audio``) and ``BridgeInput``. Outward, to a ``BridgeListener``:
audio by item, and ``BridgeEvent``. One event means one thing on every provider; where providers disagree
the disagreement is settled in the codec. An *item* is one utterance of the agent, named by the provider.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from offhook.model.audio import AudioFormat
from offhook.model.errors import Verdict
from offhook.model.records import Agent

Role = Literal["system", "user"]


# ── capabilities, as data ────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True, slots=True)
class BridgeProfile:
    """What a provider can do. The call asks the profile, never the provider's name."""

    provider: str
    input_formats: tuple[AudioFormat, ...]
    """Formats it takes, best first. A leg's own format among them passes through untouched."""
    output_formats: tuple[AudioFormat, ...]
    exact_say: bool = False
    """``Say(exact=True)`` is spoken verbatim."""
    speech_events: bool = True
    """It sends ``SpeechStarted`` and ``SpeechStopped`` itself."""
    hears_over_itself: bool = True
    """It hears the caller while it speaks, and transcribes it: words to judge an interruption by come from it."""
    judges_interruption: bool = False
    """It settles itself whether caller speech over the agent is a turn: it sends ``InterruptionJudged``."""
    raw_line: bool = False
    """It hears each frame as it came, and is believed whatever it says of the caller: a script, no AI."""
    digits: bool = True
    greets_on_open: bool = False
    """Its greeting comes with its session, not with ``Begin``: it is opened no sooner than it may speak."""
    cannot: Mapping[str, str] = field(default_factory=dict)
    """What the provider's protocol does not allow, by behaviour (``docs/PROVIDERS.md``), and why, in a few words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolSpec:
    """A function the model may call. ``parameters``: JSON Schema of its arguments, as JSON text, an object."""

    name: str
    description: str
    parameters: str
    timeout_s: float = 20.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Utterance:
    """Something that was said earlier in the call."""

    speaker: Literal["caller", "agent"]
    text: str


# ── inward ───────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True, slots=True)
class Begin:
    """The talk begins, or is about to: greet, where the agent speaks first. Once in a connection's life.

    Nothing to a provider that ``greets_on_open``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TextInput:
    """Text for the model's context; with ``respond`` it also takes a turn on it.

    ``plainly``: what an agent without a model, which obeys no text, says to that; "" where the text itself will do.
    """

    role: Role
    text: str
    respond: bool = False
    plainly: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Say:
    """Speak ``text``; ``exact`` asks for it verbatim."""

    text: str
    exact: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Digits:
    digits: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Interrupt:
    """The caller cut ``item`` off after ``played_ms`` were really played on RTP: stop, and remember only that."""

    item: str
    played_ms: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolResult:
    tool_call_id: str
    output: str
    """Text for the model, JSON or prose; an error is told here too."""
    is_error: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class UpdateAgent:
    agent: Agent


@dataclass(frozen=True, kw_only=True, slots=True)
class EndOfInput:
    """The caller will say no more; the provider may finish what it is saying."""


BridgeInput = Begin | TextInput | Say | Digits | Interrupt | ToolResult | UpdateAgent | EndOfInput


# ── outward ──────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True, slots=True)
class Ready:
    """The provider listens; audio may flow from now on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AudioDone:
    """No more audio of ``item`` will come."""

    item: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Interrupted:
    """The provider itself gave up ``item``; what is queued of it must not be played."""

    item: str


@dataclass(frozen=True, kw_only=True, slots=True)
class TranscriptDelta:
    """Words of one utterance: deltas are joined as they are, spaces included; ``final`` carries the whole text.

    ``at_ms`` (agent only): position of the delta's first sound in the item's audio, in milliseconds,
    where the provider knows it; lets a truncated transcript show only what was heard.
    """

    speaker: Literal["caller", "agent"]
    item: str
    text: str
    final: bool
    at_ms: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SpeechStarted:
    """The caller's voice activity began."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SpeechStopped:
    """The caller's voice activity ended (end of the hangover, not of the last loud frame)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InterruptionJudged:
    """The verdict on caller speech that began while the agent spoke (``profile.judges_interruption``).

    ``genuine``: it was a turn, the agent must stay silent; otherwise a cough or backchannel: go on.
    """

    genuine: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ResponseStarted:
    """The agent begins a turn."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ResponseDone:
    """The agent's turn is complete on the provider's side; its audio may still be playing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolCall:
    tool_call_id: str
    name: str
    arguments: str
    """JSON text, unchecked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolCallCancelled:
    tool_call_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class UsageReported:
    units: str
    amount: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Expiring:
    """The provider will close this connection in ``seconds``."""

    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class BridgeFault:
    """The provider failed; ``verdict`` was set where it happened. Except after ``retry`` it is gone."""

    problem: str
    verdict: Verdict


BridgeEvent = (
    Ready
    | AudioDone
    | Interrupted
    | TranscriptDelta
    | SpeechStarted
    | SpeechStopped
    | InterruptionJudged
    | ResponseStarted
    | ResponseDone
    | ToolCall
    | ToolCallCancelled
    | UsageReported
    | Expiring
    | BridgeFault
)


class BridgeListener(Protocol):
    """Where a connection delivers. Called on the event loop; must return within microseconds."""

    def audio_out(self, item: str, audio: bytes) -> None:
        """Audio of ``item`` in the agreed output format; any length, faster than real time allowed."""
        ...

    def bridge_event(self, event: BridgeEvent) -> None: ...


class BridgeConnection(Protocol):
    """One live conversation with a provider. Made by the registry, opened once, closed once."""

    @property
    def profile(self) -> BridgeProfile: ...

    async def open(self) -> None:
        """Connect; ``Ready`` follows as an event. Raises ``BridgeError`` with its verdict."""
        ...

    def send_audio(self, frame: bytes) -> None:
        """One 20 ms frame of the caller in the agreed input format. Never blocks, never raises."""
        ...

    def send(self, command: BridgeInput) -> None:
        """Never blocks. A command that makes no sense now is dropped by the provider."""
        ...

    async def close(self) -> None:
        """Let go of everything; idempotent; no event comes after it."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class BridgeRequest:
    """What a call asks of the registry: the agent to be, and the formats it agreed with the leg."""

    call_id: str
    agent: Agent
    input_format: AudioFormat
    output_format: AudioFormat
    listener: BridgeListener
    tools: tuple[ToolSpec, ...] = ()
    history: Callable[[], Sequence[Utterance]] = tuple
    """What was said in the call so far, as it was heard; asked when a conversation begins or is begun anew."""
    greets: bool = True
    """False where the agent takes over in the middle of a call: it is told what to do next."""


BridgeFactory = Callable[[BridgeRequest], BridgeConnection]


@dataclass(frozen=True, kw_only=True, slots=True)
class Provider:
    """How a provider is made, and what it can do before one is made. The registry holds them by name."""

    factory: BridgeFactory
    profile: BridgeProfile
    check: Callable[[Agent], None] = lambda agent: None
    """Raises ``ConfigError`` (``options.model`` …) for options it cannot work with, keys that are missing included."""
