"""Functions on the wire as SIP4AI's users know them. Pure; see ``questions_wire`` for what all dialects share."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from offhook.call.ports import ToolUse
from offhook.delivery.questions_wire import JSON_HEADERS, NATIVE, WireRequest, merged_headers, with_query


def render_tool(question: ToolUse) -> WireRequest:
    """GET: the arguments as query, and no body. Else a JSON body: ``{"call_id", "function", "arguments": {…}}``."""
    tool = question.tool
    if tool.method == "GET":
        return WireRequest(method="GET", url=with_query(tool.url, question.arguments), headers=dict(tool.headers))
    body = msgspec.json.encode(
        {
            "call_id": question.call_id,
            "function": tool.name,
            "arguments": msgspec.Raw(question.arguments.encode()),
        }
    )
    headers = merged_headers(JSON_HEADERS, dict(tool.headers))
    return WireRequest(method=tool.method, url=tool.url, headers=headers, body=body)


SIP4AI = replace(NATIVE, render_tool=render_tool)
"""Who answers a call is asked by no dialect but our own; what a function says is read alike."""
