"""How an outbound call comes up: target -> way -> INVITE -> 1xx -> 2xx -> ACK -> talk."""

from __future__ import annotations

import logging
import time
from collections import deque
from dataclasses import dataclass

from offhook.call.arrival import FIRST_LEG
from offhook.call.conduct import Conduct
from offhook.call.inbox import AgentFailed, InboxFact, MediaFact, NoWay, SipFact, TimerFired, WayFound
from offhook.call.leg import DialPlan, Leg, new_capabilities
from offhook.call.negotiation import Negotiation, Unacceptable
from offhook.call.refusals import explain_failure, explain_no_way, explain_refusal
from offhook.call.session import CallSession
from offhook.call.ways import credentials_of, destinations, find_ways
from offhook.media.events import MediaEvent
from offhook.model.call_events import CallAnswered, CallArrived, CallRefused, CallRinging, WayTaken
from offhook.model.errors import BridgeError, OffhookError, ResourceExhaustedError
from offhook.model.records import Agent
from offhook.model.trunks import Trunk
from offhook.sip.events import AnswerReceived, InviteFailed, ProvisionalReceived
from offhook.sip.message import Response
from offhook.sip.uri import SipUri

NEXT_WAY_S = 5.0
"""For the first sign of life by one way while another is left; timer B (32 s) is longer than callers wait."""

FAILOVER_STATUSES = frozenset({408, 500, 502, 503, 504})
"""The server's fault, not the call's: another server may do better (RFC 3263 §4.3)."""

_log = logging.getLogger("offhook.calls")


@dataclass(frozen=True, kw_only=True, slots=True)
class PlaceCall:
    """The command to call somebody and let ``agent`` speak.

    ``trunk`` None: by DNS and the open network. ``from_user`` is our user part in From; a register trunk has its own.
    """

    target: SipUri
    agent: Agent
    trunk: Trunk | None = None
    from_user: str = "offhook"
    no_answer_s: float = 60.0


class Dialling:
    """The set-up of one outbound call."""

    def __init__(self, call: CallSession, command: PlaceCall) -> None:
        self._call = call
        self._command = command
        self._began_at = time.monotonic()
        self._plans: deque[DialPlan] = deque()
        self._plan: DialPlan | None = None

    def begin(self) -> None:
        target = self._command.target
        self._call.emit(
            CallArrived(
                direction="outbound",
                from_uri=self._command.from_user,
                to_uri=str(target),
                sip_call_id="",
                transport=(target.param("transport") or "udp").upper(),
                remote_address=target.host,
                trunk_id="" if self._command.trunk is None else self._command.trunk.trunk_id,
            )
        )
        self._call.move("resolve")
        self._call.spawn(self._find_way())

    async def _find_way(self) -> None:
        command = self._command
        try:
            plans = await find_ways(
                self._call.equipment.endpoint,
                destinations(command.target, command.trunk),
                from_user=command.from_user,
                credentials=credentials_of(command.trunk),
            )
        except (OSError, OffhookError) as error:
            self._call.deliver(NoWay(problem=str(error)))
            return
        self._call.deliver(WayFound(plans=plans))

    def absorbs(self, fact: InboxFact) -> bool:
        """What a way that was given up still brings; and the failure of one while another is left."""
        leg = self._call.leg
        if leg is None or not isinstance(fact, SipFact):
            return False
        usage_id = getattr(fact.event, "usage_id", leg.usage_id)
        if usage_id != leg.usage_id:
            if isinstance(fact.event, AnswerReceived):
                leg.end_late_answer(usage_id)
            return True
        return isinstance(fact.event, InviteFailed) and self._fails_over(fact.event)

    def _fails_over(self, failed: InviteFailed) -> bool:
        """Whether the call goes on by the next way. Not once it rang: somebody was there."""
        reached = failed.cause == "refused" and failed.status not in FAILOVER_STATUSES
        if self._plan is not None:
            self._call.equipment.endpoint.reached(self._plan.next_hop, works=reached)
        if reached or failed.cause == "cancelled" or not self._plans or self._call.phase != "resolving":
            return False
        status = f"{failed.status} " if failed.status is not None else ""
        self._go_on(f"{status}{failed.reason or failed.cause}")
        return True

    def _go_on(self, problem: str) -> None:
        """Take the next way, and say why."""
        leg, before, plan = self._call.leg, self._plan, self._plans.popleft()
        if leg is None or before is None:
            return
        _log.warning("call %s: %s by %s; the next way is %s", self._call.call_id, problem, _shown(before), _shown(plan))
        self._plan = plan
        leg.redial(plan, self._call.own_usage)
        self._sent(leg, plan, problem)

    def _sent(self, leg: Leg, plan: DialPlan, problem: str) -> None:
        self._call.emit(WayTaken(sip_call_id=leg.sip_call_id, server=_shown(plan), problem=problem))
        leg.flush()
        self._watch()

    def _look_for_life(self) -> None:
        if self._plan is None or self._call.leg is None or self._call.leg.heard:
            return
        self._call.equipment.endpoint.reached(self._plan.next_hop, works=False)
        self._go_on(f"no sign of life in {NEXT_WAY_S:g} s")

    def _watch(self) -> None:
        """While another way is left, this one has to show life soon."""
        if self._plans:
            self._call.arm("next_way", NEXT_WAY_S)
        else:
            self._call.disarm("next_way")

    def observe(self, fact: InboxFact) -> None:
        match fact:
            case WayFound(plans=plans) if self._call.phase == "resolving":
                self._dial(plans)
            case TimerFired(timer="next_way") if self._call.phase == "resolving" and self._plans:
                self._look_for_life()
            case NoWay(problem=problem):
                self._call.emit(explain_no_way(problem))
                self._call.end(by="system", cause="unreachable", reason=problem)
            case AgentFailed(error=error):
                self._provider_failed(error)
            case SipFact(event=ProvisionalReceived(status=status, response=response)):
                self._progress(status, with_media=bool(response.body))
            case SipFact(event=AnswerReceived(response=response)):
                self._answered(response)
            case SipFact(event=InviteFailed() as failed):
                self._explain(failed)
            case _:
                pass

    def _dial(self, plans: tuple[DialPlan, ...]) -> None:
        plan = self._plan = plans[0]
        # The media socket is bound once: ways from another of our addresses are no ways for it.
        self._plans.extend(one for one in plans[1:] if one.flow.bind_host == plan.flow.bind_host)
        try:
            media = self._call.equipment.open_media(plan.flow.bind_host, self._media_event)
        except ResourceExhaustedError as error:
            self._call.end(by="system", cause="internal_error", reason=str(error))
            return
        leg = Leg(
            leg_id=FIRST_LEG,
            endpoint=self._call.equipment.endpoint,
            media=media,
            negotiation=Negotiation(new_capabilities(plan.flow, media.local_port)),
            direction="outbound",
            flow=plan.flow,
            usage_id=0,
            state="dialing",
        )
        self._call.leg = leg
        try:
            self._call.conduct = Conduct(self._call, leg, self._command.agent)
        except BridgeError as error:
            leg.gone()
            self._provider_failed(error)
            return
        leg.dial(plan, self._call.own_usage)
        self._call.arm("no_answer", self._command.no_answer_s)
        self._sent(leg, plan, "")
        self._call.conduct.engage()

    def _progress(self, status: int, *, with_media: bool) -> None:
        leg = self._call.leg
        if (
            leg is not None
            and leg.hears_progress(with_media=with_media)
            and self._call.phase in {"resolving", "ringing"}
        ):
            self._call.disarm("next_way")
            self._call.move("ring")
            self._call.emit(CallRinging(status=status))

    def _answered(self, response: Response) -> None:
        leg, conduct = self._call.leg, self._call.conduct
        if leg is None or conduct is None:
            return
        if self._call.phase not in {"resolving", "ringing"}:
            leg.end_late_answer(leg.usage_id)
            return
        self._call.disarm("no_answer")
        accepted = leg.accept(response.body)
        if isinstance(accepted, Unacceptable):
            fix = "let the callee answer with PCMU or PCMA at 8000 Hz over RTP/AVP"
            self._call.emit(CallRefused(status=488, rule="RFC 3264 offer/answer", evidence=accepted.why, fix=fix))
            self._call.end(by="system", cause="refused", sip_code=488, reason=accepted.why)
            return
        self._call.answered()
        setup_ms = round((time.monotonic() - self._began_at) * 1000)
        self._call.emit(CallAnswered(codec=leg.format.encoding.value, setup_ms=setup_ms))
        conduct.answered(accepted)
        conduct.begin()

    def _explain(self, failed: InviteFailed) -> None:
        """What the other side said about its refusal, or why it could not be asked."""
        server = "" if self._plan is None else _shown(self._plan)
        told = explain_failure(failed, server) if failed.response is None else explain_refusal(failed.response)
        if told is not None:
            self._call.emit(told)

    def _provider_failed(self, error: BridgeError) -> None:
        self._call.end(by="system", cause="provider_failed", reason=str(error), provider_fault=str(error))

    def _media_event(self, event: MediaEvent) -> None:
        self._call.deliver(MediaFact(leg_id=FIRST_LEG, event=event))


def _shown(plan: DialPlan) -> str:
    hop = plan.next_hop
    return f"{hop.host}:{hop.port}/{hop.transport}"
