"""Which turn of a script a chat completion is asked for: HTTP keeps nothing, so the messages tell. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import msgspec

from offhook.simulators.actor import CallTool
from offhook.simulators.script import Script, Turn

ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})


class ChatRequestError(Exception):
    """The real service answers it with HTTP 400."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatTurn:
    """What is answered. ``number`` counts the script's turns from 1; 0 is none of them.

    ``after_cut``: the answer before was heard only in part. ``after_tools``: results of tools came.
    """

    number: int
    text: str
    calls: tuple[CallTool, ...] = ()
    pause_ms: int = 0
    after_cut: bool = False
    after_tools: bool = False


def chat_turn(script: Script, asked: Mapping[str, Any]) -> ChatTurn:
    """Raises ``ChatRequestError``."""
    messages = _checked(asked)
    number, last = _place(script, messages)
    turn = script.turns[number - 1] if 0 < number <= len(script.turns) else _unscripted(script, last)
    results = _results(messages)
    answered = messages[-1].get("role") == "tool"
    tools = {tool["function"]["name"] for tool in asked.get("tools") or ()}
    calls = [] if answered else _calls(turn, number, len(messages))
    text = "" if calls else _filled(turn, results)
    if turn.ends_call and not calls and "end_call" in tools:
        calls = [CallTool(tool_call_id=f"call_{len(messages)}_end", name="end_call", arguments="{}")]
    return ChatTurn(
        number=number,
        text=text,
        calls=tuple(calls),
        pause_ms=turn.pause_ms,
        after_cut=_was_cut(script, messages),
        after_tools=answered,
    )


def turn_that_says(script: Script, text: str) -> int:
    """The number of the turn this is said in; 0 for a greeting, and whatever else is none of the script's answers."""
    wanted = text.strip()
    turns = enumerate(script.turns, start=1)
    return next((number for number, turn in turns if wanted and wanted in turn.says), 0)


def _checked(asked: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    messages = asked.get("messages")
    if not asked.get("model") or not isinstance(messages, list) or not messages:
        raise ChatRequestError("model and messages are needed")
    for message in messages:
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            raise ChatRequestError(f"{message!r} is no message")
        if message["role"] != "assistant" and not isinstance(message.get("content"), str):
            raise ChatRequestError(f"content of {message['role']} is no text")
    _check_results(messages)
    return messages


def _check_results(messages: Sequence[Mapping[str, Any]]) -> None:
    waiting: set[str] = set()
    for before, message in pairwise([{"role": "system"}, *messages, {"role": "end"}]):
        if before["role"] == "assistant":
            waiting = {call["id"] for call in before.get("tool_calls") or ()}
        if message["role"] == "tool":
            if message.get("tool_call_id") not in waiting:
                raise ChatRequestError("a message of role 'tool' must follow its call in 'tool_calls'")
            waiting.discard(str(message["tool_call_id"]))
        elif waiting:
            raise ChatRequestError("an assistant message with 'tool_calls' must be followed by tool messages")


def _place(script: Script, messages: Sequence[Mapping[str, Any]]) -> tuple[int, str]:
    """The turn that the last of the caller's (or the call's) lines is about, in the order of the script."""
    done, number, last = 0, 0, ""
    for message in messages[1:] if messages[0]["role"] == "system" else messages:
        if message["role"] not in ("user", "system", "developer"):
            continue
        for line in message["content"].splitlines():
            last = line
            turns = script.turns
            expected = turns[done].hears if done < len(turns) else script.otherwise.hears
            about = expected.lower() in line.lower() if done < len(turns) else line == expected
            done += about
            number = done if about else 0
    return number, last


def _unscripted(script: Script, line: str) -> Turn:
    if "greet the caller" in line.lower():
        return Turn(says="Hello.")
    if line == script.otherwise.hears:
        return script.otherwise
    return Turn(says=f"You wrote: {line}")


def _calls(turn: Turn, number: int, seed: int) -> list[CallTool]:
    """Their ids differ from request to request."""
    return [
        CallTool(
            tool_call_id=f"call_{number}_{seed}_{index}",
            name=tool.name,
            arguments=msgspec.json.encode(tool.arguments).decode(),
        )
        for index, tool in enumerate(turn.tools)
    ]


def _results(messages: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    names = {call["id"]: call["function"]["name"] for message in messages for call in message.get("tool_calls") or ()}
    return {names[message["tool_call_id"]]: message["content"] for message in messages if message["role"] == "tool"}


def _filled(turn: Turn, results: Mapping[str, str]) -> str:
    text = turn.says
    for name, output in results.items():
        text = text.replace(f"{{{name}}}", output)
    return text


def _was_cut(script: Script, messages: Sequence[Mapping[str, Any]]) -> bool:
    """The last answer is only the beginning of one of the script's."""
    said = [str(message.get("content") or "") for message in messages if message["role"] == "assistant"]
    if not said or not said[-1]:
        return False
    return any(turn.says.startswith(said[-1]) and len(said[-1]) < len(turn.says.rstrip()) for turn in script.turns)
