"""Cartesia's speech-to-text websocket that finds the turns of the caller by itself (ink-2).

Wire: docs.cartesia.ai/api-reference/stt/turns/websocket. What it understands is the script's ``hears``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, cast

import msgspec
from aiohttp import WSMsgType, web

from offhook.audio.convert import Converter, converter
from offhook.audio.vad import VoiceActivityDetector
from offhook.model.audio import FRAME_MS, PCMU_8K, AudioFormat, Encoding, SampleRate
from offhook.simulators.actor import Actor, SpeechBegan, Understood
from offhook.simulators.cartesia_errors import REQUEST_ID, CartesiaRefusalError, error_event
from offhook.simulators.mishaps import carry_out
from offhook.simulators.script import Fault, FaultKind, FaultMoment
from offhook.simulators.stage import Journal

ENCODINGS: Mapping[str, Encoding] = {"pcm_mulaw": Encoding.PCMU, "pcm_alaw": Encoding.PCMA, "pcm_s16le": Encoding.L16}
"""Of those of the service, the ones that can be listened to here."""

MAX_KEYTERMS, MAX_KEYTERM_CHARACTERS = 100, 1200

RANGES: Mapping[str, tuple[float, float]] = {
    "turn_start_threshold": (0.5, 0.9),
    "turn_eager_end_threshold": (0.3, 0.6),
    "turn_end_threshold": (0.05, 0.5),
    "turn_end_timeout_ms": (640, 11200),
}

WORD_MS = 200
"""One more word is understood so often, while the caller speaks."""

OF_A_VOICE: tuple[FaultKind, ...] = ("late_audio", "burst", "trickle")

EAGER_MS = 200
"""Silence after which the turn may be over."""


def listening(query: Mapping[str, str], keyterms: list[str]) -> AudioFormat:
    """What audio will come. Raises ``CartesiaRefusalError``."""
    if query.get("model") != "ink-2":
        raise CartesiaRefusalError(f"The model {query.get('model')!r} is not valid", "model_not_found", 404)
    encoding = ENCODINGS.get(query.get("encoding", ""))
    if encoding is None or not query.get("sample_rate", "").isdigit():
        raise CartesiaRefusalError("encoding and sample_rate are needed")
    if len(keyterms) > MAX_KEYTERMS or sum(map(len, keyterms)) > MAX_KEYTERM_CHARACTERS:
        raise CartesiaRefusalError("There are too many keyterms")
    for name, (least, most) in RANGES.items():
        if name in query and not least <= float(query[name]) <= most:
            raise CartesiaRefusalError(f"{name} is not between {least:g} and {most:g}")
    return AudioFormat(encoding=encoding, sample_rate_hz=cast(SampleRate, int(query["sample_rate"])))


class TurnsSocket:
    """One websocket. The caller's audio is its clock, whatever the pace it comes at."""

    def __init__(
        self,
        request: web.Request,
        websocket: web.WebSocketResponse,
        actor: Actor,
        journal: Journal,
        audio_format: AudioFormat,
    ) -> None:
        self._request = request
        self._websocket = websocket
        self._actor = actor
        self._journal = journal
        self._number = journal.connections
        self._convert: Converter | None = converter(audio_format, PCMU_8K)
        self._ear = VoiceActivityDetector(Encoding.PCMU, hangover_ms=EAGER_MS)
        self._rest = b""
        self._turn = 0
        self._words: list[str] = []
        self._began_ms: int | None = None
        self._told = 0
        self._eager = False

    async def run(self) -> None:
        await self._send("connected")
        await self._misbehave("setup")
        async for message in self._websocket:
            if message.type is WSMsgType.BINARY:
                self._journal.hear(self._number, message.data)
                await self._hear(message.data if self._convert is None else self._convert(message.data))
            elif message.type is WSMsgType.TEXT:
                self._journal.note(self._number, self._request.path_qs, message.data)
                await self._command(message.data)

    async def _hear(self, pcmu: bytes) -> None:
        self._rest += pcmu
        while len(self._rest) >= PCMU_8K.frame_bytes:
            frame, self._rest = self._rest[: PCMU_8K.frame_bytes], self._rest[PCMU_8K.frame_bytes :]
            change = self._ear.feed(frame)
            for deed in self._actor.hear(frame):
                if isinstance(deed, SpeechBegan):
                    await self._begin()
                elif isinstance(deed, Understood):
                    await self._end(deed.text)
            if self._began_ms is not None:
                await self._follow(change)
            if self._actor.heard_ms % 1000 < FRAME_MS:
                await asyncio.sleep(0)

    async def _begin(self) -> None:
        self._turn += 1
        self._words, self._told, self._eager = self._actor.hearing.split(), 0, False
        self._began_ms = self._actor.heard_ms
        await self._send("turn.start")

    async def _follow(self, change: str | None) -> None:
        assert self._began_ms is not None
        if change == "stopped":
            self._eager = True
            await self._send("turn.eager_end", transcript=" ".join(self._words))
        elif change == "started" and self._eager:
            self._eager = False
            await self._send("turn.resume")
        spoken = min(len(self._words), (self._actor.heard_ms - self._began_ms) // WORD_MS)
        if self._actor.script.interim and spoken > self._told and not self._eager:
            self._told = spoken
            await self._send("turn.update", transcript=" ".join(self._words[:spoken]))

    async def _end(self, text: str) -> None:
        self._began_ms = None
        await self._misbehave("turn")
        await self._send("turn.end", transcript=text)

    async def _command(self, text: str) -> None:
        try:
            command = msgspec.json.decode(text)
        except msgspec.DecodeError:
            command = None
        match command:
            case {"type": "close"}:
                if self._began_ms is not None:
                    await self._end(" ".join(self._words))
                await self._websocket.close(code=1000)
            case {"type": "config"}:
                pass
            case _:
                refusal = CartesiaRefusalError(f"There is no command {text[:50]!r}")
                self._journal.problems.append(refusal.problem)
                await self._write(error_event(refusal))

    async def _send(self, kind: str, **rest: Any) -> None:
        await self._write({"type": kind, "request_id": REQUEST_ID, **rest})

    async def _write(self, event: Mapping[str, Any] | str) -> None:
        if not self._websocket.closed:
            with suppress(ConnectionError):  # the client left between the look and the word
                await self._websocket.send_str(event if isinstance(event, str) else msgspec.json.encode(event).decode())

    async def _misbehave(self, on: FaultMoment) -> None:
        """What can only go wrong with a voice is left to it, where one simulator is both."""
        if all(fault.do in OF_A_VOICE for fault in self._actor.script.faults if fault.on == on):
            return
        fault = self._actor.fault(on, self._turn)
        if fault is not None:
            await self.carry_out(fault)

    async def carry_out(self, fault: Fault) -> None:
        if fault.do == "duplicate":
            await self._send("turn.end", transcript=" ".join(self._words))
        else:
            await carry_out(fault, self._request, self._websocket, error=self._scripted_error, say=self._write)

    async def _scripted_error(self, fault: Fault) -> None:
        await self._write(error_event(CartesiaRefusalError.scripted(fault.text)))
        await self._websocket.close(code=1011)
