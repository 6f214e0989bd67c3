"""How an inbound call comes up: INVITE -> plan -> offer/answer -> 180 -> provider ready -> 200 -> ACK -> talk."""

from __future__ import annotations

import time

from offhook.call.answer_plan import Refuse, plan_answer
from offhook.call.conduct import Conduct
from offhook.call.inbox import AgentFailed, AgentReady, InboxFact, MediaFact, SipFact
from offhook.call.leg import Leg, dialled_user, refuse_invite
from offhook.call.negotiation import Unacceptable
from offhook.call.session import CallSession
from offhook.media.events import MediaEvent
from offhook.model.call_events import CallAnswered, CallArrived, CallRefused, CallRinging
from offhook.model.errors import BridgeError, ResourceExhaustedError
from offhook.model.records import Agent
from offhook.sip.custom_headers import custom_headers
from offhook.sip.events import AckReceived, InviteReceived, PrackReceived, UpdateReceived

FIRST_LEG = "leg-1"
RETRY_AFTER_S = 5
"""Long enough for a call to end, short enough that a peer which obeys does not stay away (RFC 3261 §20.33)."""


class Arrival:
    """The set-up of one inbound call."""

    def __init__(self, call: CallSession, invite: InviteReceived) -> None:
        self._call = call
        self._invite = invite
        self._arrived_at = time.monotonic()
        self._answer: bytes = b""

    def begin(self) -> None:
        request, flow = self._invite.request, self._invite.flow
        self._call.emit(
            CallArrived(
                direction="inbound",
                from_uri=request.from_.uri,
                to_uri=request.uri,
                sip_call_id=request.sip_call_id,
                transport=flow.transport,
                remote_address=f"{flow.remote.host}:{flow.remote.port}",
                trunk_id=self._invite.trunk_id,
                headers=custom_headers(request.headers),
            )
        )
        self._call.trunk_id = self._invite.trunk_id
        self._call.move("resolve")
        plan = plan_answer(self._call.equipment.directory, dialled_user(request.uri), self._invite.trunk_id)
        if isinstance(plan, Refuse):
            self._refuse(plan.status, rule=plan.why, evidence=plan.evidence, fix=plan.fix)
            return
        self._take(plan.agent)

    def _take(self, agent: Agent) -> None:
        """Media, offer/answer and the provider; each may refuse the call."""
        try:
            media = self._call.equipment.open_media(self._invite.flow.bind_host, self._media_event, None)
        except ResourceExhaustedError as error:
            fix = "raise max_calls or widen rtp.port_min to rtp.port_max"
            self._refuse(503, rule="no room for one more call", evidence=str(error), fix=fix, retry=True)
            return
        rules = self._call.equipment.rules_of(self._invite.trunk_id)
        leg = Leg.incoming(FIRST_LEG, self._call.equipment.endpoint, media, self._invite, rules)
        self._call.add_leg(leg)
        body = self._invite.request.body
        answer = leg.answer_to(body)
        if isinstance(answer, Unacceptable):
            self._refuse_offer(answer)
            return
        self._answer = answer
        try:
            self._call.conduct = Conduct(self._call, leg, agent, self._call.wire(leg))
        except BridgeError as error:
            self._refuse_provider(error)
            return
        self._ring(leg)
        if body:
            self._call.conduct.engage()
        else:
            self._go_up()  # our offer waits for its answer: only then is the codec known in which an agent can speak

    def _ring(self, leg: Leg) -> None:
        """180, for the caller's phone to ring by itself; or 183, and it hears us ring, where its trunk wants that."""
        agreement = leg.negotiation.agreement
        aloud = leg.rules.early_media and agreement is not None
        leg.ring(self._answer if aloud else b"")
        self._call.move("ring")
        self._call.emit(CallRinging(status=183 if aloud else 180))
        if agreement is not None and aloud:
            leg.media.pause()
            leg.start_media(agreement)
            self._call.wire(leg).seat(rings=True)

    def absorbs(self, fact: InboxFact) -> bool:
        return False

    def stop(self) -> None:
        """Nothing of it goes on by itself."""

    def observe(self, fact: InboxFact) -> None:
        match fact:
            case AgentReady(leg_id="") if self._call.phase == "ringing":
                self._go_up()
            case AgentFailed(error=error, leg_id="") if self._call.phase == "ringing":
                self._refuse_provider(error)
            case AgentFailed(error=error, leg_id=""):
                self._call.end(by="system", cause="provider_failed", reason=str(error), provider_fault=str(error))
            case SipFact(event=AckReceived(body=body)) if self._call.phase == "up":
                self._acknowledged(body)
            case SipFact(event=UpdateReceived() | PrackReceived(is_offer=True) as event):
                self._offered(event)
            case _:
                pass

    def _offered(self, event: UpdateReceived | PrackReceived) -> None:
        """The caller changes his offer before the talk; after it has begun, that is the conduct's business."""
        leg, conduct = self._call.leg, self._call.conduct
        if leg is not None and leg.usage_id == event.usage_id and not (conduct is not None and conduct.talking):
            leg.answer_offer(event)

    def _go_up(self) -> None:
        """200: from here RTP flows, silence until the ACK says that the caller has our address."""
        leg, conduct = self._call.leg, self._call.conduct
        if leg is None or conduct is None:
            return
        leg.media.pause()
        leg.answer(self._answer)
        self._call.answered()
        setup_ms = round((time.monotonic() - self._arrived_at) * 1000)
        self._call.emit(CallAnswered(codec=leg.codec.value, setup_ms=setup_ms, srtp=leg.srtp))
        conduct.answered(leg.negotiation.agreement)

    def _acknowledged(self, body: bytes) -> None:
        """The first ACK starts the talk; it carries the answer where our 200 carried the offer (RFC 3264 §4)."""
        leg, conduct = self._call.leg, self._call.conduct
        if leg is None or conduct is None or conduct.talking:
            return
        if leg.negotiation.offering:
            self._late_answer(leg, conduct, body)
        else:
            conduct.begin()

    def _late_answer(self, leg: Leg, conduct: Conduct, body: bytes) -> None:
        agreement = leg.negotiation.accept(body)
        if isinstance(agreement, Unacceptable):
            self._explain(agreement)
            self._call.end(by="system", cause="refused", sip_code=agreement.status, reason=agreement.why)
            return
        conduct.start_media(agreement)
        conduct.begin()
        conduct.engage()

    def _media_event(self, event: MediaEvent) -> None:
        self._call.deliver(MediaFact(leg_id=FIRST_LEG, event=event))

    # ── refusals, each explained ─────────────────────────────────────────────────────────────────────────

    def _refuse_offer(self, why: Unacceptable) -> None:
        self._explain(why)
        self._reject(why.status, (why.warning_header(self._invite.flow.local.host),))
        self._call.end(by="system", cause="refused", sip_code=why.status, reason=why.why)

    def _refuse_provider(self, error: BridgeError) -> None:
        fix = "see the log; offhook answers again once the provider works"
        self._call.emit(CallRefused(status=480, rule="the agent's provider failed", evidence=str(error), fix=fix))
        self._reject(480, ())
        self._call.end(by="system", cause="provider_failed", sip_code=480, reason=str(error), provider_fault=str(error))

    def _refuse(self, status: int, *, rule: str, evidence: str, fix: str, retry: bool = False) -> None:
        self._call.emit(CallRefused(status=status, rule=rule, evidence=evidence, fix=fix))
        self._reject(status, (("Retry-After", str(RETRY_AFTER_S)),) if retry else ())
        self._call.end(by="system", cause="refused", sip_code=status, reason=rule)

    def _reject(self, status: int, headers: tuple[tuple[str, str], ...]) -> None:
        if self._call.leg is not None:
            self._call.leg.refuse(status, headers)
            return
        refuse_invite(self._call.equipment.endpoint, self._invite.usage_id, status, headers)

    def _explain(self, why: Unacceptable) -> None:
        self._call.emit(CallRefused(status=why.status, rule="RFC 3264 offer/answer", evidence=why.why, fix=why.fix))
