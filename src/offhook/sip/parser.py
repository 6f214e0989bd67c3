"""Octets to messages: whole datagrams, and the framing of streams (RFC 3261 §7, §18.3, §25; RFC 5626 §3.5.1).

What is checked here is what an endpoint must know before it can act at all: the start line, that each
header line is one, that the mandatory headers are there once and readable, that lengths add up. Whether
method, scheme, extensions or body suit us is the user agent's business.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from offhook.model.errors import SipParseError
from offhook.sip.grammar import BLANK, is_token, parse_number, readable_params, split_list
from offhook.sip.headers import Field, Headers, NameAddr, Via, field_of, known_name
from offhook.sip.message import Request, Response, SipMessage
from offhook.sip.uri import SipUri, is_sip

MAX_HEADER_SECTION_BYTES = 65_536
"""Start line and headers. A UDP datagram cannot carry more; a stream shall not either."""

MAX_LINE_BYTES = 8_192
"""One header field, unfolded (as characters). Identity (RFC 8224) headers take 1-2 KB, nothing usual takes more."""

MAX_HEADERS = 256
"""Header lines. A call through ten proxies has about 60."""

MAX_VIAS = 70
"""RFC 3261 §8.1.1.6 starts Max-Forwards at 70: a longer way than that is a loop."""

MAX_ADDRESSES = 256
"""Values of a Contact, Route or Record-Route. Each is read before anything is decided; 64 KB would hold 16,000."""

MAX_BODY_BYTES = 65_536
"""Far above any session description; what one connection may make us hold."""

MAX_BUFFER_BYTES = MAX_HEADER_SECTION_BYTES + 4 + MAX_BODY_BYTES
"""What a stream may make us hold: one message, its blank line included."""

_CRLF = b"\r\n"
_HEAD_END = b"\r\n\r\n"
_FOLD = re.compile(r"\r\n[ \t]+")
_VERSION = re.compile(r"SIP/[0-9]+\.[0-9]+", re.IGNORECASE | re.ASCII)
_STATUS_LINE = re.compile(r"SIP/2\.0 ([1-6][0-9]{2})(?: (.*))?", re.IGNORECASE | re.ASCII | re.DOTALL)
_ABSOLUTE_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:[^\x00-\x20\x7f<>\"]+")

_COPIED = ("From", "To", "Call-ID", "CSeq")
"""What a response copies, besides every Via (§8.2.6.2)."""

_SINGLE = ("From", "To", "Call-ID", "CSeq", "Max-Forwards", "Content-Length", "Content-Type")
"""Headers that stand once (§7.3.1, §20); twice, nobody can know which one holds (RFC 4475 §3.3.8, §3.3.9)."""


class MalformedRequest(SipParseError):  # noqa: N818  # the contract's name: it is a request, not just an error
    """A request that cannot be used. ``request`` holds what a response copies, or None: not answerable.

    An ACK is never answerable (§17.1.1.3), nor is a request without a readable top Via. The headers a
    response does not copy and the body are left out; From, To, Call-ID and CSeq may be missing or unreadable.
    """

    def __init__(self, error: SipParseError, request: Request | None) -> None:
        super().__init__(error.field, error.problem, error.status)
        self.request = request


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """A double CRLF on a stream: answer it with a single one (RFC 5626 §3.5.1)."""


@dataclass(frozen=True, slots=True)
class Broken:
    """The stream lost its framing: answer ``error`` if it can be answered, then close. Nothing follows."""

    error: SipParseError


StreamItem = Request | Response | KeepAlive | SipParseError | Broken


def is_keep_alive(datagram: bytes) -> bool:
    """Whether a datagram only keeps a NAT binding open: empty, line breaks or NULs, no message."""
    return not datagram.strip(b"\r\n\0")


def parse_message(datagram: bytes) -> SipMessage:
    """One whole message. Octets beyond Content-Length are ignored (§18.3).

    Raises MalformedRequest for what began as a request, with the status to answer; SipParseError for
    anything else, which is to be discarded.
    """
    octets = datagram.lstrip(_CRLF)
    raw_head, blank, rest = octets.partition(_HEAD_END)
    try:
        if not blank:
            raise SipParseError("start-line", "no empty line ends the headers")
        head = _read_head(raw_head)
        return _assemble(head, _body_of_datagram(head.headers, rest))
    except SipParseError as error:
        raise _blame(error, raw_head) from None


def _body_of_datagram(headers: Headers, rest: bytes) -> bytes:
    """§18.3: octets beyond the body are discarded; a datagram that ends before it "is considered an error"."""
    length = _content_length(headers)
    if length is None:
        length = len(rest)
    if length > MAX_BODY_BYTES:
        raise SipParseError("body", f"longer than {MAX_BODY_BYTES} octets", 413)
    if length > len(rest):
        raise SipParseError("Content-Length", f"{length} octets announced, {len(rest)} came")
    return rest[:length]


def _content_length(headers: Headers) -> int | None:
    lengths = headers.get_all("Content-Length")
    if len(lengths) > 1:
        raise SipParseError("Content-Length", "stands more than once")
    return parse_number(lengths[0], "Content-Length", 2**32) if lengths else None


# ── lines ────────────────────────────────────────────────────────────────────────────────────────────────


class _Head(NamedTuple):
    start_line: str
    headers: Headers


def _read_head(raw: bytes) -> _Head:
    """Start line and fields, unfolded, nothing interpreted. Raises SipParseError."""
    if len(raw) > MAX_HEADER_SECTION_BYTES:
        raise _head_too_long()
    lines = _lines(raw)
    if len(lines) - 1 > MAX_HEADERS:
        raise SipParseError("start-line", f"more than {MAX_HEADERS} headers", 513)
    if len(max(lines, key=len)) > MAX_LINE_BYTES:
        raise SipParseError("start-line", f"a line longer than {MAX_LINE_BYTES} octets", 513)
    if raw.count(b"\n") != raw.count(_CRLF) or raw.count(b"\r") != raw.count(_CRLF):
        raise SipParseError("start-line", "a CR or LF that does not end a line")
    return _Head(lines[0], Headers.of_fields([_field(line) for line in lines[1:]]))


def _head_too_long() -> SipParseError:
    return SipParseError("start-line", f"headers longer than {MAX_HEADER_SECTION_BYTES} octets", 513)


def _lines(raw: bytes) -> list[str]:
    text = raw.decode("utf-8", "surrogateescape")
    if "\r\n " in text or "\r\n\t" in text:
        text = _FOLD.sub(" ", text)
    return text.split("\r\n")


def _field(line: str) -> Field:
    name, colon, value = line.partition(":")
    spelled = known_name(name) or _spelled(name.rstrip(BLANK))
    if not colon or spelled is None:
        raise SipParseError("start-line", f"not a header line: {line[:80]!r}")
    return *spelled, value.strip(BLANK)


def _spelled(name: str) -> tuple[str, str] | None:
    """§25.1, HCOLON: blanks may stand before the colon."""
    if not is_token(name):
        return None
    return known_name(name) or (name.lower(), name)


# ── messages ─────────────────────────────────────────────────────────────────────────────────────────────


def _assemble(head: _Head, body: bytes) -> SipMessage:
    if _is_status_line(head.start_line):
        return _response(head, body)
    return _request(head, body)


def _is_status_line(line: str) -> bool:
    """No method holds a slash, so nothing else can begin like this."""
    return line[:4].upper() == "SIP/"


def _response(head: _Head, body: bytes) -> Response:
    match = _STATUS_LINE.fullmatch(head.start_line)
    if match is None:
        raise SipParseError("start-line", f"not a status line: {head.start_line[:80]!r}")
    response = Response(status=int(match[1]), reason=match[2] or "", headers=head.headers, body=body)
    _check_headers(response)
    return response


def _request(head: _Head, body: bytes) -> Request:
    parts = head.start_line.split(" ")
    if len(parts) != 3 or not is_token(parts[0]) or _VERSION.fullmatch(parts[2]) is None:
        raise SipParseError("start-line", f"not a request line: {head.start_line[:80]!r}")
    method, uri, version = parts
    if version.upper() != "SIP/2.0":
        raise SipParseError("start-line", f"version {version[:40]} is not supported", 505)
    request = Request(method=method, uri=uri, headers=head.headers, body=body)
    _check_request_uri(request)
    _check_headers(request)
    if request.cseq.method != method:
        raise SipParseError("CSeq", f"method is {request.cseq.method[:40]}, not {method[:40]}")
    return request


def _check_request_uri(request: Request) -> None:
    """Other schemes are for the user agent to refuse (416), as long as they are URIs."""
    # §19.1.1, table 1: a Request-URI has no headers
    if is_sip(request.uri) and request.sip_uri.headers:
        raise SipParseError("start-line", "headers in the Request-URI")
    if _ABSOLUTE_URI.fullmatch(request.uri) is None:
        raise SipParseError("start-line", f"not a Request-URI: {request.uri[:80]!r}")


def _check_headers(message: SipMessage) -> None:
    """Each once where once is the rule, and every view readable, so that none of them can raise later."""
    headers = message.headers
    for name in headers.repeated(_SINGLE):
        raise SipParseError(name, "stands more than once")
    if len(headers.values("Via")) > MAX_VIAS:
        raise SipParseError("Via", f"more than {MAX_VIAS} hops", 513)
    _read_views(message)


def _read_views(message: SipMessage) -> None:
    _ = message.via_top, message.from_, message.to, message.sip_call_id, message.cseq, message.max_forwards
    contact = message.contact
    if contact is not None:
        _check_target(contact)
    for value in _addresses(message.headers, "Contact")[1:]:
        _check_target(NameAddr.parse(value, "Contact"))
    for name in ("Route", "Record-Route"):
        for value in _addresses(message.headers, name):
            _check_target(NameAddr.parse(value, name))


def _addresses(headers: Headers, name: str) -> list[str]:
    values = headers.values(name)
    if len(values) > MAX_ADDRESSES:
        raise SipParseError(name, f"more than {MAX_ADDRESSES} addresses", 513)
    return values


def _check_target(address: NameAddr) -> None:
    """These become remote targets and route sets: a SIP URI in them must be one."""
    if is_sip(address.uri):
        SipUri.check(address.uri)


# ── what can still be answered ───────────────────────────────────────────────────────────────────────────


def _blame(error: SipParseError, raw_head: bytes) -> SipParseError:
    """The error as a MalformedRequest where the start line is a request's, however damaged."""
    lines = _lines(raw_head[:MAX_HEADER_SECTION_BYTES])[: MAX_HEADERS + 1]
    parts = lines[0].split()
    if _is_status_line(lines[0]) or len(parts) < 3 or _VERSION.fullmatch(parts[-1]) is None:
        return error
    if parts[0] == "ACK" or not is_token(parts[0]):
        return MalformedRequest(error, None)
    headers = _readable_headers(lines[1:])
    if "Via" not in headers:
        return MalformedRequest(error, None)
    return MalformedRequest(error, Request(method=parts[0], uri=" ".join(parts[1:-1]), headers=headers))


def _readable_headers(lines: list[str]) -> Headers:
    """Every Via with a readable sent-by (none if the top one has not), and the first of each other header."""
    found: dict[str, str] = {}
    vias: list[str] = []
    for line in lines:
        name, _, value = line[:MAX_LINE_BYTES].partition(":")
        _, name, value = field_of(name.rstrip(BLANK), value.strip(BLANK))
        if "\r" in value or "\n" in value:
            continue
        if name == "Via":
            vias += split_list(value)[: MAX_VIAS - len(vias)]
        elif name in _COPIED:
            found.setdefault(name, value)
    mended = [_mended(via) for via in vias]
    if not mended or mended[0] is None:
        return Headers()
    return Headers([*(("Via", via) for via in mended if via is not None), *found.items()])


def _mended(via: str) -> str | None:
    """A Via without what is no parameter (RFC 4475 §3.1.2.1); None without a readable sent-by."""
    sent_by, semicolon, params = via.partition(";")
    try:
        Via.parse(sent_by)
    except SipParseError:
        return None
    return sent_by.rstrip(BLANK) + readable_params(semicolon + params)


# ── streams ──────────────────────────────────────────────────────────────────────────────────────────────


class _Pending(NamedTuple):
    """A message of a stream whose body is still to come."""

    head: _Head
    raw_head: bytes
    body_length: int


class StreamParser:
    """Cuts a TCP or TLS stream into messages (§18.3). Holds at most ``MAX_BUFFER_BYTES``, however it is fed.

    ``feed`` returns what became complete, in order: messages; ``KeepAlive``; a SipParseError (often a
    MalformedRequest) for a message that is unusable but whose end is known; ``Broken`` once the framing
    is lost, after which everything is ignored.
    """

    __slots__ = ("_broken", "_buffer", "_pending", "_scanned")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._scanned = 0
        """Octets of the buffer known not to hold the end of a head."""
        self._pending: _Pending | None = None
        self._broken = False

    @property
    def buffered(self) -> int:
        """Octets held back of a message that is not complete."""
        return len(self._buffer) + (0 if self._pending is None else len(self._pending.raw_head))

    @property
    def unfinished(self) -> bool:
        """Whether a message has begun and its end is due. A line break between messages begins none."""
        return self._pending is not None or not _HEAD_END.startswith(self._buffer)

    def feed(self, data: bytes) -> list[StreamItem]:
        items: list[StreamItem] = []
        position = 0
        while position < len(data) and not self._broken:
            room = MAX_BUFFER_BYTES - self.buffered
            self._buffer += data[position : position + room]
            position += room
            while (item := self._next()) is not None:
                items.append(item)
        return items

    def _next(self) -> StreamItem | None:
        if self._broken:
            return None
        if self._pending is None:
            if self._take_line_breaks():
                return _KEEP_ALIVE
            try:
                self._pending = self._take_head()
            except SipParseError as error:
                return self._break(error)
        if self._pending is None or len(self._buffer) < self._pending.body_length:
            return None
        return self._take_message(self._pending)

    def _take_line_breaks(self) -> bool:
        """RFC 5626 §3.5.1: a double CRLF between messages is a ping. RFC 3261 §7.5: a single one is nothing."""
        if self._buffer.startswith(_HEAD_END):
            del self._buffer[:4]
            return True
        if self._buffer.startswith(_CRLF) and not _HEAD_END.startswith(self._buffer):
            del self._buffer[:2]
        return False

    def _take_head(self) -> _Pending | None:
        """The next head, or None while it is incomplete. Raises SipParseError, blamed."""
        if _HEAD_END.startswith(self._buffer):
            return None  # nothing yet, or perhaps a ping
        end = self._buffer.find(_HEAD_END, self._scanned)
        if end < 0 and len(self._buffer) > MAX_HEADER_SECTION_BYTES + 3:
            raise _blame(_head_too_long(), bytes(self._buffer))
        if end < 0:
            self._scanned = max(0, len(self._buffer) - 3)
            return None
        raw_head = bytes(self._buffer[:end])
        del self._buffer[: end + 4]
        self._scanned = 0
        try:
            head = _read_head(raw_head)
            return _Pending(head, raw_head, _stream_body_length(head.headers))
        except SipParseError as error:
            raise _blame(error, raw_head) from None

    def _take_message(self, pending: _Pending) -> StreamItem:
        body = bytes(self._buffer[: pending.body_length])
        del self._buffer[: pending.body_length]
        self._pending = None
        try:
            return _assemble(pending.head, body)
        except SipParseError as error:
            return _blame(error, pending.raw_head)

    def _break(self, error: SipParseError) -> Broken:
        self._broken = True
        self._buffer.clear()
        return Broken(error)


_KEEP_ALIVE = KeepAlive()


def _stream_body_length(headers: Headers) -> int:
    """§18.3: "The Content-Length header field MUST be used with stream oriented transports." """
    length = _content_length(headers)
    if length is None:
        raise SipParseError("Content-Length", "missing on a stream")
    if length > MAX_BODY_BYTES:
        raise SipParseError("body", f"longer than {MAX_BODY_BYTES} octets", 413)
    return length
