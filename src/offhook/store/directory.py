"""Who answers which number: an in-memory copy of agents and numbers, swapped whole when one of them changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from offhook.model.records import Agent, Answering, Number

ANY_NUMBER = "*"


class InMemoryDirectory:
    """Numbers by user part and trunk; what is said of one trunk goes before what is said of all."""

    def __init__(self, agents: Iterable[Agent], numbers: Iterable[Number]) -> None:
        by_id = {agent.agent_id: agent for agent in agents}
        self._by_number: Mapping[tuple[str, str], Answering] = {
            (number.user, number.trunk_id): Answering(
                account_id=number.account_id,
                agent=by_id.get(number.agent_id),
                ask_url=number.ask_url,
                ask_secret=number.ask_secret,
            )
            for number in numbers
        }

    def answering(self, user: str, trunk_id: str) -> Answering | None:
        """Who answers a dialled user part, by the trunk it came by; else who answers any; None where nobody does."""
        for key in ((user, trunk_id), (user, ""), (ANY_NUMBER, trunk_id), (ANY_NUMBER, "")):
            found = self._by_number.get(key)
            if found is not None:
                return found
        return None
