"""Requests and responses: their views, how they are written, what a response copies (RFC 3261 §7, §8.2.6)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from offhook.model.errors import LocalProtocolError, SipParseError
from offhook.sip.headers import CSeq, Headers, NameAddr
from offhook.sip.message import REASON_PHRASES, Request, Response, response_to, serialize


def invite(*more: tuple[str, str], to: str = "<sip:bob@biloxi.com>", body: bytes = b"") -> Request:
    headers = Headers(
        [
            ("Via", "SIP/2.0/UDP proxy;branch=z9hG4bK2, SIP/2.0/UDP client;branch=z9hG4bK1"),
            ("Via", "SIP/2.0/TCP first;branch=z9hG4bK0"),
            ("Max-Forwards", "70"),
            ("To", to),
            ("From", "Alice <sip:alice@atlanta.com>;tag=1928301774"),
            ("Call-ID", "a84b4c76e66710@pc33.atlanta.com"),
            ("CSeq", "314159 INVITE"),
            *more,
        ]
    )
    return Request(method="INVITE", uri="sip:bob@biloxi.com", headers=headers, body=body)


# ── views ────────────────────────────────────────────────────────────────────────────────────────────────


def test_views_of_a_request() -> None:
    request = invite(("Contact", "<sip:alice@pc33>;q=1, <sip:alice@pc34>"))
    assert (request.via_top.host, request.via_top.branch) == ("proxy", "z9hG4bK2")
    assert request.cseq == CSeq(number=314159, method="INVITE")
    assert (request.from_.display_name, request.from_.tag, request.to.tag) == ("Alice", "1928301774", None)
    assert request.sip_call_id == "a84b4c76e66710@pc33.atlanta.com"
    assert request.contact == NameAddr(uri="sip:alice@pc33", params=(("q", "1"),))
    assert request.max_forwards == 70
    assert request.sip_uri.user == "bob"


def test_optional_headers_may_be_absent() -> None:
    request = invite()
    request.headers.remove("Max-Forwards")
    assert (request.contact, request.max_forwards) == (None, None)
    assert invite(("Contact", "*")).contact is None


def test_a_missing_or_empty_header_is_named() -> None:
    request = invite()
    request.headers.remove("To")
    with pytest.raises(SipParseError) as refused:
        _ = request.to
    assert (refused.value.field, refused.value.problem) == ("To", "missing")
    request.headers.set("Call-ID", "")
    with pytest.raises(SipParseError, match="Call-ID: empty"):
        _ = request.sip_call_id


@pytest.mark.parametrize("hops", ["256", "-1", "many", ""])
def test_max_forwards_is_a_number_up_to_255(hops: str) -> None:
    request = invite()
    request.headers.set("Max-Forwards", hops)
    with pytest.raises(SipParseError) as refused:
        _ = request.max_forwards
    assert refused.value.field == "Max-Forwards"


def test_a_view_is_kept_while_its_line_stands_and_read_anew_after() -> None:
    request = invite()
    first = request.to
    assert request.to is first
    request.headers.set("To", "<sip:bob@biloxi.com>;tag=8")
    assert request.to.tag == "8"
    request.uri = "tel:+1"
    with pytest.raises(SipParseError) as refused:
        _ = request.sip_uri
    assert refused.value.status == 416


def test_messages_compare_by_content() -> None:
    assert invite() == invite()
    assert invite().to is not None
    read = invite()
    _ = read.to
    assert read == invite()
    assert replace(read, method="OPTIONS") != invite()


# ── writing ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_request_is_written_line_by_line() -> None:
    request = Request(
        method="OPTIONS", uri="sip:b", headers=Headers([("v", "SIP/2.0/UDP a"), ("X-Y", "")]), body=b"\0\xff"
    )
    assert (
        serialize(request) == b"OPTIONS sip:b SIP/2.0\r\nVia: SIP/2.0/UDP a\r\nX-Y: \r\nContent-Length: 2\r\n\r\n\0\xff"
    )


def test_a_response_is_written_with_an_empty_reason_too() -> None:
    assert serialize(Response(status=100, reason="", headers=Headers())) == b"SIP/2.0 100 \r\nContent-Length: 0\r\n\r\n"


def test_content_length_is_corrected_in_its_place_and_only_on_the_wire() -> None:
    headers = Headers([("l", "999"), ("Subject", "x"), ("Content-Length", "5")])
    response = Response(status=200, reason="OK", headers=headers, body=b"abc")
    assert serialize(response) == b"SIP/2.0 200 OK\r\nContent-Length: 3\r\nSubject: x\r\n\r\nabc"
    assert response.headers.get_all("Content-Length") == ["999", "5"]


def test_octets_that_are_not_utf8_are_written_as_they_came() -> None:
    request = invite()
    request.headers.set("From", "Jos\udce9 <sip:j@x>;tag=é")
    assert b"\r\nFrom: Jos\xe9 <sip:j@x>;tag=\xc3\xa9\r\n" in serialize(request)


@pytest.mark.parametrize("text", ["a\r\nX: y", "a\nb", "a\rb", "\r\n"])
def test_a_line_break_cannot_be_smuggled_into_a_line(text: str) -> None:
    for broken in (
        invite(("Subject", text)),
        invite((text, "x")),
        replace(invite(), uri=f"sip:{text}"),
        Response(status=200, reason=text, headers=Headers()),
    ):
        with pytest.raises(LocalProtocolError):
            serialize(broken)


# ── responses ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_response_copies_what_the_rfc_says_and_nothing_else() -> None:
    request = invite(("Subject", "not copied"), ("Timestamp", "54"), ("Record-Route", "<sip:p;lr>"))
    response = response_to(
        request,
        200,
        to_tag="a6c85cf",
        headers=[("Contact", "<sip:bob@192.0.2.4>")],
        body=b"v=0",
        content_type="application/sdp",
    )
    assert (response.status, response.reason, response.body) == (200, "OK", b"v=0")
    assert response.headers.items() == [
        ("Via", "SIP/2.0/UDP proxy;branch=z9hG4bK2, SIP/2.0/UDP client;branch=z9hG4bK1"),
        ("Via", "SIP/2.0/TCP first;branch=z9hG4bK0"),
        ("From", "Alice <sip:alice@atlanta.com>;tag=1928301774"),
        ("To", "<sip:bob@biloxi.com>;tag=a6c85cf"),
        ("Call-ID", "a84b4c76e66710@pc33.atlanta.com"),
        ("CSeq", "314159 INVITE"),
        ("Contact", "<sip:bob@192.0.2.4>"),
        ("Content-Type", "application/sdp"),
    ]


def test_a_100_has_no_tag_but_the_timestamp() -> None:
    response = response_to(invite(("Timestamp", "54.3")), 100, to_tag="unused")
    assert (response.to.tag, response.headers.get("Timestamp"), response.reason) == (None, "54.3", "Trying")


@pytest.mark.parametrize(
    ("to", "answered"),
    [
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com;tag=ours"),
        ("<sip:bob@biloxi.com>;x=y", "<sip:bob@biloxi.com>;x=y;tag=ours"),
        ("<sip:bob@biloxi.com>;tag=theirs", "<sip:bob@biloxi.com>;tag=theirs"),
        ("<sip:bob@biloxi.com;tag=of-the-uri>", "<sip:bob@biloxi.com;tag=of-the-uri>;tag=ours"),
        ('"Bob <sip:bob@biloxi.com>', '"Bob <sip:bob@biloxi.com>;tag=ours'),
    ],
)
def test_the_to_tag_is_added_where_there_is_none(to: str, answered: str) -> None:
    assert response_to(invite(to=to), 486, to_tag="ours").headers.get("To") == answered


def test_without_a_tag_nothing_is_added() -> None:
    assert response_to(invite(), 400).headers.get("To") == "<sip:bob@biloxi.com>"


def test_a_malformed_request_is_answered_with_what_it_had() -> None:
    request = Request(method="INVITE", uri="?", headers=Headers([("Via", "SIP/2.0/UDP a"), ("CSeq", "1 INVITE")]))
    response = response_to(request, 400, "Missing Call-ID", to_tag="x")
    assert response.reason == "Missing Call-ID"
    assert response.headers.items() == [("Via", "SIP/2.0/UDP a"), ("CSeq", "1 INVITE")]


def test_reason_phrases_cover_what_a_user_agent_sends() -> None:
    sent = (
        100,
        180,
        183,
        200,
        400,
        404,
        405,
        406,
        408,
        415,
        416,
        420,
        480,
        481,
        482,
        486,
        487,
        488,
        491,
        500,
        503,
        505,
        603,
    )
    assert all(REASON_PHRASES[status] for status in sent)
    assert response_to(invite(), 299).reason == ""
