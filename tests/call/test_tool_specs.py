"""What a model is offered: as far as its agent may do it, and with a schema each."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from offhook.bridge.codec import ToolCall
from offhook.call.tool_specs import offered_tools
from offhook.call.tools import ReturnResult, run_tool
from offhook.model.records import Agent, Tool, TransferDestination
from offhook.model.tool_schema import arguments_problem, schema_problem
from offhook.store.forms import BUILT_IN_TOOLS

PLAIN = Agent(agent_id="a", provider="toy")
SALES = TransferDestination(name="Sales", target="tel:+4930")
ALWAYS = ["end_call", "send_dtmf", "send_text"]


def names(agent: Agent) -> list[str]:
    return [tool.name for tool in offered_tools(agent)]


def schema(agent: Agent, name: str) -> dict[str, Any]:
    (found,) = [tool for tool in offered_tools(agent) if tool.name == name]
    parsed: dict[str, Any] = json.loads(found.parameters)
    return parsed


@pytest.mark.parametrize(
    ("agent", "more"),
    [
        (PLAIN, []),
        (replace(PLAIN, destinations=(SALES,)), ["transfer_call"]),
        (replace(PLAIN, transfers_anywhere=True), ["transfer_call"]),
        (replace(PLAIN, task="sell"), ["complete_task"]),
        (replace(PLAIN, briefs=True, destinations=(SALES,)), ["accept_transfer", "decline_transfer"]),
    ],
)
def test_an_agent_is_offered_what_it_may_do(agent: Agent, more: list[str]) -> None:
    assert names(agent) == ALWAYS + more
    assert set(names(agent)) <= BUILT_IN_TOOLS
    assert all(schema_problem(tool.parameters) == "" and tool.description for tool in offered_tools(agent))


def test_transfers_go_to_destinations_by_name_or_anywhere() -> None:
    named = schema(replace(PLAIN, destinations=(SALES,)), "transfer_call")
    assert named["properties"] == {"destination": {"type": "string", "enum": ["Sales"]}}
    assert named["required"] == ["destination"]
    anywhere = schema(replace(PLAIN, transfers_anywhere=True), "transfer_call")
    assert (list(anywhere["properties"]), anywhere["required"]) == (["target"], ["target"])
    both = schema(replace(PLAIN, transfers_anywhere=True, destinations=(SALES,)), "transfer_call")
    assert (list(both["properties"]), "required" in both) == (["destination", "target"], False)


@pytest.mark.parametrize(
    ("given", "offered"),
    [
        ("{}", {"type": "object", "properties": {}}),
        ("", {"type": "object", "properties": {}}),
        ('{"properties": {"a": {}}}', {"type": "object", "properties": {"a": {}}}),
        ('{"type": "object", "properties": {"a": {}}}', {"type": "object", "properties": {"a": {}}}),
    ],
)
def test_a_tool_of_the_agents_own_has_a_schema_of_an_object(given: str, offered: dict[str, Any]) -> None:
    agent = replace(PLAIN, tools=(Tool(tool_id="t", name="mine", url="https://t.example/", parameters=given),))
    assert schema(agent, "mine") == offered


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("end_call", {"reason": "done"}),
        ("send_dtmf", {"digits": "12#"}),
        ("send_text", {"text": "hello"}),
        ("transfer_call", {"destination": "Sales"}),
        ("complete_task", {"outcome": "sold", "summary": "two of them"}),
    ],
)
def test_what_a_schema_takes_is_understood(name: str, arguments: dict[str, str]) -> None:
    agent = replace(PLAIN, destinations=(SALES,), task="sell")
    text = json.dumps(arguments)
    assert arguments_problem(json.dumps(schema(agent, name)), arguments) == ""
    commands = run_tool(ToolCall(tool_call_id="1", name=name, arguments=text), agent)
    assert not any(isinstance(command, ReturnResult) and command.result.is_error for command in commands)


def test_only_an_agent_with_a_task_completes_one() -> None:
    done = ToolCall(tool_call_id="1", name="complete_task", arguments='{"outcome": "sold", "summary": ""}')
    (refused,) = run_tool(done, PLAIN)
    assert isinstance(refused, ReturnResult)
    assert refused.result.is_error
