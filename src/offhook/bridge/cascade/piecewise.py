"""Makes a ``Voice`` of anything that turns one piece of text into audio: pieces in order, the next one asked for early.

The next request is made when the first sound of the present one is there, so that the caller hears no gap between.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field

from offhook.bridge.cascade.ports import Aligned, ContextDone, TtsEvent, TtsListener
from offhook.bridge.codec import BridgeFault
from offhook.model.audio import AudioFormat
from offhook.model.errors import BridgeError, Verdict

RETRY_S = 0.2

MAX_AHEAD_BYTES = 4 << 20
"""Of the piece that was asked for early: minutes of audio."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sound:
    """``words``: what begins where, in milliseconds of this piece; empty where it is not known."""

    audio: bytes
    words: tuple[tuple[str, int], ...] = ()


MS_PER_CHARACTER = 65
"""Fifteen characters a second, as people speak: words within a piece, where nothing says where they are."""

Speak = Callable[[str], AsyncGenerator[Sound, None]]
"""One piece of text, in the call's format. Raises ``BridgeError``."""


@dataclass(slots=True)
class _Context:
    pieces: asyncio.Queue[str | None] = field(default_factory=asyncio.Queue)
    audio_bytes: int = 0
    finished: bool = False


class PiecewiseVoice:
    """Implements ``Voice``. A piece that fails before its first sound is asked for once more."""

    aligns = True

    def __init__(self, speak: Speak, listener: TtsListener, output_format: AudioFormat) -> None:
        self._speak = speak
        self._listener = listener
        self._bytes_per_ms = output_format.bytes_per_ms
        self._contexts: OrderedDict[str, _Context] = OrderedDict()
        self._speaking: asyncio.Task[None] | None = None
        self._closed = False

    async def open(self) -> None:
        """Nothing to connect to."""

    def begin(self, context: str) -> None:
        if not self._closed:
            self._contexts.setdefault(context, _Context())
            self._next()

    def say(self, context: str, text: str) -> None:
        known = self._contexts.get(context)
        if known is not None and not known.finished:
            known.pieces.put_nowait(text)

    def finish(self, context: str) -> None:
        known = self._contexts.get(context)
        if known is not None and not known.finished:
            known.finished = True
            known.pieces.put_nowait(None)

    def cancel(self, context: str) -> None:
        current = next(iter(self._contexts), None)
        self._contexts.pop(context, None)
        if context == current and self._speaking is not None:
            self._speaking.cancel()
            self._speaking = None
            self._next()

    async def close(self) -> None:
        self._closed = True
        self._contexts.clear()
        speaking, self._speaking = self._speaking, None
        if speaking is not None:
            speaking.cancel()
            await asyncio.gather(speaking, return_exceptions=True)

    def _next(self) -> None:
        if self._speaking is None and self._contexts:
            name, context = next(iter(self._contexts.items()))
            self._speaking = asyncio.create_task(self._run(name, context))

    async def _run(self, name: str, context: _Context) -> None:
        try:
            await self._speak_all(name, context)
        except BridgeError as error:
            verdict: Verdict = "fall_over" if error.verdict == "retry" else error.verdict
            self._listener.tts_event(BridgeFault(problem=error.problem, verdict=verdict))
            return
        self._speaking = None
        self._contexts.pop(name, None)
        self._listener.tts_event(ContextDone(context=name))
        self._next()

    async def _speak_all(self, name: str, context: _Context) -> None:
        piece = await self._take(context)
        ahead: _Ahead | None = None
        try:
            while piece is not None:
                asked = False
                async with aclosing(piece.sounds()) as sounds:
                    first = True
                    async for sound in sounds:
                        self._tell(name, context, piece.text, sound, first=first)
                        first = False
                        if not asked and not context.pieces.empty():
                            ahead, asked = await self._take(context), True
                piece, ahead = (ahead if asked else await self._take(context)), None
        finally:
            if ahead is not None:
                await ahead.close()

    async def _take(self, context: _Context) -> _Ahead | None:
        text = await context.pieces.get()
        return _Ahead(self._speak, text, self._listener.tts_event) if text is not None else None

    def _tell(self, name: str, context: _Context, text: str, sound: Sound, *, first: bool) -> None:
        at_ms = context.audio_bytes // self._bytes_per_ms
        for word, word_ms in sound.words or (_estimated(text) if first else ()):
            self._listener.tts_event(Aligned(context=name, text=word, at_ms=at_ms + word_ms))
        context.audio_bytes += len(sound.audio)
        if sound.audio:
            self._listener.tts_audio(name, sound.audio)


class _Ahead:
    """One piece being made, whether or not it is its turn yet."""

    def __init__(self, speak: Speak, text: str, tell: Callable[[TtsEvent], None]) -> None:
        self.text = text
        self._tell = tell
        self._speak = speak
        self._sounds: asyncio.Queue[Sound | BridgeError | None] = asyncio.Queue()
        self._bytes = 0
        self._task = asyncio.create_task(self._make())

    async def sounds(self) -> AsyncGenerator[Sound, None]:
        """Raises ``BridgeError``."""
        try:
            while (sound := await self._sounds.get()) is not None:
                if isinstance(sound, BridgeError):
                    raise sound
                yield sound
        finally:
            await self.close()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _make(self) -> None:
        for attempt in (1, 2):
            try:
                await self._attempt()
                self._sounds.put_nowait(None)
                return
            except BridgeError as error:
                if attempt == 2 or error.verdict != "retry" or self._bytes:
                    self._sounds.put_nowait(error)
                    return
                self._tell(BridgeFault(problem=error.problem, verdict="retry"))
            await asyncio.sleep(RETRY_S)

    async def _attempt(self) -> None:
        async with aclosing(self._speak(self.text)) as sounds:
            async for sound in sounds:
                self._bytes += len(sound.audio)
                self._sounds.put_nowait(sound)
                if self._bytes > MAX_AHEAD_BYTES:
                    return


def _estimated(text: str) -> tuple[tuple[str, int], ...]:
    """The beginning of a piece is known; its words follow as they would if a person said them."""
    places: list[tuple[str, int]] = []
    at = 0
    for word in text.split():
        at = text.index(word, at)
        places.append((word, at * MS_PER_CHARACTER))
        at += len(word)
    return tuple(places)
