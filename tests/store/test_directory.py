"""Who answers which number."""

from __future__ import annotations

from offhook.model.records import Agent, Number
from offhook.store.directory import InMemoryDirectory

AGENTS = (Agent(agent_id="a", provider="local"), Agent(agent_id="b", provider="local"))


def test_a_listed_number_reaches_its_agent_and_others_the_star() -> None:
    directory = InMemoryDirectory(AGENTS, (Number(user="100", agent_id="a"), Number(user="*", agent_id="b")))
    assert [agent.agent_id for user in ("100", "200", "") if (agent := directory.agent_for(user))] == ["a", "b", "b"]


def test_without_a_star_an_unlisted_number_reaches_nobody() -> None:
    assert InMemoryDirectory(AGENTS, (Number(user="100", agent_id="a"),)).agent_for("101") is None
