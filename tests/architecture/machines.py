"""Draws docs/STATE_MACHINES.md from the tables themselves: `python -m tests.architecture.machines` writes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import TypeVar

from offhook.call.answering_machine import PICKUP
from offhook.call.states import CALL, LEG
from offhook.call.transfer import TRANSFER
from offhook.sip import refer_usage, transaction
from offhook.sip.registration import REGISTRATION
from offhook.sip.usage import USAGE

PAGE = Path(__file__).resolve().parents[2] / "docs" / "STATE_MACHINES.md"

INTRODUCTION = """# The state machines

Drawn from the tables in the code by `python -m tests.architecture.machines`; a test compares. An input that has no
arrow is absorbed and counted when it comes from the network, and raises when it comes from our own code.
"""

Rows = dict[tuple[object, object], object]
S = TypeVar("S")
I = TypeVar("I")  # noqa: E741  an input, beside S, a state


def page() -> str:
    """The whole page."""
    return INTRODUCTION + "".join(_section(title, where, _arrows(rows)) for title, where, rows in _machines())


def _machines() -> Iterable[tuple[str, str, Rows]]:
    yield "Call", "src/offhook/call/states.py", _rows(CALL)
    yield "Leg", "src/offhook/call/states.py", _rows(LEG)
    yield "Transfer", "src/offhook/call/transfer.py", _rows(TRANSFER)
    yield "Who picked up", "src/offhook/call/answering_machine.py", _rows(PICKUP)
    yield "Registration (RFC 3261 §10.2)", "src/offhook/sip/registration.py", _rows(REGISTRATION)
    yield "INVITE usage (RFC 3261 §13, §14, §15)", "src/offhook/sip/usage.py", _rows(USAGE)
    yield "REFER by us (RFC 3515 §2.4, RFC 6665 §4.1)", "src/offhook/sip/refer_usage.py", _rows(refer_usage.ASKED)
    yield (
        "REFER by the peer (RFC 3515 §2.4, RFC 6665 §4.2)",
        "src/offhook/sip/refer_usage.py",
        _rows(refer_usage.SERVED),
    )
    for title, machine in (
        ("INVITE client transaction (RFC 3261 §17.1.1, RFC 6026)", transaction.INVITE_CLIENT),
        ("Non-INVITE client transaction (RFC 3261 §17.1.2)", transaction.NON_INVITE_CLIENT),
        ("INVITE server transaction (RFC 3261 §17.2.1, RFC 6026)", transaction.INVITE_SERVER),
        ("Non-INVITE server transaction (RFC 3261 §17.2.2)", transaction.NON_INVITE_SERVER),
    ):
        yield title, "src/offhook/sip/transaction.py", {key: row.state for key, row in machine.rows.items()}


def _rows(table: Mapping[tuple[S, I], S]) -> Rows:
    return {(state, given): after for (state, given), after in table.items()}


def _arrows(rows: Rows) -> list[str]:
    """One arrow for each pair of states, with every input that takes it."""
    inputs: dict[tuple[str, str], list[str]] = {}
    for (state, given), after in rows.items():
        inputs.setdefault((_name(state), _name(after)), []).append(_label(given))
    return [f"    {before} --> {after}: {', '.join(given)}" for (before, after), given in inputs.items()]


def _section(title: str, where: str, arrows: list[str]) -> str:
    lines = ["", f"## {title}", "", f"Table: `{where}`", "", "```mermaid", "stateDiagram-v2", *arrows, "```", ""]
    return "\n".join(lines)


def _name(state: object) -> str:
    return state.name.lower() if isinstance(state, Enum) else str(state)


def _label(given: object) -> str:
    if isinstance(given, transaction.TimerName):
        return f"timer {given.name}"
    return _name(given).replace("_", " ")


if __name__ == "__main__":
    PAGE.write_text(page())
