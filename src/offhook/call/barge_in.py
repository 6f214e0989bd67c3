"""Barge-in, decided: (state, fact) -> (state, commands). Pure; times are monotonic seconds.

The caller speaks over the agent. A provider that judges interruptions itself (``profile.judges_interruption``)
gets time to do so: the agent falls silent at once (``PausePlayout``) and goes on (``ResumePlayout``) when it
was a cough or a backchannel, or is cut (``CutItems``) when it was a turn. With any other provider the agent is
cut at once: its own voice activity detection already decided.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, assert_never

JUDGEMENT_DEADLINE_S = 4.0
"""A judge that says nothing for so long has died; then the line decides: still speaking means a turn."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BargeIn:
    """``listening``: nothing to decide. ``judging``: the agent is paused since ``paused_at``."""

    phase: Literal["listening", "judging"] = "listening"
    paused_at: float = 0.0
    caller_speaking: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class CallerSpeech:
    """Voice activity began or ended, by whoever detects it. ``agent_audible``: audio is queued or playing."""

    started: bool
    agent_audible: bool
    judged_later: bool
    at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    genuine: bool
    agent_audible: bool
    at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class DeadlinePassed:
    at: float


BargeInFact = CallerSpeech | Judged | DeadlinePassed


@dataclass(frozen=True, kw_only=True, slots=True)
class PausePlayout:
    """Send silence, keep the queue; then report ``DeadlinePassed`` at ``judge_by``."""

    judge_by: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ResumePlayout:
    paused_ms: int


@dataclass(frozen=True, kw_only=True, slots=True)
class CutItems:
    """Drop everything queued and tell the provider how much was heard."""


BargeInCommand = PausePlayout | ResumePlayout | CutItems
Decision = tuple[BargeIn, tuple[BargeInCommand, ...]]


def decide(state: BargeIn, fact: BargeInFact) -> Decision:
    """The one entry; total over both unions."""
    match fact:
        case CallerSpeech():
            return _on_speech(replace(state, caller_speaking=fact.started), fact)
        case Judged():
            return _on_judgement(state, fact)
        case DeadlinePassed():
            return _on_deadline(state, fact)
        case _:
            assert_never(fact)


def _on_speech(state: BargeIn, fact: CallerSpeech) -> Decision:
    if not fact.started or not fact.agent_audible or state.phase == "judging":
        return state, ()
    if not fact.judged_later:
        return state, (CutItems(),)
    paused = replace(state, phase="judging", paused_at=fact.at)
    return paused, (PausePlayout(judge_by=fact.at + JUDGEMENT_DEADLINE_S),)


def _on_judgement(state: BargeIn, fact: Judged) -> Decision:
    if state.phase == "judging":
        return _settle(state, genuine=fact.genuine, at=fact.at)
    if fact.genuine and fact.agent_audible:
        return state, (CutItems(),)
    return state, ()


def _on_deadline(state: BargeIn, fact: DeadlinePassed) -> Decision:
    if state.phase != "judging" or fact.at < state.paused_at + JUDGEMENT_DEADLINE_S:
        return state, ()  # judged meanwhile, or the deadline of an earlier pause
    return _settle(state, genuine=state.caller_speaking, at=fact.at)


def _settle(state: BargeIn, *, genuine: bool, at: float) -> Decision:
    listening = replace(state, phase="listening")
    if genuine:
        return listening, (CutItems(),)
    return listening, (ResumePlayout(paused_ms=round((at - state.paused_at) * 1000)),)
