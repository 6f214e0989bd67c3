"""Before a warm transfer: an agent tells the operator what it is about, who takes the caller or does not."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import replace

from offhook.call.controls import CallControls
from offhook.call.inbox import InboxFact, Timer
from offhook.model.call_events import CallFact, EndCause, EndedBy, TurnSpoken
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
    return replace(briefer, greeting=greeting, destinations=(), record=False)


class BriefingControls:
    """The call as the briefing sees it: what is said is told of the operator, and its end ends only the briefing."""

    def __init__(self, call: CallControls, over: Callable[[], None]) -> None:
        self._call = call
        self._over = over
        self.call_id = call.call_id
        self.equipment = call.equipment

    def own_usage(self, usage_id: int) -> None:
        self._call.own_usage(usage_id)

    def emit(self, fact: CallFact, leg_id: str = "") -> None:
        if isinstance(fact, TurnSpoken) and fact.speaker == "caller":
            fact = replace(fact, speaker="operator")
        self._call.emit(fact, leg_id)

    def deliver(self, fact: InboxFact) -> None:
        self._call.deliver(fact)

    def spawn(self, work: Coroutine[None, None, None]) -> None:
        self._call.spawn(work)

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
