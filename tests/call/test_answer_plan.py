"""Who answers a call: the number's agent, or whom a server names, or nobody."""

from __future__ import annotations

import pytest

from offhook.call.answer_plan import Ask, Refuse, Speak, plan_answer, plan_by_answer
from offhook.call.ports import AgentNamed, CallDeclined, NoAnswer
from offhook.model.records import Agent, Answering

AGENT = Agent(agent_id="own", provider="scripted")
OTHER = Agent(agent_id="other", provider="scripted")
URL = "https://crm.example/who?token=planted"


def number(agent: Agent | None = None, ask_url: str = "") -> Answering:
    return Answering(account_id="acme", agent=agent, ask_url=ask_url)


def test_a_number_with_an_agent_is_answered_by_it() -> None:
    assert plan_answer(number(AGENT), "100") == Speak(agent=AGENT)


def test_a_number_that_nobody_serves_is_refused() -> None:
    for answering in (None, number()):
        plan = plan_answer(answering, "100")
        assert isinstance(plan, Refuse)
        assert plan.status == 404


def test_a_server_is_asked_before_anybody_answers() -> None:
    answering = number(AGENT, URL)
    assert plan_answer(answering, "100") == Ask(answering=answering)


def test_whom_the_server_names_answers() -> None:
    assert plan_by_answer(number(AGENT, URL), AgentNamed(agent=OTHER)) == Speak(agent=OTHER)


@pytest.mark.parametrize(("told", "status"), [(486, 486), (603, 603), (400, 400), (200, 480), (700, 480), (0, 480)])
def test_a_call_that_is_declined_gets_the_status_that_was_said(told: int, status: int) -> None:
    plan = plan_by_answer(number(AGENT, URL), CallDeclined(status=told, reason="closed"))
    assert isinstance(plan, Refuse)
    assert plan.status == status
    assert plan.evidence == f"https://crm.example/who: {told} closed"


def test_without_an_answer_the_number_has_its_own_agent_or_none() -> None:
    nothing = NoAnswer(reason="connection refused")
    assert plan_by_answer(number(AGENT, URL), nothing) == Speak(agent=AGENT)
    plan = plan_by_answer(number(None, URL), nothing)
    assert isinstance(plan, Refuse)
    assert plan.status == 480
    assert plan.evidence == "https://crm.example/who: connection refused"
