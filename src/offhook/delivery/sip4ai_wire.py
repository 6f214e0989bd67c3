"""Functions on the wire as SIP4AI's users know them. Pure; see ``questions_wire`` for what all dialects share."""

from __future__ import annotations

from dataclasses import replace

from offhook.call.ports import ToolUse
from offhook.delivery.questions_wire import NATIVE, WireRequest, tool_request


def render_tool(question: ToolUse) -> WireRequest:
    """GET: the arguments as query, and no body. Else a JSON body: ``{"call_id", "function", "arguments": {…}}``."""
    return tool_request(question, {"call_id": question.call_id, "function": question.tool.name})


SIP4AI = replace(NATIVE, render_tool=render_tool)
"""Who answers a call is asked by no dialect but our own; what a function says is read alike."""
