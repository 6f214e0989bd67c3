"""CallSession: the lifetime of one call. It owns the legs, the agent and the order of things, and decides nothing
that a pure function beside it could decide.

One task runs it; everything that happens comes through its inbox, one fact at a time. Whatever goes wrong comes
back as a fact: nothing raises out of ``run``, and in the end no leg, task, timer or port is left.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Mapping, MutableMapping
from itertools import count
from typing import Protocol, assert_never

from offhook.call.conduct import Conduct
from offhook.call.controls import UsageOwner
from offhook.call.equipment import Equipment
from offhook.call.figures import media_report, with_figures
from offhook.call.inbox import (
    MAX_WAITING,
    AgentChosen,
    AgentFact,
    AgentFailed,
    AgentLost,
    AgentReady,
    BriefingJudged,
    HangUp,
    Hold,
    InboxFact,
    Inject,
    Kept,
    MediaFact,
    NotKept,
    NoWay,
    PickupMoved,
    Replaced,
    SayText,
    SipFact,
    Timer,
    TimerFired,
    ToolAnswered,
    TransferCaller,
    Voiced,
    WayBack,
    WayFound,
)
from offhook.call.leg import Leg
from offhook.call.routing import Seating, agent_port, leg_port
from offhook.call.saved_legs import SavedLegs
from offhook.call.states import CallInput, call_machine
from offhook.call.wiring import Wiring
from offhook.model.call_events import (
    DEFAULT_ACCOUNT,
    CallEnded,
    CallEvent,
    CallFact,
    CallPhase,
    EndCause,
    EndedBy,
)
from offhook.sip.events import ByeReceived, CancelReceived, SipEvent, UsageEndCause, UsageEnded

_SHUTDOWN = (("Reason", 'SIP;cause=503;text="the server stops"'),)
"""RFC 3326: why our BYE comes in the middle of a talk."""

_GIVEN_UP: Mapping[UsageEndCause, tuple[EndCause, str]] = {
    "ack_missing": ("ack_missing", "no ACK came for our 200"),
    "prack_missing": ("ack_missing", "no PRACK came for our provisional response"),
    "session_expired": ("session_expired", "nobody refreshed the session in time (RFC 4028 §10)"),
}
"""Why the SIP core ends a dialog by itself."""

_log = logging.getLogger("offhook.call")


class SetUp(Protocol):
    """How a call comes up: one class for each direction."""

    def begin(self) -> None: ...

    def observe(self, fact: InboxFact) -> None:
        """What concerns the set-up only; anything else is ignored."""
        ...

    def absorbs(self, fact: InboxFact) -> bool:
        """Asked first: whether it goes on by another way, so that this fact means nothing to the call."""
        ...

    def stop(self) -> None:
        """The call ends: begin nothing more."""
        ...


class Transfers(Protocol):
    """What makes other people of a call's parties; ``transferring`` implements it."""

    @property
    def busy(self) -> bool:
        """An exchange goes on: no other begins before it is over."""
        ...

    def command(self, fact: TransferCaller | BriefingJudged | Replaced) -> None: ...

    def talk_begins(self) -> None:
        """A transfer that was asked for before the talk begins with it; nothing, as long as nobody talks."""
        ...

    def absorbs(self, fact: InboxFact) -> bool:
        """Asked before the call: whether this fact is a transfer's alone."""
        ...

    def stop(self) -> None:
        """The call ends, and every transfer with it."""
        ...

    async def close(self) -> None: ...


class CallSession:
    """Made by ``CallManager``; ``run`` returns when the call is over, and never raises."""

    def __init__(
        self, *, call_id: str, equipment: Equipment, usages: MutableMapping[int, UsageOwner], last_seq: int = 0
    ) -> None:
        """``usages``: whose SIP events go to which call; the call enters and removes its own."""
        self.call_id = call_id
        self._usages = usages
        self._own_usages: set[int] = set()
        self.equipment = equipment
        self.conduct: Conduct | None = None
        self.transfers: Transfers | None = None
        self.wiring: Wiring | None = None
        self.leg: Leg | None = None
        """The remote party's, whom the call is with."""
        self.legs: dict[str, Leg] = {}
        self._leg_numbers = count(2)
        self.trunk_id = ""
        self.account_id = DEFAULT_ACCOUNT
        self._saved_legs = SavedLegs(call_id, equipment.events)
        self._set_up: SetUp | None = None
        self._machine = call_machine()
        self._inbox: asyncio.Queue[InboxFact] = asyncio.Queue(MAX_WAITING)
        self._tasks: set[asyncio.Task[None]] = set()
        self._timers: dict[tuple[Timer, str], asyncio.TimerHandle] = {}
        self.seq = last_seq
        self._end: CallEnded | None = None
        self._answered_at: float | None = None

    @property
    def phase(self) -> CallPhase:
        return self._machine.state

    @property
    def up_s(self) -> float:
        """How long it has been up, in seconds; 0.0 before its answer."""
        return 0.0 if self._answered_at is None else time.monotonic() - self._answered_at

    # ── for the set-up and the conduct ───────────────────────────────────────────────────────────────────

    def own_usage(self, usage_id: int) -> None:
        """From here the usage's SIP events come to this call."""
        self._usages[usage_id] = self
        self._own_usages.add(usage_id)

    def new_leg_id(self) -> str:
        """Never given twice in this call."""
        return f"leg-{next(self._leg_numbers)}"

    def add_leg(self, leg: Leg) -> None:
        """The first one is the remote party's."""
        self.legs[leg.leg_id] = leg
        if self.leg is None:
            self.leg = leg

    def wire(self, leg: Leg) -> Wiring:
        """The wiring of this call around its remote party's leg."""
        if self.wiring is None:
            seating = Seating(caller=leg_port(leg.leg_id), agent=agent_port(leg.leg_id))
            self.wiring = Wiring(self.equipment.hold_audio, seating)
        self.wiring.add_leg(leg_port(leg.leg_id), leg)
        return self.wiring

    def deliver(self, fact: InboxFact) -> None:
        """Put a fact in line; a call that is flooded drops it, and ends."""
        if self._inbox.full():
            self.end(by="system", cause="internal_error", reason="flooded with events")
            return
        self._inbox.put_nowait(fact)

    def emit(self, fact: CallFact, leg_id: str = "") -> CallEvent:
        self.seq += 1
        leg_id = leg_id or (self.leg.leg_id if self.leg is not None else "")
        event = CallEvent(call_id=self.call_id, leg_id=leg_id, seq=self.seq, at=time.time(), fact=fact)
        self.equipment.events.append(event)
        return event

    def move(self, given: CallInput) -> None:
        self._machine.command(given)

    def answered(self) -> None:
        self._machine.command("answer")
        self.count_from_now()

    def count_from_now(self) -> None:
        """The call's duration begins: it was answered, or goes on here after another process."""
        self._answered_at = time.monotonic()

    def spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Run something that reports by facts; it is cancelled when the call is over."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def arm(self, timer: Timer, delay_s: float, leg_id: str = "") -> None:
        """``TimerFired(timer, leg_id)`` after ``delay_s``; replaces an earlier one of the same name and leg."""
        self.disarm(timer, leg_id)
        loop = asyncio.get_running_loop()
        fired = TimerFired(timer=timer, leg_id=leg_id)
        self._timers[timer, leg_id] = loop.call_later(max(0.0, delay_s), self.deliver, fired)

    def disarm(self, timer: Timer, leg_id: str = "") -> None:
        handle = self._timers.pop((timer, leg_id), None)
        if handle is not None:
            handle.cancel()

    def end(
        self,
        *,
        by: EndedBy,
        cause: EndCause,
        reason: str = "",
        sip_code: int | None = None,
        provider_fault: str | None = None,
    ) -> None:
        """Begin the end: whatever comes first decides how the call is recorded; the rest is ignored."""
        if self._end is not None:
            return
        self._end = CallEnded(
            by=by, phase=self.phase, cause=cause, sip_code=sip_code, reason=reason, provider_fault=provider_fault
        )
        self._machine.command("end")
        if self._set_up is not None:
            self._set_up.stop()
        if self.transfers is not None:
            self.transfers.stop()
        if self.conduct is not None:
            self.conduct.stop()
        for leg in self.legs.values():
            leg.hang_up(_SHUTDOWN if cause == "shutdown" else ())
        self.arm("teardown", self.equipment.teardown_s)

    # ── its life ─────────────────────────────────────────────────────────────────────────────────────────

    async def run(self, set_up: SetUp) -> None:
        self._set_up = set_up
        try:
            set_up.begin()
            while not self._is_over():
                fact = await self._inbox.get()
                self._take(fact, set_up)
                self._saved_legs.follow(self.legs.values(), fact)
        except Exception:
            _log.exception("call %s broke and ends", self.call_id)
            self.end(by="system", cause="internal_error", reason="an error inside offhook; see the log")
        finally:
            await self._close()

    def _take(self, fact: InboxFact, set_up: SetUp) -> None:
        """Who wants a fact for himself is asked first; what is left is the call's, and then seen by the set-up."""
        if isinstance(fact, TimerFired):
            self._timers.pop((fact.timer, fact.leg_id), None)
        if set_up.absorbs(fact) or (self.transfers is not None and self.transfers.absorbs(fact)):
            return
        self._handle(fact)
        set_up.observe(fact)
        if self.transfers is not None:
            self.transfers.talk_begins()

    def _handle(self, fact: InboxFact) -> None:
        match fact:
            case SipFact(event=event):
                self._on_sip(event)
            case (
                MediaFact()
                | AgentFact()
                | AgentReady()
                | AgentFailed()
                | ToolAnswered()
                | Hold()
                | SayText()
                | Inject()
                | Voiced()
            ):
                if self.conduct is not None:
                    self.conduct.observe(fact)
            case TimerFired(timer=timer):
                self._on_timer(timer)
            case HangUp():
                self._hang_up(fact)
            case TransferCaller() | BriefingJudged() | Replaced():
                if self.transfers is not None:
                    self.transfers.command(fact)
            case Kept() | NotKept() | AgentChosen() | AgentLost() | WayFound() | WayBack() | NoWay() | PickupMoved():
                pass  # the set-up's business
            case _:
                assert_never(fact)

    def _hang_up(self, wanted: HangUp) -> None:
        if wanted.goodbye_s and self.conduct is not None:
            self.conduct.part(by=wanted.by, cause=wanted.cause, reason=wanted.reason, within_s=wanted.goodbye_s)
        else:
            self.end(by=wanted.by, cause=wanted.cause, reason=wanted.reason)

    def _on_sip(self, event: SipEvent) -> None:
        """What may come in any phase; the rest is the set-up's."""
        match event:
            case ByeReceived(usage_id=usage_id):
                self._leg_gone(usage_id, by="caller", cause="hangup")
            case CancelReceived(usage_id=usage_id):
                self._leg_gone(usage_id, by="caller", cause="cancelled", sip_code=487)
            case UsageEnded(usage_id=usage_id, cause=given_up) if given_up in _GIVEN_UP:
                cause, reason = _GIVEN_UP[given_up]
                self._leg_gone(usage_id, by="system", cause=cause, reason=reason)
            case UsageEnded(usage_id=usage_id):
                self._leg_gone(usage_id, by="caller", cause="hangup")
            case _ if self.conduct is not None and self.conduct.talking:
                self.conduct.on_sip(event)
            case _:
                pass

    def _leg_gone(
        self, usage_id: int, *, by: EndedBy, cause: EndCause, sip_code: int | None = None, reason: str = ""
    ) -> None:
        """The call is over when its remote party is gone. Other legs are a transfer's, which was asked before."""
        leg = next((leg for leg in self.legs.values() if leg.usage_id == usage_id), None)
        if leg is not None:
            leg.gone()
        if leg is self.leg:
            self.end(by=by, cause=cause, sip_code=sip_code, reason=reason)

    def _on_timer(self, timer: Timer) -> None:
        match timer:
            case "teardown":
                for leg in self.legs.values():
                    leg.gone()
            case "next_way" | "no_answer" | "transfer":
                pass  # of something that is over
            case _ if self.conduct is not None:
                self.conduct.on_timer(timer)
            case _:
                pass

    def _is_over(self) -> bool:
        """The call is over when its legs are."""
        if self.phase == "ending" and all(leg.state == "ended" for leg in self.legs.values()):
            self._machine.command("legs_gone")
        return self.phase == "ended"

    async def _close(self) -> None:
        """Let go of everything, then state the last fact."""
        for timer, leg_id in tuple(self._timers):
            self.disarm(timer, leg_id)
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        try:
            if self.transfers is not None:
                await self.transfers.close()
            if self.conduct is not None:
                await self.conduct.close()
            for leg in self.legs.values():
                leg.media.close()
                report = media_report(leg.media)
                if report is not None:
                    self.emit(report, leg.leg_id)
        except Exception:
            _log.exception("call %s was not closed cleanly", self.call_id)
        for usage_id in self._own_usages:
            self._usages.pop(usage_id, None)
        self._saved_legs.close()
        ended = self._end or CallEnded(by="system", phase=self.phase, cause="internal_error")
        self.emit(with_figures(ended, self.legs.values(), self._answered_at))
