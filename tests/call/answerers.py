"""Somebody else's servers, as a call asks them: what they say, and what they were asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from offhook.call.ports import AgentAnswer, AgentForCall, NoAnswer, ToolOutput, ToolUse


class Server:
    """Implements ``Questions``. ``agent``: what it says of every call; None: it never answers.

    ``tools``: by their names; one that is not there is never done. ``cancelled``: those nobody waited for any more.
    """

    def __init__(
        self,
        agent: AgentAnswer | Exception | None = None,
        tools: Mapping[str, Callable[[str], ToolOutput | NoAnswer]] | None = None,
    ) -> None:
        self._agent = agent
        self._tools = tools or {}
        self.calls: list[AgentForCall] = []
        self.uses: list[ToolUse] = []
        self.cancelled: list[str] = []
        self.deadlines: list[float] = []
        self.asked = asyncio.Event()

    async def agent_for_call(self, question: AgentForCall, deadline_s: float) -> AgentAnswer:
        self.calls.append(question)
        self.deadlines.append(deadline_s)
        self.asked.set()
        if self._agent is None:
            await asyncio.Event().wait()
        if isinstance(self._agent, Exception):
            raise self._agent
        assert self._agent is not None
        return self._agent

    async def use_tool(self, question: ToolUse, deadline_s: float) -> ToolOutput | NoAnswer:
        self.uses.append(question)
        self.deadlines.append(deadline_s)
        self.asked.set()
        answer = self._tools.get(question.tool.name)
        if answer is not None:
            return answer(question.arguments)
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.append(question.tool.name)
        raise AssertionError
