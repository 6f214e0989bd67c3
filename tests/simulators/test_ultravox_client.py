"""A plain client of Ultravox' public protocol talks to the simulator.

The vendor's own client joins calls over WebRTC only, which is another medium. What was seen to hold whole conversations
with the simulator besides (greeting, transcripts, a tool, an interruption) is LiveKit's plugin for Ultravox 1.8.9.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from offhook.audio.g711 import silence
from offhook.audio.tones import tone
from offhook.model.audio import L16_16K, L16_24K, Encoding
from offhook.simulators.script import Fault, Script, ScriptedTool, Turn
from offhook.simulators.stage import Stage
from offhook.simulators.ultravox import UltravoxSimulator
from offhook.simulators.voice import spoken

LONG = "This is a very long story about a ship that went to sea and never came home again."

SOCKET: dict[str, Any] = {"inputSampleRate": 16000, "outputSampleRate": 24000, "clientBufferSizeMs": 30000}


async def create(url: str, path: str = "/api/calls", *, key: str = "k", **call: Any) -> tuple[int, dict[str, Any]]:
    call.setdefault("medium", {"serverWebSocket": SOCKET})
    async with (
        aiohttp.ClientSession() as http,
        http.post(url + path, json=call, headers={"X-API-Key": key} if key else {}) as answer,
    ):
        body: dict[str, Any] = await answer.json()
        return answer.status, body


class Client:
    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.messages: list[dict[str, Any]] = []
        self.audio = b""
        self.closed: int | None = None

    async def listen(self) -> None:
        try:
            async for message in self.socket:
                if isinstance(message, bytes):
                    self.audio += message
                else:
                    self.take(json.loads(message))
        except ConnectionClosed:
            pass
        self.closed = self.socket.close_code

    def take(self, message: dict[str, Any]) -> None:
        self.messages.append(message)
        if message["type"] == "playback_clear_buffer":
            self.audio = b""

    async def speak(self, ms: int = 600, pause_ms: int = 800) -> None:
        await self.socket.send(tone(440, ms, -12, Encoding.L16, sample_rate_hz=16000))
        await self.wait(pause_ms)

    async def wait(self, ms: int) -> None:
        for _ in range(ms // 20):
            await self.socket.send(silence(L16_16K))

    async def send(self, **message: Any) -> None:
        await self.socket.send(json.dumps(message))

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.messages if message["type"] == kind]

    def states(self) -> list[str]:
        return [message["state"] for message in self.of("state")]

    def said(self, role: str, medium: str = "voice") -> list[str]:
        texts = [m for m in self.of("transcript") if (m["role"], m["medium"], m["final"]) == (role, medium, True)]
        return [text["text"] for text in texts]


@asynccontextmanager
async def joined(url: str, **call: Any) -> AsyncIterator[Client]:
    status, body = await create(url, **call)
    assert status == 201, body
    async with connect(body["joinUrl"] + "?apiVersion=1", compression=None, proxy=None) as socket:
        client = Client(socket)
        listening = asyncio.create_task(client.listen())
        try:
            yield client
        finally:
            await socket.close()
            await listening


async def until(condition: Callable[[], object]) -> None:
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not happen")


WAITS: dict[str, Any] = {"firstSpeakerSettings": {"user": {}}}


async def test_a_talk_from_greeting_to_goodbye() -> None:
    weather = Turn(hears="the weather", tools=(ScriptedTool(name="weather"),), says="It is {weather}.")
    simulator = UltravoxSimulator(Script(turns=(weather, Turn(hears="bye", says="Goodbye.", ends_call=True))))
    tool = {"modelToolName": "weather", "description": "d", "dynamicParameters": [], "client": {}}
    greeting = {"agent": {"text": "Welcome."}}
    async with (
        Stage(simulator) as stage,
        joined(stage.url, selectedTools=[{"temporaryTool": tool}], firstSpeakerSettings=greeting) as client,
    ):
        await until(lambda: client.audio == spoken("Welcome.", L16_24K))
        assert client.states() == ["idle", "thinking", "speaking"]
        await client.wait(1000)
        await until(lambda: client.states()[-1] == "listening")
        await client.speak()
        await until(lambda: client.of("client_tool_invocation"))
        [call] = client.of("client_tool_invocation")
        assert (call["toolName"], call["parameters"]) == ("weather", {})
        await client.speak()  # while the talk stands still nobody hears it
        await client.send(type="client_tool_result", invocationId=call["invocationId"], result="sunny")
        await until(lambda: "It is sunny." in client.said("agent"))
        assert client.said("user") == ["the weather"]
        await client.wait(1000)
        await until(lambda: client.states()[-1] == "listening")
        await client.speak()
        await until(lambda: "Goodbye." in client.said("agent"))
        await client.wait(1000)
        await until(lambda: client.closed == 1000)
    assert client.audio == b"".join(spoken(text, L16_24K) for text in ("Welcome.", "It is sunny.", "Goodbye."))
    assert simulator.journal.problems == []


async def test_speech_long_enough_interrupts_and_clears_the_clients_buffer() -> None:
    simulator = UltravoxSimulator(Script(turns=(Turn(says=LONG), Turn(says="mm"), Turn(says="I stopped."))))
    vad = {"minimumInterruptionDuration": "0.64s"}
    async with Stage(simulator) as stage, joined(stage.url, vadSettings=vad, **WAITS) as client:
        await client.speak()
        await until(lambda: client.audio == spoken(LONG, L16_24K))
        await client.speak(300)
        await until(lambda: len(client.said("user")) == 2)
        assert client.of("playback_clear_buffer") == []
        await client.speak(1000)
        await until(lambda: client.of("playback_clear_buffer"))
        await until(lambda: client.audio.endswith(spoken("I stopped.", L16_24K)))


async def test_a_client_without_a_buffer_gets_audio_as_the_callers_comes() -> None:
    simulator = UltravoxSimulator(Script(turns=(Turn(says=LONG),), chunk_ms=20))
    medium = {"serverWebSocket": {"inputSampleRate": 16000, "outputSampleRate": 24000}}
    async with Stage(simulator) as stage, joined(stage.url, medium=medium, **WAITS) as client:
        await client.speak()
        await until(lambda: client.audio)
        await client.wait(500)
        await client.send(type="ping", timestamp=1.0)
        await until(lambda: client.of("pong"))
        await asyncio.sleep(0.05)
        assert 400 <= len(client.audio) // L16_24K.bytes_per_ms <= 1000


async def test_what_is_written_and_what_is_to_be_said() -> None:
    simulator = UltravoxSimulator(Script(turns=(Turn(hears="parrot", says="Polly is here."),)))
    async with Stage(simulator) as stage, joined(stage.url, **WAITS) as client:
        await client.send(type="user_text_message", text="Be brief.", urgency="later")
        await client.send(type="user_text_message", text="Ask for the parrot.", urgency="soon")
        await until(lambda: client.said("agent") == ["Polly is here."])
        await client.send(type="forced_agent_message", content="Four two.", urgency="immediate")
        await until(lambda: client.of("playback_clear_buffer"))
        await until(lambda: client.said("agent")[-1] == "Four two.")
        assert client.said("user", "text") == ["Be brief.", "Ask for the parrot."]
        await client.wait(1000)
        await client.send(type="hang_up", message="Bye.")
        await until(lambda: client.said("agent")[-1] == "Bye.")
        await client.wait(1000)
        await until(lambda: client.closed == 1000)
    assert simulator.journal.problems == []


@pytest.mark.parametrize(
    "call",
    [
        {"system_prompt": "x"},
        {"medium": {"webRtc": {}}},
        {"medium": {"serverWebSocket": {"outputSampleRate": 8000}}},
        {"medium": {"serverWebSocket": {"inputSampleRate": 4000}}},
        {"maxDuration": "2h"},
        {"temperature": 1.5},
        {"firstSpeakerSettings": {"agent": {}, "user": {}}},
        {"vadSettings": {"minimumInterruptionDuration": 0.5}},
        {"selectedTools": [{"temporaryTool": {"modelToolName": "not a name"}}]},
        {"selectedTools": [{"temporaryTool": {"modelToolName": "f", "dynamicParameters": [{"name": "q"}]}}]},
        {"selectedTools": [{"temporaryTool": {"modelToolName": "f", "timeout": "60s"}}]},
    ],
)
async def test_a_call_that_the_service_would_refuse_is_refused(call: dict[str, Any]) -> None:
    simulator = UltravoxSimulator(Script())
    async with Stage(simulator) as stage:
        status, body = await create(stage.url, **call)
    assert status == 400
    assert simulator.journal.problems == [body["detail"]]


async def test_who_has_no_key_no_prior_call_or_joins_twice_is_refused() -> None:
    async with Stage(UltravoxSimulator(Script(), api_key="k")) as stage:
        assert (await create(stage.url, key=""))[0] == 403
        assert (await create(stage.url, key="wrong"))[0] == 403
        assert (await create(stage.url, "/api/calls?priorCallId=nobody"))[0] == 404
        assert (await create(stage.url, "/api/agents/a/calls", model="m"))[0] == 400
        status, body = await create(stage.url, "/api/agents/a/calls", templateContext={"name": "Ann"})
        assert status == 201
        async with connect(body["joinUrl"], proxy=None):
            with pytest.raises(Exception, match="404"):
                async with connect(body["joinUrl"], proxy=None):
                    pass


async def test_misuse_is_noted() -> None:
    simulator = UltravoxSimulator(Script(faults=(Fault(do="close", on="after", ms=300, code=1011),)))
    async with Stage(simulator) as stage, joined(stage.url, **WAITS) as client:
        await client.send(type="client_tool_result", invocationId="nobody", result="?")
        await client.send(type="user_text_message")
        await client.send(type="sing")
        await client.socket.send(b"\x00")
        await until(lambda: client.closed == 1011)
    assert len(simulator.journal.problems) == 4
