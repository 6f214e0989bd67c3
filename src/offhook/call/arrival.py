"""How an inbound call comes up: INVITE -> first row kept, offer/answer, plan -> 180 -> provider ready -> 200 -> ACK ->
talk. What can go on at the same time does."""

from __future__ import annotations

import time
from typing import Literal, assert_never

from offhook.call.account_limits import over_limit
from offhook.call.answer_plan import Ask, Refuse, Speak, plan_answer, plan_by_answer
from offhook.call.asking import WHO_ANSWERS_S, by_deadline
from offhook.call.conduct import Conduct
from offhook.call.first_row import keep_first_row, refusal_of
from offhook.call.inbox import AgentChosen, AgentLost, AgentReady, InboxFact, Kept, MediaFact, NotKept, SipFact
from offhook.call.leg import Leg, dialled_user, refuse_invite
from offhook.call.negotiation import Unacceptable
from offhook.call.ports import AgentForCall
from offhook.call.session import CallSession
from offhook.media.events import MediaEvent
from offhook.model.call_events import DEFAULT_ACCOUNT, CallAnswered, CallArrived, CallRefused, CallRinging
from offhook.model.errors import BridgeError, ResourceExhaustedError
from offhook.model.records import Agent, Answering
from offhook.sip.custom_headers import custom_headers
from offhook.sip.events import AckReceived, InviteReceived, PrackReceived, UpdateReceived
from offhook.sip.uri import without_password

FIRST_LEG = "leg-1"
RETRY_AFTER_S = 5
"""Long enough for a call to end, short enough that a peer which obeys does not stay away (RFC 3261 §20.33)."""


Awaited = Literal["kept", "plan", "agent"]

BEFORE_RINGING: frozenset[Awaited] = frozenset({"kept", "plan"})
"""Nobody hears of a call that is not on disk; and once it rings, a carrier whom we refuse tries no other way."""


class Arrival:
    """The set-up of one inbound call. ``awaited``: what still must come before the 200."""

    def __init__(self, call: CallSession, invite: InviteReceived) -> None:
        self._call = call
        self._invite = invite
        self._arrived_at = time.monotonic()
        self._answer: bytes = b""
        self._answering: Answering | None = None
        self._awaited: set[Awaited] = {"kept", "plan"}

    def begin(self) -> None:
        call, invite = self._call, self._invite
        user = dialled_user(invite.request.uri)
        answering = self._answering = call.equipment.directory.answering(user, invite.trunk_id)
        call.trunk_id = invite.trunk_id
        call.account_id = DEFAULT_ACCOUNT if answering is None else answering.account_id
        call.move("resolve")
        arrived = _arrived(invite, call.account_id)
        limit = call.equipment.limits.refuse(call.account_id, "inbound")  # asked before this call is counted
        keep_first_row(call, arrived)
        plan = plan_answer(answering, user)
        if isinstance(plan, Refuse):
            self._follow(plan)
        elif limit is not None:
            self._refuse_as(over_limit(limit), retry=False)
        elif self._open_leg():
            if isinstance(plan, Ask):
                call.spawn(self._ask(plan.answering, arrived))
            else:
                self._follow(plan)

    def _follow(self, plan: Speak | Refuse) -> None:
        match plan:
            case Speak(agent=agent):
                self._awaited.discard("plan")
                self._engage(agent)
            case Refuse(status=status, why=why, evidence=evidence, fix=fix):
                self._refuse(status, rule=why, evidence=evidence, fix=fix)
            case _:
                assert_never(plan)

    async def _ask(self, answering: Answering, arrived: CallArrived) -> None:
        question = AgentForCall(
            account_id=answering.account_id,
            call_id=self._call.call_id,
            url=answering.ask_url,
            arrived=arrived,
            secret=answering.ask_secret,
        )
        asked = self._call.equipment.questions.agent_for_call(question, WHO_ANSWERS_S)
        self._call.deliver(AgentChosen(answer=await by_deadline(asked, WHO_ANSWERS_S)))

    def _open_leg(self) -> bool:
        """Media and offer/answer; False where one of them refused the call."""
        try:
            media = self._call.equipment.open_media(self._invite.flow.bind_host, self._media_event, None)
        except ResourceExhaustedError as error:
            fix = "raise max_calls or widen rtp.port_min to rtp.port_max"
            self._refuse(503, rule="no room for one more call", evidence=str(error), fix=fix, retry=True)
            return False
        rules = self._call.equipment.rules_of(self._invite.trunk_id)
        leg = Leg.incoming(FIRST_LEG, self._call.equipment.endpoint, media, self._invite, rules)
        self._call.add_leg(leg)
        answer = leg.answer_to(self._invite.request.body)
        if isinstance(answer, Unacceptable):
            self._refuse_offer(answer)
            return False
        self._answer = answer
        return True

    def _engage(self, agent: Agent) -> None:
        leg = self._call.leg
        if leg is None:
            return
        try:
            self._call.conduct = Conduct(self._call, leg, agent, self._call.wire(leg))
        except BridgeError as error:
            self._refuse_provider(str(error))
            return
        if self._invite.request.body:
            self._awaited.add("agent")
            self._call.conduct.engage(begins=True)
        # else our offer waits for its answer: only then is the codec known in which an agent can speak
        self._go_on(leg)

    def _came(self, what: Awaited) -> None:
        self._awaited.discard(what)
        if self._call.leg is not None:
            self._go_on(self._call.leg)

    def _go_on(self, leg: Leg) -> None:
        """Ring, and pick up, as soon as nothing that comes before that is awaited."""
        if self._call.phase == "resolving" and not self._awaited & BEFORE_RINGING:
            self._ring(leg)
        if self._call.phase == "ringing" and not self._awaited:
            self._go_up()

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
            case Kept():
                self._came("kept")
            case AgentReady(leg_id=""):
                self._came("agent")
            case NotKept() if self._call.phase == "resolving":
                self._refuse_as(refusal_of(fact), retry=True)
            case AgentChosen(answer=answer) if self._call.phase == "resolving" and self._answering is not None:
                self._follow(plan_by_answer(self._answering, answer))
            case AgentLost(problem=problem, leg_id="") if self._call.phase in ("resolving", "ringing"):
                self._refuse_provider(problem)
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

    def _refuse_provider(self, problem: str) -> None:
        fix = "see the log; offhook answers again once the provider works"
        self._call.emit(CallRefused(status=480, rule="the agent's provider failed", evidence=problem, fix=fix))
        self._reject(480, ())
        self._call.end(by="system", cause="provider_failed", sip_code=480, reason=problem, provider_fault=problem)

    def _refuse(self, status: int, *, rule: str, evidence: str, fix: str, retry: bool = False) -> None:
        self._refuse_as(CallRefused(status=status, rule=rule, evidence=evidence, fix=fix), retry=retry)

    def _refuse_as(self, told: CallRefused, *, retry: bool) -> None:
        self._call.emit(told)
        self._reject(told.status, (("Retry-After", str(RETRY_AFTER_S)),) if retry else ())
        self._call.end(by="system", cause="refused", sip_code=told.status, reason=told.rule)

    def _reject(self, status: int, headers: tuple[tuple[str, str], ...]) -> None:
        if self._call.leg is not None:
            self._call.leg.refuse(status, headers)
            return
        refuse_invite(self._call.equipment.endpoint, self._invite.usage_id, status, headers)

    def _explain(self, why: Unacceptable) -> None:
        self._call.emit(CallRefused(status=why.status, rule="RFC 3264 offer/answer", evidence=why.why, fix=why.fix))


def _arrived(invite: InviteReceived, account_id: str) -> CallArrived:
    request, flow = invite.request, invite.flow
    return CallArrived(
        direction="inbound",
        from_uri=without_password(request.from_.uri),
        to_uri=without_password(request.uri),
        sip_call_id=request.sip_call_id,
        transport=flow.transport,
        remote_address=f"{flow.remote.host}:{flow.remote.port}",
        trunk_id=invite.trunk_id,
        headers=custom_headers(request.headers),
        account_id=account_id,
    )
