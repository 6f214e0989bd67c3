"""Tool calls whose results a provider waits for."""

from __future__ import annotations

from tests.bridge.provider_talk import Output

from offhook.bridge.awaited_results import MAX_CALLS, AwaitedResults
from offhook.bridge.codec import ToolCall


def test_a_call_is_told_once_and_takes_one_result() -> None:
    out, results = Output(), AwaitedResults()
    results.call("1", "weather", b'{"city":"Ulm"}', out)
    results.call("1", "weather", b'{"city":"Ulm"}', out)
    assert out.events == [ToolCall(tool_call_id="1", name="weather", arguments='{"city":"Ulm"}')]
    assert [results.take("1"), results.take("1"), results.take("2")] == [True, False, False]


def test_calls_without_end_are_forgotten_from_the_oldest_on() -> None:
    out, results = Output(), AwaitedResults()
    for number in range(MAX_CALLS + 1):
        results.call(str(number), "weather", b"{}", out)
    assert "0" not in results
    assert "1" in results
