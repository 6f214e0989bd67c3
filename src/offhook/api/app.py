"""The table of endpoints, served by aiohttp: find, let in, read, do, answer; and whatever fails, in the one shape."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import msgspec
from aiohttp import web
from aiohttp.typedefs import Middleware

from offhook.api.auth import Door, Gate
from offhook.api.endpoints import JSON, Answer, Asked, Endpoint
from offhook.api.idempotency import KeyedAnswers
from offhook.api.parts import ApiParts
from offhook.api.problems import (
    RETRY_UNAVAILABLE_S,
    ApiError,
    Code,
    invalid,
    of_placing,
    of_record,
)
from offhook.api.reading import BODY_BYTES, read_body, read_query
from offhook.model.errors import CannotPlaceError, ConfigError, RecordError
from offhook.store.keys import USED_EVERY_S, KeyUse, note_used

_log = logging.getLogger("offhook.api")

_Serve = Callable[[web.Request], Awaitable[web.StreamResponse]]

ALWAYS: Mapping[str, str] = {
    "Server": "offhook",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
}
"""What is told here is of one account and of this moment; and no browser shall guess what it is."""


def build_app(parts: ApiParts, endpoints: Sequence[Endpoint]) -> web.Application:
    """An application that serves these endpoints, and ends its streams when it shuts down."""
    app = web.Application(client_max_size=BODY_BYTES, middlewares=[_answering(parts)])
    gate = Gate(
        Door(
            directory=parts.directory,
            now=parts.now,
            clock=parts.clock,
            hosts=parts.hosts,
            allow_anonymous=parts.allow_anonymous,
            key_rate=parts.limits.key_rate,
            failure_rate=parts.limits.failure_rate,
        )
    )
    keyed = KeyedAnswers(parts)
    for endpoint in endpoints:
        serve = _serving(endpoint, parts, gate, keyed)
        app.router.add_route(endpoint.method, endpoint.path, serve)
        if endpoint.method == "GET" and not endpoint.stream:
            app.router.add_route("HEAD", endpoint.path, serve)  # RFC 9110 §9.1

    async def end_streams(_: web.Application) -> None:
        parts.feed.close()

    async def note_uses(_: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(_note_each_minute(parts, gate.used), name="last use of API keys")
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await _note_uses(parts, gate.used)

    async def finish_requests(_: web.Application) -> None:
        await keyed.close()

    app.on_shutdown.append(end_streams)
    app.cleanup_ctx.append(note_uses)
    app.on_cleanup.append(finish_requests)
    return app


async def _note_each_minute(parts: ApiParts, used: KeyUse) -> None:
    while True:
        await asyncio.sleep(USED_EVERY_S)
        await _note_uses(parts, used)


async def _note_uses(parts: ApiParts, used: KeyUse) -> None:
    """Which keys were used. One that cannot be written is noted at its next use."""
    taken = used.take()
    try:
        if taken:
            await parts.database.run(note_used, taken)
    except Exception as error:
        _log.warning("the last use of %d API keys was not noted: %s", len(taken), error)


def _serving(endpoint: Endpoint, parts: ApiParts, gate: Gate, keyed: KeyedAnswers) -> _Serve:
    async def serve(request: web.Request) -> web.StreamResponse:
        client = gate.admit(endpoint, request)
        with _invalid_as(endpoint.invalid):
            asked = Asked(
                parts=parts,
                client=client,
                request=request,
                path=_path(request),
                query=read_query(endpoint.query, request.query),
                body=None if endpoint.body is None else await read_body(endpoint.body, request),
            )

        async def do() -> web.StreamResponse:
            with _invalid_as(endpoint.invalid):
                answer = await endpoint.handler(asked)
            return answer if isinstance(answer, web.StreamResponse) else _json(answer, endpoint.status)

        return await (keyed.answer(asked, do) if endpoint.idempotent else do())

    return serve


@contextmanager
def _invalid_as(code: Code) -> Iterator[None]:
    """What says that a body or a value cannot be used says so under this code."""
    try:
        yield
    except ConfigError as error:
        raise invalid(error).as_code(code) from error
    except ApiError as error:
        if code != "INVALID" and error.code in ("INVALID", "UNSUPPORTED_MEDIA_TYPE"):
            raise error.as_code(code) from error
        raise


def _path(request: web.Request) -> Mapping[str, str]:
    if any("\0" in value for value in request.match_info.values()):
        raise ApiError("NOT_FOUND", "Nothing has U+0000 in its id")
    return request.match_info


def _json(answer: Answer, status: int) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(answer.body),
        status=answer.status or status,
        headers=answer.headers,
        content_type=JSON,
    )


def _problem(error: ApiError) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(error.answer), status=error.status, headers=error.headers, content_type=JSON
    )


def _answering(parts: ApiParts) -> Middleware:
    @web.middleware
    async def answer(request: web.Request, handler: _Serve) -> web.StreamResponse:
        began = parts.clock()
        try:
            response = await handler(request)
        except Exception as error:
            response = _problem(_as_api_error(error, request, parts))
        if not response.prepared:
            for name, value in ALWAYS.items():
                response.headers.setdefault(name, value)
        parts.on_answer(request.method, _route(request), response.status, parts.clock() - began)
        return response

    return answer


def _as_api_error(error: Exception, request: web.Request, parts: ApiParts) -> ApiError:
    """What is known to go wrong in its own words; anything else as an id that the log explains."""
    match error:
        case ApiError():
            return error
        case ConfigError():
            return invalid(error)
        case RecordError():
            return of_record(error)
        case CannotPlaceError():
            return of_placing(error)
        case web.HTTPException():
            return _of_the_router(error, request)
    if parts.database.is_away(error):
        return ApiError(
            "UNAVAILABLE",
            "The database cannot be reached now",
            hint="Try again in some seconds",
            headers={"Retry-After": str(RETRY_UNAVAILABLE_S)},
        )
    error_id = secrets.token_hex(6)
    _log.error("%s %s failed; error %s", request.method, _route(request), error_id, exc_info=error)
    return ApiError("INTERNAL_ERROR", "offhook failed at this", hint=f"Its log tells more under {error_id}")


def _of_the_router(error: web.HTTPException, request: web.Request) -> ApiError:
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return ApiError(
            "METHOD_NOT_ALLOWED",
            f"{request.path} does not take {request.method}",
            hint=f"It takes {allowed}",
            headers={"Allow": allowed},
        )
    if isinstance(error, web.HTTPNotFound):
        return ApiError(
            "NOT_FOUND", f"There is nothing at {request.path}", hint="/api/openapi.json lists what there is"
        )
    code: Code = "BAD_REQUEST" if error.status < 500 else "INTERNAL_ERROR"
    return ApiError(code, error.reason)


def _route(request: web.Request) -> str:
    """The path as the table has it: no ids, so that metrics stay few and logs tell nothing of anybody."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "(unknown)"
