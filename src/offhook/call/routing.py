"""Who hears whom: a frozen set of (source, sink), computed by a pure function of the call's state.

Names are ``leg:<leg_id>``, ``agent:<agent_id>``, ``player:<name>`` and ``tap:<name>``. One source into a sink
passes as the bytes it is; two or more are mixed (N-1: nobody hears himself).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NewType

Port = NewType("Port", str)
Routing = frozenset[tuple[Port, Port]]

HOLD_AUDIO = Port("player:hold")


def leg_port(leg_id: str) -> Port:
    return Port(f"leg:{leg_id}")


def agent_port(agent_id: str) -> Port:
    return Port(f"agent:{agent_id}")


def tap_port(name: str) -> Port:
    return Port(f"tap:{name}")


@dataclass(frozen=True, kw_only=True, slots=True)
class RoutedLeg:
    """A leg as routing sees it: talking, or put on hold by us (it hears the hold player)."""

    port: Port
    talking: bool = True


def route(legs: Iterable[RoutedLeg], agents: Iterable[Port], taps: Iterable[Port] = ()) -> Routing:
    """Everybody who talks hears everybody else who talks; held legs hear the player; taps hear all.

    Caller and agent: caller↔agent. Handed over (no agents, two legs): leg↔leg. Three-way: all.
    """
    legs = tuple(legs)
    talking = [leg.port for leg in legs if leg.talking]
    agents = tuple(agents)
    voices = [*talking, *agents]
    pairs = {(source, sink) for source in talking for sink in agents}
    pairs |= {(source, sink) for source in voices for sink in talking if source != sink}
    pairs |= {(HOLD_AUDIO, leg.port) for leg in legs if not leg.talking}
    pairs |= {(source, tap) for source in voices for tap in taps}
    return frozenset(pairs)


def sources_of(sink: Port, routing: Routing) -> frozenset[Port]:
    return frozenset(source for source, target in routing if target == sink)


@dataclass(frozen=True, kw_only=True, slots=True)
class RoutingChange:
    """What to unplug and what to plug in, to get from one routing to the next without touching the rest."""

    removed: Routing
    added: Routing


def change(before: Routing, after: Routing) -> RoutingChange:
    return RoutingChange(removed=before - after, added=after - before)
