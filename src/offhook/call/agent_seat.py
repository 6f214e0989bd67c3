"""The agent's place in a call: whichever provider speaks there, from its opening to its end, and who follows it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from offhook.bridge.codec import (
    Begin,
    BridgeEvent,
    BridgeFault,
    BridgeInput,
    ResponseDone,
    ResponseStarted,
    TextInput,
    Utterance,
)
from offhook.call.agent_session import READY_DEADLINE_S, AgentSession
from offhook.call.controls import CallControls
from offhook.call.failover import (
    RECONNECTING_S,
    REPLACED_IN_S,
    REPLACING_S,
    Failover,
    Reassurance,
    reconnected,
    taking_over,
)
from offhook.call.inbox import NO_PROVIDER, AgentFact, AgentFailed, AgentReady
from offhook.call.instructions import instructed
from offhook.call.leg import Leg
from offhook.call.tool_specs import offered_tools
from offhook.model.call_events import CallFact, ProviderFailed, ProviderReplaced, TurnSpoken
from offhook.model.errors import BridgeError
from offhook.model.records import Agent

MAX_HISTORY = 400
"""Utterances that another provider is told of: an hour of talk, and all that a model takes."""


class SeatOwner(Protocol):
    """The conduct, as the agent's seat needs it."""

    @property
    def is_answered(self) -> bool:
        """Somebody can hear us."""
        ...

    @property
    def unfinished(self) -> tuple[str, ...]:
        """What the agent is being heard to say."""
        ...

    def record(self, fact: CallFact) -> None: ...

    def seated(self, session: AgentSession) -> None:
        """Another provider hears and speaks from here on."""
        ...

    def failed(self) -> None:
        """The provider is gone: ``fall_back`` is to be called as soon as somebody needs one."""
        ...

    def play_recorded(self, audio: str, then: Callable[[], None]) -> None:
        """The WAV file of that path, "" for a shipped one."""
        ...

    def reassure(self) -> None:
        """The caller hears nothing, and should."""
        ...

    def give_up(self, problem: str, *, apologise: bool) -> None: ...


class AgentSeat:
    """``session``: who sits there now. ``key``: how the agent's facts are told from another agent's.

    ``resumed``: the talk began in another process.
    """

    def __init__(
        self, call: CallControls, leg: Leg, agent: Agent, key: str, owner: SeatOwner, *, resumed: bool
    ) -> None:
        """Raises ``BridgeError`` where neither the agent's provider nor another one can be had."""
        self._call = call
        self._leg = leg
        self._key = key
        self._owner = owner
        self._resumed = resumed
        self._said: deque[Utterance] = deque(maxlen=MAX_HISTORY)
        self._number = 0
        self._retired: list[AgentSession] = []
        self._may_begin = False
        self._instead: tuple[BridgeInput, ...] | None = None
        self._waits_to_open = False
        self._ready = False
        self._began = False
        self._owes_words = False
        self._reconnects = False
        self._left = False
        self._reassurance = Reassurance(call, key, self._reassure)
        self._failover = Failover(call, agent, self)
        self.session = self._failover.first(self._new_session)

    # ── opening ──────────────────────────────────────────────────────────────────────────────────────────

    def _new_session(self, agent: Agent) -> AgentSession:
        """Raises ``BridgeError``."""
        number = self._number
        return AgentSession(
            call_id=self._call.call_id,
            agent=instructed(agent),
            bridges=self._call.equipment.bridges,
            leg_format=self._leg.format,
            report=lambda event: self._call.deliver(AgentFact(event=event, leg_id=self._key, session=number)),
            tools=offered_tools(agent),
            history=self._history,
            greets=self._instead is None and not self._resumed and (number == 0 or not self._history()),
            prefix=f"{number}/" if number else "",
        )

    def _history(self) -> Sequence[Utterance]:
        """As it was heard, up to what is being said."""
        unfinished = (Utterance(speaker="agent", text=text) for text in self._owner.unfinished)
        return (*self._said, *unfinished)

    def open(self, *, begins: bool) -> None:
        """``AgentReady`` or ``AgentFailed`` follows. ``begins``: the agent may prepare its greeting at once.

        One that greets as soon as it is open waits for that.
        """
        self._may_begin = self._may_begin or begins
        self._begin_to_open(READY_DEADLINE_S)

    def _begin_to_open(self, deadline_s: float) -> None:
        self._waits_to_open = self.session.profile.greets_on_open and not self._may_begin
        if not self._waits_to_open:
            self._call.spawn(self._open(self.session, self._number, deadline_s))

    async def _open(self, session: AgentSession, number: int, deadline_s: float) -> None:
        try:
            await session.open(deadline_s)
        except BridgeError as error:
            self._call.deliver(AgentFailed(error=error, leg_id=self._key, session=number))
            return
        self._call.deliver(AgentReady(leg_id=self._key, session=number))

    def observe(self, fact: AgentReady | AgentFailed) -> None:
        if fact.session != self._number or self._left:
            return  # of one who has left the seat
        if isinstance(fact, AgentReady):
            self._came()
        else:
            self.provider_failed(fact.error)
            self._lost(fact.error.provider, fact.error.problem)

    def _came(self) -> None:
        self._ready = True
        failed, problem = self._failover.failed, self._failover.problem
        if failed:
            by = self.session.profile.provider
            self._owner.record(ProviderReplaced(failed=failed, by=by, problem=problem))
            self._failover.succeeded()
        self._begin()
        if self.session.greets and self.session.agent.first_speaker == "caller":
            self._reassurance.end()

    @property
    def is_open(self) -> bool:
        """A provider sits here, and takes what it is told."""
        return self._ready

    def may_begin(self, instead: tuple[BridgeInput, ...] | None = None) -> None:
        """The remote party hears the agent from here on. ``instead``: what the agent is told in the place of beginning
        by itself, or, where it has begun, besides."""
        self._may_begin = True
        if self._began:
            self._tell(instead or ())
        elif instead is not None:
            self._begin_otherwise(instead)
        if self._waits_to_open:
            self._begin_to_open(REPLACED_IN_S)
        self._begin()
        if self._failover.stranded:
            self._failover.next()

    def _begin_otherwise(self, instead: tuple[BridgeInput, ...]) -> None:
        """One that greets as soon as it is open, and waits for that, is exchanged for one that does not."""
        self._instead = instead
        if self._waits_to_open:
            self._number += 1
            session = self._new_session(self.session.agent)
            self._retire()
            self.session = session
            self._owner.seated(session)

    def _tell(self, commands: tuple[BridgeInput, ...]) -> None:
        for command in commands:
            self._owes_words = self._owes_words or (isinstance(command, TextInput) and command.respond)
            self.session.send(command)

    def _begin(self) -> None:
        if not self._ready or not self._may_begin or self._began:
            return
        self._began = True
        if self._instead is not None:
            self._tell(self._instead)
        elif self.session.greets:
            self._owes_words = self.session.agent.first_speaker == "agent"
            self.session.send(Begin())
        else:
            self._owes_words = True
            self.session.send(taking_over(self._history()))

    # ── what happens ─────────────────────────────────────────────────────────────────────────────────────

    def is_of_now(self, fact: AgentFact) -> bool:
        """Not of a provider that has left the seat."""
        return fact.leg_id == self._key and fact.session == self._number and not self._left

    def spoken(self, turn: TurnSpoken) -> None:
        if turn.speaker != "operator":
            self._said.append(Utterance(speaker=turn.speaker, text=turn.text))

    def owes_words(self) -> None:
        """The caller spoke, or something else was told that the agent has to answer."""
        self._owes_words = True

    def follow(self, event: BridgeEvent) -> None:
        if isinstance(event, ResponseStarted):
            self._owes_words = True
        elif isinstance(event, ResponseDone):
            self._owes_words = False

    def heard(self, item: str) -> None:
        """The agent's own words reach the caller."""
        if not self._failover.failed and item not in self.session.broken:
            self._reassurance.end()

    def settle(self, *, silent: bool) -> None:
        """Something changed: whether the caller hears anything."""
        self._reassurance.settle(silent=silent)

    def reassurance_is_due(self) -> None:
        self._reassurance.due()

    def _reassure(self) -> None:
        """A provider that was reached again and says nothing may have forgotten that it owed an answer."""
        self._owner.reassure()
        forgot = self._owes_words and not self._reconnects and not self.vacant and not self.session.responding
        if forgot and self._ready:
            self.session.send(reconnected(self._history()))

    # ── failures ─────────────────────────────────────────────────────────────────────────────────────────

    @property
    def vacant(self) -> bool:
        """The provider failed, and nobody took its place yet."""
        return bool(self._failover.failed)

    def fault(self, fault: BridgeFault) -> None:
        """After ``retry`` the provider is reached again by itself."""
        provider = self.session.profile.provider
        self.provider_failed(BridgeError(provider, fault.problem, fault.verdict))
        self._reconnects = fault.verdict == "retry"
        if self._reconnects:
            self._reassurance.begin(RECONNECTING_S)
        else:
            self._lost(provider, fault.problem)

    def back(self) -> None:
        """The provider was reached again, and goes on with what it owed the caller: its codec sees to that."""
        if self._reconnects and not self._owes_words:
            self._reassurance.end()
        self._reconnects = False

    def provider_failed(self, error: BridgeError) -> None:
        self._owner.record(ProviderFailed(provider=error.provider, problem=error.problem, verdict=error.verdict))

    def _lost(self, provider: str, problem: str) -> None:
        self._ready = False
        self._failover.lost(provider, problem)
        self._owner.failed()

    def fall_back(self) -> None:
        """Try what is left, if nobody sits here and nothing is tried yet."""
        if self._failover.stranded:
            self._failover.next()

    def change_provider(self, agent: Agent) -> None:
        self._number += 1
        session = self._new_session(agent)
        self._retire()
        self.session = session
        self._began = False
        self._reassurance.begin(REPLACING_S)
        self._owner.seated(session)
        self._begin_to_open(REPLACED_IN_S)

    def _retire(self) -> None:
        self._retired.append(self.session)
        self._call.spawn(self.session.close())
        self._tell_usage()

    def pick_up_without_provider(self) -> None:
        self._call.deliver(AgentReady(leg_id=self._key, session=NO_PROVIDER))

    @property
    def is_answered(self) -> bool:
        return self._owner.is_answered

    def play_recorded(self, audio: str, then: Callable[[], None]) -> None:
        self._owner.play_recorded(audio, then)

    def give_up(self, problem: str, *, apologise: bool) -> None:
        self._reassurance.end()
        self._owner.give_up(problem, apologise=apologise)

    # ── the end ──────────────────────────────────────────────────────────────────────────────────────────

    def move_to(self, leg: Leg) -> None:
        """Another party is spoken with."""
        self._leg = leg

    def leave(self) -> None:
        """Nobody sits here any more."""
        self._left = True
        self._reassurance.end()
        self._retire()

    async def close(self) -> None:
        """Close every provider there was."""
        for session in self._retired:
            await session.close()
        if not self._left:
            self._left = True
            await self.session.close()
            self._tell_usage()

    def _tell_usage(self) -> None:
        if (usage := self.session.usage) is not None:
            self._owner.record(usage)
