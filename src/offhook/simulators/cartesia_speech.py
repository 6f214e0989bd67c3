"""Cartesia's text-to-speech websocket: contexts side by side, each spoken in order, none waiting for another.

Wire: docs.cartesia.ai/api-reference/tts/websocket and …/use-the-api/tts-websocket/contexts.
"""

from __future__ import annotations

import asyncio
import re
from base64 import b64encode
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from itertools import count
from typing import Any

import msgspec
import numpy as np
from aiohttp import WSMsgType, web

from offhook.audio.tones import tone
from offhook.model.audio import Encoding
from offhook.simulators.actor import Actor
from offhook.simulators.cartesia_errors import CartesiaRefusalError, error_event
from offhook.simulators.chat_script import turn_that_says
from offhook.simulators.mishaps import carry_out, piece_bytes
from offhook.simulators.script import Fault, FaultMoment
from offhook.simulators.stage import Journal
from offhook.simulators.voice import LEVEL_DB, length_ms, pitch_hz

BYTES_PER_SAMPLE: Mapping[str, int] = {"pcm_f32le": 4, "pcm_s16le": 2, "pcm_mulaw": 1, "pcm_alaw": 1}
SAMPLE_RATES_HZ = (8000, 16000, 22050, 24000, 44100, 48000)

RETIRED_MODELS = ("sonic", "sonic-english", "sonic-multilingual", "sonic-turbo", "sonic-2")

CONTEXT_EXPIRES_S = 1.0
"""After its last audio, when more text was promised and did not come."""

MAX_BUFFER_DELAY_MS, DEFAULT_BUFFER_DELAY_MS = 5000, 3000


_LAWS = {"pcm_mulaw": Encoding.PCMU, "pcm_alaw": Encoding.PCMA}

_CONTEXT_ID = re.compile(r"[A-Za-z0-9_-]+")

_MAY_CHANGE = ("transcript", "continue", "flush", "duration")
"""Between the messages of one context; everything else has to be the same in all."""


@lru_cache(maxsize=256)
def sound(text: str, encoding: str, rate_hz: int) -> bytes:
    """``text`` as it sounds, in Cartesia's names for formats; nothing but spaces is no sound."""
    if not text.strip():
        return b""
    words = text.strip()
    law = _LAWS.get(encoding, Encoding.L16)
    audio = tone(pitch_hz(words), length_ms(words), LEVEL_DB, law, sample_rate_hz=rate_hz)
    if encoding != "pcm_f32le":
        return audio
    return (np.frombuffer(audio, dtype="<i2") / 32768).astype("<f4").tobytes()


def check_generation(message: Mapping[str, Any]) -> None:
    """Raises ``CartesiaRefusalError`` for what may be in no request for speech."""
    model = message.get("model_id")
    if not isinstance(model, str) or model in RETIRED_MODELS:
        raise CartesiaRefusalError(f"The model {model!r} is not valid", "model_not_found", 404)
    if not isinstance(message.get("transcript"), str):
        raise CartesiaRefusalError("transcript is missing")
    voice = message.get("voice")
    voice_id = voice.get("id") if isinstance(voice, dict) else voice
    if not isinstance(voice_id, str) or not voice_id:
        raise CartesiaRefusalError("voice has no id", "voice_not_found", 404)
    _check_format(message.get("output_format"))
    _check_delivery(message)


def _check_format(wanted: Any) -> None:
    if not isinstance(wanted, dict) or wanted.get("container") != "raw":
        raise CartesiaRefusalError("output_format.container has to be raw")
    if wanted.get("encoding") not in BYTES_PER_SAMPLE or wanted.get("sample_rate") not in SAMPLE_RATES_HZ:
        raise CartesiaRefusalError("output_format is not known")


def _check_delivery(message: Mapping[str, Any]) -> None:
    delay = message.get("max_buffer_delay_ms")
    if delay is not None and not 0 <= delay <= MAX_BUFFER_DELAY_MS:
        raise CartesiaRefusalError(f"max_buffer_delay_ms is not between 0 and {MAX_BUFFER_DELAY_MS}")
    config = message.get("generation_config") or {}
    if not 0.6 <= config.get("speed", 1.0) <= 1.5 or not 0.5 <= config.get("volume", 1.0) <= 2.0:
        raise CartesiaRefusalError("generation_config is out of range")


class SpeechSocket:
    """One websocket. ``contexts``: those that speak on any socket of the simulator, for its limit."""

    def __init__(
        self, request: web.Request, websocket: web.WebSocketResponse, actor: Actor, journal: Journal, contexts: set[str]
    ) -> None:
        self.actor = actor
        self.script = actor.script
        self.turns = count(1)
        self._request = request
        self._websocket = websocket
        self._journal = journal
        self._active = contexts
        self._number = journal.connections
        self._contexts: dict[str, _Context] = {}
        self._gone: set[str] = set()

    async def run(self, *, idle_s: float, concurrency: int) -> None:
        """Until the client leaves, or said nothing for ``idle_s``."""
        try:
            while not self._websocket.closed:
                message = await self._websocket.receive(timeout=idle_s)
                if message.type is not WSMsgType.TEXT:
                    return
                self._journal.note(self._number, self._request.path_qs, message.data)
                await self._take(message.data, concurrency)
        except TimeoutError:
            await self._websocket.close(code=1000, message=b"idle")
        finally:
            for context in list(self._contexts.values()):
                await context.stop()
                self.forget(context)

    async def _take(self, text: str, concurrency: int) -> None:
        context_id = None
        try:
            message = _read(text)
            context_id = _context_id(message)
            if message.get("cancel"):
                self._cancel(context_id)
            else:
                self._generate(context_id, message, concurrency)
        except CartesiaRefusalError as refusal:
            self._journal.problems.append(refusal.problem)
            await self.send(error_event(refusal, context_id))

    def _cancel(self, context_id: str) -> None:
        context = self._contexts.get(context_id)
        if context is None:
            raise CartesiaRefusalError(f"There is no context {context_id} to be cancelled", "context_not_found")
        context.cancel()

    def _generate(self, context_id: str, message: dict[str, Any], concurrency: int) -> None:
        check_generation(message)
        context = self._contexts.get(context_id)
        if context is None:
            context = self._begin(context_id, message, concurrency)
        context.take(message)

    def _begin(self, context_id: str, message: dict[str, Any], concurrency: int) -> _Context:
        if context_id in self._gone:
            raise CartesiaRefusalError(f"The context {context_id} has ended", "context_expired")
        if not message["transcript"].strip() and not message.get("continue"):
            raise CartesiaRefusalError("transcript is empty")
        if len(self._active) >= concurrency:
            raise CartesiaRefusalError("Too many contexts at once", "concurrency_limited", 429)
        context = self._contexts[context_id] = _Context(self, context_id, message)
        self._active.add(f"{self._number}/{context_id}")
        return context

    def forget(self, context: _Context) -> None:
        self._gone.add(context.context_id)
        self._contexts.pop(context.context_id, None)
        self._active.discard(f"{self._number}/{context.context_id}")

    async def send(self, event: Mapping[str, Any] | str) -> None:
        if not self._websocket.closed:
            with suppress(ConnectionError):  # the client left between the look and the word
                await self._websocket.send_str(event if isinstance(event, str) else msgspec.json.encode(event).decode())

    async def misbehave(self, on: FaultMoment, turn: int, context_id: str) -> Fault | None:
        """What the script has go wrong at this moment; what only changes how audio is sent is left to the caller."""
        fault = self.actor.fault(on, turn)
        if fault is not None:
            await self.carry_out(fault, context_id)
        return fault

    def turn_of(self, text: str, context: int) -> int:
        """By a whole script the turn of what is said is known, and what is in none is a greeting: 0."""
        return turn_that_says(self.script, text) if self.script.turns else context

    async def carry_out(self, fault: Fault, context_id: str | None = None) -> None:
        async def scripted_error(fault: Fault) -> None:
            await self.send(error_event(CartesiaRefusalError.scripted(fault.text), context_id))

        await carry_out(fault, self._request, self._websocket, error=scripted_error, say=self.send)


class _Context:
    """Texts that are spoken one after the other, in one breath."""

    def __init__(self, socket: SpeechSocket, context_id: str, first: Mapping[str, Any]) -> None:
        self.context_id = context_id
        self._socket = socket
        self._turn = next(socket.turns)
        self._fixed = _fixed(first)
        wanted = first["output_format"]
        self._encoding: str = wanted["encoding"]
        self._rate_hz: int = wanted["sample_rate"]
        self._bytes_per_s: int = self._rate_hz * BYTES_PER_SAMPLE[self._encoding]
        delay_ms = first.get("max_buffer_delay_ms")
        self._delay_s = (DEFAULT_BUFFER_DELAY_MS if delay_ms is None else delay_ms) / 1000
        self._timestamps = bool(first.get("add_timestamps"))
        self._buffer = ""
        self._waiting: asyncio.TimerHandle | None = None
        self._texts: deque[str | None] = deque()  # None is a flush
        self._news = asyncio.Event()
        self._last = self._cancelled = False
        self._flush_id = 1
        self._sent_s = 0.0
        self._task = asyncio.create_task(self._speak())

    # ── what the client wants ────────────────────────────────────────────────────────────────────────────

    def take(self, message: Mapping[str, Any]) -> None:
        if self._last:
            raise CartesiaRefusalError(f"The context {self.context_id} takes no more text", "context_expired")
        if _fixed(message) != self._fixed:
            raise CartesiaRefusalError("Only the transcript may change within a context")
        self._buffer += message["transcript"]
        self._last = not message.get("continue", False)
        if message.get("flush"):
            self._release()
            self._texts.append(None)
        elif self._last or self._delay_s == 0:
            self._release()
        elif self._waiting is None:
            self._waiting = asyncio.get_running_loop().call_later(self._delay_s, self._release)
        self._news.set()

    def cancel(self) -> None:
        """What is being generated goes on, nothing else does."""
        self._texts.clear()
        self._buffer = ""
        self._last = self._cancelled = True
        self._news.set()

    async def stop(self) -> None:
        self._forget_delay()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def _release(self) -> None:
        self._forget_delay()
        if self._buffer.strip():
            self._texts.append(self._buffer)
        self._buffer = ""
        self._news.set()

    def _forget_delay(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    # ── speaking ─────────────────────────────────────────────────────────────────────────────────────────

    async def _speak(self) -> None:
        while True:
            while self._texts:
                text = self._texts.popleft()
                await (self._flushed() if text is None else self._generate(text))
            if self._last:
                break
            try:
                async with asyncio.timeout(CONTEXT_EXPIRES_S if self._sent_s else None):
                    await self._news.wait()
                self._news.clear()
            except TimeoutError:
                break
        self._socket.forget(self)
        if self._cancelled:
            await self._after_cancel()
        else:
            await self._socket.send({"type": "done", "done": True, "status_code": 200, "context_id": self.context_id})

    async def _generate(self, text: str) -> None:
        turn = self._socket.turn_of(text, self._turn)
        fault = await self._socket.misbehave("turn" if turn else "greeting", turn, self.context_id)
        if fault is not None and fault.do == "error":
            self.cancel()
            return
        audio = sound(text, self._encoding, self._rate_hz)
        size = self._chunk_bytes(fault, len(audio))
        times = range(2) if fault is not None and fault.do == "duplicate" else range(1)
        middle = len(audio) // 2
        for at in range(0, len(audio), size):
            if turn and at <= middle < at + size:
                broken = await self._socket.misbehave("audio", turn, self.context_id)
                if broken is not None and broken.do == "error":
                    self.cancel()
                    return
            for _ in times:
                await self._chunk(audio[at : at + size])
            if at == 0 and self._timestamps:
                await self._words(text, len(audio) / self._bytes_per_s)
            await self._wait(size)
        self._sent_s += len(audio) / self._bytes_per_s

    def _chunk_bytes(self, fault: Fault | None, whole: int) -> int:
        chunk_bytes = max(1, self._bytes_per_s * self._socket.script.chunk_ms // 1000)
        return piece_bytes(fault, chunk_bytes, whole)

    async def _wait(self, size: int) -> None:
        pace = self._socket.script.pace
        await asyncio.sleep(size / self._bytes_per_s / pace if pace else 0)

    async def _chunk(self, audio: bytes) -> None:
        await self._tell("chunk", {"data": b64encode(audio).decode(), "step_time": 12.5, "flush_id": self._flush_id})

    async def _words(self, text: str, length_s: float) -> None:
        """Spread evenly, in seconds of the whole context's audio."""
        words = text.split()
        step = length_s / len(words)
        starts = [round(self._sent_s + index * step, 3) for index in range(len(words))]
        ends = [round(start + step * 0.9, 3) for start in starts]
        spoken = {"words": words, "start": starts, "end": ends}
        await self._tell("timestamps", {"word_timestamps": spoken, "flush_id": self._flush_id})

    async def _flushed(self) -> None:
        await self._tell("flush_done", {"flush_done": True, "flush_id": self._flush_id})
        self._flush_id += 1

    async def _tell(self, kind: str, rest: Mapping[str, Any]) -> None:
        await self._socket.send(
            {"type": kind, "done": False, "status_code": 206, "context_id": self.context_id, **rest}
        )

    async def _after_cancel(self) -> None:
        fault = await self._socket.misbehave("interrupted", self._turn, self.context_id)
        if fault is not None and fault.do == "late_audio":
            await self._chunk(sound("too late", self._encoding, self._rate_hz))


def _read(text: str) -> dict[str, Any]:
    try:
        message = msgspec.json.decode(text)
    except msgspec.DecodeError:
        raise CartesiaRefusalError("The message is no JSON") from None
    if not isinstance(message, dict):
        raise CartesiaRefusalError("The message is no object")
    return message


def _context_id(message: Mapping[str, Any]) -> str:
    context_id = message.get("context_id")
    if not isinstance(context_id, str) or not _CONTEXT_ID.fullmatch(context_id):
        raise CartesiaRefusalError("context_id has to be of letters, digits, - and _")
    return context_id


def _fixed(message: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in message.items() if key not in _MAY_CHANGE}
