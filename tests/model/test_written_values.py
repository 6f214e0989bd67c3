"""What the fix of an error says about values of the wrong type."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
import pytest

from offhook.model.written_values import TOOL_NAME, choices, how_written


class Inner(msgspec.Struct):
    kind: Literal["", "small", "large"] = ""


class Outer(msgspec.Struct):
    number: int | None = None
    share: float = 0.0
    on: bool = False
    text: str = ""
    name: Annotated[str, msgspec.Meta(pattern=TOOL_NAME)] = "a"
    items: tuple[Inner, ...] = ()
    one: Inner | None = None


def refusal(document: dict[str, Any]) -> str:
    with pytest.raises(msgspec.ValidationError) as refused:
        msgspec.convert(document, Outer)
    return str(refused.value)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"number": "5"}, "a whole number, without quotes"),
        ({"share": "5"}, "a number, without quotes"),
        ({"on": "yes"}, "true or false, without quotes"),
        ({"text": 5}, "a text in quotes"),
        ({"items": {}}, "a list: […]"),
        ({"one": []}, "an object: {…}"),
        ({"name": "look up"}, "1 to 64 letters, digits, _ and -"),
        ({"one": {"kind": "huge"}}, ""),
    ],
)
def test_the_way_to_write_it_is_named(document: dict[str, Any], said: str) -> None:
    assert how_written(refusal(document)) == said


@pytest.mark.parametrize(("path", "words"), [("$.one.kind", "small, large"), ("$.items[0].kind", "small, large")])
def test_the_words_that_may_stand_there_are_listed(path: str, words: str) -> None:
    assert choices(Outer, path) == words


@pytest.mark.parametrize("path", ["", "$", "$.text", "$.nothing.kind", "$.number"])
def test_where_any_value_may_stand_there_is_no_list(path: str) -> None:
    assert choices(Outer, path) == ""
