"""Before a warm transfer: an agent tells the operator what it is about, who takes the caller or does not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import assert_never

from offhook.bridge.codec import BridgeFault
from offhook.call.conduct import Conduct
from offhook.call.controls import CallControls
from offhook.call.inbox import AgentFact, AgentFailed, AgentReady, InboxFact, MediaFact, Timer, TimerFired, ToolAnswered
from offhook.call.leg import Leg
from offhook.call.session import CallSession
from offhook.model.call_events import CallEvent, CallFact, EndCause, EndedBy, TurnSpoken
from offhook.model.records import Agent, TransferDestination

BRIEFING_S = 60.0
"""For the operator to decide; longer than any briefing, shorter than a caller waits."""

TAKES, DECLINES = "1", "2"
"""The keys an operator may press instead of talking to the agent."""

DEFAULT_BRIEFING = "A caller is waiting for you."
CHOICE = f"Press {TAKES} to take the call, or {DECLINES} to decline."


def briefing_agent(agent: Agent, destination: TransferDestination) -> Agent:
    """Who speaks to the operator: the destination's own agent, or a second presence of the one who transfers."""
    briefer = destination.briefing_agent or agent
    greeting = f"{destination.briefing or DEFAULT_BRIEFING} {CHOICE}"
    return replace(
        briefer,
        greeting=greeting,
        first_speaker="agent",
        destinations=(),
        transfers_anywhere=False,
        task="",
        silence_prompt_s=0.0,
        silence_timeout_s=0.0,
        fallbacks=(),
        record=False,
        briefs=True,
    )


class Briefing:
    """An agent at the operator's leg. ``judged(accept)`` is told what the operator, or the agent's fate, decided.

    Raises ``BridgeError`` where the agent cannot be had.
    """

    def __init__(self, call: CallSession, leg: Leg, agent: Agent, judged: Callable[[bool], None]) -> None:
        self._call = call
        self._key = leg.leg_id
        self._judged = judged
        self._over = False
        controls = _Controls(call, lambda: judged(False))
        self._conduct = Conduct(controls, leg, agent, call.wire(leg), self._key)
        self._conduct.engage(begins=True)

    def observe(self, fact: MediaFact | AgentFact | AgentReady | AgentFailed | TimerFired | ToolAnswered) -> None:
        """What the agent, its timers and the operator's media tell."""
        if self._over:
            return
        match fact:
            case AgentReady():
                self._conduct.observe(fact)
                self._conduct.answered(None)
                self._conduct.begin()
            case AgentFailed():
                self._judged(True)  # better unannounced than not at all
            case TimerFired(timer="duration_limit"):
                self._judged(False)
            case TimerFired(timer=timer):
                self._conduct.on_timer(timer)
            case AgentFact(event=BridgeFault(verdict=verdict)) if verdict != "retry":
                self._conduct.observe(fact)
                self._judged(True)  # likewise
            case AgentFact() | MediaFact() | ToolAnswered():
                self._conduct.observe(fact)
            case _:
                assert_never(fact)

    def end(self) -> None:
        """The agent's part is over. Idempotent."""
        self._over = True
        self._conduct.leave("the briefing is over")
        self._call.disarm("duration_limit", self._key)

    async def close(self) -> None:
        await self._conduct.close()


class _Controls:
    """The call as the briefing's agent sees it: what is said is told of the operator, and its end ends nothing else."""

    def __init__(self, call: CallControls, over: Callable[[], None]) -> None:
        self._call = call
        self._over = over
        self.call_id = call.call_id
        self.account_id = call.account_id
        self.equipment = call.equipment

    def own_usage(self, usage_id: int) -> None:
        self._call.own_usage(usage_id)

    def emit(self, fact: CallFact, leg_id: str = "") -> CallEvent:
        if isinstance(fact, TurnSpoken) and fact.speaker == "caller":
            fact = replace(fact, speaker="operator")
        return self._call.emit(fact, leg_id)

    def deliver(self, fact: InboxFact) -> None:
        self._call.deliver(fact)

    def spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        return self._call.spawn(work)

    def arm(self, timer: Timer, delay_s: float, leg_id: str = "") -> None:
        self._call.arm(timer, delay_s, leg_id)

    def disarm(self, timer: Timer, leg_id: str = "") -> None:
        self._call.disarm(timer, leg_id)

    def end(
        self,
        *,
        by: EndedBy,
        cause: EndCause,
        reason: str = "",
        sip_code: int | None = None,
        provider_fault: str | None = None,
    ) -> None:
        """Its agent hung up, or failed: the call goes on."""
        self._over()
