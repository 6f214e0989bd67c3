"""How an outbound call comes up: target -> way -> INVITE -> 1xx -> 2xx -> ACK -> talk."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from offhook.call.arrival import FIRST_LEG
from offhook.call.conduct import Conduct
from offhook.call.inbox import AgentFailed, InboxFact, MediaFact, NoWay, SipFact, WayFound
from offhook.call.leg import DialPlan, Leg, new_capabilities
from offhook.call.negotiation import Negotiation, Unacceptable
from offhook.call.session import CallSession
from offhook.media.events import MediaEvent
from offhook.model.call_events import CallAnswered, CallArrived, CallRefused, CallRinging
from offhook.model.errors import BridgeError, OffhookError, ResourceExhaustedError, UnreachableError
from offhook.model.records import Agent
from offhook.sip.events import AnswerReceived, Hop, InviteFailed, ProvisionalReceived, Transport
from offhook.sip.headers import NameAddr
from offhook.sip.message import Response
from offhook.sip.uri import SipUri

TRANSPORTS: Mapping[str, Transport] = {"udp": "UDP", "tcp": "TCP"}
DEFAULT_SIP_PORT = 5060
"""RFC 3261 §19.1.2, for UDP and TCP."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlaceCall:
    """The command to call somebody and let ``agent`` speak. ``from_user`` is our user part in From."""

    target: SipUri
    agent: Agent
    from_user: str = "offhook"
    no_answer_s: float = 60.0


class Dialling:
    """The set-up of one outbound call."""

    def __init__(self, call: CallSession, command: PlaceCall) -> None:
        self._call = call
        self._command = command
        self._began_at = time.monotonic()

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
            )
        )
        self._call.move("resolve")
        self._call.spawn(self._find_way())

    async def _find_way(self) -> None:
        target = self._command.target
        try:
            flow, hop = await self._call.equipment.endpoint.flow_to(hop_to(target))
        except (OSError, OffhookError) as error:
            self._call.deliver(NoWay(problem=str(error)))
            return
        from_ = NameAddr(uri=str(SipUri(user=self._command.from_user, host=flow.local.host)))
        self._call.deliver(WayFound(plan=DialPlan(target=target, from_=from_, flow=flow, next_hop=hop)))

    def observe(self, fact: InboxFact) -> None:
        match fact:
            case WayFound(plan=plan) if self._call.phase == "resolving":
                self._dial(plan)
            case NoWay(problem=problem):
                self._call.end(by="system", cause="unreachable", reason=problem)
            case AgentFailed(error=error):
                self._provider_failed(error)
            case SipFact(event=ProvisionalReceived(status=status, response=response)):
                self._progress(status, with_media=bool(response.body))
            case SipFact(event=AnswerReceived(response=response)):
                self._answered(response)
            case SipFact(event=InviteFailed(response=response)) if response is not None:
                self._explain(response)
            case _:
                pass

    def _dial(self, plan: DialPlan) -> None:
        try:
            media = self._call.equipment.open_media(plan.flow.local.host, self._media_event)
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
        self._call.conduct.engage()

    def _progress(self, status: int, *, with_media: bool) -> None:
        leg = self._call.leg
        if (
            leg is not None
            and leg.hears_progress(with_media=with_media)
            and self._call.phase in {"resolving", "ringing"}
        ):
            self._call.move("ring")
            self._call.emit(CallRinging(status=status))

    def _answered(self, response: Response) -> None:
        leg, conduct = self._call.leg, self._call.conduct
        if leg is None or conduct is None:
            return
        if self._call.phase not in {"resolving", "ringing"}:
            leg.end_late_answer()
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

    def _explain(self, response: Response) -> None:
        """What the other side said about its refusal, and where it said it."""
        warning = response.headers.get("Warning") or response.headers.get("Reason")
        evidence = warning or f"status line: {response.status} {response.reason}"
        fix = REFUSAL_FIXES.get(response.status, "ask the operator of the called system for this status")
        self._call.emit(
            CallRefused(status=response.status, rule="refused by the called side", evidence=evidence, fix=fix)
        )

    def _provider_failed(self, error: BridgeError) -> None:
        self._call.end(by="system", cause="provider_failed", reason=str(error), provider_fault=str(error))

    def _media_event(self, event: MediaEvent) -> None:
        self._call.deliver(MediaFact(leg_id=FIRST_LEG, event=event))


REFUSAL_FIXES = {
    401: "the called side wants credentials; registration and digest come with trunks",
    403: "the called side forbids it: check the caller id and the address you call from",
    404: "no such number there: check the user part of the URI",
    407: "a proxy wants credentials; registration and digest come with trunks",
    415: "the called side takes no SDP in an INVITE",
    480: "nobody is reachable there now; try again later",
    486: "the called side is busy; try again later",
    488: "no common codec: offhook offers PCMU and PCMA",
    503: "the called side is overloaded or draining; try again later",
    603: "the called person declined",
}
"""What to change, by the status of a refusal (RFC 3261 §21)."""


def hop_to(target: SipUri) -> Hop:
    """Where a target's first request goes, before any look-up (RFC 3263 §4.1: a transport parameter decides).

    Raises ``UnreachableError`` for a transport we do not have.
    """
    wanted = "tls" if target.scheme == "sips" else (target.param("transport") or "udp").lower()
    if wanted not in TRANSPORTS:
        raise UnreachableError(f"{target}: transport {wanted} is not supported; use udp or tcp")
    return Hop(transport=TRANSPORTS[wanted], host=target.host, port=target.port or DEFAULT_SIP_PORT)
