"""What can be asked of a call that runs: to tell its agent something, to say something to the caller, to hang up."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal, assert_never

import msgspec

from offhook.api.endpoints import Answer, Asked, Body, Endpoint, Form
from offhook.api.native.calls import known_call
from offhook.api.native.waiting_calls import KnownCall
from offhook.api.problems import ApiError
from offhook.bridge.codec import TextInput
from offhook.model.call_events import TransferMode
from offhook.model.errors import SipParseError
from offhook.model.records import TransferDestination
from offhook.sip.targets import HOW_TO_WRITE

WRITE = "calls:write"

GOODBYE_S = 3.0
"""For the agent's goodbye: who hangs up wants the end now, and not the line cut."""

MOST_TEXT = 4_000
"""Characters: of a page that a model reads, or four minutes that a caller hears."""

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=MOST_TEXT)]
Name = Annotated[str, msgspec.Meta(max_length=512)]


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


class TransferForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``target``: a number, a `tel:` or a `sip:` URI; or ``destination``: one that the call's agent has, by its name.

    ``mode`` left out: the destination's, or `blind`. ``briefing``: what the operator is told in a `warm` one.
    ``trunk_id``: by which our own call to it goes, instead of the one that the call came or went by.
    """

    target: Name = ""
    destination: Name = ""
    mode: TransferMode | None = None
    briefing: Annotated[str, msgspec.Meta(max_length=MOST_TEXT)] = ""
    trunk_id: Name = ""


class DigitsForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keys that are pressed one after the other."""

    digits: Annotated[str, msgspec.Meta(pattern=r"^[0-9*#A-D]{1,64}(?!\n)$")]


class HoldForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``hold`` true: the other side waits and hears the agent's hold audio; false: it is taken back."""

    hold: bool


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
    found = await known_call(asked)
    if found.scheduled_at is not None:
        if await asked.parts.placer.cancel(asked.account_id, found.record.call_id):
            return Answer(body=Ending(success=True, call_id=found.record.call_id))
        found = await known_call(asked)
        if found.scheduled_at is not None:
            raise _being_placed(found.record.call_id)
    call_id = _running_here(asked, found)
    if not asked.parts.calls.hang_up(call_id, goodbye_s=GOODBYE_S):
        raise _over(call_id)
    return Answer(body=Ending(success=True, call_id=call_id))


async def transfer(asked: Asked) -> Answer:
    form: TransferForm = asked.body
    call_id, calls = await _running(asked), asked.parts.calls
    destination = _destination(asked, form, call_id)
    try:
        refused = calls.refuse_transfer(call_id, destination)
    except SipParseError as error:
        raise ApiError("INVALID", f"target: {error.problem}", field="target", hint=HOW_TO_WRITE) from None
    if refused is not None:
        raise ApiError("FORBIDDEN", f"target: {refused.rule}: {refused.evidence}", field="target", hint=refused.fix)
    if calls.is_transferring(call_id):
        raise ApiError("CONFLICT", "A transfer of this call is under way", hint="Its events tell when it is over")
    return _done(call_id, calls.transfer(call_id, destination))


def _destination(asked: Asked, form: TransferForm, call_id: str) -> TransferDestination:
    """Raises ``ApiError``."""
    if bool(form.target) == bool(form.destination):
        hint = "Give either a target, or the name of one of the agent's destinations"
        raise ApiError("INVALID", "target: is missing, or there is a destination as well", field="target", hint=hint)
    if form.trunk_id and form.trunk_id not in asked.parts.directory().trunks_for(asked.account_id):
        hint = "GET /api/trunks lists them"
        raise ApiError("INVALID", f"trunk_id: there is no trunk {form.trunk_id!r}", field="trunk_id", hint=hint)
    known = TransferDestination(name="", target=form.target)
    if form.destination:
        found = asked.parts.calls.destination(call_id, form.destination)
        if found is None:
            problem = f"destination: the agent of this call has none named {form.destination!r}"
            raise ApiError("INVALID", problem, field="destination", hint="Name one of its destinations, or a target")
        known = found
    return replace(
        known,
        mode=form.mode or known.mode,
        briefing=form.briefing or known.briefing,
        trunk_id=form.trunk_id or known.trunk_id,
    )


async def press(asked: Asked) -> Answer:
    form: DigitsForm = asked.body
    call_id = await _running(asked)
    pressed = asked.parts.calls.press(call_id, form.digits)
    match pressed:
        case "sent" | "over":
            return _done(call_id, pressed == "sent")
        case "not_up":
            raise ApiError(
                "CONFLICT", f"Nobody has answered the call {call_id!r} yet", hint="Try when it is in_progress"
            )
        case "not_taken":
            hint = "Its party takes no digits, or too many wait to be sent: try again in some seconds"
            raise ApiError("CONFLICT", "The digits cannot be sent", hint=hint)
        case _:
            assert_never(pressed)


async def hold(asked: Asked) -> Answer:
    form: HoldForm = asked.body
    call_id = await _running(asked)
    return _done(call_id, asked.parts.calls.hold(call_id, form.hold))


async def _running(asked: Asked) -> str:
    """The id of the path, if such a call runs here. Raises ``ApiError``."""
    return _running_here(asked, await known_call(asked))


def _running_here(asked: Asked, found: KnownCall) -> str:
    record, scheduled_at = found
    if scheduled_at is not None:
        raise ApiError("BAD_REQUEST", "call has not begun", hint=f"It is to be placed at {scheduled_at:%FT%TZ}")
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


def _being_placed(call_id: str) -> ApiError:
    hint = "Ask again in a second: it then rings, and can be hung up"
    return ApiError(
        "CONFLICT", f"The call {call_id!r} is being placed just now", hint=hint, headers={"Retry-After": "1"}
    )


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
        method="POST",
        path="/api/calls/{id}/transfer",
        operation="transferCall",
        tag="calls",
        summary="Send the other side of a running call to somebody else; its events tell what came of it",
        handler=transfer,
        scope=WRITE,
        status=202,
        body=Body(type=TransferForm, example={"target": "+493012345", "mode": "blind"}),
        answers=(Form(type=Done, example={"success": True, "call_id": _ID}),),
        errors=("BAD_REQUEST", "CONFLICT"),
        idempotent=True,
    ),
    Endpoint(
        method="POST",
        path="/api/calls/{id}/dtmf",
        operation="pressKeys",
        tag="calls",
        summary="Press keys in a running call, by the way its party understands",
        handler=press,
        scope=WRITE,
        body=Body(type=DigitsForm, example={"digits": "1234#"}),
        answers=(Form(type=Done, example={"success": True, "call_id": _ID}),),
        errors=("BAD_REQUEST", "CONFLICT"),
        idempotent=True,
    ),
    Endpoint(
        method="POST",
        path="/api/calls/{id}/hold",
        operation="holdCall",
        tag="calls",
        summary="Let the other side of a running call wait, or take it back",
        handler=hold,
        scope=WRITE,
        body=Body(type=HoldForm, example={"hold": True}),
        answers=(Form(type=Done, example={"success": True, "call_id": _ID}),),
        errors=("BAD_REQUEST", "CONFLICT"),
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
