"""Any recogniser with any voice: each pair holds a conversation, and what it says arrives byte for byte."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack

import pytest
from tests.bridge.recording_listener import RecordingListener

from offhook.audio.g711 import silence
from offhook.audio.tones import tone
from offhook.bridge.cascade.provider import pipeline
from offhook.bridge.codec import AudioDone, Begin, BridgeConnection, BridgeFault, BridgeRequest
from offhook.bridge.options import ProviderAccess
from offhook.bridge.outside import Outside
from offhook.bridge.provider_http import ProviderHttp
from offhook.model.audio import PCMA_8K, PCMU_8K, AudioFormat
from offhook.model.records import Agent
from offhook.simulators.cartesia import CartesiaSimulator
from offhook.simulators.deepgram import DeepgramSimulator
from offhook.simulators.elevenlabs_tts import ElevenLabsTtsSimulator
from offhook.simulators.openai_realtime import OpenAiSimulator
from offhook.simulators.script import Script, Turn
from offhook.simulators.self_hosted import SelfHostedSimulator
from offhook.simulators.stage import Simulator, Stage
from offhook.simulators.voice import spoken

SCRIPT = Script(turns=(Turn(hears="is it open", says="Yes, until six."),))

EARS: Mapping[str, tuple[Callable[[Script], Simulator], str]] = {
    "cartesia": (CartesiaSimulator, ""),
    "deepgram": (DeepgramSimulator, ""),
    "openai": (OpenAiSimulator, "/v1"),
}
VOICES: Mapping[str, Callable[[Script], Simulator]] = {
    "cartesia": CartesiaSimulator,
    "deepgram": DeepgramSimulator,
    "elevenlabs": ElevenLabsTtsSimulator,
}


async def talk(connection: BridgeConnection, listener: RecordingListener, audio_format: AudioFormat) -> None:
    """The caller says something once the greeting is over, and listens until it is answered."""
    connection.send(Begin())
    await listener.until(lambda: len(listener.of(AudioDone)) == 1)
    audio = silence(audio_format) * 100 + tone(440, 600, -12, audio_format.encoding)
    for at in range(0, len(audio), 160):
        connection.send_audio(audio[at : at + 160])
    async with asyncio.timeout(20):
        while len(listener.of(AudioDone)) < 2 and not listener.of(BridgeFault):
            connection.send_audio(silence(audio_format))
            await asyncio.sleep(0.002)


@pytest.mark.parametrize("audio_format", [PCMU_8K, PCMA_8K], ids=["PCMU", "PCMA"])
@pytest.mark.parametrize("voice", VOICES)
@pytest.mark.parametrize("ear", EARS)
async def test_they_understand_each_other(ear: str, voice: str, audio_format: AudioFormat) -> None:
    make_ear, path = EARS[ear]
    listening, thinking, speaking = make_ear(SCRIPT), SelfHostedSimulator(SCRIPT), VOICES[voice](Script())
    listener = RecordingListener()
    async with AsyncExitStack() as stack:
        stages = [await stack.enter_async_context(Stage(one)) for one in (listening, thinking, speaking)]
        http = ProviderHttp()
        stack.push_async_callback(http.close)
        options = {
            "stt_provider": ear,
            "stt_base_url": stages[0].url + path,
            "llm_base_url": f"{stages[1].url}/v1",
            "llm_model": "sim-chat",
            "tts_provider": voice,
            "tts_base_url": stages[2].url,
            "tts_voice": "aura-2-thalia-en" if voice == "deepgram" else "someone",
        }
        keys = {name: ProviderAccess(api_key="k") for name in (*EARS, *VOICES)}
        request = BridgeRequest(
            call_id="c",
            agent=Agent(agent_id="a", provider="pipeline", greeting="Good morning.", options=options, by_operator=True),
            input_format=audio_format,
            output_format=audio_format,
            listener=listener,
        )
        connection = pipeline(Outside(http=http, accesses=keys)).factory(request)
        stack.push_async_callback(connection.close)
        await connection.open()
        await talk(connection, listener, audio_format)
    assert listener.of(BridgeFault) == []
    assert listener.heard() == ["is it open"]
    assert [listener.audio[done.item] for done in listener.of(AudioDone)] == [
        spoken("Good morning.", audio_format),
        spoken("Yes, until six.", audio_format),
    ]
    assert [*listening.journal.problems, *thinking.journal.problems, *speaking.journal.problems] == []
