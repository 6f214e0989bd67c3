"""A tool's arguments, held against its JSON Schema. No schema makes us fetch anything, and patterns match in linear
time: schemas are their writers'."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import jsonschema_rs
import msgspec

MOST_SCHEMAS = 512
"""Compiled and kept, a few KB each; a server with more tools than that compiles some again, in a millisecond."""

MOST_PROBLEMS = 5
"""A model mends what it is told of; more than that it does not read."""

LONGEST_PROBLEM = 300
"""Characters: a problem quotes the value, which may be long."""


def schema_problem(parameters: str) -> str:
    """Why this JSON text is no JSON Schema that can be used; "" where it is one."""
    try:
        _validator(parameters)
    except (ValueError, msgspec.DecodeError) as error:
        return str(error).partition("\n")[0]
    return ""


def arguments_problem(parameters: str, arguments: Any) -> str:
    """Path and problem of each argument that the schema does not take; "" where it takes all of them.

    A schema that cannot be used takes anything: its tool's own server judges.
    """
    try:
        validator = _validator(parameters)
    except (ValueError, msgspec.DecodeError):
        return ""
    problems = list[str]()
    for error in validator.iter_errors(arguments):
        path = ".".join(str(part) for part in error.instance_path)
        message = error.message[:LONGEST_PROBLEM]
        problems.append(f"{path}: {message}" if path else message)
        if len(problems) == MOST_PROBLEMS:
            break
    return "; ".join(problems)


@lru_cache(maxsize=MOST_SCHEMAS)
def _validator(parameters: str) -> jsonschema_rs.Validator:
    schema = msgspec.json.decode(parameters or "{}")
    return jsonschema_rs.validator_for(schema, offline=True, pattern_options=jsonschema_rs.RegexOptions())
