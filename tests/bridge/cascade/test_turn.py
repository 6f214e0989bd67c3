"""Whose turn it is: tables of what happens and what is done about it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.bridge.cascade.turn import (
    AgentCut,
    Answer,
    AnswerBegan,
    CallerBegan,
    CallerEnded,
    CallerPaused,
    CallerResumed,
    JudgementOver,
    TryAnswer,
    TurnCommand,
    TurnFact,
    TurnOrder,
    TurnState,
    decide,
)

BEGAN = CallerBegan(overlap="none", unheard=False)
OVER = CallerBegan(overlap="over", unheard=False)
TAIL = CallerBegan(overlap="tail", unheard=False)
UNHEARD = CallerBegan(overlap="none", unheard=True)
HOLD, RELEASE, DROP = TurnOrder.HOLD, TurnOrder.RELEASE, TurnOrder.DROP
JUDGED = JudgementOver(interruptible=True)


def done(*facts: TurnFact) -> list[TurnCommand]:
    state, commands = TurnState(), list[TurnCommand]()
    for fact in facts:
        state, more = decide(state, fact)
        commands += more
    return commands


def said(text: str) -> CallerEnded:
    return CallerEnded(text=text)


def paused(text: str) -> CallerPaused:
    return CallerPaused(text=text)


TABLE: dict[str, tuple[tuple[TurnFact, ...], list[TurnCommand]]] = {
    "a turn is answered": ((BEGAN, said("hello")), [Answer(text="hello")]),
    "a number is a turn": ((BEGAN, said("5")), [Answer(text="5")]),
    "nothing is not": ((BEGAN, said(" ")), []),
    "a sound is not": ((BEGAN, said("Mm-hm.")), []),
    "a trial is released": ((BEGAN, paused("hello"), said("Hello.")), [TryAnswer(text="hello"), RELEASE]),
    "a trial is void when more was said": (
        (BEGAN, paused("hello"), said("hello you")),
        [TryAnswer(text="hello"), DROP, Answer(text="hello you")],
    ),
    "a trial is void when the caller goes on": (
        (BEGAN, paused("hello"), CallerResumed(), said("hello you")),
        [TryAnswer(text="hello"), DROP, Answer(text="hello you")],
    ),
    "a second trial takes the first one's place": (
        (BEGAN, paused("a b"), paused("a b c"), said("a b c")),
        [TryAnswer(text="a b"), DROP, TryAnswer(text="a b c"), RELEASE],
    ),
    "no trial over the agent": ((OVER, paused("wait"), said("wait"), JUDGED), []),
    "cut first, then the turn": ((OVER, AgentCut(), said("wait")), [Answer(text="wait")]),
    "the turn first, then cut": ((OVER, said("wait"), AgentCut()), [Answer(text="wait")]),
    "cut twice is answered once": ((OVER, said("wait"), AgentCut(), AgentCut()), [Answer(text="wait")]),
    "judged no turn": ((OVER, said("yeah"), JUDGED, BEGAN, said("hi")), [Answer(text="hi")]),
    "judged too late": ((OVER, said("wait"), JUDGED, AgentCut()), []),
    "an agent that may not be cut answers afterwards": (
        (OVER, said("my name is Ada"), JudgementOver(interruptible=False)),
        [Answer(text="my name is Ada")],
    ),
    "but no backchannel": ((OVER, said("yeah"), JudgementOver(interruptible=False)), []),
    "over the last sounds a turn is one": ((TAIL, said("my name is Ada")), [Answer(text="my name is Ada")]),
    "and a backchannel none": ((TAIL, paused("okay"), said("okay")), []),
    "an answer waits for more": ((UNHEARD, said("and tea")), [HOLD, DROP, Answer(text="and tea")]),
    "and is given when there was none": ((UNHEARD, paused(""), said("uh")), [HOLD, RELEASE]),
    "no trial while an answer waits": ((UNHEARD, paused("and tea"), said("")), [HOLD, RELEASE]),
    "a tool's result waits for the caller": ((BEGAN, AnswerBegan(), said("")), [HOLD, RELEASE]),
    "but not for silence": ((AnswerBegan(),), []),
}


@pytest.mark.parametrize("case", TABLE)
def test_table(case: str) -> None:
    facts, commands = TABLE[case]
    assert done(*facts) == commands


FACTS = st.one_of(
    st.builds(CallerBegan, overlap=st.sampled_from(["none", "tail", "over"]), unheard=st.booleans()),
    st.builds(CallerPaused, text=st.sampled_from(["", "yeah", "hello"])),
    st.builds(CallerEnded, text=st.sampled_from(["", "yeah", "hello", "hello you"])),
    st.just(CallerResumed()),
    st.just(AgentCut()),
    st.just(AnswerBegan()),
    st.builds(JudgementOver, interruptible=st.booleans()),
)


@given(st.lists(FACTS, max_size=20))
def test_what_is_held_is_released_or_dropped_when_the_caller_ends(facts: list[TurnFact]) -> None:
    """Answers begin on trial (``TryAnswer``), or are held that had begun."""
    shut = False
    for command in done(*facts, said("hello"), BEGAN, said("bye")):
        if command is HOLD or isinstance(command, TryAnswer):
            shut = True
        elif command in (RELEASE, DROP):
            shut = False
    assert not shut
