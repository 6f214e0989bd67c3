"""A talk with OpenAI Realtime's simulator, over real sockets, and how it is looked at."""

from __future__ import annotations

import json
from contextlib import AbstractAsyncContextManager
from typing import Any

from tests.bridge.provider_talk import Talk
from tests.bridge.provider_talk import talk as provider_talk

from offhook.bridge.codec import (
    ToolSpec,
    UsageReported,
)
from offhook.bridge.openai_realtime import provider
from offhook.simulators.openai_realtime import OpenAiSimulator
from offhook.simulators.script import Script

WEATHER = ToolSpec(
    name="weather",
    description="What the weather is.",
    parameters='{"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}',
)


def talk(script: Script | None = None, **how: Any) -> AbstractAsyncContextManager[Talk]:
    return provider_talk(provider, OpenAiSimulator(script or Script()), name="openai", path="/v1", **how)


def kind_of(message: str | bytes) -> str:
    return str(json.loads(message)["type"])


def sent(t: Talk, kind: str) -> list[dict[str, Any]]:
    events = (json.loads(message.data) for message in t.journal.received if message.data)
    return [event for event in events if event["type"] == kind]


def kinds(t: Talk) -> list[str]:
    return [kind_of(message.data) for message in t.journal.received if message.data]


def units(t: Talk) -> set[str]:
    return {event.units for event in t.listener.of(UsageReported)}
