"""The simulated Gemini refuses what the real one refuses, with its close codes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import ClientWebSocketResponse, WSMsgType

from offhook.simulators.gemini_live import GeminiSimulator
from offhook.simulators.script import Script
from offhook.simulators.stage import Stage

PATH = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"

PLAIN: Mapping[str, Any] = {"model": "models/gemini-3.8-live", "generationConfig": {"responseModalities": ["AUDIO"]}}
RESUMABLE = {**PLAIN, "sessionResumption": {}}


@asynccontextmanager
async def staged(simulator: GeminiSimulator | None = None) -> AsyncIterator[Stage]:
    async with Stage(simulator or GeminiSimulator(Script())) as stage:
        yield stage


@asynccontextmanager
async def connected(stage: Stage, *messages: Mapping[str, Any]) -> AsyncIterator[ClientWebSocketResponse]:
    async with aiohttp.ClientSession() as http, http.ws_connect(stage.url + PATH + "?key=k") as websocket:
        for message in messages:
            await websocket.send_bytes(msgspec.json.encode(message))
        yield websocket


async def closing(websocket: ClientWebSocketResponse) -> tuple[int | None, str]:
    """Code and reason."""
    while True:
        message = await websocket.receive(10)
        if message.type is WSMsgType.CLOSE:
            return message.data, message.extra or ""
        assert message.type in {WSMsgType.TEXT, WSMsgType.BINARY}


async def answers(websocket: ClientWebSocketResponse, needle: str) -> Any:
    while True:
        message = await websocket.receive(10)
        assert message.type in {WSMsgType.TEXT, WSMsgType.BINARY}
        decoded = msgspec.json.decode(message.data)
        if needle in decoded:
            return decoded[needle]


def setup(**fields: Any) -> Mapping[str, Any]:
    return {"setup": {**PLAIN, **fields}}


DETECTION = "realtimeInputConfig"
NOVA = {"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": "nova"}}}


@pytest.mark.parametrize(
    ("message", "code", "reason"),
    [
        (setup(toolConfig={}), 1007, 'Unknown name "toolConfig"'),
        (setup(sessionResumption={"handle": None}), 1007, "session_resumption.handle"),
        (setup(sessionResumption={"handle": "handle-9-1"}), 1008, "not found"),
        (setup(model="models/gemini-2.0-flash-exp"), 1008, "models/gemini-2.0-flash-exp is not found"),
        (setup(model="models/models/gemini-3.8-live"), 1008, "is not found"),
        (setup(inputAudioTranscription={"languageCode": "de"}), 1007, "languageCode"),
        (setup(**{DETECTION: {"automaticActivityDetection": {"startOfSpeechSensitivity": "MEDIUM"}}}), 1007, "Invalid"),
        (setup(generationConfig={"enableAffectiveDialog": True}), 1007, "affective"),
        (setup(proactivity={"proactiveAudio": False}), 1007, "proactivity"),
        (setup(generationConfig={"thinkingConfig": {"thinkingLevel": "LOW"}}), 1007, "thinking_level"),
        (setup(generationConfig={"speechConfig": NOVA}), 1007, "nova"),
        (setup(systemInstruction={"role": "system", "parts": [{"text": "x"}]}), 1007, "system"),
        ({"realtimeInput": {"text": "hello"}}, 1007, "setup must be the first message"),
        ({"setup": PLAIN, "clientContent": {}}, 1007, "exactly one field"),
        ({"hello": {}}, 1007, 'Unknown name "hello"'),
    ],
)
async def test_refuses_a_setup(message: Mapping[str, Any], code: int, reason: str) -> None:
    simulator = GeminiSimulator(Script())
    async with staged(simulator) as stage, connected(stage, message) as websocket:
        got = await closing(websocket)
    assert got[0] == code
    assert reason.replace("session_resumption", "sessionResumption") in got[1]
    assert simulator.journal.problems[0].startswith(str(code))


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"setup": PLAIN}, 1007),
        ({"realtimeInput": {"mediaChunks": []}}, 1007),
        ({"realtimeInput": {"text": "a", "audioStreamEnd": True}}, 1007),
        ({"realtimeInput": {"audio": {"mimeType": "audio/pcmu", "data": ""}}}, 1008),
        ({"realtimeInput": {"activityStart": {}}}, 1007),
        ({"clientContent": {"turns": [{"role": "system", "parts": [{"text": "x"}]}]}}, 1007),
        ({"toolResponse": {"functionResponses": [{"id": "x", "name": "f", "response": {}}]}}, 1007),
    ],
)
async def test_refuses_a_message(message: Mapping[str, Any], code: int) -> None:
    async with staged() as stage, connected(stage, {"setup": PLAIN}, message) as websocket:
        assert (await closing(websocket))[0] == code


async def test_both_spellings_are_taken_at_every_level_and_the_answer_is_binary() -> None:
    snake = {"model": PLAIN["model"], "generation_config": {"response_modalities": ["AUDIO"]}}
    detection = {"realtime_input_config": {"automatic_activity_detection": {"silence_duration_ms": 300}}}
    async with staged() as stage, connected(stage, {"setup": {**snake, **detection}}) as websocket:
        message = await websocket.receive(10)
        assert message.type is WSMsgType.BINARY
        assert msgspec.json.decode(message.data) == {"setupComplete": {"sessionId": "session-1"}}


async def test_two_sockets_for_one_handle_are_one_too_many() -> None:
    async with staged() as stage, connected(stage, {"setup": RESUMABLE}) as websocket:
        update = await answers(websocket, "sessionResumptionUpdate")
        resumed = setup(sessionResumption={"handle": update["newHandle"]})
        async with connected(stage, resumed) as second:
            assert (await closing(second))[0] == 1011
        await websocket.close()
        async with connected(stage, resumed) as third:
            assert await answers(third, "setupComplete")


async def test_history_that_was_announced_comes_first_and_is_not_answered() -> None:
    simulator = GeminiSimulator(Script())
    announced = setup(historyConfig={"initialHistoryInClientContent": True})
    history = {"turns": [{"role": "model", "parts": [{"text": "Hello Ann."}]}], "turnComplete": True}
    question = {"turns": [{"role": "user", "parts": [{"text": "What?"}]}], "turnComplete": True}
    messages = (announced, {"clientContent": history}, {"clientContent": question})
    async with staged(simulator) as stage, connected(stage, *messages) as websocket:
        said = await answers(websocket, "serverContent")
    assert "modelTurn" in said
    assert simulator.conversations[0].told == ["Hello Ann.", "What?"]


async def test_nobody_without_a_key() -> None:
    async with staged() as stage, aiohttp.ClientSession() as http, http.ws_connect(stage.url + PATH) as websocket:
        assert (await closing(websocket))[0] == 1008
