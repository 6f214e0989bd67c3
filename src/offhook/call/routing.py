"""Who hears whom: a frozen set of (source, sink), computed by a pure function of the call's state.

Names are ``leg:<leg_id>``, ``agent:<leg_id>`` (an agent is known by the leg it was engaged for), ``player:<name>`` and
``tap:<name>``. One source into a sink passes as the bytes it is; two or more are mixed (N-1: nobody hears himself).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import permutations
from typing import Literal, NewType, assert_never

Port = NewType("Port", str)
Routing = frozenset[tuple[Port, Port]]

HOLD_AUDIO = Port("player:hold")
TOOL_AUDIO = Port("player:tool")
"""What the caller hears while a tool of the agent's runs."""

RINGING = Port("player:ringing")
SILENCE = Port("player:silence")
"""What an agent hears that nobody talks to: providers close a connection that falls silent on the wire."""


def leg_port(leg_id: str) -> Port:
    return Port(f"leg:{leg_id}")


def agent_port(leg_id: str) -> Port:
    return Port(f"agent:{leg_id}")


def tap_port(name: str) -> Port:
    return Port(f"tap:{name}")


Stage = Literal[
    "talking",  # caller and agent
    "waiting",  # the caller hears the player, while somebody is called for him
    "early",  # the caller hears what the called side plays before it answers
    "briefing",  # the same, while an agent tells the operator what it is about
    "three_way",
    "handed_over",  # caller and operator; the agent is gone
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Seating:
    """A call's state, as far as it says who hears whom.

    ``rings``: the caller hears our ringing tone before the answer. ``up``: it was answered; before, what the agent
    says waits in the leg, and nobody is heard.
    ``away``: legs whose party put us on hold: it wants to say and hear nothing. What an agent was saying waits in its
    leg. ``briefer``: the agent at the operator's leg. ``tool_audio``: a tool runs that has audio for him who waits.
    """

    caller: Port
    agent: Port
    up: bool = False
    rings: bool = False
    stage: Stage = "talking"
    operator: Port | None = None
    briefer: Port | None = None
    tool_audio: bool = False
    away: frozenset[Port] = frozenset()
    taps: frozenset[Port] = frozenset()


def route(seating: Seating) -> Routing:
    """Everybody hears everybody else of his group; taps hear the caller's leg, both ways."""
    if not seating.up:
        ringing = {(RINGING, seating.caller)} if seating.rings else set()
        return frozenset({(seating.agent, seating.caller)} | ringing | _tapped(seating))
    pairs = {pair for group in _groups(seating) for pair in permutations(group, 2)}
    if seating.stage in ("waiting", "briefing"):
        pairs.add((HOLD_AUDIO, seating.caller))
    if seating.stage == "talking" and seating.tool_audio:
        pairs.add((TOOL_AUDIO, seating.caller))
    if seating.stage == "early" and seating.operator is not None:
        pairs.add((seating.operator, seating.caller))
    agents = _there(None if seating.stage == "handed_over" else seating.agent, seating.briefer)
    pairs = {pair for pair in pairs if _present(pair, seating, agents)}
    pairs |= {(SILENCE, agent) for agent in agents if not sources_of(agent, frozenset(pairs))}
    return frozenset(pairs | _tapped(seating))


def _tapped(seating: Seating) -> set[tuple[Port, Port]]:
    return {(seating.caller, tap) for tap in seating.taps}


def _groups(seating: Seating) -> Iterable[tuple[Port, ...]]:
    """Who talks with whom."""
    match seating.stage:
        case "talking":
            yield _there(seating.caller, seating.agent)
        case "waiting" | "early":
            return
        case "briefing":
            yield _there(seating.operator, seating.briefer)
        case "three_way":
            yield _there(seating.caller, seating.agent, seating.operator)
        case "handed_over":
            yield _there(seating.caller, seating.operator)
        case _:
            assert_never(seating.stage)


def _there(*ports: Port | None) -> tuple[Port, ...]:
    return tuple(port for port in ports if port is not None)


def _present(pair: tuple[Port, Port], seating: Seating, agents: tuple[Port, ...]) -> bool:
    """What an agent says to a leg that is away waits there; what that leg plays instead, its partner may hear."""
    source, sink = pair
    heard = source not in seating.away or seating.stage == "handed_over"
    return heard and (sink not in seating.away or source in agents)


def sources_of(sink: Port, routing: Routing) -> frozenset[Port]:
    return frozenset(source for source, target in routing if target == sink)


@dataclass(frozen=True, kw_only=True, slots=True)
class RoutingChange:
    """What to unplug and what to plug in, to get from one routing to the next without touching the rest."""

    removed: Routing
    added: Routing


def change(before: Routing, after: Routing) -> RoutingChange:
    return RoutingChange(removed=before - after, added=after - before)
