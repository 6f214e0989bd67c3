"""What a user agent server looks at before it acts on a request (RFC 3261 §8.2.1-§8.2.3): rules as pure functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from offhook.sip.events import Flow
from offhook.sip.message import Request
from offhook.sip.uri import scheme_of

METHODS = ("INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "PRACK", "INFO", "MESSAGE", "REFER", "NOTIFY", "UPDATE")
ALLOW = ("Allow", ", ".join(METHODS))

EXTENSIONS: tuple[str, ...] = ("100rel", "norefersub", "replaces", "timer")
"""Option tags we understand."""
SUPPORTED = ("Supported", ", ".join(EXTENSIONS))

SDP = "application/sdp"
ACCEPT = ("Accept", SDP)

_SDP_RANGES = frozenset({SDP, "application/*", "*/*"})
_EVIDENCE_CHARS = 80


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """A failure to answer with: by which rule, what in the request shows it, and what its sender should change."""

    status: int
    rule: str
    evidence: str
    fix: str
    headers: tuple[tuple[str, str], ...] = ()


def inspect(request: Request, flow: Flow) -> Refusal | None:
    """The first rule that the request breaks, in the order of §8.2; None: none. Not for ACK and CANCEL."""
    for rule in _RULES:
        refusal = rule(request, flow)
        if refusal is not None:
            return refusal
    return None


def _method(request: Request, _: Flow) -> Refusal | None:
    """§8.2.1: "the UAS MUST generate a 405 (Method Not Allowed) response" with an Allow header."""
    if request.method in METHODS:
        return None
    fix = f"send one of: {', '.join(METHODS)}"
    if request.method == "REGISTER":
        fix = "offhook is no registrar: let it register at the PBX (a trunk of kind register), or call it directly"
    evidence = f"method {request.method[:_EVIDENCE_CHARS]}"
    return Refusal(status=405, rule="method not allowed", evidence=evidence, fix=fix, headers=(ALLOW,))


def _scheme(request: Request, flow: Flow) -> Refusal | None:
    """§8.2.2.1: 416 for a scheme we do not understand; sips only where the last hop, at least, was TLS (§26.2.2)."""
    scheme = scheme_of(request.uri)
    if scheme != "sip" and not (scheme == "sips" and flow.transport == "TLS"):
        return Refusal(
            status=416,
            rule="Request-URI scheme",
            evidence=f"Request-URI: {request.uri[:_EVIDENCE_CHARS]}",
            fix="dial a sip: URI, or sips: by TLS; tel: and others are for the proxy to translate",
        )
    return None


def _extensions(request: Request, _: Flow) -> Refusal | None:
    """§8.2.2.3: 420 with every option tag we do not understand. Proxy-Require is for proxies."""
    unknown = [tag for tag in request.headers.values("Require") if tag.lower() not in EXTENSIONS]
    if not unknown:
        return None
    listed = ", ".join(unknown)
    return Refusal(
        status=420,
        rule="Require",
        evidence=f"Require: {listed[:_EVIDENCE_CHARS]}",
        fix=f"switch the extension {listed[:_EVIDENCE_CHARS]} off, or let it be optional (Supported, not Require)",
        headers=(("Unsupported", listed), SUPPORTED),
    )


def _content(request: Request, _: Flow) -> Refusal | None:
    """§8.2.3: 415 for a body we cannot read, with what we could."""
    if request.method not in ("INVITE", "PRACK", "UPDATE") or not request.body:
        return None
    encodings = [value for value in request.headers.values("Content-Encoding") if value.lower() != "identity"]
    if encodings:
        identity = ("Accept-Encoding", "identity")
        return Refusal(
            status=415,
            rule="Content-Encoding",
            evidence=f"Content-Encoding: {encodings[0][:_EVIDENCE_CHARS]}",
            fix="send the body as it is, without Content-Encoding",
            headers=(identity, ACCEPT),
        )
    content_type = request.headers.get("Content-Type") or ""
    if media_range(content_type) == SDP:
        return None
    return Refusal(
        status=415,
        rule="Content-Type",
        evidence=f"Content-Type: {content_type[:_EVIDENCE_CHARS]}",
        fix=f"send {SDP} alone as the body of {request.method}",
        headers=(ACCEPT,),
    )


def _acceptable(request: Request, _: Flow) -> Refusal | None:
    """§20.1, §21.4.7: 406 where the answer could not be a session description. No Accept means that it may."""
    if request.method != "INVITE" or "Accept" not in request.headers:
        return None
    if _SDP_RANGES.intersection(map(media_range, request.headers.values("Accept"))):
        return None
    accept = ", ".join(request.headers.get_all("Accept"))
    return Refusal(
        status=406,
        rule="Accept",
        evidence=f"Accept: {accept[:_EVIDENCE_CHARS]}",
        fix=f"let Accept name {SDP}, or leave it out",
        headers=(ACCEPT,),
    )


def _replaces(request: Request, _: Flow) -> Refusal | None:
    """RFC 3891 §3: 400 for Replaces "in a request other than INVITE"."""
    if request.method == "INVITE" or "Replaces" not in request.headers:
        return None
    evidence = f"Replaces in {request.method}"
    return Refusal(status=400, rule="Replaces", evidence=evidence, fix="send Replaces with a new INVITE alone")


def media_range(value: str) -> str:
    """``type/subtype`` in lower case, without parameters and blanks."""
    return "".join(value.partition(";")[0].split()).lower()


_RULES: tuple[Callable[[Request, Flow], Refusal | None], ...] = (
    _method,
    _scheme,
    _extensions,
    _content,
    _acceptable,
    _replaces,
)


def too_many(retry_after_s: int) -> Refusal:
    """§21.5.4: we have no room; come back, or go elsewhere."""
    return Refusal(
        status=503,
        rule="no room",
        evidence="",
        fix="the log says what hinders; raise max_calls, add a node, or send fewer calls; wait while the server stops",
        headers=(("Retry-After", str(retry_after_s)),),
    )


NO_SUCH_DIALOG = Refusal(
    status=481,
    rule="no such dialog",
    evidence="",
    fix="the call is over here, or the tags or the Call-ID are not those of our answer: copy To and From as they came",
)
_OUTSIDE = ("INVITE", "ACK", "CANCEL", "BYE", "OPTIONS")
ONLY_IN_A_CALL = Refusal(
    status=405,
    rule="method outside a call",
    evidence="",
    fix="send it inside the dialog of a call, with that call's tags; outside one offhook takes INVITE and OPTIONS",
    headers=(("Allow", ", ".join(_OUTSIDE)),),
)
"""§21.4.6: known, and yet "not allowed for the address identified by the Request-URI"."""
NOTHING_TO_CANCEL = Refusal(
    status=481,
    rule="nothing to cancel",
    evidence="",
    fix="cancel an INVITE with its own branch, before its final response",
)
"""§9.2."""
OUT_OF_ORDER = Refusal(
    status=500, rule="CSeq out of order", evidence="", fix="raise the CSeq number with each request of a dialog"
)
"""§12.2.2."""
MERGED = Refusal(
    status=482,
    rule="merged request",
    evidence="",
    fix="the same INVITE came by two paths: let the proxy fork to one of our addresses only",
)
"""§8.2.2.2."""
LOOPED = Refusal(
    status=482,
    rule="loop",
    evidence="",
    fix="the called number leads back to offhook: change the route of this number at the PBX or proxy",
)
"""§16.3, item 4: our own call came back to us through somebody else."""
