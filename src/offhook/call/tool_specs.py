"""What an agent's model is told that it may do: offhook's own tools, as far as the agent has them, and the agent's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from offhook.bridge.codec import ToolSpec
from offhook.call.tools import MAX_DIGITS, MAX_TEXT, REPLACEABLE_TOOL
from offhook.model.records import Agent

_REASON = {"reason": {"type": "string", "description": "Why, in a few words"}}


def offered_tools(agent: Agent) -> tuple[ToolSpec, ...]:
    """Its own come last; of those, only one that transfers may have the name of a tool of ours (``store.forms``)."""
    own = (
        ToolSpec(
            name=tool.name, description=tool.description, parameters=_object(tool.parameters), timeout_s=tool.timeout_s
        )
        for tool in agent.tools
    )
    return (*_built_in(agent), *own, *_transfers(agent))


def _transfers(agent: Agent) -> Iterator[ToolSpec]:
    """Destinations with a function of their own."""
    for one in () if agent.briefs else agent.destinations:
        if one.function:
            yield _spec(one.function, one.description or f"Hand the caller over to {one.name}.", {})


def _built_in(agent: Agent) -> Iterator[ToolSpec]:
    yield _spec("end_call", "Hang up, once you have said goodbye.", _REASON, required=())
    digits = {"type": "string", "description": f"1 to {MAX_DIGITS} of 0-9 * # A-D"}
    yield _spec("send_dtmf", "Press keys of the telephone, for a menu at the other end.", {"digits": digits})
    text = {"type": "string", "maxLength": MAX_TEXT}
    yield _spec("send_text", "Write a text to the display of the other telephone, where it has one.", {"text": text})
    if agent.briefs:
        yield _spec("accept_transfer", "The operator takes the caller.", {})
        yield _spec("decline_transfer", "The operator does not take the caller.", {})
    elif _offers_transfer_call(agent):
        yield _transfer_call(agent)
    if agent.task:
        outcome = {"type": "string", "description": "What came of it, in one to three words"}
        summary = {"type": "string", "description": "What was agreed or found out, in a few sentences"}
        then = "You then say goodbye, and the call ends" if agent.hangs_up_when_done else "The talk then goes on"
        description = f"Your task is done, or cannot be done. {then}."
        yield _spec("complete_task", description, {"outcome": outcome, "summary": summary})


def _offers_transfer_call(agent: Agent) -> bool:
    """Where a function of a destination's has its name, that one is offered instead."""
    if any(one.function == REPLACEABLE_TOOL for one in agent.destinations):
        return False
    return agent.transfers_anywhere or any(not one.function for one in agent.destinations)


def _transfer_call(agent: Agent) -> ToolSpec:
    properties: dict[str, Any] = {}
    named = [one.name for one in agent.destinations if not one.function]
    if named:
        properties["destination"] = {"type": "string", "enum": named}
    if agent.transfers_anywhere:
        properties["target"] = {"type": "string", "description": "A telephone number, or a sip: or tel: address"}
    required = ("destination",) if not agent.transfers_anywhere else ("target",) if not named else ()
    return _spec(REPLACEABLE_TOOL, "Hand the caller over to somebody else.", properties, required=required)


def _spec(
    name: str, description: str, properties: dict[str, Any], *, required: tuple[str, ...] | None = None
) -> ToolSpec:
    """``required`` None: all of them."""
    needed = tuple(properties) if required is None else required
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if needed:
        schema["required"] = needed
    return ToolSpec(name=name, description=description, parameters=msgspec.json.encode(schema).decode())


def _object(parameters: str) -> str:
    """Providers want a schema of an object, of tools without arguments as well."""
    schema = msgspec.json.decode(parameters or "{}")
    if isinstance(schema, dict) and schema.get("type") == "object" and "properties" in schema:
        return parameters
    return msgspec.json.encode({"type": "object", "properties": {}, **schema}).decode()
