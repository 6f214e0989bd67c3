"""How a value should have been written that msgspec refused: the hint of an error, wherever the value stood."""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

TOOL_NAME = r"^[A-Za-z0-9_-]{1,64}$"
"""What every provider takes as the name of a function."""

_WRITTEN = {
    "int": "a whole number, without quotes",
    "float": "a number, without quotes",
    "bool": "true or false, without quotes",
    "str": "a text in quotes",
    "array": "a list: […]",
    "object": "an object: {…}",
}
"""JSON for what msgspec expects."""

_PATTERNS = {TOOL_NAME: "1 to 64 letters, digits, _ and -"}


def how_written(message: str) -> str:
    """What to write, after msgspec's ``message``; "" where it says that itself."""
    expected = re.match(r"Expected `(\w+)[^`]*`, got", message)
    pattern = re.search(r" matching regex '(.*?)'(?: - at |$)", message)
    if pattern:
        return _PATTERNS.get(pattern[1], "")
    return _WRITTEN.get(expected[1], "") if expected else ""


def choices(kind: Any, path: str) -> str:
    """The words that a value may be, comma-separated, at msgspec's ``path`` (``$.turn_detection.type``) inside of a
    value of the type ``kind``; "" where it may be others.
    """
    hints: list[Any] = [kind]
    for name in re.findall(r"[A-Za-z_]\w*", path):
        fields = [get_type_hints(one, include_extras=True) for hint in hints for one in _structs(hint)]
        hints = [field[name] for field in fields if name in field]
    words = (
        str(word) for hint in hints for one in _parts(hint) if get_origin(one) is Literal for word in get_args(one)
    )
    return ", ".join(dict.fromkeys(word for word in words if word))


def _structs(hint: Any) -> Iterator[Any]:
    return (one for one in _parts(hint) if isinstance(one, type) and issubclass(one, msgspec.Struct))


def _parts(hint: Any) -> Iterator[Any]:
    """The types that a union, a list or an annotation is made of."""
    origin = get_origin(hint)
    if origin is Annotated:
        yield from _parts(get_args(hint)[0])
    elif origin in (Union, UnionType, tuple, list):
        for one in get_args(hint):
            yield from _parts(one)
    else:
        yield hint
