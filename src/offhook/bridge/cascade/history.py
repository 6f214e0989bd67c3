"""The conversation as the model is told it: what was said, as it was heard. Pure.

Messages are kept as the JSON they are sent as, so that the beginning of the prompt is the same bytes in each request:
model servers keep what they computed for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from offhook.bridge.cascade.ports import ToolUse
from offhook.bridge.codec import Utterance

MAX_BYTES = 256 << 10
"""Of all messages, some 60,000 tokens: an hour of talk. Then the oldest quarter is forgotten, in one go."""

KEPT_SHARE = 0.75

CANCELLED = "Cancelled: the caller went on talking before the result came."

_encode = msgspec.json.Encoder().encode


@dataclass(slots=True)
class _Message:
    role: str
    json: bytes
    text: str = ""
    item: str = ""
    """Of the agent's utterance, while it may still be cut short."""


@dataclass(slots=True)
class _ToolGroup:
    """An answer that called tools. It becomes messages when all results are there: a model takes no call without."""

    item: str
    text: str
    uses: tuple[ToolUse, ...]
    results: dict[str, str] = field(default_factory=dict)


class History:
    """``system`` comes first and may be changed; everything else is added at the end."""

    def __init__(self, system: str) -> None:
        self._system = _message("system", system) if system else None
        self._messages: list[_Message] = []
        self._groups: list[_ToolGroup] = []

    def recall(self, earlier: Sequence[Utterance]) -> None:
        """What was said in the call before this conversation."""
        for utterance in earlier:
            if utterance.speaker == "caller":
                self.caller_said(utterance.text)
            else:
                self._messages.append(_message("assistant", utterance.text))

    def encoded(self, *, also: str = "") -> bytes:
        """A JSON array for chat completions. ``also``: what the caller has probably just said."""
        messages = [message.json for message in ([self._system] if self._system else []) + self._messages]
        if also and self._messages and self._messages[-1].role == "user":
            messages[-1] = _message("user", f"{self._messages[-1].text}\n{also}").json
        elif also:
            messages.append(_message("user", also).json)
        return b"[" + b",".join(messages) + b"]"

    def instruct(self, system: str) -> None:
        """Other instructions than before."""
        self._system = _message("system", system) if system else None

    # ── what is said ─────────────────────────────────────────────────────────────────────────────────────

    def caller_said(self, text: str) -> None:
        """Several in a row are one message: many models insist that roles alternate."""
        if self._messages and self._messages[-1].role == "user":
            self._messages[-1] = _message("user", f"{self._messages[-1].text}\n{text}")
        else:
            self._messages.append(_message("user", text))
        self._forget_oldest()

    def told(self, text: str) -> None:
        """Something for the model to know."""
        self._messages.append(_message("system", text))
        self._forget_oldest()

    def agent_said(self, item: str, text: str) -> None:
        """All of ``item`` so far: said anew as it grows, and as it turns out how much was heard; "" is nothing."""
        for group in self._groups:
            if group.item == item:
                group.text = text
                return
        index = next((i for i in range(len(self._messages) - 1, -1, -1) if self._messages[i].item == item), None)
        if index is None and text:
            self._messages.append(_message("assistant", text, item=item))
            self._forget_oldest()
        elif index is not None:
            self._rewrite(index, text)

    def _rewrite(self, index: int, text: str) -> None:
        old = self._messages[index]
        decoded = msgspec.json.decode(old.json, type=dict[str, Any])
        if text or "tool_calls" in decoded:
            decoded["content"] = text or None
            self._messages[index] = _Message(role=old.role, json=_encode(decoded), text=text, item=old.item)
        else:
            del self._messages[index]

    # ── tools ────────────────────────────────────────────────────────────────────────────────────────────

    def called(self, item: str, uses: Iterable[ToolUse]) -> None:
        """The answer ``item`` called tools; what it said besides is part of the same message."""
        index = next((i for i, message in enumerate(self._messages) if message.item == item), None)
        text = self._messages.pop(index).text if index is not None else ""
        self._groups.append(_ToolGroup(item=item, text=text, uses=tuple(uses)))

    def result(self, tool_call_id: str, output: str) -> bool | None:
        """True: it was the last one that was missing of its answer. None: nobody waits for it."""
        for group in self._groups:
            if any(use.tool_call_id == tool_call_id for use in group.uses) and tool_call_id not in group.results:
                group.results[tool_call_id] = output
                if len(group.results) < len(group.uses):
                    return False
                self._write_down(group)
                return True
        return None

    def cancel_calls(self) -> tuple[str, ...]:
        """Nobody waits any more; returns the calls without a result."""
        cancelled: list[str] = []
        for group in tuple(self._groups):
            missing = [use.tool_call_id for use in group.uses if use.tool_call_id not in group.results]
            group.results.update((call, CANCELLED) for call in missing)
            cancelled += missing
            self._write_down(group)
        return tuple(cancelled)

    def _write_down(self, group: _ToolGroup) -> None:
        self._groups.remove(group)
        calls = [
            {"id": use.tool_call_id, "type": "function", "function": {"name": use.name, "arguments": use.arguments}}
            for use in group.uses
        ]
        call: Mapping[str, Any] = {"role": "assistant", "content": group.text or None, "tool_calls": calls}
        self._messages.append(_Message(role="assistant", json=_encode(call), text=group.text, item=group.item))
        for use in group.uses:
            output = group.results[use.tool_call_id]
            answer = {"role": "tool", "tool_call_id": use.tool_call_id, "content": output}
            self._messages.append(_Message(role="tool", json=_encode(answer)))
        self._forget_oldest()

    # ── bounds ───────────────────────────────────────────────────────────────────────────────────────────

    def _forget_oldest(self) -> None:
        size = sum(len(message.json) for message in self._messages)
        if size <= MAX_BYTES:
            return
        while len(self._messages) > 1 and (size > MAX_BYTES * KEPT_SHARE or self._messages[0].role == "tool"):
            size -= len(self._messages.pop(0).json)


def _message(role: str, text: str, *, item: str = "") -> _Message:
    return _Message(role=role, json=_encode({"role": role, "content": text}), text=text, item=item)
