"""Deepgram listens: Flux finds the caller's turns by what is said, Nova and older models find pauses.

developers.deepgram.com/reference/speech-to-text/listen-flux and …/listen-streaming. The model's name decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from offhook.bridge.cascade.ports import (
    EagerEnd,
    EndOfTurn,
    PartialText,
    PartSettings,
    Resumed,
    SpeechBegan,
    SttCodec,
    SttOutput,
    SttVendor,
)
from offhook.bridge.cascade.vendor_wire import headers_of, refusal, websocket_url
from offhook.bridge.codec import BridgeFault
from offhook.bridge.wire import WebsocketTarget
from offhook.model.audio import FRAME_MS, L16_8K, L16_16K, PCMA_8K, PCMU_8K, AudioFormat, Encoding
from offhook.model.errors import Verdict

DEFAULT_MODEL = "flux-general-en"
MULTILINGUAL_MODEL = "flux-general-multi"

EAGER_THRESHOLD = 0.5
"""Sure enough to begin an answer on trial: what it costs is a request to the model now and then."""

FLUX_FRAMES = 80 // FRAME_MS
"""Of audio in one message: what Deepgram recommends for Flux."""

NO_WORDS_FRAMES = 3000 // FRAME_MS
"""From the beginning of speech, or the last words, to the end of a turn that Nova does not tell the end of: a cough."""

_ENCODINGS: Mapping[Encoding, str] = {
    Encoding.PCMU: "mulaw",
    Encoding.PCMA: "alaw",
    Encoding.L16: "linear16",
}

_REFUSING_CODES = frozenset({"UNPARSABLE_CLIENT_MESSAGE", "INVALID_QUERY_PARAMETER", "SchemaError"})
"""The next websocket would be told the same."""


class _Alternative(msgspec.Struct, frozen=True):
    transcript: str = ""


class _Channel(msgspec.Struct, frozen=True):
    alternatives: list[_Alternative] = []


class _Kind(msgspec.Struct, frozen=True):
    type: str = ""


class _TurnInfo(msgspec.Struct, frozen=True):
    event: str = ""
    transcript: str = ""


class _Results(msgspec.Struct, frozen=True):
    is_final: bool | None = None
    speech_final: bool | None = None
    channel: _Channel = _Channel()

    @property
    def text(self) -> str:
        return self.channel.alternatives[0].transcript.strip() if self.channel.alternatives else ""


class _Problem(msgspec.Struct, frozen=True):
    """Flux says ``code``, Nova ``variant``."""

    code: str | None = None
    variant: str | None = None
    description: str | None = None


_kind = msgspec.json.Decoder(_Kind).decode
_turn_info = msgspec.json.Decoder(_TurnInfo).decode
_results = msgspec.json.Decoder(_Results).decode
_problem = msgspec.json.Decoder(_Problem).decode


class _DeepgramRecogniser:
    """What both models' codecs are: one websocket, raw audio, JSON events."""

    audio_is_binary = True
    takes_audio = True
    path = ""

    def __init__(self, settings: PartSettings, audio_format: AudioFormat) -> None:
        self._settings = settings
        self._format = audio_format
        self._in_turn = False

    def target(self) -> WebsocketTarget:
        settings = self._settings
        query = {
            "model": settings.model or DEFAULT_MODEL,
            "encoding": _ENCODINGS[self._format.encoding],
            "sample_rate": self._format.sample_rate_hz,
            **self._query(),
            **settings.extra,
        }
        own = {"Authorization": f"Token {settings.api_key}"}
        url = websocket_url(settings.base_url, self.path, query)
        return WebsocketTarget(url=url, headers=headers_of(own, settings.headers))

    def _query(self) -> Mapping[str, Any]:
        raise NotImplementedError

    def opened(self, out: SttOutput) -> None:
        self._in_turn = False

    def receive(self, message: bytes, out: SttOutput, *, is_text: bool) -> None:
        try:
            kind = _kind(message).type
            if kind == "Error":
                self._fail(_problem(message), out)
            else:
                self._take(kind, message, out)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            out.stt_event(BridgeFault(problem="Deepgram sent what is no message of theirs", verdict="retry"))

    def _take(self, kind: str, message: bytes, out: SttOutput) -> None:
        raise NotImplementedError

    def _begin_turn(self, out: SttOutput) -> None:
        if not self._in_turn:
            self._in_turn = True
            out.stt_event(SpeechBegan())

    def _end_turn(self, text: str, out: SttOutput) -> None:
        if self._in_turn:
            self._in_turn = False
            out.stt_event(EndOfTurn(text=text))

    def _fail(self, problem: _Problem, out: SttOutput) -> None:
        code = problem.code or problem.variant or "an error"
        verdict: Verdict = "fall_over" if code in _REFUSING_CODES else "retry"
        out.stt_event(BridgeFault(problem=f"Deepgram: {code}: {problem.description or 'no reason'}", verdict=verdict))

    def refused(self, status: int, body: bytes) -> BridgeFault:
        return refusal(status, body)

    def closed(self, code: int, reason: str) -> BridgeFault:
        return BridgeFault(problem=f"Deepgram closed the websocket: {code} {reason}".rstrip(), verdict="retry")

    def goodbye(self) -> bytes | None:
        return b'{"type":"CloseStream"}'


class FluxRecogniser(_DeepgramRecogniser):
    """Implements ``SttCodec``. Transcripts are of the whole turn, on the wire as well."""

    path = "/v2/listen"

    def __init__(self, settings: PartSettings, audio_format: AudioFormat) -> None:
        super().__init__(settings, audio_format)
        self._waiting: list[bytes] = []
        self._eager = False

    def _query(self) -> Mapping[str, Any]:
        language, model = self._settings.language, self._settings.model
        foreign = bool(language) and not language.lower().startswith("en")
        if not model and foreign:
            model = MULTILINGUAL_MODEL
        return {
            "model": model or DEFAULT_MODEL,
            "eager_eot_threshold": EAGER_THRESHOLD,
            "keyterm": list(self._settings.keywords),
            "language_hint": language if language and model == MULTILINGUAL_MODEL else None,
        }

    def opened(self, out: SttOutput) -> None:
        super().opened(out)
        self._eager = False
        self._waiting.clear()

    def audio(self, frame: bytes, out: SttOutput) -> bytes | None:
        self._waiting.append(frame)
        if len(self._waiting) < FLUX_FRAMES:
            return None
        message = b"".join(self._waiting)
        self._waiting.clear()
        return message

    def _take(self, kind: str, message: bytes, out: SttOutput) -> None:
        if kind != "TurnInfo":
            return
        info = _turn_info(message)
        if info.event == "StartOfTurn":
            self._begin_turn(out)
            self._eager = False
        if self._in_turn:
            self._follow(info, out)

    def _follow(self, info: _TurnInfo, out: SttOutput) -> None:
        """A turn that has begun; what comes of none is a repetition."""
        match info.event:
            case "StartOfTurn" | "Update" if info.transcript:
                out.stt_event(PartialText(text=info.transcript))
            case "EagerEndOfTurn":
                self._eager = True
                out.stt_event(EagerEnd(text=info.transcript))
            case "TurnResumed" if self._eager:
                self._eager = False
                out.stt_event(Resumed())
            case "EndOfTurn":
                self._eager = False
                self._end_turn(info.transcript, out)
            case _:
                pass


class NovaRecogniser(_DeepgramRecogniser):
    """Implements ``SttCodec``. A turn is what became final up to a pause; ``UtteranceEnd`` ends one in noise."""

    path = "/v1/listen"

    def __init__(self, settings: PartSettings, audio_format: AudioFormat) -> None:
        super().__init__(settings, audio_format)
        self._final = ""
        self._interim = ""
        self._quiet_frames = 0

    def _query(self) -> Mapping[str, Any]:
        settings = self._settings
        return {
            "channels": 1,
            "interim_results": True,
            "smart_format": True,
            "vad_events": True,
            "endpointing": 300,
            "utterance_end_ms": 1000,
            "language": settings.language or None,
            ("keyterm" if settings.model.startswith("nova-3") else "keywords"): list(settings.keywords),
        }

    def opened(self, out: SttOutput) -> None:
        super().opened(out)
        self._final = self._interim = ""

    def audio(self, frame: bytes, out: SttOutput) -> bytes | None:
        if self._in_turn:
            self._quiet_frames += 1
            if self._quiet_frames >= NO_WORDS_FRAMES:
                self._end(out)
        return frame

    def _take(self, kind: str, message: bytes, out: SttOutput) -> None:
        match kind:
            case "SpeechStarted":
                self._begin(out)
            case "Results":
                self._read(_results(message), out)
            case "UtteranceEnd":
                if self._heard:
                    self._end(out)
            case _:
                pass

    def _begin(self, out: SttOutput) -> None:
        self._quiet_frames = 0
        self._begin_turn(out)

    def _read(self, results: _Results, out: SttOutput) -> None:
        text = results.text
        if text:
            self._begin(out)
        if results.is_final:
            self._final, self._interim = f"{self._final} {text}".strip(), ""
        else:
            self._interim = text
        if text:
            out.stt_event(PartialText(text=self._heard))
        if results.speech_final and self._heard:
            self._end(out)

    @property
    def _heard(self) -> str:
        return f"{self._final} {self._interim}".strip()

    def _end(self, out: SttOutput) -> None:
        text = self._heard
        self._final = self._interim = ""
        self._end_turn(text, out)


def _recogniser(settings: PartSettings, audio_format: AudioFormat) -> SttCodec:
    if (settings.model or DEFAULT_MODEL).startswith("flux"):
        return FluxRecogniser(settings, audio_format)
    return NovaRecogniser(settings, audio_format)


DEEPGRAM_STT = SttVendor(
    name="deepgram",
    url="https://api.deepgram.com",
    key_variable="DEEPGRAM_API_KEY",
    formats=(PCMU_8K, PCMA_8K, L16_16K, L16_8K),
    make=_recogniser,
)
