"""Built-in tools: what an agent may do to its call. (state, ToolCall) -> commands, pure.

Tools that ask somebody else's server come with ``Questions`` in a later issue.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from offhook.bridge.codec import ToolCall, ToolResult

MAX_DIGITS = 64
"""Longest string of digits one tool call may send: a card number, a PIN and a menu path fit."""

_DTMF_ALPHABET = frozenset("0123456789*#ABCD")


@dataclass(frozen=True, kw_only=True, slots=True)
class HangUpAfterSpeech:
    """Let the agent finish what is queued, then hang up."""

    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SendDigits:
    digits: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ReturnResult:
    """Give the model its tool's result."""

    result: ToolResult


ToolCommand = HangUpAfterSpeech | SendDigits | ReturnResult


class _EndCall(msgspec.Struct, frozen=True):
    reason: str = ""


class _SendDtmf(msgspec.Struct, frozen=True):
    digits: str


def run_tool(call: ToolCall) -> tuple[ToolCommand, ...]:
    """What a tool call asks for. Bad arguments and unknown names come back to the model as an error text."""
    try:
        match call.name:
            case "end_call":
                reason = msgspec.json.decode(call.arguments or "{}", type=_EndCall).reason
                return (HangUpAfterSpeech(reason=reason),)
            case "send_dtmf":
                return _send_dtmf(call)
            case _:
                return (_error(call, f"there is no tool named {call.name!r}; known: end_call, send_dtmf"),)
    except msgspec.MsgspecError as error:
        return (_error(call, f"arguments of {call.name}: {error}"),)


def _send_dtmf(call: ToolCall) -> tuple[ToolCommand, ...]:
    digits = msgspec.json.decode(call.arguments, type=_SendDtmf).digits.upper()
    if not digits or len(digits) > MAX_DIGITS or not _DTMF_ALPHABET.issuperset(digits):
        return (_error(call, f"digits must be 1 to {MAX_DIGITS} of 0-9 * # A-D, not {digits[:80]!r}"),)
    done = ToolResult(tool_call_id=call.tool_call_id, output=f"sent {digits}")
    return (SendDigits(digits=digits), ReturnResult(result=done))


def _error(call: ToolCall, problem: str) -> ReturnResult:
    return ReturnResult(result=ToolResult(tool_call_id=call.tool_call_id, output=problem, is_error=True))
