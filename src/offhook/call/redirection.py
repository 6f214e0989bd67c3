"""The remote party becomes another one: we are sent to it (REFER, RFC 3515), or it is sent to us (Replaces, RFC 3891).

The agent goes on with whoever is there; the call stays the same call.
"""

from __future__ import annotations

from collections.abc import Callable

from offhook.call.conduct import Conduct
from offhook.call.dial import Dial, NotReached, Party
from offhook.call.inbox import InboxFact, MediaFact, SipFact, TimerFired
from offhook.call.leg import Leg, refuse_invite
from offhook.call.negotiation import Unacceptable
from offhook.call.routing import leg_port
from offhook.call.session import CallSession
from offhook.call.ways import target_of, trunk_towards
from offhook.media.events import MediaEvent
from offhook.model.call_events import CallRefused, LegAnswered, LegDialled, LegEnded, PartyReplaced, ReplacedBy
from offhook.model.errors import ResourceExhaustedError, SipParseError
from offhook.sdp.offer_answer import Agreement
from offhook.sip.events import AckReceived, ByeReceived, InviteReceived, ReferReceived, ReferTold, SipEvent

GOODBYE_S = 5.0
"""Whoever sent us on hangs up when it has heard that we got there; after this, we do."""

_STATUSES = {"no_answer": 408, "unreachable": 503, "unacceptable": 488, "cancelled": 487, "no_room": 503}


def change_party(call: CallSession, conduct: Conduct, leg: Leg, by: ReplacedBy) -> None:
    """The agent goes on with the party of ``leg``."""
    wiring, old = call.wire(leg), call.leg
    away = wiring.seating.away - {leg_port(old.leg_id)} if old is not None else frozenset()
    stage = "talking" if wiring.seating.stage == "waiting" else wiring.seating.stage
    call.leg = leg
    wiring.seat(caller=leg_port(leg.leg_id), away=away, stage=stage)
    conduct.move_to(leg)
    leg.media.confirm()
    leg.media.resume()
    call.emit(PartyReplaced(by=by, remote_uri=leg.remote_uri))


class Redirection:
    """We are sent to somebody else, call him, and tell the one who sent us how it goes."""

    def __init__(self, call: CallSession, old: Leg, conduct: Conduct, event: ReferReceived) -> None:
        self._call = call
        self._old = old
        self._conduct = conduct
        self._event = event
        self._leg_id = call.new_leg_id()
        self._target = event.refer_to
        self._dial: Dial | None = None
        self._new: Leg | None = None
        self._arrived = False
        self._told = False
        self.over = False

    def begin(self) -> None:
        event, old = self._event, self._old
        try:
            trunk = trunk_towards(event.refer_to, self._call.equipment.find_trunk(self._call.trunk_id))
            target = target_of(event.refer_to, trunk)
        except SipParseError as error:
            self.over = True
            old.reject_refer(event, 404)
            evidence = f"Refer-To: {event.refer_to[:80]}"
            fix = "name a sip: URI, or a number that the trunk can dial"
            self._call.emit(CallRefused(status=404, rule=error.problem, evidence=evidence, fix=fix))
            return
        equipment = self._call.equipment
        refused = equipment.clearance.judge(target, trunk or equipment.find_trunk(self._call.trunk_id))
        if refused is not None:
            self.over = True
            old.reject_refer(event, refused.status)
            self._call.emit(refused)
            return
        old.accept_refer(event)
        headers = [("Referred-By", f"<{event.referred_by}>")] if event.referred_by else []
        if event.replaces is not None:
            headers.append(("Replaces", str(event.replaces)))
        party = Party(target=target, trunk=trunk, from_user=old.local_user, headers=tuple(headers), beside=old.media)
        self._target = str(target)
        self._dial = Dial(self._call, self._leg_id, party, self)
        self._dial.begin()

    # ── what the dial tells ──────────────────────────────────────────────────────────────────────────────

    def dialling(self, leg: Leg) -> None:
        self._call.add_leg(leg)
        self._new = leg
        self._call.emit(LegDialled(to_uri=self._target), leg.leg_id)

    def rings(self, status: int) -> None:
        self._old.notify_refer(self._event, status)

    def picked_up(self, leg: Leg, agreement: Agreement) -> None:
        self.over = True
        self._call.emit(LegAnswered(codec=agreement.encoding.value, srtp=leg.srtp), leg.leg_id)
        self._old.notify_refer(self._event, 200)
        leg.start_media(agreement)
        change_party(self._call, self._conduct, leg, "refer")
        self._arrived = True
        self._await_goodbye()

    def not_reached(self, failure: NotReached) -> None:
        self.over = True
        if failure.told is not None:
            self._call.emit(failure.told, self._leg_id)
        self._tell_leg_ended(failure.status, failure.reason)
        self._old.notify_refer(self._event, failure.status or _STATUSES.get(failure.cause, 503))
        if self._old.state == "ended":
            self._call.end(by="caller", cause="hangup", reason="who sent us on is gone, and nobody answered there")

    def _tell_leg_ended(self, status: int | None, reason: str) -> None:
        if self._new is not None:
            self._call.emit(LegEnded(sip_code=status, reason=reason), self._leg_id)

    def _await_goodbye(self) -> None:
        """Not before our last NOTIFY is answered: a BYE of ours that overtook it would make it out of order."""
        if self._arrived and self._told and self._old.state != "ended":
            self._call.arm("transfer", GOODBYE_S, self._leg_id)

    def dismiss(self) -> None:
        """Whoever sent us on, and is our party no more, has had time enough to hang up."""
        if self._old is not self._call.leg:
            self._call.disarm("transfer", self._leg_id)
            self._old.hang_up()

    def _sender_gone(self) -> None:
        """Many a PBX hangs up as soon as we said that we would go; we go all the same (RFC 5589 §6.1)."""
        self._old.gone()
        self._conduct.cut()
        self._call.wire(self._old).seat(stage="waiting")

    def absorbs(self, fact: InboxFact) -> bool:
        if self._dial is not None and self._dial.absorbs(fact):
            return True
        match fact:
            case TimerFired(timer="transfer", leg_id=self._leg_id):
                self.dismiss()
                return True
            case SipFact(event=ReferTold(refer_id=self._event.refer_id)):
                self._told = True
                self._await_goodbye()
                return True
            case SipFact(event=ByeReceived(usage_id=self._old.usage_id)) if not self.over:
                self._sender_gone()
                return True
            case SipFact(event=event) if self._is_dialled(event) and self._dial is not None:
                self._dial.observe(fact)
                return True
            case _:
                return False

    def _is_dialled(self, event: SipEvent) -> bool:
        """Until it is answered; from then on it is the call's party."""
        return not self.over and self._new is not None and self._new.is_told_of(event)

    def stop(self) -> None:
        if self._dial is not None and not self.over:
            self.over = True
            self._dial.give_up()
            self._old.notify_refer(self._event, 487)
            self._tell_leg_ended(None, "the call ended")


class Succession:
    """Somebody comes in the place of our party: answered at once, and the old one is let go (RFC 3891 §3)."""

    def __init__(self, call: CallSession, invite: InviteReceived, replace: Callable[[Leg, Leg], None]) -> None:
        """``replace(old, new)`` is called once the new leg is up."""
        self._call = call
        self._invite = invite
        self._replace = replace
        self._leg_id = call.new_leg_id()
        self._old: Leg | None = None
        self._new: Leg | None = None

    def begin(self) -> None:
        call, invite = self._call, self._invite
        self._old = next((leg for leg in call.legs.values() if leg.usage_id == invite.replaces), None)
        rules = call.equipment.rules_of(invite.trunk_id)
        try:
            beside = None if self._old is None else self._old.media
            media = call.equipment.open_media(invite.flow.bind_host, self._media_event, beside)
        except ResourceExhaustedError as error:
            refuse_invite(call.equipment.endpoint, invite.usage_id, 503)
            fix = "raise max_calls or widen rtp.port_min to rtp.port_max"
            call.emit(CallRefused(status=503, rule="no room for one more leg", evidence=str(error), fix=fix))
            return
        leg = Leg.incoming(self._leg_id, call.equipment.endpoint, media, invite, rules)
        if self._old is None or not self._old.is_up or call.phase != "up":
            leg.refuse(481)
            return
        answer = leg.answer_to(invite.request.body)
        if isinstance(answer, Unacceptable):
            leg.refuse(answer.status, (answer.warning_header(invite.flow.local.host),))
            fix = "offer one of our codecs"
            call.emit(CallRefused(status=answer.status, rule="RFC 3264", evidence=answer.why, fix=fix))
            return
        call.add_leg(leg)
        self._new = leg
        leg.media.pause()
        leg.answer(answer)

    @property
    def over(self) -> bool:
        """Nothing more will come of it: the new party sits there, or is gone before it did."""
        return self._new is None or not self._new.is_up

    def absorbs(self, fact: InboxFact) -> bool:
        new = self._new
        if new is None or not isinstance(fact, SipFact):
            return False
        if isinstance(fact.event, AckReceived) and fact.event.usage_id == new.usage_id:
            self._acknowledged(new, fact.event.body)
            return True
        return False

    def _acknowledged(self, leg: Leg, body: bytes) -> None:
        self._new = None
        if leg.state != "up":
            return
        agreement = leg.negotiation.accept(body) if leg.negotiation.offering else leg.negotiation.agreement
        if agreement is None or isinstance(agreement, Unacceptable):
            leg.hang_up()
            return
        leg.start_media(agreement)
        self._call.emit(LegAnswered(codec=agreement.encoding.value, srtp=leg.srtp), leg.leg_id)
        if self._old is not None:
            self._replace(self._old, leg)

    def _media_event(self, event: MediaEvent) -> None:
        self._call.deliver(MediaFact(leg_id=self._leg_id, event=event))
