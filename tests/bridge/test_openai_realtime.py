"""OpenAI Realtime against its simulator, over real sockets."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from tests.bridge.provider_talk import Talk
from tests.bridge.provider_talk import talk as provider_talk

from offhook.bridge.codec import AudioDone, Begin, Ready, ResponseDone, ResponseStarted
from offhook.bridge.openai_realtime import provider
from offhook.model.audio import L16_24K, PCMA_8K, PCMU_8K, AudioFormat
from offhook.simulators.openai_realtime import OpenAiSimulator
from offhook.simulators.script import Script, Turn
from offhook.simulators.voice import spoken


def talk(script: Script | None = None, **how: Any) -> AbstractAsyncContextManager[Talk]:
    return provider_talk(provider, OpenAiSimulator(script or Script()), name="openai", path="/v1", **how)


@pytest.mark.parametrize("audio_format", [PCMU_8K, PCMA_8K, L16_24K], ids=["PCMU", "PCMA", "L16"])
async def test_greets_in_the_agreed_format_byte_for_byte(audio_format: AudioFormat) -> None:
    async with talk(audio_format=audio_format, agent={"greeting": "Hello, this is Ann."}) as t:
        t.connection.send(Begin())
        item = await t.hears_all("Hello, this is Ann.", spoken("Hello, this is Ann.", audio_format))
        await t.listener.until(lambda: "ResponseDone" in t.listener.names())
        kinds = Ready | ResponseStarted | AudioDone | ResponseDone
        assert [event for event in t.listener.events if isinstance(event, kinds)] == [
            Ready(), ResponseStarted(), AudioDone(item=item), ResponseDone(),
        ]  # fmt: skip
        assert t.journal.problems == []


async def test_hears_the_caller_byte_for_byte_and_answers() -> None:
    script = Script(turns=(Turn(hears="what time is it", says="It is noon."),))
    async with talk(script) as t:
        t.say_something()
        await t.hears_all("It is noon.", spoken("It is noon.", PCMU_8K))
        assert bytes(t.journal.audio_of[1]) == t.spoken
        assert t.listener.heard() == ["what time is it"]
