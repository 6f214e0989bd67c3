"""INVITE inside a dialog, both roles (RFC 3261 §14): changing a session, and what happens when both sides want to."""

from __future__ import annotations

from functools import partial

from offhook.model.errors import LocalProtocolError
from offhook.sip import acknowledge, bye, invite
from offhook.sip.authentication import Proof, answer_challenge, proofs_in
from offhook.sip.dialog import Dialog
from offhook.sip.events import Flow, Outbound, ReinviteAnswered, ReinviteFailed, ReinviteReceived
from offhook.sip.inspection import Refusal, inspect
from offhook.sip.message import Request, Response
from offhook.sip.parts import HeaderLines, Parts
from offhook.sip.transaction_layer import FailureCause
from offhook.sip.usage import Acknowledged, Retry, Usage, UsageState

OWNER_DELAY_S = (2.1, 4.0)
"""§14.1: how long the side that made the Call-ID waits after a 491, in steps of 10 ms."""
OTHER_DELAY_S = (0.0, 2.0)
"""§14.1: how long the other side waits."""
OVERLAP_RETRY_AFTER_S = 10
"""§14.2: Retry-After of a second INVITE before the first is answered: "between 0 and 10 seconds"."""

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
    refusal = _hindrance(parts, usage) or inspect(request, flow)
    if refusal is not None:
        parts.refuse(request, flow, refusal, now)
        return
    if usage.unacknowledged is not None:
        # The peer must have our 2xx or it could not ask this; only its ACK was lost, and that had nothing to say.
        acknowledge.settle(parts, usage, b"", now)
    usage.served = parts.serve(request, flow, now)
    parts.respond(usage.served, 100, now)
    parts.emit(ReinviteReceived(usage_id=usage.usage_id, request=request))


def _hindrance(parts: Parts, usage: Usage) -> Refusal | None:
    """What is going on that a re-INVITE must not disturb."""
    if usage.served is not None:
        # §14.2: "500 (Server Internal Error) response to the second INVITE and MUST include a Retry-After header field
        # with a randomly chosen value of between 0 and 10 seconds"
        after_s = round(parts.new_fraction() * OVERLAP_RETRY_AFTER_S)
        retry_after = ("Retry-After", str(after_s))
        return Refusal(
            status=500,
            rule="INVITE before the first is answered",
            evidence="",
            fix="wait for the final response before the next INVITE of a dialog",
            headers=(retry_after,),
        )
    if usage.state not in (UsageState.ANSWERED, UsageState.CONFIRMED, UsageState.OFFERED):
        return _ENDED
    # §14.2: 491 while an INVITE of ours is in progress; it is, too, while the peer owes us the answer to our offer.
    asking = usage.asked is not None or usage.state is UsageState.OFFERED
    return _GLARE if asking or (usage.unacknowledged is not None and usage.unacknowledged.carries_offer) else None


def answer(parts: Parts, usage: Usage, now: float, *, body: bytes, headers: HeaderLines) -> None:
    """200 to the pending re-INVITE; its Contact is where the peer now is (§12.2.2)."""
    transaction = usage.pending
    usage.settled.refresh_target(transaction.request, transaction.flow)
    invite.accept(parts, usage, now, body=body, headers=headers)


# ── the UAC ──────────────────────────────────────────────────────────────────────────────────────────────


def reinvite(parts: Parts, usage: Usage, now: float, *, offer: bytes, headers: HeaderLines) -> None:
    """Send a re-INVITE (§14.1). Raises ``LocalProtocolError`` while another one, of either side, is going on."""
    if not _idle(usage):
        raise LocalProtocolError(f"usage {usage.usage_id} is {usage.state.name} or has an INVITE under way")
    _send(parts, usage, now, offer=offer, headers=tuple(headers), again=False)


def _idle(usage: Usage) -> bool:
    under_way = (usage.served, usage.asked, usage.unacknowledged, usage.retry)
    return usage.state is UsageState.CONFIRMED and all(item is None for item in under_way)


def _send(
    parts: Parts, usage: Usage, now: float, *, offer: bytes, headers: tuple[tuple[str, str], ...], again: bool
) -> None:
    dialog = usage.settled
    request = dialog.request("INVITE")
    request.headers.add("Contact", dialog.contact)
    parts.finish(request, headers=headers, body=offer)
    usage.proofs = ()
    user = _Reinviter(parts, usage, dialog, request, headers, may_retry=not again)
    usage.asked = parts.send_in_dialog(dialog, request, user, now)


class _Reinviter:
    """Follows one re-INVITE of ours. A 2xx that comes after the usage is gone still gets its ACK."""

    def __init__(
        self,
        parts: Parts,
        usage: Usage,
        dialog: Dialog,
        request: Request,
        headers: tuple[tuple[str, str], ...],
        *,
        may_retry: bool,
    ) -> None:
        self._parts = parts
        self._usage = usage
        self._dialog = dialog
        self._request = request
        self._headers = headers
        self._may_retry = may_retry
        self._proof = Proof.of(usage.credentials, usage.known_hosts)
        self._ack: Outbound | None = None

    def responded(self, response: Response, flow: Flow, now: float) -> None:
        if response.status < 200:
            return
        if response.status < 300:
            self._success(response, flow)
        elif not self._proven(response, flow, now):
            self._refused(response.status, response.reason, now)

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

    def _success(self, response: Response, flow: Flow) -> None:
        if self._ack is not None:
            self._parts.outbox.append(self._ack)
            return
        number = self._request.cseq.number
        self._dialog.refresh_target(response, flow)
        self._ack = self._parts.ack_packet(self._usage, self._dialog, number, b"")
        self._parts.outbox.append(self._ack)
        if self._usage.state is UsageState.CONFIRMED:
            self._usage.asked = None
            self._usage.acknowledged = Acknowledged(number=number, packet=self._ack)
            self._parts.emit(ReinviteAnswered(usage_id=self._usage.usage_id, response=response))

    def _refused(self, status: int | None, reason: str, now: float) -> None:
        usage = self._usage
        if usage.state is not UsageState.CONFIRMED:
            return
        usage.asked = None
        if status == 491 and self._may_retry:
            self._wait(now)
            return
        self._parts.emit(ReinviteFailed(usage_id=usage.usage_id, status=status, reason=reason))
        if status in (408, 481):
            # §12.2.1.2: "the UAC SHOULD terminate the dialog"
            bye.hang_up(self._parts, usage, now)

    def _wait(self, now: float) -> None:
        """§14.1: both sides asked at once; who made the Call-ID waits longer, so that they do not meet again."""
        low, high = OWNER_DELAY_S if self._dialog.owns_call_id else OTHER_DELAY_S
        delay_s = round(low + self._parts.new_fraction() * (high - low), 2)
        fire = partial(_try_again, self._parts, self._usage)
        timer = self._parts.timers.start(now + delay_s, fire)
        self._usage.retry = Retry(body=self._request.body, headers=self._headers, timer=timer)


def _try_again(parts: Parts, usage: Usage, now: float) -> None:
    retry, usage.retry = usage.retry, None
    if retry is None:
        return
    if _idle(usage):
        _send(parts, usage, now, offer=retry.body, headers=retry.headers, again=True)
    else:
        parts.emit(ReinviteFailed(usage_id=usage.usage_id, status=491, reason="Request Pending"))
