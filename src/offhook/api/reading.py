"""What a client sent, read and checked: JSON bodies, query parameters, conditions. Every error says where it is."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, get_args

import msgspec
from aiohttp import web
from multidict import MultiMapping

from offhook.api.endpoints import JSON, MERGE_PATCH, Body, Query
from offhook.api.problems import ApiError, wrong_value
from offhook.model.written_values import choices

BODY_BYTES = 64 * 1024
"""An agent's instructions are a few thousand words at most; the event loop parses this in less than a millisecond."""

BODY_DEPTH = 32
"""Of lists and objects in each other. A JSON Schema of a tool's arguments is 10 deep; encoders recurse."""

BODY_TIMEOUT_S = 10.0
"""For 64 KB: who is slower holds a connection on purpose."""


async def read_body(body: Body, request: web.Request) -> Any:
    """The body as its type, or, where it is ``raw``, the object as it is. None where it may be left out and is.

    Raises ``ApiError``.
    """
    if not body.required and not request.can_read_body:
        return None
    _check_media(body, request)
    document = parse(await _read(request))
    if body.raw:
        if not isinstance(document, dict):
            raise ApiError("INVALID", "The body must be a JSON object", hint="Write {…}")
        return document
    return convert(document, body.type)


async def _read(request: web.Request) -> bytes:
    if (request.content_length or 0) > BODY_BYTES:
        raise _too_large()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            return await request.read()
    except TimeoutError:
        raise ApiError("REQUEST_TIMEOUT", f"The body did not come within {BODY_TIMEOUT_S:.0f} s") from None
    except web.HTTPRequestEntityTooLarge:
        raise _too_large() from None


def _too_large() -> ApiError:
    return ApiError("TOO_LARGE", f"The body is larger than {BODY_BYTES // 1024} KB")


def _check_media(body: Body, request: web.Request) -> None:
    taken = (JSON, MERGE_PATCH) if body.patch else (JSON,)
    charset = (request.charset or "utf-8").lower()
    if request.content_type not in taken or charset not in ("utf-8", "utf8", "us-ascii"):
        said = request.headers.get("Content-Type") or "none"
        raise ApiError(
            "UNSUPPORTED_MEDIA_TYPE",
            f"The body must be JSON in UTF-8; its Content-Type is {said}",
            hint=f"Send Content-Type: {taken[-1]}",
        )


def parse(data: bytes) -> Any:
    """JSON as plain values. Raises ``ApiError`` naming line and column of what is no JSON."""
    try:
        document = msgspec.json.decode(data)
        deepest = data.count(b"[") + data.count(b"{")
        if deepest > BODY_DEPTH or b"\\u0000" in data:
            _check_values(document, BODY_DEPTH)
    except UnicodeDecodeError:
        raise ApiError("BAD_REQUEST", "The body is no UTF-8") from None
    except RecursionError:
        raise _too_deep() from None
    except msgspec.ValidationError as error:  # a number no program can hold
        raise ApiError("BAD_REQUEST", f"The body cannot be read: {error}") from None
    except msgspec.DecodeError as error:
        raise _no_json(data, str(error)) from None
    return document


def _check_values(value: Any, depth: int) -> None:
    """NUL is refused: PostgreSQL stores text without it, and C programs end there."""
    if isinstance(value, str) and "\0" in value:
        raise ApiError("INVALID", "A text has the character U+0000", hint="Leave it out")
    if isinstance(value, list | dict):
        if depth == 0:
            raise _too_deep()
        for each in value:
            _check_values(each, depth - 1)
    if isinstance(value, dict):
        for each in value.values():
            _check_values(each, depth - 1)


def _too_deep() -> ApiError:
    return ApiError("INVALID", f"The body has more than {BODY_DEPTH} lists and objects in each other")


def _no_json(data: bytes, message: str) -> ApiError:
    """msgspec counts bytes; people count lines."""
    found = re.search(r" \(byte (\d+)\)$", message)
    at = min(int(found[1]), len(data)) if found else len(data)
    before = data[:at]
    line, column = before.count(b"\n") + 1, at - before.rfind(b"\n")
    problem = "it ends too early" if found is None else message[: found.start()].removeprefix("JSON is malformed: ")
    return ApiError(
        "BAD_REQUEST",
        f"The body is no JSON: {problem}, at line {line}, column {column}",
        hint="Check commas, quotes and braces there; comments are not JSON",
    )


def convert(document: Any, kind: Any) -> Any:
    """Plain values as a type. Raises ``ApiError`` naming the field."""
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        raise wrong_value(error, kind) from None


def read_query(known: Sequence[Query], given: MultiMapping[str]) -> dict[str, Any]:
    """Every parameter that is known, with its value or default. Raises ``ApiError`` naming the parameter."""
    names = [query.name for query in known]
    for name in given:
        if name not in names:
            choice = ", ".join(names) or "this takes none"
            raise ApiError("BAD_REQUEST", f"There is no parameter {name!r}", field=name, hint=f"Known: {choice}")
    return {query.name: _parameter(query, given.getall(query.name, [])) for query in known}


def _parameter(query: Query, texts: Sequence[str]) -> Any:
    if not texts:
        return query.default
    if len(texts) > 1:
        raise ApiError("BAD_REQUEST", f"{query.name}: is given twice", field=query.name)
    text = texts[0]
    if "\0" in text:
        raise ApiError("BAD_REQUEST", f"{query.name}: has the character U+0000", field=query.name)
    is_time = _is_time(query.type)
    if is_time:
        text = text.replace(" ", "+")  # of +00:00, which nobody writes as %2B
    try:
        return msgspec.convert(text, query.type, strict=is_time)  # else "0.5" would be a time
    except msgspec.ValidationError as error:
        words = choices(query.type, "")
        hint = f"Use one of: {words}" if words else query.summary
        raise ApiError("BAD_REQUEST", f"{query.name}: {error}", field=query.name, hint=hint) from None


def _is_time(kind: Any) -> bool:
    return kind is datetime or (bool(get_args(kind)) and any(_is_time(one) for one in get_args(kind)))


def revision_wanted(request: web.Request) -> frozenset[int] | None:
    """The revisions that ``If-Match`` names; None where any will do. A tag that is no revision matches none."""
    given = request.headers.getall("If-Match", [])
    if not given:
        return None
    tags = [tag.strip().removeprefix("W/").strip('"') for line in given for tag in line.split(",")]
    if "*" in tags:
        return None
    return frozenset(int(tag) for tag in tags if re.fullmatch(r"[0-9]{1,9}", tag))


def etag(revision: int) -> str:
    """RFC 9110 §8.8.3."""
    return f'"{revision}"'
