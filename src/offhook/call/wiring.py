"""Makes a routing real: plugs legs, agents, players and taps together as the set of pairs says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from offhook.audio.convert import converter
from offhook.audio.g711 import silence
from offhook.audio.mix import Mixer
from offhook.call.agent_session import AgentSession
from offhook.call.hold_audio import RINGING_TONE, HoldAudio
from offhook.call.leg import Leg
from offhook.call.routing import (
    HOLD_AUDIO,
    RINGING,
    SILENCE,
    TOOL_AUDIO,
    Port,
    Routing,
    Seating,
    change,
    route,
    sources_of,
)
from offhook.media.session import MediaSession
from offhook.model.audio import AudioFormat

Tap = Callable[[bytes, bytes], None]
"""(frame as heard from the leg, frame as sent to it), every tick."""

Sink = Callable[[bytes], None]
Unplug = Callable[[], None]


class Wiring:
    """Knows every port by name. ``seat`` says what changed in the call's state; only what differs is plugged anew."""

    def __init__(self, hold_audio: HoldAudio, seating: Seating) -> None:
        self._hold_audio = hold_audio
        self._hold_name = ""
        self._tool_name = ""
        self._legs: dict[Port, Leg] = {}
        self._agents: dict[Port, AgentSession] = {}
        self._taps: dict[Port, Tap] = {}
        self._routing: Routing = frozenset()
        self._plugged: dict[tuple[Port, Port], Unplug] = {}
        self._mixers: dict[Port, Mixer] = {}
        self.seating = seating

    @property
    def routing(self) -> Routing:
        return self._routing

    def add_leg(self, port: Port, leg: Leg) -> None:
        self._legs[port] = leg

    def add_agent(self, port: Port, agent: AgentSession) -> None:
        self._agents[port] = agent

    def add_tap(self, port: Port, tap: Tap) -> None:
        self._taps[port] = tap

    def play_on_hold(self, name: str) -> None:
        """The hold audio from the next wait on."""
        self._hold_name = name

    def play_while_waiting(self, name: str) -> None:
        """To a caller for whom a tool runs, until it is called with ""."""
        if self.seating.tool_audio:
            self.seat(tool_audio=False)
        self._tool_name = name
        if name:
            self.seat(tool_audio=True)

    def replace_agent(self, port: Port, agent: AgentSession) -> None:
        """Another provider speaks in the agent's place, and hears what it heard."""
        self._agents[port] = agent
        self.follow(port)

    def seat(self, **changes: Any) -> None:
        """Change the seating, and who hears whom with it."""
        self.seating = replace(self.seating, **changes)
        self._apply(route(self.seating))

    def follow(self, port: Port) -> None:
        """The codec of that leg changed: what goes from and to it is plugged anew."""
        touched = {pair for pair in self._routing if port in pair}
        routing = self._routing
        self._apply(routing - touched)
        self._apply(routing)

    def clear(self) -> None:
        """Nobody hears anybody."""
        self._apply(frozenset())

    def _apply(self, routing: Routing) -> None:
        step = change(self._routing - self._heard_otherwise(routing), routing)
        for pair in self._routing - (routing - step.added):
            self._plugged.pop(pair, _nothing)()
        for pair in step.added:
            self._plugged[pair] = self._plug(*pair)
        self._routing = routing

    def _heard_otherwise(self, routing: Routing) -> Routing:
        """What leads to agents that hear one voice as it is now and several mixed then, or the other way round."""
        touched = set()
        for port, agent in self._agents.items():
            mixed = len(sources_of(port, routing)) > 1
            if mixed != (port in self._mixers):
                touched |= {pair for pair in self._routing if pair[1] == port}
                self._mixers.pop(port, None)
                if mixed:
                    self._mixers[port] = Mixer(agent.hear, agent.hearing)
        return frozenset(touched)

    def _plug(self, source: Port, sink: Port) -> Unplug:
        """Returns what undoes it."""
        if sink in self._taps:
            return _tap(self._legs[source].media, self._taps[sink])
        if sink in self._agents:
            return self._to_agent(source, self._agents[sink], self._mixers.get(sink))
        leg = self._legs[sink]
        if source in self._agents:
            return self._agents[source].speak_to(leg.media, leg.format)
        if source in (HOLD_AUDIO, RINGING, TOOL_AUDIO):
            name = {HOLD_AUDIO: self._hold_name, TOOL_AUDIO: self._tool_name}.get(source, RINGING_TONE)
            return _connect(leg.media, self._hold_audio.player(name, leg.format, leg.media).feed)
        other = self._legs[source]
        return _connect(other.media, _converted(other.format, leg.format, leg.media.relay))

    def _to_agent(self, source: Port, agent: AgentSession, mixer: Mixer | None) -> Unplug:
        if source == SILENCE:
            # The clock of the call's first leg ticks for an agent that nobody talks to.
            quiet = silence(agent.hearing)
            return _connect(self._legs[self.seating.caller].media, lambda _: agent.hear(quiet))
        leg = self._legs[source]
        if mixer is not None:
            return _mixed(leg, mixer)
        return _connect_at_once(leg.media, _converted(leg.format, agent.hearing, agent.hear))


def _connect(media: MediaSession, sink: Sink) -> Unplug:
    media.connect(sink)
    return lambda: media.disconnect(sink)


def _connect_at_once(media: MediaSession, sink: Sink) -> Unplug:
    """An agent had rather hear soon than evenly."""
    media.connect_at_once(sink)
    return lambda: media.disconnect_at_once(sink)


def _mixed(leg: Leg, mixer: Mixer) -> Unplug:
    voice = mixer.source(leg.format)
    leg.media.connect(voice)

    def unplug() -> None:
        leg.media.disconnect(voice)
        mixer.remove(voice)

    return unplug


def _tap(media: MediaSession, tap: Tap) -> Unplug:
    media.tap(tap)
    return lambda: media.untap(tap)


def _converted(source: AudioFormat, target: AudioFormat, sink: Sink) -> Sink:
    convert = converter(source, target)
    if convert is None:
        return sink
    return lambda frame: sink(convert(frame))


def _nothing() -> None:
    """What was never plugged needs no unplugging."""
