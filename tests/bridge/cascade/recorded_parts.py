"""What the parts of a cascade put out, kept: of a codec on its own, and of one on a real websocket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from offhook.bridge.cascade.ports import Aligned, ContextDone, EndOfTurn, PartialText, SttEvent, TtsEvent

T = TypeVar("T")

PATIENCE_S = 20.0
"""How long a test waits for what must come; long, because shared machines stall."""


class _Recording:
    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self._changed = asyncio.Event()

    def send(self, message: bytes) -> None:
        self.sent.append(msgspec.json.decode(message))

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    def _note(self) -> None:
        self._changed.set()


class RecordedVoice(_Recording):
    """Implements ``TtsOutput``."""

    def __init__(self) -> None:
        super().__init__()
        self.audio: dict[str, bytes] = {}
        self.events: list[TtsEvent] = []

    def tts_audio(self, context: str, audio: bytes) -> None:
        self.audio[context] = self.audio.get(context, b"") + audio
        self._note()

    def tts_event(self, event: TtsEvent) -> None:
        self.events.append(event)
        self._note()

    def of(self, kind: type[T]) -> list[T]:
        return [event for event in self.events if isinstance(event, kind)]

    def words(self, context: str) -> list[tuple[str, int]]:
        return [(event.text, event.at_ms) for event in self.of(Aligned) if event.context == context]

    def done(self) -> list[str]:
        return [event.context for event in self.of(ContextDone)]


class RecordedEar(_Recording):
    """Implements ``SttOutput``."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[SttEvent] = []

    def stt_event(self, event: SttEvent) -> None:
        self.events.append(event)
        self._note()

    def of(self, kind: type[T]) -> list[T]:
        return [event for event in self.events if isinstance(event, kind)]

    def turns(self) -> list[str]:
        return [event.text for event in self.of(EndOfTurn)]

    def partials(self) -> list[str]:
        return [event.text for event in self.of(PartialText)]

    def names(self) -> list[str]:
        return [type(event).__name__ for event in self.events]
