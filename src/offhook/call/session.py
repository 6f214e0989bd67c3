"""CallSession: the lifetime of one call. It owns the legs, the agent and the order of things, and decides nothing
that a pure function beside it could decide.

One task runs it; everything that happens comes through its inbox, one fact at a time. Whatever goes wrong comes
back as a fact: nothing raises out of ``run``, and in the end no leg, task, timer or port is left.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from dataclasses import replace
from typing import Protocol, assert_never

from offhook.call.conduct import Conduct
from offhook.call.equipment import Equipment
from offhook.call.inbox import (
    MAX_WAITING,
    AgentFact,
    AgentFailed,
    AgentReady,
    HangUp,
    InboxFact,
    MediaFact,
    NoWay,
    SipFact,
    Timer,
    TimerFired,
    WayBack,
    WayFound,
)
from offhook.call.leg import Leg
from offhook.call.states import CallInput, call_machine
from offhook.model.call_events import CallEnded, CallEvent, CallFact, CallPhase, EndCause, EndedBy
from offhook.sip.events import (
    ByeReceived,
    CancelReceived,
    InviteFailed,
    ReinviteAnswered,
    ReinviteReceived,
    SipEvent,
    UsageEnded,
)

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


class CallSession:
    """Made by ``CallManager``; ``run`` returns when the call is over, and never raises."""

    def __init__(
        self, *, call_id: str, equipment: Equipment, usages: dict[int, CallSession], last_seq: int = 0
    ) -> None:
        """``usages``: whose SIP events go to which call; the call enters and removes its own."""
        self.call_id = call_id
        self._usages = usages
        self._own_usages: set[int] = set()
        self.equipment = equipment
        self.conduct: Conduct | None = None
        self.leg: Leg | None = None
        self._machine = call_machine()
        self._inbox: asyncio.Queue[InboxFact] = asyncio.Queue(MAX_WAITING)
        self._tasks: set[asyncio.Task[None]] = set()
        self._timers: dict[Timer, asyncio.TimerHandle] = {}
        self.seq = last_seq
        self._end: CallEnded | None = None
        self._answered_at: float | None = None

    @property
    def phase(self) -> CallPhase:
        return self._machine.state

    # ── for the set-up and the conduct ───────────────────────────────────────────────────────────────────

    def own_usage(self, usage_id: int) -> None:
        """From here the usage's SIP events come to this call."""
        self._usages[usage_id] = self
        self._own_usages.add(usage_id)

    def deliver(self, fact: InboxFact) -> None:
        """Put a fact in line; a call that is flooded drops it, and ends."""
        if self._inbox.full():
            self.end(by="system", cause="internal_error", reason="flooded with events")
            return
        self._inbox.put_nowait(fact)

    def emit(self, fact: CallFact) -> None:
        self.seq += 1
        leg_id = self.leg.leg_id if self.leg is not None else ""
        event = CallEvent(call_id=self.call_id, leg_id=leg_id, seq=self.seq, at=time.time(), fact=fact)
        self.equipment.events.append(event)

    def move(self, given: CallInput) -> None:
        self._machine.command(given)

    def answered(self) -> None:
        self._machine.command("answer")
        self.count_from_now()

    def count_from_now(self) -> None:
        """The call's duration begins: it was answered, or goes on here after another process."""
        self._answered_at = time.monotonic()

    def spawn(self, work: Coroutine[None, None, None]) -> None:
        """Run something that reports by facts; it is cancelled when the call is over."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def arm(self, timer: Timer, delay_s: float) -> None:
        """``TimerFired(timer)`` after ``delay_s``; replaces an earlier one of the same name."""
        self.disarm(timer)
        loop = asyncio.get_running_loop()
        fired = TimerFired(timer=timer)
        self._timers[timer] = loop.call_later(max(0.0, delay_s), self.deliver, fired)

    def disarm(self, timer: Timer) -> None:
        handle = self._timers.pop(timer, None)
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
        if self.conduct is not None:
            self.conduct.stop()
        if self.leg is not None:
            self.leg.hang_up()
            self.leg.media.close()
        self.arm("teardown", self.equipment.teardown_s)
        self._close_if_alone()

    # ── its life ─────────────────────────────────────────────────────────────────────────────────────────

    async def run(self, set_up: SetUp) -> None:
        try:
            set_up.begin()
            while self.phase != "ended":
                fact = await self._inbox.get()
                if not set_up.absorbs(fact):
                    self._handle(fact)
                    set_up.observe(fact)
        except Exception:
            _log.exception("call %s broke and ends", self.call_id)
            self.end(by="system", cause="internal_error", reason="an error inside offhook; see the log")
        finally:
            await self._close()

    def _handle(self, fact: InboxFact) -> None:
        match fact:
            case SipFact(event=event):
                self._on_sip(event)
            case MediaFact(event=media_event):
                if self.conduct is not None:
                    self.conduct.on_media(media_event)
            case AgentFact(event=bridge_event):
                if self.conduct is not None:
                    self.conduct.on_agent(bridge_event)
            case TimerFired(timer=timer):
                self._on_timer(timer)
            case HangUp(by=by, cause=cause, reason=reason):
                self.end(by=by, cause=cause, reason=reason)
            case AgentReady() | AgentFailed() | WayFound() | WayBack() | NoWay():
                pass  # the set-up's business
            case _:
                assert_never(fact)

    def _on_sip(self, event: SipEvent) -> None:
        """What may come in any phase; the rest is the set-up's."""
        match event:
            case ByeReceived():
                self._leg_gone(by="caller", cause="hangup")
            case CancelReceived():
                self._leg_gone(by="caller", cause="cancelled", sip_code=487)
            case InviteFailed(cause="timeout", status=status, reason=reason):
                self._leg_gone(by="system", cause="unreachable", sip_code=status, reason=reason)
            case InviteFailed(cause="transport", reason=reason):
                self._leg_gone(by="system", cause="unreachable", reason=reason)
            case InviteFailed(status=status, reason=reason):
                self._leg_gone(by="caller", cause="refused", sip_code=status, reason=reason)
            case UsageEnded(cause="ack_missing"):
                self._leg_gone(by="system", cause="ack_missing", reason="no ACK came for our 200")
            case UsageEnded():
                self._leg_gone(by="caller", cause="hangup")
            case ReinviteReceived() | ReinviteAnswered() if self.conduct is not None and self.conduct.talking:
                self.conduct.on_reinvite(event)
            case _:
                pass

    def _leg_gone(self, *, by: EndedBy, cause: EndCause, sip_code: int | None = None, reason: str = "") -> None:
        if self.leg is not None:
            self.leg.gone()
        self.end(by=by, cause=cause, sip_code=sip_code, reason=reason)
        self._close_if_alone()

    def _on_timer(self, timer: Timer) -> None:
        self._timers.pop(timer, None)
        match timer:
            case "no_answer":
                self.end(by="system", cause="no_answer", reason="nobody answered in time")
            case "duration_limit":
                self.end(by="system", cause="duration_limit", reason="the call reached its longest duration")
            case "teardown":
                if self.leg is not None:
                    self.leg.gone()
                self._close_if_alone()
            case "next_way":
                pass  # the set-up's business
            case "judgement" | "goodbye":
                if self.conduct is not None:
                    self.conduct.on_timer(timer)
            case _:
                assert_never(timer)

    def _close_if_alone(self) -> None:
        """The call is over when its leg is."""
        if self.phase == "ending" and (self.leg is None or self.leg.state == "ended"):
            self._machine.command("legs_gone")

    async def _close(self) -> None:
        """Let go of everything, then state the last fact."""
        for timer in tuple(self._timers):
            self.disarm(timer)
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        try:
            if self.conduct is not None:
                await self.conduct.close()
            if self.leg is not None:
                self._close_leg(self.leg)
        except Exception:
            _log.exception("call %s was not closed cleanly", self.call_id)
        for usage_id in self._own_usages:
            self._usages.pop(usage_id, None)
        ended = self._end or CallEnded(by="system", phase=self.phase, cause="internal_error")
        self.emit(ended if self._answered_at is None else _with_duration(ended, self._answered_at))

    def _close_leg(self, leg: Leg) -> None:
        leg.media.close()
        report = leg.media_report()
        if report is not None:
            self.emit(report)


def _with_duration(ended: CallEnded, answered_at: float) -> CallEnded:
    return replace(ended, duration_ms=round((time.monotonic() - answered_at) * 1000))
