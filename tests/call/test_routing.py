"""Who hears whom, for every stage of a call."""

from __future__ import annotations

from dataclasses import replace

from offhook.call.routing import (
    HOLD_AUDIO,
    RINGING,
    SILENCE,
    Port,
    Seating,
    Stage,
    agent_port,
    change,
    leg_port,
    route,
    sources_of,
    tap_port,
)

CALLER, OPERATOR = leg_port("leg-1"), leg_port("leg-2")
AGENT, BRIEFER = agent_port("leg-1"), agent_port("leg-2")
RECORDER = tap_port("recorder")
UP = Seating(caller=CALLER, agent=AGENT, up=True)


def seated(stage: Stage, *, away: Port | None = None) -> Seating:
    briefer = BRIEFER if stage == "briefing" else None
    absent = frozenset() if away is None else frozenset({away})
    return replace(UP, stage=stage, operator=OPERATOR, briefer=briefer, away=absent)


def test_before_the_answer_an_agent_speaks_into_the_leg_and_nobody_is_heard() -> None:
    assert route(Seating(caller=CALLER, agent=AGENT)) == {(AGENT, CALLER)}


def test_a_caller_may_hear_us_ring() -> None:
    assert route(Seating(caller=CALLER, agent=AGENT, rings=True)) == {(AGENT, CALLER), (RINGING, CALLER)}


def test_caller_and_agent_hear_each_other() -> None:
    assert route(UP) == {(CALLER, AGENT), (AGENT, CALLER)}


def test_who_waits_hears_the_player_and_the_agent_hears_silence() -> None:
    assert route(seated("waiting")) == {(HOLD_AUDIO, CALLER), (SILENCE, AGENT)}


def test_early_media_of_the_called_side_is_heard_and_nothing_is_said_to_it() -> None:
    assert route(seated("early")) == {(OPERATOR, CALLER), (SILENCE, AGENT)}


def test_the_briefing_is_not_heard_by_the_caller() -> None:
    assert route(seated("briefing")) == {
        (HOLD_AUDIO, CALLER),
        (OPERATOR, BRIEFER),
        (BRIEFER, OPERATOR),
        (SILENCE, AGENT),
    }


def test_three_hear_each_other_and_nobody_himself() -> None:
    routing = route(seated("three_way"))
    assert sources_of(CALLER, routing) == {AGENT, OPERATOR}
    assert sources_of(AGENT, routing) == {CALLER, OPERATOR}
    assert sources_of(OPERATOR, routing) == {CALLER, AGENT}


def test_after_the_hand_over_the_agent_is_gone() -> None:
    assert route(seated("handed_over")) == {(CALLER, OPERATOR), (OPERATOR, CALLER)}


def test_who_put_us_on_hold_is_neither_heard_nor_relayed_to() -> None:
    assert route(replace(UP, away=frozenset({CALLER}))) == {(SILENCE, AGENT), (AGENT, CALLER)}
    assert route(seated("handed_over", away=OPERATOR)) == {(OPERATOR, CALLER)}  # its music on hold
    assert route(seated("waiting", away=CALLER)) == {(SILENCE, AGENT)}
    assert route(seated("three_way", away=OPERATOR)) == {
        (CALLER, AGENT),
        (AGENT, CALLER),
        (AGENT, OPERATOR),
    }


def test_a_tap_stays_with_the_caller_whatever_happens() -> None:
    for stage in ("talking", "waiting", "briefing", "three_way", "handed_over"):
        seating = replace(seated(stage, away=CALLER), taps=frozenset({RECORDER}))
        assert (CALLER, RECORDER) in route(seating)


def test_a_change_touches_only_what_differs() -> None:
    step = change(route(UP), route(seated("three_way")))
    assert step.removed == frozenset()
    assert (CALLER, AGENT) not in step.added
