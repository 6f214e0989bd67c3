"""What a model is offered: as far as its agent may do it, and with a schema each."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from offhook.bridge.codec import ToolCall
from offhook.call.tool_specs import offered_tools
from offhook.call.tools import REPLACEABLE_TOOL, ReturnResult, run_tool
from offhook.model.records import Agent, Tool, TransferDestination
from offhook.model.tool_schema import arguments_problem, schema_problem
from offhook.store import forms
from offhook.store.forms import BUILT_IN_TOOLS

PLAIN = Agent(agent_id="a", provider="toy")
SALES = TransferDestination(name="Sales", target="tel:+4930")
ALWAYS = ["end_call", "send_dtmf", "send_text"]


def names(agent: Agent) -> list[str]:
    return [tool.name for tool in offered_tools(agent)]


def test_both_rooms_mean_the_same_tool() -> None:
    assert forms.REPLACEABLE_TOOL == REPLACEABLE_TOOL


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


def test_a_destination_may_have_a_function_of_its_own() -> None:
    owner = replace(SALES, name="owner", function="call_owner", description="To the owner")
    agent = replace(PLAIN, destinations=(SALES, owner))
    assert names(agent) == [*ALWAYS, "transfer_call", "call_owner"]
    assert schema(agent, "transfer_call")["properties"]["destination"]["enum"] == ["Sales"]
    assert schema(agent, "call_owner") == {"type": "object", "properties": {}}
    assert next(one.description for one in offered_tools(agent) if one.name == "call_owner") == "To the owner"
    alone = replace(PLAIN, destinations=(owner,))
    assert names(alone) == [*ALWAYS, "call_owner"]
    assert names(replace(alone, transfers_anywhere=True)) == [*ALWAYS, "transfer_call", "call_owner"]
    assert names(replace(alone, briefs=True)) == [*ALWAYS, "accept_transfer", "decline_transfer"]


def test_such_a_function_replaces_the_built_in_one_of_its_name() -> None:
    agent = replace(PLAIN, destinations=(SALES, replace(SALES, name="x", function=REPLACEABLE_TOOL)))
    assert names(agent) == [*ALWAYS, "transfer_call"]
    assert schema(agent, "transfer_call")["properties"] == {}


def test_what_completing_a_task_does_is_said() -> None:
    def said(agent: Agent) -> str:
        return next(one.description for one in offered_tools(agent) if one.name == "complete_task")

    agent = replace(PLAIN, task="sell")
    assert "the call ends" in said(agent)
    assert "the call ends" not in said(replace(agent, hangs_up_when_done=False))


def test_only_an_agent_with_a_task_completes_one() -> None:
    done = ToolCall(tool_call_id="1", name="complete_task", arguments='{"outcome": "sold", "summary": ""}')
    (refused,) = run_tool(done, PLAIN)
    assert isinstance(refused, ReturnResult)
    assert refused.result.is_error
