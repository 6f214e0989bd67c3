"""A request with an Idempotency-Key is done once, however often it is sent, and answered each time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from tests.api.served import Said, Served
from tests.interop import postgres

from offhook.api.endpoints import OPEN, Answer, Asked, Body, Endpoint, Form
from offhook.api.native.table import NATIVE
from offhook.api.openapi import openapi
from offhook.api.problems import ApiError, too_many
from offhook.store.database import Database
from offhook.store.idempotency import KEPT_S


class Work:
    """What is asked of these servers: each time it is done counts."""

    def __init__(self) -> None:
        self.done = 0
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()
        self.began = asyncio.Event()
        self.error: Exception | None = None

    async def do(self, asked: Asked) -> Answer:
        self.done += 1
        self.began.set()
        await self.may_go_on.wait()
        if self.error is not None:
            raise self.error
        return Answer(body={"number": self.done, "said": asked.body}, headers={"X-First": "yes"})

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        values: dict[str, Any] = {
            "method": "POST",
            "tag": "t",
            "summary": "s",
            "handler": self.do,
            "scope": OPEN,
            "answers": (Form(type=dict[str, Any]),),
            "status": 201,
            "body": Body(type=dict[str, Any], example={}),
            "idempotent": True,
        }
        return (Endpoint(path="/once", operation="o", **values), Endpoint(path="/other", operation="p", **values))


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
async def server(database: Database, tmp_path: Path, work: Work) -> AsyncIterator[Served]:
    async with Served(database, tmp_path, endpoints=work.endpoints) as one:
        yield one


async def ask(served: Served, key: str = "k1", path: str = "/once", *, said: str = "hello", **headers: str) -> Said:
    return await served.ask("POST", path, json={"text": said}, headers={"Idempotency-Key": key, **headers})


def is_first(said: Said) -> bool:
    return "Idempotency-Replayed" not in said.headers


async def test_what_is_sent_again_is_answered_byte_for_byte_and_not_done_again(server: Served, work: Work) -> None:
    first, again = await ask(server), await ask(server)
    assert work.done == 1
    assert (again.status, again.data) == (first.status, first.data) == (201, b'{"number":1,"said":{"text":"hello"}}')
    assert again.headers["Content-Type"] == first.headers["Content-Type"]
    assert is_first(first)
    assert again.headers["Idempotency-Replayed"] == "true"


async def test_of_twenty_at_once_one_is_done_and_all_get_its_answer(server: Served, work: Work) -> None:
    work.may_go_on.clear()
    asking = [asyncio.create_task(ask(server)) for _ in range(20)]
    await work.began.wait()
    work.may_go_on.set()
    answers = await asyncio.gather(*asking)
    assert work.done == 1
    assert {(said.status, said.data) for said in answers} == {(201, answers[0].data)}
    assert sum(map(is_first, answers)) == 1


async def test_requests_without_a_key_or_with_others_are_done_each(server: Served, work: Work) -> None:
    await ask(server)
    await ask(server, "k2")
    for _ in range(2):
        said = await server.ask("POST", "/once", json={"text": "hello"})
        assert is_first(said)
    assert work.done == 4


@pytest.mark.parametrize("waits", [True, False])
async def test_a_key_is_not_for_two_requests(server: Served, work: Work, waits: bool) -> None:
    if waits:
        work.may_go_on.clear()
    first = asyncio.create_task(ask(server))
    await work.began.wait()
    if not waits:
        await first
    another_body, another_path = await ask(server, said="goodbye"), await ask(server, path="/other")
    for said in (another_body, another_path):
        assert (said.status, said.code, said.json["field"]) == (422, "INVALID", "Idempotency-Key")
    work.may_go_on.set()
    assert (await first).status == 201
    assert work.done == 1


async def test_the_same_body_may_be_written_in_another_way(server: Served) -> None:
    headers = {"Idempotency-Key": "k1", "Content-Type": "application/json"}
    first = await server.ask("POST", "/once", data=b'{"a": 1, "b": "\xc3\xbc"}', headers=headers)
    again = await server.ask("POST", "/once", data=b'{"b":"\\u00fc","a":1}', headers=headers)
    assert (again.status, again.data) == (201, first.data)


async def test_the_quotes_of_a_structured_field_are_not_of_the_key(server: Served, work: Work) -> None:
    first = await ask(server, 'a"b')
    again = await ask(server, '"a\\"b"')
    assert (work.done, again.data) == (1, first.data)


@pytest.mark.parametrize("key", ["", " ", "two words", "\t", "grün", "k" * 256, '"two words"'])
async def test_what_is_no_key_is_refused(server: Served, work: Work, key: str) -> None:
    said = await ask(server, key)
    assert (said.status, said.code, said.json["field"], work.done) == (400, "BAD_REQUEST", "Idempotency-Key", 0)


async def test_the_longest_key_is_taken_and_two_are_not(server: Served) -> None:
    assert (await ask(server, "~" * 255)).status == 201
    two = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    said = await server.ask("POST", "/once", json={}, headers=two)
    assert said.status == 400


async def test_accounts_have_keys_of_their_own(database: Database, tmp_path: Path, work: Work) -> None:
    from_scope = [
        Endpoint(**{**{name: getattr(one, name) for name in one.__slots__}, "scope": "calls:write"})
        for one in work.endpoints
    ]
    async with Served(database, tmp_path, endpoints=from_scope) as server:
        everything, stranger = await server.key(), await server.account("stranger")
        mine = await ask(server, **everything)
        theirs = await ask(server, said="something else", **stranger)
        assert (mine.status, theirs.status, work.done) == (201, 201, 2)
        assert (await ask(server, **stranger)).status == 422


ERRORS: list[tuple[Exception, int]] = [
    (too_many("Too many", 3), 429),
    (ApiError("BAD_REQUEST", "target: is no number", field="target"), 400),
    (ApiError("UNAVAILABLE", "Not now"), 503),
    (ZeroDivisionError(), 500),
]


@pytest.mark.parametrize(("error", "status"), ERRORS)
async def test_after_an_error_the_key_is_free_again(server: Served, work: Work, error: Exception, status: int) -> None:
    work.error = error
    work.may_go_on.clear()
    asking = [asyncio.create_task(ask(server)) for _ in range(3)]
    await work.began.wait()
    work.may_go_on.set()
    assert [(await one).status for one in asking] == [status] * 3
    work.error = None
    assert (await ask(server, said="corrected")).status == 201
    assert work.done == 2


async def test_what_cannot_be_read_takes_no_key(server: Served, work: Work) -> None:
    headers = {"Idempotency-Key": "k1", "Content-Type": "application/json"}
    assert (await server.ask("POST", "/once", data=b"{", headers=headers)).status == 400
    assert (await ask(server)).status == 201


async def test_what_was_begun_is_done_though_nobody_waits_any_more(server: Served, work: Work) -> None:
    work.may_go_on.clear()
    asking = asyncio.create_task(ask(server))
    await work.began.wait()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    work.may_go_on.set()
    again = await ask(server)
    assert (again.status, work.done, is_first(again)) == (201, 1, False)


# ── several processes ────────────────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def several(data_dir: Path, url: str, work: Work, count: int = 2) -> AsyncIterator[list[Served]]:
    """Servers on one database, each with connections of its own."""
    async with AsyncExitStack() as stack:
        servers = []
        for _ in range(count):
            database = Database.open(url, data_dir=data_dir)
            stack.callback(database.close)
            servers.append(await stack.enter_async_context(Served(database, data_dir, endpoints=work.endpoints)))
        yield servers


async def one_of_several_does_it(data_dir: Path, url: str, work: Work) -> None:
    async with several(data_dir, url, work) as (here, there):
        work.may_go_on.clear()
        first = asyncio.create_task(ask(here))
        await work.began.wait()
        meanwhile = await ask(there)
        assert (meanwhile.status, meanwhile.code, meanwhile.headers["Retry-After"]) == (409, "CONFLICT", "1")
        work.may_go_on.set()
        answer = await first
        again = await ask(there)
        assert (again.status, again.data, work.done) == (answer.status, answer.data, 1)
        assert not is_first(again)


async def test_another_server_of_the_same_database_does_not_do_it_too(
    database: Database, tmp_path: Path, work: Work
) -> None:
    await one_of_several_does_it(tmp_path, "", work)


@pytest.mark.interop
async def test_nor_with_postgresql(tmp_path: Path, work: Work) -> None:
    with postgres.running() as cluster:
        await one_of_several_does_it(tmp_path, cluster.database(), work)


async def test_whose_server_died_is_not_done_again_before_the_key_is_free(
    database: Database, tmp_path: Path, work: Work
) -> None:
    now = [1_000_000.0]
    async with Served(database, tmp_path, endpoints=work.endpoints, now=lambda: now[0]) as server:
        work.may_go_on.clear()
        asyncio.get_running_loop().call_later(0, work.may_go_on.set)
        await ask(server)
        with database.write() as connection:  # as if it had died in between
            connection.execute(sa.text("UPDATE idempotency SET status = NULL, body = NULL"))
        now[0] += 3600
        said = await ask(server)
        assert (said.status, int(said.headers["Retry-After"])) == (409, KEPT_S - 3600)
        assert "new key" in said.json["hint"]
        now[0] += KEPT_S
        assert (await ask(server)).status == 201
        assert work.done == 2


async def test_an_answer_that_cannot_be_kept_is_given_all_the_same(
    server: Served, work: Work, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*given: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr("offhook.api.idempotency.finish", broken)
    assert (await ask(server)).status == 201
    assert "the disk is full" in caplog.text
    assert (await ask(server)).status == 409
    assert work.done == 1


async def test_stopping_waits_for_what_is_being_done(database: Database, tmp_path: Path, work: Work) -> None:
    async with Served(database, tmp_path, endpoints=work.endpoints) as server:
        work.may_go_on.clear()
        asking = asyncio.create_task(ask(server))
        await work.began.wait()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        asyncio.get_running_loop().call_later(0.05, work.may_go_on.set)
    with database.read() as connection:
        assert connection.scalar(sa.text("SELECT status FROM idempotency")) == 201


def test_the_document_says_where_a_key_is_taken() -> None:
    document = openapi(Work().endpoints, "0")["paths"]["/once"]["post"]
    (header,) = document["parameters"]
    assert (header["name"], header["in"], header.get("required", False)) == (
        "Idempotency-Key",
        "header",
        False,
    )
    assert {"400", "409", "422"} <= set(document["responses"])
    assert "Idempotency-Replayed" in document["responses"]["201"]["headers"]
    assert all(endpoint.method == "POST" for endpoint in NATIVE if endpoint.idempotent)
