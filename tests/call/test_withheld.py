"""Whole calls whose agent waits until it is known who picked up: what its provider is told, and what is heard."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from tests.call.phones import PATIENCE_S, SILENT, Facts, TestPhone, phone, scripted
from tests.call.toys import Toys

from offhook.bridge.codec import Begin, Say, TextInput
from offhook.call.answer_watch import LEAVE_A_MESSAGE
from offhook.call.session import CallSession
from offhook.model.audio import AudioFormat
from offhook.model.call_events import AnswerJudged, CallEnded, RecordingWritten, TurnSpoken
from offhook.model.records import Agent, AnsweringMachinePlan

BEEPS = scripted("beeps", steps=[{"on": "ready", "after_ms": 200, "do": [{"do": "speak", "ms": 400, "tone_hz": 1000}]}])
"""A machine without a greeting: one beep, and then it listens."""

GREETING = "hello from us"


def agent(**plan: str) -> Agent:
    greets = scripted("caller", steps=[{"on": "ready", "do": [{"do": "speak", "text": GREETING, "ms": 300}]}])
    return replace(greets, machines=AnsweringMachinePlan(detect=True, **plan))  # type: ignore[arg-type]  # literals


async def verdict(facts: Facts) -> AnswerJudged:
    return await facts.until(AnswerJudged)


async def until_told(toys: Toys, kind: type[Begin | TextInput | Say], session: int = 0) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while len(toys.connections) <= session or not toys.told(kind, session):  # noqa: ASYNC110 a script has no event for it
            await asyncio.sleep(0.01)


def turns(facts: Facts) -> list[str]:
    return [fact.text for fact in facts.of(TurnSpoken)]


async def hang_up(ours: TestPhone, call: CallSession) -> CallEnded:
    ours.hang_up(call)
    await ours.over(call)
    return await ours.ended()


async def test_somebody_who_says_nothing_is_greeted_once_he_is_known_to_be_one(tmp_path: Path) -> None:
    toys = Toys()
    async with phone(SILENT) as theirs, phone(bridges=toys, folder=tmp_path) as ours:
        call = ours.call(theirs, agent())
        found = await verdict(ours.facts)
        assert (found.by, found.early) == ("human", False)
        await until_told(toys, Begin)
        await ours.facts.until(TurnSpoken)
        assert turns(ours.facts) == [GREETING]
        await hang_up(ours, call)
        heard_at = next(fact.started_ms for fact in ours.facts.of(TurnSpoken))
        assert 2400 <= heard_at <= 4500


async def test_voicemail_hears_no_greeting_and_the_agent_is_told_to_leave_a_message() -> None:
    toys = Toys()
    async with phone(BEEPS) as theirs, phone(bridges=toys) as ours:
        call = ours.call(theirs, agent())
        found = await verdict(ours.facts)
        assert found.by == "voicemail"
        await until_told(toys, TextInput)
        assert toys.told(Begin) == []
        assert [told.text for told in toys.told(TextInput)] == [LEAVE_A_MESSAGE]
        await hang_up(ours, call)
        assert turns(ours.facts) == []


async def test_one_that_greets_as_soon_as_it_is_open_is_exchanged_for_one_that_does_not() -> None:
    toys = Toys(greets_on_open=True)
    async with phone(BEEPS) as theirs, phone(bridges=toys) as ours:
        call = ours.call(theirs, agent())
        await verdict(ours.facts)
        async with asyncio.timeout(PATIENCE_S):
            while len(toys.connections) < 2:  # noqa: ASYNC110 a script has no event for it
                await asyncio.sleep(0.01)
        await until_told(toys, TextInput, session=1)
        assert [request.greets for request in toys.requests] == [True, False]
        assert [connection.opened for connection in toys.connections] == [False, True]
        await hang_up(ours, call)


class Voice:
    """Speaks half a second for every text."""

    def __init__(self) -> None:
        self.said: list[str] = []

    async def speak(self, text: str, audio_format: AudioFormat) -> bytes:
        self.said.append(text)
        await asyncio.sleep(0.3)  # a voice that has to be started first
        return bytes([0x55]) * (500 * audio_format.bytes_per_ms)


async def test_a_message_is_said_to_its_end_and_then_the_call_ends() -> None:
    voice, plan = Voice(), {"on_voicemail": "leave_message", "message": "Call us back."}
    async with phone(BEEPS) as theirs, phone(bridges=Toys(exact_say=False), voice=voice) as ours:
        call = ours.call(theirs, agent(**plan))
        await ours.over(call)
        ended = await ours.ended()
        assert (ended.cause, ended.by) == ("answering_machine", "system")
        assert voice.said == ["Call us back."]
        assert turns(ours.facts) == ["Call us back."]
        (turn,) = ours.facts.of(TurnSpoken)
        assert not turn.interrupted


@pytest.mark.parametrize("greets_on_open", [False, True])
async def test_without_a_voice_of_our_own_the_agents_says_it(greets_on_open: bool) -> None:
    toys, plan = Toys(greets_on_open=greets_on_open), {"on_voicemail": "leave_message", "message": "Call us back."}
    async with phone(BEEPS) as theirs, phone(bridges=toys) as ours:
        call = ours.call(theirs, agent(**plan))
        await ours.over(call)
        assert (await ours.ended()).cause == "answering_machine"
        assert [said.text for said in toys.told(Say, session=int(greets_on_open))] == ["Call us back."]
        assert turns(ours.facts)[-1] == "Call us back."  # the script greets, whatever it is asked


async def test_one_that_hangs_up_says_why() -> None:
    async with phone(BEEPS) as theirs, phone(bridges=Toys()) as ours:
        call = ours.call(theirs, agent(on_voicemail="hang_up"))
        await ours.over(call)
        ended = await ours.ended()
        assert ended.cause == "answering_machine"
        assert ended.reason == "voicemail picked up: beep of 1000 Hz, then silence"


async def test_the_recording_runs_while_nothing_is_known(tmp_path: Path) -> None:
    recorded = replace(agent(on_voicemail="hang_up"), record=True)
    async with phone(BEEPS) as theirs, phone(bridges=Toys(), folder=tmp_path) as ours:
        call = ours.call(theirs, recorded)
        await ours.over(call)
        assert ours.facts.of(RecordingWritten)


async def test_without_detection_the_agent_begins_at_once() -> None:
    toys = Toys()
    async with phone(SILENT) as theirs, phone(bridges=toys) as ours:
        call = ours.call(theirs, replace(agent(), machines=AnsweringMachinePlan()))
        await until_told(toys, Begin)
        assert ours.facts.of(AnswerJudged) == []
        await hang_up(ours, call)
