"""A cascade whose ear and voice are Deepgram's and whose model is one's own: whole conversations by simulators."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from tests.bridge.recording_listener import RecordingListener

from offhook.audio.g711 import silence
from offhook.audio.tones import tone
from offhook.bridge.cascade.provider import pipeline
from offhook.bridge.codec import AudioDone, Begin, BridgeConnection, BridgeFault, BridgeRequest, Interrupt
from offhook.bridge.options import ProviderAccess
from offhook.bridge.outside import Outside
from offhook.bridge.provider_http import ProviderHttp
from offhook.model.audio import PCMA_8K, PCMU_8K, AudioFormat
from offhook.model.records import Agent
from offhook.simulators.deepgram import DeepgramSimulator
from offhook.simulators.script import Fault, Script, Turn
from offhook.simulators.self_hosted import SelfHostedSimulator
from offhook.simulators.stage import Stage
from offhook.simulators.voice import spoken


class Talk:
    """A caller on the line, whose silence is heard as well, a little faster than it would be."""

    def __init__(self, connection: BridgeConnection, listener: RecordingListener, audio_format: AudioFormat) -> None:
        self.connection = connection
        self.listener = listener
        self._format = audio_format

    def speak(self, ms: int = 600) -> None:
        audio = tone(440, ms, -12, self._format.encoding)
        for at in range(0, len(audio), 160):
            self.connection.send_audio(audio[at : at + 160])

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                self.connection.send_audio(silence(self._format))
                await asyncio.sleep(0.002)

    async def hears(self, text: str) -> str:
        """The agent said this; its item."""
        await self.until(lambda: text in self.listener.said())
        return self.listener.of(AudioDone)[-1].item


@asynccontextmanager
async def call(
    script: Script, *, audio_format: AudioFormat = PCMU_8K, faults: tuple[Fault, ...] = (), **options: Any
) -> AsyncIterator[tuple[Talk, SelfHostedSimulator]]:
    """Open and ready. ``faults`` are the ear's and the voice's."""
    deepgram = DeepgramSimulator(Script(turns=script.turns, pace=script.pace, faults=faults))
    model = SelfHostedSimulator(script)
    listener = RecordingListener()
    async with AsyncExitStack() as stack:
        stage, thinking = [await stack.enter_async_context(Stage(one)) for one in (deepgram, model)]
        http = ProviderHttp()
        stack.push_async_callback(http.close)
        outside = Outside(http=http, accesses={"deepgram": ProviderAccess(api_key="k", base_url=stage.url)})
        parts = {"stt_provider": "deepgram", "tts_provider": "deepgram", "llm_model": "m"}
        chosen = {**parts, "llm_base_url": f"{thinking.url}/v1", **options}
        request = BridgeRequest(
            call_id="c",
            agent=Agent(agent_id="a", provider="pipeline", greeting="Good morning.", options=chosen, by_operator=True),
            input_format=audio_format,
            output_format=audio_format,
            listener=listener,
        )
        connection = pipeline(outside).factory(request)
        stack.push_async_callback(connection.close)
        await connection.open()
        yield Talk(connection, listener, audio_format), model
    assert deepgram.journal.problems == []
    assert model.journal.problems == []


@pytest.mark.parametrize("audio_format", [PCMU_8K, PCMA_8K])
@pytest.mark.parametrize("stt_model", ["", "nova-3"])
async def test_greets_listens_and_answers_byte_for_byte(stt_model: str, audio_format: AudioFormat) -> None:
    script = Script(turns=(Turn(hears="is it open", says="Yes, until six."),))
    async with call(script, audio_format=audio_format, stt_model=stt_model) as (talk, model):
        talk.connection.send(Begin())
        greeting = await talk.hears("Good morning.")
        talk.speak()
        answer = await talk.hears("Yes, until six.")
        assert talk.listener.heard() == ["is it open"]
        assert talk.listener.audio[greeting] == spoken("Good morning.", audio_format)
        assert talk.listener.audio[answer] == spoken("Yes, until six.", audio_format)
        asked = [one.data for one in model.journal.received if one.path.endswith("/chat/completions")]
        assert [each["content"] for each in json.loads(asked[-1])["messages"]][-2:] == ["Good morning.", "is it open"]
        assert talk.listener.of(BridgeFault) == []


async def test_what_was_cut_off_is_not_heard_and_the_next_answer_is() -> None:
    story = "This is a very long sentence that goes on and on about nothing at all."
    script = Script(turns=(Turn(hears="tell me", says=story), Turn(hears="stop", says="Yes?")), pace=4)
    async with call(script) as (talk, _):
        talk.speak()
        await talk.until(lambda: bool(talk.listener.audio))
        [item] = talk.listener.audio
        talk.connection.send(Interrupt(item=item, played_ms=200))
        heard = len(talk.listener.audio[item])
        talk.speak()
        answer = await talk.hears("Yes?")
        assert talk.listener.audio[answer] == spoken("Yes?", PCMU_8K)
        assert len(talk.listener.audio[item]) == heard


async def test_an_ear_or_voice_that_breaks_off_is_dialled_again() -> None:
    faults = (Fault(on="turn", turn=1, do="drop", times=2),)
    async with call(Script(turns=(Turn(hears="hello", says="Yes."),)), faults=faults) as (talk, _):
        talk.speak()
        await talk.until(lambda: bool(talk.listener.of(BridgeFault)))
        talk.speak()
        await talk.hears("Yes.")
        assert {fault.verdict for fault in talk.listener.of(BridgeFault)} == {"retry"}
