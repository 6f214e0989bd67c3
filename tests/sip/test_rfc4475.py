"""RFC 4475's torture messages, each with what the parser makes of it.

The outcomes follow the RFC's text; ``rfc4475_expect.tsv`` beside the messages lists them too and must name the same
ones. Where the RFC leaves it to the element, "tolerated" or "refused" says what we chose. What the user agent answers
to a message that parses (405, 415, 416, 420 …) is its own tests' business.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from tests.vectors.location import vectors

from offhook.model.errors import SipParseError
from offhook.sip.headers import CSeq, NameAddr
from offhook.sip.message import Request, Response, SipMessage, response_to, serialize
from offhook.sip.parser import Broken, MalformedRequest, StreamItem, StreamParser, parse_message

ACCEPTED = {
    "wsinv": "3.1.1.1: a short tortuous INVITE",
    "intmeth": "3.1.1.2: wide range of valid characters",
    "esc01": "3.1.1.3: valid % escapes",
    "escnull": "3.1.1.4: escaped NULs",
    "esc02": "3.1.1.5: % where it escapes nothing; an unknown method, for the user agent",
    "lwsdisp": "3.1.1.6: no space between display name and <",
    "longreq": "3.1.1.7: long values",
    "dblreq": "3.1.1.8: octets after the message",
    "semiuri": "3.1.1.9: semicolon in the user part",
    "transports": "3.1.1.10: varied and unknown transports",
    "mpart01": "3.1.1.11: multipart, binary body",
    "unreason": "3.1.1.12: UTF-8 reason phrase",
    "noreason": "3.1.1.13: empty reason phrase",
    "baddate": "3.1.2.12: tolerated, we do not read Date",
    "badaspec": "3.1.2.14: tolerated, blanks around the addr-spec in <>",
    "badbranch": "3.2.1: branch without a token after the cookie, for the transaction layer",
    "unkscm": "3.3.2: unknown Request-URI scheme, for the user agent",
    "novelsc": "3.3.3: known scheme of another protocol, for the user agent",
    "unksm2": "3.3.4: unknown schemes in To, From and Contact, for a registrar",
    "bext01": "3.3.5: unknown extensions required, for the user agent",
    "invut": "3.3.6: unknown body type, for the user agent",
    "regaut01": "3.3.7: unknown authorization scheme, for a registrar",
    "bcast": "3.3.10: a response with a second Via, for the transaction layer",
    "zeromf": "3.3.11: Max-Forwards 0, for proxies",
    "cparam01": "3.3.12: header parameter of a REGISTER's Contact",
    "cparam02": "3.3.13: URI parameter of a REGISTER's Contact",
    "regescrt": "3.3.14: escaped header in a Contact URI, inside <>",
    "sdp01": "3.3.15: Accept without SDP, for the user agent",
    "inv2543": "3.4.1: an INVITE of RFC 2543",
}


@dataclass(frozen=True, slots=True)
class Refusal:
    field: str
    status: int = 400


REFUSED = {
    "badinv01": Refusal("Via"),  # 3.1.2.1: extraneous separators
    "clerr": Refusal("Content-Length"),  # 3.1.2.2: longer than the datagram
    "ncl": Refusal("Content-Length"),  # 3.1.2.3: negative
    "scalar02": Refusal("CSeq"),  # 3.1.2.4: scalar overflow
    "quotbal": Refusal("To"),  # 3.1.2.6: unterminated quoted string
    "ltgtruri": Refusal("start-line"),  # 3.1.2.7: refused, though inferring would be allowed
    "lwsruri": Refusal("start-line"),  # 3.1.2.8: LWS in the Request-URI
    "lwsstart": Refusal("start-line"),  # 3.1.2.9: refused, though inferring would be allowed
    "trws": Refusal("start-line"),  # 3.1.2.10: refused, though ignoring would be allowed
    "escruri": Refusal("start-line"),  # 3.1.2.11: refused, though ignoring would be allowed
    "regbadct": Refusal("Contact"),  # 3.1.2.13: headers in a URI without <>
    "baddn": Refusal("start-line"),  # 3.1.2.15: the file lacks its empty line; see the test of its own below
    "badvers": Refusal("start-line", 505),  # 3.1.2.16: unknown version
    "mismatch01": Refusal("CSeq"),  # 3.1.2.17: methods differ
    "mismatch02": Refusal("CSeq"),  # 3.1.2.18: methods differ, unknown one
    "insuf": Refusal("From"),  # 3.3.1: missing mandatory headers
    "multi01": Refusal("From"),  # 3.3.8: several values where one may be
    "mcl01": Refusal("Content-Length"),  # 3.3.9: two Content-Lengths
}

DISCARDED = {
    "scalarlg": "CSeq",  # 3.1.2.5: scalar overflow in a response
    "bigcode": "start-line",  # 3.1.2.19: status code of ten digits
    "test": "start-line",  # in the archive, not in the RFC; a request line without a version
}


def octets(name: str) -> bytes:
    return vectors("sip", "rfc4475", f"{name}.dat").read_bytes()


def parsed(name: str) -> Request:
    message = parse_message(octets(name))
    assert isinstance(message, Request)
    return message


def streamed(data: bytes) -> list[StreamItem]:
    """What a stream gives when the octets come one by one; checked to be the same when they come at once."""
    at_once = StreamParser().feed(data)
    stream = StreamParser()
    one_by_one = [item for at in range(len(data)) for item in stream.feed(data[at : at + 1])]
    assert list(map(repr, one_by_one)) == list(map(repr, at_once))
    return one_by_one


def on_a_stream(message: SipMessage) -> StreamItem:
    """The one thing a stream makes of the message, with the Content-Length streams need."""
    items = streamed(serialize(message))
    assert len(items) == 1
    return items[0]


def test_every_message_has_its_expectation() -> None:
    files = {path.stem for path in vectors("sip", "rfc4475").glob("*.dat")}
    assert len(files) == 50
    assert files == ACCEPTED.keys() | REFUSED.keys() | DISCARDED.keys()
    lines = vectors("sip", "rfc4475_expect.tsv").read_text("utf-8").splitlines()
    expected = {line.split("\t")[0]: line.split("\t")[3] for line in lines if not line.startswith("#")}
    assert files - expected.keys() == {"test"}
    must_refuse = {name for name, outcome in expected.items() if outcome[:3] in {"400", "505"} and "(" not in outcome}
    assert must_refuse - {"badbranch"} <= REFUSED.keys()  # "400, or fall back to RFC 2543 matching"
    assert {name for name, outcome in expected.items() if outcome.startswith("accept")} <= ACCEPTED.keys()
    assert {name for name, outcome in expected.items() if outcome == "discard"} - {"bcast"} <= DISCARDED.keys()


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted(name: str) -> None:
    message = parse_message(octets(name))
    written = serialize(message)
    again = parse_message(written)
    assert serialize(again) == written
    message.headers.set("Content-Length", str(len(message.body)))
    assert again == message
    assert on_a_stream(message) == message


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_an_answer(name: str) -> None:
    with pytest.raises(MalformedRequest) as refused:
        parse_message(octets(name))
    error = refused.value
    assert Refusal(error.field, error.status) == REFUSED[name]
    assert error.request is not None
    answer = parse_header_lines(serialize(response_to(error.request, error.status, to_tag="ours")))
    assert answer["Via"].startswith(f"SIP/{'7' if name == 'badvers' else '2'}.0/")
    if name != "insuf":
        assert answer["Call-ID"].startswith(name)
        assert answer["To"].count("tag=") == 1


def parse_header_lines(response: bytes) -> dict[str, str]:
    """First value of each header, without the parser under test."""
    lines = response.decode().split("\r\n\r\n")[0].split("\r\n")[1:]
    return dict(line.split(": ", 1) for line in reversed(lines))


@pytest.mark.parametrize("name", DISCARDED)
def test_discarded(name: str) -> None:
    with pytest.raises(SipParseError) as refused:
        parse_message(octets(name))
    assert refused.value.field == DISCARDED[name]
    assert not isinstance(refused.value, MalformedRequest)


# ── what the RFC wants read out of the valid ones ────────────────────────────────────────────────────────


def test_wsinv() -> None:
    request = parsed("wsinv")
    assert request.uri == "sip:vivekg@chair-dnrc.example.com;unknownparam"
    assert (request.to.uri, request.to.tag) == ("sip:vivekg@chair-dnrc.example.com", "1918181833n")
    assert (request.from_.display_name, request.from_.tag) == ('J Rosenberg \\"', "98asjd8")
    assert (request.max_forwards, request.cseq) == (68, CSeq(number=9, method="INVITE"))
    assert [part.split(";")[0].split()[-1] for part in request.headers.values("Via")] == [
        "192.0.2.2",
        "spindle.example.com",
        "192.168.255.111",
    ]
    assert (request.via_top.transport, request.via_top.branch) == ("UDP", "390skdjuw")
    assert request.headers.get("Subject") == ""
    assert request.headers.get("NewFangledHeader") == "newfangled value continued newfangled value"
    assert request.headers.get("UnknownHeaderWithUnusualValue") == ";;,,;;,;"
    contact = request.contact
    assert contact is not None
    assert contact.display_name == 'Quoted string ""'
    assert contact.params == (("newparam", "newvalue"), ("secondparam", None), ("q", "0.33"))
    assert len(request.body) == 150


def test_intmeth() -> None:
    request = parsed("intmeth")
    assert request.method == request.cseq.method == "!interesting-Method0123456789_*+`.%indeed'~"
    assert request.to.display_name == "BEL:\x07 NUL:\x00 DEL:\x7f"
    assert request.from_.display_name == "token1~` token2'+_ token3*%!.-"
    assert request.from_.param("fromparam''~+*_!.-%") == "работающий"
    assert request.from_.tag == "_token~1'+`*%!-."
    assert request.headers.get("extensionHeader-!.%*+_`'~") == "\ufeff大停電"
    assert request.max_forwards == 255


def test_escapes() -> None:
    request = parsed("esc01")
    assert request.sip_uri.user == "sips%3Auser%40example.com"
    assert request.contact is not None
    uri = request.contact.sip_uri()
    assert (uri.user, uri.param("lr"), uri.param("name")) == ("cal%6Cer", "", "value%41")
    nulls = [NameAddr.parse(value).sip_uri().user for value in parsed("escnull").headers.values("Contact")]
    assert nulls == ["%00", "%00%00"]
    odd = parsed("esc02")
    assert (odd.method, odd.to.display_name) == ("RE%47IST%45R", "%Z%45")
    assert odd.headers.values("Contact") == ["<sip:alias1@host1.example.com>", "<sip:alias3@host3.example.com>"]
    assert odd.headers.get("C%6Fntact") == "<sip:alias2@host2.example.com>"


def test_lwsdisp_longreq_and_semiuri() -> None:
    assert parsed("lwsdisp").from_.display_name == "caller"
    assert len(parsed("longreq").headers.values("Via")) == 34
    assert parsed("semiuri").sip_uri.user == "user;par=u%40example.net"
    assert len(parsed("semiuri").headers.values("Accept")) == 6


def test_dblreq_is_one_message_in_a_datagram_and_two_on_a_stream() -> None:
    assert (parsed("dblreq").method, parsed("dblreq").body) == ("REGISTER", b"")
    items = streamed(octets("dblreq"))
    assert [item.method for item in items if isinstance(item, Request)] == ["REGISTER", "INVITE"]


def test_transports() -> None:
    assert [value.split()[0] for value in parsed("transports").headers.values("Via")] == [
        f"SIP/2.0/{name}" for name in ("UDP", "SCTP", "TLS", "UNKNOWN", "TCP")
    ]


def test_bodies_and_reasons() -> None:
    body = parsed("mpart01").body
    assert (len(body), body.count(b"--7a9cbec02ceef655"), body.count(b"\0")) == (553, 3, 2)
    unreason, noreason = parse_message(octets("unreason")), parse_message(octets("noreason"))
    assert isinstance(unreason, Response)
    assert isinstance(noreason, Response)
    assert (unreason.status, unreason.reason) == (200, "= 2**3 * 5**2 но сто девяносто девять - простое")
    assert (noreason.status, noreason.reason) == (100, "")


def test_inv2543() -> None:
    request = parsed("inv2543")
    assert (request.via_top.branch, request.from_.tag, request.max_forwards) == (None, None, None)
    assert request.body.endswith(b"m=audio 49217 RTP/AVP 0\r\n")


def test_contact_parameters() -> None:
    header_param, uri_param = parsed("cparam01").contact, parsed("cparam02").contact
    assert header_param is not None
    assert uri_param is not None
    assert (header_param.param("unknownparam"), header_param.sip_uri().param("unknownparam")) == ("", None)
    assert (uri_param.param("unknownparam"), uri_param.sip_uri().param("unknownparam")) == (None, "")


def test_baddn_with_its_empty_line_has_its_quotes_inferred() -> None:
    request = parse_message(octets("baddn") + b"\r\n")
    assert [request.from_.display_name, request.to.display_name] == ["Bell, Alexander", "Watson, Thomas"]


# ── the ones about length, on a stream ───────────────────────────────────────────────────────────────────


def test_clerr_waits_for_the_rest() -> None:
    assert streamed(octets("clerr")) == []


@pytest.mark.parametrize("name", ["ncl", "mcl01", "inv2543"])
def test_a_length_that_cannot_be_trusted_breaks_the_stream(name: str) -> None:
    """§3.1.2.3, §3.3.9; and RFC 3261 §18.3: a stream needs a Content-Length, which inv2543 lacks."""
    item = streamed(octets(name))[0]
    assert isinstance(item, Broken)
    assert isinstance(item.error, MalformedRequest)
    assert (item.error.field, item.error.status) == ("Content-Length", 400)
    assert item.error.request is not None
