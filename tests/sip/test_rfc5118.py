"""RFC 5118's IPv6 torture messages: all are accepted but ``ipv6-bad``.

The files carry bare LF as in the RFC's archive, two lack the empty line, and the Content-Length of those with a body
does not fit: ``octets`` turns them into what the RFC means.
"""

from __future__ import annotations

import re

import pytest
from tests.vectors.location import vectors

from offhook.sip.headers import Via
from offhook.sip.message import Request, serialize
from offhook.sip.parser import MalformedRequest, StreamParser, parse_message
from offhook.sip.uri import SipUri

ACCEPTED = (
    "ipv6-good",  # 4.1
    "port-ambiguous",  # 4.3
    "port-unambiguous",  # 4.4
    "via-received-param-with-delim",  # 4.5
    "via-received-param-no-delim",  # 4.5
    "ipv6-in-sdp",  # 4.6
    "mult-ip-in-header",  # 4.7
    "mult-ip-in-sdp",  # 4.8
    "ipv4-mapped-ipv6",  # 4.9
    "ipv6-bug-abnf-3-colons",  # 4.10
    "ipv6-correct-abnf-2-colons",  # 4.10
)


def octets(name: str) -> bytes:
    text = vectors("sip", "rfc5118", name).read_bytes().replace(b"\n", b"\r\n")
    head, _, body = text.partition(b"\r\n\r\n")
    length = b"Content-Length: %d" % len(body)
    return re.sub(rb"Content-Length: \d+", length, head.rstrip()) + b"\r\n\r\n" + body


def parsed(name: str) -> Request:
    message = parse_message(octets(name))
    assert isinstance(message, Request)
    return message


def test_every_message_has_its_expectation() -> None:
    assert {path.name for path in vectors("sip", "rfc5118").iterdir()} == {*ACCEPTED, "ipv6-bad"}


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted_and_written_as_it_came(name: str) -> None:
    data = octets(name)
    assert serialize(parsed(name)) == data
    stream = StreamParser()
    assert [item for at in range(len(data)) for item in stream.feed(data[at : at + 1])] == [parsed(name)]


def test_an_address_without_brackets_in_the_request_uri_is_a_bad_request() -> None:
    """§4.2: to be answered with a 400 (Bad Request)."""
    with pytest.raises(MalformedRequest) as refused:
        parse_message(octets("ipv6-bad"))
    assert refused.value.status == 400
    assert refused.value.request is not None
    assert refused.value.request.via_top.host == "2001:db8::9:1"


def test_where_address_and_port_part() -> None:
    hosts = [(parsed(name).sip_uri.host, parsed(name).sip_uri.port) for name in ("port-ambiguous", "port-unambiguous")]
    assert hosts == [("2001:db8::10:5070", None), ("2001:db8::10", 5070)]


@pytest.mark.parametrize("name", ["via-received-param-with-delim", "via-received-param-no-delim"])
def test_received_with_and_without_brackets(name: str) -> None:
    via = parsed(name).via_top
    assert (via.host, via.received) == ("2001:db8::9:1", "2001:db8::9:255")


def test_addresses_of_both_families_in_one_message() -> None:
    vias = [Via.parse(value) for value in parsed("mult-ip-in-header").headers.values("Via")]
    assert [(via.host, via.port, via.received) for via in vias] == [
        ("2001:db8::9:1", 6050, None),
        ("192.0.2.1", None, None),
        ("2001:db8::9:255", None, "192.0.2.200"),
    ]
    mapped = parsed("ipv4-mapped-ipv6")
    assert (mapped.via_top.host, mapped.via_top.port) == ("::ffff:192.0.2.10", 19823)
    assert mapped.contact is not None
    assert mapped.contact.sip_uri() == SipUri(user="ted", host="::ffff:192.0.2.2")


def test_bodies_are_whole() -> None:
    assert parsed("ipv6-in-sdp").body.endswith(b"a=rtpmap:107 H263-1998/90000\r\n")
    assert parsed("mult-ip-in-sdp").body.count(b"c=IN") == 2


def test_the_bug_of_the_abnf_is_forgiven() -> None:
    """§4.10: three colons, as RFC 3261's ABNF had it, mean the two of RFC 4291."""
    hosts = {parsed(name).sip_uri.host for name in ("ipv6-bug-abnf-3-colons", "ipv6-correct-abnf-2-colons")}
    assert hosts == {"2001:db8::192.0.2.1"}
