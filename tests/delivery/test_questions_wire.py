"""The native shape of questions: what is sent, and what is read from all that servers answer."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.call.ports import AgentForCall, CallDeclined, NoAnswer, ToolOutput, ToolUse
from offhook.delivery.outbound_http import OutboundResponse
from offhook.delivery.questions_wire import (
    AgentById,
    AgentDescribed,
    CallAnswer,
    merged_headers,
    read_call,
    read_tool,
    render_call,
    render_tool,
)
from offhook.model.call_events import CallArrived
from offhook.model.records import Tool, ToolMethod
from offhook.store.forms import AgentForm

ARRIVED = CallArrived(
    direction="inbound",
    from_uri="sip:+4917012345@carrier.example",
    to_uri="sip:+493012345@us.example",
    sip_call_id="a84b",
    transport="UDP",
    remote_address="192.0.2.10:5060",
    trunk_id="office",
    headers=(("X-Ticket", "7"), ("X-Ticket", "8"), ("X-Odd", "caf\udce9")),
)
QUESTION = AgentForCall(account_id="acme", call_id="c1", url="https://crm.example/who", arrived=ARRIVED)


def said(body: Any, status: int = 200) -> OutboundResponse:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return OutboundResponse(status=status, headers={}, body=data)


def use(
    arguments: str = "{}", *, method: ToolMethod = "POST", url: str = "https://t.example/run", **headers: str
) -> ToolUse:
    tool = Tool(tool_id="t1", name="weather", url=url, method=method, headers=tuple(headers.items()))
    return ToolUse(
        account_id="acme", call_id="c1", agent_id="a1", tool=tool, tool_call_id="call-1", arguments=arguments
    )


def test_a_call_as_it_is_asked_about() -> None:
    asked = render_call(QUESTION)
    assert (asked.method, asked.url, asked.headers) == ("POST", QUESTION.url, {"Content-Type": "application/json"})
    assert json.loads(asked.body) == {
        "type": "call.incoming",
        "call_id": "c1",
        "from": "sip:+4917012345@carrier.example",
        "to": "sip:+493012345@us.example",
        "trunk_id": "office",
        "remote_address": "192.0.2.10:5060",
        "headers": {"X-Ticket": "7, 8", "X-Odd": "caf\\udce9"},
    }


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ({"agent_id": "sales"}, AgentById(agent_id="sales")),
        ({"agent_id": "sales", "agent": None}, AgentById(agent_id="sales")),
        ({"agent": {"greeting": "Hi"}}, AgentDescribed(form=AgentForm(id="transient", greeting="Hi"))),
        ({"decline": {"status": 603, "reason": "no"}}, CallDeclined(status=603, reason="no")),
        ({"decline": {}}, CallDeclined(status=486, reason="")),
        ({"decline": {"reason": "x" * 999}}, CallDeclined(status=486, reason="x" * 200)),
    ],
)
def test_what_a_server_may_answer(body: object, answer: CallAnswer) -> None:
    assert read_call(said(body)) == answer


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "is no JSON"),
        (b"<html>", "is no JSON"),
        (b'{"agent_id": "\xff"}', "is no JSON"),
        (b'{"agent": {"x":' + b"[" * 9999, "is no JSON"),
        ([], "Expected `object`, got `array`"),
        ({}, "must have one of agent_id, agent and decline"),
        ({"agent_id": "a", "decline": {}}, "no two of them"),
        ({"agent_id": 7}, "agent_id: Expected `str | null`, got `int`"),
        ({"agent_id": ""}, "agent_id: Expected `str` of length >= 1"),
        ({"agentId": "a"}, "unknown field `agentId`"),
        ({"decline": {"status": 200}}, "decline.status: Expected `int` >= 400"),
        ({"decline": {"status": 700}}, "decline.status: Expected `int` <= 699"),
        ({"agent": {"id": "mine"}}, "agent.id: an agent for one call has none"),
        ({"agent": {"greetng": "Hi"}}, "agent: Object contains unknown field `greetng`"),
        ({"agent": {"max_call_s": 0}}, "agent.max_call_s: Expected `int` >= 1"),
        ({"agent": {"destinations": [{"name": "x"}]}}, "agent.destinations[0]: Object missing required field `target`"),
    ],
)
def test_anything_else_is_no_answer_and_says_where(body: object, reason: str) -> None:
    answer = read_call(said(body))
    assert isinstance(answer, NoAnswer)
    assert reason in answer.reason


@pytest.mark.parametrize("status", [201, 204, 302, 404, 500])
def test_another_status_is_no_answer(status: int) -> None:
    answer = read_call(said({"agent_id": "sales"}, status))
    assert answer == NoAnswer(reason=f"the server answered {status} instead of 200")


@given(st.binary(max_size=200))
def test_whatever_comes_back_is_some_answer(body: bytes) -> None:
    assert isinstance(read_call(said(body)), AgentById | AgentDescribed | CallDeclined | NoAnswer)


def test_a_tool_is_posted_to() -> None:
    asked = render_tool(use('{"city": "Ulm", "days": 3}', Authorization="Bearer x"))
    assert (asked.method, asked.url) == ("POST", "https://t.example/run")
    assert asked.headers == {"Content-Type": "application/json", "Authorization": "Bearer x"}
    assert json.loads(asked.body) == {
        "call_id": "c1",
        "agent_id": "a1",
        "tool": "weather",
        "tool_call_id": "call-1",
        "arguments": {"city": "Ulm", "days": 3},
    }


@pytest.mark.parametrize(
    ("url", "arguments", "sent"),
    [
        (
            "https://t.example/run",
            '{"city": "Ulm & Neu-Ulm=ü"}',
            "https://t.example/run?city=Ulm%20%26%20Neu-Ulm%3D%C3%BC",
        ),
        ("https://t.example/run?key=1", '{"city": "Ulm"}', "https://t.example/run?key=1&city=Ulm"),
        ("https://t.example/run?", '{"n": 1.5, "yes": true}', "https://t.example/run?n=1.5&yes=true"),
        ("https://t.example/run", "{}", "https://t.example/run"),
    ],
)
def test_a_tool_is_got_with_its_arguments_as_query(url: str, arguments: str, sent: str) -> None:
    asked = render_tool(use(arguments, method="GET", url=url))
    assert (asked.method, asked.url, asked.body) == ("GET", sent, b"")


@given(st.dictionaries(st.text(min_size=1), st.text()))
def test_a_query_says_what_the_model_said(arguments: dict[str, str]) -> None:
    asked = render_tool(use(json.dumps(arguments), method="GET"))
    query = parse_qsl(urlsplit(asked.url).query, keep_blank_values=True, strict_parsing=bool(arguments))
    assert dict(query) == arguments


def test_a_query_has_what_is_no_string_as_json() -> None:
    asked = render_tool(use('{"where": {"x": [1, null]}}', method="GET"))
    assert dict(parse_qsl(urlsplit(asked.url).query)) == {"where": '{"x":[1,null]}'}


def test_a_tools_own_header_goes_before_ours() -> None:
    assert merged_headers({"Content-Type": "a"}, {"content-type": "b", "X": "1"}) == {"content-type": "b", "X": "1"}


@pytest.mark.parametrize(
    ("body", "status", "output"),
    [
        (b"sunny", 200, ToolOutput(output="sunny")),
        (b'{"sky": "blue"}', 201, ToolOutput(output='{"sky": "blue"}')),
        (b"", 204, ToolOutput(output="done")),
        (b"\x89PNG\xff", 200, ToolOutput(output="weather answered with something that is no text", is_error=True)),
        (b"a\x00b", 200, ToolOutput(output="weather answered with something that is no text", is_error=True)),
        (b" no such city\n", 404, ToolOutput(output="weather answered 404: no such city", is_error=True)),
        (b"", 302, ToolOutput(output="weather answered 302", is_error=True)),
        (b"\xff", 500, ToolOutput(output="weather answered 500", is_error=True)),
        (b"x" * 9000, 500, ToolOutput(output="weather answered 500: " + "x" * 500, is_error=True)),
    ],
)
def test_what_the_model_is_told_of_an_answer(body: bytes, status: int, output: ToolOutput) -> None:
    assert read_tool(use(), said(body, status)) == output
