"""BYE, both ways (RFC 3261 §15): how a usage ends."""

from __future__ import annotations

from offhook.sip.authentication import Proof, answer_challenge
from offhook.sip.dialog import Dialog, DialogInput
from offhook.sip.events import ByeReceived, Flow, UsageEndCause, UsageEnded
from offhook.sip.message import Request, Response
from offhook.sip.parts import HeaderLines, Parts
from offhook.sip.transaction_layer import ClientTransaction, ClientUser, FailureCause
from offhook.sip.usage import Usage, UsageInput, UsageState


def hang_up(parts: Parts, usage: Usage, now: float, headers: HeaderLines = ()) -> None:
    """Send BYE; as callee before the ACK, as soon as that is there. Raises ``LocalProtocolError``.

    §15: "the callee's UA MUST NOT send a BYE on a confirmed dialog until it has received an ACK for its 2xx response
    or until the server transaction times out."
    """
    owes_ack = usage.state is UsageState.OFFERED
    usage.advance(UsageInput.BYE)
    usage.bye_headers = tuple(headers)
    if owes_ack:
        dialog = usage.settled
        parts.outbox.append(parts.ack_packet(usage, dialog, dialog.local_cseq, b""))
    if usage.state is UsageState.ENDING:
        send_awaited(parts, usage, now)


def send_awaited(parts: Parts, usage: Usage, now: float) -> None:
    """The BYE of a usage that is ENDING: its answer ends the usage. What was being changed is dropped."""
    parts.cancel_repetition(usage)
    parts.cancel_retry(usage)
    farewell = _Farewell(parts, usage)
    farewell.asked = _send(parts, usage.settled, farewell, now, usage.bye_headers)
    refuse_pending(parts, usage, now)


def send_unattended(parts: Parts, usage: Usage, dialog: Dialog, now: float) -> None:
    """The BYE of a dialog, come from ``usage``, that nobody follows any more; a challenge is still answered."""
    parting = _Parting(parts, usage, dialog)
    parting.asked = _send(parts, dialog, parting, now)


def _send(parts: Parts, dialog: Dialog, user: ClientUser, now: float, headers: HeaderLines = ()) -> ClientTransaction:
    dialog.advance(DialogInput.BYE)
    request = dialog.request("BYE")
    parts.finish(request, headers=headers)
    return parts.send_in_dialog(dialog, request, user, now)


class _Parting:
    """Sees our BYE through: a challenge is answered, and with any other answer it is over (§15.1.1)."""

    def __init__(self, parts: Parts, usage: Usage, dialog: Dialog) -> None:
        self._parts = parts
        self._dialog = dialog
        self._proof = Proof.of(usage.credentials, usage.known_hosts)
        self.asked: ClientTransaction | None = None

    def responded(self, response: Response, flow: Flow, now: float) -> None:
        if response.status < 200:
            return
        again = answer_challenge(
            self._parts, self.asked, response, flow, proof=self._proof, user=self, now=now, dialog=self._dialog
        )
        if again is not None:
            self.asked = again
        else:
            self._end("bye_answered", now)

    def failed(self, cause: FailureCause, now: float) -> None:
        self._end("bye_timeout" if cause == "timeout" else "transport", now)

    def _end(self, cause: UsageEndCause, now: float) -> None:
        pass


class _Farewell(_Parting):
    """The BYE of a usage that waits for it."""

    def __init__(self, parts: Parts, usage: Usage) -> None:
        super().__init__(parts, usage, usage.settled)
        self._usage = usage

    def _end(self, cause: UsageEndCause, now: float) -> None:
        self._usage.advance(UsageInput.BYE_DONE)
        self._parts.drop_usage(self._usage, now)
        self._parts.emit(UsageEnded(usage_id=self._usage.usage_id, cause=cause))


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
    if usage.served is not None:
        parts.respond(usage.served, 487, now)
        usage.served = None
