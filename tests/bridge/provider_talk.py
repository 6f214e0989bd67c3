"""A talk between a provider's connection and its simulator, over real sockets, as the call layer would hold it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.bridge.recording_listener import RecordingListener

from offhook.audio.g711 import silence
from offhook.audio.tones import tone
from offhook.bridge.codec import (
    BridgeConnection,
    BridgeEvent,
    BridgeRequest,
    Provider,
    Ready,
    ToolSpec,
    TranscriptDelta,
    Utterance,
)
from offhook.bridge.options import ProviderAccess
from offhook.bridge.outside import Outside
from offhook.bridge.provider_http import ProviderHttp
from offhook.model.audio import FRAME_MS, PCMU_8K, AudioFormat
from offhook.model.records import Agent
from offhook.simulators.stage import Journal, Simulator, Stage

SPEECH_MS, PAUSE_MS = 600, 800

POLL_S = 0.005


@dataclass
class Output:
    """Implements ``CodecOutput``; keeps all that comes."""

    audio: dict[str, bytes] = field(default_factory=dict)
    events: list[BridgeEvent] = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)

    def audio_out(self, item: str, audio: bytes) -> None:
        self.audio[item] = self.audio.get(item, b"") + audio

    def bridge_event(self, event: BridgeEvent) -> None:
        self.events.append(event)

    def send(self, message: bytes) -> None:
        self.sent.append(message)


def frames_of(audio: bytes, audio_format: AudioFormat) -> Sequence[bytes]:
    size = audio_format.frame_bytes
    return [audio[at : at + size] for at in range(0, len(audio), size)]


def speech(audio_format: AudioFormat, ms: int = SPEECH_MS) -> bytes:
    """What a voice detector takes for a voice."""
    return tone(440, ms, -12, audio_format.encoding, sample_rate_hz=audio_format.sample_rate_hz)


class Talk:
    def __init__(self, connection: BridgeConnection, listener: RecordingListener, journal: Journal, fmt: AudioFormat):
        self.connection = connection
        self.listener = listener
        self.journal = journal
        self.format = fmt
        self.spoken = b""

    def speak(self, ms: int = SPEECH_MS) -> None:
        """As fast as it goes: the other side counts frames, not seconds."""
        audio = speech(self.format, ms)
        self.spoken += audio
        for frame in frames_of(audio, self.format):
            self.connection.send_audio(frame)

    def be_silent(self, ms: int = PAUSE_MS) -> None:
        for _ in range(ms // FRAME_MS):
            self.spoken += silence(self.format)
            self.connection.send_audio(silence(self.format))

    def say_something(self) -> None:
        self.speak()
        self.be_silent()

    async def hears(self, text: str) -> str:
        """The agent has said ``text``; the name of its item."""
        await self.listener.until(lambda: text in self.listener.said())
        return next(d.item for d in self.listener.of(TranscriptDelta) if d.final and d.text == text)

    async def hears_all(self, text: str, audio: bytes) -> str:
        item = await self.hears(text)
        await self.listener.until(lambda: len(self.listener.audio.get(item, b"")) >= len(audio))
        assert self.listener.audio[item] == audio
        return item

    async def sent(self, needle: str) -> str:
        """The provider got a message that holds this."""

        def found() -> str | None:
            texts = (m.data for m in self.journal.received if isinstance(m.data, str))
            return next((text for text in texts if needle in text), None)

        await until(lambda: found() is not None)
        return found() or ""


async def until(condition: Callable[[], bool], within_s: float = 10.0) -> None:
    """What no event tells of, at the other end of a socket."""
    for _ in range(round(within_s / POLL_S)):
        if condition():
            return
        await asyncio.sleep(POLL_S)
    raise AssertionError("it did not happen")


@asynccontextmanager
async def talk(
    provider: Callable[[Outside], Provider],
    simulator: Simulator,
    *,
    name: str,
    options: Mapping[str, Any] | None = None,
    agent: Mapping[str, Any] | None = None,
    audio_format: AudioFormat = PCMU_8K,
    output_format: AudioFormat | None = None,
    tools: tuple[ToolSpec, ...] = (),
    history: Sequence[Utterance] = (),
    greets: bool = True,
    api_key: str = "key",
    path: str = "",
) -> AsyncIterator[Talk]:
    """Open and ready. ``provider`` is its module's function of that name; ``output_format`` None: as the input;
    ``path``: of the base URL.
    """
    async with Stage(simulator) as stage:
        http = ProviderHttp()
        outside = Outside(http=http, accesses={name: ProviderAccess(api_key=api_key, base_url=stage.url + path)})
        made: Provider = provider(outside)
        listener = RecordingListener()
        request = BridgeRequest(
            call_id="call-1",
            agent=Agent(agent_id="a", provider=name, options=options or {}, by_operator=True, **(agent or {})),
            input_format=audio_format,
            output_format=output_format or audio_format,
            listener=listener,
            tools=tools,
            history=lambda: history,
            greets=greets,
        )
        connection = made.factory(request)
        try:
            await connection.open()
            await listener.until(lambda: bool(listener.of(Ready)))
            yield Talk(connection, listener, simulator.journal, audio_format)
        finally:
            await connection.close()
            await http.close()
