"""How an answered call goes on in another process: snapshot -> restored usage -> re-INVITE -> talk.

The snapshot is plain data, as JSON has it, of the answered dialog, leg and call. The new owner has another media
address, so it offers the session anew (same o= id, higher version: RFC 8866 §5.2) and lets its own agent go on.
"""

from __future__ import annotations

import time
from dataclasses import replace

import msgspec

from offhook.call.arrival import FIRST_LEG
from offhook.call.conduct import Conduct
from offhook.call.inbox import AgentLost, InboxFact, MediaFact, NoWay, SipFact, WayBack
from offhook.call.leg import Leg, new_capabilities
from offhook.call.negotiation import Negotiation, Unacceptable
from offhook.call.saved_legs import LegSnapshot
from offhook.call.session import CallSession
from offhook.media.events import MediaEvent
from offhook.model.call_events import DEFAULT_ACCOUNT
from offhook.model.errors import OffhookError, ResourceExhaustedError
from offhook.model.records import Agent
from offhook.model.trunks import CallRules
from offhook.sip.events import Flow, Hop, ReinviteAnswered, ReinviteFailed


class CallSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """An answered call. ``seq`` is that of its last fact, so that numbering goes on."""

    call_id: str
    seq: int
    agent: Agent
    leg: LegSnapshot
    account_id: str = DEFAULT_ACCOUNT


class Resumption:
    """The set-up of a call that was answered elsewhere."""

    def __init__(self, call: CallSession, snapshot: CallSnapshot) -> None:
        self._call = call
        self._snapshot = snapshot

    def begin(self) -> None:
        self._call.move("restore")
        self._call.trunk_id = self._snapshot.leg.trunk_id
        self._call.account_id = self._snapshot.account_id
        self._call.spawn(self._find_way())

    async def _find_way(self) -> None:
        leg = self._snapshot.leg
        hop = Hop(transport=leg.transport, host=leg.remote_host, port=leg.remote_port)
        try:
            ((flow, _), *_) = await self._call.equipment.endpoint.ways_to(hop)
        except (OSError, OffhookError) as error:
            self._call.deliver(NoWay(leg_id=FIRST_LEG, problem=str(error)))
            return
        self._call.deliver(WayBack(flow=flow))

    def absorbs(self, fact: InboxFact) -> bool:
        return False

    def stop(self) -> None:
        """Nothing of it goes on by itself."""

    def observe(self, fact: InboxFact) -> None:
        match fact:
            case WayBack(flow=flow) if self._call.phase == "up":
                self._restore(flow)
            case NoWay(problem=problem):
                self._call.end(by="system", cause="unreachable", reason=problem)
            case AgentLost(problem=problem, leg_id=""):
                self._call.end(by="system", cause="provider_failed", reason=problem, provider_fault=problem)
            case SipFact(event=ReinviteAnswered(response=response, is_refresh=False)):
                self._answered(response.body)
            case SipFact(event=ReinviteFailed(status=status, reason=reason)):
                self._call.end(by="system", cause="unreachable", sip_code=status, reason=reason)
            case _:
                pass

    def _restore(self, flow: Flow) -> None:
        saved = self._snapshot.leg
        equipment = self._call.equipment
        try:
            media = equipment.open_media(flow.bind_host, self._media_event, None)
        except ResourceExhaustedError as error:
            self._call.end(by="system", cause="internal_error", reason=str(error))
            return
        try:
            usage_id = equipment.endpoint.user_agent.restore(saved.dialog, flow, time.monotonic())
            rules = self._rules()
            capabilities = replace(
                new_capabilities(flow, media.local_port, rules), session_id=saved.session_id, version=saved.version
            )
            leg = Leg(
                leg_id=FIRST_LEG,
                endpoint=equipment.endpoint,
                media=media,
                negotiation=Negotiation(capabilities),
                direction=saved.direction,
                flow=flow,
                usage_id=usage_id,
                state="up",
                rules=rules,
                trunk_id=saved.trunk_id,
                answered_at=saved.answered_at or time.time(),
            )
            self._call.add_leg(leg)
            self._call.own_usage(usage_id)
            self._call.conduct = Conduct(self._call, leg, self._snapshot.agent, self._call.wire(leg), resumed=True)
        except OffhookError as error:
            media.close()
            self._call.end(by="system", cause="internal_error", reason=str(error))
            return
        hindrance = leg.negotiation.hindrance
        if hindrance is not None:
            self._call.end(by="system", cause="refused", sip_code=hindrance.status, reason=hindrance.why)
            return
        leg.media.pause()
        leg.reinvite()
        self._call.conduct.engage()

    def _rules(self) -> CallRules:
        """As this node has them; what was encrypted is not offered in clear (RFC 4568 §5.1.4)."""
        saved = self._snapshot.leg
        rules = self._call.equipment.rules_of(saved.trunk_id)
        return replace(rules, srtp="required") if saved.secure else rules

    def _answered(self, body: bytes) -> None:
        leg, conduct = self._call.leg, self._call.conduct
        if leg is None or conduct is None or conduct.talking:
            return
        agreement = leg.negotiation.accept(body)
        if isinstance(agreement, Unacceptable):
            self._call.end(by="system", cause="refused", sip_code=agreement.status, reason=agreement.why)
            return
        self._call.count_from_now()
        conduct.answered(agreement)
        conduct.begin()

    def _media_event(self, event: MediaEvent) -> None:
        self._call.deliver(MediaFact(leg_id=FIRST_LEG, event=event))
