"""What is decided of a transfer: its table, its steps, its outcomes."""

from __future__ import annotations

import pytest

from offhook.call.dial import NotReached
from offhook.call.leg import Abilities
from offhook.call.transfer import (
    TRANSFER,
    TransferInput,
    first_step,
    mode_of,
    next_step,
    outcome_of,
    outcome_of_call,
    outcome_of_refer,
    say_outcome,
    transfer_machine,
)
from offhook.model.call_events import TransferMode, TransferOutcome
from offhook.model.records import TransferDestination

ABLE = Abilities(refer=True, replaces=True)
UNKNOWN = Abilities(refer=None, replaces=False)
UNABLE = Abilities(refer=False, replaces=False)


def to_sales(mode: TransferMode, *, fallback: bool = True) -> TransferDestination:
    return TransferDestination(name="sales", target="200", mode=mode, fallback=fallback)


def test_every_state_leads_to_an_end() -> None:
    """A transfer ends in a known state, whatever comes: from each state the table leads to ``over``."""
    leads_to_over = {"over"}
    while True:
        more = {state for (state, _), after in TRANSFER.items() if after in leads_to_over} - leads_to_over
        if not more:
            break
        leads_to_over |= more
    assert {state for state, _ in TRANSFER} <= leads_to_over


def test_a_caller_may_hang_up_in_every_state() -> None:
    states = {state for state, _ in TRANSFER}
    assert {state for state, given in TRANSFER if given == "caller_gone"} == states - {"parting"}


@pytest.mark.parametrize(
    ("destination", "abilities", "step"),
    [
        (to_sales("blind"), ABLE, "refer"),
        (to_sales("blind"), UNKNOWN, "refer"),
        (to_sales("blind"), UNABLE, "dial"),
        (to_sales("blind", fallback=False), UNABLE, "refer"),
        (to_sales("attended"), ABLE, "dial"),
        (to_sales("bridge"), ABLE, "dial"),
        (to_sales("warm"), ABLE, "dial"),
    ],
)
def test_the_first_step(destination: TransferDestination, abilities: Abilities, step: str) -> None:
    assert first_step(destination, abilities) == step


@pytest.mark.parametrize(
    ("mode", "abilities", "step"),
    [
        ("attended", ABLE, "replace"),
        ("attended", UNKNOWN, "hand_over"),  # it would ask for a second call to the target (baresip 1)
        ("attended", UNABLE, "hand_over"),
        ("bridge", ABLE, "hand_over"),
        ("blind", UNABLE, "hand_over"),
        ("warm", ABLE, "brief"),
    ],
)
def test_the_step_after_the_target_picked_up(mode: TransferMode, abilities: Abilities, step: str) -> None:
    assert next_step(to_sales(mode), abilities) == step


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, "connected"),
        (202, "connected"),
        (486, "busy"),
        (600, "busy"),
        (408, "no_answer"),
        (480, "no_answer"),
        (487, "no_answer"),
        (603, "refused"),
        (403, "refused"),
        (404, "failed"),
        (302, "failed"),
        (503, "failed"),
        (None, "failed"),
    ],
)
def test_what_a_status_means(status: int | None, outcome: TransferOutcome) -> None:
    assert outcome_of(status) == outcome


def test_nobody_answering_our_own_call_is_no_failure() -> None:
    assert outcome_of_call(NotReached(cause="no_answer")) == "no_answer"
    assert outcome_of_call(NotReached(cause="unreachable")) == "failed"
    assert outcome_of_call(NotReached(cause="refused", status=486)) == "busy"


def test_a_blind_transfer_that_we_made_ourselves_was_a_bridge() -> None:
    path: tuple[TransferInput, ...] = ("refer", "fall_back", "hand_over")
    machine = transfer_machine()
    for given in path:
        machine.command(given)
    assert mode_of(machine.state, to_sales("blind")) == "bridge"
    assert mode_of("referred", to_sales("blind")) == "blind"
    assert mode_of("handed_over", to_sales("attended")) == "bridge"
    assert mode_of("handed_over", to_sales("warm")) == "warm"


def test_an_agent_is_told_in_words() -> None:
    assert say_outcome("busy", "sales", "Busy Here") == "transfer to sales: the line is busy (Busy Here)"
    assert say_outcome("no_answer", "sales", "") == "transfer to sales: nobody answered"


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(603, "refused"), (405, "refused"), (407, "refused"), (408, "failed"), (481, "failed"), (500, "failed")],
)
def test_a_side_that_refuses_refer_is_told_from_one_that_was_not_reached(status: int, outcome: str) -> None:
    assert outcome_of_refer(status) == outcome
    assert outcome_of_refer(None) == "failed"
