"""OpenAI's own client talks with the simulated servers, as with any server that speaks as OpenAI does."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest

from offhook.audio.tones import tone
from offhook.audio.wav import read_wav, write_wav
from offhook.model.audio import L16_16K, AudioFormat, Encoding
from offhook.simulators.script import Script, ScriptedTool, Turn
from offhook.simulators.self_hosted import SelfHostedSimulator
from offhook.simulators.stage import Stage
from offhook.simulators.voice import spoken

WEATHER = ScriptedTool(name="weather", arguments={"city": "Ulm"})

SCRIPT = Script(
    turns=(
        Turn(
            hears="what is the weather",
            tools=(ScriptedTool(name="weather", arguments={"city": "Ulm"}),),
            says="{weather}",
        ),
        Turn(hears="tell me a story", says="There was a ship. It sank."),
        Turn(hears="goodbye", says="Goodbye.", ends_call=True),
    )
)

TOOLS: Any = [{"type": "function", "function": {"name": name, "parameters": {}}} for name in ("weather", "end_call")]

L16_24K = AudioFormat(encoding=Encoding.L16, sample_rate_hz=24000)


@asynccontextmanager
async def client(simulator: SelfHostedSimulator) -> AsyncIterator[openai.AsyncOpenAI]:
    async with (
        Stage(simulator) as stage,
        openai.AsyncOpenAI(base_url=f"{stage.url}/v1", api_key="x", max_retries=0) as sdk,
    ):
        yield sdk


def utterance() -> io.BytesIO:
    file = io.BytesIO(write_wav(L16_16K, tone(440, 600, -12, Encoding.L16, sample_rate_hz=16000)))
    file.name = "turn.wav"
    return file


async def completion(sdk: openai.AsyncOpenAI, messages: list[Any]) -> tuple[str, list[Any], Any]:
    """What is said, the calls put together by their index, and the usage."""
    stream = await sdk.chat.completions.create(
        model="sim-chat", messages=messages, tools=TOOLS, stream=True, stream_options={"include_usage": True}
    )
    text, calls, usage = "", dict[int, Any](), None
    async for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            for call in choice.delta.tool_calls or ():
                known = calls.setdefault(call.index, {"id": call.id, "type": "function", "function": {"arguments": ""}})
                assert call.function is not None
                known["function"]["arguments"] += call.function.arguments or ""
                if call.function.name:
                    known["function"]["name"] = call.function.name
    return text, list(calls.values()), usage


async def test_a_turn_is_understood_answered_with_a_tool_and_spoken() -> None:
    simulator = SelfHostedSimulator(SCRIPT, thinks=False)
    async with client(simulator) as sdk:
        heard = await sdk.audio.transcriptions.create(file=utterance(), model="sim-whisper")
        messages: list[Any] = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": heard.text}]
        text, calls, usage = await completion(sdk, messages)
        assert (heard.text, text) == ("what is the weather", "")
        assert json.loads(calls[0]["function"]["arguments"]) == {"city": "Ulm"}
        assert usage.prompt_tokens > 0
        messages += [
            {"role": "assistant", "tool_calls": calls},
            {"role": "tool", "tool_call_id": calls[0]["id"], "content": "Sunny."},
        ]
        text, calls, _ = await completion(sdk, messages)
        assert (text, calls) == ("Sunny.", [])
        speech = await sdk.audio.speech.create(model="sim-voice", voice="x", input=text, response_format="pcm")
        assert await speech.aread() == spoken("Sunny.", L16_24K)
    assert simulator.journal.problems == []


async def test_transcripts_stream_and_follow_the_script() -> None:
    async with client(SelfHostedSimulator(SCRIPT)) as sdk:
        await sdk.audio.transcriptions.create(file=utterance(), model="sim-whisper")
        stream = await sdk.audio.transcriptions.create(file=utterance(), model="sim-whisper", stream=True)
        events = [event async for event in stream]
    assert (
        "".join(event.delta for event in events if event.type == "transcript.text.delta").strip() == "tell me a story"
    )
    assert events[-1].type == "transcript.text.done"


async def test_thoughts_come_both_ways() -> None:
    async with client(SelfHostedSimulator(SCRIPT)) as sdk:
        text, _, _ = await completion(sdk, [{"role": "user", "content": "what is the time"}])
        assert text.startswith("<think>")


async def test_the_last_turn_hangs_up_by_the_tool() -> None:
    async with client(SelfHostedSimulator(SCRIPT, thinks=False)) as sdk:
        said = [{"role": "user", "content": turn.hears} for turn in SCRIPT.turns]
        text, calls, _ = await completion(sdk, said)
    assert text == "Goodbye."
    assert calls[0]["function"]["name"] == "end_call"


async def test_without_a_format_mp3_is_sent_and_with_wav_the_rate_is_told() -> None:
    simulator = SelfHostedSimulator(SCRIPT, rate_hz=16000)
    async with client(simulator) as sdk:
        speech = await sdk.audio.speech.create(model="sim-voice", voice="x", input="Hello.")
        assert (await speech.aread())[:2] == b"\xff\xfb"
        assert simulator.journal.problems
        wav = await sdk.audio.speech.create(model="sim-voice", voice="x", input="Hello.", response_format="wav")
        assert read_wav(await wav.aread()) == (L16_16K, spoken("Hello.", L16_16K))


async def test_calls_without_results_are_refused() -> None:
    async with client(SelfHostedSimulator(SCRIPT)) as sdk:
        calls = [{"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}]
        with pytest.raises(openai.BadRequestError, match="must be followed"):
            await completion(sdk, [{"role": "assistant", "tool_calls": calls}, {"role": "user", "content": "well?"}])


async def test_models_are_listed() -> None:
    async with client(SelfHostedSimulator(SCRIPT)) as sdk:
        assert [model.id async for model in sdk.models.list()] == ["sim-chat", "sim-whisper", "sim-voice"]
