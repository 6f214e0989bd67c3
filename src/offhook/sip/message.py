"""SIP requests and responses as values, and how they are written (RFC 3261 §7, §8.2.6)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeVar, cast

from offhook.model.errors import LocalProtocolError, SipParseError
from offhook.sip.grammar import parse_number, split_list
from offhook.sip.headers import CSeq, Headers, NameAddr, Via
from offhook.sip.uri import SipUri

MAX_FORWARDS_MAX = 255
"""§20.22: "an integer in the range 0-255"."""

View = TypeVar("View")


@dataclass(kw_only=True, slots=True)
class _Message:
    """What requests and responses share. A view is parsed when first asked for and kept while its line stands.

    Views raise SipParseError(field) where the header is missing or unreadable: never on what
    ``parse_message`` returned, which has read them all.
    """

    headers: Headers
    body: bytes = b""
    _views: dict[str, tuple[str, object]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def _view(self, name: str, parse: Callable[[str, str], View]) -> View:
        view = self._view_or_none(name, parse)
        if view is None:
            raise SipParseError(name, "missing")
        return view

    def _view_or_none(self, name: str, parse: Callable[[str, str], View]) -> View | None:
        raw = self.headers.get(name)
        return None if raw is None else self._read(name, raw, parse)

    def _read(self, name: str, raw: str, parse: Callable[[str, str], View]) -> View:
        """``raw`` parsed, or what that gave the last time: a changed header is read anew."""
        known = self._views.get(name)
        if known is not None and known[0] == raw:
            return cast(View, known[1])
        view = parse(raw, name)
        self._views[name] = (raw, view)
        return view

    @property
    def via_top(self) -> Via:
        return self._view("Via", _first_via)

    @property
    def cseq(self) -> CSeq:
        return self._view("CSeq", CSeq.parse)

    @property
    def from_(self) -> NameAddr:
        return self._view("From", NameAddr.parse)

    @property
    def to(self) -> NameAddr:
        return self._view("To", NameAddr.parse)

    @property
    def sip_call_id(self) -> str:
        return self._view("Call-ID", _not_empty)

    @property
    def contact(self) -> NameAddr | None:
        """The first Contact; None when absent or ``*``."""
        return self._view_or_none("Contact", _first_contact)

    @property
    def max_forwards(self) -> int | None:
        return self._view_or_none("Max-Forwards", _hops)


@dataclass(kw_only=True, slots=True)
class Request(_Message):
    """A request. ``uri`` is the Request-URI as written, of any scheme. To change one, copy its headers first."""

    method: str
    uri: str

    @property
    def sip_uri(self) -> SipUri:
        """The Request-URI read. Raises SipParseError: 416 for another scheme than sip and sips."""
        return self._read("Request-URI", self.uri, _request_uri)


@dataclass(kw_only=True, slots=True)
class Response(_Message):
    """A response. ``reason`` may be empty and may hold any UTF-8."""

    status: int
    reason: str


SipMessage = Request | Response


def _first_via(raw: str, name: str) -> Via:
    values = split_list(raw)
    return Via.parse(values[0] if values else "", name)


def _first_contact(raw: str, name: str) -> NameAddr | None:
    values = split_list(raw)
    first = values[0] if values else ""
    return None if first == "*" else NameAddr.parse(first, name)


def _not_empty(raw: str, name: str) -> str:
    if not raw:
        raise SipParseError(name, "empty")
    return raw


def _hops(raw: str, name: str) -> int:
    return parse_number(raw, name, MAX_FORWARDS_MAX)


def _request_uri(raw: str, _name: str) -> SipUri:
    return SipUri.parse(raw)


# ── writing ──────────────────────────────────────────────────────────────────────────────────────────────


def serialize(message: SipMessage) -> bytes:
    """The message as octets: headers in their order, Content-Length set to what the body has.

    Raises LocalProtocolError where a line break stands inside a line: it would start a header of its own.
    """
    headers = message.headers.copy()
    headers.set("Content-Length", str(len(message.body)))
    lines = [_start_line(message), *(f"{name}: {value}" for name, value in headers.items())]
    head = "\r\n".join(lines)
    if not head.count("\r") == head.count("\n") == len(lines) - 1:
        raise LocalProtocolError("a line break inside a header or start line")
    return head.encode("utf-8", "surrogateescape") + b"\r\n\r\n" + message.body


def _start_line(message: SipMessage) -> str:
    if isinstance(message, Request):
        return f"{message.method} {message.uri} SIP/2.0"
    return f"SIP/2.0 {message.status} {message.reason}"


def response_to(
    request: Request,
    status: int,
    reason: str | None = None,
    *,
    to_tag: str | None = None,
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    content_type: str | None = None,
) -> Response:
    """A response with what §8.2.6.2 copies: every Via, From, To, Call-ID, CSeq; then ``headers``.

    ``to_tag`` is added where the request's To has none, but not to a 100. A malformed request's
    response has those of them that could be read.
    """
    copied = [("Via", via) for via in request.headers.get_all("Via")]
    for name in ("From", "To", "Call-ID", "CSeq"):
        value = request.headers.get(name)
        if value is not None:
            copied.append((name, _with_tag(value, to_tag) if name == "To" and status != 100 else value))
    # §8.2.6.1: "any Timestamp header field present in the request MUST be copied into this 100"
    timestamp = request.headers.get("Timestamp")
    if status == 100 and timestamp is not None:
        copied.append(("Timestamp", timestamp))
    written = Headers(copied)
    for name, value in headers:
        written.add(name, value)
    if content_type is not None:
        written.add("Content-Type", content_type)
    phrase = REASON_PHRASES.get(status, "") if reason is None else reason
    return Response(status=status, reason=phrase, headers=written, body=body)


def _with_tag(to: str, tag: str | None) -> str:
    if tag is None:
        return to
    try:
        tagged = NameAddr.parse(to).tag is not None
    except SipParseError:
        tagged = False
    return to if tagged else f"{to};tag={tag}"


REASON_PHRASES: Mapping[int, str] = MappingProxyType(
    {
        100: "Trying",
        180: "Ringing",
        181: "Call Is Being Forwarded",
        182: "Queued",
        183: "Session Progress",
        199: "Early Dialog Terminated",
        200: "OK",
        202: "Accepted",
        204: "No Notification",
        300: "Multiple Choices",
        301: "Moved Permanently",
        302: "Moved Temporarily",
        305: "Use Proxy",
        380: "Alternative Service",
        400: "Bad Request",
        401: "Unauthorized",
        402: "Payment Required",
        403: "Forbidden",
        404: "Not Found",
        405: "Method Not Allowed",
        406: "Not Acceptable",
        407: "Proxy Authentication Required",
        408: "Request Timeout",
        410: "Gone",
        412: "Conditional Request Failed",
        413: "Request Entity Too Large",
        414: "Request-URI Too Long",
        415: "Unsupported Media Type",
        416: "Unsupported URI Scheme",
        420: "Bad Extension",
        421: "Extension Required",
        422: "Session Interval Too Small",
        423: "Interval Too Brief",
        428: "Use Identity Header",
        429: "Provide Referrer Identity",
        430: "Flow Failed",
        433: "Anonymity Disallowed",
        436: "Bad Identity Info",
        437: "Unsupported Credential",
        438: "Invalid Identity Header",
        439: "First Hop Lacks Outbound Support",
        440: "Max-Breadth Exceeded",
        469: "Bad Info Package",
        480: "Temporarily Unavailable",
        481: "Call/Transaction Does Not Exist",
        482: "Loop Detected",
        483: "Too Many Hops",
        484: "Address Incomplete",
        485: "Ambiguous",
        486: "Busy Here",
        487: "Request Terminated",
        488: "Not Acceptable Here",
        489: "Bad Event",
        491: "Request Pending",
        493: "Undecipherable",
        494: "Security Agreement Required",
        500: "Server Internal Error",
        501: "Not Implemented",
        502: "Bad Gateway",
        503: "Service Unavailable",
        504: "Server Time-out",
        505: "Version Not Supported",
        513: "Message Too Large",
        580: "Precondition Failure",
        600: "Busy Everywhere",
        603: "Decline",
        604: "Does Not Exist Anywhere",
        606: "Not Acceptable",
        607: "Unwanted",
        608: "Rejected",
    }
)
