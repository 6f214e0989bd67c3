"""The codec of OpenAI Realtime with the test at its other end, message by message."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tests.bridge.recording_listener import RecordingListener, request_for

from offhook.bridge.codec import (
    BridgeEvent,
    ToolSpec,
)
from offhook.bridge.openai_realtime.codec import OpenAiCodec
from offhook.bridge.openai_realtime.options import setup_of
from offhook.bridge.options import ProviderAccess
from offhook.model.records import Agent

ACCESS = ProviderAccess(api_key="key")


@dataclass
class Recorded:
    """Implements ``CodecOutput``."""

    events: list[BridgeEvent] = field(default_factory=list)
    audio: list[tuple[str, bytes]] = field(default_factory=list)
    sent: list[dict[str, Any]] = field(default_factory=list)

    def audio_out(self, item: str, audio: bytes) -> None:
        self.audio.append((item, audio))

    def bridge_event(self, event: BridgeEvent) -> None:
        self.events.append(event)

    def send(self, message: bytes) -> None:
        self.sent.append(json.loads(message))


class Bench:
    """A codec whose session is there; ``says`` is the server's word, ``out`` what came of it since the last look."""

    def __init__(self, *, ready: bool = True, agent: dict[str, Any] | None = None, **options: Any) -> None:
        self.out = Recorded()
        self.codec = codec_of(agent=agent, **options)
        self.codec.opened(self.out)
        if ready:
            self.says("session.updated", session={})
            self.out.events.clear()
            self.out.sent.clear()

    def says(self, kind: str, **fields: Any) -> None:
        self.codec.receive(json.dumps({"type": kind, "event_id": "e", **fields}).encode(), self.out, is_text=True)

    def hears(self, ms: int) -> None:
        for _ in range(ms // 20):
            self.codec.audio(bytes(160), self.out)

    def speaks(self, response: str = "r1", item: str = "i1", *, ms: int = 1000, done: bool = True) -> None:
        """The server's agent says something."""
        self.says("response.created", response={"id": response})
        self.says("response.output_item.added", response_id=response, item={"id": item, "type": "message"})
        self.sound(ms, response, item)
        if done:
            self.says("response.output_audio.done", response_id=response, item_id=item)
            self.says("response.done", response={"id": response, "status": "completed"})

    def sound(self, ms: int, response: str = "r1", item: str = "i1") -> None:
        audio = b64encode(bytes(8 * ms)).decode()
        self.says("response.output_audio.delta", response_id=response, item_id=item, delta=audio)

    def caller_turn(self, ms: int = 400) -> None:
        self.says("input_audio_buffer.speech_started", item_id="u1")
        self.hears(ms)
        self.says("input_audio_buffer.speech_stopped", item_id="u1")
        self.says("input_audio_buffer.committed", item_id="u1")

    def kinds(self) -> list[str]:
        return [event["type"] for event in self.out.sent]

    def names(self) -> list[str]:
        return [type(event).__name__ for event in self.out.events]


def codec_of(
    *,
    agent: dict[str, Any] | None = None,
    tools: Sequence[ToolSpec] = (),
    access: ProviderAccess = ACCESS,
    **options: Any,
) -> OpenAiCodec:
    who = Agent(agent_id="a1", provider="openai", options=options, by_operator=True, **(agent or {}))
    request = replace(request_for(RecordingListener()), agent=who, tools=tuple(tools))
    return OpenAiCodec(request, setup_of(who, access))
