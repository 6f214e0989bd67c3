"""Built-in tools: what they ask for, and what bad calls are told."""

from __future__ import annotations

import pytest

from offhook.bridge.codec import ToolCall
from offhook.call.tools import HangUpAfterSpeech, ReturnResult, SendDigits, run_tool


def called(name: str, arguments: str) -> ToolCall:
    return ToolCall(tool_call_id="t1", name=name, arguments=arguments)


def test_end_call_hangs_up_after_speech() -> None:
    assert run_tool(called("end_call", '{"reason": "done"}')) == (HangUpAfterSpeech(reason="done"),)
    assert run_tool(called("end_call", "")) == (HangUpAfterSpeech(reason=""),)


def test_send_dtmf_sends_and_tells_the_model() -> None:
    send, told = run_tool(called("send_dtmf", '{"digits": "12#a"}'))
    assert send == SendDigits(digits="12#A")
    assert isinstance(told, ReturnResult)
    assert (told.result.output, told.result.is_error) == ("sent 12#A", False)


@pytest.mark.parametrize(
    ("name", "arguments", "problem"),
    [
        ("send_dtmf", '{"digits": ""}', "digits must be"),
        ("send_dtmf", '{"digits": "12x"}', "digits must be"),
        ("send_dtmf", '{"digits": "' + "1" * 65 + '"}', "digits must be"),
        ("send_dtmf", "{}", "digits"),
        ("send_dtmf", "not json", "arguments of send_dtmf"),
        ("end_call", "[1]", "arguments of end_call"),
        ("order_pizza", "{}", "no tool named 'order_pizza'"),
    ],
)
def test_a_bad_call_comes_back_to_the_model_as_an_error(name: str, arguments: str, problem: str) -> None:
    (told,) = run_tool(called(name, arguments))
    assert isinstance(told, ReturnResult)
    assert told.result.is_error
    assert problem in told.result.output
