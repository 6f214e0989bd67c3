"""Functions of SIP4AI's users, run by a real server in whole calls."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from aiohttp import web
from tests.call.phones import phone, scripted
from tests.delivery.receivers import OPEN, Receiver, receiver
from tests.store.stories import story

from offhook.call.ports import NoAnswer, ToolOutput, ToolUse
from offhook.delivery.outbound_http import OutboundHttp
from offhook.delivery.questions import HttpQuestions
from offhook.delivery.sip4ai_signing import TIMESTAMP, account_secret, verify
from offhook.model.call_events import CallArrived
from offhook.model.records import FunctionCalled, Tool, ToolMethod
from offhook.store.directory import DirectoryState
from offhook.store.function_forms import FunctionForm, function_tools
from offhook.store.projection import begin, project

SECRET = "of this installation"
GIVEN = {"date": "2024-01-16", "time": "14:00"}
ARGUMENTS = {**GIVEN, "guests": 2}


def book(there: Receiver, **values: Any) -> Tool:
    form = FunctionForm(name="book_appointment", webhook=there.url("/api/book?shop=7"), **values)
    ((tool,), _) = function_tools((form,))
    return tool


@asynccontextmanager
async def server(answer: object, status: int = 200) -> AsyncIterator[tuple[Receiver, HttpQuestions]]:
    async def say(request: web.Request) -> web.StreamResponse:
        return web.Response(text=answer if isinstance(answer, str) else json.dumps(answer), status=status)

    async with receiver() as there, OutboundHttp(OPEN) as http:
        there.answer = say
        yield there, HttpQuestions(http, DirectoryState, account_secret=partial(account_secret, SECRET))


def use(tool: Tool) -> ToolUse:
    return ToolUse(
        account_id="acme",
        call_id="c1",
        agent_id="main",
        tool=tool,
        tool_call_id="t1",
        arguments=json.dumps(ARGUMENTS),
    )


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_a_function_is_asked_with_a_signed_body(method: ToolMethod) -> None:
    async with server({"success": True}) as (there, questions):
        answer = await questions.use_tool(use(book(there, method=method)), 5.0)
    assert answer == ToolOutput(output='{"success": true}')
    (request,), (body,) = there.seen, there.bodies
    assert (request.method, request.path_qs, request.content_type) == (method, "/api/book?shop=7", "application/json")
    assert json.loads(body) == {"call_id": "c1", "function": "book_appointment", "arguments": ARGUMENTS}
    verify(headers=dict(request.headers), body=body, secrets=(account_secret(SECRET, "acme"),))
    assert request.headers[TIMESTAMP].isdigit()


async def test_by_get_the_arguments_are_the_query_and_no_body_is_signed() -> None:
    async with server("done") as (there, questions):
        await questions.use_tool(use(book(there, method="GET")), 5.0)
    (request,), (body,) = there.seen, there.bodies
    assert dict(request.query) == {"shop": "7", "date": "2024-01-16", "time": "14:00", "guests": "2"}
    assert body == b""
    verify(headers=dict(request.headers), body=b"", secrets=(account_secret(SECRET, "acme"),))


async def test_a_tool_of_our_own_dialect_is_asked_as_before() -> None:
    async with server("done") as (there, questions):
        await questions.use_tool(use(replace(book(there), dialect="offhook")), 5.0)
    assert set(json.loads(there.bodies[0])) == {"call_id", "agent_id", "tool", "tool_call_id", "arguments"}
    assert not any(name.lower().startswith("x-sip4ai") for name in there.seen[0].headers)


async def test_an_installation_without_a_secret_asks_unsigned() -> None:
    async with receiver() as there, OutboundHttp(OPEN) as http:
        answer = await HttpQuestions(http, DirectoryState).use_tool(use(book(there)), 5.0)
    assert not isinstance(answer, NoAnswer)
    assert TIMESTAMP not in there.seen[0].headers


async def called(answer: object, status: int = 200, **values: Any) -> tuple[list[FunctionCalled], list[str]]:
    """What the record of a call says of its functions whose model calls one, and what the model said to the result."""
    given = {"do": "use_tool", "name": "book_appointment", "arguments": GIVEN}
    async with server(answer, status) as (there, questions):
        steps = [
            {"on": "ready", "do": [given]},
            {"on": "tool_result", "do": [{"do": "speak", "text": "I see", "ms": 240}, {"do": "end_call"}]},
        ]
        agent = replace(scripted(steps=steps), tools=(book(there, **values),))
        async with phone(agent, questions=questions) as callee, phone() as caller:
            await caller.over(caller.call(callee))
            await callee.ended()
            await callee.quiet()
            facts = [event.fact for event in callee.facts.events]
    first, *others = story(*facts)
    assert isinstance(first.fact, CallArrived)
    record = begin(first, first.fact, node_id="n")
    for one in others:
        record = project(record, one)
    return list(record.functions_called), [turn.text for turn in record.transcript]


async def test_the_record_says_what_was_called_and_what_came_of_it() -> None:
    (one,), said = await called({"success": True})
    assert (one.name, json.loads(one.arguments)) == ("book_appointment", GIVEN)
    assert (json.loads(one.result or ""), one.is_error) == ({"success": True}, False)
    assert said == ["I see"]


@pytest.mark.parametrize(
    ("answer", "status", "result"),
    [("fully booked", 409, "answered 409: fully booked"), ("", 500, "answered 500"), ("moved", 302, "answered 302")],
)
async def test_an_error_of_the_server_is_told_to_the_model_and_recorded(answer: str, status: int, result: str) -> None:
    (one,), said = await called(answer, status)
    assert (result in (one.result or ""), one.is_error) == (True, True)
    assert said == ["I see"]


async def test_a_server_that_is_too_slow_is_told_to_the_model_and_recorded() -> None:
    async with receiver() as there, OutboundHttp(OPEN) as http:

        async def never(request: web.Request) -> web.StreamResponse:
            await asyncio.Event().wait()
            raise AssertionError

        there.answer = never
        questions = HttpQuestions(http, DirectoryState, account_secret=lambda account_id: SECRET)
        answer = await questions.use_tool(use(book(there)), 0.1)
    assert isinstance(answer, NoAnswer)
