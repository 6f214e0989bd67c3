"""Whose turn it is, decided: (state, fact) → (state, commands). Pure.

The call judges whether speech over the agent is a turn; until it cuts the agent, such speech is not answered. Speech
before an answer could be heard holds the answer back until it is known whether the caller had more to say.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Literal, assert_never

from offhook.bridge.backchannels import is_backchannel, is_sound, same_words

Overlap = Literal["none", "tail", "over"]
"""Speech that began in silence; over the agent's last sounds; over the agent."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TurnState:
    """``speaking``: the caller. ``withheld``: a turn over the agent that waits for the call's judgement. ``trial``:
    what an answer is being made to on trial. ``holding``: an answer to what was said before waits for the end of what
    the caller says now.
    """

    speaking: bool = False
    overlap: Overlap = "none"
    cut: bool = False
    withheld: str = ""
    trial: str = ""
    holding: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class CallerBegan:
    """``unheard``: an answer is being made of which nothing was given to the call yet."""

    overlap: Overlap
    unheard: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class CallerPaused:
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CallerResumed:
    pass


@dataclass(frozen=True, kw_only=True, slots=True)
class CallerEnded:
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentCut:
    """The call judged: what the caller says, or said, over the agent is a turn."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerBegan:
    """To something else than the caller's words: a tool's result, or what the call told."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgementOver:
    """The call had its time to judge what is withheld. ``interruptible`` False: it never does."""

    interruptible: bool


TurnFact = CallerBegan | CallerPaused | CallerResumed | CallerEnded | AgentCut | AnswerBegan | JudgementOver


class TurnOrder(Enum):
    HOLD = "hold"
    """The answer being made is not given to the call yet."""
    RELEASE = "release"
    """It is."""
    DROP = "drop"
    """It is given up; what it answered stays said."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TryAnswer:
    """Make an answer to this, and hold it."""

    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    text: str


TurnCommand = TurnOrder | TryAnswer | Answer
Decision = tuple[TurnState, tuple[TurnCommand, ...]]


def decide(state: TurnState, fact: TurnFact) -> Decision:
    """The one entry; total over the facts."""
    match fact:
        case CallerBegan(overlap=overlap, unheard=unheard):
            holding = unheard or state.holding or bool(state.trial)
            orders = (TurnOrder.HOLD,) if holding else ()
            return TurnState(speaking=True, overlap=overlap, holding=holding), orders
        case CallerPaused(text=text):
            return _on_pause(state, text)
        case CallerResumed():
            return replace(state, trial=""), ((TurnOrder.DROP,) if state.trial else ())
        case CallerEnded(text=text):
            return _on_end(state, text.strip())
        case AgentCut():
            cut = replace(state, cut=True, withheld="")
            return cut, ((Answer(text=state.withheld),) if state.withheld else ())
        case AnswerBegan():
            hold = state.speaking and not _awaits_judgement(state)
            return replace(state, holding=hold or state.holding), ((TurnOrder.HOLD,) if hold else ())
        case JudgementOver(interruptible=interruptible):
            unjudged = state.withheld and not interruptible and not is_backchannel(state.withheld)
            return replace(state, withheld=""), ((Answer(text=state.withheld),) if unjudged else ())
        case _:
            assert_never(fact)


def _awaits_judgement(state: TurnState) -> bool:
    return state.overlap == "over" and not state.cut


def _on_pause(state: TurnState, text: str) -> Decision:
    worthless = not text.strip() or is_sound(text) or (state.overlap == "tail" and is_backchannel(text))
    if _awaits_judgement(state) or state.holding or worthless:
        return state, ()
    drop = (TurnOrder.DROP,) if state.trial else ()
    return replace(state, trial=text), (*drop, TryAnswer(text=text))


def _on_end(state: TurnState, text: str) -> Decision:
    done = TurnState()
    if state.trial:
        if same_words(text, state.trial):
            return done, (TurnOrder.RELEASE,)
        return done, (TurnOrder.DROP, *_answer(text))
    if state.holding:
        if is_sound(text):
            return done, (TurnOrder.RELEASE,)
        return done, (TurnOrder.DROP, Answer(text=text))
    if _awaits_judgement(state):
        return replace(done, withheld=text, overlap="over"), ()
    if state.overlap == "tail" and is_backchannel(text):
        return done, ()
    return done, _answer(text)


def _answer(text: str) -> tuple[TurnCommand, ...]:
    return (Answer(text=text),) if not is_sound(text) else ()
