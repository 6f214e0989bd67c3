"""Whether an answer has the shape of a printed one: its keys, the types of its values, the words of its enums."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

import json5
from tests.interop.seed_snippets import Language

from offhook.model.call_events import Direction

STATUSES = frozenset({"initiating", "ringing", "in_progress", "completed", "failed"})
WORDS = {
    "status": STATUSES | {"ok", "ending"},
    "direction": frozenset(get_args(Direction)),
    "speaker": frozenset({"ai", "user"}),
    "provider": frozenset({"openai", "elevenlabs", "gemini", "deepgram", "cartesia"}),
}
UUID = re.compile(r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
ISO_UTC = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")
GO_DURATION = re.compile(r"^(\d+h)?(\d+m)?\d+s$")
E164 = re.compile(r"^\+[1-9]\d{6,14}$")
FORMATS = (UUID, ISO_UTC, GO_DURATION, E164)
"""A value of one of these in print is of the same in an answer."""


def printed_by(language: Language, output: str) -> Any:
    """What a snippet printed, as a value: curl prints JSON, Python a dict, node an object of JavaScript."""
    match language:
        case "curl":
            return json.loads(output)
        case "requests":
            return ast.literal_eval(output)
        case "fetch":
            return json5.loads(re.sub(r"\[Array\]", "[]", re.sub(r"\[Object\]", "{}", output)))


def differences(printed: Any, found: Any, at: str = "") -> Iterator[str]:
    """Where ``found`` has not the shape of ``printed``; it may have more keys. None in print: anything."""
    if isinstance(printed, dict):
        if not isinstance(found, dict):
            yield f"{at} is {found!r}, no object"
            return
        yield from (f"{at}.{key} is missing" for key in printed if key not in found)
        for key in printed.keys() & found.keys():
            yield from differences(printed[key], found[key], f"{at}.{key}")
    elif isinstance(printed, list):
        if not isinstance(found, list):
            yield f"{at} is {found!r}, no array"
            return
        for index, one in enumerate(found if printed else ()):
            yield from differences(printed[0], one, f"{at}[{index}]")
    elif printed is not None:
        yield from _different_values(printed, found, at)


def _different_values(printed: Any, found: Any, at: str) -> Iterator[str]:
    if isinstance(printed, float):
        if not isinstance(found, int | float) or isinstance(found, bool):
            yield f"{at} is {found!r}, no number"
    elif type(printed) is not type(found):
        yield f"{at} is {found!r}, printed is {printed!r}"
    elif isinstance(printed, str):
        yield from (
            f"{at} is {found!r}, printed is {printed!r}"
            for form in FORMATS
            if form.match(printed) and not form.match(found)
        )
    words = WORDS.get(at.rpartition(".")[2])
    if words is not None and found not in words:
        yield f"{at} is {found!r}, none of {sorted(words)}"


def assert_same_shape(printed: Any, found: Any, *, no_more: bool = False) -> None:
    """``no_more``: it has no key beyond those in print."""
    assert not list(differences(printed, found)), (list(differences(printed, found)), found)
    if no_more:
        assert printed.keys() == found.keys(), found


def in_their_words(transcript: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Without what GET adds of our own."""
    return [{name: turn[name] for name in ("speaker", "text", "timestamp")} for turn in transcript]
