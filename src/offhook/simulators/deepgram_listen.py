"""Deepgram's recognisers: Flux (/v2/listen), which finds turns, and Nova (/v1/listen), which finds pauses.

Wire: developers.deepgram.com/reference/speech-to-text/listen-flux and …/listen-streaming. What they understand is the
script's ``hears``; the caller's audio is their clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

import msgspec
from aiohttp import web

from offhook.audio.convert import converter
from offhook.audio.vad import VoiceActivityDetector
from offhook.model.audio import FRAME_MS, PCMU_8K, Encoding
from offhook.simulators.actor import Actor, SpeechBegan, Understood
from offhook.simulators.deepgram_wire import (
    MODEL_UUID,
    REQUEST_ID,
    DeepgramRefusalError,
    DeepgramSocket,
    format_of,
)
from offhook.simulators.stage import Journal

WORD_MS = 200
"""One more word is understood so often, while the caller speaks."""

EAGER_MS = 200
"""Silence after which the turn may be over."""

FLUX_RANGES: Mapping[str, tuple[float, float]] = {
    "eot_threshold": (0.5, 1.0),
    "eager_eot_threshold": (0.3, 0.9),
    "eot_timeout_ms": (500, 10_000),
}

_FLUX_PARAMETERS = frozenset(
    {
        *("model", "encoding", "sample_rate", "keyterm", "language_hint", "mip_opt_out", "numerals"),
        *("profanity_filter", "redact", "tag", *FLUX_RANGES),
    }
)

_NOVA_FLAGS = frozenset(
    {
        *("interim_results", "smart_format", "punctuate", "vad_events", "numerals", "profanity_filter", "diarize"),
        *("multichannel", "dictation", "mip_opt_out", "detect_entities"),
    }
)

_NOVA_PARAMETERS = _NOVA_FLAGS | {
    *("model", "encoding", "sample_rate", "channels", "endpointing", "utterance_end_ms", "language", "keyterm"),
    *("keywords", "callback", "callback_method", "extra", "redact", "replace", "search", "tag", "version"),
    *("language_hint", "diarize_model"),
}


def check_query(query: Mapping[str, str], known: frozenset[str]) -> None:
    """Raises ``DeepgramRefusalError``."""
    for name in query:
        if name not in known:
            raise DeepgramRefusalError("INVALID_QUERY_PARAMETER", f"{name} is not known")
    rate = query.get("sample_rate", "")
    if not rate.isdigit():
        raise DeepgramRefusalError("INVALID_QUERY_PARAMETER", f"sample_rate {rate!r} is no number")
    format_of(query.get("encoding", ""), int(rate))


def within(query: Mapping[str, str], name: str, least: float, most: float) -> None:
    """Raises ``DeepgramRefusalError`` where ``name`` is given and is none of these numbers."""
    try:
        if name not in query or least <= float(query[name]) <= most:
            return
    except ValueError:
        pass
    raise DeepgramRefusalError("INVALID_QUERY_PARAMETER", f"{name} is not between {least:g} and {most:g}")


def check_flux(query: Mapping[str, str]) -> None:
    """Raises ``DeepgramRefusalError``."""
    check_query(query, _FLUX_PARAMETERS)
    model = query.get("model", "")
    if not model.startswith("flux-"):
        raise DeepgramRefusalError("INVALID_QUERY_PARAMETER", f"{model!r} is no model of /v2/listen")
    if "language_hint" in query and model != "flux-general-multi":
        raise DeepgramRefusalError("INVALID_QUERY_PARAMETER", f"{model} takes no language_hint")
    for name, (least, most) in FLUX_RANGES.items():
        within(query, name, least, most)


def check_nova(query: Mapping[str, str]) -> None:
    """Raises ``DeepgramRefusalError``."""
    check_query(query, frozenset(_NOVA_PARAMETERS))
    if query.get("model", "").startswith("flux"):
        raise DeepgramRefusalError("INVALID_QUERY_PARAMETER", "Flux is at /v2/listen")
    for name in _NOVA_FLAGS:
        if query.get(name, "true") not in ("true", "false"):
            raise DeepgramRefusalError("INVALID_QUERY_PARAMETER", f"{name} is neither true nor false")
    within(query, "utterance_end_ms", 1000, 5000)
    if "utterance_end_ms" in query and query.get("interim_results") != "true":
        raise DeepgramRefusalError("INVALID_QUERY_PARAMETER", "utterance_end_ms needs interim_results")


class ListenSocket(DeepgramSocket):
    """What both have: frames, words one by one, and when the caller's turn is over."""

    def __init__(self, request: web.Request, websocket: web.WebSocketResponse, actor: Actor, journal: Journal) -> None:
        super().__init__(request, websocket, actor, journal)
        self.query = request.query
        self._convert = converter(format_of(self.query["encoding"], int(self.query["sample_rate"])), PCMU_8K)
        self._ear = VoiceActivityDetector(Encoding.PCMU, hangover_ms=EAGER_MS)
        self._rest = b""
        self.turn = -1
        self.words: Sequence[str] = ()
        self.told = 0
        self.began_ms: int | None = None

    async def take_audio(self, audio: bytes) -> None:
        self._rest += audio if self._convert is None else self._convert(audio)
        while len(self._rest) >= PCMU_8K.frame_bytes:
            frame, self._rest = self._rest[: PCMU_8K.frame_bytes], self._rest[PCMU_8K.frame_bytes :]
            await self._hear(frame)

    async def _hear(self, frame: bytes) -> None:
        change = self._ear.feed(frame)
        for deed in self.actor.hear(frame):
            if isinstance(deed, SpeechBegan):
                self.words = self.actor.hearing.split()
                self.turn, self.told, self.began_ms = self.turn + 1, 0, self.actor.heard_ms
                await self.speech_began()
            elif isinstance(deed, Understood):
                await self.end_turn("model")
        if self.began_ms is not None:
            await self.follow(change, self.began_ms)
        await self.passed()

    async def follow(self, change: str | None, began_ms: int) -> None:
        spoken = min(len(self.words), (self.actor.heard_ms - began_ms) // WORD_MS)
        if self.actor.script.interim and spoken > self.told:
            self.told = spoken
            await self.tell_interim(" ".join(self.words[:spoken]))

    async def end_turn(self, trigger: str) -> None:
        self.began_ms = None
        await self.misbehave("turn", self.turn + 1)
        await self.tell_end(" ".join(self.words), trigger)

    async def speech_began(self) -> None:
        raise NotImplementedError

    async def tell_interim(self, text: str) -> None:
        raise NotImplementedError

    async def tell_end(self, text: str, trigger: str) -> None:
        raise NotImplementedError

    async def passed(self) -> None:
        """Another 20 ms."""

    def read(self, text: str) -> Mapping[str, Any]:
        """Raises ``DeepgramRefusalError``."""
        try:
            message = msgspec.json.decode(text, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise DeepgramRefusalError("UNPARSABLE_CLIENT_MESSAGE", str(error)) from None
        return message

    def words_told(self, text: str) -> list[dict[str, Any]]:
        return [{"word": word, "confidence": 0.98} for word in text.split()]


class FluxSocket(ListenSocket):
    @classmethod
    def check(cls, query: Mapping[str, str]) -> None:
        check_flux(query)

    def __init__(self, request: web.Request, websocket: web.WebSocketResponse, actor: Actor, journal: Journal) -> None:
        super().__init__(request, websocket, actor, journal)
        self._sequence = count()
        self._eager = False

    async def began(self) -> None:
        await self._tell("Connected")
        await self.misbehave("setup")

    async def speech_began(self) -> None:
        self._eager = False
        await self._turn_info("StartOfTurn", "")

    async def follow(self, change: str | None, began_ms: int) -> None:
        wants_eager = "eager_eot_threshold" in self.query
        if change == "stopped" and wants_eager:
            self._eager = True
            await self._turn_info("EagerEndOfTurn", " ".join(self.words))
        elif change == "started" and self._eager:
            self._eager = False
            await self._turn_info("TurnResumed", " ".join(self.words))
        elif not self._eager:
            await super().follow(change, began_ms)

    async def tell_interim(self, text: str) -> None:
        await self._turn_info("Update", text)

    async def tell_end(self, text: str, trigger: str) -> None:
        await self._turn_info("EndOfTurn", text, trigger=trigger)

    async def take_text(self, text: str) -> None:
        match self.read(text):
            case {"type": "CloseStream"}:
                await self._websocket.close(code=1000)
            case {"type": "ForceEndTurn"}:
                if self.actor.end_turn():
                    await self.end_turn("manual")
            case {"type": "Configure", **rest}:
                thresholds, keyterms = rest.get("thresholds", {}), rest.get("keyterms", [])
                await self._tell("ConfigureSuccess", thresholds=thresholds, keyterms=keyterms)
            case _:
                raise DeepgramRefusalError("UNPARSABLE_CLIENT_MESSAGE", text[:80])

    async def _turn_info(self, event: str, transcript: str, **rest: Any) -> None:
        heard_s = self.actor.heard_ms / 1000
        began_s = heard_s if self.began_ms is None else self.began_ms / 1000
        await self._tell(
            "TurnInfo",
            event=event,
            turn_index=max(0, self.turn),
            audio_window_start=began_s,
            audio_window_end=heard_s,
            transcript=transcript,
            words=self.words_told(transcript),
            end_of_turn_confidence=0.9 if event.endswith("EndOfTurn") else 0.1,
            **rest,
        )

    async def _tell(self, kind: str, **rest: Any) -> None:
        await self.send({"type": kind, "request_id": REQUEST_ID, "sequence_id": next(self._sequence), **rest})

    async def send_error(self, code: str, description: str) -> None:
        await self._tell("Error", code=code, description=description)


class NovaSocket(ListenSocket):
    @classmethod
    def check(cls, query: Mapping[str, str]) -> None:
        check_nova(query)

    def __init__(self, request: web.Request, websocket: web.WebSocketResponse, actor: Actor, journal: Journal) -> None:
        super().__init__(request, websocket, actor, journal)
        self._last_word_ms: int | None = None

    async def began(self) -> None:
        await self.misbehave("setup")

    async def speech_began(self) -> None:
        self._last_word_ms = None
        if self.query.get("vad_events") == "true":
            event = {"type": "SpeechStarted", "channel": [0, 1], "timestamp": self.actor.heard_ms / 1000}
            await self.send(event)

    async def tell_interim(self, text: str) -> None:
        if self.query.get("interim_results") == "true":
            await self._results(text, is_final=False)

    async def tell_end(self, text: str, trigger: str) -> None:
        """The first half is final before the pause, as with a longer utterance."""
        middle = len(self.words) // 2
        if middle:
            await self._results(" ".join(self.words[:middle]), is_final=True)
        silent = self.query.get("endpointing") == "false"
        finalized = trigger == "manual"
        rest = " ".join(self.words[middle:])
        await self._results(rest, is_final=True, speech_final=not silent and not finalized, from_finalize=finalized)
        self._last_word_ms = self.actor.heard_ms

    async def passed(self) -> None:
        gap_ms = int(self.query.get("utterance_end_ms", "0"))
        last = self._last_word_ms
        if gap_ms and last is not None and self.actor.heard_ms - last + FRAME_MS > gap_ms:
            self._last_word_ms = None
            await self.send({"type": "UtteranceEnd", "channel": [0, 1], "last_word_end": last / 1000})

    async def take_text(self, text: str) -> None:
        match self.read(text):
            case {"type": "KeepAlive"}:
                pass
            case {"type": "Finalize"}:
                if self.actor.end_turn():
                    await self.end_turn("manual")
            case {"type": "CloseStream"}:
                await self._say_goodbye()
            case _:
                raise DeepgramRefusalError("SchemaError", text[:80])

    async def _say_goodbye(self) -> None:
        metadata = {
            "type": "Metadata",
            "transaction_key": "deprecated",
            "request_id": REQUEST_ID,
            "sha256": "0" * 64,
            "created": "2026-11-20T12:00:00.000Z",
            "duration": self.actor.heard_ms / 1000,
            "channels": 1,
        }
        await self.send(metadata)
        await self._websocket.close(code=1000)

    async def _results(
        self, text: str, *, is_final: bool, speech_final: bool = False, from_finalize: bool = False
    ) -> None:
        began_s = (self.began_ms or 0) / 1000
        words = [{**word, "start": began_s, "end": began_s + 0.2} for word in self.words_told(text)]
        await self.send(
            {
                "type": "Results",
                "channel_index": [0, 1],
                "duration": self.actor.heard_ms / 1000 - began_s,
                "start": began_s,
                "is_final": is_final,
                "speech_final": speech_final,
                "from_finalize": from_finalize,
                "channel": {"alternatives": [{"transcript": text, "confidence": 0.98, "words": words}]},
                "metadata": {
                    "request_id": REQUEST_ID,
                    "model_info": {"name": self.query.get("model", "base"), "version": "2026-01-01.0", "arch": "nova"},
                    "model_uuid": MODEL_UUID,
                },
            }
        )

    async def timed_out(self) -> None:
        """developers.deepgram.com/docs/keep-alive: NET-0001."""
        self.journal.problems.append("NET-0001: neither audio nor KeepAlive came in time")
        await self._websocket.close(code=1011, message=b"NET-0001")

    async def send_error(self, code: str, description: str) -> None:
        await self.send({"type": "Error", "variant": code, "description": description, "message": description})
