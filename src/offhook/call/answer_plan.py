"""What to do with a call that arrived. No 200 leaves until a plan stands that says who speaks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never
from urllib.parse import urlsplit

from offhook.call.ports import AgentAnswer, AgentNamed, CallDeclined, NoAnswer
from offhook.model.records import Agent, Answering

TEMPORARILY_UNAVAILABLE = 480
"""Carriers try another way after it, as they do not after 404 or 603."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Speak:
    """Answer, and let this agent (a frozen copy) speak."""

    agent: Agent


@dataclass(frozen=True, kw_only=True, slots=True)
class Ask:
    """Somebody else's server says who answers; ``plan_by_answer`` makes a plan of what it says."""

    answering: Answering


@dataclass(frozen=True, kw_only=True, slots=True)
class Refuse:
    """Refuse with a SIP status; ``why`` and ``fix`` are for the operator, ``evidence`` is the header or line."""

    status: int
    why: str
    evidence: str
    fix: str


AnswerPlan = Speak | Ask | Refuse


def plan_answer(answering: Answering | None, user: str) -> AnswerPlan:
    """The plan for a dialled user part, by what the directory says of it; 404 (RFC 3261 §21.4.5) where it is not
    served."""
    if answering is not None and answering.ask_url:
        return Ask(answering=answering)
    if answering is not None and answering.agent is not None:
        return Speak(agent=answering.agent)
    return Refuse(
        status=404,
        why="no number of this server matches the dialled user part",
        evidence=f"Request-URI user {user!r}",
        fix=f'add {{"user": "{user}", "agent": …}} to "numbers" in config.json, or dial a number it lists',
    )


def plan_by_answer(answering: Answering, answer: AgentAnswer) -> Speak | Refuse:
    """The agent that was named; the number's own where none was; 480 where it has none either."""
    match answer:
        case AgentNamed(agent=agent):
            return Speak(agent=agent)
        case CallDeclined(status=status, reason=reason):
            refuses = 400 <= status <= 699
            return Refuse(
                status=status if refuses else TEMPORARILY_UNAVAILABLE,
                why="the server that says who answers declined the call",
                evidence=f"{_shown(answering.ask_url)}: {status} {reason}".rstrip(),
                fix="nothing, if it is meant so; else let that server name an agent",
            )
        case NoAnswer() if answering.agent is not None:
            return Speak(agent=answering.agent)
        case NoAnswer(reason=reason):
            return Refuse(
                status=TEMPORARILY_UNAVAILABLE,
                why="nobody said who answers this number",
                evidence=f"{_shown(answering.ask_url)}: {reason}",
                fix="mend that server, or give the number an agent that answers when it does not",
            )
        case _:
            assert_never(answer)


def _shown(url: str) -> str:
    """A URL without what may be secret in it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}{parts.path}"
