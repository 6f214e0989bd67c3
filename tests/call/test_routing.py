"""Who hears whom, in every shape a call takes."""

from __future__ import annotations

from offhook.call.routing import HOLD_AUDIO, RoutedLeg, agent_port, change, leg_port, route, sources_of, tap_port

CALLER, OPERATOR, AGENT, RECORDER = leg_port("1"), leg_port("2"), agent_port("a"), tap_port("recorder")


def leg(port: str, *, talking: bool = True) -> RoutedLeg:
    return RoutedLeg(port=CALLER if port == CALLER else OPERATOR, talking=talking)


def test_ordinary_caller_and_agent_hear_each_other() -> None:
    assert route([leg(CALLER)], [AGENT]) == {(CALLER, AGENT), (AGENT, CALLER)}


def test_a_tap_hears_everybody() -> None:
    assert sources_of(RECORDER, route([leg(CALLER)], [AGENT], [RECORDER])) == {CALLER, AGENT}


def test_hold_gives_the_caller_the_player_and_nobody_hears_him() -> None:
    assert route([leg(CALLER, talking=False)], [AGENT]) == {(HOLD_AUDIO, CALLER)}


def test_briefing_keeps_the_caller_on_hold() -> None:
    routing = route([leg(CALLER, talking=False), leg(OPERATOR)], [AGENT])
    assert routing == {(HOLD_AUDIO, CALLER), (OPERATOR, AGENT), (AGENT, OPERATOR)}


def test_three_way_nobody_hears_himself() -> None:
    routing = route([leg(CALLER), leg(OPERATOR)], [AGENT])
    assert sources_of(CALLER, routing) == {OPERATOR, AGENT}
    assert sources_of(OPERATOR, routing) == {CALLER, AGENT}
    assert sources_of(AGENT, routing) == {CALLER, OPERATOR}


def test_handed_over_the_legs_hear_each_other() -> None:
    assert route([leg(CALLER), leg(OPERATOR)], []) == {(CALLER, OPERATOR), (OPERATOR, CALLER)}


def test_a_change_touches_only_what_differs() -> None:
    before = route([leg(CALLER)], [AGENT])
    after = route([leg(CALLER)], [AGENT], [RECORDER])
    step = change(before, after)
    assert (step.removed, step.added) == (frozenset(), after - before)
