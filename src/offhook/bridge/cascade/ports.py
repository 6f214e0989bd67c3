"""What the parts of a cascade are: recogniser (STT), language model (LLM), voice (TTS).

Parts that are websockets are pure codecs (``SttCodec``, ``TtsCodec``); ``socket_recogniser`` and ``socket_voice`` pump
them: dial, try once more, give up. Parts that are HTTP implement what the pipeline uses (``Recogniser``, ``Voice``).
A vendor's file exports a ``SttVendor`` or a ``TtsVendor``, which ``vendors`` lists.

A *context* is one utterance of the agent, named by the pipeline; its name is the item of the call.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from offhook.bridge.codec import BridgeFault, ToolSpec, UsageReported
from offhook.bridge.wire import WebsocketTarget
from offhook.model.audio import AudioFormat

# ── recogniser ───────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True, slots=True)
class SpeechBegan:
    """The caller began to speak. Exactly one ``EndOfTurn`` follows, after whatever else of the turn."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PartialText:
    """All of the turn as it is understood now; later ones may correct it."""

    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class EagerEnd:
    """The caller has probably finished: worth beginning an answer on trial. ``Resumed`` or ``EndOfTurn`` follows."""

    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Resumed:
    """The caller had not finished: what ``EagerEnd`` began is void."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EndOfTurn:
    """The caller has finished. ``text`` is the whole turn; "" where no words were in it."""

    text: str


SttEvent = SpeechBegan | PartialText | EagerEnd | Resumed | EndOfTurn | UsageReported | BridgeFault
"""A ``BridgeFault`` of a codec says that its websocket is of no use any more. Of a ``Recogniser`` it says that it is
gone; with the verdict ``retry`` that it is being tried once more."""


class SttOutput(Protocol):
    """Where a recogniser's codec puts what comes of a message; the pump implements it, tests record it."""

    def stt_event(self, event: SttEvent) -> None: ...

    def send(self, message: bytes) -> None:
        """A text message to the vendor, UTF-8."""
        ...


class SttCodec(Protocol):
    """One websocket to a recogniser; pure, as a ``ProviderCodec`` is: it never raises, its clock are the frames.

    ``audio_is_binary``: how the messages that ``audio`` makes are sent. In order: ``target``, ``opened``, then the rest
    in any order. Audio may be sent as soon as ``opened`` returned, unless ``takes_audio`` says otherwise.
    """

    audio_is_binary: bool

    @property
    def takes_audio(self) -> bool:
        """False while the vendor is still being introduced to: audio waits, up to three seconds of it."""
        ...

    def target(self) -> WebsocketTarget: ...

    def opened(self, out: SttOutput) -> None: ...

    def audio(self, frame: bytes, out: SttOutput) -> bytes | None:
        """The message for 20 ms of the caller, in the format it was made with; None: nothing is sent yet."""
        ...

    def receive(self, message: bytes, out: SttOutput, *, is_text: bool) -> None: ...

    def refused(self, status: int, body: bytes) -> BridgeFault:
        """The handshake was answered with this HTTP status instead."""
        ...

    def closed(self, code: int, reason: str) -> BridgeFault:
        """The vendor closed (1006: the connection broke). Ordinary, idle closings are a fault to ``retry``."""
        ...

    def goodbye(self) -> bytes | None:
        """The text message that ends the session decently, before the websocket is closed."""
        ...


class Recogniser(Protocol):
    """What the pipeline uses: it hears the whole call and tells its events to the function it was made with."""

    async def open(self) -> None:
        """Raises ``BridgeError``."""
        ...

    def feed(self, frame: bytes) -> None:
        """20 ms of the caller. Never blocks, never raises."""
        ...

    async def close(self) -> None: ...


# ── language model ───────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True, slots=True)
class TextPiece:
    """Of the answer, as it comes; thoughts are not among them."""

    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolUse:
    """A whole call of a tool; several in one answer are parallel. ``arguments``: JSON text, unchecked."""

    tool_call_id: str
    name: str
    arguments: str


LlmEvent = TextPiece | ToolUse | UsageReported | BridgeFault
"""A ``BridgeFault`` is one to ``retry``: the request is made once more; whatever else fails is raised."""


class LanguageModel(Protocol):
    async def open(self) -> None:
        """Reach the vendor before it is needed. Raises ``BridgeError`` where it will not answer."""
        ...

    def stream(self, messages: bytes, tools: Sequence[ToolSpec]) -> AsyncGenerator[LlmEvent, None]:
        """One answer; closing the generator (``aclosing``) aborts it at the vendor.

        ``messages``: a JSON array in the words of OpenAI's chat completions. Raises ``BridgeError`` with its verdict.
        """
        ...


# ── voice ────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True, slots=True)
class Aligned:
    """In the audio of ``context``, ``text`` (a word or more, as it was given to ``say``) begins at ``at_ms``.

    Told in order. ``at_ms`` counts from the first audio of the context.
    """

    context: str
    text: str
    at_ms: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ContextDone:
    """All audio of ``context`` has come."""

    context: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ContextFailed:
    """This utterance failed, the voice lives on. ``retry``: the same text may work on the next try."""

    context: str
    fault: BridgeFault


TtsEvent = Aligned | ContextDone | ContextFailed | UsageReported | BridgeFault
"""A ``BridgeFault``: as of recognisers."""


class TtsListener(Protocol):
    def tts_audio(self, context: str, audio: bytes) -> None:
        """Of any length, halves of samples included; faster than real time."""
        ...

    def tts_event(self, event: TtsEvent) -> None: ...


class TtsOutput(TtsListener, Protocol):
    """Where a voice's codec puts what comes of a message; the pump implements it, tests record it."""

    def send(self, message: bytes) -> None:
        """A text message to the vendor, UTF-8."""
        ...


class TtsCodec(Protocol):
    """One websocket to a voice; pure: never raises. Audio leaves it in the format it was made with.

    The pump keeps one context alive at a time: ``begin``, ``say`` …, ``finish``, then ``ContextDone`` or ``cancel``.
    After ``cancel`` a codec puts out nothing more of that context, though the vendor may still send it; it tells the
    vendor nothing about contexts that are done already.
    """

    def target(self) -> WebsocketTarget: ...

    def opened(self, out: TtsOutput) -> None: ...

    def begin(self, context: str, out: TtsOutput) -> None: ...

    def say(self, context: str, text: str, out: TtsOutput) -> None:
        """A clause or sentence; pieces are joined as they are, spaces included."""
        ...

    def finish(self, context: str, out: TtsOutput) -> None:
        """No more text: everything said so far is to be spoken, then ``ContextDone``."""
        ...

    def cancel(self, context: str, out: TtsOutput) -> None: ...

    def receive(self, message: bytes, out: TtsOutput, *, is_text: bool) -> None: ...

    def refused(self, status: int, body: bytes) -> BridgeFault: ...

    def closed(self, code: int, reason: str) -> BridgeFault | None:
        """None: an ordinary closing, as of an idle socket; the pump dials again when there is something to say."""
        ...

    def goodbye(self) -> bytes | None:
        """The text message that ends the session decently, before the websocket is closed."""
        ...


class Voice(Protocol):
    """What the pipeline uses; tells its audio, in the call's format, and its events to a ``TtsListener``.

    Any number of contexts may be begun; they are spoken one after the other, in the order of their ``begin``.
    """

    @property
    def aligns(self) -> bool:
        """It tells ``Aligned``."""
        ...

    async def open(self) -> None:
        """Raises ``BridgeError``."""
        ...

    def begin(self, context: str) -> None: ...

    def say(self, context: str, text: str) -> None: ...

    def finish(self, context: str) -> None: ...

    def cancel(self, context: str) -> None:
        """No audio of it is told any more. Unknown and finished contexts are fine."""
        ...

    async def close(self) -> None: ...


# ── vendors ──────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True, slots=True)
class PartSettings:
    """What a part is made with; ``base_url`` is never empty here. ``extra``: the vendor's own parameters by their own
    names, added to (or put over) what the codec sends: query parameters of a recogniser, fields of a voice's request.
    """

    base_url: str = field(repr=False)
    api_key: str = field(default="", repr=False)
    judged: bool = False
    """As ``ProviderAccess`` has it."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    model: str = ""
    """"" is the vendor's default."""
    language: str = ""
    """BCP 47; "" is the vendor's default, or whatever it hears."""
    voice: str = ""
    """Of a voice only."""
    speed: float = 1.0
    """Of a voice only."""
    keywords: tuple[str, ...] = ()
    """Of a recogniser only: names and terms to expect."""
    extra: Mapping[str, Any] = field(default_factory=dict)


KeyNeed = Literal["always", "vendor_url"]
"""``vendor_url``: only where ``base_url`` is the vendor's own; servers of one's own need none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SttVendor:
    """``formats``: what its audio may be, best first; PCMU and PCMA among them where the vendor takes them.

    ``make`` gets one of ``formats``. ``renamed``: models of old to what replaces them. ``key_variable``: as in
    ``OPENAI_API_KEY``.
    """

    name: str
    url: str
    key_variable: str
    formats: tuple[AudioFormat, ...]
    make: Callable[[PartSettings, AudioFormat], SttCodec]
    key_need: KeyNeed = "always"
    renamed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class TtsVendor:
    """``default_voice`` "": a voice has to be named. ``aligns``: its codec tells ``Aligned``."""

    name: str
    url: str
    key_variable: str
    formats: tuple[AudioFormat, ...]
    make: Callable[[PartSettings, AudioFormat], TtsCodec]
    aligns: bool
    default_voice: str = ""
    key_need: KeyNeed = "always"
    renamed: Mapping[str, str] = field(default_factory=dict)
