"""Barge-in: every way it can go, told with times."""

from __future__ import annotations

from offhook.call.barge_in import (
    JUDGEMENT_DEADLINE_S,
    BargeIn,
    BargeInCommand,
    BargeInFact,
    CallerSpeech,
    CutItems,
    DeadlinePassed,
    Judged,
    PausePlayout,
    ResumePlayout,
    decide,
)


def speaks(at: float = 10.0, *, over_agent: bool = True, judged_later: bool = True) -> CallerSpeech:
    return CallerSpeech(started=True, agent_audible=over_agent, judged_later=judged_later, at=at)


def falls_silent(at: float) -> CallerSpeech:
    return CallerSpeech(started=False, agent_audible=True, judged_later=True, at=at)


def judged(genuine: bool, at: float, *, agent_audible: bool = True) -> Judged:
    return Judged(genuine=genuine, agent_audible=agent_audible, at=at)


def told(*facts: BargeInFact) -> list[BargeInCommand]:
    """Every command that a run of facts brings."""
    state, commands = BargeIn(), list[BargeInCommand]()
    for fact in facts:
        state, decided = decide(state, fact)
        commands += decided
    return commands


def test_a_backchannel_pauses_and_then_the_agent_goes_on() -> None:
    assert told(speaks(10.0), falls_silent(10.4), judged(False, 10.6)) == [
        PausePlayout(judge_by=10.0 + JUDGEMENT_DEADLINE_S),
        ResumePlayout(paused_ms=600),
    ]


def test_a_turn_pauses_and_then_cuts() -> None:
    assert told(speaks(10.0), judged(True, 10.9)) == [PausePlayout(judge_by=10.0 + JUDGEMENT_DEADLINE_S), CutItems()]


def test_a_provider_that_does_not_judge_is_cut_at_once() -> None:
    assert told(speaks(judged_later=False)) == [CutItems()]


def test_nothing_happens_while_the_agent_is_silent() -> None:
    assert told(speaks(over_agent=False), judged(False, 10.5), judged(True, 10.6, agent_audible=False)) == []


def test_a_late_genuine_judgement_cuts_an_agent_that_was_not_paused() -> None:
    assert told(judged(True, 11.0)) == [CutItems()]


def test_a_silent_judge_means_resume_when_the_caller_is_silent() -> None:
    after = 10.0 + JUDGEMENT_DEADLINE_S
    assert told(speaks(10.0), falls_silent(10.3), DeadlinePassed(at=after))[-1] == ResumePlayout(
        paused_ms=round(JUDGEMENT_DEADLINE_S * 1000)
    )


def test_a_silent_judge_means_cut_while_the_caller_still_speaks() -> None:
    assert told(speaks(10.0), DeadlinePassed(at=10.0 + JUDGEMENT_DEADLINE_S))[-1] == CutItems()


def test_the_deadline_of_an_earlier_pause_decides_nothing() -> None:
    commands = told(speaks(10.0), judged(False, 10.5), speaks(12.0), DeadlinePassed(at=12.5))
    assert commands[-1] == PausePlayout(judge_by=12.0 + JUDGEMENT_DEADLINE_S)


def test_one_pause_at_a_time() -> None:
    assert len(told(speaks(10.0), falls_silent(10.2), speaks(10.4))) == 1
