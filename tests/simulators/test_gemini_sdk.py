"""Google's own client holds conversations with the simulator, by TLS, and finds nothing to complain about."""

from __future__ import annotations

import asyncio
import ssl
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from offhook.audio.g711 import silence
from offhook.audio.tones import tone
from offhook.cli.passing_certificate import passing_certificate
from offhook.model.audio import L16_16K, L16_24K, Encoding
from offhook.simulators.gemini_live import GeminiSimulator
from offhook.simulators.script import Script, ScriptedTool, Turn
from offhook.simulators.stage import Stage
from offhook.simulators.voice import spoken

with warnings.catch_warnings():  # of what it is built on
    warnings.simplefilter("ignore")
    from google import genai
    from google.genai import errors, types
    from google.genai.live import AsyncSession

LONG = "This is a very long story about a ship that went to sea and never came home again."

MODEL = "gemini-3.8-live"

SPEECH = tone(440, 600, -12, Encoding.L16, sample_rate_hz=16000)
SILENCE = silence(L16_16K) * 40


class Talk:
    def __init__(self, session: AsyncSession, simulator: GeminiSimulator) -> None:
        self.session = session
        self.simulator = simulator

    async def speak(self, audio: bytes = SPEECH) -> None:
        step = 2 * L16_16K.frame_bytes
        for at in range(0, len(audio), step):
            blob = types.Blob(data=audio[at : at + step], mime_type="audio/pcm;rate=16000")
            await self.session.send_realtime_input(audio=blob)

    async def say_something(self) -> None:
        await self.speak()
        await self.speak(SILENCE)

    async def turn(self) -> list[types.LiveServerMessage]:
        """All messages up to the end of a turn, or to a tool call."""
        messages = []
        async with asyncio.timeout(20):
            async for message in self.session.receive():
                messages.append(message)
                if message.tool_call is not None or message.tool_call_cancellation is not None:
                    break
        return messages


@asynccontextmanager
async def connected(simulator: GeminiSimulator, folder: Path, **config: Any) -> AsyncIterator[Talk]:
    simulator.playback_speed = 10.0
    context, authority = passing_certificate(folder, "127.0.0.1")
    async with Stage(simulator, tls=context) as stage:
        trust = ssl.create_default_context(cafile=str(authority))
        options = types.HttpOptions(base_url=stage.url, async_client_args={"ssl": trust, "verify": trust})
        client = genai.Client(api_key="key", http_options=options)
        settings = types.LiveConnectConfig(
            response_modalities=[types.Modality.AUDIO],
            input_audio_transcription=types.AudioTranscriptionConfig(),
            output_audio_transcription=types.AudioTranscriptionConfig(),
            **config,
        )
        try:
            async with client.aio.live.connect(model=MODEL, config=settings) as session:
                yield Talk(session, simulator)
        finally:
            await client.aio.aclose()
            client.close()


def audio_of(messages: list[types.LiveServerMessage]) -> bytes:
    return b"".join(
        part.inline_data.data or b""
        for message in messages
        if message.server_content is not None and message.server_content.model_turn is not None
        for part in message.server_content.model_turn.parts or ()
        if part.inline_data is not None
    )


def words_of(messages: list[types.LiveServerMessage], which: str) -> str:
    contents = [message.server_content for message in messages if message.server_content is not None]
    pieces = [getattr(content, which) for content in contents]
    return "".join(piece.text for piece in pieces if piece is not None)


async def test_greets_listens_and_answers(tmp_path: Path) -> None:
    simulator = GeminiSimulator(Script(turns=(Turn(hears="what time is it", says="It is noon."),)))
    speech = types.SpeechConfig(
        voice_config=types.VoiceConfig(prebuilt_voice_config=types.PrebuiltVoiceConfig(voice_name="Kore"))
    )
    detection = types.AutomaticActivityDetection(silence_duration_ms=400, prefix_padding_ms=20)
    async with connected(
        simulator,
        tmp_path,
        speech_config=speech,
        system_instruction="Be kind.",
        realtime_input_config=types.RealtimeInputConfig(automatic_activity_detection=detection),
        session_resumption=types.SessionResumptionConfig(),
        context_window_compression=types.ContextWindowCompressionConfig(
            trigger_tokens=100_000, sliding_window=types.SlidingWindow(target_tokens=50_000)
        ),
    ) as talk:
        greeting = types.Content(role="user", parts=[types.Part(text='Greet the caller: "Welcome."')])
        await talk.session.send_client_content(turns=greeting, turn_complete=True)
        said = await talk.turn()
        assert (words_of(said, "output_transcription"), audio_of(said)) == ("Welcome.", spoken("Welcome.", L16_24K))
        await talk.say_something()
        answered = await talk.turn()
    assert words_of(answered, "input_transcription") == "what time is it"
    assert audio_of(answered) == spoken("It is noon.", L16_24K)
    assert any(one.usage_metadata and one.usage_metadata.response_token_count for one in answered)
    handles = [one.session_resumption_update for one in [*said, *answered] if one.session_resumption_update]
    assert any(update.resumable and update.new_handle for update in handles)
    assert bytes(simulator.journal.audio_of[1]) == SPEECH + SILENCE
    assert simulator.conversations[0].told[0] == "Be kind."
    assert simulator.journal.problems == []


async def test_calls_a_tool_and_takes_its_result(tmp_path: Path) -> None:
    turn = Turn(tools=(ScriptedTool(name="weather", arguments={"city": "Ulm"}),), says="{weather}.")
    simulator = GeminiSimulator(Script(turns=(turn,)))
    declared = types.FunctionDeclaration(
        name="weather",
        description="Tells the weather.",
        behavior=types.Behavior.BLOCKING,
        parameters=types.Schema(type=types.Type.OBJECT, properties={"city": types.Schema(type=types.Type.STRING)}),
    )
    async with connected(simulator, tmp_path, tools=[types.Tool(function_declarations=[declared])]) as talk:
        await talk.say_something()
        call = (await talk.turn())[-1].tool_call
        assert call is not None
        assert call.function_calls is not None
        [function] = call.function_calls
        assert (function.name, function.args) == ("weather", {"city": "Ulm"})
        answer = types.FunctionResponse(id=function.id, name=function.name, response={"output": "sunny"})
        await talk.session.send_tool_response(function_responses=[answer])
        said = await talk.turn()
    assert words_of(said, "output_transcription") == "sunny."
    assert simulator.journal.problems == []


async def test_takes_a_tool_call_back(tmp_path: Path) -> None:
    slow = Turn(tools=(ScriptedTool(name="slow", cancel=True),), says="Never.")
    simulator = GeminiSimulator(Script(turns=(slow,)))
    async with connected(simulator, tmp_path) as talk:
        await talk.say_something()
        call = (await talk.turn())[-1].tool_call
        await talk.speak()
        cancelled = (await talk.turn())[-1].tool_call_cancellation
    assert call is not None
    assert call.function_calls is not None
    assert cancelled is not None
    assert cancelled.ids == [call.function_calls[0].id]


async def test_is_interrupted(tmp_path: Path) -> None:
    simulator = GeminiSimulator(Script(turns=(Turn(says=LONG), Turn(hears="stop", says="I stopped."))))
    async with connected(simulator, tmp_path) as talk:
        await talk.say_something()
        async for message in talk.session.receive():
            if message.server_content is not None and message.server_content.generation_complete:
                break
        await talk.say_something()
        story = await talk.turn()
        answer = await talk.turn()
    assert any(one.server_content is not None and one.server_content.interrupted for one in story)
    assert words_of(answer, "output_transcription") == "I stopped."


async def test_hears_no_end_of_speech_without_silence(tmp_path: Path) -> None:
    simulator = GeminiSimulator(Script(turns=(Turn(says="Yes."),)))
    async with connected(simulator, tmp_path) as talk:
        await talk.speak()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(talk.turn(), 0.2)
        await talk.session.send_realtime_input(audio_stream_end=True)
        assert words_of(await talk.turn(), "output_transcription") == "Yes."


async def test_marks_of_activity_do_where_detection_is_off(tmp_path: Path) -> None:
    simulator = GeminiSimulator(Script(turns=(Turn(hears="one", says="Yes."),)))
    detection = types.AutomaticActivityDetection(disabled=True)
    config = types.RealtimeInputConfig(automatic_activity_detection=detection)
    async with connected(simulator, tmp_path, realtime_input_config=config) as talk:
        await talk.say_something()
        await talk.session.send_realtime_input(activity_start=types.ActivityStart())
        await talk.speak()
        await talk.session.send_realtime_input(activity_end=types.ActivityEnd())
        said = await talk.turn()
    assert (words_of(said, "input_transcription"), words_of(said, "output_transcription")) == ("one", "Yes.")


async def test_says_when_it_will_close_and_closes(tmp_path: Path) -> None:
    simulator = GeminiSimulator(Script())
    async with connected(simulator, tmp_path) as talk:
        session = simulator.conversations[0].session
        assert session is not None
        closing = asyncio.create_task(session.go_away(0.05))
        notices: list[types.LiveServerMessage] = []
        with pytest.raises(errors.APIError, match="Deadline expired"):
            await _all_of(talk.session.receive(), notices)
        await closing
    assert [notice.go_away.time_left for notice in notices if notice.go_away is not None] == ["0.05s"]


async def _all_of(messages: AsyncIterator[types.LiveServerMessage], into: list[types.LiveServerMessage]) -> None:
    async for message in messages:
        into.append(message)


async def test_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    simulator = GeminiSimulator(Script())
    with pytest.raises(errors.APIError, match="1007"):
        async with connected(simulator, tmp_path, enable_affective_dialog=True):
            pass
    assert simulator.journal.problems[0].startswith("1007")
