"""Whole conversations with the real ear and voice, at the pace of a real line."""

from __future__ import annotations

import asyncio
import re
import time

import pytest
from tests.bridge.local.caller import Caller, flite, shipped
from tests.bridge.recording_listener import RecordingListener, request_for

from offhook.bridge.codec import InterruptionJudged, Say, SpeechStarted, ToolCall
from offhook.bridge.local.connection import LocalConnection
from offhook.bridge.local.engine import LocalEngine
from offhook.bridge.local.provider import local_provider
from offhook.bridge.local.rules import GOODBYE
from offhook.model.audio import PCMA_8K, PCMU_8K, AudioFormat

pytestmark = pytest.mark.asyncio(loop_scope="module")

CLOCK = re.compile(r"It is \d{1,2}(:\d\d)? (AM|PM)\.")

SLOWEST_ANSWER_S = 3.0
"""Of a shared machine with every core taken; on one of its own a command is answered 0.25 s after its last sound."""

LONG_SENTENCE = "This is a long sentence that goes on and on, so that there is time to say something over it."


class Line:
    """A caller in a conversation whose greeting is over."""

    def __init__(self, engine: LocalEngine, audio_format: AudioFormat = PCMU_8K) -> None:
        self.listener = RecordingListener()
        request = request_for(self.listener, provider="local", audio_format=audio_format, greeting="Hi.")
        connection = local_provider(engine).factory(request)
        assert isinstance(connection, LocalConnection)
        self.connection = connection
        self.caller = Caller(connection, audio_format)

    async def open(self) -> None:
        await self.connection.open()
        await self.listener.until(lambda: bool(self.listener.said()))
        await self.caller.silent(1500)
        self.listener.events.clear()
        self.listener.times.clear()

    async def ask(self, audio: bytes) -> float:
        """Says it; returns seconds from the end of the recording (and its silence) to the first of the answer."""
        answers = len(self.listener.said())
        await self.caller.say(audio)
        asked = asyncio.get_running_loop().time()
        await self.caller.silent_until(lambda: len(self.listener.said()) > answers)
        return [at for at, what in self.listener.times if what.startswith("audio ")][-1] - asked


@pytest.mark.parametrize(
    "voice", ["rms", pytest.param("slt", marks=pytest.mark.soak), pytest.param("kal", marks=pytest.mark.soak)]
)
async def test_a_spoken_question_gets_the_time(engine: LocalEngine, voice: str) -> None:
    line = Line(engine)
    await line.open()
    latency_s = await line.ask(flite(voice, "what time is it"))
    assert line.listener.heard() == ["what time is it"]
    assert CLOCK.fullmatch(line.listener.said()[0])
    assert latency_s < SLOWEST_ANSWER_S
    await line.connection.close()


async def test_converses_in_pcma_until_goodbye(engine: LocalEngine) -> None:
    line = Line(engine, PCMA_8K)
    await line.open()
    await line.ask(shipped("what_time_is_it", PCMA_8K))
    await line.caller.silent(3000)
    await line.ask(shipped("goodbye", PCMA_8K))
    assert line.listener.heard() == ["what time is it", "goodbye"]
    assert line.listener.said()[1] == GOODBYE
    await line.listener.until(lambda: bool(line.listener.of(ToolCall)))
    assert [call.name for call in line.listener.of(ToolCall)] == ["end_call"]
    await line.connection.close()


@pytest.mark.parametrize(
    ("words", "genuine"),
    [
        ("mm-hm", False),
        pytest.param("uh-huh", False, marks=pytest.mark.soak),
        pytest.param("stop", True, marks=pytest.mark.soak),
        ("wait a moment", True),
    ],
)
async def test_over_the_agent_a_hum_is_none_and_stop_is_a_turn(engine: LocalEngine, words: str, genuine: bool) -> None:
    line = Line(engine)
    await line.open()
    line.connection.send(Say(text=LONG_SENTENCE))
    await line.listener.until(lambda: bool(line.listener.said()))
    await line.caller.silent(1000)
    await line.caller.say(flite("rms", words))
    await line.caller.silent_until(lambda: bool(line.listener.of(InterruptionJudged)))
    await line.caller.silent(800)
    assert len(line.listener.of(SpeechStarted)) == 1
    assert line.listener.of(InterruptionJudged) == [InterruptionJudged(genuine=genuine)]
    assert line.listener.said() == [LONG_SENTENCE]
    await line.connection.close()


async def test_a_frame_costs_next_to_nothing(engine: LocalEngine) -> None:
    line = Line(engine)
    await line.open()
    frame = b"\xff" * 160
    costs = []
    for _ in range(2000):
        began = time.perf_counter()
        line.connection.send_audio(frame)
        costs.append(time.perf_counter() - began)
    assert sorted(costs)[1000] < 100e-6
    await line.connection.close()
