"""What to do with a call that arrived. No 200 leaves until a plan stands."""

from __future__ import annotations

from dataclasses import dataclass

from offhook.call.ports import Directory
from offhook.model.records import Agent


@dataclass(frozen=True, kw_only=True, slots=True)
class Speak:
    """Answer, and let this agent (a frozen copy) speak."""

    agent: Agent


@dataclass(frozen=True, kw_only=True, slots=True)
class Refuse:
    """Refuse with a SIP status; ``why`` and ``fix`` are for the operator, ``evidence`` is the header or line."""

    status: int
    why: str
    evidence: str
    fix: str


AnswerPlan = Speak | Refuse


def plan_answer(directory: Directory, user: str, trunk_id: str) -> AnswerPlan:
    """The plan for a dialled user part: the agent of its number, or 404 (RFC 3261 §21.4.5)."""
    answering = directory.answering(user, trunk_id)
    if answering is not None and answering.agent is not None:
        return Speak(agent=answering.agent)
    return Refuse(
        status=404,
        why="no number of this server matches the dialled user part",
        evidence=f"Request-URI user {user!r}",
        fix=f'add {{"user": "{user}", "agent": …}} to "numbers" in config.json, or dial a number it lists',
    )
