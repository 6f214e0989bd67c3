"""Questions on the wire, natively: ``render`` makes a request of a question, ``read`` an answer of a response. Pure.

A dialect hands in its own ``WireShape``. Signing is not here: what is signed are the bytes that are sent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any
from urllib.parse import quote

import msgspec

from offhook.call.ports import AgentForCall, CallDeclined, NoAnswer, ToolOutput, ToolUse
from offhook.delivery.outbound_http import Method, OutboundResponse
from offhook.store.forms import AgentForm
from offhook.store.text import printable, printable_document

CALL_INCOMING = "call.incoming"

TRANSIENT_ID = "transient"
"""Stands in the call's record for an agent that its number's server described and nobody keeps."""

MAX_REASON = 200
"""Characters of why a call is declined: a line of a log."""

MAX_PROBLEM = 500
"""Characters of an error page that the model is told."""

_JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, kw_only=True, slots=True)
class WireRequest:
    """A question as it is sent, not yet signed. What may be secret is not in its repr."""

    method: Method
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentById:
    """One of the account's agents shall answer."""

    agent_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentDescribed:
    """This one shall answer, for this call alone; what it refers to is the account's."""

    form: AgentForm


CallAnswer = AgentById | AgentDescribed | CallDeclined | NoAnswer


@dataclass(frozen=True, kw_only=True, slots=True)
class WireShape:
    """How a dialect writes questions and reads answers. None of the functions raises."""

    render_call: Callable[[AgentForCall], WireRequest]
    read_call: Callable[[OutboundResponse], CallAnswer]
    render_tool: Callable[[ToolUse], WireRequest]
    read_tool: Callable[[ToolUse, OutboundResponse], ToolOutput]


# ── who answers? ─────────────────────────────────────────────────────────────────────────────────────────


def render_call(question: AgentForCall) -> WireRequest:
    """POST ``{"type": "call.incoming", "call_id", "from", "to", "trunk_id", "remote_address", "headers"}``.

    ``from`` and ``to`` are the SIP URIs; ``headers`` those of the INVITE that no standard knows, equal ones joined.
    """
    arrived = question.arrived
    headers: dict[str, str] = {}
    for name, value in arrived.headers:
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    document = {
        "type": CALL_INCOMING,
        "call_id": question.call_id,
        "from": arrived.from_uri,
        "to": arrived.to_uri,
        "trunk_id": arrived.trunk_id,
        "remote_address": arrived.remote_address,
        "headers": headers,
    }
    body = msgspec.json.encode(printable_document(document))  # peers need not send UTF-8
    return WireRequest(method="POST", url=question.url, headers=_JSON, body=body)


class _Decline(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    status: Annotated[int, msgspec.Meta(ge=400, le=699)] = 486
    reason: str = ""


class _WhoAnswers(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    agent_id: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    agent: dict[str, Any] | None = None
    decline: _Decline | None = None


def read_call(response: OutboundResponse) -> CallAnswer:
    """200 and ``{"agent_id"}``, ``{"agent"}`` or ``{"decline": {"status", "reason"}}``; anything else is no answer."""
    if response.status != 200:
        return NoAnswer(reason=f"the server answered {response.status} instead of 200")
    try:
        return _who_answers(msgspec.json.decode(response.body, type=_WhoAnswers))
    except msgspec.ValidationError as error:
        return NoAnswer(reason=f"the answer cannot be used: {field_problem(str(error))}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return NoAnswer(reason="the answer is no JSON")


def _who_answers(answer: _WhoAnswers) -> CallAnswer:
    match answer:
        case _WhoAnswers(agent_id=str(agent_id), agent=None, decline=None):
            return AgentById(agent_id=agent_id)
        case _WhoAnswers(agent_id=None, agent=dict(described), decline=None):
            return _described(described)
        case _WhoAnswers(agent_id=None, agent=None, decline=_Decline(status=status, reason=reason)):
            return CallDeclined(status=status, reason=printable(reason)[:MAX_REASON])
        case _:
            return NoAnswer(reason="the answer must have one of agent_id, agent and decline, and no two of them")


def _described(described: Mapping[str, Any]) -> CallAnswer:
    if "id" in described:
        return NoAnswer(reason="the answer cannot be used: agent.id: an agent for one call has none; give agent_id")
    try:
        return AgentDescribed(form=msgspec.convert({"id": TRANSIENT_ID, **described}, AgentForm))
    except msgspec.ValidationError as error:
        return NoAnswer(reason=f"the answer cannot be used: {field_problem(str(error), 'agent')}")


def field_problem(message: str, below: str = "") -> str:
    """What msgspec says (``Expected `str`, got `int` - at `$.agent_id` ``) with the field first."""
    where = re.search(r" - at `(?:key in )?\$\.?(.*)`$", message)
    problem = message[: where.start()] if where else message
    path = ".".join(part for part in (below, where[1] if where else "") if part)
    return f"{path}: {problem}" if path else problem


# ── tools ────────────────────────────────────────────────────────────────────────────────────────────────


def render_tool(question: ToolUse) -> WireRequest:
    """GET: the arguments as query, values that are no strings as JSON. Else a JSON body:
    ``{"call_id", "agent_id", "tool", "tool_call_id", "arguments": {…}}``.
    """
    document = {
        "call_id": question.call_id,
        "agent_id": question.agent_id,
        "tool": question.tool.name,
        "tool_call_id": question.tool_call_id,
    }
    return tool_request(question, document)


def tool_request(question: ToolUse, document: Mapping[str, str]) -> WireRequest:
    """``document``: what a dialect tells of the call, beside the arguments."""
    tool = question.tool
    if tool.method == "GET":
        return WireRequest(method="GET", url=_with_query(tool.url, question.arguments), headers=dict(tool.headers))
    body = msgspec.json.encode({**document, "arguments": msgspec.Raw(question.arguments.encode())})
    headers = merged_headers(_JSON, dict(tool.headers))
    return WireRequest(method=tool.method, url=tool.url, headers=headers, body=body)


def _with_query(url: str, arguments: str) -> str:
    given: dict[str, Any] = msgspec.json.decode(arguments)
    pairs = [f"{quote(name, safe='')}={quote(_query_value(value), safe='')}" for name, value in given.items()]
    before, mark, query = url.partition("?")
    return before + "?" + "&".join([*([query] if mark and query else []), *pairs]) if pairs else url


def _query_value(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def merged_headers(*groups: Mapping[str, str]) -> dict[str, str]:
    """Later ones replace earlier ones of the same name, however it is written."""
    found: dict[str, tuple[str, str]] = {}
    for group in groups:
        found.update({name.lower(): (name, value) for name, value in group.items()})
    return dict(found.values())


def read_tool(question: ToolUse, response: OutboundResponse) -> ToolOutput:
    """2xx: the body's text, JSON or not. Any other status is an error, with the beginning of what the server said."""
    text = _text(response)
    if not 200 <= response.status < 300:
        said = f": {text.strip()[:MAX_PROBLEM]}" if text and text.strip() else ""
        return ToolOutput(output=f"{question.tool.name} answered {response.status}{said}", is_error=True)
    if text is None:
        return ToolOutput(output=f"{question.tool.name} answered with something that is no text", is_error=True)
    return ToolOutput(output=text or "done")


def _text(response: OutboundResponse) -> str | None:
    try:
        text = response.body.decode()
    except UnicodeDecodeError:
        return None
    return None if "\x00" in text else text


NATIVE = WireShape(render_call=render_call, read_call=read_call, render_tool=render_tool, read_tool=read_tool)
