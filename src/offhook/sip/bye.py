"""BYE, both ways (RFC 3261 §15): how a usage ends."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from offhook.sip.authentication import Proof
from offhook.sip.dialog import Dialog, DialogInput
from offhook.sip.events import ByeReceived, Flow, UsageEndCause, UsageEnded
from offhook.sip.in_dialog import Outcome, Tell, ask
from offhook.sip.message import Request
from offhook.sip.parts import HeaderLines, Parts
from offhook.sip.transaction_layer import FailureCause
from offhook.sip.usage import Usage, UsageInput, UsageState

_END_CAUSES: Mapping[FailureCause | None, UsageEndCause] = {
    None: "bye_answered",
    "timeout": "bye_timeout",
    "transport": "transport",
}


def hang_up(parts: Parts, usage: Usage, now: float, headers: HeaderLines = ()) -> None:
    """Send BYE; as callee before the ACK, as soon as that is there. Raises ``LocalProtocolError``.

    §15: "the callee's UA MUST NOT send a BYE on a confirmed dialog until it has received an ACK for its 2xx response
    or until the server transaction times out."
    """
    if usage.state is UsageState.ANSWER_WANTED:
        _refuse(parts, usage, now)
        return
    owes_ack = usage.state is UsageState.OFFERED
    usage.advance(UsageInput.BYE)
    usage.bye_headers = tuple(headers)
    if owes_ack:
        dialog = usage.settled
        parts.outbox.append(parts.ack_packet(usage, dialog, usage.offer_number, b""))
    if usage.state is UsageState.ENDING:
        send_awaited(parts, usage, now)


def _refuse(parts: Parts, usage: Usage, now: float) -> None:
    """The 2xx that waited for a PRACK (RFC 3262 §3) is wanted no more."""
    parts.respond(usage.pending, 480, now)
    usage.served = None
    usage.advance(UsageInput.BYE)
    usage.settled.advance(DialogInput.FAILURE)
    parts.drop_usage(usage, now)
    parts.emit(UsageEnded(usage_id=usage.usage_id, cause="unanswered"))


def send_awaited(parts: Parts, usage: Usage, now: float) -> None:
    """The BYE of a usage that is ENDING: its answer ends the usage. What was being changed is dropped."""
    parts.cancel_repetition(usage)
    parts.cancel_retry(usage)
    parts.cancel_session_timer(usage)
    _send(parts, usage, usage.settled, now, tell=partial(_end, parts, usage), headers=usage.bye_headers)
    refuse_pending(parts, usage, now)


def send_unattended(parts: Parts, usage: Usage, dialog: Dialog, now: float) -> None:
    """The BYE of a dialog, come from ``usage``, that nobody follows any more; a challenge is still answered."""
    _send(parts, usage, dialog, now, tell=_forget)


def _send(parts: Parts, usage: Usage, dialog: Dialog, now: float, *, tell: Tell, headers: HeaderLines = ()) -> None:
    dialog.advance(DialogInput.BYE)
    request = dialog.request("BYE")
    parts.finish(request, headers=headers)
    ask(parts, dialog, request, proof=Proof.of(usage.credentials, usage.known_hosts), tell=tell, now=now)


def _end(parts: Parts, usage: Usage, outcome: Outcome, now: float) -> None:
    """§15.1.1: with any answer it is over."""
    usage.advance(UsageInput.BYE_DONE)
    parts.drop_usage(usage, now)
    parts.emit(UsageEnded(usage_id=usage.usage_id, cause=usage.end_cause or _END_CAUSES[outcome.cause]))


def _forget(outcome: Outcome, now: float) -> None:
    pass


def receive(parts: Parts, usage: Usage, request: Request, flow: Flow, now: float) -> None:
    """A BYE in the usage's dialog, in order (§15.1.2)."""
    parts.respond(parts.serve(request, flow, now), 200, now)
    usage.advance(UsageInput.BYE_CAME)
    if usage.state is UsageState.ENDING:
        return
    refuse_pending(parts, usage, now)
    if usage.dialog is not None:
        usage.dialog.advance(DialogInput.BYE)
    parts.drop_usage(usage, now)
    parts.emit(ByeReceived(usage_id=usage.usage_id, request=request))


def refuse_pending(parts: Parts, usage: Usage, now: float) -> None:
    """§15.1.2: "The UAS MUST still respond to any pending requests received for that dialog", with a 487."""
    for transaction in (usage.served, usage.pracked, usage.updated):
        if transaction is not None:
            parts.respond(transaction, 487, now)
    usage.served = usage.pracked = usage.updated = None
