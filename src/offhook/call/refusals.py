"""Why a call of ours came to nothing: what the other side said, where it said it, and what to change (RFC 3261 §21)."""

from __future__ import annotations

from collections.abc import Mapping

from offhook.model.call_events import CallRefused
from offhook.sip.events import InviteFailed
from offhook.sip.message import Response

TRANSPORT_FAILED, TIMED_OUT = 503, 408
"""RFC 3261 §8.1.3.1: what a failed transport and a time-out count as."""

_MAX_EVIDENCE_CHARS = 200


def explain_refusal(response: Response) -> CallRefused:
    """From a final response: the header that says most, else the status line."""
    status = response.status
    return CallRefused(
        status=status,
        rule="refused by the called side",
        evidence=_evidence(response)[:_MAX_EVIDENCE_CHARS],
        fix=FIXES.get(status) or FIXES.get(status // 100 * 100, _UNKNOWN),
    )


def explain_failure(failed: InviteFailed, server: str) -> CallRefused | None:
    """From no response at all; None for a call that was cancelled, and one that was answered."""
    match failed.cause:
        case "timeout":
            return CallRefused(
                status=TIMED_OUT,
                rule="no final response (RFC 3261 §17.1.1.2, timer B)",
                evidence=f"INVITE to {server}",
                fix="check that the called system runs, and the firewalls between; offhook doctor asks it by OPTIONS",
            )
        case "transport":
            return explain_no_way(f"{server}: {failed.reason}")
        case "refused" | "cancelled":
            return None


def explain_no_way(problem: str) -> CallRefused:
    """Nothing could be sent: no such name, no route, nobody there, TLS that fails."""
    return CallRefused(
        status=TRANSPORT_FAILED,
        rule="nothing could be sent to the called side (RFC 3261 §8.1.3.1)",
        evidence=problem[:_MAX_EVIDENCE_CHARS],
        fix="correct host, port and transport of the target or trunk; offhook doctor looks them up and asks them",
    )


def _evidence(response: Response) -> str:
    for name in (*_TELLING.get(response.status, ()), "Warning", "Reason"):
        value = response.headers.get(name)
        if value:
            return f"{name}: {value}"
    return f"status line: {response.status} {response.reason}"


_TELLING: Mapping[int, tuple[str, ...]] = {
    301: ("Contact",),
    302: ("Contact",),
    305: ("Contact",),
    401: ("WWW-Authenticate",),
    405: ("Allow",),
    407: ("Proxy-Authenticate",),
    415: ("Accept",),
    420: ("Unsupported",),
    421: ("Require",),
    422: ("Min-SE",),
    423: ("Min-Expires",),
    503: ("Retry-After",),
}
"""The header in which that status says why."""

_UNKNOWN = "ask the operator of the called system for this status"

FIXES: Mapping[int, str] = {
    300: "the called side names other places; dial the one in its Contact",
    400: "the called side finds our request malformed: send the trace of this call to its operator",
    401: "the called side wants credentials, or others: call by a trunk with its username and password",
    402: "the called side wants payment: ask its operator",
    403: "the called side forbids it: check the caller id and the address you call from",
    404: "no such number there: check the user part of the URI",
    405: "the called side takes no INVITE there: check the URI",
    406: "the called side can answer with nothing we accept; we accept application/sdp",
    407: "a proxy wants credentials, or others: call by a trunk with its username and password",
    408: "nobody answered in time: try again later, or check the way behind the server",
    410: "that number is gone for good: take it off your list",
    413: "our request is too large for the called side: ask its operator",
    414: "the dialled URI is too long: shorten it",
    415: "the called side takes no SDP in an INVITE",
    416: "the called side does not know the scheme: dial a sip: URI",
    420: "the called side does not know an extension we require: ask its operator",
    421: "the called side requires an extension that offhook does not have: switch it off for this caller",
    422: "the called side wants a longer session interval; offhook uses none",
    480: "nobody is reachable there now; try again later",
    481: "the called side lost the call: try again",
    482: "the call goes in a circle: check the routes of this number",
    483: "the call went through too many proxies: check the routes of this number",
    484: "the number is incomplete: dial all its digits",
    485: "the number is ambiguous there: dial another form of it",
    486: "the called side is busy; try again later",
    487: "the call was given up before it was answered",
    488: "no common codec: offhook offers PCMU and PCMA",
    491: "the called side is busy with another change; try again",
    493: "the called side cannot decrypt: offhook sends nothing encrypted in SIP bodies",
    500: "the called side has an error inside; try again later, or ask its operator",
    501: "the called side does not know INVITE: check host and port",
    502: "a gateway behind the called side failed; try again later",
    503: "the called side is overloaded or draining; try again later",
    504: "a server behind the called side did not answer; try again later",
    505: "the called side speaks another version of SIP: ask its operator",
    513: "our request is too large for the called side: ask its operator",
    600: "the called person is busy everywhere; try again later",
    603: "the called person declined",
    604: "that number exists nowhere: check it",
    606: "no common codec or address: offhook offers PCMU and PCMA",
    607: "the called person does not want calls from this number",
    608: "an analytics service blocks this caller id: have the number registered with it",
}
"""What to change; 300, 400, 500, 600 stand for their class where a status is not listed."""
