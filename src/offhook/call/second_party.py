"""The second party of a transfer: dialled, perhaps briefed, and kept in step with, until it is gone or let go."""

from __future__ import annotations

from typing import Protocol

from offhook.call.briefing import Briefing
from offhook.call.dial import Dial, NotReached, Party
from offhook.call.inbox import (
    AgentFact,
    AgentFailed,
    AgentReady,
    InboxFact,
    MediaFact,
    SipFact,
    TimerFired,
    ToolAnswered,
)
from offhook.call.leg import Leg
from offhook.call.mid_call import MidCall
from offhook.call.routing import agent_port, leg_port
from offhook.call.session import CallSession
from offhook.media.events import DtmfReceived, MediaTimedOut
from offhook.model.call_events import EndCause, EndedBy, LegAnswered, LegDialled, LegEnded, PartyReplaced
from offhook.model.records import Agent
from offhook.rtp.telephone_event import DigitPressed
from offhook.sdp.offer_answer import Agreement
from offhook.sip.events import ByeReceived, SipEvent, UsageEnded


class SecondPartyOwner(Protocol):
    """The transfer."""

    def plays_early(self) -> None:
        """It can be heard before it answers."""
        ...

    def answered(self, leg: Leg) -> None:
        """It picked up, and media flow."""
        ...

    def not_reached(self, failure: NotReached) -> None: ...

    def pressed(self, key: DigitPressed) -> None: ...

    def judged(self, *, accept: bool) -> None:
        """Whether it takes the caller, as the agent understood that briefed it, or as that agent's fate has it."""
        ...

    def lost(self, *, by: EndedBy, cause: EndCause, reason: str) -> None:
        """It is gone, and we did not want that."""
        ...


class SecondParty:
    """Its facts come by ``absorbs``. ``leg``: once it is dialled."""

    def __init__(self, call: CallSession, owner: SecondPartyOwner) -> None:
        self._call = call
        self._owner = owner
        self._leg_id = call.new_leg_id()
        self._target = ""
        self._dial: Dial | None = None
        self._mid_call: MidCall | None = None
        self._briefing: Briefing | None = None
        self._end_told = False
        self.leg: Leg | None = None

    @property
    def is_up(self) -> bool:
        return self.leg is not None and self.leg.is_up

    # ── commands ─────────────────────────────────────────────────────────────────────────────────────────

    def call(self, party: Party) -> None:
        self._target = str(party.target)
        self._dial = Dial(self._call, self._leg_id, party, self)
        self._dial.begin()

    def brief(self, leg: Leg, agent: Agent) -> None:
        """Let ``agent`` tell it what it is about. Raises ``BridgeError`` where the agent cannot be had."""
        self._briefing = Briefing(self._call, leg, agent, lambda accept: self._owner.judged(accept=accept))
        self._call.wire(leg).seat(stage="briefing", briefer=agent_port(leg.leg_id))

    def end_briefing(self) -> None:
        if self._briefing is not None:
            self._briefing.end()

    def press(self, key: DigitPressed) -> None:
        """Send it a key."""
        if self._mid_call is not None:
            self._mid_call.keypad.press(key.digit)

    def let_go(self) -> None:
        """Call it no more, or hang up. Idempotent."""
        if self._dial is not None:
            self._dial.give_up()
        if self.leg is not None:
            self.leg.hang_up()
        self.end_briefing()

    def stop(self) -> None:
        """The call ends."""
        if self._dial is not None:
            self._dial.give_up()
        self._tell_end(reason="the call ended")
        self.end_briefing()

    async def close(self) -> None:
        if self._briefing is not None:
            await self._briefing.close()

    def become(self, new: Leg) -> None:
        """Somebody else came in its place (RFC 3891), and is up."""
        self._tell_end()
        self._end_told = False
        self.leg, self._leg_id = new, new.leg_id
        wiring = self._call.wire(new)
        self._mid_call = MidCall(self._call, new, wiring, self)
        wiring.seat(operator=leg_port(new.leg_id))
        new.media.confirm()
        new.media.resume()
        self._call.emit(PartyReplaced(by="replaces", remote_uri=new.remote_uri), new.leg_id)

    # ── what the dial tells ──────────────────────────────────────────────────────────────────────────────

    def dialling(self, leg: Leg) -> None:
        self._call.add_leg(leg)
        self.leg = leg
        wiring = self._call.wire(leg)
        self._mid_call = MidCall(self._call, leg, wiring, self)
        wiring.seat(operator=leg_port(leg.leg_id))
        self._call.emit(LegDialled(to_uri=self._target), leg.leg_id)

    def rings(self, status: int) -> None:
        if self.leg is not None and self.leg.plays_early:
            self.leg.media.confirm()
            self._follow_format(self.leg)
            self._owner.plays_early()

    def picked_up(self, leg: Leg, agreement: Agreement) -> None:
        self._call.emit(LegAnswered(codec=agreement.encoding.value, srtp=leg.srtp), leg.leg_id)
        leg.start_media(agreement)
        leg.media.confirm()
        leg.media.resume()
        self._follow_format(leg)
        self._owner.answered(leg)

    def not_reached(self, failure: NotReached) -> None:
        if failure.told is not None:
            self._call.emit(failure.told, self._leg_id)
        self._tell_end(failure.status, failure.reason)
        self._owner.not_reached(failure)

    def _follow_format(self, leg: Leg) -> None:
        if leg.format_changed():
            self._call.wire(leg).follow(leg_port(leg.leg_id))

    # ── what its mid-call tells ──────────────────────────────────────────────────────────────────────────

    def format_changed(self) -> None:
        """Nothing of ours depends on it."""

    def pressed(self, key: DigitPressed) -> None:
        self._owner.pressed(key)

    def wrote(self, text: str) -> None:
        """Its texts are recorded, and nobody's to read."""

    # ── facts ────────────────────────────────────────────────────────────────────────────────────────────

    def absorbs(self, fact: InboxFact) -> bool:
        """Whether the fact is its alone."""
        if self._dial is not None and self._dial.absorbs(fact):
            return True
        match fact:
            case SipFact(event=event) if self.leg is not None and self.leg.is_told_of(event):
                self._on_sip(fact, event, self.leg)
            case MediaFact(leg_id=self._leg_id):
                self._on_media(fact)
            case TimerFired(timer="digits", leg_id=self._leg_id):
                if self._mid_call is not None:
                    self._mid_call.keypad.on_timer()
            case AgentFact() | AgentReady() | AgentFailed() | ToolAnswered() | TimerFired() if (
                fact.leg_id == self._leg_id
            ):
                if self._briefing is not None:
                    self._briefing.observe(fact)
            case _:
                return False
        return True

    def _on_sip(self, fact: SipFact, event: SipEvent, leg: Leg) -> None:
        if isinstance(event, ByeReceived | UsageEnded):
            self._gone(event, leg)
        elif self.is_up and self._mid_call is not None:
            self._mid_call.observe(event)
        elif self._dial is not None:
            self._dial.observe(fact)
            self._follow_format(leg)
            if leg.state == "ended":
                self._tell_end()

    def _gone(self, event: ByeReceived | UsageEnded, leg: Leg) -> None:
        wanted_so = leg.state == "ending"
        leg.gone()
        self._tell_end()
        if wanted_so:
            return
        if isinstance(event, UsageEnded) and event.cause == "session_expired":
            self._owner.lost(by="system", cause="session_expired", reason="the operator's session expired")
        else:
            self._owner.lost(by="operator", cause="hangup", reason="the operator hung up")

    def _on_media(self, fact: MediaFact) -> None:
        match fact.event:
            case DtmfReceived() as event if self._mid_call is not None:
                self._mid_call.heard(event)
            case MediaTimedOut(after_s=after_s) if self.leg is not None and self.leg.state == "up":
                self.leg.hang_up()
                reason = f"no RTP from the operator for {after_s:g} s"
                self._owner.lost(by="system", cause="media_timeout", reason=reason)
            case _ if self._briefing is not None:
                self._briefing.observe(fact)
            case _:
                pass

    def _tell_end(self, status: int | None = None, reason: str = "") -> None:
        """Once for each that was called."""
        if self.leg is not None and not self._end_told:
            self._end_told = True
            self._call.emit(LegEnded(sip_code=status, reason=reason), self._leg_id)
