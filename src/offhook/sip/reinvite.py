"""INVITE inside a dialog, both roles (RFC 3261 §14): changing a session, and what happens when both sides want to."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from offhook.model.errors import LocalProtocolError
from offhook.sip import acknowledge, bye, invite, session_timer
from offhook.sip.authentication import Proof, answer_challenge, proofs_in
from offhook.sip.dialog import Dialog
from offhook.sip.events import Flow, Outbound, ReinviteAnswered, ReinviteFailed, ReinviteReceived
from offhook.sip.inspection import Refusal, inspect
from offhook.sip.message import Request, Response
from offhook.sip.offers import glare_delay_s, open_offer, overlapping, refuse_offer
from offhook.sip.parts import HeaderLines, Parts
from offhook.sip.session_interval import judge
from offhook.sip.transaction_layer import FailureCause
from offhook.sip.usage import Acknowledged, Retry, Usage, UsageState, Wanted

_GLARE = Refusal(
    status=491,
    rule="re-INVITE while ours is pending",
    evidence="",
    fix="nothing: try again after a random while (RFC 3261 §14.1)",
)
_ENDED = Refusal(
    status=481, rule="re-INVITE without a session", evidence="", fix="the call is not up, or over: begin a new one"
)

# ── the UAS ──────────────────────────────────────────────────────────────────────────────────────────────


def receive(parts: Parts, usage: Usage, request: Request, flow: Flow, now: float) -> None:
    """An INVITE in the usage's dialog, in order (§14.2)."""
    refusal = _hindrance(parts, usage) or inspect(request, flow) or judge(request, usage.timer_rules)
    if refusal is not None:
        parts.refuse(request, flow, refusal, now)
        return
    if usage.unacknowledged is not None:
        # The peer must have our 2xx or it could not ask this; only its ACK was lost, and that had nothing to say.
        acknowledge.settle(parts, usage, b"", now)
    usage.note_peer(request)
    usage.served = parts.serve(request, flow, now)
    parts.respond(usage.served, 100, now)
    parts.emit(ReinviteReceived(usage_id=usage.usage_id, request=request))


def _hindrance(parts: Parts, usage: Usage) -> Refusal | None:
    """What is going on that a re-INVITE must not disturb."""
    if usage.served is not None:
        return overlapping(parts, "INVITE before the first is answered")
    if usage.state not in (UsageState.ANSWERED, UsageState.CONFIRMED, UsageState.OFFERED):
        return _ENDED
    # §14.2: 491 while an INVITE of ours is in progress; it is, too, while an offer of ours has no answer.
    # RFC 3311 §5.2: 500 while one of the peer's has none.
    asking = usage.asked is not None or usage.state is UsageState.OFFERED
    return _GLARE if asking else refuse_offer(parts, usage)


def answer(parts: Parts, usage: Usage, now: float, *, body: bytes, headers: HeaderLines) -> None:
    """200 to the pending re-INVITE; its Contact is where the peer now is (§12.2.2)."""
    transaction = usage.pending
    usage.settled.refresh_target(transaction.request, transaction.flow)
    invite.accept(parts, usage, now, body=body, headers=headers)


# ── the UAC ──────────────────────────────────────────────────────────────────────────────────────────────


def reinvite(parts: Parts, usage: Usage, now: float, *, offer: bytes, headers: HeaderLines) -> None:
    """Send a re-INVITE (§14.1), after a refresh of ours that is under way.

    Raises ``LocalProtocolError`` while another one, of either side, is going on.
    """
    wanted = Wanted(offer=offer, headers=tuple(headers))
    if usage.refreshing is not None and usage.waiting is None and usage.state is UsageState.CONFIRMED:
        usage.waiting = wanted
    elif is_idle(usage):
        _send(parts, usage, now, wanted)
    else:
        raise LocalProtocolError(f"usage {usage.usage_id} is {usage.state.name} or has an INVITE under way")


def refresh(parts: Parts, usage: Usage, now: float) -> None:
    """RFC 4028 §7.4: a re-INVITE that changes nothing: our session description as it stands."""
    usage.refreshing = Wanted(offer=usage.local_session, is_refresh=True)
    _send(parts, usage, now, usage.refreshing)


def is_idle(usage: Usage) -> bool:
    """Whether no INVITE is under way, of either side, and no offer open."""
    under_way = (usage.served, usage.asked, usage.unacknowledged, usage.retry)
    confirmed = usage.state is UsageState.CONFIRMED
    return confirmed and all(item is None for item in under_way) and open_offer(usage) is None


def _send(parts: Parts, usage: Usage, now: float, wanted: Wanted) -> None:
    dialog = usage.settled
    request = dialog.request("INVITE")
    request.headers.add("Contact", dialog.contact)
    parts.finish(request, headers=[*session_timer.request_lines(usage), *wanted.headers], body=wanted.offer)
    usage.proofs = ()
    user = _Reinviter(parts, usage, dialog, request, wanted)
    usage.asked = parts.send_in_dialog(dialog, request, user, now)


class _Reinviter:
    """Follows one re-INVITE of ours. A 2xx that comes after the usage is gone still gets its ACK."""

    def __init__(
        self,
        parts: Parts,
        usage: Usage,
        dialog: Dialog,
        request: Request,
        wanted: Wanted,
    ) -> None:
        self._parts = parts
        self._usage = usage
        self._dialog = dialog
        self._request = request
        self._wanted = wanted
        self._proof = Proof.of(usage.credentials, usage.known_hosts)
        self._ack: Outbound | None = None

    def responded(self, response: Response, flow: Flow, now: float) -> None:
        if response.status < 200:
            return
        if response.status < 300:
            self._success(response, flow, now)
        elif not self._proven(response, flow, now):
            self._refused(response.status, response.reason, now, response)

    def failed(self, cause: FailureCause, now: float) -> None:
        """§12.2.1.2: no answer at all counts as a 408; without a way to send, nothing is known of the dialog."""
        if cause == "timeout":
            self._refused(408, "Request Timeout", now)
        else:
            self._refused(None, "", now)

    def _proven(self, response: Response, flow: Flow, now: float) -> bool:
        """Whether the re-INVITE went out again with credentials."""
        usage = self._usage
        if usage.state is not UsageState.CONFIRMED:
            return False
        again = answer_challenge(
            self._parts, usage.asked, response, flow, proof=self._proof, user=self, now=now, dialog=self._dialog
        )
        if again is None:
            return False
        usage.asked, self._request = again, again.request
        usage.proofs = proofs_in(again.request)
        return True

    def _success(self, response: Response, flow: Flow, now: float) -> None:
        if self._ack is not None:
            self._parts.outbox.append(self._ack)
            return
        number = self._request.cseq.number
        self._dialog.refresh_target(response, flow)
        self._ack = self._parts.ack_packet(self._usage, self._dialog, number, b"")
        self._parts.outbox.append(self._ack)
        usage = self._usage
        if usage.state is not UsageState.CONFIRMED:
            return
        usage.asked = None
        usage.acknowledged = Acknowledged(number=number, packet=self._ack)
        usage.local_session = self._request.body
        usage.note_peer(response)
        session_timer.settle(self._parts, usage, response, now)
        is_refresh = self._wanted.is_refresh
        self._parts.emit(ReinviteAnswered(usage_id=usage.usage_id, response=response, is_refresh=is_refresh))
        _go_on(self._parts, usage, now)

    def _refused(self, status: int | None, reason: str, now: float, response: Response | None = None) -> None:
        usage = self._usage
        if usage.state is not UsageState.CONFIRMED:
            return
        usage.asked = None
        if status == 491 and not self._wanted.is_again:
            self._wait(now)
        elif response is not None and session_timer.raised(usage, response):
            _send(self._parts, usage, now, self._wanted)
        elif self._wanted.is_refresh:
            session_timer.refresh_failed(self._parts, usage, status, now)
            _go_on(self._parts, usage, now)
        else:
            self._give_up(status, reason, now)

    def _give_up(self, status: int | None, reason: str, now: float) -> None:
        usage = self._usage
        self._parts.emit(ReinviteFailed(usage_id=usage.usage_id, status=status, reason=reason))
        if status in (408, 481):
            # §12.2.1.2: "the UAC SHOULD terminate the dialog"
            bye.hang_up(self._parts, usage, now)

    def _wait(self, now: float) -> None:
        """§14.1: both sides asked at once; who made the Call-ID waits longer, so that they do not meet again."""
        fire = partial(_try_again, self._parts, self._usage)
        timer = self._parts.timers.start(now + glare_delay_s(self._parts, self._dialog), fire)
        self._usage.retry = Retry(wanted=replace(self._wanted, is_again=True), timer=timer)


def _try_again(parts: Parts, usage: Usage, now: float) -> None:
    retry, usage.retry = usage.retry, None
    if retry is None:
        return
    if is_idle(usage):
        _send(parts, usage, now, retry.wanted)
    elif retry.wanted.is_refresh:
        session_timer.refresh_failed(parts, usage, 491, now)
        _go_on(parts, usage, now)
    else:
        parts.emit(ReinviteFailed(usage_id=usage.usage_id, status=491, reason="Request Pending"))


def _go_on(parts: Parts, usage: Usage, now: float) -> None:
    """The refresh is over: what the application wanted meanwhile is sent."""
    usage.refreshing, wanted, usage.waiting = None, usage.waiting, None
    if wanted is None or usage.state is not UsageState.CONFIRMED:
        return
    if is_idle(usage):
        _send(parts, usage, now, wanted)
    else:
        parts.emit(ReinviteFailed(usage_id=usage.usage_id, status=491, reason="Request Pending"))
