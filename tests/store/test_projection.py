"""Which functions a call's record says were called."""

from __future__ import annotations

import pytest
from tests.store.stories import ARRIVED, story

from offhook.model.call_events import CallFact, ToolCalled, ToolReturned, TransferEnded
from offhook.model.records import CallRecord, FunctionCalled
from offhook.store import projection
from offhook.store.projection import begin, project


def record_of(*facts: CallFact) -> CallRecord:
    first, *others = story(ARRIVED, *facts)
    record = begin(first, ARRIVED, node_id="n1")
    for one in others:
        record = project(record, one)
    return record


def called(name: str, tool_call_id: str = "1", arguments: str = "{}", *, own: bool = True) -> ToolCalled:
    return ToolCalled(tool=name, arguments=arguments, tool_call_id=tool_call_id, own=own)


def returned(output: str, tool_call_id: str = "1", *, is_error: bool = False) -> ToolReturned:
    return ToolReturned(tool="any", output=output, tool_call_id=tool_call_id, is_error=is_error)


def test_functions_are_told_with_their_results_and_built_in_tools_are_not() -> None:
    record = record_of(
        called("book", "1", '{"date": "2024-01-16"}'),
        called("send_dtmf", "2", own=False),
        called("check", "3"),
        returned("no such day", "3", is_error=True),
        returned('{"success": true}', "1"),
        called("slow", "4"),
    )
    assert record.functions_called == (
        FunctionCalled(tool_call_id="1", name="book", arguments='{"date": "2024-01-16"}', result='{"success": true}'),
        FunctionCalled(tool_call_id="3", name="check", arguments="{}", result="no such day", is_error=True),
        FunctionCalled(tool_call_id="4", name="slow", arguments="{}"),
    )


@pytest.mark.parametrize("outcome", ["connected", "busy"])
def test_the_result_of_a_transfer_is_what_became_of_it(outcome: str) -> None:
    ended = TransferEnded(mode="blind", target="+61400000001", outcome=outcome, tool_call_id="2")  # type: ignore[arg-type]
    record = record_of(called("book", "1"), called("transfer_call", "2"), ended)
    first, second = record.functions_called
    assert first.result is None
    assert (second.result, second.is_error) == (f'{{"outcome":"{outcome}"}}', outcome != "connected")
    assert record.transfers == (ended,)


def test_a_transfer_that_no_model_asked_for_is_the_result_of_nothing() -> None:
    ended = TransferEnded(mode="blind", target="+61400000001", outcome="connected")
    assert record_of(called("book", ""), ended).functions_called[0].result is None


def test_an_id_that_comes_again_is_another_call() -> None:
    record = record_of(called("book", "1"), returned("a", "1"), called("book", "1"), returned("b", "1"))
    assert [one.result for one in record.functions_called] == ["a", "b"]


def test_a_result_of_no_known_function_changes_nothing() -> None:
    assert record_of(returned("late", "9")).functions_called == ()


def test_a_record_stays_small_whatever_a_model_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection, "MOST_FUNCTIONS", 4)
    monkeypatch.setattr(projection, "MOST_FUNCTION_CHARS", 10)
    monkeypatch.setattr(projection, "MOST_CHARS_IN_ALL", 25)
    record = record_of(*(called("book", str(number), "x" * 20) for number in range(9)), returned("", "3"))
    assert [len(one.arguments) for one in record.functions_called] == [10, 10, 5, 0]
