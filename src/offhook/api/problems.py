"""Every error of the API, in one shape: ``{"error", "code", "field", "hint"}``; what raised it, and what it becomes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import ceil
from typing import Any, Literal, NamedTuple

import msgspec

from offhook.model.errors import (
    CannotPlaceError,
    ConfigError,
    OffhookError,
    PlacingFault,
    ReadOnlyRecordError,
    RecordConflictError,
    RecordError,
    RecordNotFoundError,
    RevisionMismatchError,
)
from offhook.model.written_values import choices, how_written

Code = Literal[
    "BAD_REQUEST",
    "UNAUTHORIZED",
    "FORBIDDEN",
    "NOT_FOUND",
    "METHOD_NOT_ALLOWED",
    "REQUEST_TIMEOUT",
    "CONFLICT",
    "READ_ONLY",
    "REVISION_MISMATCH",
    "TOO_LARGE",
    "UNSUPPORTED_MEDIA_TYPE",
    "RANGE_NOT_SATISFIABLE",
    "INVALID",
    "TOO_MANY_REQUESTS",
    "INTERNAL_ERROR",
    "UNAVAILABLE",
]


class Meaning(NamedTuple):
    status: int
    text: str


MEANINGS: Mapping[Code, Meaning] = {
    "BAD_REQUEST": Meaning(
        400, "The request cannot be read or, where SIP4AI has the endpoint, used: `field` says which value"
    ),
    "UNAUTHORIZED": Meaning(401, "No API key, or one that is unknown, expired or revoked"),
    "FORBIDDEN": Meaning(403, "The key lacks the scope that `hint` names, or nobody may call there"),
    "NOT_FOUND": Meaning(404, "There is none, or it is another account's"),
    "METHOD_NOT_ALLOWED": Meaning(405, "The path takes other methods, which `Allow` lists"),
    "REQUEST_TIMEOUT": Meaning(408, "The body did not come in time"),
    "CONFLICT": Meaning(409, "There is one already, or what is there does not allow it"),
    "READ_ONLY": Meaning(409, "It is defined in the configuration file that `hint` names"),
    "REVISION_MISMATCH": Meaning(412, "It was changed since: `If-Match` names another revision"),
    "TOO_LARGE": Meaning(413, "The body is larger than is taken"),
    "UNSUPPORTED_MEDIA_TYPE": Meaning(415, "The body is no JSON by its Content-Type"),
    "RANGE_NOT_SATISFIABLE": Meaning(416, "The file ends before the range that was asked for"),
    "INVALID": Meaning(422, "A value cannot be used: `field` says which, `hint` what to write instead"),
    "TOO_MANY_REQUESTS": Meaning(429, "Too many at once; `Retry-After` says in how many seconds to come again"),
    "INTERNAL_ERROR": Meaning(500, "A fault of offhook's; `hint` has the id under which the log tells more"),
    "UNAVAILABLE": Meaning(503, "What is needed cannot be reached now; `Retry-After` says when to come again"),
}

RETRY_UNAVAILABLE_S = 2
"""The database is tried again about as often."""

RETRY_PLACING_S = 5
"""Where nobody knows when a call of many ends."""


class ErrorAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What went wrong, as a sentence; ``field`` and ``hint`` where it is known where, and what to do."""

    error: str
    code: Code
    field: str | None = None
    hint: str | None = None


class ApiError(OffhookError):
    """A request that is not done. ``code`` gives the status; ``headers`` go with the answer."""

    def __init__(
        self,
        code: Code,
        error: str,
        *,
        field: str = "",
        hint: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(error)
        self.code: Code = code
        self.status = MEANINGS[code].status
        self.answer = ErrorAnswer(error=error, code=code, field=field or None, hint=hint or None)
        self.headers = dict(headers or {})

    def as_code(self, code: Code) -> ApiError:
        """The same sentence under another code."""
        answer = self.answer
        return ApiError(code, answer.error, field=answer.field or "", hint=answer.hint or "", headers=self.headers)


def not_found(kind: str, name: str) -> ApiError:
    """The same for what is another account's."""
    return ApiError("NOT_FOUND", f"There is no {kind} {name!r}")


def too_many(error: str, retry_s: float, hint: str = "") -> ApiError:
    """``retry_s``: after which another one is taken."""
    return ApiError("TOO_MANY_REQUESTS", error, hint=hint, headers={"Retry-After": str(max(1, round(retry_s)))})


def invalid(error: ConfigError) -> ApiError:
    """A form that cannot be used: its key, problem and fix."""
    return ApiError(
        "INVALID", f"{error.key}: {error.problem}" if error.key else error.problem, field=error.key, hint=error.fix
    )


_PLACING: Mapping[PlacingFault, Code] = {
    "invalid": "BAD_REQUEST",
    "forbidden": "FORBIDDEN",
    "too_many": "TOO_MANY_REQUESTS",
    "unavailable": "UNAVAILABLE",
}


def of_placing(error: CannotPlaceError) -> ApiError:
    """A call that is not placed, and when to try again where that may help."""
    code = _PLACING[error.kind]
    later = code in ("TOO_MANY_REQUESTS", "UNAVAILABLE")
    return ApiError(
        code,
        f"{error.field}: {error.problem}" if error.field else error.problem,
        field=error.field,
        hint=error.fix,
        headers={"Retry-After": str(ceil(error.wait_s or RETRY_PLACING_S))} if later else {},
    )


def of_record(error: RecordError) -> ApiError:
    """What the store says of a record that cannot be read or written as asked."""
    match error:
        case RecordNotFoundError():
            code: Code = "NOT_FOUND"
        case ReadOnlyRecordError():
            code = "READ_ONLY"
        case RevisionMismatchError():
            code = "REVISION_MISMATCH"
        case RecordConflictError():
            code = "CONFLICT"
        case _:
            code = "INVALID"
    return ApiError(code, error.problem, field=error.field, hint=error.fix)


BLANK = "Expected `str` matching regex '\\\\S'"
"""What msgspec says of a text that must have a character that is seen."""


def wrong_value(error: msgspec.ValidationError, kind: Any = None) -> ApiError:
    """A value of the wrong type or out of its bounds, with the path that msgspec names (``$.members[0].agent``).

    ``kind``: what the whole body should have been.
    """
    message = str(error)
    where = re.search(r" - at `(?:key in )?\$\.?(.*)`$", message)
    field = where[1] if where else ""
    problem = re.sub(r" - at `.*`$", "", message).replace(BLANK, "is blank")
    named = re.search(r"(unknown|required) field `(.*?)`", problem)
    if named is None:
        words = choices(kind, field) if "enum value" in problem else ""
        hint = f"Use one of: {words}" if words else _write(how_written(message))
        return ApiError("INVALID", f"{field}: {_lower(problem)}" if field else problem, field=field, hint=hint)
    field = f"{field}.{named[2]}" if field else named[2]
    if named[1] == "unknown":
        return ApiError("INVALID", f"{field}: there is no such field", field=field, hint="Remove it")
    return ApiError("INVALID", f"{field}: is missing", field=field, hint="Add it")


def _write(how: str) -> str:
    return f"Write {how}" if how else ""


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
