"""The CALL and LEG tables."""

from __future__ import annotations

import pytest

from offhook.call.states import CALL, LEG, call_machine, leg_machine
from offhook.model.errors import LocalProtocolError


def test_an_answered_call_passes_through_its_phases() -> None:
    call = call_machine()
    assert [call.command(given) for given in ("resolve", "ring", "answer", "end", "legs_gone")] == [
        "resolving",
        "ringing",
        "up",
        "ending",
        "ended",
    ]


def test_our_own_input_without_a_row_raises() -> None:
    with pytest.raises(LocalProtocolError, match="'answer' has no row in state 'arrived'"):
        call_machine().command("answer")


def test_the_networks_input_without_a_row_is_absorbed_and_counted() -> None:
    leg = leg_machine("ended")
    assert not leg.observe("provisional")
    assert (leg.state, leg.absorbed) == ("ended", 1)


def test_every_state_of_both_tables_reaches_the_end() -> None:
    for table, end in ((CALL, "ended"), (LEG, "ended")):
        reaches = {end}
        for _ in table:
            reaches |= {state for (state, _), after in table.items() if after in reaches}
        assert {state for state, _ in table} <= reaches


def test_a_call_that_ended_takes_nothing_more() -> None:
    assert not [given for state, given in CALL if state == "ended"]
    assert not [given for state, given in LEG if state == "ended"]
