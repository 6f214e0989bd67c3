"""ElevenLabs speaks: one websocket, one context for each utterance, characters with their times.

elevenlabs.io/docs/api-reference/text-to-speech/v-1-text-to-speech-voice-id-multi-stream-input. Clauses come whole, so
``auto_mode`` is on: nothing is kept back for more text. A context is closed when all of its text was sent, which lets
it finish, or when it is cut off; only a context that was closed tells its end. Five may be open, and one that was cut
off is open until they have told its end: after many interruptions in a row the next utterance waits for that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import msgspec

from offhook.bridge.cascade.ports import Aligned, ContextDone, PartSettings, TtsOutput, TtsVendor
from offhook.bridge.cascade.vendor_wire import headers_of, refusal, websocket_url
from offhook.bridge.codec import BridgeFault
from offhook.bridge.wire import WebsocketTarget
from offhook.model.audio import L16_8K, L16_16K, L16_24K, PCMA_8K, PCMU_8K, AudioFormat, Encoding
from offhook.model.errors import Verdict

DEFAULT_MODEL = "eleven_flash_v2_5"

INACTIVITY_S = 180
"""The most they allow; without it a context, and the websocket, end after twenty seconds."""

MAX_OPEN = 5
"""Contexts; the sixth costs the websocket."""

SPEEDS = (0.7, 1.2)

MAX_WORD_CHARACTERS = 200
"""A word that has no end is told as it is: in some languages nothing stands between words."""

MAX_AT_MS = 3_600_000
"""No utterance is that long: such a time is a mistake."""

IDLE_ERROR = "input_timeout_exceeded"

RETRIED_ERRORS = (
    "max_active_conversations",
    "too_many_concurrent_requests",
    "system_busy",
    "rate_limit_exceeded",
    IDLE_ERROR,
    "internal_server_error",
)
"""Other errors are about the key, the account, the voice, the model or the request."""

_IN_FIRST_MESSAGE = ("voice_settings", "generation_config", "pronunciation_dictionary_locators")
"""Of ``settings.extra``; the rest are parameters of the URL."""

_LAWS: Mapping[Encoding, str] = {Encoding.PCMU: "ulaw", Encoding.PCMA: "alaw", Encoding.L16: "pcm"}


class _Alignment(msgspec.Struct, frozen=True, rename="camel"):
    """Of one piece of audio; the times count from the beginning of that piece."""

    chars: list[str] = []
    char_start_times_ms: list[float] = []


class _Message(msgspec.Struct, frozen=True, rename="camel"):
    """Whatever the server sends; ``audio`` is base64 on the wire. ``code`` is one of a closing websocket."""

    context_id: str | None = None
    audio: bytes | None = None
    is_final: bool | None = None
    alignment: _Alignment | None = None
    error: str | None = None
    message: str | None = None
    code: int | None = None


@dataclass(kw_only=True, slots=True)
class _Utterance:
    name: str
    wire_id: str
    opened: bool = False
    finished: bool = False
    waiting: list[dict[str, Any]] = field(default_factory=list)
    """For a place among the open ones: what is to be sent then."""
    audio_bytes: int = 0
    word: str = ""
    """Of which not all characters came."""
    word_at_ms: int = 0


class ElevenLabsVoice:
    """Implements ``TtsCodec``."""

    def __init__(self, settings: PartSettings, audio_format: AudioFormat) -> None:
        self._settings = settings
        self._format = audio_format
        self._bytes_per_s = audio_format.sample_rate_hz * audio_format.bytes_per_sample
        self._decoder = msgspec.json.Decoder(_Message)
        self._utterances: dict[str, _Utterance] = {}
        self._by_wire_id: dict[str, _Utterance] = {}
        self._open: set[str] = set()
        self._contexts = 0

    def target(self) -> WebsocketTarget:
        settings = self._settings
        query = {
            "model_id": settings.model or DEFAULT_MODEL,
            "output_format": f"{_LAWS[self._format.encoding]}_{self._format.sample_rate_hz}",
            "auto_mode": True,
            "sync_alignment": True,
            "inactivity_timeout": INACTIVITY_S,
            "language_code": settings.language.partition("-")[0].lower() or None,
            **{key: value for key, value in settings.extra.items() if key not in _IN_FIRST_MESSAGE},
        }
        path = f"/v1/text-to-speech/{quote(settings.voice, safe='')}/multi-stream-input"
        own = {"xi-api-key": settings.api_key}
        url = websocket_url(settings.base_url, path, query)
        return WebsocketTarget(url=url, headers=headers_of(own, settings.headers))

    def opened(self, out: TtsOutput) -> None:
        """Contexts do not outlive their websocket."""
        self._utterances.clear()
        self._by_wire_id.clear()
        self._open.clear()

    # ── speaking ─────────────────────────────────────────────────────────────────────────────────────────

    def begin(self, context: str, out: TtsOutput) -> None:
        self._contexts += 1
        utterance = _Utterance(name=context, wire_id=f"offhook-{self._contexts}")
        self._utterances[context] = self._by_wire_id[utterance.wire_id] = utterance

    def say(self, context: str, text: str, out: TtsOutput) -> None:
        utterance = self._utterances.get(context)
        if utterance is None or utterance.finished or not text.strip():
            return
        if not utterance.opened:
            utterance.opened = True
            self._send(utterance, {"text": " ", **_first_message(self._settings)}, out)
        self._send(utterance, {"text": text if text[-1].isspace() else f"{text} "}, out)

    def finish(self, context: str, out: TtsOutput) -> None:
        utterance = self._utterances.get(context)
        if utterance is None or utterance.finished:
            return
        utterance.finished = True
        if utterance.opened:
            self._send(utterance, {"flush": True}, out)
            self._send(utterance, {"close_context": True}, out)
        else:
            self._complete(utterance, out)

    def cancel(self, context: str, out: TtsOutput) -> None:
        utterance = self._utterances.get(context)
        if utterance is None:
            return
        if utterance.wire_id in self._open and not utterance.finished:
            self._send(utterance, {"close_context": True}, out)
        self._forget(utterance)

    def _send(self, utterance: _Utterance, message: dict[str, Any], out: TtsOutput) -> None:
        if utterance.wire_id not in self._open and len(self._open) >= MAX_OPEN:
            utterance.waiting.append(message)
            return
        self._open.add(utterance.wire_id)
        out.send(msgspec.json.encode({**message, "context_id": utterance.wire_id}))

    def _make_room(self, wire_id: str, out: TtsOutput) -> None:
        """They told its end: who waits may speak."""
        self._open.discard(wire_id)
        for utterance in list(self._utterances.values()):
            waiting, utterance.waiting = utterance.waiting, []
            for message in waiting:
                self._send(utterance, message, out)

    # ── what the server says ─────────────────────────────────────────────────────────────────────────────

    def receive(self, message: bytes, out: TtsOutput, *, is_text: bool) -> None:
        try:
            told = self._decoder.decode(message)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            out.tts_event(BridgeFault(problem="ElevenLabs sent what is no message of theirs", verdict="retry"))
            return
        if told.error:
            self._refused(told, out)
            return
        if told.is_final:
            self._make_room(told.context_id or "", out)
        utterance = self._by_wire_id.get(told.context_id or "")
        if utterance is None:
            return  # of what was cut off, or ended
        for text, at_ms in self._placed(utterance, told.alignment or _Alignment()):
            out.tts_event(Aligned(context=utterance.name, text=text, at_ms=at_ms))
        if told.audio:
            utterance.audio_bytes += len(told.audio)
            out.tts_audio(utterance.name, told.audio)
        if told.is_final:
            self._complete(utterance, out)

    def _refused(self, told: _Message, out: TtsOutput) -> None:
        if told.error == IDLE_ERROR and not self._speaks():
            return  # and then they close the websocket
        verdict: Verdict = "retry" if told.error in RETRIED_ERRORS else "fall_over"
        problem = f"ElevenLabs: {told.error}: {told.message or 'no reason given'}"
        out.tts_event(BridgeFault(problem=problem, verdict=verdict))

    def _placed(self, utterance: _Utterance, alignment: _Alignment) -> Iterator[tuple[str, int]]:
        """Whole words: where the first of their characters begins."""
        before_ms = utterance.audio_bytes * 1000 // self._bytes_per_s
        for character, start_ms in zip(alignment.chars, alignment.char_start_times_ms, strict=False):
            if character.isspace() or len(utterance.word) >= MAX_WORD_CHARACTERS:
                yield from self._word(utterance)
            if character.isspace() or not 0 <= start_ms < MAX_AT_MS:
                continue
            if not utterance.word:
                utterance.word_at_ms = before_ms + round(start_ms)
            utterance.word += character

    def _word(self, utterance: _Utterance) -> Iterator[tuple[str, int]]:
        if utterance.word:
            yield utterance.word, utterance.word_at_ms
        utterance.word = ""

    def _complete(self, utterance: _Utterance, out: TtsOutput) -> None:
        for text, at_ms in self._word(utterance):
            out.tts_event(Aligned(context=utterance.name, text=text, at_ms=at_ms))
        self._forget(utterance)
        out.tts_event(ContextDone(context=utterance.name))

    def _forget(self, utterance: _Utterance) -> None:
        self._by_wire_id.pop(utterance.wire_id, None)
        self._utterances.pop(utterance.name, None)

    # ── the websocket ────────────────────────────────────────────────────────────────────────────────────

    def refused(self, status: int, body: bytes) -> BridgeFault:
        return refusal(status, body)

    def closed(self, code: int, reason: str) -> BridgeFault | None:
        """An idle one is closed with 1008, as one that was refused is; that one has told an error before."""
        if not self._speaks():
            return None
        return BridgeFault(problem=f"ElevenLabs closed the websocket: {code} {reason}".rstrip(), verdict="retry")

    def _speaks(self) -> bool:
        return any(utterance.opened for utterance in self._utterances.values())

    def goodbye(self) -> bytes | None:
        return b'{"close_socket":true}'


def _first_message(settings: PartSettings) -> dict[str, Any]:
    """Of a context: how it is spoken."""
    first = {key: settings.extra[key] for key in _IN_FIRST_MESSAGE if key in settings.extra}
    if settings.speed != 1.0:
        speed = min(max(settings.speed, SPEEDS[0]), SPEEDS[1])
        first["voice_settings"] = {"speed": speed, **first.get("voice_settings", {})}
    return first


ELEVENLABS_TTS = TtsVendor(
    name="elevenlabs",
    url="https://api.elevenlabs.io",
    key_variable="ELEVENLABS_API_KEY",
    formats=(PCMU_8K, PCMA_8K, L16_8K, L16_16K, L16_24K),
    make=ElevenLabsVoice,
    aligns=True,
    renamed=dict.fromkeys(("eleven_monolingual_v1", "eleven_multilingual_v1"), DEFAULT_MODEL),
)
"""``voice``: the id of a voice; there is none by default."""
