"""Whole calls whose agent waits until it is known who picked up: what its provider is told, and what is heard."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from tests.call.exchange import CALLER_HZ, TARGET, hears_only, humming
from tests.call.phones import PATIENCE_S, SILENT, Facts, TestPhone, phone, scripted
from tests.call.toys import Toys

from offhook.bridge.codec import Begin, Say, TextInput
from offhook.call.answer_watch import LEAVE_A_MESSAGE
from offhook.call.dialling import PlaceCall
from offhook.call.session import CallSession
from offhook.model.audio import AudioFormat
from offhook.model.call_events import (
    AnswerJudged,
    CallAnswered,
    CallEnded,
    HoldChanged,
    PartyReplaced,
    RecordingWritten,
    TransferEnded,
    TransferMode,
    TurnSpoken,
)
from offhook.model.records import Agent, AnsweringMachinePlan, TransferDestination
from offhook.sip.uri import SipUri

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


def to(callee: TestPhone) -> str:
    return f"sip:demo@{callee.address.host}:{callee.address.port}"


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


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("mode", ["blind", "bridge"])
async def test_who_is_sent_on_before_he_is_known_hears_the_other_at_once_and_is_not_cut_off(
    mode: TransferMode, early: bool
) -> None:
    plan = AnsweringMachinePlan(detect=True, on_voicemail="hang_up")
    quiet, rings = replace(SILENT, machines=plan), humming("rings", CALLER_HZ, rings_ms=500)
    toys = Toys(greets_on_open=True)
    async with phone(rings) as theirs, phone(TARGET) as target, phone(bridges=toys) as ours:
        call = ours.call(theirs, quiet)
        if not early:
            await ours.facts.until(CallAnswered)
        destination = TransferDestination(name="sales", target=to(target), mode=mode)
        ours.phone.manager.transfer(call.call_id, destination)
        assert (await ours.facts.until(TransferEnded)).outcome == "connected"
        await hears_only(target.only_call, {"caller"})
        assert ours.facts.of(AnswerJudged) == []
        assert ours.facts.of(CallEnded) == []
        await hang_up(ours, call)
    assert all(connection.closed for connection in toys.connections if connection.opened)


async def test_who_comes_in_the_place_of_an_unknown_one_is_greeted() -> None:
    toys = Toys()
    async with phone(SILENT) as theirs, phone(bridges=toys) as ours:
        call = ours.call(theirs, agent())
        await ours.facts.until(CallAnswered)
        replaced = theirs.only_call.leg
        assert replaced is not None
        replaces = theirs.phone.endpoint.user_agent.replaces_value(replaced.usage_id)
        takes_over = PlaceCall(target=SipUri.parse(to(ours)), agent=SILENT, headers=(("Replaces", replaces),))
        theirs.phone.manager.place(takes_over)
        await ours.facts.until(PartyReplaced)
        await until_told(toys, Begin)
        assert ours.facts.of(AnswerJudged) == []
        await hang_up(ours, call)


async def test_who_is_on_hold_is_not_taken_for_somebody_who_says_nothing() -> None:
    toys = Toys()
    async with phone(SILENT) as theirs, phone(bridges=toys) as ours:
        call = ours.call(theirs, agent())
        await ours.facts.until(CallAnswered)
        ours.phone.manager.hold(call.call_id, True)
        await theirs.facts.until(HoldChanged)
        await asyncio.sleep(3.0)  # longer than it takes for nobody to be somebody
        assert ours.facts.of(AnswerJudged) == []
        ours.phone.manager.hold(call.call_id, False)
        assert (await verdict(ours.facts)).by == "human"
        await until_told(toys, Begin)
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


async def test_one_that_hangs_up_says_why_and_what_it_heard_is_recorded(tmp_path: Path) -> None:
    recorded = replace(agent(on_voicemail="hang_up"), record=True)
    async with phone(BEEPS) as theirs, phone(bridges=Toys(), folder=tmp_path) as ours:
        call = ours.call(theirs, recorded)
        await ours.over(call)
        ended = await ours.ended()
        assert ended.cause == "answering_machine"
        assert ended.reason == "voicemail picked up: beep of 1000 Hz, then silence"
        assert ours.facts.of(RecordingWritten)


async def test_without_detection_the_agent_begins_at_once() -> None:
    toys = Toys()
    async with phone(SILENT) as theirs, phone(bridges=toys) as ours:
        call = ours.call(theirs, replace(agent(), machines=AnsweringMachinePlan()))
        await until_told(toys, Begin)
        assert ours.facts.of(AnswerJudged) == []
        await hang_up(ours, call)
