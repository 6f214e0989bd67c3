"""The tables themselves: complete, closed, and with the RFC's timers."""

from __future__ import annotations

import pytest

from offhook.sip.transaction import (
    INVITE_CLIENT,
    INVITE_SERVER,
    NON_INVITE_CLIENT,
    NON_INVITE_SERVER,
    TIMER_RULES,
    Action,
    Input,
    Machine,
    State,
    TimerName,
    input_of,
)

MACHINES = {
    "INVITE client": INVITE_CLIENT,
    "non-INVITE client": NON_INVITE_CLIENT,
    "INVITE server": INVITE_SERVER,
    "non-INVITE server": NON_INVITE_SERVER,
}


@pytest.fixture(params=list(MACHINES.values()), ids=list(MACHINES))
def machine(request: pytest.FixtureRequest) -> Machine:
    assert isinstance(request.param, Machine)
    return request.param


def test_every_state_can_be_reached_and_left_for_the_end(machine: Machine) -> None:
    leads_to: dict[State, set[State]] = {}
    for (state, _), row in machine.rows.items():
        leads_to.setdefault(state, set()).add(row.state)
    states = {machine.initial}
    while new := {after for state in states for after in leads_to.get(state, set())} - states:
        states |= new
    assert set(leads_to) | {State.TERMINATED} == states
    for start in leads_to:
        reached = {start}
        while new := {after for state in reached for after in leads_to.get(state, set())} - reached:
            reached |= new
        assert State.TERMINATED in reached, start


def test_a_timer_that_runs_in_a_state_has_a_row_there_and_the_other_way_round(machine: Machine) -> None:
    running = {(state, timer) for state, timers in machine.timers.items() for timer in timers}
    handled = {key for key in machine.rows if isinstance(key[1], TimerName)}
    assert running == handled


def test_only_the_retransmission_timer_is_restarted(machine: Machine) -> None:
    restarted = {
        given for (_, given), row in machine.rows.items() if {Action.AGAIN, Action.AGAIN_AT_T2} & set(row.actions)
    }
    assert restarted == ({machine.retransmits} if machine.retransmits else set())


def test_no_final_response_leaves_a_machine_without_an_end_in_sight(machine: Machine) -> None:
    for (_, given), row in machine.rows.items():
        if given in (Input.SUCCESS, Input.FAILURE):
            assert machine.timers[row.state], row.state


@pytest.mark.parametrize(
    ("name", "unreliable_s", "reliable_s", "ceiling_s"),
    [
        (TimerName.A, 0.5, None, 32.0),
        (TimerName.B, 32.0, 32.0, 32.0),
        (TimerName.D, 32.0, 0.0, 32.0),
        (TimerName.E, 0.5, None, 4.0),
        (TimerName.F, 32.0, 32.0, 32.0),
        (TimerName.G, 0.5, None, 4.0),
        (TimerName.H, 32.0, 32.0, 32.0),
        (TimerName.I, 5.0, 0.0, 32.0),
        (TimerName.J, 32.0, 0.0, 32.0),
        (TimerName.K, 5.0, 0.0, 32.0),
        (TimerName.L, 32.0, 32.0, 32.0),
        (TimerName.M, 32.0, 32.0, 32.0),
    ],
)
def test_the_timers_are_those_of_table_4(
    name: TimerName, unreliable_s: float, reliable_s: float | None, ceiling_s: float
) -> None:
    rule = TIMER_RULES[name]
    assert (rule.unreliable_s, rule.reliable_s, rule.ceiling_s) == (unreliable_s, reliable_s, ceiling_s)


def test_every_timer_has_a_rule() -> None:
    assert set(TIMER_RULES) == set(TimerName)


@pytest.mark.parametrize(
    ("status", "given"),
    [
        (100, Input.PROVISIONAL),
        (199, Input.PROVISIONAL),
        (200, Input.SUCCESS),
        (299, Input.SUCCESS),
        (300, Input.FAILURE),
        (699, Input.FAILURE),
    ],
)
def test_a_status_is_an_input(status: int, given: Input) -> None:
    assert input_of(status) is given
