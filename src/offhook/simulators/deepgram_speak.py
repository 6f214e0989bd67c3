"""Deepgram's voice on a websocket (/v1/speak). Wire: developers.deepgram.com/reference/text-to-speech/speak-streaming.

It speaks what was sent up to a ``Flush``, however many ``Speak`` it came in, and nothing before.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from itertools import count
from typing import Any

import msgspec
from aiohttp import web

from offhook.simulators.actor import Actor
from offhook.simulators.deepgram_listen import check_query, within
from offhook.simulators.deepgram_settings import VOICES
from offhook.simulators.deepgram_wire import MODEL_UUID, REQUEST_ID, DeepgramRefusalError, DeepgramSocket, format_of
from offhook.simulators.mishaps import ODD_BYTES, pieces_of
from offhook.simulators.stage import Journal
from offhook.simulators.voice import spoken

MAX_TEXT_CHARACTERS = 2000

MAX_FLUSHES, FLUSHES_S = 20, 60.0

_PARAMETERS = frozenset({"model", "encoding", "sample_rate", "container", "mip_opt_out", "speed", "tag"})


def check_speak(query: Mapping[str, str]) -> None:
    """Raises ``DeepgramRefusalError``."""
    check_query(query, _PARAMETERS)
    if not query.get("model", "").startswith(VOICES[0]):
        raise DeepgramRefusalError("INVALID_QUERY_PARAMETER", f"{query.get('model')!r} is no voice")
    if query.get("container", "none") != "none":
        raise DeepgramRefusalError("INVALID_QUERY_PARAMETER", "A websocket has no container")
    within(query, "speed", 0.7, 1.5)


class SpeakSocket(DeepgramSocket):
    """``turn`` of a fault counts flushes."""

    @classmethod
    def check(cls, query: Mapping[str, str]) -> None:
        check_speak(query)

    def __init__(self, request: web.Request, websocket: web.WebSocketResponse, actor: Actor, journal: Journal) -> None:
        super().__init__(request, websocket, actor, journal)
        self._query = request.query
        self._format = format_of(self._query["encoding"], int(self._query["sample_rate"]))
        self._text = ""
        self._flushed: deque[str] = deque()
        self._task: asyncio.Task[None] | None = None
        self._sequence = count()
        self._turns = count(1)
        self._flushes: deque[float] = deque(maxlen=MAX_FLUSHES)

    async def began(self) -> None:
        metadata = {"request_id": REQUEST_ID, "model_name": self._query["model"], "model_version": "2026-01-01.0"}
        await self.send({"type": "Metadata", **metadata, "model_uuid": MODEL_UUID})
        await self.misbehave("setup")

    async def ended(self) -> None:
        await self._stop()

    async def take_audio(self, audio: bytes) -> None:
        raise DeepgramRefusalError("UNPARSABLE_CLIENT_MESSAGE", "A voice takes no audio")

    async def take_text(self, text: str) -> None:
        match _read(text):
            case {"type": "Speak", "text": str() as words}:
                if len(words) > MAX_TEXT_CHARACTERS:
                    raise DeepgramRefusalError("DATA-0001", f"A text has more than {MAX_TEXT_CHARACTERS} characters")
                self._text += words
            case {"type": "Flush"}:
                await self._flush()
            case {"type": "Clear"}:
                await self._clear()
            case {"type": "Close"}:
                if self._task is not None:
                    await self._task
                await self._websocket.close(code=1000)
            case _:
                raise DeepgramRefusalError("UNPARSABLE_CLIENT_MESSAGE", text[:80])

    async def _flush(self) -> None:
        now = asyncio.get_running_loop().time()
        if len(self._flushes) == MAX_FLUSHES and now - self._flushes[0] < FLUSHES_S:
            self.journal.problems.append(f"More than {MAX_FLUSHES} Flush within {FLUSHES_S:g} s")
            description = "The maximum number of Flush messages has been exceeded."
            await self.send({"type": "Warning", "code": "EXCEEDED_FLUSH_LIMIT", "description": description})
            return
        self._flushes.append(now)
        text, self._text = self._text, ""
        self._flushed.append(text)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._speak_all())

    async def _clear(self) -> None:
        spoke = await self._stop()
        self._text = ""
        fault = await self.misbehave("interrupted") if spoke else None
        if fault is not None and fault.do == "late_audio":
            await self.send_audio(b"\xff" * ODD_BYTES)
        await self.send({"type": "Cleared", "sequence_id": next(self._sequence)})

    async def _stop(self) -> bool:
        self._flushed.clear()
        if self._task is None or self._task.done():
            return False
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        return True

    async def _speak_all(self) -> None:
        with suppress(ConnectionError):
            while self._flushed:
                await self._speak(self._flushed.popleft())

    async def _speak(self, text: str) -> None:
        turn = next(self._turns)
        fault = await self.misbehave("turn", turn)
        per_ms = self._format.bytes_per_ms
        pieces = pieces_of(spoken(text.strip(), self._format), fault, self.actor.script.chunk_ms * per_ms | 1)
        for index, piece in enumerate(pieces):
            if index == len(pieces) // 2:
                await self.misbehave("audio", turn)
            await self.send_audio(piece)
            pace = self.actor.script.pace
            await asyncio.sleep(len(piece) / per_ms / 1000 / pace if pace else 0)
        await self.send({"type": "Flushed", "sequence_id": next(self._sequence)})


def _read(text: str) -> Mapping[str, Any]:
    """Raises ``DeepgramRefusalError``."""
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise DeepgramRefusalError("UNPARSABLE_CLIENT_MESSAGE", str(error)) from None
