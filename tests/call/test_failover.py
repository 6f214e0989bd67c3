"""A provider fails in the middle of a talk, at its beginning, or before it: who goes on, and what the caller hears."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.call.phones import NOTHING_LEFT, TestPhone, phone, scripted
from tests.call.toys import Toys

from offhook.audio.tones import tone
from offhook.bridge.codec import BridgeEvent, BridgeFault, Ready, ResponseStarted, SpeechStarted, TextInput
from offhook.call import agent_seat, own_words
from offhook.call.own_words import PROMPTS
from offhook.model.audio import L16_16K, PCMA_8K, PCMU_8K, AudioFormat, Encoding
from offhook.model.call_events import (
    AgentJoined,
    CallAnswered,
    CallEnded,
    ProviderFailed,
    ProviderReplaced,
    TransferEnded,
    TurnSpoken,
)
from offhook.model.records import (
    Agent,
    Fallback,
    PromptFallback,
    ProviderFallback,
    TransferDestination,
    TransferFallback,
)

PROMPT_AUDIO = own_words.prompt_audio
GREETING: dict[str, Any] = {"greeting_tone_hz": 700, "greeting_ms": 300, "greeting_text": "hello"}
HANGS_UP: dict[str, Any] = {"do": "end_call"}


@pytest.fixture(autouse=True)
def _brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts as short as a word: what is said is judged here, not how it sounds."""

    def short(prompt: own_words.Prompt, audio_format: AudioFormat) -> bytes:
        return tone(600, 160, -18, audio_format.encoding, sample_rate_hz=audio_format.sample_rate_hz)

    monkeypatch.setattr(own_words, "prompt_audio", short)


def fails(after_ms: int = 100, verdict: str = "fall_over") -> dict[str, Any]:
    """A step of a script: its connection breaks."""
    return {"on": "ready", "after_ms": after_ms, "do": [{"do": "fail", "problem": "socket closed", "verdict": verdict}]}


def another(**script: Any) -> ProviderFallback:
    return ProviderFallback(provider="scripted", options=scripted(**script).options)


def failing(*fallbacks: Fallback, **script: Any) -> Agent:
    """An agent whose first provider does this."""
    return replace(scripted("agent", **script), fallbacks=fallbacks)


def said(callee: TestPhone) -> list[str]:
    return [turn.text for turn in callee.facts.of(TurnSpoken)]


async def call_of(agent: Agent) -> TestPhone:
    """One whole call that the agent answers, until it is over."""
    async with phone(agent) as callee, phone() as caller:
        await caller.over(caller.call(callee))
        await callee.ended()
        await callee.quiet()
        assert callee.left_over == NOTHING_LEFT
    return callee


async def test_another_provider_goes_on_and_the_record_says_so() -> None:
    takes_over = {"on": "text", "do": [{"do": "speak", "text": "here I am again", "ms": 200}, HANGS_UP]}
    callee = await call_of(failing(another(steps=[takes_over]), **GREETING, steps=[fails(500)]))
    assert said(callee) == ["hello", "here I am again"]
    assert callee.facts.of(ProviderReplaced) == [
        ProviderReplaced(failed="scripted", by="scripted", problem="socket closed")
    ]
    assert [fact.verdict for fact in callee.facts.of(ProviderFailed)] == ["fall_over"]
    (ended,) = callee.facts.of(CallEnded)
    assert (ended.by, ended.cause, ended.provider_fault) == ("agent", "hangup", None)


async def test_one_that_failed_before_a_word_was_heard_is_replaced_by_one_that_greets() -> None:
    callee = await call_of(failing(another(**GREETING, hang_up_after_ms=60), steps=[fails(20)]))
    assert said(callee)[-1] == "hello"
    assert callee.facts.of(CallEnded)[0].cause == "hangup"


async def test_one_that_cannot_be_opened_is_replaced_while_it_rings() -> None:
    callee = await call_of(
        failing(another(**GREETING, hang_up_after_ms=60), open_fault="no such key", open_verdict="fatal")
    )
    assert said(callee) == ["hello"]
    names = callee.facts.names()
    assert names.index("ProviderFailed") < names.index("ProviderReplaced") < names.index("CallAnswered")
    assert callee.facts.of(AgentJoined) == [AgentJoined(agent_id="agent", provider="scripted")]


async def test_one_whose_options_cannot_be_read_is_replaced_at_once() -> None:
    agent = failing(another(**GREETING, hang_up_after_ms=60))
    callee = await call_of(replace(agent, options={"script": "no script"}))
    assert said(callee) == ["hello"]
    assert "no script" in callee.facts.of(ProviderFailed)[0].problem or callee.facts.of(ProviderFailed)


async def test_the_caller_hears_that_he_should_wait_where_the_next_one_takes_its_time() -> None:
    back = {"on": "text", "do": [{"do": "speak", "text": "back", "ms": 100}, HANGS_UP]}
    slow = another(open_after_ms=1800, steps=[back])
    callee = await call_of(failing(slow, **GREETING, steps=[fails(500)]))
    assert said(callee) == ["hello", PROMPTS["one_moment"], "back"]
    at = {type(event.fact): event.at for event in callee.facts.events}
    waited_s = callee.facts.of(TurnSpoken)[1].started_ms / 1000 - (at[ProviderFailed] - at[CallAnswered])
    assert waited_s < 2.0


@pytest.mark.parametrize("prompt", list(PROMPTS))
@pytest.mark.parametrize("audio_format", [PCMU_8K, PCMA_8K, L16_16K])
def test_the_prompts_are_shipped_and_short(prompt: own_words.Prompt, audio_format: AudioFormat) -> None:
    audio = PROMPT_AUDIO(prompt, audio_format)
    assert 800 < len(audio) // audio_format.bytes_per_ms < 4000
    assert len(set(audio)) > 20


async def test_without_a_fallback_the_caller_is_told_and_the_call_ends() -> None:
    callee = await call_of(failing(**GREETING, steps=[fails(500)]))
    assert said(callee) == ["hello", PROMPTS["apology"]]
    (ended,) = callee.facts.of(CallEnded)
    assert (ended.by, ended.cause, ended.provider_fault) == ("system", "provider_failed", "socket closed")


async def test_every_fallback_is_tried_in_its_order() -> None:
    broken = another(open_fault="it is down", open_verdict="fall_over")
    callee = await call_of(failing(broken, PromptFallback(), **GREETING, steps=[fails(500)]))
    assert said(callee) == ["hello", PROMPTS["apology"]]
    assert [fact.problem for fact in callee.facts.of(ProviderFailed)] == ["socket closed", "it is down"]
    assert callee.facts.of(CallEnded)[0].cause == "provider_failed"


async def test_a_prompt_before_the_answer_picks_up_first() -> None:
    callee = await call_of(failing(PromptFallback(), open_fault="it is down"))
    assert said(callee) == [PROMPTS["apology"]]
    assert len(callee.facts.of(CallAnswered)) == 1
    assert callee.facts.of(CallEnded)[0].cause == "provider_failed"


@pytest.mark.parametrize("early", [False, True], ids=["in the talk", "while it rings"])
async def test_the_caller_is_handed_to_a_person(early: bool) -> None:
    broken: dict[str, Any] = {"open_fault": "it is down"} if early else {**GREETING, "steps": [fails(500)]}
    operator = scripted("operator", greeting_tone_hz=500, greeting_ms=200, greeting_text="office", hang_up_after_ms=400)
    async with phone(operator) as office:
        target = f"sip:operator@{office.address.host}:{office.address.port}"
        person = TransferDestination(name="Office", target=target, mode="bridge")
        callee = await call_of(
            replace(failing(TransferFallback(destination="office"), **broken), destinations=(person,))
        )
    assert [ended.outcome for ended in callee.facts.of(TransferEnded)] == ["connected"]
    assert callee.facts.of(CallEnded)[0].by == "operator"


async def test_a_person_who_does_not_answer_leaves_an_apology() -> None:
    async with phone() as office:  # nobody is there
        target = f"sip:nobody@{office.address.host}:{office.address.port}"
        person = TransferDestination(name="Office", target=target, mode="bridge")
        agent = failing(TransferFallback(destination="Office"), **GREETING, steps=[fails(500)])
        callee = await call_of(replace(agent, destinations=(person,)))
    assert said(callee) == ["hello", PROMPTS["apology"]]
    assert callee.facts.of(CallEnded)[0].cause == "provider_failed"


async def test_what_is_reached_again_by_itself_says_nothing_of_it_unless_it_takes_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(agent_seat, "RECONNECTING_S", 0.5)
    quick = {"on": "ready", "after_ms": 800, "do": [{"do": "speak", "text": "so", "ms": 100}]}
    done = {"on": "ready", "after_ms": 1800, "do": [HANGS_UP]}
    callee = await call_of(failing(**GREETING, steps=[fails(500, "retry"), quick, done]))
    assert said(callee) == ["hello", "so"]
    callee = await call_of(failing(**GREETING, steps=[fails(500, "retry"), done]))
    assert said(callee) == ["hello", PROMPTS["one_moment"]]
    assert [fact.verdict for fact in callee.facts.of(ProviderFailed)] == ["retry"]


@pytest.mark.parametrize("owed", [ResponseStarted(), SpeechStarted()], ids=["its answer", "what the caller said"])
async def test_one_that_was_reached_again_and_lost_something_is_asked_to_go_on(
    owed: BridgeEvent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only then: providers that go on by themselves are not asked twice."""
    monkeypatch.setattr(agent_seat, "RECONNECTING_S", 0.3)
    toys = Toys()
    agent = scripted(steps=[{"on": "text", "do": [{"do": "speak", "text": "as I said", "ms": 200}, HANGS_UP]}])
    async with phone(agent, bridges=toys) as callee, phone() as caller:
        call = caller.call(callee)
        await callee.facts.until(CallAnswered)
        provider = toys.requests[0].listener
        for event in (owed, BridgeFault(problem="lost", verdict="retry"), Ready()):
            provider.bridge_event(event)
        assert toys.told(TextInput) == []
        await caller.over(call)
        await callee.ended()
    assert said(callee) == [PROMPTS["one_moment"], "as I said"]
    (asked,) = toys.told(TextInput)
    assert (asked.role, asked.respond) == ("system", True)


async def test_words_from_before_the_connection_broke_are_no_sign_that_it_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are heard after it: providers send faster than is spoken."""
    monkeypatch.setattr(agent_seat, "RECONNECTING_S", 0.3)
    toys = Toys()
    agent = scripted(steps=[{"on": "text", "do": [{"do": "speak", "text": "as I said", "ms": 200}, HANGS_UP]}])
    async with phone(agent, bridges=toys) as callee, phone() as caller:
        call = caller.call(callee)
        await callee.facts.until(CallAnswered)
        provider = toys.requests[0].listener
        provider.bridge_event(ResponseStarted())
        provider.audio_out("half", tone(500, 200, -12, Encoding.PCMU))
        for event in (BridgeFault(problem="lost", verdict="retry"), Ready()):
            provider.bridge_event(event)
        await caller.over(call)
        await callee.ended()
    assert said(callee)[-2:] == [PROMPTS["one_moment"], "as I said"]


async def test_a_failure_after_the_agents_goodbye_changes_nothing() -> None:
    goodbye = [{"do": "speak", "text": "bye", "ms": 400}, HANGS_UP, {"do": "fail", "verdict": "fatal"}]
    callee = await call_of(failing(another(**GREETING), steps=[{"on": "ready", "after_ms": 40, "do": goodbye}]))
    assert said(callee) == ["bye"]
    assert callee.facts.of(CallEnded)[0].cause == "hangup"
