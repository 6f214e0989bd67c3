"""What an agent is offered and told in a call, what is said in its place, and how a call is brought to its end."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest
from tests.call.answerers import Server
from tests.call.phones import Ear, phone, scripted
from tests.call.toys import Toys

from offhook.audio.g711 import silence
from offhook.audio.tones import tone
from offhook.audio.wav import write_wav
from offhook.bridge.codec import Begin, Say, TextInput, ToolResult, UsageReported, Utterance
from offhook.call import conduct, tool_desk
from offhook.call.failover import as_agent
from offhook.call.hold_audio import HoldAudio
from offhook.call.ports import ToolOutput
from offhook.model.audio import PCMU_8K, AudioFormat, Encoding
from offhook.model.call_events import (
    CallAnswered,
    CallEnded,
    ProviderUsage,
    TaskCompleted,
    TurnSpoken,
    UsageAmount,
)
from offhook.model.errors import BridgeError
from offhook.model.records import ProviderFallback, Tool, TransferDestination

SPEAKS_ON_TEXT: dict[str, Any] = {"on": "text", "do": [{"do": "speak", "text": "goodbye", "ms": 200}]}
GREETING: dict[str, Any] = {"greeting_tone_hz": 700, "greeting_ms": 200, "greeting_text": "hello"}


class Voice:
    """A local voice: a tone for each text; or none, where it is broken."""

    def __init__(self, *, broken: bool = False) -> None:
        self._broken = broken
        self.said: list[str] = []

    async def speak(self, text: str, audio_format: AudioFormat) -> bytes:
        if self._broken:
            raise BridgeError("local", "no worker", "retry")
        self.said.append(text)
        return tone(500, 200, -18, audio_format.encoding, sample_rate_hz=audio_format.sample_rate_hz)


# ── what the provider is asked for ───────────────────────────────────────────────────────────────────────


async def test_a_provider_is_offered_the_tools_and_told_when_to_begin() -> None:
    toys = Toys()
    weather = Tool(tool_id="w", name="weather", url="https://w.example/", description="The weather", timeout_s=7.0)
    person = TransferDestination(name="Sales", target="tel:+4930")
    agent = replace(scripted(**GREETING, hang_up_after_ms=300), tools=(weather,), destinations=(person,), task="sell")
    async with phone(agent, bridges=toys) as callee, phone() as caller:
        await caller.over(caller.call(callee))
        await callee.ended()
    (request,) = toys.requests
    assert [tool.name for tool in request.tools] == [
        "end_call",
        "send_dtmf",
        "send_text",
        "transfer_call",
        "complete_task",
        "weather",
    ]
    assert (request.tools[-1].description, request.tools[-1].timeout_s) == ("The weather", 7.0)
    assert request.greets
    assert request.history() == (Utterance(speaker="agent", text="hello"),)  # by now
    assert toys.told(Begin) == [Begin()]


@pytest.mark.parametrize("on_open", [False, True], ids=["greets when told", "greets on opening"])
async def test_an_agent_that_calls_greets_nobody_before_the_answer(on_open: bool) -> None:
    toys = Toys(greets_on_open=on_open)
    slow = scripted("slow", open_after_ms=500)
    async with phone(slow) as callee, phone(bridges=toys) as caller:
        call = caller.call(callee, scripted(**GREETING, hang_up_after_ms=300))
        await asyncio.sleep(0.3)  # it rings
        assert [(made.opened, made.received) for made in toys.connections] == [(not on_open, [])]
        await caller.over(call)
    assert toys.told(Begin) == [Begin()]
    names = caller.facts.names()
    assert names.index("CallAnswered") < names.index("TurnSpoken")


async def test_what_was_used_is_told_for_each_provider() -> None:
    toys = Toys()
    failing = [{"on": "ready", "after_ms": 200, "do": [{"do": "fail", "problem": "gone", "verdict": "fall_over"}]}]
    second = ProviderFallback(provider="scripted", options=scripted(hang_up_after_ms=100).options)
    agent = replace(scripted(steps=failing), fallbacks=(second,))
    async with phone(agent, bridges=toys) as callee, phone() as caller:
        call = caller.call(callee)
        await callee.facts.until(CallAnswered)
        for amount in (3.0, 4.0):
            toys.requests[0].listener.bridge_event(UsageReported(units="input_tokens", amount=amount))
        toys.requests[0].listener.bridge_event(UsageReported(units="seconds", amount=1.5))
        await caller.over(call)
        await callee.ended()
    amounts = (UsageAmount(units="input_tokens", amount=7.0), UsageAmount(units="seconds", amount=1.5))
    assert callee.facts.of(ProviderUsage) == [ProviderUsage(provider="scripted", amounts=amounts)]
    assert toys.requests[1].agent == as_agent(agent, second)


# ── what is said in its place ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("exact_say", "voice", "provider", "local"),
    [
        (True, Voice(), [Say(text="we close at six")], []),
        (False, Voice(), [], ["we close at six"]),
        (False, Voice(broken=True), [Say(text="we close at six")], []),
        (False, None, [Say(text="we close at six")], []),
    ],
    ids=["by the provider", "by the local voice", "whose voice is broken", "without a voice"],
)
async def test_a_sentence_is_said_word_by_word(
    exact_say: bool, voice: Voice | None, provider: list[Say], local: list[str]
) -> None:
    toys = Toys(exact_say=exact_say)
    async with phone(scripted(), bridges=toys, voice=voice) as callee, phone() as caller:
        call = caller.call(callee)
        await callee.facts.until(CallAnswered)
        assert callee.phone.manager.say(callee.only_call.call_id, "we close at six")
        turn = await callee.facts.until(TurnSpoken)
        caller.hang_up(call)
        await caller.over(call)
    assert turn.text == "we close at six"
    assert toys.told(Say) == provider
    assert (voice.said if voice is not None else []) == local
    notes = [note.text for note in toys.told(TextInput)]
    assert [("we close at six" in note) for note in notes] == [True] * len(local)
    assert not callee.phone.manager.say("nobody", "hello")


async def test_what_is_injected_reaches_the_model() -> None:
    toys = Toys()
    note = TextInput(role="system", text="the order was sent", respond=True)
    async with phone(scripted(steps=[SPEAKS_ON_TEXT]), bridges=toys) as callee, phone() as caller:
        call = caller.call(callee)
        await callee.facts.until(CallAnswered)
        assert callee.phone.manager.inject(callee.only_call.call_id, note)
        await callee.facts.until(TurnSpoken)
        caller.hang_up(call)
        await caller.over(call)
    assert toys.told(TextInput) == [note]


# ── tools ────────────────────────────────────────────────────────────────────────────────────────────────

USES_SLOW: dict[str, Any] = {"on": "ready", "do": [{"do": "use_tool", "name": "slow"}]}


async def test_a_tool_that_takes_its_time_is_announced_and_has_its_audio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool_desk, "FILLER_AFTER_S", 0.1)
    sound = HoldAudio()
    sound.add("wait.wav", write_wav(PCMU_8K, tone(900, 1000, -12, Encoding.PCMU)))
    tool = Tool(tool_id="s", name="slow", url="https://s.example/", filler="let me look", hold_audio="wait.wav")
    agent = replace(scripted(steps=[USES_SLOW]), tools=(tool,))
    server, ear = Server(), Ear()
    async with phone(agent, questions=server, hold_audio=sound) as callee, phone() as caller:
        call = caller.call(callee)
        await caller.facts.until(CallAnswered)
        assert call.leg is not None
        turn = await callee.facts.until(TurnSpoken)
        call.leg.media.connect(ear)
        heard = await ear.frames(25)
        caller.hang_up(call)
        await caller.over(call)
    assert turn.text == "let me look"
    assert len(set(heard[-1600:])) > 4  # the audio, long after the words
    assert server.cancelled == ["slow"]


async def test_the_audio_of_a_tool_stops_with_its_result() -> None:
    sound = HoldAudio()
    sound.add("wait.wav", write_wav(PCMU_8K, tone(900, 1000, -12, Encoding.PCMU)))
    tool = Tool(tool_id="s", name="slow", url="https://s.example/", hold_audio="wait.wav")
    let_go, toys = asyncio.Event(), Toys()

    class Waiting(Server):
        async def use_tool(self, question: Any, deadline_s: float) -> Any:
            await let_go.wait()
            return ToolOutput(output="done")

    async with (
        phone(
            replace(scripted(steps=[USES_SLOW]), tools=(tool,)), questions=Waiting(), hold_audio=sound, bridges=toys
        ) as callee,
        phone() as caller,
    ):
        call, during, after = caller.call(callee), Ear(), Ear()
        await caller.facts.until(CallAnswered)
        assert call.leg is not None
        call.leg.media.connect(during)
        sounds = await during.frames(40)
        let_go.set()
        await asyncio.sleep(0.4)  # what is on its way arrives
        call.leg.media.connect(after)
        quiet = await after.frames(15)
        caller.hang_up(call)
        await caller.over(call)
    assert len(set(sounds[-1600:])) > 4
    assert set(quiet) <= set(silence(PCMU_8K)) | {0x7F, 0xFF}
    assert toys.told(ToolResult) == [ToolResult(tool_call_id="call-1", output="done")]


async def test_a_task_that_is_done_ends_the_call_with_a_goodbye() -> None:
    done = {"do": "use_tool", "name": "complete_task", "arguments": {"outcome": "booked", "summary": "Tuesday"}}
    goodbye = {"on": "tool_result", "after_ms": 300, "do": [{"do": "speak", "text": "goodbye", "ms": 200}]}
    agent = replace(scripted(steps=[{"on": "ready", "after_ms": 60, "do": [done]}, goodbye]), task="book a table")
    async with phone(agent) as callee, phone() as caller:
        await caller.over(caller.call(callee))
        ended = await callee.ended()
    assert callee.facts.of(TaskCompleted) == [TaskCompleted(outcome="booked", summary="Tuesday")]
    assert [turn.text for turn in callee.facts.of(TurnSpoken)] == ["goodbye"]
    assert (ended.by, ended.cause, ended.reason) == ("agent", "hangup", "the task is done: booked")


async def test_the_talk_may_go_on_after_the_task() -> None:
    done = {"do": "use_tool", "name": "complete_task", "arguments": {"outcome": "booked"}}
    goes_on = {"on": "tool_result", "output": "goes on", "do": [{"do": "speak", "text": "anything else?", "ms": 100}]}
    agent = replace(scripted(steps=[{"on": "ready", "do": [done]}, goes_on]), task="book", hangs_up_when_done=False)
    async with phone(agent) as callee, phone() as caller:
        call = caller.call(callee)
        turn = await callee.facts.until(TurnSpoken)
        await asyncio.sleep(0.3)
        assert callee.facts.of(CallEnded) == []
        caller.hang_up(call)
        await caller.over(call)
    assert turn.text == "anything else?"
    assert callee.facts.of(TaskCompleted) == [TaskCompleted(outcome="booked", summary="")]


# ── silence and the end ──────────────────────────────────────────────────────────────────────────────────


async def test_a_caller_who_says_nothing_is_asked_and_then_let_go() -> None:
    agent = replace(
        scripted(**GREETING, steps=[SPEAKS_ON_TEXT]), silence_prompt_s=0.3, silence_prompts=("hello?", "still there?")
    )
    async with phone(agent) as callee, phone() as caller:
        await caller.over(caller.call(callee))
        ended = await callee.ended()
    said = [turn.text for turn in callee.facts.of(TurnSpoken)]
    assert said == ["hello", "hello?", "still there?", "goodbye"]
    assert (ended.by, ended.cause) == ("system", "silence_timeout")


async def test_a_caller_who_does_something_is_not_asked() -> None:
    agent = replace(scripted(), silence_timeout_s=0.6)
    async with phone(agent) as callee, phone() as caller:
        call = caller.call(callee)
        await caller.facts.until(CallAnswered)
        assert call.leg is not None
        for _ in range(3):
            await asyncio.sleep(0.35)
            call.leg.media.send_dtmf("1")
        assert callee.facts.of(CallEnded) == []
        await caller.over(call)
    assert (await callee.ended()).cause == "silence_timeout"


async def test_the_longest_duration_ends_with_a_goodbye() -> None:
    agent = replace(scripted(steps=[SPEAKS_ON_TEXT]), max_call_s=1)
    async with phone(agent) as callee, phone() as caller:
        await caller.over(caller.call(callee))
        ended = await callee.ended()
    assert [turn.text for turn in callee.facts.of(TurnSpoken)] == ["goodbye"]
    assert (ended.by, ended.cause) == ("system", "duration_limit")


@pytest.mark.parametrize(
    ("script", "said", "most_s"),
    [
        ({"steps": [SPEAKS_ON_TEXT]}, ["goodbye"], 1.5),
        ({}, [], 2.5),  # who says none is not waited for
        ({"steps": [{"on": "text", "do": [{"do": "speak", "text": "on and on", "ms": 9000}]}]}, ["on and"], 4.0),
    ],
    ids=["goodbye", "silent", "endless"],
)
async def test_a_call_is_hung_up_from_outside_with_a_goodbye(script: Any, said: list[str], most_s: float) -> None:
    async with phone(scripted(**script)) as callee, phone() as caller:
        call = caller.call(callee)
        await callee.facts.until(CallAnswered)
        await asyncio.sleep(0.1)  # the talk has begun
        began = time.monotonic()
        assert callee.phone.manager.hang_up(callee.only_call.call_id, goodbye_s=3.0)
        await caller.over(call)
        took_s = time.monotonic() - began
        ended = await callee.ended()
    assert [turn.text for turn in callee.facts.of(TurnSpoken)] == said or script.get("steps") != [SPEAKS_ON_TEXT]
    assert (ended.by, ended.cause) == ("system", "hangup")
    assert took_s < most_s


async def test_a_call_that_rings_is_hung_up_at_once() -> None:
    async with phone(scripted("slow", open_after_ms=5000)) as callee, phone() as caller:
        call = caller.call(callee)
        await asyncio.sleep(0.2)
        assert caller.phone.manager.hang_up(call.call_id, goodbye_s=conduct.LAST_WORDS_S)
        await caller.over(call)
    assert caller.facts.of(CallEnded)[0].cause == "cancelled"
    assert not caller.phone.manager.hang_up("nobody", goodbye_s=1.0)
