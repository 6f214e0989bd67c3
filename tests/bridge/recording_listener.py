"""A listener that keeps what a connection delivers, in order, and can be awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from offhook.bridge.codec import BridgeEvent, BridgeRequest, TranscriptDelta
from offhook.model.audio import PCMU_8K, AudioFormat
from offhook.model.records import Agent

E = TypeVar("E", bound=BridgeEvent)

PATIENCE_S = 20.0
"""How long a test waits for what must come; long, because shared machines stall."""


class RecordingListener:
    def __init__(self) -> None:
        self.events: list[BridgeEvent] = []
        self.audio: dict[str, bytes] = {}
        self.times: list[tuple[float, str]] = []
        self._changed = asyncio.Event()

    def audio_out(self, item: str, audio: bytes) -> None:
        self.audio[item] = self.audio.get(item, b"") + audio
        self._note(f"audio {item}")

    def bridge_event(self, event: BridgeEvent) -> None:
        self.events.append(event)
        self._note(type(event).__name__)

    def _note(self, what: str) -> None:
        self.times.append((asyncio.get_running_loop().time(), what))
        self._changed.set()

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    def names(self) -> list[str]:
        return [type(event).__name__ for event in self.events]

    def said(self) -> list[str]:
        """The agent's finished utterances."""
        return [d.text for d in self.of(TranscriptDelta) if d.speaker == "agent" and d.final]

    def heard(self) -> list[str]:
        """The caller's finished utterances."""
        return [d.text for d in self.of(TranscriptDelta) if d.speaker == "caller" and d.final]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


def request_for(
    listener: RecordingListener,
    *,
    provider: str = "scripted",
    audio_format: AudioFormat = PCMU_8K,
    greeting: str = "",
    **options: str,
) -> BridgeRequest:
    agent = Agent(agent_id="a1", provider=provider, greeting=greeting, options=options)
    return BridgeRequest(
        call_id="c1", agent=agent, input_format=audio_format, output_format=audio_format, listener=listener
    )
