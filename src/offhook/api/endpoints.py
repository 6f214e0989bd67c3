"""What can be asked, as data: routing, keys and scopes, reading and OpenAPI all come from these values."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from aiohttp import web

from offhook.api.problems import Code

if TYPE_CHECKING:
    from offhook.api.parts import ApiParts

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
EVENT_STREAM = "text/event-stream"

IDEMPOTENCY_KEY = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"

OPEN = ""
"""The scope of what everybody may ask."""

_NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """One query parameter; ``type`` is what msgspec makes of its text, ``default`` what it is when left out."""

    name: str
    type: Any
    summary: str
    default: Any = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Body:
    """What is sent: JSON of ``type``. ``raw``: the handler gets the object as it is, and the store checks it.

    ``patch``: an RFC 7396 merge patch of the type. ``optional``: fields that the type requires, and a request need not
    have: they are then in the URL, or made. ``required`` False: the request may have no body at all.
    """

    type: Any
    example: Any
    raw: bool = False
    patch: bool = False
    optional: tuple[str, ...] = ()
    required: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """A list as it is answered: ``{key: […], "total", "limit", "offset"}``."""

    key: str
    of: Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """One form of an answer: JSON of ``type`` (or a ``Page``), or another media type, described by ``summary``."""

    type: Any = None
    example: Any = None
    media: str = JSON
    summary: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Client:
    """Who asks. ``key_id`` "": nobody has made a key yet, and anybody on this machine may do anything."""

    account_id: str
    scopes: tuple[str, ...]
    key_id: str = ""

    def may(self, scope: str) -> bool:
        """``*`` is everything, ``calls:*`` everything of calls."""
        return any(one in self.scopes for one in (scope, f"{scope.partition(':')[0]}:*", "*"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """A request that was let in and read. ``path`` and ``query`` are checked values, ``body`` is what its type says."""

    parts: ApiParts
    client: Client
    request: web.Request
    path: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    query: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)
    body: Any = None

    @property
    def account_id(self) -> str:
        return self.client.account_id


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """``body`` is what msgspec can encode; ``headers`` go with it. ``status`` None: the endpoint's."""

    body: Any
    headers: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    status: int | None = None


Handler = Callable[[Asked], Awaitable[Answer | web.StreamResponse]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """One method of one path.

    ``scope``: what a key must have; ``OPEN`` for none. ``free_on_loopback``: no key is needed from this machine.
    ``headers``: request headers that matter, with what they do; ``answer_headers`` the same of the answer.
    ``errors``: codes beyond those that follow from the rest. ``stream``: the answer may have no end. ``invalid``: the
    code for a value that cannot be used; SIP4AI's endpoints know 400 alone. ``idempotent``: it may be sent with an
    Idempotency-Key, and is then done once (``api.idempotency``).
    """

    method: Method
    path: str
    operation: str
    tag: str
    summary: str
    handler: Handler
    scope: str
    answers: tuple[Form, ...]
    status: int = 200
    other_statuses: Mapping[int, str] = field(default_factory=lambda: _STATUSES)
    body: Body | None = None
    query: tuple[Query, ...] = ()
    headers: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    answer_headers: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    errors: tuple[Code, ...] = ()
    stream: bool = False
    invalid: Literal["INVALID", "BAD_REQUEST"] = "INVALID"
    free_on_loopback: bool = False
    idempotent: bool = False

    @property
    def path_parameters(self) -> tuple[str, ...]:
        return tuple(part[1:-1] for part in self.path.split("/") if part.startswith("{"))

    def problems(self) -> tuple[Code, ...]:
        """Every code it may answer with: what follows from its shape, and ``errors``."""
        codes: list[Code] = ["TOO_MANY_REQUESTS", "INTERNAL_ERROR", "UNAVAILABLE"]
        if self.scope:
            codes += ["UNAUTHORIZED", "FORBIDDEN"]
        if self.query or self.body or self.headers:
            codes.append("BAD_REQUEST")
        if self.path_parameters:
            codes.append("NOT_FOUND")
        if self.idempotent:
            codes += ["BAD_REQUEST", "CONFLICT", "INVALID"]
        if self.body:
            other_media: Code = "UNSUPPORTED_MEDIA_TYPE" if self.invalid == "INVALID" else self.invalid
            codes += ["REQUEST_TIMEOUT", "TOO_LARGE", other_media, self.invalid]
        return tuple(dict.fromkeys((*codes, *self.errors)))


_STATUSES: Mapping[int, str] = {}
