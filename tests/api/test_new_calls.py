"""A call is asked for, in the words of both of SIP4AI's APIs; what cannot be is answered with its codes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.api.placers import Placing
from tests.api.served import Served

from offhook.model.errors import CannotPlaceError, PlacingFault
from offhook.store.database import Database

APPOINTMENT = {
    "target": "+61400000000",
    "task": "Confirm the appointment for Tuesday at 2pm",
    "instructions": "Be friendly and professional",
    "max_duration_seconds": 300,
    "event_webhook": "https://your-app.com/webhook",
}


@pytest.fixture
def placer() -> Placing:
    return Placing()


@pytest.fixture
async def served(database: Database, tmp_path: Path, placer: Placing) -> AsyncIterator[Served]:
    async with Served(database, tmp_path, placer=placer) as one:
        yield one


@pytest.mark.parametrize("path", ["/call", "/api/calls"])
async def test_a_call_is_on_its_way(served: Served, placer: Placing, path: str) -> None:
    said = await served.ask("POST", path, json=APPOINTMENT)

    assert said.status == 201
    assert said.json == {
        "success": True,
        "call_id": "new-1",
        "status": "initiating",
        "created_at": "2026-11-21T10:30:00Z",
    }
    ((account_id, wanted),) = placer.wanted
    assert account_id == "default"
    assert {name: getattr(wanted, name) for name in APPOINTMENT} == APPOINTMENT


@pytest.mark.parametrize(
    "names",
    [("target_number", "task_description"), ("number", "task"), ("target", "task_description")],
)
async def test_the_older_address_knows_other_names(served: Served, placer: Placing, names: tuple[str, str]) -> None:
    said = await served.ask("POST", "/call", json=dict(zip(names, ("+61400000000", "Say hello"), strict=True)))

    assert said.status == 201, said.data
    assert (placer.wanted[0][1].target, placer.wanted[0][1].task) == ("+61400000000", "Say hello")
    assert (await served.ask("POST", "/api/calls", json={"number": "1", "task": "x"})).status == 400


async def test_two_names_may_say_the_same_and_nothing_else(served: Served, placer: Placing) -> None:
    both = {"target": "+611", "number": "+611", "task": "x"}
    assert (await served.ask("POST", "/call", json=both)).status == 201
    said = await served.ask("POST", "/call", json={**both, "number": "+612"})
    assert (said.status, said.code, said.json["field"]) == (400, "BAD_REQUEST", "number")


@pytest.mark.parametrize("path", ["/call", "/api/calls"])
@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"target": None}, "target"),
        ({"target": ""}, "target"),
        ({"task": 7}, "task"),
        ({"task": " \n"}, "task"),
        ({"max_duration_seconds": 0}, "max_duration_seconds"),
        ({"tone": "friendly"}, "tone"),
        ({"functions": [{"webhook": "https://x.example"}]}, "functions[0].name"),
        ({"schedule": {"earliest_at": "tomorrow"}}, "schedule.earliest_at"),
    ],
)
async def test_what_cannot_be_used_is_a_bad_request(
    served: Served, placer: Placing, path: str, change: Any, field: str
) -> None:
    said = await served.ask("POST", path, json={**APPOINTMENT, **change})
    assert (said.status, said.code, said.json["field"], placer.wanted) == (400, "BAD_REQUEST", field, [])


@pytest.mark.parametrize("missing", ["target", "task"])
async def test_target_and_task_are_needed(served: Served, missing: str) -> None:
    body = {name: value for name, value in APPOINTMENT.items() if name != missing}
    for path in ("/call", "/api/calls"):
        said = await served.ask("POST", path, json=body)
        assert (said.status, said.json["error"]) == (400, f"{missing}: is missing")


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("invalid", 400, "BAD_REQUEST"),
        ("forbidden", 403, "FORBIDDEN"),
        ("too_many", 429, "TOO_MANY_REQUESTS"),
        ("unavailable", 503, "UNAVAILABLE"),
    ],
)
async def test_a_call_that_is_not_placed_says_why(
    served: Served, placer: Placing, kind: PlacingFault, status: int, code: str
) -> None:
    placer.problem = CannotPlaceError(kind, "premium numbers are not called", field="target", fix="Permit them")
    said = await served.ask("POST", "/api/calls", json=APPOINTMENT)
    assert said.status == status
    assert said.json == {
        "error": "target: premium numbers are not called",
        "code": code,
        "field": "target",
        "hint": "Permit them",
    }
    assert ("Retry-After" in said.headers) == (status in (429, 503))


async def test_the_operator_reads_who_wanted_to_call_where_nobody_may(
    served: Served, placer: Placing, caplog: pytest.LogCaptureFixture
) -> None:
    for kind in ("forbidden", "invalid"):
        placer.problem = CannotPlaceError(kind, "a premium-rate number", field="target", fix="Permit them")
        await served.ask("POST", "/call", json={"target": "+499001234567\nforged", "task": "Ask."})
    (line,) = [record.getMessage() for record in caplog.records if record.name == "offhook.api.calls"]
    assert "account default" in line
    assert "'+499001234567\\nforged'" in line
    assert "a premium-rate number. Permit them" in line


async def test_a_password_in_a_target_is_not_logged(
    served: Served, placer: Placing, caplog: pytest.LogCaptureFixture
) -> None:
    placer.problem = CannotPlaceError("forbidden", "it is premium", field="target", fix="Call another")
    await served.ask("POST", "/call", json={"target": "sip:0900123456:opensesame@192.0.2.9", "task": "Ask."})
    assert "0900123456" in caplog.text
    assert "opensesame" not in caplog.text


async def test_a_key_calls_for_its_own_account_and_needs_the_scope(served: Served, placer: Placing) -> None:
    reader = await served.key("calls:read")
    stranger = await served.account("stranger")
    assert (await served.ask("POST", "/call", json=APPOINTMENT)).status == 401
    assert (await served.ask("POST", "/call", json=APPOINTMENT, headers=reader)).status == 403
    assert (await served.ask("POST", "/call", json=APPOINTMENT, headers=stranger)).status == 201
    assert [account_id for account_id, _ in placer.wanted] == ["stranger"]


@pytest.mark.parametrize("path", ["/call", "/api/calls"])
async def test_a_body_of_another_kind_is_a_bad_request(served: Served, placer: Placing, path: str) -> None:
    said = await served.ask(
        "POST", path, data='{"target": "+611", "task": "x"}', headers={"Content-Type": "text/plain"}
    )
    assert (said.status, said.code, placer.wanted) == (400, "BAD_REQUEST", [])
    assert said.json["hint"] == "Send Content-Type: application/json"
