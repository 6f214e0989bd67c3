"""Arguments of tools are held against their schemas; no schema reaches outside, or takes long."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.model.tool_schema import MOST_PROBLEMS, arguments_problem, schema_problem

TABLE = json.dumps(
    {
        "type": "object",
        "properties": {
            "people": {"type": "integer", "minimum": 1},
            "guests": {"type": "array", "items": {"type": "object", "required": ["name"]}},
            "city": {"enum": ["Ulm", "Bonn"]},
        },
        "required": ["people"],
        "additionalProperties": False,
    }
)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"people": 2}, ""),
        ({}, '"people" is a required property'),
        ({"people": "two"}, 'people: "two" is not of type "integer"'),
        ({"people": 2, "guests": [{"name": "Ada"}, {}]}, 'guests.1: "name" is a required property'),
        ({"people": 2, "city": "Rome"}, "city: "),
        ({"people": 2, "more": 1}, "Additional properties are not allowed"),
        ({"people": 0, "city": "Rome"}, "people: 0 is less than the minimum of 1; city: "),
    ],
)
def test_path_and_problem_are_named(arguments: Any, problem: str) -> None:
    found = arguments_problem(TABLE, arguments)
    assert found.startswith(problem)
    assert bool(found) == bool(problem)


@pytest.mark.parametrize(
    "schema",
    [
        "{",
        '{"type": "nothing"}',
        '{"$ref": "http://127.0.0.1:9/schema"}',
        '{"$ref": "file:///etc/passwd"}',
        '{"properties": {"a": {"pattern": "(?=a)b"}}}',
        "5",
    ],
)
def test_a_schema_that_cannot_be_used_is_named_and_takes_anything(schema: str) -> None:
    assert schema_problem(schema)
    assert "\n" not in schema_problem(schema)
    assert arguments_problem(schema, {"a": 1}) == ""


def test_no_pattern_takes_long() -> None:
    schema = '{"properties": {"a": {"pattern": "^(a+)+$"}}}'
    assert schema_problem(schema) == ""
    began = time.monotonic()
    assert arguments_problem(schema, {"a": "a" * 5000 + "b"})
    assert time.monotonic() - began < 0.5


def test_a_model_is_not_told_everything() -> None:
    schema = '{"additionalProperties": {"type": "integer"}}'
    found = arguments_problem(schema, {f"k{n}": "x" * 10_000 for n in range(50)})
    assert found.count("; ") == MOST_PROBLEMS - 1
    assert len(found) < 2_000


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(arguments=JSON)
def test_whatever_a_model_gives_is_judged(arguments: Any) -> None:
    assert isinstance(arguments_problem(TABLE, arguments), str)


@given(schema=st.text() | JSON.map(json.dumps))
def test_whatever_a_schema_is_it_is_judged(schema: str) -> None:
    assert isinstance(schema_problem(schema), str)
    arguments_problem(schema, {"a": 1})
