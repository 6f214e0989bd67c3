"""Whole calls in which the caller speaks over the agent, with providers that tell it in each way there is.

The caller is a phone of ours, with a voice; it may also give back what it hears, as a bad line does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from tests.audio.signals import Samples, l16, voice
from tests.call.phones import SILENT, TestPhone, phone, scripted

from offhook.audio.g711 import decode, encode
from offhook.call.barge_in import JUDGEMENT_DEADLINE_S
from offhook.call.inbox import HangUp
from offhook.call.session import CallSession
from offhook.media.session import MediaSession
from offhook.model.audio import Encoding
from offhook.model.call_events import CallAnswered, InterruptionResumed, TurnSpoken
from offhook.model.records import Agent

SENTENCE_MS = 2400
SENTENCE = "one two three four five six seven eight"

GLITCH_MS = 400
"""One short pause at most, where the first sound of a loud echo is known as one only when it ended with the agent's."""

HEARS: dict[str, dict[str, Any]] = {
    "tells that somebody speaks": {"vad": True, "doubted": True},
    "gives up by itself": {"vad": True, "doubted": True, "gives_up": True},
    "tells nothing": {"doubted": True, "gives_up": True},
}
"""What providers do when they hear the caller."""


def talker(how: str, understands: str, **more: Any) -> Agent:
    """Says one long sentence; what the caller says is understood as that, half a second after he began."""
    trigger = {"on": "speech_started", "after_ms": 500} if HEARS[how].get("vad") else {"after_ms": 1100}
    steps = [
        {"do": [{"do": "speak", "text": SENTENCE, "ms": SENTENCE_MS, "level_db": -8}]},
        *([{**trigger, "do": [{"do": "hear", "text": understands}]}] if understands else []),
    ]
    return scripted("talker", steps=[*steps, *more.pop("steps", [])], **HEARS[how], **more)


@asynccontextmanager
async def call_to(agent: Agent) -> AsyncIterator[tuple[TestPhone, CallSession, MediaSession]]:
    """The phone that talks, and the caller's call and line."""
    async with phone(agent) as callee, phone() as caller:
        call = caller.call(callee, SILENT)
        await caller.facts.until(CallAnswered)
        assert call.leg is not None
        yield callee, call, call.leg.media
        call.deliver(HangUp(by="agent", cause="hangup"))
        await caller.over(call)


def say(line: MediaSession, samples: Samples) -> None:
    line.play("caller", encode(Encoding.PCMU, l16(np.concatenate((np.zeros(3200), samples)))))
    line.finish("caller")


def spoken_over(ms: int) -> Samples:
    return voice(4, 4000)[1000 : 1000 + 8 * ms]


def give_back(line: MediaSession, db: float, frames: int = 5) -> None:
    """Echo, so many frames late."""
    late: deque[bytes] = deque([b"\xff" * 160] * frames)

    def echo(frame: bytes) -> None:
        late.append(frame)
        samples = np.frombuffer(decode(Encoding.PCMU, late.popleft()), "<i2") * 10 ** (db / 20)
        line.play("echo", encode(Encoding.PCMU, l16(samples)))

    line.connect(echo)


@pytest.mark.parametrize("how", HEARS)
async def test_an_mm_hm_lets_the_agent_finish_its_sentence(how: str) -> None:
    async with call_to(talker(how, "Mm-hm.")) as (callee, _, line):
        say(line, spoken_over(500))
        turn = await callee.facts.until(TurnSpoken, where=lambda turn: turn.speaker == "agent")
    assert (turn.text, turn.interrupted) == (SENTENCE, False)
    (resumed,) = callee.facts.of(InterruptionResumed)
    assert turn.ended_ms - turn.started_ms >= SENTENCE_MS + resumed.paused_ms - 200
    assert resumed.paused_ms < JUDGEMENT_DEADLINE_S * 1000


@pytest.mark.parametrize("how", HEARS)
async def test_wait_stop_stops_it(how: str) -> None:
    async with call_to(talker(how, "Wait, stop.")) as (callee, _, line):
        say(line, spoken_over(900))
        turn = await callee.facts.until(TurnSpoken, where=lambda turn: turn.speaker == "agent")
    assert turn.interrupted
    assert SENTENCE.startswith(turn.text)
    assert len(turn.text) < len(SENTENCE) / 1.5


@pytest.mark.parametrize(("how", "db"), [*((how, -20) for how in HEARS), ("tells nothing", -12)])
async def test_an_echo_of_the_agent_does_not_stop_it(how: str, db: float) -> None:
    """The scripted agent is loud: its echo would be taken for speech."""
    async with call_to(talker(how, "")) as (callee, _, line):
        give_back(line, db)
        turn = await callee.facts.until(TurnSpoken)
    assert (turn.text, turn.interrupted) == (SENTENCE, False)
    paused_ms = [resumed.paused_ms for resumed in callee.facts.of(InterruptionResumed)]
    assert sum(paused_ms) <= GLITCH_MS, paused_ms


@pytest.mark.parametrize("how", HEARS)
async def test_wait_stop_stops_it_through_an_echo(how: str) -> None:
    async with call_to(talker(how, "Wait, stop.")) as (callee, _, line):
        give_back(line, -20)
        say(line, spoken_over(900))
        turn = await callee.facts.until(TurnSpoken, where=lambda turn: turn.speaker == "agent")
    assert turn.interrupted


async def test_a_goodbye_is_said_to_its_end() -> None:
    bye = {"after_ms": 100, "do": [{"do": "end_call"}]}
    async with call_to(talker("tells that somebody speaks", "Wait, stop.", steps=[bye])) as (callee, _, line):
        say(line, spoken_over(900))
        turn = await callee.facts.until(TurnSpoken, where=lambda turn: turn.speaker == "agent")
    assert (turn.text, turn.interrupted) == (SENTENCE, False)


async def test_times_are_right_though_the_provider_tells_nothing_of_the_caller() -> None:
    """Its answer comes 200 ms after its own detector's 600 ms of silence."""
    answer = [{"do": "hear", "text": "hello"}, {"do": "speak", "text": "yes", "ms": 400}]
    steps = [{"on": "speech_stopped", "after_ms": 200, "do": answer}]
    async with call_to(scripted("shy", vad=True, doubted=True, gives_up=True, steps=steps)) as (callee, _, line):
        say(line, voice(4, 4000)[1000:9000])
        agent = await callee.facts.until(TurnSpoken, where=lambda turn: turn.speaker == "agent")
    (caller,) = [turn for turn in callee.facts.of(TurnSpoken) if turn.speaker == "caller"]
    assert agent.latency_ms is not None
    assert 750 <= agent.latency_ms <= 950
    assert abs(agent.started_ms - caller.ended_ms - agent.latency_ms) <= 1
    assert 800 <= caller.ended_ms - caller.started_ms <= 1100
