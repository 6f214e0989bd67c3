"""What an agent may do: built-in tools that act on its call, and its own, which somebody else's server runs.

(agent, ToolCall) -> commands, pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from offhook.bridge.codec import ToolCall, ToolResult
from offhook.call.numbers import read_target
from offhook.model.call_events import TransferMode
from offhook.model.errors import SipParseError
from offhook.model.records import Agent, Tool, TransferDestination
from offhook.model.tool_schema import arguments_problem

MAX_DIGITS = 64
"""Longest string of digits one tool call may send: a card number, a PIN and a menu path fit."""

MAX_TEXT = 1000
"""Characters of a MESSAGE of ours: it fits one datagram (RFC 3428 §8 allows 1,300 bytes)."""

MAX_SUMMARY = 4000
"""Characters of what came of a task, as the record keeps it: a page."""

REPLACEABLE_TOOL = "transfer_call"
"""The only tool of ours whose name a destination's own function may have, and replaces."""

_DTMF_ALPHABET = frozenset("0123456789*#ABCD")


@dataclass(frozen=True, kw_only=True, slots=True)
class HangUpAfterSpeech:
    """Let the agent finish what is queued, then hang up."""

    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SendDigits:
    """Press keys for the remote party; the model is told whether it takes any."""

    digits: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SendText:
    """Write to the remote party by a SIP MESSAGE."""

    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ReturnResult:
    """Give the model its tool's result."""

    result: ToolResult


@dataclass(frozen=True, kw_only=True, slots=True)
class StartTransfer:
    """Transfer the caller; the model is told the outcome when there is one."""

    destination: TransferDestination


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgeTransfer:
    """The operator who is being briefed takes the caller, or does not."""

    accept: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class AskServer:
    """Let the tool's own server run it; ``arguments`` is JSON text, an object. The model is told what comes of it."""

    tool: Tool
    arguments: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CompleteTask:
    """What the call is for is done, or cannot be; the agent says goodbye then."""

    outcome: str
    summary: str


ToolCommand = (
    HangUpAfterSpeech | SendDigits | SendText | ReturnResult | StartTransfer | JudgeTransfer | AskServer | CompleteTask
)


class _EndCall(msgspec.Struct, frozen=True):
    reason: str = ""


class _SendDtmf(msgspec.Struct, frozen=True):
    digits: str


class _SendText(msgspec.Struct, frozen=True):
    text: str


class _CompleteTask(msgspec.Struct, frozen=True):
    outcome: str
    summary: str = ""


class _TransferCall(msgspec.Struct, frozen=True):
    destination: str = ""
    target: str = ""
    mode: TransferMode = "blind"


def run_tool(call: ToolCall, agent: Agent) -> tuple[ToolCommand, ...]:
    """What a tool call asks for. Bad arguments and unknown names come back to the model as an error text.

    A function of a destination's comes first: it may replace ``transfer_call``. Any other built-in one comes before one
    of the agent's with the same name.
    """
    destination = _destination_of(call.name, agent)
    built_in = _TOOLS.get(call.name)
    own = next((tool for tool in agent.tools if tool.name == call.name), None)
    try:
        if destination is not None:
            return (StartTransfer(destination=_named(call, agent) or destination),)
        if built_in is not None:
            return built_in(call, agent)
        if own is not None:
            return (_ask_server(call, own),)
    except msgspec.MsgspecError as error:
        return (_error(call, f"arguments of {call.name}: {error}"),)
    functions = (*(tool.name for tool in agent.tools), *(one.function for one in agent.destinations if one.function))
    known = ", ".join(dict.fromkeys((*_TOOLS, *functions)))
    return (_error(call, f"there is no tool named {call.name!r}; known: {known}"),)


def is_own(name: str, agent: Agent) -> bool:
    """Whether a tool of this name is a function of the agent's own: a server runs it, or its caller is transferred."""
    if _destination_of(name, agent) is not None:
        return True
    return name not in _TOOLS and any(tool.name == name for tool in agent.tools)


def ends_answer(name: str, agent: Agent) -> bool:
    """Whether a model that uses this tool has said all that it wants to say before."""
    return name in ("end_call", REPLACEABLE_TOOL) or _destination_of(name, agent) is not None


def _destination_of(name: str, agent: Agent) -> TransferDestination | None:
    return next((one for one in agent.destinations if one.function and one.function == name), None)


def _named(call: ToolCall, agent: Agent) -> TransferDestination | None:
    """Whom ``transfer_call`` names, where a function has taken its name: the provider ``local`` knows the old one."""
    if call.name != REPLACEABLE_TOOL:
        return None
    try:
        name = msgspec.json.decode(call.arguments or "{}", type=_TransferCall).destination.lower()
    except msgspec.MsgspecError:
        return None
    return next((one for one in agent.destinations if name and one.name.lower() == name), None)


def _ask_server(call: ToolCall, tool: Tool) -> AskServer | ReturnResult:
    arguments = call.arguments.strip() or "{}"
    given = msgspec.json.decode(arguments, type=dict[str, object])
    problem = arguments_problem(tool.parameters, given)
    if problem:
        return _error(call, f"arguments of {tool.name}: {problem}")
    return AskServer(tool=tool, arguments=arguments)


def _end_call(call: ToolCall, _: Agent) -> tuple[ToolCommand, ...]:
    return (HangUpAfterSpeech(reason=msgspec.json.decode(call.arguments or "{}", type=_EndCall).reason),)


def _send_dtmf(call: ToolCall, _: Agent) -> tuple[ToolCommand, ...]:
    digits = msgspec.json.decode(call.arguments, type=_SendDtmf).digits.upper()
    if not digits or len(digits) > MAX_DIGITS or not _DTMF_ALPHABET.issuperset(digits):
        return (_error(call, f"digits must be 1 to {MAX_DIGITS} of 0-9 * # A-D, not {digits[:80]!r}"),)
    return (SendDigits(digits=digits),)


def _send_text(call: ToolCall, _: Agent) -> tuple[ToolCommand, ...]:
    text = msgspec.json.decode(call.arguments, type=_SendText).text
    if not text.strip() or len(text) > MAX_TEXT:
        return (_error(call, f"text must be 1 to {MAX_TEXT} characters"),)
    return (SendText(text=text), ReturnResult(result=ToolResult(tool_call_id=call.tool_call_id, output="sent")))


def _transfer_call(call: ToolCall, agent: Agent) -> tuple[ToolCommand, ...]:
    """To one of the agent's destinations by its name; anywhere else only where the agent may."""
    wanted = msgspec.json.decode(call.arguments or "{}", type=_TransferCall)
    name = wanted.destination or wanted.target
    for destination in agent.destinations:
        if name.strip().lower() in (destination.name.lower(), destination.target.lower()):
            return (StartTransfer(destination=destination),)
    if not agent.transfers_anywhere or not wanted.target:
        known = ", ".join(destination.name for destination in agent.destinations) or "none"
        return (_error(call, f"callers cannot be transferred to {name[:80]!r}; destinations: {known}"),)
    try:
        read_target(wanted.target)
    except SipParseError as error:
        return (_error(call, f"target: {error.problem}"),)
    return (StartTransfer(destination=TransferDestination(name="", target=wanted.target, mode=wanted.mode)),)


def _judge_transfer(call: ToolCall, agent: Agent) -> tuple[ToolCommand, ...]:
    if not agent.briefs:
        return (_error(call, "only an agent that briefs an operator may say whether he takes the call"),)
    accept = call.name == "accept_transfer"
    done = ToolResult(tool_call_id=call.tool_call_id, output="done")
    return (ReturnResult(result=done), JudgeTransfer(accept=accept))


def _complete_task(call: ToolCall, agent: Agent) -> tuple[ToolCommand, ...]:
    if not agent.task:
        return (_error(call, "this agent has no task to complete"),)
    told = msgspec.json.decode(call.arguments, type=_CompleteTask)
    return (CompleteTask(outcome=told.outcome[:MAX_TEXT], summary=told.summary[:MAX_SUMMARY]),)


def _error(call: ToolCall, problem: str) -> ReturnResult:
    return ReturnResult(result=ToolResult(tool_call_id=call.tool_call_id, output=problem, is_error=True))


_TOOLS: Mapping[str, Callable[[ToolCall, Agent], tuple[ToolCommand, ...]]] = {
    "end_call": _end_call,
    "send_dtmf": _send_dtmf,
    "send_text": _send_text,
    REPLACEABLE_TOOL: _transfer_call,
    "accept_transfer": _judge_transfer,
    "decline_transfer": _judge_transfer,
    "complete_task": _complete_task,
}
