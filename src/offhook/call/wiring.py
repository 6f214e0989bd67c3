"""Makes a routing real: plugs legs, agents and taps together as the set of pairs says."""

from __future__ import annotations

from collections.abc import Callable

from offhook.call.agent_session import AgentSession
from offhook.call.leg import Leg
from offhook.call.routing import Port, Routing, change

Tap = Callable[[bytes, bytes], None]
"""(frame as heard from the leg, frame as sent to it), every tick."""


class Wiring:
    """Knows every port by name; ``apply`` changes only what differs from the routing before."""

    def __init__(self) -> None:
        self._legs: dict[Port, Leg] = {}
        self._agents: dict[Port, AgentSession] = {}
        self._taps: dict[Port, Tap] = {}
        self._routing: Routing = frozenset()

    @property
    def routing(self) -> Routing:
        return self._routing

    def add_leg(self, port: Port, leg: Leg) -> None:
        self._legs[port] = leg

    def add_agent(self, port: Port, agent: AgentSession) -> None:
        self._agents[port] = agent

    def add_tap(self, port: Port, tap: Tap) -> None:
        self._taps[port] = tap

    def apply(self, routing: Routing) -> None:
        step = change(self._routing, routing)
        for source, sink in step.removed:
            self._unplug(source, sink)
        for source, sink in step.added:
            self._plug(source, sink)
        self._routing = routing

    def _plug(self, source: Port, sink: Port) -> None:
        if source in self._legs and sink in self._agents:
            self._legs[source].media.connect(self._agents[sink].hear)
        elif source in self._legs and sink in self._legs:
            self._legs[source].media.connect(self._legs[sink].media.relay)
        elif source in self._agents and sink in self._legs:
            self._agents[source].outputs.append(self._legs[sink].media)
        elif source in self._legs and sink in self._taps:
            self._legs[source].media.tap(self._taps[sink])
        # an agent into a tap needs no plug of its own: a tap gets both directions of the leg, as really sent

    def _unplug(self, source: Port, sink: Port) -> None:
        if source in self._legs and sink in self._agents:
            self._legs[source].media.disconnect(self._agents[sink].hear)
        elif source in self._legs and sink in self._legs:
            self._legs[source].media.disconnect(self._legs[sink].media.relay)
        elif source in self._agents and sink in self._legs:
            self._agents[source].outputs.remove(self._legs[sink].media)
        elif source in self._legs and sink in self._taps:
            self._legs[source].media.untap(self._taps[sink])
