"""A running call is told things, says things, and is hung up; one that is over, or elsewhere, is not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.api.placers import Keeping
from tests.api.running_calls import SALES, Running
from tests.api.served import Served
from tests.store.stories import ANSWERED, ARRIVED, WHOLE, happened, story

from offhook.call.manager import Pressed
from offhook.model.records import TransferDestination
from offhook.store.database import Database
from offhook.store.scheduled_calls import ScheduledCall, add, take

COMMANDS: list[tuple[str, str, Any]] = [
    ("POST", "/inject", {"message": "hello"}),
    ("POST", "/say", {"text": "hello"}),
    ("POST", "/transfer", {"target": "+4930123"}),
    ("POST", "/dtmf", {"digits": "1"}),
    ("POST", "/hold", {"hold": True}),
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


async def test_the_words_that_a_field_takes_are_told(served: Served) -> None:
    said = await served.ask("POST", "/api/calls/c1/inject", json={"message": "x", "role": "agent"})

    assert (said.json["field"], said.json["hint"]) == ("role", "Use one of: system, user")


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


# ── transfers, keys, hold ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ({"target": "+4930123"}, TransferDestination(name="", target="+4930123")),
        (
            {"target": "sip:a@b", "mode": "warm", "briefing": "It is urgent.", "trunk_id": "mine"},
            TransferDestination(name="", target="sip:a@b", mode="warm", briefing="It is urgent.", trunk_id="mine"),
        ),
        ({"destination": "sales"}, SALES),
        ({"destination": "sales", "mode": "bridge"}, replace(SALES, mode="bridge")),
    ],
)
async def test_a_call_is_transferred(served: Served, running: Running, sent: Any, told: TransferDestination) -> None:
    await served.ask("POST", "/api/trunks", json={"id": "mine", "kind": "gateway", "targets": ["sip:192.0.2.1"]})
    said = await served.ask("POST", "/api/calls/c1/transfer", json=sent)
    assert (said.status, said.json) == (202, {"success": True, "call_id": "c1"})
    assert running.told == [("c1", told)]


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ({}, "target"),
        ({"target": "+4930123", "destination": "sales"}, "target"),
        ({"target": "sip:"}, "target"),
        ({"target": "http://example.com"}, "target"),
        ({"destination": "nobody"}, "destination"),
        ({"target": "+4930123", "mode": "beam"}, "mode"),
        ({"target": "+4930123", "trunk_id": "of-somebody-else"}, "trunk_id"),
    ],
)
async def test_who_cannot_be_called_is_named(served: Served, running: Running, sent: Any, field: str) -> None:
    said = await served.ask("POST", "/api/calls/c1/transfer", json=sent)
    assert (said.status, said.code, said.json["field"], running.told) == (422, "INVALID", field, [])


async def test_a_trunk_of_another_account_carries_no_transfer(served: Served, running: Running) -> None:
    stranger = await served.account("stranger")
    trunk = {"id": "theirs", "kind": "gateway", "targets": ["sip:192.0.2.1"]}
    assert (await served.ask("POST", "/api/trunks", json=trunk, headers=stranger)).status == 201
    everything = await served.key()
    sent = {"target": "+4930123", "trunk_id": "theirs"}
    said = await served.ask("POST", "/api/calls/c1/transfer", json=sent, headers=everything)
    assert (said.status, said.json["field"], running.told) == (422, "trunk_id", [])


async def test_where_the_policy_lets_nobody_call_nobody_is_transferred(served: Served, running: Running) -> None:
    said = await served.ask("POST", "/api/calls/c1/transfer", json={"target": "+900123"})
    assert (said.status, said.code, said.json["field"]) == (403, "FORBIDDEN", "target")
    assert "premium-rate" in said.json["error"]
    assert said.json["hint"] == "Call another one"
    assert running.told == []


async def test_one_transfer_at_a_time(served: Served, running: Running) -> None:
    running.transferring = True
    said = await served.ask("POST", "/api/calls/c1/transfer", json={"target": "+4930123"})
    assert (said.status, said.code, running.told) == (409, "CONFLICT", [])


async def test_a_transfer_that_is_sent_twice_with_a_key_is_one(served: Served, running: Running) -> None:
    for _ in range(2):
        said = await served.ask(
            "POST", "/api/calls/c1/transfer", json={"target": "+4930123"}, headers={"Idempotency-Key": "k"}
        )
        assert said.status == 202
    assert len(running.told) == 1


async def test_keys_are_pressed(served: Served, running: Running) -> None:
    said = await served.ask("POST", "/api/calls/c1/dtmf", json={"digits": "0123456789*#ABCD"})
    assert (said.status, said.json) == (200, {"success": True, "call_id": "c1"})
    assert running.told == [("c1", "0123456789*#ABCD")]


@pytest.mark.parametrize("pressed", ["not_up", "not_taken"])
async def test_keys_that_nobody_takes_are_a_conflict(served: Served, running: Running, pressed: Pressed) -> None:
    running.pressed = pressed
    said = await served.ask("POST", "/api/calls/c1/dtmf", json={"digits": "1"})
    assert (said.status, said.code) == (409, "CONFLICT")


@pytest.mark.parametrize("digits", ["", "e", "a", "1 2", "1" * 65, "１", 1, "1\n"])
async def test_what_is_no_key_is_refused(served: Served, running: Running, digits: Any) -> None:
    said = await served.ask("POST", "/api/calls/c1/dtmf", json={"digits": digits})
    assert (said.status, said.code, said.json["field"], running.told) == (422, "INVALID", "digits", [])


@pytest.mark.parametrize("wanted", [True, False])
async def test_a_call_is_held_and_taken_back(served: Served, running: Running, wanted: bool) -> None:
    said = await served.ask("POST", "/api/calls/c1/hold", json={"hold": wanted})
    assert (said.status, running.told) == (200, [("c1", wanted)])


# ── calls that wait ──────────────────────────────────────────────────────────────────────────────────────

WAITING = ScheduledCall(
    call_id="later",
    account_id="default",
    due_at=4_000_000_000.0,
    latest_at=4_000_003_600.0,
    created_at=1000.0,
    form={
        "target": "+4930123",
        "task": "say hello",
        "agent_id": "demo",
        "schedule": {"earliest_at": "2096-10-02T07:06:40Z", "latest_at": None},
    },
)


@pytest.fixture
async def waiting(database: Database, tmp_path: Path) -> AsyncIterator[Served]:
    async with Served(database, tmp_path, placer=Keeping(database)) as one:
        happened(database, ARRIVED, call_id="c1")
        happened(database, *WHOLE, call_id="over")
        with database.write() as connection:
            add(connection, WAITING, most=9)
        yield one


async def test_a_call_that_waits_can_be_read(waiting: Served) -> None:
    said = await waiting.get("/api/calls/later")
    assert said.status == 200
    told = {name: said.json[name] for name in ("id", "status", "direction", "target", "agent_id", "scheduled_at")}
    assert told == {
        "id": "later",
        "status": "initiating",
        "direction": "outbound",
        "target": "+4930123",
        "agent_id": "demo",
        "scheduled_at": "2096-10-02T07:06:40Z",
    }
    assert (await waiting.get("/api/calls/c1")).json["scheduled_at"] is None
    assert (await waiting.get("/api/calls/later/events")).json == {"events": [], "next_after": None}
    stranger = await waiting.account("stranger")
    for path in ("/api/calls/later", "/api/calls/later/events"):
        assert (await waiting.get(path, headers=stranger)).status == 404


async def test_its_events_can_be_waited_for(waiting: Served) -> None:
    async with waiting.stream("/api/calls/later/events") as stream:
        happened(waiting.database, ARRIVED, call_id="later")
        waiting.feed.publish(story(ARRIVED, call_id="later"))
        assert await stream.ids(1) == [1]


async def test_it_is_listed_among_those_that_begin(waiting: Served) -> None:
    async def ids(query: str) -> tuple[list[str], int]:
        said = await waiting.get(f"/api/calls?{query}")
        return [call["id"] for call in said.json["calls"]], said.json["total"]

    assert await ids("status=initiating") == (["later", "c1"], 2)
    assert await ids("status=initiating&limit=1") == (["later"], 2)
    assert await ids("status=initiating&limit=1&offset=1") == (["c1"], 2)
    assert await ids("status=initiating&offset=2") == ([], 2)
    assert await ids("status=initiating&direction=outbound") == (["later"], 1)
    assert await ids("status=initiating&direction=inbound") == (["c1"], 1)
    assert (await ids(""))[1] == 2


async def test_it_is_cancelled_as_a_call_is_hung_up(waiting: Served) -> None:
    stranger = await waiting.account("stranger")
    assert (await waiting.ask("DELETE", "/api/calls/later", headers=stranger)).status == 404
    everything = await waiting.key()
    said = await waiting.ask("DELETE", "/api/calls/later", headers=everything)
    assert (said.status, said.json) == (200, {"success": True, "call_id": "later", "status": "ending"})
    assert (await waiting.get("/api/calls/later", headers=everything)).status == 404


async def test_while_it_is_being_placed_it_is_not_cancelled(waiting: Served) -> None:
    assert await waiting.database.run(take, "default", "later", 0.0) is not None
    said = await waiting.ask("DELETE", "/api/calls/later")
    assert (said.status, said.code, said.headers["Retry-After"]) == (409, "CONFLICT", "1")


@pytest.mark.parametrize(("method", "path", "body"), [one for one in COMMANDS if one[0] != "DELETE"])
async def test_a_call_that_has_not_begun_takes_no_commands(waiting: Served, method: str, path: str, body: Any) -> None:
    said = await waiting.ask(method, f"/api/calls/later{path}", json=body)
    assert (said.status, said.code, said.json["hint"]) == (
        400,
        "BAD_REQUEST",
        "It is to be placed at 2096-10-02T07:06:40Z",
    )
