"""OpenAI listens by a Realtime session for transcription (platform.openai.com/docs/guides/realtime-transcription).

Its voice activity detection cuts the caller's audio into items, and the text of an item comes after the caller fell
silent: so an utterance with a pause is several items. A turn here is over when nobody speaks and every item of it has
its text; the items are put together in the order in which they were spoken.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Mapping
from typing import Any

import msgspec

from offhook.bridge.cascade.ports import (
    EndOfTurn,
    PartialText,
    PartSettings,
    SpeechBegan,
    SttOutput,
    SttVendor,
)
from offhook.bridge.cascade.vendor_wire import headers_of, refusal, websocket_url
from offhook.bridge.codec import BridgeFault, UsageReported
from offhook.bridge.endings import verdict_of
from offhook.bridge.wire import WebsocketTarget
from offhook.model.audio import FRAME_MS, L16_24K, PCMA_8K, PCMU_8K, AudioFormat, Encoding

DEFAULT_MODEL = "gpt-live-transcribe"

TURN_DETECTION: Mapping[str, Any] = {
    "type": "server_vad",
    "threshold": 0.5,
    "prefix_padding_ms": 300,
    "silence_duration_ms": 500,
}

LATE_FRAMES = 4000 // FRAME_MS
"""An utterance whose text has not come so long after its end is taken as far as it was understood."""

MAX_ITEMS = 64
"""In one turn: who pauses more often is cut off."""

FATAL_CODES = (
    "invalid_api_key",
    "insufficient_quota",
    "credit_balance_exhausted",
    "billing_hard_limit_reached",
    "account_deactivated",
    "model_not_found",
)

_AUDIO, _AUDIO_END = b'{"type":"input_audio_buffer.append","audio":"', b'"}'

_KEYWORD_MODELS = ("gpt-live-transcribe", "gpt-transcribe")
"""The others take a prompt."""


class _Error(msgspec.Struct, frozen=True):
    type: str | None = None
    code: str | None = None
    message: str | None = None


class _Usage(msgspec.Struct, frozen=True):
    input_tokens: float | None = None
    output_tokens: float | None = None


class _Event(msgspec.Struct, frozen=True):
    type: str = ""
    item_id: str = ""
    delta: str = ""
    transcript: str = ""
    error: _Error | None = None
    usage: _Usage | None = None


class OpenAIRecogniser:
    """Implements ``SttCodec``."""

    audio_is_binary = False

    def __init__(self, settings: PartSettings, audio_format: AudioFormat) -> None:
        self._settings = settings
        self._format = audio_format
        self._decoder = msgspec.json.Decoder(_Event)
        self._introduced = False
        self._in_turn = self._speaking = False
        self._texts: dict[str, str] = {}
        self._missing: set[str] = set()
        self._waited = 0

    @property
    def takes_audio(self) -> bool:
        """Audio that comes before ``session.updated`` would be taken for 24 kHz."""
        return self._introduced

    def target(self) -> WebsocketTarget:
        own = {"Authorization": f"Bearer {self._settings.api_key}"}
        url = websocket_url(self._settings.base_url, "/realtime", {"intent": "transcription"})
        return WebsocketTarget(url=url, headers=headers_of(own, self._settings.headers))

    def opened(self, out: SttOutput) -> None:
        self._introduced = False
        self._forget_turn()
        out.send(msgspec.json.encode({"type": "session.update", "session": _session(self._settings, self._format)}))

    def audio(self, frame: bytes, out: SttOutput) -> bytes | None:
        if self._in_turn and not self._speaking:
            self._waited += 1
            if self._waited >= LATE_FRAMES:
                self._end(out)
        return _AUDIO + b2a_base64(frame, newline=False) + _AUDIO_END

    def receive(self, message: bytes, out: SttOutput, *, is_text: bool) -> None:
        try:
            event = self._decoder.decode(message)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            out.stt_event(BridgeFault(problem="OpenAI sent what is no event of theirs", verdict="retry"))
            return
        match event.type:
            case "session.updated" | "transcription_session.updated":
                self._introduced = True
            case "input_audio_buffer.speech_started":
                self._started(event.item_id, out)
            case "input_audio_buffer.speech_stopped":
                self._stopped(out)
            case "error":
                self._refused(event.error or _Error(), out)
            case _:
                self._transcribed(event, out)

    def _transcribed(self, event: _Event, out: SttOutput) -> None:
        match event.type.removeprefix("conversation.item.input_audio_transcription."):
            case "delta" if event.item_id in self._missing:
                self._texts[event.item_id] += event.delta
                out.stt_event(PartialText(text=self._text()))
            case "completed":
                self._report_usage(event.usage, out)
                self._complete(event.item_id, event.transcript, out)
            case "failed":
                self._complete(event.item_id, None, out)
            case _:
                pass

    # ── the turn ─────────────────────────────────────────────────────────────────────────────────────────

    def _started(self, item: str, out: SttOutput) -> None:
        if self._speaking:
            return
        if len(self._texts) >= MAX_ITEMS:
            self._end(out)
        self._speaking = True
        self._waited = 0
        self._texts[item] = ""
        self._missing.add(item)
        if not self._in_turn:
            self._in_turn = True
            out.stt_event(SpeechBegan())

    def _stopped(self, out: SttOutput) -> None:
        self._speaking = False
        self._waited = 0
        self._end_if_complete(out)

    def _complete(self, item: str, text: str | None, out: SttOutput) -> None:
        """``text`` None: what came of it has to do."""
        if item not in self._missing:
            return
        self._missing.discard(item)
        if text is not None:
            self._texts[item] = text
        self._end_if_complete(out)

    def _end_if_complete(self, out: SttOutput) -> None:
        if self._in_turn and not self._speaking and not self._missing:
            self._end(out)

    def _end(self, out: SttOutput) -> None:
        text = self._text()
        self._forget_turn()
        out.stt_event(EndOfTurn(text=text))

    def _text(self) -> str:
        return " ".join(text.strip() for text in self._texts.values() if text.strip())

    def _forget_turn(self) -> None:
        self._in_turn = self._speaking = False
        self._texts.clear()
        self._missing.clear()
        self._waited = 0

    # ── the rest ─────────────────────────────────────────────────────────────────────────────────────────

    def _report_usage(self, usage: _Usage | None, out: SttOutput) -> None:
        """Models that are paid by the second are the pipeline's to count."""
        if usage is None:
            return
        for units, amount in (("input_tokens", usage.input_tokens), ("output_tokens", usage.output_tokens)):
            if amount:
                out.stt_event(UsageReported(units=units, amount=amount))

    def _refused(self, error: _Error, out: SttOutput) -> None:
        """An error before the session is ours has refused all of our settings; later ones are about one event."""
        problem = f"OpenAI: {error.code or error.type or 'error'}: {error.message or 'no reason given'}"
        if error.code in FATAL_CODES or error.type in FATAL_CODES:
            out.stt_event(BridgeFault(problem=problem, verdict="fall_over"))
        elif error.code == "session_expired" or error.type == "server_error":
            out.stt_event(BridgeFault(problem=problem, verdict="retry"))
        elif not self._introduced:
            out.stt_event(BridgeFault(problem=problem, verdict=verdict_of(400)))

    def refused(self, status: int, body: bytes) -> BridgeFault:
        return refusal(status, body)

    def closed(self, code: int, reason: str) -> BridgeFault:
        return BridgeFault(problem=f"OpenAI closed the websocket: {code} {reason}".rstrip(), verdict="retry")

    def goodbye(self) -> bytes | None:
        return None


def _session(settings: PartSettings, audio_format: AudioFormat) -> dict[str, Any]:
    """``settings.extra``: fields of ``audio.input``, such as ``turn_detection`` and ``noise_reduction``."""
    model = settings.model or DEFAULT_MODEL
    transcription: dict[str, Any] = {"model": model}
    if settings.language:
        transcription["language"] = settings.language.partition("-")[0].lower()
    if settings.keywords and model in _KEYWORD_MODELS:
        transcription["keywords"] = list(settings.keywords)
    elif settings.keywords:
        transcription["prompt"] = ", ".join(settings.keywords)
    heard = {"format": _format(audio_format), "transcription": transcription, "turn_detection": TURN_DETECTION}
    return {"type": "transcription", "audio": {"input": {**heard, **settings.extra}}}


def _format(audio_format: AudioFormat) -> dict[str, Any]:
    if audio_format.encoding is Encoding.PCMU:
        return {"type": "audio/pcmu"}
    if audio_format.encoding is Encoding.PCMA:
        return {"type": "audio/pcma"}
    return {"type": "audio/pcm", "rate": audio_format.sample_rate_hz}


OPENAI_STT = SttVendor(
    name="openai",
    url="https://api.openai.com/v1",
    key_variable="OPENAI_API_KEY",
    formats=(PCMU_8K, PCMA_8K, L16_24K),
    make=OpenAIRecogniser,
    renamed=dict.fromkeys(
        ("whisper-1", "gpt-4o-transcribe", "gpt-4o-mini-transcribe", "gpt-4o-transcribe-latest"), DEFAULT_MODEL
    ),
)
"""The older models end in February 2027."""
