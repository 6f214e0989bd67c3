"""Tool calls whose results a provider waits for. Pure."""

from __future__ import annotations

from collections import deque

from offhook.bridge.codec import ToolCall
from offhook.bridge.wire import CodecOutput

MAX_CALLS = 64
"""At once; a model makes a few. Of more, the oldest are forgotten."""


class AwaitedResults:
    """A call that comes twice is one; a result nobody waits for would be an error at the provider."""

    def __init__(self) -> None:
        self._calls: deque[str] = deque(maxlen=MAX_CALLS)

    def __contains__(self, tool_call_id: str) -> bool:
        return tool_call_id in self._calls

    def call(self, tool_call_id: str, name: str, arguments: bytes, out: CodecOutput) -> None:
        """``arguments``: JSON, as it came."""
        if tool_call_id in self._calls:
            return
        self._calls.append(tool_call_id)
        text = arguments.decode("utf-8", "replace")
        out.bridge_event(ToolCall(tool_call_id=tool_call_id, name=name, arguments=text))

    def take(self, tool_call_id: str) -> bool:
        """Its result is there. False: nobody waits for it."""
        if tool_call_id not in self._calls:
            return False
        self._calls.remove(tool_call_id)
        return True
