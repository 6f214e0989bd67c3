"""INVITE outside a dialog and CANCEL, both roles (RFC 3261 §13, §9): how a usage begins."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import partial

from offhook.model.errors import LocalProtocolError, ResourceExhaustedError
from offhook.model.trunks import ReliableProvisional
from offhook.sip import acknowledge, bye, prack, session_timer, update
from offhook.sip.authentication import Proof, answer_challenge, once_more, proofs_in
from offhook.sip.dialog import Dialog, DialogInput, dialog_of_client, dialog_of_server
from offhook.sip.digest import DigestClient
from offhook.sip.events import (
    AnswerReceived,
    CancelReceived,
    Flow,
    Hop,
    InviteFailed,
    InviteFailureCause,
    InviteReceived,
    Outbound,
    ProvisionalReceived,
    ReinviteCancelled,
)
from offhook.sip.headers import Headers, NameAddr
from offhook.sip.inspection import LOOPED, MERGED, Refusal, inspect, too_many
from offhook.sip.message import Request, Response, serialize
from offhook.sip.parts import HeaderLines, Parts, Unattended
from offhook.sip.replaces import replaced_by
from offhook.sip.routing import MAX_FORWARDS, as_request_uri, contact_uri
from offhook.sip.session_interval import DEFAULT_SESSION_TIMER, SessionTimerRules, judge
from offhook.sip.transaction import GIVE_UP_S, State
from offhook.sip.transaction_layer import FailureCause, ServerTransaction, companion
from offhook.sip.uri import SipUri
from offhook.sip.usage import EarlyDialog, Ring, Usage, UsageInput, UsageState, forming

RING_AGAIN_S = 60.0
"""§13.3.1.1."""

_DELTA_SECONDS = re.compile("[0-9]{1,9}")
"""§20.19; more digits than that are decades."""

# ── the UAS ──────────────────────────────────────────────────────────────────────────────────────────────


def receive(parts: Parts, request: Request, flow: Flow, now: float, trunk_id: str = "") -> None:
    """A new INVITE outside any dialog (§13.3.1), let in by ``trunk_id``."""
    one_more = "Replaces" not in request.headers  # it takes the place of a call that is up, or is refused
    if parts.full or (one_more and not parts.takes_calls):
        parts.refuse_statelessly(request, flow, too_many(parts.limits.retry_after_s))
        return
    timer_rules = parts.session_timers.get(trunk_id, DEFAULT_SESSION_TIMER)
    refusal = _circular(parts, request) or inspect(request, flow) or prack.judge(parts, request, trunk_id)
    replaced = refusal or judge(request, timer_rules) or replaced_by(parts, request, trunk_id)
    if isinstance(replaced, Refusal):
        parts.refuse(request, flow, replaced, now)
        return
    local_tag = parts.new_token()
    usage = parts.add_usage(
        UsageState.INVITED, request.sip_call_id, local_tag, dialog_of_server(request, flow, local_tag)
    )
    usage.trunk_id = trunk_id
    usage.timer_rules = timer_rules
    usage.known_hosts.add(flow.remote.host)
    usage.note_peer(request)
    usage.served = parts.transactions.serve(request, flow, local_tag, now)
    parts.respond(usage.served, 100, now)
    expires = request.headers.get("Expires") or ""
    if _DELTA_SECONDS.fullmatch(expires):
        usage.give_up_timer = parts.timers.start(now + int(expires), partial(_expire, parts, usage))
    parts.emit(
        InviteReceived(
            usage_id=usage.usage_id,
            request=request,
            flow=flow,
            trunk_id=trunk_id,
            replaces=None if replaced is None else replaced.usage_id,
        )
    )


def _circular(parts: Parts, request: Request) -> Refusal | None:
    """A request that is here already: by another path (§8.2.2.2), or because it is our own, sent on to us (§16.3)."""
    if parts.transactions.is_merged(request):
        return MERGED
    below = request.headers.values("Via")[1:]
    return LOOPED if any(parts.transactions.asked_by(via) for via in below) else None


def _expire(parts: Parts, usage: Usage, now: float) -> None:
    """§13.3.1: "If the invitation expires before the UAS has generated a final response, a 487 (Request Terminated)
    response SHOULD be generated"."""
    transaction = usage.pending
    request = transaction.request
    parts.respond(transaction, 487, now)
    _withdraw(parts, usage, request, now)


def _withdraw(parts: Parts, usage: Usage, request: Request, now: float) -> None:
    """The caller wants the call no more; its INVITE is answered."""
    usage.advance(UsageInput.CANCEL_CAME)
    usage.settled.advance(DialogInput.FAILURE)
    parts.drop_usage(usage, now)
    parts.emit(CancelReceived(usage_id=usage.usage_id, request=request))


def ring(
    parts: Parts, usage: Usage, now: float, *, status: int, body: bytes, headers: HeaderLines, reliable: bool
) -> None:
    """A provisional response that makes an early dialog (§13.3.1.1).

    ``reliable``, or asked for by the INVITE: repeated until its PRACK comes (RFC 3262 §3: where Require says so "the
    UAS MUST" send all of them so).
    """
    if not 101 <= status <= 199:
        raise LocalProtocolError(f"{status} is no provisional response that tells anything")
    usage.check(UsageInput.RING)
    wanted = Ring(status=status, body=body, headers=tuple(headers))
    if reliable or prack.is_required(usage.pending.request):
        prack.ring(parts, usage, wanted, now)
    else:
        lines = [*forming(usage, usage.pending.request), *headers]
        parts.respond(usage.pending, status, now, headers=lines, body=body)
    if usage.ring_timer is not None:
        parts.timers.cancel(usage.ring_timer)
    usage.ring_timer = parts.timers.start(now + RING_AGAIN_S, partial(_ring_on, parts, usage, wanted))


def _ring_on(parts: Parts, usage: Usage, wanted: Ring, now: float) -> None:
    """§13.3.1.1: "the UAS MUST send a non-100 provisional response at every minute, to handle the possibility of
    lost provisional responses"; without it proxies give the call up."""
    if usage.progress is None:
        parts.transactions.repeat(usage.pending)
    elif usage.progress.unpracked is None and usage.pracked is None:
        prack.ring(parts, usage, wanted, now)
    usage.ring_timer = parts.timers.start(now + RING_AGAIN_S, partial(_ring_on, parts, usage, wanted))


def answer(parts: Parts, usage: Usage, now: float, *, body: bytes, headers: HeaderLines) -> None:
    """200 to the INVITE (§13.3.1.4); what was agreed on by reliable provisional responses is not told again."""
    progress = usage.progress
    send = partial(_accept_call, parts, usage, body=body, headers=tuple(headers))
    if progress is not None and (progress.delays_answer or usage.pracked is not None):
        usage.advance(UsageInput.ANSWER_LATER)
        progress.waiting.clear()
        progress.answer = send
        return
    usage.advance(UsageInput.ANSWER)
    send(now)


def _accept_call(parts: Parts, usage: Usage, now: float, *, body: bytes, headers: HeaderLines) -> None:
    usage.settled.advance(DialogInput.SUCCESS)
    told = usage.progress is not None and usage.progress.settled
    accept(parts, usage, now, body=b"" if told else body, headers=headers)


def accept(parts: Parts, usage: Usage, now: float, *, body: bytes, headers: HeaderLines) -> None:
    """200 to whichever INVITE is pending, and its repetition until the ACK."""
    parts.cancel_timers(usage)
    transaction, usage.served = usage.pending, None
    request = transaction.request
    lines = [*forming(usage, request), *session_timer.accept(parts, usage, request, now), *headers]
    response = parts.respond(transaction, 200, now, headers=lines, body=body)
    usage.local_session = body or usage.local_session
    packet = Outbound(data=transaction.latest, flow=transaction.flow)
    offers = bool(body) and not request.body
    acknowledge.await_ack(parts, usage, number=response.cseq.number, packet=packet, carries_offer=offers, now=now)


def reject(parts: Parts, usage: Usage, now: float, *, status: int, reason: str | None, headers: HeaderLines) -> None:
    """A 3xx-6xx to the INVITE; the usage is gone."""
    usage.check(UsageInput.REJECT)
    refuse_pending(parts, usage, now, status=status, reason=reason, headers=headers)
    usage.advance(UsageInput.REJECT)
    usage.settled.advance(DialogInput.FAILURE)
    parts.drop_usage(usage, now)


def refuse_pending(
    parts: Parts, usage: Usage, now: float, *, status: int, reason: str | None, headers: HeaderLines
) -> None:
    """A 3xx-6xx to whichever INVITE is pending. Raises ``LocalProtocolError`` for another status."""
    if not 300 <= status <= 699:
        raise LocalProtocolError(f"{status} refuses nothing")
    transaction, usage.served = usage.pending, None
    parts.respond(transaction, status, now, reason=reason, headers=headers)


def receive_cancel(parts: Parts, cancel: Request, transaction: ServerTransaction, flow: Flow, now: float) -> None:
    """§9.2: 200 to a CANCEL that matches a transaction; it has effect only on an INVITE without final response."""
    parts.respond_statelessly(cancel, flow, 200, to_tag=transaction.to_tag)
    usage = parts.usage_of(cancel.sip_call_id, transaction.to_tag)
    if usage is None or usage.served is not transaction or transaction.state is not State.PROCEEDING:
        return
    parts.respond(transaction, 487, now)
    usage.served = None
    if not usage.can(UsageInput.CANCEL_CAME):
        parts.emit(ReinviteCancelled(usage_id=usage.usage_id))
        return
    _withdraw(parts, usage, cancel, now)


# ── the UAC ──────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True, slots=True)
class Invitation:
    """What the application asks for. ``to`` None: the target. ``offer`` empty: the callee makes one (§13.2.1)."""

    target: SipUri
    from_: NameAddr
    to: NameAddr | None
    flow: Flow
    next_hop: Hop
    offer: bytes
    content_type: str
    headers: tuple[tuple[str, str], ...]
    credentials: DigestClient | None = None
    trunk_id: str = ""
    session_timer: SessionTimerRules = DEFAULT_SESSION_TIMER
    reliable: ReliableProvisional = "supported"


def invite(parts: Parts, wanted: Invitation, now: float) -> int:
    """Send an INVITE and return its usage. Raises ``ResourceExhaustedError`` where there is no room for one more."""
    if parts.full:
        raise ResourceExhaustedError(f"no room for another call: {len(parts.usages)} usages are open")
    request = _request(parts, wanted)
    usage = parts.add_usage(UsageState.CALLING, request.sip_call_id, request.from_.tag or "")
    usage.credentials = wanted.credentials
    usage.trunk_id = wanted.trunk_id
    usage.timer_rules = wanted.session_timer
    usage.local_session = wanted.offer
    usage.known_hosts.update({wanted.next_hop.host, wanted.next_hop.server_name} - {""})
    caller = _Caller(parts, usage, request, wanted.from_.sip_uri().user)
    usage.asked = parts.transactions.request(request, flow=wanted.flow, next_hop=wanted.next_hop, user=caller, now=now)
    return usage.usage_id


def _request(parts: Parts, wanted: Invitation) -> Request:
    """§8.1.1, §13.2.1. Raises ``LocalProtocolError`` for what cannot be written."""
    uri = as_request_uri(str(wanted.target))
    # §19.1.1, table 1: neither port nor parameters in a To
    to = wanted.to or NameAddr(uri=str(replace(wanted.target, port=None, params=(), headers="")))
    contact = contact_uri(wanted.flow, wanted.from_.sip_uri().user)
    headers = Headers(
        [
            ("Via", parts.transactions.new_via(wanted.flow)),
            ("Max-Forwards", str(MAX_FORWARDS)),
            ("From", str(wanted.from_.with_tag(parts.new_token()))),
            ("To", str(to)),
            ("Call-ID", parts.new_token()),
            ("CSeq", "1 INVITE"),
            ("Contact", f"<{contact}>"),
        ]
    )
    request = Request(method="INVITE", uri=uri, headers=headers)
    lines = [*session_timer.first_lines(wanted.session_timer, wanted.session_timer.min_se_s), *wanted.headers]
    parts.finish(request, headers=lines, body=wanted.offer, content_type=wanted.content_type)
    prack.announce(request, wanted.reliable)
    serialize(request)  # raises before anything remembers the call
    return request


def cancel(parts: Parts, usage: Usage, now: float) -> None:
    """§9.1: at once where a provisional response came, otherwise as soon as one does."""
    usage.advance(UsageInput.CANCEL)
    if usage.state is UsageState.CANCELLING:
        _send_cancel(parts, usage, now)


def _send_cancel(parts: Parts, usage: Usage, now: float) -> None:
    """§9.1; after 64*T1 without a final response the INVITE is taken for cancelled."""
    asked = usage.asked
    if asked is None:
        return
    request = companion(asked.request, "CANCEL")
    parts.transactions.request(request, flow=asked.flow, next_hop=asked.next_hop, user=Unattended(), now=now)
    usage.give_up_timer = parts.timers.start(now + GIVE_UP_S, partial(_stop_waiting, parts, usage))


def _stop_waiting(parts: Parts, usage: Usage, now: float) -> None:
    if usage.asked is not None:
        parts.transactions.abandon(usage.asked)
    _fail(parts, usage, now, status=None, reason="", response=None, cause="cancelled")


def _fail(
    parts: Parts,
    usage: Usage,
    now: float,
    *,
    status: int | None,
    reason: str,
    response: Response | None,
    cause: InviteFailureCause,
) -> None:
    wanted_so = usage.state in (UsageState.CANCEL_WANTED, UsageState.CANCELLING)
    usage.advance(UsageInput.REFUSAL_CAME)
    parts.drop_usage(usage, now)
    parts.emit(
        InviteFailed(
            usage_id=usage.usage_id,
            status=status,
            reason=reason,
            response=response,
            cause="cancelled" if wanted_so else cause,
        )
    )


class _Caller:
    """Follows our INVITE: provisional responses, the first 2xx, other forks' 2xx, copies of them all, failure.

    It outlives the usage, as long as the transaction may still bring a 2xx (RFC 6026's timer M).
    """

    def __init__(self, parts: Parts, usage: Usage, request: Request, contact_user: str | None) -> None:
        self._parts = parts
        self._usage = usage
        self._request = request
        self._contact_user = contact_user
        self._proof = Proof.of(usage.credentials)
        self._turned_away: dict[str, Outbound] = {}
        """Remote tag of a fork that came too late -> its ACK."""

    def responded(self, response: Response, flow: Flow, now: float) -> None:
        if response.status < 200:
            self._provisional(response, flow, now)
        elif response.status < 300:
            self._success(response, flow, now)
        elif self._usage.can(UsageInput.REFUSAL_CAME) and not self._asked_again(response, flow, now):
            status, reason = response.status, response.reason
            _fail(self._parts, self._usage, now, status=status, reason=reason, response=response, cause="refused")

    def failed(self, cause: FailureCause, now: float) -> None:
        """§8.1.3.1: a time-out is treated as a 408."""
        problem = self._usage.asked.problem if self._usage.asked is not None else ""
        status, reason = (408, "Request Timeout") if cause == "timeout" else (None, problem)
        _fail(self._parts, self._usage, now, status=status, reason=reason, response=None, cause=cause)

    def _asked_again(self, response: Response, flow: Flow, now: float) -> bool:
        """Whether the INVITE went out again, with credentials or with a longer session (RFC 4028 §7.3); one that is
        being cancelled does not."""
        parts, usage = self._parts, self._usage
        if usage.asked is None or not usage.can(UsageInput.CHALLENGED):
            return False
        if session_timer.raised(usage, response):
            lines = session_timer.request_lines(usage)
            request = once_more(parts, usage.asked, proof=self._proof, instead=lines)
            way, hop = usage.asked.flow, usage.asked.next_hop
            again = parts.transactions.request(request, flow=way, next_hop=hop, user=self, now=now)
        else:
            proven = answer_challenge(parts, usage.asked, response, flow, proof=self._proof, user=self, now=now)
            if proven is None:
                return False
            again = proven
        usage.advance(UsageInput.CHALLENGED)
        usage.early.clear()  # §12.3: the early dialogs of the INVITE ended with its final response
        usage.asked, self._request = again, again.request
        usage.proofs = proofs_in(again.request)
        return True

    def _provisional(self, response: Response, flow: Flow, now: float) -> None:
        usage = self._usage
        if not usage.can(UsageInput.PROVISIONAL_CAME):
            return
        waited = usage.state is UsageState.CANCEL_WANTED
        usage.advance(UsageInput.PROVISIONAL_CAME)
        if waited:
            _send_cancel(self._parts, usage, now)
        early = None if response.status == 100 else self._branch(response, flow)
        if early is None or not prack.observe(self._parts, usage, early, response, now):
            return
        usage.note_peer(response)
        self._parts.emit(
            ProvisionalReceived(
                usage_id=usage.usage_id,
                status=response.status,
                reason=response.reason,
                remote_tag=response.to.tag or "",
                response=response,
                reliable=prack.is_reliable(response),
            )
        )

    def _branch(self, response: Response, flow: Flow) -> EarlyDialog | None:
        """The early dialog of a provisional response, made where it is new; a bounded number of them is."""
        branches, remote_tag = self._usage.early, response.to.tag or ""
        if remote_tag not in branches and len(branches) < self._parts.limits.forks:
            self._usage.known_hosts.add(flow.remote.host)
            dialog = dialog_of_client(self._request, response, flow, self._contact_user)
            branches[remote_tag] = EarlyDialog(dialog=dialog)
        return branches.get(remote_tag)

    def _success(self, response: Response, flow: Flow, now: float) -> None:
        usage = self._usage
        remote_tag = response.to.tag or ""
        if usage.dialog is not None and usage.dialog.remote_tag == remote_tag:
            acknowledge.repeat(self._parts, usage, response)
        elif usage.dialog is None and usage.can(UsageInput.ANSWER_CAME):
            self._confirm(response, flow, now)
        else:
            self._turn_away(response, flow, now)

    def _confirm(self, response: Response, flow: Flow, now: float) -> None:
        """§13.2.2.4: the first 2xx is the call."""
        usage = self._usage
        usage.asked = None
        usage.known_hosts.add(flow.remote.host)
        usage.note_peer(response)
        early = usage.branch(response.to.tag or "")
        dialog = usage.dialog = self._dialog_of(response, flow)
        session_timer.settle(self._parts, usage, response, now)
        update.forget_others(self._parts, usage, now)
        session = response.body if early is None else early.session or response.body
        if self._request.body or (early is not None and early.session and early.owed is None):
            usage.advance(UsageInput.ANSWER_CAME)
            acknowledge.acknowledge(self._parts, usage, self._request.cseq.number, b"")
        else:
            usage.advance(UsageInput.OFFER_CAME)
            usage.offer_number = self._request.cseq.number
        self._parts.emit(
            AnswerReceived(usage_id=usage.usage_id, remote_tag=dialog.remote_tag, response=response, session=session)
        )

    def _turn_away(self, response: Response, flow: Flow, now: float) -> None:
        """§13.2.2.4: another fork's 2xx, or one that crossed our CANCEL: acknowledged, then ended with BYE."""
        remote_tag = response.to.tag or ""
        ack = self._turned_away.get(remote_tag)
        if ack is not None:
            self._parts.outbox.append(ack)
            return
        if len(self._turned_away) >= self._parts.limits.forks:
            return
        dialog = self._dialog_of(response, flow)
        ack = self._parts.ack_packet(self._usage, dialog, self._request.cseq.number, b"")
        self._turned_away[remote_tag] = ack
        self._parts.outbox.append(ack)
        bye.send_unattended(self._parts, self._usage, dialog, now)
        if self._usage.can(UsageInput.REFUSAL_CAME):
            status, reason = response.status, response.reason
            _fail(self._parts, self._usage, now, status=status, reason=reason, response=response, cause="cancelled")

    def _dialog_of(self, response: Response, flow: Flow) -> Dialog:
        """§13.2.2.4: an early dialog is confirmed, its route set "MUST be recomputed based on the 2xx response"."""
        dialog = dialog_of_client(self._request, response, flow, self._contact_user)
        early = self._usage.early.get(dialog.remote_tag)
        if early is not None:
            early.dialog.route_set = dialog.route_set
            early.dialog.refresh_target(response, flow)
            dialog = early.dialog
        dialog.advance(DialogInput.SUCCESS)
        return dialog
