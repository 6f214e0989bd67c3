"""Answers of models, as different servers stream them."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.bridge.cascade.chat_chunks import MAX_ANSWER_CHARS, ChatAnswer, ChatStreamError
from offhook.bridge.cascade.ports import LlmEvent, TextPiece, ToolUse
from offhook.bridge.codec import UsageReported


def chunk(**delta: Any) -> bytes:
    return json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}).encode()


def call(
    index: int | None = None, tool_call_id: str | None = None, name: str | None = None, arguments: Any = None
) -> Any:
    known = {"index": index, "id": tool_call_id, "function": {"name": name, "arguments": arguments}}
    return {key: value for key, value in known.items() if value is not None}


def answered(*data: bytes) -> list[LlmEvent]:
    answer = ChatAnswer()
    return [event for one in data for event in answer.feed(one)] + answer.end()


def uses(*calls: Any) -> list[tuple[str, str]]:
    events = answered(*[chunk(tool_calls=[one]) for one in calls])
    return [(event.name, event.arguments) for event in events if isinstance(event, ToolUse)]


def test_text_without_thoughts_then_usage() -> None:
    usage = b'{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2}}'
    events = answered(
        chunk(role="assistant", content=""),
        chunk(reasoning_content="Hm."),
        chunk(content="Hi "),
        chunk(content="you."),
        usage,
    )
    assert events == [
        TextPiece(text="Hi "),
        TextPiece(text="you."),
        UsageReported(units="input_tokens", amount=7),
        UsageReported(units="output_tokens", amount=2),
    ]


def test_calls_in_splinters() -> None:
    assert uses(
        call(0, "a", "weather", ""), call(0, arguments='{"ci'), call(1, "b", "traffic", ""), call(0, arguments='ty":1}')
    ) == [("weather", '{"city":1}'), ("traffic", "{}")]


def test_calls_as_other_servers_send_them() -> None:
    assert uses(call(0, "a", "x", "{}"), call(0, "b", "y", "{}")) == [("x", "{}"), ("y", "{}")]  # always index 0
    assert uses(call(None, "a", "x", '{"a":'), call(None, "a", "x", "1}")) == [("x", '{"a":1}')]  # no index, name again
    assert uses(call(None, None, "x", "{}"), call(None, None, "y", "{}")) == [("x", "{}"), ("y", "{}")]  # neither
    assert uses(call(0, "a", "x", {"city": "Ulm"})) == [("x", '{"city": "Ulm"}')]  # an object


def test_ids_are_made_up_where_there_are_none() -> None:
    ids = {
        e.tool_call_id
        for e in answered(chunk(tool_calls=[call(0, None, "x"), call(1, None, "y")]))
        if isinstance(e, ToolUse)
    }
    assert len(ids) == 2


def test_the_end_is_known() -> None:
    answer = ChatAnswer()
    answer.feed(chunk(content="x"))
    assert not answer.finished
    answer.feed(b"[DONE]")
    assert answer.finished


def test_an_answer_without_end_is_cut() -> None:
    events = answered(*[chunk(content="x" * 1000)] * 40)
    assert sum(len(event.text) for event in events if isinstance(event, TextPiece)) <= MAX_ANSWER_CHARS


@pytest.mark.parametrize("data", [b'{"error": {"message": "no"}}', b'{"choi', b"\xff"])
def test_what_is_no_answer(data: bytes) -> None:
    with pytest.raises(ChatStreamError):
        answered(data)


KEYS = st.sampled_from(["choices", "delta", "tool_calls", "function", "usage", "error", "x"])

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["choices", "delta", "tool_calls", "x"]), inner)
    ),
)


@given(st.lists(JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=30), max_size=4))
def test_nothing_else_is_raised(data: list[bytes]) -> None:
    with suppress(ChatStreamError):
        answered(*data)
