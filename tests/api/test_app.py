"""Every answer in one shape, whatever was asked and whatever failed."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.api.served import Served

from offhook.api.endpoints import OPEN, Answer, Asked, Body, Endpoint, Form, Query
from offhook.api.problems import MEANINGS
from offhook.model.errors import (
    ConfigError,
    ReadOnlyRecordError,
    RecordConflictError,
    RecordNotFoundError,
    RevisionMismatchError,
)
from offhook.store.database import Database
from offhook.store.forms import SquadForm

RAISED: dict[str, Exception] = {
    "config": ConfigError("members[0].agent", "there is no agent 'x'", "Use one of: demo"),
    "missing": RecordNotFoundError("agent", "x"),
    "conflict": RecordConflictError("There is an agent 'x' already", field="id", fix="Choose another id"),
    "read_only": ReadOnlyRecordError("agent", "demo", key="agents[0]", file="config.json"),
    "revision": RevisionMismatchError("agent", "x", 4),
    "bug": ZeroDivisionError("secret of ours"),
    "away": sa.exc.InterfaceError("SELECT 1", {}, Exception("gone")),
}


async def fail(asked: Asked) -> Answer:
    raise RAISED[asked.path["how"]]


async def echo(asked: Asked) -> Answer:
    return Answer(body=asked.body)


def endpoint(**values: object) -> Endpoint:
    given = {"tag": "t", "summary": "s", "scope": OPEN, "operation": "o", "answers": (Form(type=dict[str, str]),)}
    return Endpoint(**{**given, **values})  # type: ignore[arg-type]


ENDPOINTS = (
    endpoint(method="GET", path="/fail/{how}", handler=fail),
    endpoint(method="POST", path="/squads", handler=echo, body=Body(type=SquadForm, example={})),
    endpoint(method="GET", path="/paged", handler=echo, query=(Query(name="limit", type=int, summary="a number"),)),
)


@pytest.fixture
async def toys(database: Database, tmp_path: Path) -> AsyncIterator[Served]:
    async with Served(database, tmp_path, endpoints=ENDPOINTS) as one:
        yield one


@pytest.mark.parametrize(
    ("how", "status", "field"),
    [
        ("config", 422, "members[0].agent"),
        ("missing", 404, None),
        ("conflict", 409, "id"),
        ("read_only", 409, None),
        ("revision", 412, None),
    ],
)
async def test_what_the_store_refuses_is_told_with_field_and_hint(
    toys: Served, how: str, status: int, field: str | None
) -> None:
    said = await toys.get(f"/fail/{how}")

    assert (said.status, said.json.get("field")) == (status, field)
    assert MEANINGS[said.json["code"]].status == status
    assert set(said.json) <= {"error", "code", "field", "hint"}


async def test_a_bug_is_told_as_an_id_that_the_log_explains(toys: Served, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "offhook.api"):
        said = await toys.get("/fail/bug")

    error_id = said.json["hint"].split()[-1]
    assert (said.status, said.code) == (500, "INTERNAL_ERROR")
    assert b"secret" not in said.data
    assert b"Traceback" not in said.data
    (logged,) = caplog.records
    assert error_id in logged.getMessage()
    assert logged.exc_info is not None


async def test_a_database_that_is_away_is_no_fault(
    toys: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(toys.database, "is_sqlite", False)

    said = await toys.get("/fail/away")

    assert (said.status, said.code, said.headers["Retry-After"]) == (503, "UNAVAILABLE", "2")
    assert not caplog.records


async def test_unknown_paths_and_methods(toys: Served) -> None:
    nowhere = await toys.get("/nowhere")
    wrong = await toys.ask("DELETE", "/squads")

    assert (nowhere.status, nowhere.code) == (404, "NOT_FOUND")
    assert (wrong.status, wrong.code, wrong.headers["Allow"]) == (405, "METHOD_NOT_ALLOWED", "POST")


@pytest.mark.parametrize(
    ("body", "status", "where"),
    [
        (b'{"id": "a",\n "members": [,]}', 400, "line 2, column 14"),
        (b'{"id": "a"', 400, "line 1, column 11"),
        (b"", 400, "line 1, column 1"),
        (b'{"id": "\xff"}', 400, "UTF-8"),
        (b'{"id": "a\\u0000"}', 422, "U+0000"),
        (b'{"id": "\\ud800"}', 400, "no JSON"),
        (b'{"id": 1e999}', 400, "out of range"),
        (b"[" * 40 + b"]" * 40, 422, "in each other"),
        (b"[" * 30_000, 422, "in each other"),
        (b"{}", 422, "id: is missing"),
        (b'{"id": "a", "members": [{"agent": "b", "spam": 1}]}', 422, "members[0].spam: there is no such field"),
        (b'{"id": "a", "members": [{"agent": 7}]}', 422, "members[0].agent: expected `str`, got `int`"),
        (b"[]", 422, "Expected `object`"),
    ],
)
async def test_a_body_that_cannot_be_used_is_told_where(toys: Served, body: bytes, status: int, where: str) -> None:
    said = await toys.ask("POST", "/squads", data=body, headers={"Content-Type": "application/json"})

    assert said.status == status, said.data
    assert where in said.json["error"]


async def test_how_a_value_is_written_is_told_beside_what_is_wrong(toys: Served) -> None:
    said = await toys.ask("POST", "/squads", json={"id": "a", "members": [{"agent": 7}]})

    assert said.json["hint"] == "Write a text in quotes"


@pytest.mark.parametrize(
    "media", ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin1"]
)
async def test_what_is_no_json_by_its_type_is_not_read(toys: Served, media: str) -> None:
    said = await toys.ask("POST", "/squads", data=b"{}", headers={"Content-Type": media})

    assert (said.status, said.json["hint"]) == (415, "Send Content-Type: application/json")


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_64_kb_is_refused(toys: Served, chunked: bool) -> None:
    async def octets() -> AsyncIterator[bytes]:
        for _ in range(70):
            yield b" " * 1024

    data = octets() if chunked else b" " * 70 * 1024
    said = await toys.ask("POST", "/squads", data=data, headers={"Content-Type": "application/json"})

    assert (said.status, said.code) == (413, "TOO_LARGE")


async def test_parameters_are_checked(toys: Served) -> None:
    wrong = await toys.get("/paged?limit=many")
    unknown = await toys.get("/paged?limt=3")
    twice = await toys.get("/paged?limit=3&limit=4")
    nul = await toys.get("/paged?limit=%00")

    assert [(said.status, said.json["field"]) for said in (wrong, unknown, twice, nul)] == [
        (400, "limit"),
        (400, "limt"),
        (400, "limit"),
        (400, "limit"),
    ]
    assert unknown.json["hint"] == "Known: limit"


async def test_every_answer_forbids_to_keep_it_or_to_guess_what_it_is(toys: Served) -> None:
    for path in ("/paged", "/nowhere", "/fail/bug"):
        said = await toys.get(path)
        assert said.headers["Cache-Control"] == "no-store"
        assert said.headers["X-Content-Type-Options"] == "nosniff"
        assert said.headers["Server"] == "offhook"
        assert said.headers["Content-Type"] == "application/json"
