"""How an outbound call comes up: once its first row is kept, its first leg is dialled, and the agent opened meanwhile;
then they talk."""

from __future__ import annotations

import time
from dataclasses import dataclass

from offhook.call.account_limits import over_limit
from offhook.call.answer_watch import AnswerWatch
from offhook.call.arrival import FIRST_LEG
from offhook.call.clearance import Slot
from offhook.call.conduct import Conduct
from offhook.call.dial import Dial, NotReached, NotReachedCause, Party
from offhook.call.first_row import keep_first_row, refusal_of
from offhook.call.inbox import AgentLost, InboxFact, Kept, NotKept, PickupMoved, TimerFired, TransferCaller, WayFound
from offhook.call.leg import Leg
from offhook.call.session import CallSession
from offhook.model.call_events import (
    DEFAULT_ACCOUNT,
    CallAnswered,
    CallArrived,
    CallRefused,
    CallRinging,
    EndCause,
    EndedBy,
)
from offhook.model.errors import BridgeError
from offhook.model.records import Agent
from offhook.model.trunks import Trunk
from offhook.sdp.offer_answer import Agreement
from offhook.sip.uri import SipUri, without_password

_CAUSES: dict[NotReachedCause, EndCause] = {
    "refused": "refused",
    "no_answer": "no_answer",
    "unreachable": "unreachable",
    "unacceptable": "refused",
    "cancelled": "cancelled",
    "no_room": "internal_error",
    "not_allowed": "refused",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class PlaceCall:
    """The command to call somebody and let ``agent`` speak.

    ``trunk`` None: by DNS and the open network. ``from_user`` is our user part in From, ``caller_id`` the number that
    is shown, "" for the trunk's first (``identity_of``). ``headers`` go with the INVITE. ``event_webhooks``: URLs that
    are told of this call. ``call_id`` "": a new one.
    """

    target: SipUri
    agent: Agent
    trunk: Trunk | None = None
    from_user: str = "offhook"
    no_answer_s: float = 60.0
    headers: tuple[tuple[str, str], ...] = ()
    account_id: str = DEFAULT_ACCOUNT
    caller_id: str = ""
    event_webhooks: tuple[str, ...] = ()
    call_id: str = ""


class Dialling:
    """The set-up of one outbound call. Owns its dial."""

    def __init__(self, call: CallSession, command: PlaceCall, slot: Slot | None = None) -> None:
        """``slot``: where room was made for it already."""
        self._call = call
        self._command = command
        self._began_at = time.monotonic()
        party = Party(
            target=command.target,
            trunk=command.trunk,
            from_user=command.from_user,
            caller_id=command.caller_id,
            no_answer_s=command.no_answer_s,
            headers=command.headers,
        )
        self._dial = Dial(call, FIRST_LEG, party, self, slot=slot)
        self._watch: AnswerWatch | None = None
        self._kept = False
        self._way: WayFound | None = None
        """Waits for the first row: no INVITE of ours leaves before that."""

    def begin(self) -> None:
        target = self._command.target
        self._call.trunk_id = "" if self._command.trunk is None else self._command.trunk.trunk_id
        self._call.account_id = self._command.account_id
        self._call.move("resolve")
        limit = self._call.equipment.limits.refuse(self._command.account_id, "outbound")
        keep_first_row(
            self._call,
            CallArrived(
                direction="outbound",
                from_uri=self._command.from_user,
                to_uri=without_password(str(target)),
                sip_call_id="",
                transport=(target.param("transport") or "udp").upper(),
                remote_address=target.host,
                trunk_id=self._call.trunk_id,
                headers=self._command.headers,
                account_id=self._command.account_id,
                event_webhooks=self._command.event_webhooks,
                agent_id=self._command.agent.agent_id,
                provider=self._command.agent.provider,
            ),
        )
        if limit is None:
            self._dial.begin()
        else:
            self._refuse(over_limit(limit))

    def stop(self) -> None:
        self._dial.give_up()
        if self._watch is not None:
            self._watch.stop()

    def absorbs(self, fact: InboxFact) -> bool:
        if isinstance(fact, WayFound) and fact.leg_id == FIRST_LEG and not self._kept:
            self._way = fact
            return True
        return self._dial.absorbs(fact)

    def observe(self, fact: InboxFact) -> None:
        watch = self._watch
        if watch is not None and self._call.leg is not self._dial.leg:
            watch.party_moved()
        match fact:
            case Kept():
                self._kept = True
                if self._way is not None:
                    self._dial.absorbs(self._way)
            case NotKept() if self._call.phase == "resolving":
                self._refuse(refusal_of(fact))
            case AgentLost(problem=problem, leg_id=""):
                self._provider_failed(problem)
            case PickupMoved() if watch is not None:
                watch.observe(fact)
            case TransferCaller() if watch is not None and self._call.phase == "up":
                watch.party_moves()
            case TimerFired(timer="voicemail") if watch is not None:
                watch.message_is_due()
            case _:
                self._dial.observe(fact)

    def _refuse(self, told: CallRefused) -> None:
        """We do not even begin."""
        self._call.emit(told)
        self._call.end(by="system", cause="refused", sip_code=told.status, reason=told.rule)

    # ── what the dial tells ──────────────────────────────────────────────────────────────────────────────

    def dialling(self, leg: Leg) -> None:
        self._call.add_leg(leg)
        try:
            self._call.conduct = Conduct(self._call, leg, self._command.agent, self._call.wire(leg))
        except BridgeError as error:
            leg.gone()
            self._provider_failed(str(error))
            return
        self._call.conduct.engage()
        if self._command.agent.machines.detect:
            self._watch = AnswerWatch(self._call, leg, self._command.agent, self._call.conduct.watched)

    def rings(self, status: int) -> None:
        if self._call.phase in {"resolving", "ringing"}:
            self._call.move("ring")
            self._call.emit(CallRinging(status=status))
        if self._call.leg is not None and self._call.leg.plays_early and self._call.conduct is not None:
            self._call.conduct.hear_early()
            if self._watch is not None:
                self._watch.begin()

    def picked_up(self, leg: Leg, agreement: Agreement) -> None:
        conduct = self._call.conduct
        if conduct is None:
            return
        self._call.answered()
        setup_ms = round((time.monotonic() - self._began_at) * 1000)
        self._call.emit(CallAnswered(codec=agreement.encoding.value, setup_ms=setup_ms, srtp=leg.srtp))
        conduct.answered(agreement)
        conduct.begin()
        transfers = self._call.transfers
        if transfers is not None and transfers.busy:  # asked for while it rang
            transfers.talk_begins()
            if self._watch is not None:
                self._watch.party_moves()
        elif self._watch is not None:
            self._watch.answered()

    def not_reached(self, failure: NotReached) -> None:
        if failure.told is not None:
            self._call.emit(failure.told)
        by: EndedBy = "caller" if failure.cause in {"refused", "cancelled"} else "system"
        self._call.end(by=by, cause=_CAUSES[failure.cause], sip_code=failure.status, reason=failure.reason)

    def _provider_failed(self, problem: str) -> None:
        self._call.end(by="system", cause="provider_failed", reason=problem, provider_fault=problem)
