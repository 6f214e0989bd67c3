"""OPTIONS, both roles (RFC 3261 §11): what we can do, and whether the other side is there."""

from __future__ import annotations

from dataclasses import replace

from offhook.sip.authentication import Proof, answer_challenge
from offhook.sip.digest import DigestClient
from offhook.sip.events import Flow, Hop, OptionsAnswered
from offhook.sip.headers import Headers, NameAddr
from offhook.sip.inspection import ACCEPT, ALLOW, SUPPORTED, too_many
from offhook.sip.message import Request, Response
from offhook.sip.parts import Parts
from offhook.sip.routing import MAX_FORWARDS, as_request_uri, contact_uri
from offhook.sip.transaction_layer import ClientTransaction, FailureCause
from offhook.sip.uri import SipUri
from offhook.sip.usage import Usage

_CAPABILITIES = (ALLOW, ACCEPT, ("Accept-Encoding", "identity"), ("Accept-Language", "en"), SUPPORTED)
"""§11.2."""


def receive(parts: Parts, request: Request, flow: Flow) -> None:
    """200 with our capabilities, or 503 where a call would get that: who looks for a way takes another one.

    §11.2: "The response code chosen MUST be the same that would have been chosen had the request been an INVITE".
    Nothing changes by it, so nothing of it is kept (§8.2.7).
    """
    if parts.full or not parts.takes_calls:
        parts.refuse_statelessly(request, flow, too_many(parts.limits.retry_after_s))
    else:
        _answer(parts, request, flow)


def _answer(parts: Parts, request: Request, flow: Flow) -> None:
    contact = ("Contact", f"<{contact_uri(flow, request.sip_uri.user)}>")
    parts.respond_statelessly(request, flow, 200, (contact, *_CAPABILITIES))


def receive_in_dialog(parts: Parts, usage: Usage, request: Request, flow: Flow, now: float) -> None:
    """200 whether or not we take new calls: this one is up, and to ask about it has no effect on it (§11.2)."""
    _answer(parts, request, flow)


def options(
    parts: Parts,
    *,
    target: SipUri,
    from_: NameAddr,
    flow: Flow,
    next_hop: Hop,
    credentials: DigestClient | None = None,
    now: float,
) -> int:
    """Ask ``target`` what it can do; returns the token that ``OptionsAnswered`` will carry."""
    token = parts.new_request_token()
    uri = as_request_uri(str(target))
    headers = Headers(
        [
            ("Via", parts.transactions.new_via(flow)),
            ("Max-Forwards", str(MAX_FORWARDS)),
            ("From", str(from_.with_tag(parts.new_token()))),
            ("To", str(NameAddr(uri=str(replace(target, port=None, params=(), headers=""))))),
            ("Call-ID", parts.new_token()),
            ("CSeq", "1 OPTIONS"),
            ("Contact", f"<{contact_uri(flow, from_.sip_uri().user)}>"),
            ACCEPT,
        ]
    )
    request = Request(method="OPTIONS", uri=uri, headers=headers)
    parts.finish(request)
    asker = _Asker(parts, token, Proof.of(credentials))
    asker.asked = parts.transactions.request(request, flow=flow, next_hop=next_hop, user=asker, now=now)
    return token


class _Asker:
    """Waits for the final response to our OPTIONS."""

    def __init__(self, parts: Parts, token: int, proof: Proof | None) -> None:
        self._parts = parts
        self._token = token
        self._proof = proof
        self.asked: ClientTransaction | None = None

    def responded(self, response: Response, flow: Flow, now: float) -> None:
        if response.status < 200:
            return
        again = answer_challenge(self._parts, self.asked, response, flow, proof=self._proof, user=self, now=now)
        if again is not None:
            self.asked = again
        else:
            self._parts.emit(OptionsAnswered(token=self._token, response=response))

    def failed(self, cause: FailureCause, now: float) -> None:
        self._parts.emit(OptionsAnswered(token=self._token, response=None))
