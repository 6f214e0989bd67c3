"""What the model is told: as it was heard, the beginning always the same bytes."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from offhook.bridge.cascade.history import CANCELLED, MAX_BYTES, History
from offhook.bridge.cascade.ports import ToolUse
from offhook.bridge.codec import Utterance


def use(tool_call_id: str, name: str = "weather") -> ToolUse:
    return ToolUse(tool_call_id=tool_call_id, name=name, arguments="{}")


def told(history: History, also: str = "") -> list[Any]:
    return list(json.loads(history.encoded(also=also)))


def test_a_conversation() -> None:
    history = History("Be kind.")
    history.recall([Utterance(speaker="caller", text="Hi."), Utterance(speaker="agent", text="Hello.")])
    history.caller_said("Who are you?")
    history.agent_said("i1", "I am")
    history.agent_said("i1", "I am Ada.")
    history.told("It rains.")
    assert [(m["role"], m["content"]) for m in told(history, also="Really?")] == [
        ("system", "Be kind."),
        ("user", "Hi."),
        ("assistant", "Hello."),
        ("user", "Who are you?"),
        ("assistant", "I am Ada."),
        ("system", "It rains."),
        ("user", "Really?"),
    ]


def test_what_the_caller_says_in_a_row_is_one_message() -> None:
    history = History("")
    history.caller_said("One.")
    history.caller_said("Two.")
    assert told(history, also="Three.") == [{"role": "user", "content": "One.\nTwo.\nThree."}]
    assert told(history) == [{"role": "user", "content": "One.\nTwo."}]


def test_what_was_not_heard_was_not_said() -> None:
    history = History("")
    history.agent_said("i1", "A long story.")
    history.agent_said("i1", "A long")
    history.agent_said("i2", "Never heard.")
    history.agent_said("i2", "")
    assert told(history) == [{"role": "assistant", "content": "A long"}]


def test_tools_are_told_when_all_results_are_there() -> None:
    history = History("")
    history.agent_said("i1", "One moment.")
    history.called("i1", [use("a"), use("b", "traffic")])
    history.caller_said("Hurry.")
    assert history.result("b", "jam") is False
    assert [m["role"] for m in told(history)] == ["user"]
    assert history.result("a", "sun") is True
    assert history.result("a", "sun") is None
    assert [m["role"] for m in told(history)] == ["user", "assistant", "tool", "tool"]
    assert told(history)[1]["content"] == "One moment."
    assert [(m["tool_call_id"], m["content"]) for m in told(history)[2:]] == [("a", "sun"), ("b", "jam")]


def test_calls_are_cancelled_and_an_interrupted_one_keeps_its_form() -> None:
    history = History("")
    history.agent_said("i1", "One moment.")
    history.called("i1", [use("a"), use("b")])
    history.agent_said("i1", "One")
    history.result("a", "sun")
    assert history.cancel_calls() == ("b",)
    assert history.result("b", "late") is None
    messages = told(history)
    assert messages[0]["content"] == "One"
    assert messages[2]["content"] == CANCELLED
    history.agent_said("i1", "")
    assert told(history)[0]["content"] is None
    assert told(history)[0]["tool_calls"]


def test_it_does_not_grow_without_end() -> None:
    history = History("Be kind.")
    for turn in range(3000):
        history.caller_said(f"{turn} " + "x" * 100)
        history.called(f"i{turn}", [use(f"c{turn}")])
        history.result(f"c{turn}", "y" * 100)
    messages = told(history)
    assert len(history.encoded()) < MAX_BYTES + 1000
    assert messages[0] == {"role": "system", "content": "Be kind."}
    assert messages[1]["role"] != "tool"


@given(st.lists(st.tuples(st.sampled_from(["caller", "agent", "told"]), st.text(max_size=8)), min_size=1, max_size=12))
def test_the_beginning_stays_the_same(deeds: list[tuple[str, str]]) -> None:
    """Only the last message may still change: whatever was sent before it is sent again as it was."""
    history = History("Be kind.")
    before = history.encoded()
    for index, (who, text) in enumerate(deeds):
        stable = before[:-1].rsplit(b',{"role"', 1)[0]
        if who == "caller":
            history.caller_said(text)
        elif who == "agent":
            history.agent_said(f"i{index}", text)
        else:
            history.told(text)
        assert history.encoded().startswith(stable)
        before = history.encoded()
