"""INFO (RFC 6086) and MESSAGE (RFC 3428) in a dialog, both roles: something said beside the audio."""

from __future__ import annotations

from collections.abc import Mapping

from offhook.model.errors import LocalProtocolError
from offhook.sip.authentication import Proof
from offhook.sip.events import Flow, InfoReceived, MessageReceived, RequestAnswered
from offhook.sip.in_dialog import Outcome, ask
from offhook.sip.inspection import Refusal, media_range
from offhook.sip.message import Request
from offhook.sip.parts import HeaderLines, Parts
from offhook.sip.usage import Usage, UsageState

TAKEN: Mapping[str, tuple[str, ...]] = {
    "INFO": ("application/dtmf-relay", "application/dtmf", "text/plain"),
    "MESSAGE": ("text/plain",),
}
"""Content types by method. INFO's are digits, as PBXs of all kinds send them without negotiation (RFC 6086 §2)."""

_OVER = frozenset({UsageState.BYE_WANTED, UsageState.ENDING})
_ENDED = Refusal(status=481, rule="request in a call that is over", evidence="", fix="nothing: our BYE is on its way")


def receive(parts: Parts, usage: Usage, request: Request, flow: Flow, now: float) -> None:
    """An INFO or MESSAGE in the usage's dialog, in order: answered at once, whatever becomes of it."""
    refusal = _ENDED if usage.state in _OVER else _unreadable(request)
    if refusal is not None:
        parts.refuse(request, flow, refusal, now)
        return
    parts.respond(parts.serve(request, flow, now), 200, now)
    if request.method == "MESSAGE":
        parts.emit(MessageReceived(usage_id=usage.usage_id, request=request))
    elif request.body:  # RFC 6086 §2: an INFO without body asks whether the call is still there
        parts.emit(InfoReceived(usage_id=usage.usage_id, request=request))


def _unreadable(request: Request) -> Refusal | None:
    """415 with what could be read (RFC 3261 §21.4.13); an INFO that belongs to a package 469 (RFC 6086 §4.2.2)."""
    taken = TAKEN[request.method]
    if request.method == "INFO" and "Info-Package" in request.headers:
        package = request.headers.get("Info-Package") or ""
        headers = (("Recv-Info", ""),)
        fix = "send digits as INFO without a package, or as telephone-events (RFC 4733)"
        return Refusal(
            status=469, rule="Info-Package", evidence=f"Info-Package: {package[:80]}", fix=fix, headers=headers
        )
    content_type = request.headers.get("Content-Type") or ""
    if not request.body or media_range(content_type) in taken:
        return None
    listed = ", ".join(taken)
    evidence = f"Content-Type: {content_type[:80]}"
    fix = f"send {request.method} with one of: {listed}"
    return Refusal(status=415, rule="Content-Type", evidence=evidence, fix=fix, headers=(("Accept", listed),))


def send(
    parts: Parts, usage: Usage, now: float, method: str, *, content_type: str, body: bytes, headers: HeaderLines
) -> int:
    """Send an INFO or MESSAGE; returns the token of the ``RequestAnswered`` that follows, unless the call ends.

    Raises ``LocalProtocolError`` outside a call that is up.
    """
    if usage.state not in (UsageState.ANSWERED, UsageState.CONFIRMED):
        raise LocalProtocolError(f"usage {usage.usage_id} is {usage.state.name}: no {method} now")
    token = parts.new_request_token()
    dialog = usage.settled
    request = dialog.request(method)
    parts.finish(request, headers=headers, body=body, content_type=content_type)

    def tell(outcome: Outcome, _: float) -> None:
        if usage.state is not UsageState.GONE:
            parts.emit(
                RequestAnswered(
                    usage_id=usage.usage_id, token=token, method=method, status=outcome.status, reason=outcome.reason
                )
            )

    proof = Proof.of(usage.credentials, usage.known_hosts)
    ask(parts, dialog, request, proof=proof, tell=tell, now=now)
    return token
