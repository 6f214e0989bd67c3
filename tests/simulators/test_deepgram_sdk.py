"""Deepgram's own client talks to the simulator, and finds nothing to complain about."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from deepgram import AsyncDeepgramClient
from deepgram.agent.v1 import (
    AgentV1InjectAgentMessage,
    AgentV1InjectUserMessage,
    AgentV1SendFunctionCallResponse,
    AgentV1Settings,
    AgentV1UpdatePrompt,
)
from deepgram.agent.v1.socket_client import AsyncV1SocketClient as AgentClient
from deepgram.environment import DeepgramClientEnvironment
from deepgram.speak.v1.types import SpeakV1Text

from offhook.audio.g711 import silence
from offhook.audio.tones import tone
from offhook.model.audio import PCMA_8K, PCMU_8K, AudioFormat
from offhook.simulators.deepgram import DeepgramSimulator
from offhook.simulators.script import Fault, Script, ScriptedTool, Turn
from offhook.simulators.stage import Stage
from offhook.simulators.voice import spoken

PATIENCE_S = 10.0

CHUNK_BYTES = 640
"""80 ms."""


def client_of(stage: Stage) -> AsyncDeepgramClient:
    environment = DeepgramClientEnvironment(
        base=stage.url, production=stage.ws_url, agent=stage.ws_url, agent_rest=stage.url
    )
    return AsyncDeepgramClient(api_key="k", environment=environment)


def an_utterance(audio_format: AudioFormat = PCMU_8K) -> bytes:
    return tone(440, 600, -12, audio_format.encoding) + silence(audio_format) * 40


def settings(encoding: str = "mulaw", **agent: Any) -> AgentV1Settings:
    function = {"name": "weather", "description": "d", "parameters": {"type": "object"}, "defer_until_eot": True}
    end_call = {"name": "end_call", "description": "d", "parameters": {"type": "object"}}
    document = {
        "audio": {
            "input": {"encoding": encoding, "sample_rate": 8000.0},
            "output": {"encoding": encoding, "sample_rate": 8000, "container": "none"},
        },
        "agent": {
            "listen": {"provider": {"type": "deepgram", "version": "v2", "model": "flux-general-en"}},
            "think": {
                "provider": {"type": "open_ai", "model": "gpt-4o-mini"},
                "prompt": "Be kind.",
                "functions": [function, {**function, "name": "traffic"}, end_call],
            },
            "speak": {"provider": {"type": "deepgram", "model": "aura-2-thalia-en"}},
            **agent,
        },
    }
    return AgentV1Settings.model_validate(document)


class Talk:
    """What the SDK was told."""

    def __init__(self, agent: AgentClient) -> None:
        self.agent = agent
        self.events: list[Any] = []
        self.audio = b""
        self._changed = asyncio.Event()

    async def listen(self) -> None:
        async for event in self.agent:
            if isinstance(event, bytes):
                self.audio += event
            else:
                self.events.append(event)
            self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def gets(self, kind: str, times: int = 1) -> Any:
        await self.until(lambda: len(self.of(kind)) >= times)
        return self.of(kind)[times - 1]

    def of(self, kind: str) -> list[Any]:
        return [event for event in self.events if event.type == kind]

    def said(self, role: str) -> list[str]:
        return [event.content for event in self.of("ConversationText") if event.role == role]

    async def speak(self, audio: bytes | None = None) -> None:
        audio = audio or an_utterance()
        for at in range(0, len(audio), CHUNK_BYTES):
            await self.agent.send_media(audio[at : at + CHUNK_BYTES])


@asynccontextmanager
async def talk(simulator: DeepgramSimulator) -> AsyncIterator[Talk]:
    async with Stage(simulator) as stage, client_of(stage).agent.v1.connect() as agent:
        talking = Talk(agent)
        listening = asyncio.create_task(talking.listen())
        try:
            yield talking
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)


def deepgram(*turns: Turn, **more: Any) -> DeepgramSimulator:
    return DeepgramSimulator(Script(turns=turns, **more))


# ── the agent ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("audio_format", "encoding"), [(PCMU_8K, "mulaw"), (PCMA_8K, "alaw")])
async def test_the_sdk_is_greeted_heard_and_answered(audio_format: AudioFormat, encoding: str) -> None:
    simulator = deepgram(Turn(hears="what time is it", says="It is noon. Really."))
    async with talk(simulator) as talking:
        await talking.gets("Welcome")
        await talking.agent.send_settings(settings(encoding, greeting="Welcome."))
        await talking.gets("AgentAudioDone")
        assert talking.audio == spoken("Welcome.", audio_format)
        await talking.speak(an_utterance(audio_format))
        await talking.gets("AgentAudioDone", 2)
        assert talking.audio.endswith(spoken("It is noon. Really.", audio_format))
        assert talking.said("user") == ["what time is it"]
        assert talking.said("assistant") == ["Welcome.", "It is noon.", "Really."]
        assert talking.of("UserStartedSpeaking")
        assert talking.of("LatencyReport")
    assert simulator.journal.problems == []


async def test_the_sdk_interrupts() -> None:
    story = "This is a very long story. " * 4
    simulator = deepgram(Turn(says=story), Turn(hears="stop", says="I stopped."), pace=4)
    async with talk(simulator) as talking:
        await talking.agent.send_settings(settings())
        await talking.speak()
        await talking.until(lambda: bool(talking.audio))
        await talking.speak()
        await talking.gets("UserStartedSpeaking", 2)
        await talking.gets("AgentAudioDone")
        assert talking.audio.endswith(spoken("I stopped.", PCMU_8K))
        assert len(talking.audio) < len(spoken(story, PCMU_8K))
    assert simulator.journal.problems == []


async def test_the_sdk_answers_two_functions_and_a_call_taken_back_is_told() -> None:
    both = Turn(tools=(ScriptedTool(name="weather"), ScriptedTool(name="traffic")), says="{weather}, {traffic}")
    slow = Turn(tools=(ScriptedTool(name="weather", cancel=True),), says="{weather}")
    simulator = deepgram(both, slow, Turn(says="Never mind.", ends_call=True))
    async with talk(simulator) as talking:
        await talking.agent.send_settings(settings())
        await talking.speak()
        request = await talking.gets("FunctionCallRequest")
        assert [function.name for function in request.functions] == ["weather", "traffic"]
        for function, content in zip(request.functions, ("sunny", "free"), strict=True):
            await talking.agent.send_function_call_response(
                AgentV1SendFunctionCallResponse(id=function.id, name=function.name, content=content)
            )
        await talking.gets("AgentAudioDone")
        assert talking.said("assistant") == ["sunny, free"]
        await talking.speak()
        pending = await talking.gets("FunctionCallRequest", 2)
        await talking.speak()
        cancelled = await talking.gets("FunctionCallCancelled")
        assert cancelled.functions[0].id == pending.functions[0].id
        ending = await talking.gets("FunctionCallRequest", 3)
        assert ending.functions[0].name == "end_call"
    assert simulator.journal.problems == []


async def test_the_sdk_injects_and_is_refused_while_somebody_speaks() -> None:
    simulator = deepgram(Turn(hears="parrot", says="Polly is here, and she will stay."), pace=5)
    async with talk(simulator) as talking:
        await talking.agent.send_settings(settings())
        await talking.agent.send_update_prompt(AgentV1UpdatePrompt(prompt="Be brief."))
        await talking.gets("PromptUpdated")
        await talking.agent.send_inject_user_message(AgentV1InjectUserMessage(content="Ask for the parrot."))
        await talking.until(lambda: bool(talking.audio))
        await talking.agent.send_inject_user_message(AgentV1InjectUserMessage(content="And now?"))
        await talking.agent.send_inject_agent_message(AgentV1InjectAgentMessage(message="Now.", behavior="default"))
        await talking.gets("InjectionRefused", 2)
        await talking.agent.send_inject_agent_message(AgentV1InjectAgentMessage(message="Later.", behavior="queue"))
        await talking.gets("AgentAudioDone", 2)
        assert talking.said("assistant") == ["Polly is here, and she will stay.", "Later."]
        await talking.agent.send_inject_agent_message(AgentV1InjectAgentMessage(message="Bye.", behavior="interrupt"))
        await talking.gets("AgentAudioDone", 3)
        assert talking.audio.endswith(spoken("Bye.", PCMU_8K))
    assert simulator.journal.problems == []


# ── what the agent refuses ───────────────────────────────────────────────────────────────────────────────

GOOD = json.loads(settings().model_dump_json(exclude_none=True))
GOOD["audio"]["input"]["sample_rate"] = 8000


def changed(path: str, value: Any) -> str:
    document = json.loads(json.dumps(GOOD))
    *way, last = path.split(".")
    part = document
    for name in way:
        part = part[name]
    part[last] = value
    return json.dumps(document)


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        ([b"\xff" * 160], "BINARY_MESSAGE_BEFORE_SETTINGS"),
        (['{"type": "KeepAlive"}'], "NON_SETTINGS_MESSAGE_BEFORE_SETTINGS"),
        (["no json"], "UNPARSABLE_CLIENT_MESSAGE"),
        ([changed("audio.input.sample_rate", 8000.0)], "UNPARSABLE_CLIENT_MESSAGE"),
        ([changed("audio.input.encoding", "pcmu")], "UNPARSABLE_CLIENT_MESSAGE"),
        ([changed("agent.greeting", None)], "UNPARSABLE_CLIENT_MESSAGE"),
        ([changed("agent.think_live", {})], "UNPARSABLE_CLIENT_MESSAGE"),
        ([changed("agent.listen.provider.language", "en")], "UNPARSABLE_CLIENT_MESSAGE"),
        ([changed("agent.listen.provider.model", "nova-3")], "INVALID_SETTINGS"),
        ([changed("agent.speak.provider.model", "onyx")], "INVALID_SETTINGS"),
        ([changed("agent.think.context_length", 1000)], "INVALID_SETTINGS"),
        ([json.dumps(GOOD), json.dumps(GOOD)], "SETTINGS_ALREADY_APPLIED"),
        ([], "CLIENT_MESSAGE_TIMEOUT"),
    ],
)
async def test_what_the_service_refuses_is_refused_told_and_noted(messages: Sequence[Any], code: str) -> None:
    simulator = DeepgramSimulator(Script(), client_timeout_s=5.0 if messages else 0.05)
    async with (
        Stage(simulator) as stage,
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{stage.url}/v1/agent/converse", headers={"Authorization": "Token k"}) as websocket,
    ):
        for message in messages:
            await (websocket.send_bytes(message) if isinstance(message, bytes) else websocket.send_str(message))
        told = [json.loads(each.data) async for each in websocket]
    assert told[-1]["type"] == "Error"
    assert told[-1]["code"] == code
    assert [problem.partition(":")[0] for problem in simulator.journal.problems] == [code]


async def test_who_has_no_key_is_not_let_in() -> None:
    simulator = deepgram()
    async with Stage(simulator) as stage, aiohttp.ClientSession() as http:
        for path in ("/v1/agent/converse", "/v1/listen", "/v2/listen", "/v1/speak"):
            async with http.get(stage.url + path) as answer:
                assert answer.status == 401
                assert (await answer.json())["err_code"] == "INVALID_AUTH"
    assert len(simulator.journal.problems) == 4


# ── recognisers and voice ────────────────────────────────────────────────────────────────────────────────


async def collected(client: Any, until: Callable[[list[Any]], bool]) -> list[Any]:
    events: list[Any] = []
    async with asyncio.timeout(PATIENCE_S):
        async for event in client:
            events.append(event)
            if until(events):
                break
    return events


async def test_the_sdk_is_understood_by_flux() -> None:
    simulator = deepgram(Turn(hears="what time is it"))
    async with (
        Stage(simulator) as stage,
        client_of(stage).listen.v2.connect(
            model="flux-general-en", encoding="mulaw", sample_rate=8000, eager_eot_threshold=0.5, keyterm=["Acme"]
        ) as flux,
    ):
        await flux.send_media(an_utterance())
        events = await collected(flux, lambda each: getattr(each[-1], "event", "") == "EndOfTurn")
    assert events[0].type == "Connected"
    told = [(event.event, event.transcript) for event in events[1:]]
    assert told == [
        ("StartOfTurn", ""),
        ("Update", "what"),
        ("Update", "what time"),
        ("Update", "what time is"),
        ("EagerEndOfTurn", "what time is it"),
        ("EndOfTurn", "what time is it"),
    ]
    assert [event.sequence_id for event in events] == list(range(len(events)))
    assert simulator.journal.problems == []


async def test_the_sdk_is_understood_by_nova() -> None:
    simulator = deepgram(Turn(hears="what time is it"))
    async with (
        Stage(simulator) as stage,
        client_of(stage).listen.v1.connect(
            model="nova-3",
            encoding="mulaw",
            sample_rate=8000,
            interim_results=True,
            vad_events=True,
            utterance_end_ms=1000,
        ) as nova,
    ):
        await nova.send_media(an_utterance() + silence(PCMU_8K) * 50)
        events = await collected(nova, lambda each: each[-1].type == "UtteranceEnd")
        await nova.send_close_stream()
        rest = await collected(nova, lambda each: each[-1].type == "Metadata")
    finals = [event for event in events if event.type == "Results" and event.is_final]
    assert [event.channel.alternatives[0].transcript for event in finals] == ["what time", "is it"]
    assert [event.speech_final for event in finals] == [False, True]
    assert events[0].type == "SpeechStarted"
    assert rest[-1].type == "Metadata"
    assert simulator.journal.problems == []


async def test_the_sdk_is_spoken_to() -> None:
    simulator = deepgram(faults=(Fault(on="turn", turn=2, do="trickle"),))
    async with (
        Stage(simulator) as stage,
        client_of(stage).speak.v1.connect(model="aura-2-thalia-en", encoding="mulaw", sample_rate="8000") as voice,
    ):
        for _ in range(2):
            await voice.send_text(SpeakV1Text(text="Good "))
            await voice.send_text(SpeakV1Text(text="day."))
            await voice.send_flush()
            events = await collected(voice, lambda each: getattr(each[-1], "type", "") == "Flushed")
            audio = b"".join(event for event in events if isinstance(event, bytes))
            assert audio == spoken("Good day.", PCMU_8K)
        await voice.send_text(SpeakV1Text(text="Never heard."))
        await voice.send_clear()
        cleared = await collected(voice, lambda each: getattr(each[-1], "type", "") == "Cleared")
        assert len(cleared) == 1
    assert simulator.journal.problems == []


@pytest.mark.parametrize(
    "path",
    [
        "/v2/listen?model=nova-3&encoding=mulaw&sample_rate=8000",
        "/v2/listen?model=flux-general-en&encoding=pcmu&sample_rate=8000",
        "/v2/listen?model=flux-general-en&encoding=mulaw&sample_rate=8000&eot_threshold=0.1",
        "/v2/listen?model=flux-general-en&encoding=mulaw&sample_rate=8000&language=en",
        "/v1/listen?model=nova-3&encoding=mulaw&sample_rate=8000&utterance_end_ms=1000",
        "/v1/listen?model=nova-3&encoding=mulaw&sample_rate=8000&vad_events=True",
        "/v1/speak?model=onyx&encoding=mulaw&sample_rate=8000",
        "/v1/speak?model=aura-2-thalia-en&encoding=mulaw&sample_rate=8000&container=wav",
        "/v1/speak?model=aura-2-thalia-en&encoding=mulaw&sample_rate=8000&speed=fast",
    ],
)
async def test_parameters_the_service_refuses_are_refused_and_noted(path: str) -> None:
    simulator = deepgram()
    async with (
        Stage(simulator) as stage,
        aiohttp.ClientSession() as http,
        http.get(stage.url + path, headers={"Authorization": "Token k"}) as answer,
    ):
        assert answer.status == 400
    assert len(simulator.journal.problems) == 1


async def test_more_flushes_than_the_service_takes_are_not_carried_out() -> None:
    simulator = deepgram()
    async with (
        Stage(simulator) as stage,
        client_of(stage).speak.v1.connect(model="aura-2-thalia-en", encoding="mulaw", sample_rate="8000") as voice,
    ):
        for _ in range(21):
            await voice.send_flush()
        events = await collected(voice, lambda each: getattr(each[-1], "type", "") == "Warning")
    assert "Flush" in events[-1].description
    assert len(simulator.journal.problems) == 1
