"""One leg's way up: target and trunk -> ways -> INVITE -> 1xx -> 2xx, and the next way where one fails (RFC 3263 §4.3).

Used for the first leg of an outbound call and for the second party of a transfer; who owns it is told what came of it.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass
from typing import Literal, Protocol

from offhook.call.account_limits import over_limit
from offhook.call.clearance import FORBIDDEN, Slot, limit_refusal
from offhook.call.controls import CallControls
from offhook.call.inbox import InboxFact, MediaFact, NoWay, SipFact, TimerFired, WayFound
from offhook.call.leg import DialPlan, Leg, new_capabilities, srtp_terms
from offhook.call.negotiation import Negotiation, Unacceptable
from offhook.call.refusals import explain_failure, explain_no_way, explain_refusal
from offhook.call.ways import credentials_of, destinations, find_ways, identity_of
from offhook.media.events import MediaEvent
from offhook.media.session import MediaSession
from offhook.model.call_events import CallRefused, WayTaken
from offhook.model.errors import CannotPlaceError, OffhookError, ResourceExhaustedError
from offhook.model.records import NO_ANSWER_S
from offhook.model.trunks import DEFAULT_RULES, Trunk
from offhook.sdp.offer_answer import Agreement
from offhook.sip.events import AnswerReceived, InviteFailed, ProvisionalReceived, UpdateReceived
from offhook.sip.uri import SipUri

NEXT_WAY_S = 5.0
"""For the first sign of life by one way while another is left; timer B (32 s) is longer than callers wait."""

FAILOVER_STATUSES = frozenset({408, 500, 502, 503, 504})
"""The server's fault, not the call's: another server may do better (RFC 3263 §4.3)."""

ANOTHERS = CallRefused(
    status=FORBIDDEN,
    rule="nobody calls by another account's trunk",
    evidence="a gateway of one stands there, and would take the call for that account's",
    fix="call another address, or ask the operator for a trunk",
)

_log = logging.getLogger("offhook.calls")

NotReachedCause = Literal["refused", "no_answer", "unreachable", "unacceptable", "cancelled", "no_room", "not_allowed"]
"""``not_allowed``: by us; nobody was asked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Party:
    """Whom to call. ``trunk`` None: by DNS and the open network. ``from_user`` and ``caller_id``: see ``identity_of``.

    ``beside``: the media session of the call's first leg, in whose phase group this one's ticks.
    """

    target: SipUri
    trunk: Trunk | None = None
    from_user: str = "offhook"
    caller_id: str = ""
    no_answer_s: float = NO_ANSWER_S
    headers: tuple[tuple[str, str], ...] = ()
    beside: MediaSession | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class NotReached:
    """Nobody picked up. ``told``: what is to be recorded of a refusal or a failure, where it says anything."""

    cause: NotReachedCause
    status: int | None = None
    reason: str = ""
    told: CallRefused | None = None


class DialOwner(Protocol):
    """Who wants the leg."""

    def dialling(self, leg: Leg) -> None:
        """The leg exists, and its INVITE leaves after this returns; the leg may be hung up instead."""
        ...

    def rings(self, status: int) -> None: ...

    def picked_up(self, leg: Leg, agreement: Agreement) -> None: ...

    def not_reached(self, failure: NotReached) -> None:
        """It is over; the leg, if there was one, is ending or ended."""
        ...


class Dial:
    """Facts of its leg come by ``absorbs`` first: what belongs to a way that was given up, or only to the dialling."""

    def __init__(
        self, call: CallControls, leg_id: str, party: Party, owner: DialOwner, *, slot: Slot | None = None
    ) -> None:
        """``slot``: where room was made for it already."""
        self._call = call
        self._leg_id = leg_id
        self._party = party
        self._owner = owner
        self._rules = DEFAULT_RULES if party.trunk is None else party.trunk.rules
        self._plans: deque[DialPlan] = deque()
        self._plan: DialPlan | None = None
        self._over = False
        self._rang = False
        self._old_usages: set[int] = set()
        self.leg: Leg | None = None
        self._slot = slot
        if slot is not None:
            slot.is_held = self._goes_on

    def begin(self) -> None:
        """The one place where calls of ours are judged: no INVITE for a new call leaves but by a dial."""
        told = self._hindrance()
        if told is None:
            self._call.spawn(self._find_way())
        else:
            self._fail(_forbidden(told))

    def _hindrance(self) -> CallRefused | None:
        """Why nobody is called; None where he may be, and room is made for it."""
        party, account_id, equipment = self._party, self._call.account_id, self._call.equipment
        refused = equipment.clearance.judge(party.target, party.trunk)
        if refused is not None:
            return refused
        if self._slot is not None:
            return None
        problem = equipment.limits.refuse_party(account_id)
        if problem is not None:
            return over_limit(problem)
        try:
            self._slot = equipment.clearance.take(account_id, party.trunk)
        except CannotPlaceError as error:
            return limit_refusal(error)
        self._slot.is_held = self._goes_on
        return None

    def _goes_on(self) -> bool:
        """Somebody is dialled, or there."""
        return not self._over or (self.leg is not None and self.leg.state != "ended")

    def give_up(self) -> None:
        """Call nobody any more. The owner is not told."""
        self._finish()
        if self.leg is not None:
            self.leg.hang_up()

    async def _find_way(self) -> None:
        party = self._party
        identity = identity_of(party.trunk, party.from_user, party.caller_id)
        try:
            plans = await find_ways(
                self._call.equipment.endpoint,
                destinations(party.target, party.trunk),
                from_user=identity.user,
                credentials=credentials_of(party.trunk),
                headers=(*self._rules.headers, *identity.headers, *party.headers),
                trunk_id="" if party.trunk is None else party.trunk.trunk_id,
            )
        except (OSError, OffhookError) as error:
            self._call.deliver(NoWay(leg_id=self._leg_id, problem=str(error)))
            return
        self._call.deliver(WayFound(leg_id=self._leg_id, plans=plans))

    # ── facts ────────────────────────────────────────────────────────────────────────────────────────────

    def absorbs(self, fact: InboxFact) -> bool:
        """Take what concerns nobody but this dialling; False: it is the call's, too."""
        match fact:
            case WayFound(leg_id=self._leg_id, plans=plans):
                self._dial(plans)
            case NoWay(leg_id=self._leg_id, problem=problem):
                self._fail(NotReached(cause="unreachable", reason=problem, told=explain_no_way(problem)))
            case TimerFired(timer="next_way", leg_id=self._leg_id):
                self._look_for_life()
            case TimerFired(timer="no_answer", leg_id=self._leg_id):
                self._nobody_answered()
            case SipFact(event=event) if getattr(event, "usage_id", None) in self._old_usages:
                if isinstance(event, AnswerReceived) and self.leg is not None:
                    self.leg.end_late_answer(event.usage_id)
            case SipFact(event=InviteFailed() as failed) if self._is_ours(failed.usage_id):
                return self._fails_over(failed)
            case _:
                return False
        return True

    def observe(self, fact: InboxFact) -> None:
        """What came of the INVITE; the leg's own facts otherwise are the call's business."""
        match fact:
            case SipFact(event=ProvisionalReceived() as provisional) if self._is_ours(provisional.usage_id):
                self._progress(provisional)
            case SipFact(event=AnswerReceived() as answer) if self._is_ours(answer.usage_id):
                self._answered(answer)
            case SipFact(event=InviteFailed() as failed) if self._is_ours(failed.usage_id):
                self._refused(failed)
            case SipFact(event=UpdateReceived() as update) if self._is_ours(update.usage_id) and not self._over:
                self._offered(update)
            case _:
                pass

    def _is_ours(self, usage_id: int) -> bool:
        return self.leg is not None and self.leg.usage_id == usage_id

    # ── ways ─────────────────────────────────────────────────────────────────────────────────────────────

    def _dial(self, plans: tuple[DialPlan, ...]) -> None:
        if self._over:
            return
        account_id, is_anothers = self._call.account_id, self._call.equipment.is_anothers
        plans = tuple(plan for plan in plans if not is_anothers(account_id, plan.next_hop.host))
        if not plans:
            self._fail(_forbidden(ANOTHERS))
            return
        # Where SRTP is required, a way on which its keys could be read is none.
        safe = tuple(plan for plan in plans if not srtp_terms(plan.flow, self._rules).hindrance)
        if not safe:
            hindrance = Negotiation(new_capabilities(plans[0].flow, 0, self._rules)).hindrance
            assert hindrance is not None
            self._fail(_unacceptable(hindrance))
            return
        plan = self._plan = safe[0]
        # The media socket is bound once: ways from another of our addresses are no ways for it.
        self._plans.extend(one for one in safe[1:] if one.flow.bind_host == plan.flow.bind_host)
        try:
            media = self._call.equipment.open_media(plan.flow.bind_host, self._media_event, self._party.beside)
        except ResourceExhaustedError as error:
            self._fail(NotReached(cause="no_room", reason=str(error)))
            return
        leg = self.leg = Leg.outgoing(self._leg_id, self._call.equipment.endpoint, media, plan, self._rules)
        self._owner.dialling(leg)
        if leg.state != "dialing":
            return
        leg.dial(plan, self._call.own_usage)
        self._call.arm("no_answer", self._party.no_answer_s, self._leg_id)
        self._sent(leg, plan, "")

    def _sent(self, leg: Leg, plan: DialPlan, problem: str) -> None:
        way = WayTaken(sip_call_id=leg.sip_call_id, server=_shown(plan), problem=problem)
        self._call.emit(way, self._leg_id)
        leg.flush()
        if self._plans:
            self._call.arm("next_way", NEXT_WAY_S, self._leg_id)
        else:
            self._call.disarm("next_way", self._leg_id)

    def _look_for_life(self) -> None:
        if self._over or self._rang or not self._plans or self._plan is None or self.leg is None or self.leg.heard:
            return
        self._call.equipment.endpoint.reached(self._plan.next_hop, works=False)
        self._go_on(f"no sign of life in {NEXT_WAY_S:g} s")

    def _fails_over(self, failed: InviteFailed) -> bool:
        """Whether the call goes on by the next way. Not once it rang: somebody was there."""
        reached = failed.cause == "refused" and failed.status not in FAILOVER_STATUSES
        if self._plan is not None:
            self._call.equipment.endpoint.reached(self._plan.next_hop, works=reached)
        if reached or failed.cause == "cancelled" or not self._plans or self._rang or self._over:
            return False
        status = f"{failed.status} " if failed.status is not None else ""
        self._go_on(f"{status}{failed.reason or failed.cause}")
        return True

    def _go_on(self, problem: str) -> None:
        """Take the next way, and say why."""
        leg, before, plan = self.leg, self._plan, self._plans.popleft()
        if leg is None or before is None:
            return
        _log.warning("call %s: %s by %s; the next way is %s", self._call.call_id, problem, _shown(before), _shown(plan))
        self._plan = plan
        self._old_usages.add(leg.usage_id)
        leg.redial(plan, self._call.own_usage)
        self._sent(leg, plan, problem)

    # ── what came of it ──────────────────────────────────────────────────────────────────────────────────

    def _progress(self, provisional: ProvisionalReceived) -> None:
        leg = self.leg
        if leg is None or self._over or not leg.hears_progress(provisional):
            return
        self._rang = True
        self._call.disarm("next_way", self._leg_id)
        self._owner.rings(provisional.status)

    def _offered(self, update: UpdateReceived) -> None:
        """What an early dialog plays is changed."""
        if self.leg is not None:
            self.leg.answer_offer(update)

    def _answered(self, answer: AnswerReceived) -> None:
        leg = self.leg
        if leg is None:
            return
        if self._over:
            leg.end_late_answer(answer.usage_id)
            return
        accepted = leg.accept(answer)
        if isinstance(accepted, Unacceptable):
            leg.hang_up()
            self._fail(_unacceptable(accepted))
            return
        self._finish()
        self._owner.picked_up(leg, accepted)

    def _refused(self, failed: InviteFailed) -> None:
        """What the other side said about its refusal, or why it could not be asked."""
        if self.leg is not None:
            self.leg.gone()
        server = "" if self._plan is None else _shown(self._plan)
        told = explain_failure(failed, server) if failed.response is None else explain_refusal(failed.response)
        causes: dict[str, NotReachedCause] = {"refused": "refused", "cancelled": "cancelled"}
        cause = causes.get(failed.cause, "unreachable")
        self._fail(NotReached(cause=cause, status=failed.status, reason=failed.reason, told=told))

    def _nobody_answered(self) -> None:
        if self._over:
            return
        if self.leg is not None:
            self.leg.hang_up()
        self._fail(NotReached(cause="no_answer", reason="nobody answered in time"))

    def _fail(self, failure: NotReached) -> None:
        if not self._over:
            self._finish()
            self._owner.not_reached(failure)

    def _finish(self) -> None:
        self._over = True
        self._call.disarm("no_answer", self._leg_id)
        self._call.disarm("next_way", self._leg_id)

    def _media_event(self, event: MediaEvent) -> None:
        self._call.deliver(MediaFact(leg_id=self._leg_id, event=event))


def _forbidden(told: CallRefused) -> NotReached:
    reason = f"{told.rule}: {told.evidence}"
    return NotReached(cause="not_allowed", status=told.status, reason=reason, told=told)


def _unacceptable(why: Unacceptable) -> NotReached:
    told = CallRefused(status=why.status, rule="RFC 3264 offer/answer", evidence=why.why, fix=why.fix)
    return NotReached(cause="unacceptable", status=why.status, reason=why.why, told=told)


def _shown(plan: DialPlan) -> str:
    hop = plan.next_hop
    return f"{hop.host}:{hop.port}/{hop.transport}"
