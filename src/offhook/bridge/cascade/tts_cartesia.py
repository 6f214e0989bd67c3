"""Cartesia Sonic speaks: one websocket, one vendor's context for each utterance, words with their times.

docs.cartesia.ai/api-reference/tts/websocket. Their context ends by itself one second after its last audio, whatever was
promised: an utterance that goes on later goes on in another context of theirs, and text that fell into the gap is sent
again. So an utterance has one id here and, in order, one or more on the wire. Clauses come whole, so the server is told
to wait for nothing (``max_buffer_delay_ms`` 0; its own default is three seconds).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from offhook.bridge.cascade.ports import (
    Aligned,
    ContextDone,
    ContextFailed,
    PartSettings,
    TtsOutput,
    TtsVendor,
)
from offhook.bridge.cascade.vendor_wire import headers_of, refusal, websocket_url
from offhook.bridge.codec import BridgeFault
from offhook.bridge.endings import verdict_of
from offhook.bridge.wire import WebsocketTarget
from offhook.model.audio import L16_8K, L16_16K, PCMA_8K, PCMU_8K, AudioFormat, Encoding
from offhook.model.errors import Verdict

API_VERSION = "2026-08-14"
DEFAULT_MODEL = "sonic-3.5"

SPEEDS = (0.6, 1.5)
"""The slowest and the fastest that ``generation_config`` takes."""

MAX_LOST = 1
"""How often text that no audio came for is sent again in another context: then there is nothing in it to be spoken."""

MAX_AT_S = 3600.0
"""No utterance is that long: such a time is a mistake."""

POLICY_VIOLATION = 1008

_ENCODINGS: Mapping[Encoding, str] = {
    Encoding.PCMU: "pcm_mulaw",
    Encoding.PCMA: "pcm_alaw",
    Encoding.L16: "pcm_s16le",
}


class _Words(msgspec.Struct, frozen=True):
    words: list[str] = []
    start: list[float] = []


class _Event(msgspec.Struct, frozen=True):
    """Whatever the server sends; ``data`` is base64 on the wire."""

    type: str = ""
    context_id: str | None = None
    data: bytes = b""
    word_timestamps: _Words | None = None
    status_code: int | None = None
    error_code: str | None = None
    title: str | None = None
    message: str | None = None


@dataclass(kw_only=True, slots=True)
class _Utterance:
    name: str
    wire_id: str = ""
    """Of the context that is open for it; "" while none is."""
    silent: str = ""
    """What was said since the last audio came."""
    audio_bytes: int = 0
    began_at: int = 0
    """``audio_bytes`` when the open context began: the server's times count from there."""
    finished: bool = False
    lost: int = 0


class CartesiaVoice:
    """Implements ``TtsCodec``."""

    def __init__(self, settings: PartSettings, audio_format: AudioFormat) -> None:
        self._settings = settings
        self._bytes_per_s = audio_format.sample_rate_hz * audio_format.bytes_per_sample
        self._request = _request(settings, audio_format)
        self._decoder = msgspec.json.Decoder(_Event)
        self._utterances: dict[str, _Utterance] = {}
        self._by_wire_id: dict[str, _Utterance] = {}
        self._contexts = 0

    def target(self) -> WebsocketTarget:
        own = {"Authorization": f"Bearer {self._settings.api_key}", "Cartesia-Version": API_VERSION}
        url = websocket_url(self._settings.base_url, "/tts/websocket", {})
        return WebsocketTarget(url=url, headers=headers_of(own, self._settings.headers))

    def opened(self, out: TtsOutput) -> None:
        """Contexts do not outlive their websocket."""
        self._utterances.clear()
        self._by_wire_id.clear()

    # ── speaking ─────────────────────────────────────────────────────────────────────────────────────────

    def begin(self, context: str, out: TtsOutput) -> None:
        self._utterances[context] = _Utterance(name=context)

    def say(self, context: str, text: str, out: TtsOutput) -> None:
        utterance = self._utterances.get(context)
        if utterance is None or utterance.finished:
            return
        utterance.silent += text
        if utterance.wire_id:
            self._send(utterance, text, out)
        elif _is_speakable(utterance.silent):
            self._open(utterance, out)

    def finish(self, context: str, out: TtsOutput) -> None:
        utterance = self._utterances.get(context)
        if utterance is None or utterance.finished:
            return
        utterance.finished = True
        if utterance.wire_id:
            self._send(utterance, "", out)
        else:
            self._complete(utterance, out)

    def cancel(self, context: str, out: TtsOutput) -> None:
        """A context they have ended already is not to be cancelled: that would be an error."""
        utterance = self._utterances.get(context)
        if utterance is None:
            return
        if utterance.wire_id:
            out.send(msgspec.json.encode({"context_id": utterance.wire_id, "cancel": True}))
        self._forget(utterance)

    def _open(self, utterance: _Utterance, out: TtsOutput) -> None:
        """Another context of theirs, which begins with whatever nothing was heard of."""
        self._contexts += 1
        utterance.wire_id = f"offhook-{self._contexts}"
        utterance.began_at = utterance.audio_bytes
        self._by_wire_id[utterance.wire_id] = utterance
        self._send(utterance, utterance.silent, out)

    def _send(self, utterance: _Utterance, text: str, out: TtsOutput) -> None:
        rest = {"context_id": utterance.wire_id, "transcript": text, "continue": not utterance.finished}
        out.send(msgspec.json.encode({**self._request, **rest}))

    # ── what the server says ─────────────────────────────────────────────────────────────────────────────

    def receive(self, message: bytes, out: TtsOutput, *, is_text: bool) -> None:
        try:
            event = self._decoder.decode(message)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            out.tts_event(BridgeFault(problem="Cartesia sent what is no message of theirs", verdict="retry"))
            return
        utterance = self._by_wire_id.get(event.context_id or "")
        if event.type == "error":
            self._refused(event, utterance, out)
        elif utterance is None:
            pass  # of what was cancelled, or ended
        elif event.type == "chunk":
            self._audio(utterance, event.data, out)
        elif event.type == "timestamps":
            for word, at_ms in self._placed(utterance, event.word_timestamps or _Words()):
                out.tts_event(Aligned(context=utterance.name, text=word, at_ms=at_ms))
        elif event.type == "done":
            self._ended(utterance, out)

    def _audio(self, utterance: _Utterance, audio: bytes, out: TtsOutput) -> None:
        if audio:
            utterance.audio_bytes += len(audio)
            utterance.silent, utterance.lost = "", 0
            out.tts_audio(utterance.name, audio)

    def _placed(self, utterance: _Utterance, timed: _Words) -> Iterator[tuple[str, int]]:
        """Their times are seconds of one context."""
        before_ms = utterance.began_at * 1000 // self._bytes_per_s
        for word, start_s in zip(timed.words, timed.start, strict=False):
            if 0 <= start_s < MAX_AT_S:
                yield word, before_ms + round(start_s * 1000)

    def _ended(self, utterance: _Utterance, out: TtsOutput) -> None:
        """It was asked for, or their second is over; then what was said meanwhile was not heard by them."""
        self._close(utterance)
        if _is_speakable(utterance.silent) and utterance.lost < MAX_LOST:
            utterance.lost += 1
            self._open(utterance, out)
        elif utterance.finished:
            self._complete(utterance, out)
        else:
            utterance.silent = ""

    def _refused(self, event: _Event, utterance: _Utterance | None, out: TtsOutput) -> None:
        status = event.status_code or 500
        problem = f"Cartesia: {event.error_code or status}: {event.message or event.title or 'no reason given'}"
        if utterance is None and event.context_id:
            return  # late: we had taken it for finished, or cancelled it
        if utterance is None or status in (401, 402, 403, 404):
            out.tts_event(BridgeFault(problem=problem, verdict=verdict_of(status)))
        elif status == 400 and utterance.audio_bytes > utterance.began_at:
            self._ended(utterance, out)  # what was heard in part was no bad request: their context had expired
        else:
            self._close(utterance)
            self._forget(utterance)
            fault = BridgeFault(problem=problem, verdict=verdict_of(status))
            out.tts_event(ContextFailed(context=utterance.name, fault=fault))

    def _complete(self, utterance: _Utterance, out: TtsOutput) -> None:
        self._forget(utterance)
        out.tts_event(ContextDone(context=utterance.name))

    def _close(self, utterance: _Utterance) -> None:
        self._by_wire_id.pop(utterance.wire_id, None)
        utterance.wire_id = ""

    def _forget(self, utterance: _Utterance) -> None:
        self._close(utterance)
        self._utterances.pop(utterance.name, None)

    # ── the websocket ────────────────────────────────────────────────────────────────────────────────────

    def refused(self, status: int, body: bytes) -> BridgeFault:
        return refusal(status, body)

    def closed(self, code: int, reason: str) -> BridgeFault | None:
        """After five minutes of silence it is no fault, whatever the code."""
        verdict: Verdict = "fall_over" if code == POLICY_VIOLATION else "retry"
        if self._by_wire_id or verdict == "fall_over":
            return BridgeFault(problem=f"Cartesia closed the websocket: {code} {reason}".rstrip(), verdict=verdict)
        return None

    def goodbye(self) -> bytes | None:
        return None


def _request(settings: PartSettings, audio_format: AudioFormat) -> dict[str, Any]:
    """What is the same in every message of a context, as they demand it."""
    request: dict[str, Any] = {
        "model_id": settings.model or DEFAULT_MODEL,
        "voice": {"mode": "id", "id": settings.voice},
        "output_format": {
            "container": "raw",
            "encoding": _ENCODINGS[audio_format.encoding],
            "sample_rate": audio_format.sample_rate_hz,
        },
        "max_buffer_delay_ms": 0,
        "add_timestamps": True,
    }
    if settings.language:
        request["language"] = settings.language.partition("-")[0].lower()
    if settings.speed != 1.0:
        request["generation_config"] = {"speed": min(max(settings.speed, SPEEDS[0]), SPEEDS[1])}
    return {**request, **settings.extra}


def _is_speakable(text: str) -> bool:
    return any(character.isalnum() for character in text)


CARTESIA_TTS = TtsVendor(
    name="cartesia",
    url="https://api.cartesia.ai",
    key_variable="CARTESIA_API_KEY",
    formats=(PCMU_8K, PCMA_8K, L16_8K, L16_16K),
    make=CartesiaVoice,
    aligns=True,
    renamed=dict.fromkeys(
        ("sonic", "sonic-english", "sonic-multilingual", "sonic-turbo", "turbo", "sonic-2", "sonic-2-2025-03-07"),
        DEFAULT_MODEL,
    ),
)
"""``voice``: the UUID of a voice; there is none by default."""
