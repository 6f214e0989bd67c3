"""The CALL and LEG state machines, as data. docs/STATE_MACHINES.md is drawn from them; a test compares.

An input without a row: from the network it is absorbed and counted (``absorbed``), from our own code it raises.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, Literal, TypeVar

from offhook.model.call_events import CallPhase
from offhook.model.errors import LocalProtocolError

CallInput = Literal["resolve", "restore", "ring", "answer", "end", "legs_gone"]

CALL: Mapping[tuple[CallPhase, CallInput], CallPhase] = {
    ("arrived", "resolve"): "resolving",
    ("arrived", "restore"): "up",  # answered elsewhere: it goes on here
    ("arrived", "end"): "ending",
    ("resolving", "ring"): "ringing",
    ("resolving", "answer"): "up",
    ("resolving", "end"): "ending",
    ("ringing", "ring"): "ringing",
    ("ringing", "answer"): "up",
    ("ringing", "end"): "ending",
    ("up", "end"): "ending",
    ("ending", "legs_gone"): "ended",
}

LegState = Literal["incoming", "dialing", "ringing", "early", "up", "held", "ending", "ended"]
LegInput = Literal["provisional", "early_media", "answer", "hold", "resume", "hang_up", "gone"]

LEG: Mapping[tuple[LegState, LegInput], LegState] = {
    ("incoming", "provisional"): "ringing",
    ("incoming", "answer"): "up",
    ("incoming", "hang_up"): "ending",
    ("incoming", "gone"): "ended",
    ("dialing", "provisional"): "ringing",
    ("dialing", "early_media"): "early",
    ("dialing", "answer"): "up",
    ("dialing", "hang_up"): "ending",
    ("dialing", "gone"): "ended",
    ("ringing", "provisional"): "ringing",
    ("ringing", "early_media"): "early",
    ("ringing", "answer"): "up",
    ("ringing", "hang_up"): "ending",
    ("ringing", "gone"): "ended",
    ("early", "provisional"): "early",
    ("early", "early_media"): "early",
    ("early", "answer"): "up",
    ("early", "hang_up"): "ending",
    ("early", "gone"): "ended",
    ("up", "hold"): "held",
    ("up", "resume"): "up",
    ("up", "hang_up"): "ending",
    ("up", "gone"): "ended",
    ("held", "hold"): "held",
    ("held", "resume"): "up",
    ("held", "hang_up"): "ending",
    ("held", "gone"): "ended",
    ("ending", "gone"): "ended",
}

S = TypeVar("S", bound=str)
I = TypeVar("I", bound=str)  # noqa: E741  an input, beside S, a state


class Machine(Generic[S, I]):
    """A state with its table. ``absorbed`` counts network inputs that had no row."""

    def __init__(self, name: str, table: Mapping[tuple[S, I], S], state: S) -> None:
        self._name = name
        self._table = table
        self.state = state
        self.absorbed = 0

    def command(self, given: I) -> S:
        """Our own input. Raises ``LocalProtocolError`` when the table has no row for it."""
        if (self.state, given) not in self._table:
            raise LocalProtocolError(f"{self._name}: {given!r} has no row in state {self.state!r}")
        return self._move(given)

    def observe(self, given: I) -> bool:
        """The network's input; False, counted, when the table has no row for it."""
        if (self.state, given) not in self._table:
            self.absorbed += 1
            return False
        self._move(given)
        return True

    def _move(self, given: I) -> S:
        self.state = self._table[self.state, given]
        return self.state


def call_machine() -> Machine[CallPhase, CallInput]:
    return Machine("call", CALL, "arrived")


def leg_machine(state: LegState) -> Machine[LegState, LegInput]:
    return Machine("leg", LEG, state)
