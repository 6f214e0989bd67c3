"""Parts of a cascade that do what a test says, and a conversation through them: no socket, no clock."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

from tests.bridge.recording_listener import RecordingListener

from offhook.audio.g711 import silence
from offhook.bridge.cascade.pipeline import Parts, PipelineConnection
from offhook.bridge.cascade.ports import (
    Aligned,
    ContextDone,
    EagerEnd,
    EndOfTurn,
    LlmEvent,
    SpeechBegan,
    SttEvent,
    TextPiece,
    TtsListener,
)
from offhook.bridge.codec import BridgeProfile, BridgeRequest, ToolSpec
from offhook.model.audio import FRAME_MS, PCMU_8K
from offhook.model.errors import BridgeError
from offhook.model.records import Agent

PROFILE = BridgeProfile(provider="toy", input_formats=(PCMU_8K,), output_formats=(PCMU_8K,), exact_say=True)

MS_PER_CHARACTER = 50


class ToyRecogniser:
    def __init__(self, tell: Callable[[SttEvent], None]) -> None:
        self.tell = tell
        self.frames = 0
        self.closed = False

    async def open(self) -> None: ...

    def feed(self, frame: bytes) -> None:
        self.frames += 1

    async def close(self) -> None:
        self.closed = True


class ToyModel:
    """``answers``: what comes, one for each request; a ``BridgeError`` is raised. It waits while ``gate`` is shut."""

    def __init__(self) -> None:
        self.answers: list[list[LlmEvent | BridgeError]] = []
        self.asked: list[list[dict[str, Any]]] = []
        self.aborted = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def open(self) -> None: ...

    async def stream(self, messages: bytes, tools: Sequence[ToolSpec]) -> AsyncGenerator[LlmEvent, None]:
        self.asked.append(json.loads(messages))
        answer = self.answers.pop(0) if self.answers else [TextPiece(text="I see.")]
        try:
            for event in answer:
                await self.gate.wait()
                if isinstance(event, BridgeError):
                    raise event
                yield event
        except (asyncio.CancelledError, GeneratorExit):
            self.aborted += 1
            raise


class ToyVoice:
    """Speaks when ``speak`` is called, or at once."""

    aligns = True

    def __init__(self, listener: TtsListener) -> None:
        self.listener = listener
        self.at_once = True
        self.said: dict[str, list[str]] = {}
        self.cancelled: list[str] = []

    async def open(self) -> None: ...

    def begin(self, context: str) -> None:
        self.said[context] = []

    def say(self, context: str, text: str) -> None:
        self.said[context].append(text)
        if self.at_once:
            self.speak(context, text)

    def speak(self, context: str, text: str) -> None:
        at = "".join(self.said[context]).index(text)
        for word in text.split():
            at = "".join(self.said[context]).index(word, at)
            self.listener.tts_event(Aligned(context=context, text=word, at_ms=at * MS_PER_CHARACTER))
            at += len(word)
        self.listener.tts_audio(context, bytes(len(text) * MS_PER_CHARACTER * 8))

    def finish(self, context: str) -> None:
        if self.at_once:
            self.end(context)

    def end(self, context: str) -> None:
        self.listener.tts_event(ContextDone(context=context))

    def cancel(self, context: str) -> None:
        self.cancelled.append(context)

    async def close(self) -> None: ...


class ToyCascade:
    def __init__(self, **agent: Any) -> None:
        self.listener = RecordingListener()
        self.model = ToyModel()
        self.request = BridgeRequest(
            call_id="c1",
            agent=Agent(agent_id="a", provider="toy", instructions="Be kind.", **agent),
            input_format=PCMU_8K,
            output_format=PCMU_8K,
            listener=self.listener,
        )
        self.recogniser: ToyRecogniser
        self.voice: ToyVoice
        self.connection = PipelineConnection(
            self.request, PROFILE, Parts(recogniser=self._recogniser, model=self.model, voice=self._voice)
        )

    def _recogniser(self, tell: Callable[[SttEvent], None]) -> ToyRecogniser:
        self.recogniser = ToyRecogniser(tell)
        return self.recogniser

    def _voice(self, listener: TtsListener) -> ToyVoice:
        self.voice = ToyVoice(listener)
        return self.voice

    def answers(self, *events: LlmEvent | BridgeError | str) -> None:
        """The next answer of the model."""
        self.model.answers.append([TextPiece(text=event) if isinstance(event, str) else event for event in events])

    def hear(self, *events: SttEvent) -> None:
        for event in events:
            self.recogniser.tell(event)

    def caller_says(self, text: str) -> None:
        self.hear(SpeechBegan(), EagerEnd(text=text), EndOfTurn(text=text))

    def pass_time(self, ms: int) -> None:
        for _ in range(ms // FRAME_MS):
            self.connection.send_audio(silence(PCMU_8K))

    async def settle(self) -> None:
        """Everything that can happen now has happened."""
        for _ in range(20):
            await asyncio.sleep(0)

    def roles(self) -> list[str]:
        """Of the last request's messages."""
        return [message["role"] for message in self.model.asked[-1]]
