"""What can be asked of a call that runs: to tell its agent something, to say something to the caller, to hang up."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from offhook.api.endpoints import Answer, Asked, Body, Endpoint, Form
from offhook.api.native.calls import call_record
from offhook.api.problems import ApiError
from offhook.bridge.codec import TextInput

WRITE = "calls:write"

GOODBYE_S = 3.0
"""For the agent's goodbye: who hangs up wants the end now, and not the line cut."""

MOST_TEXT = 4_000
"""Characters: of a page that a model reads, or four minutes that a caller hears."""

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=MOST_TEXT)]


class InjectForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``message`` goes into the model's context, as the system's or as if the caller had said it.

    ``respond``: the agent takes a turn on it; left out, it does for ``user`` only.
    """

    message: Text
    role: Literal["system", "user"] = "system"
    respond: bool | None = None


class PromptForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``message`` or ``prompt``, which mean the same; the rest as for ``/api/calls/{id}/inject``."""

    message: Text | None = None
    prompt: Text | None = None
    role: Literal["system", "user"] = "system"
    respond: bool | None = None


class SayForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``exact``: word by word, by a voice of this server where the agent's provider cannot."""

    text: Text
    exact: bool = True


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """It was handed to the call."""

    success: bool
    call_id: str


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """The agent says goodbye; then the call ends."""

    success: bool
    call_id: str
    status: Literal["ending"] = "ending"


async def inject(asked: Asked) -> Answer:
    return await _inject(asked, asked.body)


async def inject_prompt(asked: Asked) -> Answer:
    form: PromptForm = asked.body
    text = form.message or form.prompt
    if text is None:
        raise ApiError("INVALID", "message: is missing", field="message", hint="Add it, or a prompt")
    if form.prompt not in (None, text):
        raise ApiError("INVALID", "prompt: message says something else", field="prompt", hint="Give one of them")
    return await _inject(asked, InjectForm(message=text, role=form.role, respond=form.respond))


async def _inject(asked: Asked, form: InjectForm) -> Answer:
    call_id = await _running(asked)
    respond = form.role == "user" if form.respond is None else form.respond
    text = TextInput(role=form.role, text=form.message, respond=respond)
    return _done(call_id, asked.parts.calls.inject(call_id, text))


async def say(asked: Asked) -> Answer:
    form: SayForm = asked.body
    call_id = await _running(asked)
    return _done(call_id, asked.parts.calls.say(call_id, form.text, exact=form.exact))


async def hang_up(asked: Asked) -> Answer:
    call_id = await _running(asked)
    if not asked.parts.calls.hang_up(call_id, goodbye_s=GOODBYE_S):
        raise _over(call_id)
    return Answer(body=Ending(success=True, call_id=call_id))


async def _running(asked: Asked) -> str:
    """The id of the path, if such a call runs here. Raises ``ApiError``."""
    record = await call_record(asked)
    if record.phase == "ended":
        raise _over(record.call_id)
    if record.call_id not in asked.parts.calls.calls:
        hint = f"Ask the server {record.node_id!r}, where it runs"
        raise ApiError("CONFLICT", f"The call {record.call_id!r} does not run on this server", hint=hint)
    return record.call_id


def _done(call_id: str, taken: bool) -> Answer:
    if not taken:
        raise _over(call_id)
    return Answer(body=Done(success=True, call_id=call_id))


def _over(call_id: str) -> ApiError:
    """400, as SIP4AI has it: its API knows no 409."""
    return ApiError("BAD_REQUEST", "call is over", hint=f"The call {call_id!r} has ended; GET /api/calls/{call_id}")


_ID = "9f0c1de24b7a"

ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/api/calls/{id}/inject",
        operation="injectIntoCall",
        tag="calls",
        summary="Tell the agent of a running call something, as the system or as if the caller had said it",
        handler=inject,
        scope=WRITE,
        body=Body(type=InjectForm, example={"message": "The customer's order was sent today.", "role": "system"}),
        answers=(Form(type=Done, example={"success": True, "call_id": _ID}),),
        errors=("CONFLICT",),
        invalid="BAD_REQUEST",
    ),
    Endpoint(
        method="POST",
        path="/calls/{id}/inject",
        operation="injectPrompt",
        tag="calls",
        summary="The same as POST /api/calls/{id}/inject; `prompt` is `message`",
        handler=inject_prompt,
        scope=WRITE,
        body=Body(type=PromptForm, example={"prompt": "The customer's order was sent today."}),
        answers=(Form(type=Done, example={"success": True, "call_id": _ID}),),
        errors=("CONFLICT",),
        invalid="BAD_REQUEST",
    ),
    Endpoint(
        method="POST",
        path="/api/calls/{id}/say",
        operation="sayInCall",
        tag="calls",
        summary="Say something to the caller of a running call, in the agent's place",
        handler=say,
        scope=WRITE,
        body=Body(type=SayForm, example={"text": "A colleague will call you back within the hour.", "exact": True}),
        answers=(Form(type=Done, example={"success": True, "call_id": _ID}),),
        errors=("CONFLICT",),
    ),
    Endpoint(
        method="DELETE",
        path="/api/calls/{id}",
        operation="hangUpCall",
        tag="calls",
        summary=f"Hang up: the agent may say goodbye, for {GOODBYE_S:g} s at most",
        handler=hang_up,
        scope=WRITE,
        answers=(Form(type=Ending, example={"success": True, "call_id": _ID, "status": "ending"}),),
        errors=("BAD_REQUEST", "CONFLICT"),
    ),
)
