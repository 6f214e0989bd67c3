"""What a chat completion streams, put together: text, whole calls of tools, usage. Pure.

Servers disagree about calls of tools: the id and the name come once or each time, the index may be missing or always 0,
arguments come in splinters, whole, or as an object.
"""

from __future__ import annotations

from itertools import count

import msgspec

from offhook.bridge.cascade.ports import LlmEvent, TextPiece, ToolUse
from offhook.bridge.cascade.thoughts import ThoughtFilter
from offhook.bridge.codec import UsageReported

MAX_ANSWER_CHARS = 16_000
"""A quarter of an hour of speech: the rest of an answer that is longer is not taken."""

MAX_ARGUMENT_CHARS = 256 << 10
MAX_TOOL_USES = 32

_made_up_ids = count(1)


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: msgspec.Raw = msgspec.Raw(b"null")


class _ToolDelta(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    tool_calls: list[_ToolDelta] | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    message: _Delta | None = None
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: msgspec.Raw = msgspec.Raw(b"null")


class ChatStreamError(Exception):
    """The answer is not one: an error in the stream, or no JSON."""


class _ToolParts:
    def __init__(self, index: int | None, tool_call_id: str) -> None:
        self.index = index
        self.tool_call_id = tool_call_id
        self.name = ""
        self.arguments: list[str] = []
        self.size = 0


class ChatAnswer:
    """One answer. ``feed`` takes the data of one event."""

    def __init__(self) -> None:
        self._decoder = msgspec.json.Decoder(_Chunk)
        self._thoughts = ThoughtFilter()
        self._tools: list[_ToolParts] = []
        self._chars = 0
        self._usage: _Usage | None = None
        self.finished = False
        """The model said that it is: a stream that ends without was cut off."""
        self.cut_short = False
        """It said more than ``MAX_ANSWER_CHARS``."""

    def feed(self, data: bytes) -> list[LlmEvent]:
        """Raises ``ChatStreamError``. What is of an unknown shape is left out."""
        if data.strip() == b"[DONE]":
            self.finished = True
            return []
        try:
            chunk = self._decoder.decode(data)
        except msgspec.ValidationError:
            return []
        except (msgspec.DecodeError, UnicodeError) as error:
            raise ChatStreamError(f"the answer is no JSON: {error}") from None
        if bytes(chunk.error) != b"null":
            raise ChatStreamError(f"the server reports an error: {bytes(chunk.error)[:200].decode(errors='replace')}")
        self._usage = chunk.usage or self._usage
        return [event for choice in (chunk.choices or [])[:1] for event in self._take(choice)]

    def end(self) -> list[LlmEvent]:
        """The stream is over: the calls of tools and the usage."""
        events: list[LlmEvent] = self._text(self._thoughts.end())
        for tool in self._tools:
            if tool.name:
                arguments = "".join(tool.arguments).strip() or "{}"
                events.append(ToolUse(tool_call_id=tool.tool_call_id, name=tool.name, arguments=arguments))
        if self._usage is not None:
            events.append(UsageReported(units="input_tokens", amount=self._usage.prompt_tokens))
            events.append(UsageReported(units="output_tokens", amount=self._usage.completion_tokens))
        return events

    def _take(self, choice: _Choice) -> list[LlmEvent]:
        self.finished = self.finished or choice.finish_reason is not None
        delta = choice.delta or choice.message
        if delta is None:
            return []
        for tool in delta.tool_calls or ():
            self._take_tool(tool)
        return self._text(self._thoughts.feed(delta.content)) if delta.content else []

    def _text(self, text: str) -> list[LlmEvent]:
        self._chars += len(text)
        self.cut_short = self.cut_short or self._chars > MAX_ANSWER_CHARS
        return [TextPiece(text=text)] if text and not self.cut_short else []

    def _take_tool(self, delta: _ToolDelta) -> None:
        tool = self._tool_of(delta)
        if tool is None or delta.function is None:
            return
        tool.name = tool.name or delta.function.name or ""
        arguments = _arguments(bytes(delta.function.arguments))
        tool.size += len(arguments)
        if tool.size <= MAX_ARGUMENT_CHARS:
            tool.arguments.append(arguments)

    def _tool_of(self, delta: _ToolDelta) -> _ToolParts | None:
        """The call that this is a part of: of the same id, or, where none is given, of the same index, or the last."""
        if delta.id:
            known = next((tool for tool in self._tools if tool.tool_call_id == delta.id), None)
        elif delta.index is not None:
            known = next((tool for tool in reversed(self._tools) if tool.index == delta.index), None)
        else:
            named_anew = delta.function is not None and delta.function.name
            known = self._tools[-1] if self._tools and not named_anew else None
        if known is None and len(self._tools) < MAX_TOOL_USES:
            known = _ToolParts(delta.index, delta.id or f"tool-{next(_made_up_ids)}")
            self._tools.append(known)
        return known


def _arguments(raw: bytes) -> str:
    """A string of JSON as it should be, or the object itself."""
    if raw.startswith(b'"'):
        return msgspec.json.decode(raw, type=str)
    return "" if raw == b"null" else raw.decode(errors="replace")
