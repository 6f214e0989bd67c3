"""OpenAI's official Python SDK holds conversations with the simulator."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from openai import AsyncOpenAI, AuthenticationError
from openai.resources.realtime.realtime import AsyncRealtimeConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from offhook.audio.g711 import silence
from offhook.audio.tones import tone
from offhook.model.audio import PCMU_8K
from offhook.simulators.openai_realtime import OpenAiSimulator
from offhook.simulators.script import Fault, Script, ScriptedTool, Turn
from offhook.simulators.stage import Stage
from offhook.simulators.voice import spoken

PATIENCE_S = 20.0

PCMU: Any = {"type": "audio/pcmu"}

WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "description": "What the weather is.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


class Sdk:
    """A conversation by the SDK; ``events`` are all that came, as the SDK's own types."""

    def __init__(self, connection: AsyncRealtimeConnection, simulator: OpenAiSimulator) -> None:
        self.connection = connection
        self.simulator = simulator
        self.events: list[Any] = []

    async def until(self, kind: str, *, such: Callable[[Any], bool] = lambda event: True) -> Any:
        """The next event of this type."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                event: Any = await self.connection.recv()
                self.events.append(event)
                if event.type == kind and such(event):
                    return event

    async def set_up(self, **session: Any) -> None:
        heard = {"format": PCMU, "transcription": {"model": "gpt-live-transcribe"}}
        audio: Any = {"input": heard, "output": {"format": PCMU, "voice": "marin"}}
        whole: Any = {"type": "realtime", "audio": audio, **session}
        await self.connection.session.update(session=whole)
        await self.until("session.updated")

    async def speak(self, ms: int = 600, *, silence_ms: int = 700) -> None:
        audio = tone(440, ms, -12, PCMU_8K.encoding) + silence(PCMU_8K) * (silence_ms // 20)
        for at in range(0, len(audio), 160):
            await self.connection.input_audio_buffer.append(audio=base64.b64encode(audio[at : at + 160]).decode())

    def kinds(self) -> list[str]:
        return [event.type for event in self.events]

    def sound(self) -> bytes:
        deltas = [event.delta for event in self.events if event.type == "response.output_audio.delta"]
        return b"".join(base64.b64decode(delta) for delta in deltas)


@asynccontextmanager
async def sdk(script: Script | None = None, *, session_s: float = 3600.0) -> AsyncIterator[Sdk]:
    simulator = OpenAiSimulator(script or Script(), session_s=session_s)
    async with Stage(simulator) as stage:
        client = AsyncOpenAI(api_key="key", base_url=stage.url + "/v1")
        async with client, client.realtime.connect(model="gpt-realtime-2.1") as connection:
            talk = Sdk(connection, simulator)
            await talk.until("session.created")
            yield talk


async def test_a_greeting_a_turn_a_tool_and_an_interruption() -> None:
    turns = (
        Turn(hears="what is the weather", tools=(ScriptedTool(name="weather", arguments={"city": "Ulm"}),),
             says="It is {weather} in Ulm, and it will be so for the rest of the week."),
        Turn(hears="stop", says="I stop."),
    )  # fmt: skip
    async with sdk(Script(turns=turns)) as s:
        await s.set_up(instructions="Be kind.", tools=[WEATHER])
        await s.connection.response.create(response={"instructions": 'Be kind.\n\nSay exactly: "Hello, I am Ann."'})
        done = await s.until("response.done")
        assert s.sound() == spoken("Hello, I am Ann.", PCMU_8K)
        assert done.response.output[0].content[0].transcript == "Hello, I am Ann."

        await s.speak()
        call = await s.until("response.output_item.done")
        assert (call.item.type, call.item.name, call.item.arguments) == ("function_call", "weather", '{"city":"Ulm"}')
        await s.until("response.done")
        heard = [e for e in s.events if e.type == "conversation.item.input_audio_transcription.completed"]
        assert [event.transcript for event in heard] == ["what is the weather"]

        s.events.clear()
        output: Any = {"type": "function_call_output", "call_id": call.item.call_id, "output": "sunny"}
        await s.connection.conversation.item.create(item=output)
        await s.connection.response.create()
        answer = (await s.until("response.done")).response
        item = answer.output[0]
        assert item.content[0].transcript.startswith("It is sunny in Ulm")
        assert answer.usage.output_token_details.audio_tokens == len(s.sound()) // 8 // 50

        await s.speak(silence_ms=0)
        await s.until("input_audio_buffer.speech_started")
        await s.connection.conversation.item.truncate(item_id=item.id, content_index=0, audio_end_ms=400)
        assert (await s.until("conversation.item.truncated")).audio_end_ms == 400
        await s.speak(0)
        await s.until("response.output_audio_transcript.done", such=lambda event: event.transcript == "I stop.")
        assert s.simulator.journal.problems == []


async def test_a_turn_comes_in_the_order_of_the_real_service() -> None:
    async with sdk(Script(turns=(Turn(hears="hi", says="Hello."),), interim=False, chunk_ms=600)) as s:
        await s.set_up()
        s.events.clear()
        await s.speak()
        await s.until("rate_limits.updated")
        assert s.kinds() == [
            "input_audio_buffer.speech_started",
            "input_audio_buffer.speech_stopped",
            "input_audio_buffer.committed",
            "conversation.item.added",
            "conversation.item.done",
            "response.created",
            "conversation.item.input_audio_transcription.completed",
            "response.output_item.added",
            "conversation.item.added",
            "response.content_part.added",
            "response.output_audio_transcript.delta",
            "response.output_audio.delta",
            "response.output_audio.done",
            "response.output_audio_transcript.done",
            "response.content_part.done",
            "response.output_item.done",
            "conversation.item.done",
            "response.done",
            "rate_limits.updated",
        ]
        started, stopped, committed, added = s.events[:4]
        assert len({started.item_id, stopped.item_id, committed.item_id, added.item.id}) == 1
        assert 0 <= started.audio_start_ms < 600 < stopped.audio_end_ms <= 1300


async def test_the_server_breaks_off_what_it_says_where_it_is_let() -> None:
    async with sdk(Script(turns=(Turn(says="This takes quite a while to say."),), pace=1.0)) as s:
        await s.set_up()
        await s.speak()
        await s.until("response.output_audio.delta")
        await s.speak()
        done = await s.until("response.done")
        assert (done.response.status, done.response.status_details.reason) == ("cancelled", "turn_detected")
        assert done.response.output[0].status == "incomplete"


async def test_a_response_is_cancelled_by_the_client() -> None:
    async with sdk(Script(pace=1.0)) as s:
        await s.set_up()
        await s.connection.response.create(response={"instructions": 'Say exactly: "This takes quite a while."'})
        created = await s.until("response.created")
        await s.connection.response.create(event_id="second")
        error = (await s.until("error")).error
        assert (error.code, error.event_id) == ("conversation_already_has_active_response", "second")
        await s.connection.response.cancel(response_id=created.response.id)
        done = await s.until("response.done")
        assert (done.response.status, done.response.status_details.reason) == ("cancelled", "client_cancelled")
        await s.connection.response.cancel()
        assert (await s.until("error")).error.code == "response_cancel_not_active"


async def test_turns_of_the_client() -> None:
    async with sdk(Script(turns=(Turn(hears="hello", says="Yes?"),))) as s:
        audio: Any = {"input": {"format": PCMU, "turn_detection": None}, "output": {"format": PCMU}}
        await s.connection.session.update(session={"type": "realtime", "audio": audio})
        await s.until("session.updated")
        await s.connection.input_audio_buffer.commit()
        assert (await s.until("error")).error.code == "input_audio_buffer_commit_empty"
        await s.speak()
        await s.connection.input_audio_buffer.commit()
        await s.connection.response.create()
        assert (await s.until("response.done")).response.output[0].content[0].transcript == "Yes?"
        assert "input_audio_buffer.speech_started" not in s.kinds()


async def test_what_is_wrong_with_a_session_changes_nothing_of_it() -> None:
    async with sdk() as s:
        wrong: list[tuple[dict[str, Any], str, str]] = [
            ({"temperature": 0.8}, "unknown_parameter", "session.temperature"),
            ({"audio": {"output": {"voice": "nova"}}}, "invalid_value", "session.audio.output.voice"),
            ({"audio": {"input": {"format": {"type": "g711_ulaw"}}}}, "invalid_value",
             "session.audio.input.format.type"),
            ({"audio": {"input": {"format": {"type": "audio/pcmu", "rate": 8000}}}}, "unknown_parameter",
             "session.audio.input.format.rate"),
            ({"audio": {"input": {"turn_detection": {"type": "server_vad", "eagerness": "low"}}}}, "unknown_parameter",
             "session.audio.input.turn_detection.eagerness"),
            ({"tools": [{"type": "function", "name": "no spaces"}]}, "invalid_value", "session.tools"),
            ({"max_output_tokens": 0}, "invalid_value", "session.max_output_tokens"),
        ]  # fmt: skip
        for part, code, param in wrong:
            session: Any = {"type": "realtime", "instructions": "Be rude.", **part}
            await s.connection.session.update(session=session, event_id="e9")
            error = (await s.until("error")).error
            assert (error.code, error.param, error.event_id) == (code, param, "e9")
        await s.connection.session.update(session={"type": "realtime"})
        assert (await s.until("session.updated")).session.instructions == ""
        assert len(s.simulator.journal.problems) == len(wrong)


@pytest.mark.parametrize("model", ["gpt-realtime-1.5", "gpt-realtime-2"])
async def test_thinking_is_for_models_that_think(model: str) -> None:
    async with Stage(OpenAiSimulator(Script())) as stage:
        client = AsyncOpenAI(api_key="key", base_url=stage.url + "/v1")
        async with client, client.realtime.connect(model=model) as connection:
            await connection.session.update(session={"type": "realtime", "reasoning": {"effort": "low"}})
            await connection.recv()
            event = await connection.recv()
            assert event.type == ("session.updated" if model == "gpt-realtime-2" else "error")


async def test_what_is_wrong_with_items() -> None:
    async with sdk() as s:
        await s.set_up()
        item: Any = {"type": "function_call_output", "call_id": "call_9", "output": "x"}
        await s.connection.conversation.item.create(item=item)
        assert (await s.until("error")).error.code == "invalid_tool_call_id"
        item = {"type": "message", "role": "assistant", "content": [{"type": "text", "text": "beta"}]}
        await s.connection.conversation.item.create(item=item)
        assert (await s.until("error")).error.param == "item.content[0].type"
        await s.connection.response.create(response={"instructions": 'Say exactly: "Hello."'})
        said = (await s.until("response.done")).response.output[0]
        await s.connection.conversation.item.truncate(item_id=said.id, content_index=0, audio_end_ms=60_000)
        assert "is already shorter than 60000ms" in (await s.until("error")).error.message
        await s.connection.conversation.item.delete(item_id=said.id)
        assert (await s.until("conversation.item.deleted")).item_id == said.id
        await s.connection.conversation.item.delete(item_id=said.id)
        assert (await s.until("error")).error.code == "item_delete_invalid_item_id"
        voice: Any = {"output": {"voice": "cedar"}}
        await s.connection.session.update(session={"type": "realtime", "audio": voice})
        assert (await s.until("error")).error.code == "cannot_update_voice"


async def test_a_transcription_session_answers_nothing() -> None:
    simulator = OpenAiSimulator(Script(turns=(Turn(hears="one two three"),)))
    async with Stage(simulator) as stage:
        client = AsyncOpenAI(api_key="key", base_url=stage.url + "/v1")
        async with client, client.realtime.connect(extra_query={"intent": "transcription"}) as connection:
            s = Sdk(connection, simulator)
            assert (await s.until("session.created")).session.type == "transcription"
            audio: Any = {"input": {"format": PCMU, "transcription": {"model": "gpt-live-transcribe"}}}
            await connection.session.update(session={"type": "transcription", "audio": audio})
            await s.until("session.updated")
            await s.speak()
            done = await s.until("conversation.item.input_audio_transcription.completed")
            assert (done.transcript, done.usage.type) == ("one two three", "duration")
            assert 1.0 < done.usage.seconds < 1.4
            deltas = [event.delta for event in s.events if event.type.endswith("transcription.delta")]
            assert "".join(deltas) == "one two three"
            await connection.response.create()
            await s.until("error")


async def test_a_session_expires() -> None:
    async with sdk(session_s=0.05) as s:
        assert (await s.until("error")).error.code == "session_expired"
        with pytest.raises(ConnectionClosed) as caught:
            await s.until("never")
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1001


async def test_who_is_not_let_in() -> None:
    async with Stage(OpenAiSimulator(Script(faults=(Fault(do="refuse", on="connect", code=429, times=1),)))) as stage:
        client = AsyncOpenAI(api_key="key", base_url=stage.url + "/v1")
        async with client:
            for status, headers in ((429, {}), (401, {"Authorization": ""}), (400, {"OpenAI-Beta": "realtime=v1"})):
                with pytest.raises((InvalidStatus, AuthenticationError)) as caught:
                    async with client.realtime.connect(model="m", extra_headers=headers):
                        pass
                assert isinstance(caught.value, InvalidStatus)
                assert caught.value.response.status_code == status
