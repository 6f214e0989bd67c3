"""Agents, trunks, numbers, tools, squads and webhooks: a family of endpoints for each, all alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, reduce
from operator import or_
from typing import Any, TypeVar, get_args
from urllib.parse import quote

import msgspec

from offhook.api.endpoints import Answer, Asked, Body, Endpoint, Form, Handler, Method, Page, Query
from offhook.api.native.fields import FREE_TEXT, PAGING, Deleted, Time
from offhook.api.problems import ApiError, wrong_value
from offhook.api.reading import convert, etag, revision_wanted
from offhook.delivery.event_documents import utc
from offhook.model.records import Source
from offhook.store import form_secrets
from offhook.store.form_parts import FormId
from offhook.store.form_secrets import FORMS, Kind, is_secret
from offhook.store.resources import Resource, ResourceQuery, Resources

_T = TypeVar("_T")

IF_MATCH = {"If-Match": "Only where it is at this revision (its ETag); else 412"}
ETAG = {"ETag": "Its revision"}

_ADDED: tuple[tuple[str, Any], ...] = (
    ("id", str),
    ("source", Source),
    ("revision", int),
    ("secrets", tuple[str, ...]),
    ("created_at", Time),
    ("updated_at", Time),
)
"""What an answer has beyond the form: ``secrets`` names those that are set, and never tells them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """One kind of records. ``example``: a form as it is sent, without its id."""

    kind: Kind
    plural: str
    example: Mapping[str, Any]
    example_id: str
    answer: Any
    made: Mapping[str, Any] = field(default_factory=dict)
    """What the example's answer has beyond, when it is new."""

    @property
    def path(self) -> str:
        return f"/api/{self.plural}"

    def answered(self) -> dict[str, Any]:
        """The example as it is answered."""
        whole = {"id": self.example_id, **self.example} if self.kind != "number" else self.example
        shown, found = form_secrets.split(self.kind, form_secrets.form_of(self.kind, whole))
        times = {"created_at": "2026-11-21T11:52:00Z", "updated_at": "2026-11-21T11:52:00Z"}
        return {**shown, "id": self.example_id, "source": "api", "revision": 1, "secrets": sorted(found), **times}


def answer_type(kind: Kind, *, more: tuple[tuple[str, Any, Any], ...] = ()) -> Any:
    """What a record is answered as: its form without secrets, and ``_ADDED``. A union where the form is one."""
    suffix = "Trunk" if kind == "trunk" else ""
    return reduce(or_, (_answer_struct(form, suffix, more) for form in _forms(kind)))


def _forms(kind: Kind) -> tuple[type[msgspec.Struct], ...]:
    """A trunk's form is one of three."""
    return get_args(FORMS[kind]) or (FORMS[kind],)


def _answer_struct(form: type[msgspec.Struct], suffix: str, more: tuple[tuple[str, Any, Any], ...]) -> Any:
    shown = [(one.name, one.type) for one in msgspec.structs.fields(form) if not is_secret(one.type)]
    added = [field for field in _ADDED if field[0] not in dict(shown)]
    config = form.__struct_config__
    return msgspec.defstruct(
        form.__name__.removesuffix("Form") + suffix,
        [*shown, *added, *more],
        namespace={"__doc__": form.__doc__},
        module=__name__,
        tag=config.tag,
        tag_field=config.tag_field,
        kw_only=True,
        forbid_unknown_fields=True,
    )


def document(found: Resource) -> dict[str, Any]:
    """A record as it is answered."""
    return {
        **found.form,
        "id": found.id,
        "source": found.source,
        "revision": found.revision,
        "secrets": found.secret_paths,
        "created_at": utc(found.created_at),
        "updated_at": utc(found.updated_at),
    }


def stored(asked: Asked) -> Resources:
    parts = asked.parts
    return Resources(vault=parts.vault, config_file=parts.config_file, rights=parts.rights, now=parts.now)


async def changed(asked: Asked, work: Callable[..., _T], *arguments: Any, **named: Any) -> _T:
    """Write, and return once the copy in memory has it. Raises ``ApiError`` for a value that its type forbids."""
    try:
        done = await asked.parts.database.run(work, asked.account_id, *arguments, **named)
    except msgspec.ValidationError as error:
        raise wrong_value(error) from None
    await asked.parts.catch_up()
    return done


def endpoints(family: Family) -> tuple[Endpoint, ...]:
    """List, create, get, replace, patch, delete."""
    return (_list(family), _create(family), _get(family), _replace(family), _patch(family), _delete(family))


def _list(family: Family) -> Endpoint:
    async def list_records(asked: Asked) -> Answer:
        query = asked.query
        wanted = ResourceQuery(
            text=query["q"], source=query["source"] or "", limit=query["limit"], offset=query["offset"]
        )
        page = await asked.parts.database.look(stored(asked).page, asked.account_id, family.kind, wanted)
        records = [document(found) for found in page.records]
        shown = {"total": page.total, "limit": wanted.limit, "offset": wanted.offset}
        return Answer(body={family.plural: records, **shown})

    return Endpoint(
        method="GET",
        path=family.path,
        operation=f"list{family.plural.title()}",
        tag=family.plural,
        summary=f"The {family.plural} of the account, by id",
        handler=list_records,
        scope=f"{family.plural}:read",
        query=(
            *PAGING,
            Query(name="source", type=Source, summary="config or api"),
            Query(name="q", type=FREE_TEXT, default="", summary="Text in the id or the name, at most 200 characters"),
        ),
        answers=(
            Form(
                type=Page(key=family.plural, of=family.answer),
                example={family.plural: [family.answered()], "total": 1, "limit": 20, "offset": 0},
            ),
        ),
    )


def _create(family: Family) -> Endpoint:
    async def create(asked: Asked) -> Answer:
        values = _values(asked)
        found = await changed(asked, stored(asked).create, family.kind, values)
        return _created(family, found)

    return Endpoint(
        method="POST",
        path=family.path,
        operation=f"create{family.kind.title()}",
        tag=family.plural,
        summary=f"Make {_a(family)}" + ("" if family.kind == "number" else "; without an id one is made"),
        handler=create,
        scope=f"{family.plural}:write",
        status=201,
        body=Body(type=FORMS[family.kind], example=family.example, raw=True, optional=("id",)),
        answers=(Form(type=family.answer, example={**family.answered(), **family.made}),),
        answer_headers={"Location": "Where it is", **ETAG},
        errors=("CONFLICT",),
    )


def _created(family: Family, found: Resource) -> Answer:
    made = {"secret": found.made_secret} if found.made_secret else {}
    where = {"Location": f"{family.path}/{quote(found.id, safe='')}"}
    return Answer(body={**document(found), **made}, headers={**where, "ETag": etag(found.revision)})


def _get(family: Family) -> Endpoint:
    async def get(asked: Asked) -> Answer:
        look = asked.parts.database.look
        return _one(await look(stored(asked).get, asked.account_id, family.kind, asked.path["id"]))

    return _of_one(family, "GET", "get", f"{_a(family).capitalize()}, without its secrets", get, answer_headers=ETAG)


def _replace(family: Family) -> Endpoint:
    async def replace(asked: Asked) -> Answer:
        wanted = revision_wanted(asked.request)
        values = _values(asked)
        return _one(
            await changed(asked, stored(asked).replace, family.kind, asked.path["id"], values, revisions=wanted)
        )

    return _of_one(
        family,
        "PUT",
        "replace",
        f"Write {_a(family)} anew; secrets that are left out stay as they are",
        replace,
        body=Body(type=FORMS[family.kind], example=family.example, raw=True, optional=("id",)),
        answer_headers=ETAG,
    )


def _patch(family: Family) -> Endpoint:
    async def patch(asked: Asked) -> Answer:
        wanted = revision_wanted(asked.request)
        _check_names(family.kind, asked.body)
        return _one(
            await changed(asked, stored(asked).patch, family.kind, asked.path["id"], asked.body, revisions=wanted)
        )

    field, value = next((name, value) for name, value in family.example.items() if name in _PATCHED)
    return _of_one(
        family,
        "PATCH",
        "update",
        f"Change what the merge patch names of {_a(family)} (RFC 7396)",
        patch,
        body=Body(type=FORMS[family.kind], example={field: value}, raw=True, patch=True),
        answer_headers=ETAG,
    )


_PATCHED = ("greeting", "agent", "description", "members", "codecs")


def _delete(family: Family) -> Endpoint:
    async def delete(asked: Asked) -> Answer:
        name = asked.path["id"]
        await changed(asked, stored(asked).delete, family.kind, name, revisions=revision_wanted(asked.request))
        return Answer(body=Deleted(id=name, deleted=True))

    gone = Form(type=Deleted, example={"id": family.example_id, "deleted": True})
    return _of_one(family, "DELETE", "delete", f"Delete {_a(family)} that nobody uses", delete, answers=(gone,))


def _of_one(family: Family, method: Method, verb: str, summary: str, handler: Handler, **more: Any) -> Endpoint:
    """An endpoint of one record."""
    writes = method != "GET"
    given: dict[str, Any] = {
        "method": method,
        "path": f"{family.path}/{{id}}",
        "operation": f"{verb}{family.kind.title()}",
        "tag": family.plural,
        "summary": summary,
        "handler": handler,
        "scope": f"{family.plural}:{'write' if writes else 'read'}",
        "answers": (Form(type=family.answer, example=family.answered()),),
    }
    if writes:
        given |= {"headers": IF_MATCH, "errors": ("CONFLICT", "READ_ONLY", "REVISION_MISMATCH")}
    return Endpoint(**{**given, **more})


def _one(found: Resource) -> Answer:
    return Answer(body=document(found), headers={"ETag": etag(found.revision)})


def _values(asked: Asked) -> Mapping[str, Any]:
    """The form as it was sent. An id that is there must be one: "" would get another made."""
    values: Mapping[str, Any] = asked.body
    if "id" in values:
        convert({"id": values["id"]}, _WithId)
    return values


def _check_names(kind: Kind, patch: Mapping[str, Any]) -> None:
    """A misspelt field set to null would change nothing, and nobody would know. Raises ``ApiError``."""
    for name in patch:
        if name not in _names(kind):
            raise ApiError("INVALID", f"{name}: there is no such field", field=name, hint="Remove it")


@cache
def _names(kind: Kind) -> frozenset[str | None]:
    """Once: it takes a millisecond of the event loop."""
    fields = (field.name for form in _forms(kind) for field in msgspec.structs.fields(form))
    return frozenset((*fields, *(form.__struct_config__.tag_field for form in _forms(kind))))


class _WithId(msgspec.Struct):
    id: FormId


def _a(family: Family) -> str:
    return f"an {family.kind}" if family.kind == "agent" else f"a {family.kind}"


AGENTS = Family(
    kind="agent",
    plural="agents",
    example_id="reception",
    example={
        "name": "Reception",
        "greeting": "Good morning, how can I help?",
        "instructions": "You answer the phone of a bakery.",
        "destinations": [{"name": "owner", "target": "tel:+493012345", "mode": "warm"}],
    },
    answer=answer_type("agent"),
)
TRUNKS = Family(
    kind="trunk",
    plural="trunks",
    example_id="office",
    example={
        "kind": "register",
        "server": "sip.example.com",
        "username": "200",
        "password": "correct horse",
        "codecs": ["G722", "PCMA"],
    },
    answer=answer_type("trunk"),
)
NUMBERS = Family(
    kind="number",
    plural="numbers",
    example_id="+493012345@office",
    example={"user": "+493012345", "trunk": "office", "agent": "reception"},
    answer=answer_type("number"),
)
TOOLS = Family(
    kind="tool",
    plural="tools",
    example_id="opening_hours",
    example={
        "name": "opening_hours",
        "url": "https://bakery.example.com/hours",
        "description": "When the bakery is open on a day",
        "parameters": {"type": "object", "properties": {"day": {"type": "string"}}, "required": ["day"]},
        "headers": {"Authorization": "Bearer 1234"},
    },
    answer=answer_type("tool"),
)
SQUADS = Family(
    kind="squad",
    plural="squads",
    example_id="bakery",
    example={"name": "Bakery", "members": [{"agent": "reception", "hands_over_to": ["orders"]}, {"agent": "orders"}]},
    answer=answer_type("squad"),
)
WEBHOOKS = Family(
    kind="webhook",
    plural="webhooks",
    example_id="crm",
    example={
        "url": "https://crm.example.com/offhook",
        "events": ["call.ended", "turn.spoken"],
        "description": "Calls into the CRM",
    },
    answer=answer_type("webhook", more=(("secret", str | msgspec.UnsetType, msgspec.UNSET),)),
    made={"secrets": ["secret"], "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="},
)
FAMILIES = (AGENTS, TRUNKS, NUMBERS, TOOLS, SQUADS, WEBHOOKS)

ENDPOINTS = tuple(endpoint for family in FAMILIES for endpoint in endpoints(family))
