"""A running call is told things, says things, and is hung up; one that is over, or elsewhere, is not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.api.running_calls import Running
from tests.api.served import Served
from tests.store.stories import ANSWERED, ARRIVED, WHOLE, happened

from offhook.store.database import Database

COMMANDS: list[tuple[str, str, Any]] = [
    ("POST", "/inject", {"message": "hello"}),
    ("POST", "/say", {"text": "hello"}),
    ("DELETE", "", None),
]


@pytest.fixture
def running() -> Running:
    return Running("c1")


@pytest.fixture
async def served(database: Database, tmp_path: Path, running: Running) -> AsyncIterator[Served]:
    async with Served(database, tmp_path, calls=running) as one:
        happened(database, ARRIVED, ANSWERED, call_id="c1")
        happened(database, *WHOLE, call_id="over")
        happened(database, ARRIVED, call_id="elsewhere")
        yield one


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ({"message": "it rains"}, ("c1", "system", "it rains", False)),
        ({"message": "it rains", "respond": True}, ("c1", "system", "it rains", True)),
        ({"message": "it rains", "role": "user"}, ("c1", "user", "it rains", True)),
        ({"message": "it rains", "role": "user", "respond": False}, ("c1", "user", "it rains", False)),
    ],
)
async def test_an_agent_is_told_something(
    served: Served, running: Running, sent: Any, told: tuple[object, ...]
) -> None:
    said = await served.ask("POST", "/api/calls/c1/inject", json=sent)
    assert (said.status, said.json) == (200, {"success": True, "call_id": "c1"})
    assert running.told == [told]


async def test_a_caller_is_told_something(served: Served, running: Running) -> None:
    said = await served.ask("POST", "/api/calls/c1/say", json={"text": "one moment"})
    assert (said.status, said.json) == (200, {"success": True, "call_id": "c1"})
    await served.ask("POST", "/api/calls/c1/say", json={"text": "say that it rains", "exact": False})
    assert running.told == [("c1", "one moment", True), ("c1", "say that it rains", False)]


async def test_a_call_is_hung_up_with_a_goodbye(served: Served, running: Running) -> None:
    said = await served.ask("DELETE", "/api/calls/c1")
    assert (said.status, said.json) == (200, {"success": True, "call_id": "c1", "status": "ending"})
    assert running.told == [("c1", 3.0)]


@pytest.mark.parametrize(("method", "path", "body"), COMMANDS)
async def test_only_a_call_that_runs_here_can_be_told(
    served: Served, running: Running, method: str, path: str, body: Any
) -> None:
    unknown = await served.ask(method, f"/api/calls/nobody{path}", json=body)
    assert (unknown.status, unknown.code) == (404, "NOT_FOUND")
    over = await served.ask(method, f"/api/calls/over{path}", json=body)
    assert (over.status, over.code) == (400, "BAD_REQUEST")
    elsewhere = await served.ask(method, f"/api/calls/elsewhere{path}", json=body)
    assert (elsewhere.status, elsewhere.json["hint"]) == (409, "Ask the server 'n1', where it runs")
    assert running.told == []
    running.gone = True
    assert (await served.ask(method, f"/api/calls/c1{path}", json=body)).status == 400


@pytest.mark.parametrize(("method", "path", "body"), COMMANDS)
async def test_a_call_of_another_account_is_not_there(
    served: Served, running: Running, method: str, path: str, body: Any
) -> None:
    stranger = await served.account("stranger")
    said = await served.ask(method, f"/api/calls/c1{path}", json=body, headers=stranger)
    assert (said.status, running.told) == (404, [])


@pytest.mark.parametrize("body", [{}, {"message": ""}, {"message": "x" * 4001}, {"message": "x", "role": "agent"}])
async def test_what_cannot_be_said_is_refused(served: Served, running: Running, body: Any) -> None:
    said = await served.ask("POST", "/api/calls/c1/inject", json=body)
    assert (said.status, said.code, running.told) == (400, "BAD_REQUEST", [])


@pytest.mark.parametrize("sent", [{"message": "it rains"}, {"prompt": "it rains"}, {"message": "x", "prompt": "x"}])
async def test_a_prompt_is_a_message(served: Served, running: Running, sent: Any) -> None:
    said = await served.ask("POST", "/calls/c1/inject", json={**sent, "role": "user"})
    assert (said.status, said.json) == (200, {"success": True, "call_id": "c1"})
    assert running.told == [("c1", "user", next(iter(sent.values())), True)]


@pytest.mark.parametrize(
    ("sent", "field"),
    [({}, "message"), ({"message": "x", "prompt": "y"}, "prompt"), ({"prompt": ""}, "prompt"), ({"text": "x"}, "text")],
)
async def test_a_prompt_that_says_nothing_or_two_things_is_refused(
    served: Served, running: Running, sent: Any, field: str
) -> None:
    said = await served.ask("POST", "/calls/c1/inject", json=sent)
    assert (said.status, said.json["field"], running.told) == (400, field, [])


async def test_a_call_that_nobody_has_is_told_in_the_words_of_sip4ai(served: Served) -> None:
    for method, path in (
        ("GET", "/api/calls/nobody"),
        ("DELETE", "/api/calls/nobody"),
        ("POST", "/api/calls/nobody/inject"),
        ("POST", "/calls/nobody/inject"),
    ):
        said = await served.ask(method, path, json={"message": "x"} if method == "POST" else None)
        assert (said.status, said.json["error"], said.code) == (404, "call not found", "NOT_FOUND")
