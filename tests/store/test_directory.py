"""Who answers which number."""

from __future__ import annotations

from offhook.model.records import Agent, Number
from offhook.store.directory import InMemoryDirectory

AGENTS = (Agent(agent_id="a", provider="local"), Agent(agent_id="b", provider="local"))


def test_a_listed_number_reaches_its_agent_and_others_the_star() -> None:
    directory = InMemoryDirectory(AGENTS, (Number(user="100", agent_id="a"), Number(user="*", agent_id="b")))
    assert [who(directory, user) for user in ("100", "200", "")] == ["a", "b", "b"]


def test_without_a_star_an_unlisted_number_reaches_nobody() -> None:
    assert who(InMemoryDirectory(AGENTS, (Number(user="100", agent_id="a"),)), "101") is None


def test_a_number_of_one_trunk_goes_before_the_same_number_of_all() -> None:
    numbers = (Number(user="100", agent_id="a"), Number(user="100", agent_id="b", trunk_id="pbx"))
    directory = InMemoryDirectory(AGENTS, numbers)
    assert [who(directory, "100", trunk) for trunk in ("pbx", "other", "")] == ["b", "a", "a"]


def who(directory: InMemoryDirectory, user: str, trunk_id: str = "") -> str | None:
    answering = directory.answering(user, trunk_id)
    return answering.agent.agent_id if answering is not None and answering.agent is not None else None
