"""The tools of an agent that somebody else's server runs: asked beside the call, answered as facts of the call."""

from __future__ import annotations

import asyncio
import time

from offhook.bridge.codec import ToolCall
from offhook.call.asking import by_deadline
from offhook.call.controls import CallControls
from offhook.call.inbox import ToolAnswered
from offhook.call.ports import NoAnswer, ToolOutput, ToolUse
from offhook.model.call_events import ToolReturned
from offhook.model.records import Tool

MOST_AT_ONCE = 8
"""Tools of one agent that run at the same time: models ask for two or three, and each holds a connection."""

MOST_OUTPUT = 32_000
"""Characters of a result that the model is given and the record keeps: about 8,000 tokens."""


class ToolRuns:
    """Those of one agent. ``agent_key``: how its facts are told from another agent's."""

    def __init__(self, call: CallControls, agent_id: str, agent_key: str) -> None:
        self._call = call
        self._agent_id = agent_id
        self._key = agent_key
        self._running: dict[str, asyncio.Task[None]] = {}
        self._tools: dict[str, Tool] = {}

    @property
    def running(self) -> tuple[Tool, ...]:
        """The one that was asked first comes first."""
        return tuple(self._tools.values())

    def begin(self, tool: Tool, asked: ToolCall, arguments: str) -> str:
        """Ask the tool's server; ``ToolAnswered`` follows. Returns why it is not asked; "" where it is."""
        if asked.tool_call_id in self._running:
            return f"{tool.name} is asked already under this id"
        if len(self._running) >= MOST_AT_ONCE:
            return f"{MOST_AT_ONCE} tools are running already: wait for a result"
        question = ToolUse(
            account_id=self._call.account_id,
            call_id=self._call.call_id,
            agent_id=self._agent_id,
            tool=tool,
            tool_call_id=asked.tool_call_id,
            arguments=arguments,
        )
        self._tools[asked.tool_call_id] = tool
        self._running[asked.tool_call_id] = self._call.spawn(self._ask(question))
        return ""

    async def _ask(self, question: ToolUse) -> None:
        began_at = time.monotonic()
        asked = self._call.equipment.questions.use_tool(question, question.tool.timeout_s)
        answer = await by_deadline(asked, question.tool.timeout_s)
        took_ms = round((time.monotonic() - began_at) * 1000)
        told = _told(question, answer, took_ms)
        self._call.deliver(ToolAnswered(told=told, leg_id=self._key))

    def answered(self, fact: ToolAnswered) -> bool:
        """Whether the agent still waits for this."""
        self._tools.pop(fact.told.tool_call_id, None)
        return self._running.pop(fact.told.tool_call_id, None) is not None

    def cancel(self, tool_call_id: str) -> None:
        """The model does not want to know any more; nothing is told of it."""
        self._tools.pop(tool_call_id, None)
        task = self._running.pop(tool_call_id, None)
        if task is not None:
            task.cancel()

    def stop(self) -> None:
        """The agent's part is over."""
        for tool_call_id in tuple(self._running):
            self.cancel(tool_call_id)


def _told(question: ToolUse, answer: ToolOutput | NoAnswer, took_ms: int) -> ToolReturned:
    name = question.tool.name
    if isinstance(answer, NoAnswer):
        output, is_error = f"{name} gave no result: {answer.reason}", True
    else:
        output, is_error = answer.output, answer.is_error
    if len(output) > MOST_OUTPUT:
        output = f"{output[:MOST_OUTPUT]} … ({len(output) - MOST_OUTPUT} characters more)"
    return ToolReturned(
        tool=name, output=output, is_error=is_error, took_ms=took_ms, tool_call_id=question.tool_call_id
    )
