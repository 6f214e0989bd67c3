"""Forty generated answers, spoken by flite: who picked up, by the watch itself, and over whole calls."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from tests.answers import Answer, Answers, Samples, on_the_line
from tests.audio.signals import spoken
from tests.call.phones import HOST, Facts, phone, scripted
from tests.call.pickups import PlayedPickup
from tests.interop.answering_party import AnsweringParty
from tests.interop.offhook_server import scripted as scripted_form
from tests.interop.sip4ai_server import Sip4ai

from offhook.audio.g711 import decode
from offhook.bridge.local.engine import LocalEngine, available
from offhook.call.ports import Spotter
from offhook.call.session import CallSession
from offhook.model.audio import AudioFormat, Encoding
from offhook.model.call_events import AnswerJudged, CallEnded, TurnSpoken
from offhook.model.records import AnsweringMachinePlan
from offhook.sip.events import Address

LEAST_RIGHT = 36
LATEST_MS = 4000
LEVELS_DBM0 = (-16.0, -20.0, -26.0)

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module", name="forty")
def _forty(tmp_path_factory: pytest.TempPathFactory) -> list[Answer]:
    """Spoken once for all tests here."""
    folder = tmp_path_factory.mktemp("speech")
    levels = iter(LEVELS_DBM0 * 20)

    def speak(voice: str, text: str) -> Samples:
        samples = spoken(text, folder, voice=voice, level_dbm0=next(levels))
        loud = np.flatnonzero(np.abs(samples) > 100)
        return samples[loud[0] : loud[-1] + 1]

    return list(Answers(speak))


@lru_cache(maxsize=1)
def spotter() -> Spotter:
    """The recogniser, in this process."""
    missing = available()
    if missing is not None:
        pytest.skip(missing)
    from offhook.bridge.local.recogniser import Recogniser  # noqa: PLC0415  only where it is installed

    recogniser = Recogniser()

    async def spot(audio: bytes, audio_format: AudioFormat) -> tuple[str, ...]:
        return recogniser.spot(decode(audio_format.encoding, audio))

    return spot


def judge(answer: Answer, spot: Spotter | None, seed: int) -> tuple[str, int, str]:
    """The last verdict in time, how long after the decisive sound it came, and its evidence."""
    call = PlayedPickup(spotter=spot, encoding=(Encoding.PCMU, Encoding.PCMA)[seed % 2])
    if answer.early is not None:
        call.early(on_the_line(answer.early, seed))
    if answer.answered.size:
        call.answered(on_the_line(answer.answered, seed))
    call.close()
    in_time = [(at - answer.decided_ms, judged) for at, judged in call.judged if at <= answer.decided_ms + LATEST_MS]
    if not in_time:
        return "nobody", LATEST_MS, ""
    delay, judged = in_time[-1]
    return judged.by, delay, judged.evidence


@pytest.mark.parametrize(("understands", "least"), [(True, LEAST_RIGHT), (False, 28)], ids=["words", "without words"])
def test_who_picked_up_is_known_within_four_seconds(understands: bool, least: int, forty: list[Answer]) -> None:
    spot = spotter() if understands else None
    confusion: Counter[tuple[str, str]] = Counter()
    for seed, answer in enumerate(forty):
        found, delay, evidence = judge(answer, spot, seed)
        confusion[answer.truth, found] += 1
        mark = "  " if found == answer.truth else "✗ "
        print(f"{mark}{answer.name:46} {answer.truth:9} {found:9} {delay:6} ms  {evidence}")
    right = sum(count for (truth, found), count in confusion.items() if truth == found)
    print(f"{right} of {len(forty)} right: {dict(confusion)}")
    assert len(forty) == 40
    assert right >= least


# ── over whole calls ─────────────────────────────────────────────────────────────────────────────────────────

CALLED = (0, 4, 7, 8, 9, 14, 16, 20, 22, 24, 28, 30, 32, 34, 36, 39)
"""Of the forty, some of each kind."""

GREETING = "Hello, this is the agent of Acme."


@pytest.fixture(name="engine")
async def _engine() -> AsyncIterator[LocalEngine]:
    """A recogniser process, as a server has one."""
    missing = available()
    if missing is not None:
        pytest.skip(missing)
    engine = LocalEngine(recognisers=1, voices=1)
    await engine.start()
    yield engine
    await engine.close()


WATCHES = replace(
    scripted("caller", steps=[{"on": "ready", "do": [{"do": "speak", "text": GREETING, "ms": 600}]}]),
    machines=AnsweringMachinePlan(detect=True),
)


def judged(facts: Facts, call: CallSession) -> list[tuple[float, AnswerJudged]]:
    events = (event for event in facts.events if event.call_id == call.call_id)
    return [(event.at, event.fact) for event in events if isinstance(event.fact, AnswerJudged)]


async def until_decided(party: AnsweringParty, count: int) -> None:
    """Every call was answered, and four seconds have passed since the sound that decides."""
    async with asyncio.timeout(60):
        while len(party.calls) < count or any(  # noqa: ASYNC110 it is time that passes
            not call.decided_at or time.time() < call.decided_at + LATEST_MS / 1000
            for call in party.calls.values()
            if not call.over.is_set()
        ):
            await asyncio.sleep(0.1)


async def test_calls_side_by_side_are_judged_in_time(engine: LocalEngine, forty: list[Answer]) -> None:
    async with AnsweringParty.open(forty) as party, phone(spotter=lambda: engine.spot, voice=engine) as ours:
        target = Address(HOST, party.port)
        calls = {number: ours.call(target, WATCHES, user=str(number)) for number in CALLED}
        await until_decided(party, len(CALLED))
        for call in calls.values():
            ours.hang_up(call)
            await ours.over(call)
        decided = {call.answer.name: call.decided_at for call in party.calls.values()}
        right = 0
        for number, call in calls.items():
            answer, verdicts = forty[number], judged(ours.facts, call)
            in_time = [one for at, one in verdicts if at <= decided[answer.name] + LATEST_MS / 1000]
            good = bool(in_time) and in_time[-1].by == answer.truth
            right += good
            told = [f"{one.by}{' early' if one.early else ''}: {one.evidence}" for _, one in verdicts]
            print(f"{'  ' if good else '✗ '}{answer.name:46} {answer.truth:9} {told}")
        print(f"{right} of {len(CALLED)} right")
    assert right >= len(CALLED) - 1


def answer_of(forty: list[Answer], name: str) -> int:
    return next(number for number, answer in enumerate(forty) if answer.name.startswith(name))


async def test_a_person_is_greeted_and_voicemail_is_not(engine: LocalEngine, forty: list[Answer]) -> None:
    """The greeting waits until it is known who listens; on voicemail it is not said, and the message is."""
    message = AnsweringMachinePlan(detect=True, on_voicemail="leave_message", message="Please call us back.")
    leaves = replace(WATCHES, machines=message)
    async with AnsweringParty.open(forty) as party, phone(spotter=lambda: engine.spot, voice=engine) as ours:
        target = Address(HOST, party.port)
        person = ours.call(target, WATCHES, user=str(answer_of(forty, "short, slt")))
        machine = ours.call(target, leaves, user=str(answer_of(forty, "voicemail, slt, 1400")))
        await ours.over(machine)
        ours.hang_up(person)
        await ours.over(person)
        ends = {event.call_id: event.fact for event in ours.facts.events if isinstance(event.fact, CallEnded)}
        turns = {
            call.call_id: [event.fact for event in ours.facts.events if event.call_id == call.call_id]
            for call in (person, machine)
        }
        heard = {call.answer.name: call.phone.heard() for call in party.calls.values()}
    said = {call_id: [fact.text for fact in facts if isinstance(fact, TurnSpoken)] for call_id, facts in turns.items()}
    assert said[person.call_id] == [GREETING]
    assert said[machine.call_id] == ["Please call us back."]
    assert ends[machine.call_id].cause == "answering_machine"
    beep_ended_ms = forty[answer_of(forty, "voicemail, slt, 1400")].decided_ms
    before = next(sound for name, sound in heard.items() if name.startswith("voicemail"))[: 8 * (beep_ended_ms - 200)]
    assert np.abs(before).max() < 300, "something was said into the greeting"


async def test_a_server_says_who_answered(sip4ai: Callable[..., Awaitable[Sip4ai]], forty: list[Answer]) -> None:
    """The whole program, from ``POST /api/calls`` to the call's record; its recogniser is a process of its own."""
    if available() is not None:
        pytest.skip(str(available()))
    kinds = {"voicemail, slt, 440": "voicemail", "screening, rms": "screening", "fax CED": "fax", "short, slt": "human"}
    leaves = {"detect": True, "on_voicemail": "hang_up", "on_screening": "hang_up"}
    async with AnsweringParty.open(forty) as party:
        server = await sip4ai(
            {
                "agents": [scripted_form("talks", greeting_ms=300, greeting_text="Good morning.")],
                "trunks": [{"id": "line", "kind": "gateway", "targets": [f"sip:{HOST}:{party.port}"]}],
                "dialling": {"max_calls": 100, "calls_per_min": 0},
            }
        )
        numbers = {name: answer_of(forty, name) for name in kinds}
        calls = {
            name: await server.places(str(number), trunk_id="line", agent_id="talks", machines=leaves)
            for name, number in numbers.items()
        }
        for name in ("voicemail, slt, 440", "screening, rms", "fax CED"):
            await server.over(calls[name])
        found = {name: server.record(call_id) for name, call_id in calls.items()}
    assert {name: record["answered_by"] for name, record in found.items()} == kinds
    causes = {name: record["cause"] for name, record in found.items() if name != "short, slt"}
    assert set(causes.values()) == {"answering_machine"}
