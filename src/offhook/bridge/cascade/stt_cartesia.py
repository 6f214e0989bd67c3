"""Cartesia ink-2 listens, and finds the caller's turns itself (docs.cartesia.ai/api-reference/stt/turns/websocket)."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from offhook.bridge.cascade.ports import (
    EagerEnd,
    EndOfTurn,
    PartialText,
    PartSettings,
    Resumed,
    SpeechBegan,
    SttOutput,
    SttVendor,
)
from offhook.bridge.cascade.vendor_wire import headers_of, refusal, websocket_url
from offhook.bridge.codec import BridgeFault
from offhook.bridge.endings import verdict_of
from offhook.bridge.wire import WebsocketTarget
from offhook.model.audio import FRAME_MS, L16_8K, L16_16K, PCMA_8K, PCMU_8K, AudioFormat, Encoding

API_VERSION = "2026-08-14"
DEFAULT_MODEL = "ink-2"

MAX_KEYTERMS, MAX_KEYTERM_CHARACTERS = 100, 1200
"""Of all of them together; what goes beyond is left out, as the handshake would be refused."""

END_TIMEOUT_MS = 5600
"""Theirs, unless ``turn_end_timeout_ms`` says otherwise: so long they wait in silence before a turn is over."""

SLACK_MS = 3000
"""In a turn they tell what they understand several times a second; who says nothing for so much longer is stuck."""

_ENCODINGS: Mapping[Encoding, str] = {
    Encoding.PCMU: "pcm_mulaw",
    Encoding.PCMA: "pcm_alaw",
    Encoding.L16: "pcm_s16le",
}


class _Event(msgspec.Struct, frozen=True):
    type: str = ""
    transcript: str = ""
    status_code: int | None = None
    error_code: str | None = None
    title: str | None = None
    message: str | None = None


class CartesiaRecogniser:
    """Implements ``SttCodec``. Transcripts are of the whole turn, on the wire as well."""

    audio_is_binary = True
    takes_audio = True

    def __init__(self, settings: PartSettings, audio_format: AudioFormat) -> None:
        self._settings = settings
        self._format = audio_format
        self._decoder = msgspec.json.Decoder(_Event)
        self._in_turn = self._eager = False
        self._frames = 0
        """Since their last word."""
        limit_ms = SLACK_MS + _number(settings.extra.get("turn_end_timeout_ms"), END_TIMEOUT_MS)
        self._limit = limit_ms // FRAME_MS

    def target(self) -> WebsocketTarget:
        settings = self._settings
        query = {
            "model": settings.model or DEFAULT_MODEL,
            "encoding": _ENCODINGS[self._format.encoding],
            "sample_rate": self._format.sample_rate_hz,
            "keyterm": _keyterms(settings.keywords),
            **settings.extra,
        }
        own = {"Authorization": f"Bearer {settings.api_key}", "Cartesia-Version": API_VERSION}
        url = websocket_url(settings.base_url, "/stt/turns/websocket", query)
        return WebsocketTarget(url=url, headers=headers_of(own, settings.headers))

    def opened(self, out: SttOutput) -> None:
        self._in_turn = self._eager = False

    def audio(self, frame: bytes, out: SttOutput) -> bytes | None:
        self._frames += 1
        if self._in_turn and self._frames > self._limit:
            self._in_turn = False
            problem = f"Cartesia said nothing for {self._frames * FRAME_MS / 1000:g} s in the middle of a turn"
            out.stt_event(BridgeFault(problem=problem, verdict="retry"))
        return frame

    def receive(self, message: bytes, out: SttOutput, *, is_text: bool) -> None:
        try:
            event = self._decoder.decode(message)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            out.stt_event(BridgeFault(problem="Cartesia sent what is no message of theirs", verdict="retry"))
            return
        self._frames = 0
        if event.type == "error":
            self._refused(event, out)
        elif event.type == "turn.start":
            if not self._in_turn:
                self._in_turn = True
                out.stt_event(SpeechBegan())
        elif self._in_turn:
            self._follow(event, out)

    def _follow(self, event: _Event, out: SttOutput) -> None:
        """A turn that has begun; what comes of none is a repetition."""
        match event.type:
            case "turn.update":
                out.stt_event(PartialText(text=event.transcript))
            case "turn.eager_end":
                self._eager = True
                out.stt_event(EagerEnd(text=event.transcript))
            case "turn.resume" if self._eager:
                self._eager = False
                out.stt_event(Resumed())
            case "turn.end":
                self._in_turn = self._eager = False
                out.stt_event(EndOfTurn(text=event.transcript))
            case _:
                pass

    def _refused(self, event: _Event, out: SttOutput) -> None:
        status = event.status_code or 500
        problem = f"Cartesia: {event.error_code or status}: {event.message or event.title or 'no reason given'}"
        out.stt_event(BridgeFault(problem=problem, verdict=verdict_of(status)))

    def refused(self, status: int, body: bytes) -> BridgeFault:
        return refusal(status, body)

    def closed(self, code: int, reason: str) -> BridgeFault:
        return BridgeFault(problem=f"Cartesia closed the websocket: {code} {reason}".rstrip(), verdict="retry")

    def goodbye(self) -> bytes | None:
        return b'{"type":"close"}'


def _number(value: object, default: int) -> int:
    return int(value) if isinstance(value, int | float) else default


def _keyterms(keywords: tuple[str, ...]) -> list[str]:
    """As many as they take."""
    chosen: list[str] = []
    characters = 0
    for word in keywords[:MAX_KEYTERMS]:
        characters += len(word)
        if characters > MAX_KEYTERM_CHARACTERS:
            break
        chosen.append(word)
    return chosen


CARTESIA_STT = SttVendor(
    name="cartesia",
    url="https://api.cartesia.ai",
    key_variable="CARTESIA_API_KEY",
    formats=(PCMU_8K, PCMA_8K, L16_8K, L16_16K),
    make=CartesiaRecogniser,
    renamed={"ink-whisper": DEFAULT_MODEL, "ink-whisper-2025-06-04": DEFAULT_MODEL},
)
"""ink-whisper finds no turns: it has to be told when one is over, on another websocket."""
