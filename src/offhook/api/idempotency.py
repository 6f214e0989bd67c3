"""Requests with an Idempotency-Key (draft-ietf-httpapi-idempotency-key-header-07): done once, answered again and again.

Only what was done is kept: after an error the key is free, and the same request, or a corrected one, may be sent again.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import assert_never

import msgspec
import sqlalchemy as sa
from aiohttp import web

from offhook.api.endpoints import IDEMPOTENCY_KEY, JSON, REPLAYED, Asked
from offhook.api.parts import ApiParts
from offhook.api.problems import ApiError
from offhook.api.reading import parse
from offhook.store.idempotency import (
    KEPT_S,
    AnotherRequest,
    Answered,
    Begun,
    KeyedRequest,
    Unanswered,
    claim,
    finish,
    release,
)

_log = logging.getLogger("offhook.api")

RETRY_S = 1
"""What is begun elsewhere is answered within a second."""

GIVEN_UP_S = 60.0
"""Who has not answered for so long has died: requests are answered within seconds."""

CLOSE_S = 5.0
"""For requests that are being done when the server stops; what is not answered by then stays so."""

_QUOTED = re.compile(r'"((?:[^"\\]|\\["\\])+)"')
"""RFC 8941 §3.3.3: what the draft asks for; most clients send the key as it is."""

_KEY = re.compile(r"[\x21-\x7e]{1,255}")

_sorted = msgspec.json.Encoder(order="sorted")

Do = Callable[[], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Given:
    """An answer that can be given to many."""

    status: int
    body: bytes
    headers: Mapping[str, str]
    kept: bool = False

    def response(self, *, replayed: bool) -> web.Response:
        headers = {"Content-Type": JSON, REPLAYED: "true"} if replayed or self.kept else self.headers
        return web.Response(status=self.status, body=self.body, headers=headers)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Underway:
    digest: bytes
    task: asyncio.Task[_Given]


class KeyedAnswers:
    """Those that come together wait for the first one, and get what it gets; across processes the database decides."""

    def __init__(self, parts: ApiParts) -> None:
        self._parts = parts
        self._underway: dict[tuple[str, str], _Underway] = {}

    async def answer(self, asked: Asked, do: Do) -> web.StreamResponse:
        """What ``do`` answers, or answered before. Raises ``ApiError``, and what ``do`` raises."""
        key = key_of(asked.request)
        if key is None:
            return await do()
        wanted = KeyedRequest(account_id=asked.account_id, key=key, digest=await _digest(asked.request))
        underway = self._underway.get((wanted.account_id, wanted.key))
        if underway is None:
            given = await asyncio.shield(self._begin(wanted, do))
            return given.response(replayed=False)
        if underway.digest != wanted.digest:
            raise _another_request()
        given = await asyncio.shield(underway.task)
        return given.response(replayed=True)

    async def close(self) -> None:
        """Wait for what is being done: who asked may have gone, and asks again later."""
        tasks = [one.task for one in self._underway.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_S)

    def _begin(self, wanted: KeyedRequest, do: Do) -> asyncio.Task[_Given]:
        """In a task of its own: whoever asked may hang up, and what was begun is done and kept all the same."""
        name = (wanted.account_id, wanted.key)
        task = asyncio.create_task(self._once(wanted, do), name="request with an Idempotency-Key")
        self._underway[name] = _Underway(digest=wanted.digest, task=task)

        def over(task: asyncio.Task[_Given]) -> None:
            del self._underway[name]
            if not task.cancelled():
                task.exception()  # seen, even where nobody waits any more

        task.add_done_callback(over)
        return task

    async def _once(self, wanted: KeyedRequest, do: Do) -> _Given:
        found = await self._parts.database.run(claim, wanted, self._parts.now())
        match found:
            case Begun():
                return await self._do(wanted, do)
            case Answered(status=status, body=body):
                return _Given(status=status, body=body, headers={}, kept=True)
            case Unanswered(since_s=since_s):
                raise _unanswered(since_s)
            case AnotherRequest():
                raise _another_request()
            case _:
                assert_never(found)

    async def _do(self, wanted: KeyedRequest, do: Do) -> _Given:
        try:
            response = await do()
        except Exception:
            await self._note(release, wanted)
            raise
        if not isinstance(response, web.Response) or not isinstance(response.body, bytes):
            raise TypeError("a stream cannot be answered again")
        given = _Given(status=response.status, body=response.body, headers=response.headers)
        if given.status < 400:
            await self._note(finish, wanted, Answered(status=given.status, body=given.body))
        else:
            await self._note(release, wanted)
        return given

    async def _note(self, work: Callable[..., None], wanted: KeyedRequest, *more: Answered) -> None:
        """The answer stands, whether it can be kept or not: then whoever asks again is told 409."""

        def noted(connection: sa.Connection) -> None:
            work(connection, wanted, *more)

        try:
            await self._parts.database.run(noted)
        except Exception as error:
            _log.warning("what came of a request with an Idempotency-Key was not kept: %s", error)


def key_of(request: web.Request) -> str | None:
    """The key that came with a request; None where none did. Raises ``ApiError``."""
    given = request.headers.getall(IDEMPOTENCY_KEY, [])
    if not given:
        return None
    text = given[0].strip()
    quoted = _QUOTED.fullmatch(text)
    key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted is not None else text
    if len(given) > 1 or _KEY.fullmatch(key) is None:
        problem = f"{IDEMPOTENCY_KEY}: must be one key of 1 to 255 visible ASCII characters"
        raise ApiError("BAD_REQUEST", problem, field=IDEMPOTENCY_KEY, hint="Send a UUID")
    return key


async def _digest(request: web.Request) -> bytes:
    """Of what is asked for, whatever way its JSON is written."""
    data = await request.read()
    body = _sorted.encode(parse(data)) if data else b""
    asked = hashlib.sha256(f"{request.method} {request.path}\n".encode())
    asked.update(body)
    return asked.digest()


def _another_request() -> ApiError:
    problem = f"{IDEMPOTENCY_KEY}: another request came with this key"
    return ApiError("INVALID", problem, field=IDEMPOTENCY_KEY, hint="Send each new request with a new key")


def _unanswered(since_s: float) -> ApiError:
    """409 as long as the key lives: whether it was done before its process died is not known here."""
    if since_s < GIVEN_UP_S:
        retry_s, hint = RETRY_S, "Ask again with the same key"
    else:
        retry_s = round(max(RETRY_S, KEPT_S - since_s))
        hint = "Its server stopped before it answered: look whether it was done (GET /api/calls); if not, use a new key"
    return ApiError(
        "CONFLICT",
        "The first request with this key has no answer yet",
        field=IDEMPOTENCY_KEY,
        hint=hint,
        headers={"Retry-After": str(retry_s)},
    )
