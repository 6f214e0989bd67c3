"""Who answers which number: an in-memory copy of agents and numbers."""

from __future__ import annotations

from collections.abc import Iterable

from offhook.model.records import Agent, Number

ANY_NUMBER = "*"


class InMemoryDirectory:
    """Numbers of config.json; refreshed as a whole."""

    def __init__(self, agents: Iterable[Agent], numbers: Iterable[Number]) -> None:
        by_id = {agent.agent_id: agent for agent in agents}
        self._by_user = {number.user: by_id[number.agent_id] for number in numbers}

    def agent_for(self, user: str) -> Agent | None:
        """The agent of a dialled user part, else the agent of ``*``, else None."""
        return self._by_user.get(user) or self._by_user.get(ANY_NUMBER)
