"""What an agent's model is told that it is there for."""

from __future__ import annotations

from offhook.call.instructions import instructed
from offhook.model.records import Agent

DESK = Agent(agent_id="desk", provider="local", instructions="You are Ada, of Acme.\n")


def test_an_agent_without_a_task_is_as_it_is() -> None:
    assert instructed(DESK) is DESK


def test_the_task_comes_after_what_the_agent_is_told_for_any_call() -> None:
    agent = Agent(agent_id="desk", provider="local", instructions="You are Ada.", task="Confirm Tuesday at 2pm ")
    told = instructed(agent).instructions
    assert told.startswith("You are Ada.\n\n# This call\n")
    assert "nothing else: Confirm Tuesday at 2pm\n" in told
    assert told.endswith("say goodbye and call complete_task.")


def test_who_stays_on_the_line_says_no_goodbye() -> None:
    agent = Agent(agent_id="desk", provider="local", task="Ask for the date", hangs_up_when_done=False)
    assert "goodbye" not in instructed(agent).instructions
