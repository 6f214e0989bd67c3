"""Octets to messages: datagrams, what can still be answered, streams, limits (RFC 3261 §7, §18.3)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import pytest

from offhook.model.errors import SipParseError
from offhook.sip import parser
from offhook.sip.message import Request, Response, response_to, serialize
from offhook.sip.parser import (
    Broken,
    KeepAlive,
    MalformedRequest,
    StreamItem,
    StreamParser,
    is_keep_alive,
    parse_message,
)

HEADERS = {
    "Via": "SIP/2.0/UDP pc33.atlanta.com;branch=z9hG4bK776asdhds",
    "Max-Forwards": "70",
    "To": "Bob <sip:bob@biloxi.com>",
    "From": "Alice <sip:alice@atlanta.com>;tag=1928301774",
    "Call-ID": "a84b4c76e66710@pc33.atlanta.com",
    "CSeq": "314159 INVITE",
    "Contact": "<sip:alice@pc33.atlanta.com>",
}


def octets(
    start: str = "INVITE sip:bob@biloxi.com SIP/2.0",
    *more: str,
    without: str = "",
    body: bytes = b"",
    length: int | None = None,
    having: Mapping[str, str] = MappingProxyType({}),
) -> bytes:
    """A message as it travels: ``having`` replaces or adds headers, ``length`` writes Content-Length."""
    fields = {**HEADERS, **having}
    lines = [start, *(f"{name}: {value}" for name, value in fields.items() if name != without), *more]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + body


def request(data: bytes) -> Request:
    message = parse_message(data)
    assert isinstance(message, Request)
    return message


def response(data: bytes) -> Response:
    message = parse_message(data)
    assert isinstance(message, Response)
    return message


def refusal(data: bytes) -> SipParseError:
    with pytest.raises(SipParseError) as refused:
        parse_message(data)
    return refused.value


# ── what is read ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_request() -> None:
    message = request(octets(body=b"v=0\r\n", length=5))
    assert (message.method, message.uri, message.body) == ("INVITE", "sip:bob@biloxi.com", b"v=0\r\n")
    assert message.headers.items() == [*HEADERS.items(), ("Content-Length", "5")]


def test_a_response() -> None:
    message = response(octets("SIP/2.0 183 Session Progress", body=b"x"))
    assert (message.status, message.reason, message.body) == (183, "Session Progress", b"x")


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        ("SIP/2.0 200 ", ""),
        ("SIP/2.0 200", ""),
        ("sip/2.0 200 OK", "OK"),
        ("SIP/2.0 200  OK, Größe\udce9 ", " OK, Größe\udce9 "),
    ],
)
def test_reason_phrases_are_free(start: str, reason: str) -> None:
    assert response(octets(start)).reason == reason


def test_the_version_is_read_in_any_case() -> None:
    assert request(octets("INVITE sip:bob@biloxi.com sip/2.0")).uri == "sip:bob@biloxi.com"


def test_methods_keep_their_case() -> None:
    assert request(octets("Invite sip:bob@biloxi.com SIP/2.0", having={"CSeq": "1 Invite"})).method == "Invite"


def test_line_breaks_before_the_start_line_are_skipped() -> None:
    """§7.5: "Implementations … MUST ignore any CRLF appearing before the start-line" (of a stream; here too)."""
    assert request(b"\r\n\r\n" + octets()).method == "INVITE"


def test_folded_compact_and_strangely_spaced_headers() -> None:
    message = request(octets("INVITE tel:+1 SIP/2.0", "s :", " long", "\t subject ", "K:a,b", "X-Own \t:\t y", "e:"))
    assert message.headers.items()[-4:] == [
        ("Subject", "long subject"),
        ("Supported", "a,b"),
        ("X-Own", "y"),
        ("Content-Encoding", ""),
    ]


def test_octets_that_are_not_utf8_survive() -> None:
    data = octets(having={"From": "José\udce9\udcff <sip:j@x>;tag=1"}, body=bytes(range(256)), length=256)
    message = request(data)
    assert message.from_.display_name == "José\udce9\udcff"
    assert serialize(message) == data


def test_several_vias_in_one_line() -> None:
    message = request(octets(having={"Via": "SIP/2.0/UDP a;branch=1 ,SIP/2.0/TCP b"}))
    assert (message.via_top.host, message.via_top.branch) == ("a", "1")
    assert message.headers.values("Via") == ["SIP/2.0/UDP a;branch=1", "SIP/2.0/TCP b"]


def test_a_missing_max_forwards_is_forgiven() -> None:
    """RFC 2543 did not know it, and RFC 3261 §20.22 only asks for it to be inserted."""
    assert request(octets(without="Max-Forwards")).max_forwards is None


def test_other_schemes_are_left_to_the_user_agent() -> None:
    message = request(octets("INVITE tel:+49301234 SIP/2.0", having={"To": "<tel:+49301234>", "Contact": "<urn:x:y>"}))
    assert (message.uri, message.to.uri) == ("tel:+49301234", "tel:+49301234")


# ── bodies ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("length", "body"), [(None, b"abcdef"), (6, b"abcdef"), (4, b"abcd"), (0, b"")])
def test_a_datagram_s_body_is_what_is_announced(length: int | None, body: bytes) -> None:
    assert request(octets(body=b"abcdef", length=length)).body == body


def test_a_datagram_that_ends_too_early_is_a_bad_request() -> None:
    refused = refusal(octets(body=b"abc", length=4))
    assert (refused.field, refused.status) == ("Content-Length", 400)


@pytest.mark.parametrize("length", ["-1", "", "0x1", "1.0", "1, 1", "٣", "9" * 30])
def test_content_length_is_a_number(length: str) -> None:
    assert refusal(octets("INVITE sip:b SIP/2.0", f"l: {length}", body=b"abc")).field == "Content-Length"


# ── what is refused ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["Via", "To", "From", "Call-ID", "CSeq"])
def test_mandatory_headers(name: str) -> None:
    refused = refusal(octets(without=name))
    assert (refused.field, refused.problem, refused.status) == (name, "missing", 400)
    assert refusal(octets("SIP/2.0 200 OK", without=name)).field == name


@pytest.mark.parametrize("name", ["To", "From", "Call-ID", "CSeq", "Max-Forwards"])
def test_single_headers(name: str) -> None:
    refused = refusal(octets("INVITE sip:b SIP/2.0", f"{name}: {HEADERS[name]}"))
    assert (refused.field, refused.problem) == (name, "stands more than once")


@pytest.mark.parametrize("line", ["Content-Type: application/sdp", "Content-Length: 0"])
def test_single_headers_that_describe_the_body(line: str) -> None:
    assert refusal(octets("INVITE sip:b SIP/2.0", line, line)).field == line.partition(":")[0]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Via", ""),
        ("Via", "SIP/2.0/UDP"),
        ("From", '"Alice <sip:alice@atlanta.com>;tag=1'),
        ("From", "<sip:a@b>;tag=1, <sip:c@d>;tag=2"),
        ("To", "bob"),
        ("Call-ID", ""),
        ("CSeq", "2147483648 INVITE"),
        ("CSeq", "1 OPTIONS"),
        ("Max-Forwards", "256"),
        ("Contact", "<sip:a@b>;;"),
        ("Contact", "<sip:a@b>, <sip:c@d e>"),
        ("Contact", "<sip:a@b:99999>"),
        ("Contact", "<sip:a@b>, *"),
        ("Route", "<sip:a@b c>"),
        ("Record-Route", "<sip:a;lr>, sip:b;"),
    ],
)
def test_unreadable_headers(name: str, value: str) -> None:
    refused = refusal(octets(having={name: value}))
    assert refused.status == 400
    assert refused.field in {name, "uri"}


@pytest.mark.parametrize(
    "start",
    [
        "INVITE sip:b",
        "INVITE  sip:b SIP/2.0",
        "INVITE sip:b SIP/2.0 ",
        " INVITE sip:b SIP/2.0",
        "INVITE sip:b; lr SIP/2.0",
        "INVITE <sip:b> SIP/2.0",
        "INVITE sip:b?Route=x SIP/2.0",
        "INVITE sip:2001:db8::1 SIP/2.0",
        "INVITE bob SIP/2.0",
        "INVITE * SIP/2.0",
        "IN/VITE sip:b SIP/2.0",
        "INVITE sip:b SIP/2",
        "INVITE sip:b \u017fIP/2.0",
        "GET / HTTP/1.1",
        "",
    ],
)
def test_start_lines_that_are_none(start: str) -> None:
    assert refusal(octets(start)).status == 400


def test_another_version_is_told_apart() -> None:
    assert refusal(octets("INVITE sip:b SIP/3.0")).status == 505


@pytest.mark.parametrize("status", ["99", "099", "700", "1000", "4294967301", "2xx", "-200", "٢٠٠", ""])
def test_status_codes_have_three_digits_from_100_to_699(status: str) -> None:
    refused = refusal(octets(f"SIP/2.0 {status} OK"))
    assert not isinstance(refused, MalformedRequest)


@pytest.mark.parametrize(
    "line", ["no colon", ": no name", "two words: x", "Caf\u00e9: x", "\u212a: x", "a\rb: x", "a: b\nc: d", "a: \r"]
)
def test_lines_that_are_no_headers(line: str) -> None:
    assert refusal(octets("INVITE sip:b SIP/2.0", line)).status == 400


def test_a_head_without_its_empty_line() -> None:
    assert refusal(octets().removesuffix(b"\r\n")).problem == "no empty line ends the headers"


@pytest.mark.parametrize(
    "data", [b"", b"\r\n", b"\0" * 4, b"\xff\xfe", b"\r\n\r\n", b"SIP/2.0", b"REGISTER", b"\x16\x03\x01"]
)
def test_noise_is_discarded(data: bytes) -> None:
    assert not isinstance(refusal(data), MalformedRequest)


@pytest.mark.parametrize(
    ("data", "expected"),
    [(b"", True), (b"\r\n\r\n", True), (b"\0\0\0\0", True), (b"\n", True), (b"jaK", False), (octets(), False)],
)
def test_keep_alive_datagrams(data: bytes, expected: bool) -> None:
    assert is_keep_alive(data) is expected


# ── what can still be answered ───────────────────────────────────────────────────────────────────────────


def malformed(data: bytes) -> Request | None:
    refused = refusal(data)
    assert isinstance(refused, MalformedRequest)
    return refused.request


def test_a_malformed_request_carries_what_a_response_copies() -> None:
    answerable = malformed(octets("INVITE sip:b; lr SIP/2.0", "Subject: x", "no colon", having={"To": '"Bob <sip:b>'}))
    assert answerable is not None
    assert (answerable.method, answerable.uri) == ("INVITE", "sip:b; lr")
    answer = serialize(response_to(answerable, 400, to_tag="t"))
    assert answer == (
        b"SIP/2.0 400 Bad Request\r\n"
        b"Via: SIP/2.0/UDP pc33.atlanta.com;branch=z9hG4bK776asdhds\r\n"
        b"From: Alice <sip:alice@atlanta.com>;tag=1928301774\r\n"
        b'To: "Bob <sip:b>;tag=t\r\n'
        b"Call-ID: a84b4c76e66710@pc33.atlanta.com\r\n"
        b"CSeq: 314159 INVITE\r\n"
        b"Content-Length: 0\r\n\r\n"
    )


def test_the_first_of_each_is_copied_and_every_via() -> None:
    answerable = malformed(
        octets("BYE sip:b SIP/2.0", "CSeq: 2 BYE", "v: SIP/2.0/TCP x, SIP/2.0/UDP y", having={"CSeq": "1 BYE"})
    )
    assert answerable is not None
    assert answerable.headers.get_all("CSeq") == ["1 BYE"]
    assert [via.split()[1] for via in answerable.headers.values("Via")] == [
        "pc33.atlanta.com;branch=z9hG4bK776asdhds",
        "x",
        "y",
    ]


def test_a_via_is_mended_by_leaving_out_what_is_no_parameter() -> None:
    via = "SIP/2.0/UDP a;;branch=z9hG4bK1;=;rport, SIP/2.0/UDP ,SIP/2.0/TCP b"
    answerable = malformed(octets(having={"Via": via}))
    assert answerable is not None
    assert answerable.headers.get_all("Via") == ["SIP/2.0/UDP a;branch=z9hG4bK1;rport", "SIP/2.0/TCP b"]
    assert answerable.via_top.branch == "z9hG4bK1"


@pytest.mark.parametrize(
    "data",
    [
        octets(without="Via"),
        octets(having={"Via": "SIP/2.0/UDP 2001:db8::1"}),
        octets("ACK sip:b SIP/2.0", having={"CSeq": "1 INVITE"}),
        octets("IN/VITE sip:b SIP/2.0"),
    ],
    ids=["no Via", "unreadable Via", "ACK", "no method"],
)
def test_what_cannot_be_answered(data: bytes) -> None:
    assert malformed(data) is None


def test_a_malformed_response_is_only_discarded() -> None:
    assert not isinstance(refusal(octets("SIP/2.0 200 OK", having={"CSeq": "x"})), MalformedRequest)


# ── limits ───────────────────────────────────────────────────────────────────────────────────────────────


def test_the_number_of_headers_is_limited() -> None:
    room = parser.MAX_HEADERS - len(HEADERS)
    assert len(request(octets("INVITE sip:b SIP/2.0", *["X: y"] * room)).headers) == parser.MAX_HEADERS
    assert refusal(octets("INVITE sip:b SIP/2.0", *["X: y"] * (room + 1))).status == 513


def test_the_length_of_a_line_is_limited_unfolded() -> None:
    line = "X: " + "y" * (parser.MAX_LINE_BYTES - 3)
    assert request(octets("INVITE sip:b SIP/2.0", line)).headers.get("X") == line[3:]
    assert refusal(octets("INVITE sip:b SIP/2.0", line + "y")).status == 513
    assert refusal(octets("INVITE sip:b SIP/2.0", "X: y" + "\r\n y" * parser.MAX_LINE_BYTES)).status == 513


def test_the_head_is_limited() -> None:
    lines = ["X: " + "y" * 8000] * 8
    assert len(octets("INVITE sip:b SIP/2.0", *lines)) < parser.MAX_HEADER_SECTION_BYTES
    assert request(octets("INVITE sip:b SIP/2.0", *lines)).headers.get_all("X") == [lines[0][3:]] * 8
    assert refusal(octets("INVITE sip:b SIP/2.0", *lines, lines[0])).status == 513


def vias(number: int) -> str:
    return ", ".join(["SIP/2.0/UDP h"] * number)


def test_the_number_of_vias_is_limited() -> None:
    assert len(request(octets(having={"Via": vias(70)})).headers.values("Via")) == parser.MAX_VIAS
    refused = refusal(octets(having={"Via": vias(71)}))
    assert isinstance(refused, MalformedRequest)
    assert refused.status == 513
    assert refused.request is not None
    assert len(refused.request.headers.values("Via")) == parser.MAX_VIAS


@pytest.mark.parametrize("name", ["Contact", "Route", "Record-Route"])
def test_the_number_of_addresses_is_limited(name: str) -> None:
    most = [f"<sip:h{number}>" for number in range(parser.MAX_ADDRESSES)]
    assert request(octets(having={name: ",".join(most)})).headers.values(name) == most
    assert refusal(octets(having={name: ",".join([*most, "<sip:h>"])})).status == 513


def test_the_body_is_limited() -> None:
    most = b"x" * parser.MAX_BODY_BYTES
    assert request(octets(body=most)).body == most
    assert refusal(octets(body=most + b"x")).status == 413
    assert refusal(octets(body=most + b"x", length=len(most) + 1)).status == 413


# ── streams ──────────────────────────────────────────────────────────────────────────────────────────────


def fed(*pieces: bytes) -> list[StreamItem]:
    """Everything a fresh parser gives for these pieces."""
    stream = StreamParser()
    return [item for piece in pieces for item in stream.feed(piece)]


def byte_by_byte(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


FIRST = octets(body=b"\r\n\r\nabc", length=7)
SECOND = octets("SIP/2.0 200 OK", length=0)


@pytest.mark.parametrize(
    "pieces",
    [
        [FIRST + SECOND],
        [FIRST, SECOND],
        byte_by_byte(FIRST + SECOND),
        [FIRST[:-3], FIRST[-3:] + SECOND[:10], SECOND[10:]],
        [b"\r\n", FIRST, b"\r", b"\n", SECOND],
    ],
    ids=["at once", "one each", "byte by byte", "torn", "with line breaks"],
)
def test_messages_are_cut_out_of_a_stream(pieces: list[bytes]) -> None:
    assert fed(*pieces) == [parse_message(FIRST), parse_message(SECOND)]


def test_nothing_comes_before_the_last_octet() -> None:
    stream = StreamParser()
    assert stream.feed(FIRST[:-1]) == []
    assert stream.buffered == len(FIRST) - 1 - 4
    assert len(stream.feed(FIRST[-1:])) == 1
    assert stream.buffered == 0


@pytest.mark.parametrize(
    ("came", "unfinished"),
    [
        (b"", False),
        (b"\r", False),
        (b"\r\n", False),
        (b"\r\n\r", False),
        (b"\r\r", True),
        (b"\r\nI", True),
        (FIRST[:-1], True),
        (FIRST, False),
        (FIRST + b"\r\n", False),
    ],
)
def test_a_line_break_between_messages_begins_none(came: bytes, unfinished: bool) -> None:
    stream = StreamParser()
    stream.feed(came)
    assert stream.unfinished is unfinished


def test_a_double_line_break_between_messages_is_a_ping() -> None:
    """RFC 5626 §3.5.1. Inside a body (``FIRST`` has one) it is not."""
    data = b"\r\n\r\n" + FIRST + b"\r\n\r\n\r\n\r\n\r\n" + SECOND
    expected = [KeepAlive(), parse_message(FIRST), KeepAlive(), KeepAlive(), parse_message(SECOND)]
    assert fed(data) == expected
    assert fed(*byte_by_byte(data)) == expected


def kinds(items: list[StreamItem]) -> list[type]:
    return [type(item) for item in items]


def test_a_malformed_message_whose_end_is_known_is_one_item() -> None:
    items = fed(octets(having={"CSeq": "0 BYE"}, body=b"abc", length=3) + octets("SIP/2.0 999 ?", length=0) + SECOND)
    assert kinds(items) == [MalformedRequest, SipParseError, Response]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (octets(), 400),
        (octets("INVITE sip:b SIP/2.0", "Content-Length: -1"), 400),
        (octets("INVITE sip:b SIP/2.0", "Content-Length: 1", "l: 1"), 400),
        (octets("INVITE sip:b SIP/2.0", "no colon", length=0), 400),
        (octets("INVITE sip:b SIP/2.0", "X: a\nb", length=0), 400),
        (octets(length=parser.MAX_BODY_BYTES + 1), 413),
        (octets("INVITE sip:b SIP/2.0", *["X: y"] * parser.MAX_HEADERS, length=0), 513),
        (octets("INVITE sip:b SIP/2.0", "X: " + "y" * parser.MAX_HEADER_SECTION_BYTES), 513),
    ],
    ids=["no length", "negative", "two", "no header", "bare LF", "long body", "many headers", "long head"],
)
def test_what_loses_the_framing_breaks_the_stream_and_can_be_answered(data: bytes, status: int) -> None:
    for pieces in ([data, SECOND], [data + SECOND], byte_by_byte(data + SECOND)):
        items = fed(*pieces)
        assert kinds(items) == [Broken]
        assert isinstance(items[0], Broken)
        assert isinstance(items[0].error, MalformedRequest)
        assert items[0].error.status == status
        assert items[0].error.request is not None


def test_another_protocol_breaks_the_stream_without_an_answer() -> None:
    items = fed(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert isinstance(items[0], Broken)
    assert not isinstance(items[0].error, MalformedRequest)


def test_a_broken_stream_keeps_nothing_and_gives_nothing() -> None:
    stream = StreamParser()
    assert kinds(stream.feed(octets() + FIRST)) == [Broken]
    assert stream.feed(FIRST) == []
    assert stream.buffered == 0


def test_the_largest_message_fits_and_the_buffer_never_exceeds_it() -> None:
    lines = ["X: " + "y" * 8000] * 8
    body = b"z" * parser.MAX_BODY_BYTES
    largest = octets("INVITE sip:b SIP/2.0", *lines, body=body, length=len(body))
    stream = StreamParser()
    seen = [item for _ in range(3) for item in stream.feed(largest)]
    assert kinds(seen) == [Request] * 3
    assert kinds(StreamParser().feed(largest * 3)) == [Request] * 3
    assert stream.feed(largest[:-1]) == []
    assert len(largest) - 8 < stream.buffered <= parser.MAX_BUFFER_BYTES


@pytest.mark.parametrize("junk", [b"x", b"\r", b"a: b\r\n", b"\0\xff"])
def test_endless_junk_breaks_the_stream_at_the_limit(junk: bytes) -> None:
    stream = StreamParser()
    fed_octets, items = 0, list[StreamItem]()
    while not items and fed_octets <= 2 * parser.MAX_HEADER_SECTION_BYTES:
        items = stream.feed(junk * 1000)
        fed_octets += 1000 * len(junk)
        assert stream.buffered <= parser.MAX_HEADER_SECTION_BYTES + 4
    assert kinds(items) == [Broken]
    assert fed_octets <= parser.MAX_HEADER_SECTION_BYTES + 1000 * len(junk)
