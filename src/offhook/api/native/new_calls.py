"""To call somebody: at SIP4AI's two addresses, of which the older one takes the words of its configuration file too."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

import msgspec

from offhook.api.endpoints import Answer, Asked, Body, Endpoint, Form
from offhook.api.new_call import NewCallForm, Target, Task
from offhook.api.problems import ApiError
from offhook.api.reading import convert
from offhook.model.errors import CannotPlaceError
from offhook.sip.uri import without_password

WRITE = "calls:write"

_log = logging.getLogger("offhook.api.calls")

ALIASES: Mapping[str, tuple[str, ...]] = {"target": ("target_number", "number"), "task": ("task_description",)}
"""What ``/call`` takes as well, by the name that is meant."""


class CallForm(NewCallForm, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The same as ``/api/calls`` takes; ``target_number`` and ``number`` mean ``target``, ``task_description`` means
    ``task``."""

    target: Target = ""
    task: Task = ""
    target_number: Target = ""
    number: Target = ""
    task_description: Task = ""


class Initiated(msgspec.Struct, frozen=True, kw_only=True):
    """The call is on record, and on its way; what becomes of it, the call tells."""

    success: bool
    call_id: str
    status: Literal["initiating"]
    created_at: datetime


async def create(asked: Asked) -> Answer:
    return await _place(asked, asked.body)


async def create_by_any_name(asked: Asked) -> Answer:
    return await _place(asked, convert(_named(asked.body), NewCallForm))


async def _place(asked: Asked, wanted: NewCallForm) -> Answer:
    try:
        placed = await asked.parts.placer.place(asked.account_id, wanted)
    except CannotPlaceError as error:
        if error.kind == "forbidden":
            _log.warning("account %s may not call %.64r: %s", asked.account_id, without_password(wanted.target), error)
        raise
    body = Initiated(success=True, call_id=placed.call_id, status=placed.status, created_at=placed.created_at)
    return Answer(body=body)


def _named(given: Mapping[str, Any]) -> dict[str, Any]:
    """Every key under the name that is meant. Raises ``ApiError`` where two say different things."""
    named = dict(given)
    for name, aliases in ALIASES.items():
        for alias in aliases:
            if alias not in named:
                continue
            value = named.pop(alias)
            if named.setdefault(name, value) != value:
                raise ApiError("INVALID", f"{alias}: {name} says something else", field=alias, hint="Give one of them")
    return named


_EXAMPLE = {
    "target": "+61400000000",
    "task": "Confirm the appointment for Tuesday at 2pm",
    "instructions": "Be friendly and professional",
    "max_duration_seconds": 300,
    "event_webhook": "https://your-app.com/webhook",
}

_INITIATED = {
    "success": True,
    "call_id": "550e8400-e29b-41d4-a716-446655440000",
    "status": "initiating",
    "created_at": "2026-11-21T10:30:00Z",
}

ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/api/calls",
        operation="createCall",
        tag="calls",
        summary="Call somebody: an agent does the task",
        handler=create,
        scope=WRITE,
        status=201,
        body=Body(type=NewCallForm, example=_EXAMPLE),
        answers=(Form(type=Initiated, example=_INITIATED),),
        invalid="BAD_REQUEST",
        idempotent=True,
    ),
    Endpoint(
        method="POST",
        path="/call",
        operation="createCallByAnyName",
        tag="calls",
        summary="The same as POST /api/calls, with the names that a configuration file has as well",
        handler=create_by_any_name,
        scope=WRITE,
        status=201,
        body=Body(type=CallForm, example={"target_number": "+61400000000", "task_description": "Say hello"}, raw=True),
        answers=(Form(type=Initiated, example=_INITIATED),),
        invalid="BAD_REQUEST",
        idempotent=True,
    ),
)
