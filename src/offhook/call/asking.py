"""Asking somebody else's server: whatever goes wrong there, an answer comes, and in time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import TypeVar

from offhook.call.ports import AgentForCall, AgentNamed, CallDeclined, NoAnswer, ToolOutput, ToolUse

WHO_ANSWERS_S = 3.0
"""The caller hears nothing meanwhile, and his carrier may still try another of its customer's servers."""

GRACE_S = 0.2
"""For who is asked to say himself that it is too late, which tells more."""

_log = logging.getLogger("offhook.calls")

T = TypeVar("T")


async def by_deadline(answer: Awaitable[T], deadline_s: float) -> T | NoAnswer:
    """The answer, or ``NoAnswer`` when it does not come by the deadline, or something breaks."""
    try:
        async with asyncio.timeout(deadline_s + GRACE_S):
            return await answer
    except TimeoutError:
        return NoAnswer(reason=f"no answer within {deadline_s:g} s")
    except Exception:  # the boundary: the call goes on
        _log.exception("a question could not be asked")
        return NoAnswer(reason="an error inside offhook; see the log")


class NobodyToAsk:
    """``Questions`` where there is no way out."""

    async def agent_for_call(self, question: AgentForCall, deadline_s: float) -> AgentNamed | CallDeclined | NoAnswer:
        return NoAnswer(reason="this process asks no other servers")

    async def use_tool(self, question: ToolUse, deadline_s: float) -> ToolOutput | NoAnswer:
        return NoAnswer(reason="this process asks no other servers")
