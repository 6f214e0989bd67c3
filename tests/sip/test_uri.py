"""SIP URIs: read, written, compared (RFC 3261 §19.1)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.model.errors import SipParseError
from offhook.sip.uri import SipUri, escape, is_sip, same_uri, scheme_of, unescape, without_password


def test_every_part_of_a_uri_is_found() -> None:
    uri = SipUri.parse("sips:alice:secret@Atlanta.COM:5061;Transport=tcp;lr?subject=project%20x&priority=urgent")
    assert uri == SipUri(
        scheme="sips",
        user="alice",
        password="secret",
        host="atlanta.com",
        port=5061,
        params=(("Transport", "tcp"), ("lr", None)),
        headers="subject=project%20x&priority=urgent",
    )


@pytest.mark.parametrize(
    "text",
    [
        "sip:example.com",
        "sip:demo@192.0.2.1",
        "sip:demo@[2001:db8::1]:5070;transport=tcp",
        "sip:alice:@example.com",
        "sip:user;par=u%40example.net@example.com",
        "sip:+1-212-555-1212:1234@gateway.com;user=phone",
        "sip:%00@host5.example.com",
        "sip:atlanta.com;method=REGISTER?to=alice%40atlanta.com",
        "sip:josé@example.com",
        "sip:\udce9@example.com",
        "sip:demo@docker_host",
    ],
)
def test_a_uri_is_written_as_it_was_read(text: str) -> None:
    assert str(SipUri.parse(text)) == text


def test_the_user_may_hold_what_looks_like_the_rest_of_a_uri() -> None:
    """RFC 4475 §3.1.1.2 and §3.1.1.9."""
    text = "sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@example.com"
    uri = SipUri.parse(text)
    assert (uri.user, uri.password, uri.host, uri.params) == (
        "1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*",
        "&it+has=1,weird!*pas$wo~d_too.(doesn't-it)",
        "example.com",
        (),
    )
    assert SipUri.parse("sip:user;par=u%40example.net@example.com").user == "user;par=u%40example.net"


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("sip:[2001:db8::10]:5070", "2001:db8::10", 5070),
        ("sip:[2001:db8::10:5070]", "2001:db8::10:5070", None),
        ("SIP:Example.com:0", "example.com", 0),
    ],
)
def test_where_the_host_ends_and_the_port_begins(text: str, host: str, port: int | None) -> None:
    uri = SipUri.parse(text)
    assert (uri.host, uri.port) == (host, port)


@pytest.mark.parametrize(
    "text",
    [
        "sip:",
        "sip:alice@",
        "sip:@example.com",
        "sip:alice@exam ple.com",
        "sip:2001:db8::10",
        "sip:[2001:db8::10",
        "sip:alice@example.com:port",
        "sip:alice@example.com:65536",
        "sip:alice@example.com:",
        "sip:alice@example.com;",
        "sip:alice@example.com;;lr",
        "sip:alice@example.com;=x",
        "sip:alice@example.com; lr",
        "sip:alice@bob@example.com",
        "sip:al\tice@example.com",
        "sip:alice@example.com>",
        "alice@example.com",
        "",
    ],
)
def test_what_is_no_sip_uri_is_a_bad_request(text: str) -> None:
    with pytest.raises(SipParseError) as refused:
        SipUri.parse(text)
    assert refused.value.status == 400


@pytest.mark.parametrize("text", ["tel:+49301234", "soap.beep://192.0.2.103:3002", "nobodyKnowsThisScheme:opaque"])
def test_other_schemes_are_told_apart_from_nonsense(text: str) -> None:
    with pytest.raises(SipParseError) as refused:
        SipUri.parse(text)
    assert refused.value.status == 416


def test_params_are_found_without_regard_to_case_and_escapes() -> None:
    uri = SipUri.parse("sip:x@y;%6C%72;n%61me=v%61lue%25%34%31;Transport=TCP")
    assert [uri.param(name) for name in ("lr", "name", "transport", "maddr")] == ["", "value%41", "TCP", None]


def test_unescape_gives_utf8_and_keeps_stray_percents() -> None:
    assert unescape("jos%C3%A9%00%zz%") == "josé\0%zz%"
    assert unescape("%E9") == "\udce9"


def test_scheme() -> None:
    assert scheme_of("TEL:+49") == "tel"
    assert [is_sip(uri) for uri in ("sip:a", "SIPS:a", "tel:1", "\u017fip:a", "sip")] == [
        True,
        True,
        False,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("a", "b"),
    [  # the equivalent ones of §19.1.4, and RFC 5118's ways to write one address
        ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp"),
        ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
        ("sip:carol@chicago.com;newparam=5", "sip:carol@chicago.com;security=on"),
        (
            "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
            "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
        ),
        (
            "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
            "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
        ),
        ("sip:a@[2001:db8::0:1]", "sip:a@[2001:DB8:0::1]"),
        ("sip:a@[1:2:3]", "sip:a@[1:2:3]"),  # no address at all, but the same one
    ],
)
def test_equivalent_uris(a: str, b: str) -> None:
    assert same_uri(SipUri.parse(a), SipUri.parse(b))
    assert same_uri(SipUri.parse(b), SipUri.parse(a))


@pytest.mark.parametrize(
    ("a", "b"),
    [  # the different ones of §19.1.4, and a parameter for each rule about those in only one of the two
        ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"),
        ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"),
        ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
        ("sip:bob@biloxi.com", "sips:bob@biloxi.com"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com;user=ip"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com;maddr=biloxi.com"),
        ("sip:bob@biloxi.com;x=1", "sip:bob@biloxi.com;x=2"),
        ("sip:bob@biloxi.com", "sip:bob:@biloxi.com"),
        ("sip:a%3Bb@biloxi.com", "sip:a;b@biloxi.com"),
    ],
)
def test_different_uris(a: str, b: str) -> None:
    assert not same_uri(SipUri.parse(a), SipUri.parse(b))


@given(st.text(max_size=60).map("sip:".__add__) | st.from_regex(r"\Asips?:[a-z;:@?%\[\]=.0-9]{0,40}\Z"))
def test_whatever_parses_is_written_and_read_back_as_itself(text: str) -> None:
    try:
        uri = SipUri.parse(text)
    except SipParseError:
        with pytest.raises(SipParseError):
            SipUri.check(text)
        return
    SipUri.check(text)
    assert SipUri.parse(str(uri)) == uri
    assert same_uri(uri, uri)


def test_escape_leaves_nothing_that_means_something_in_a_uri() -> None:
    assert escape("a@b;to-tag=1;from-tag=2") == "a%40b%3Bto-tag%3D1%3Bfrom-tag%3D2"
    assert escape('é%&?<>" \udce9') == "%C3%A9%25%26%3F%3C%3E%22%20%E9"
    assert escape("-_.!~*'()aZ9") == "-_.!~*'()aZ9"
    for text in ("a@b;x=%41", "Grüße & <mehr>", ""):
        assert unescape(escape(text)) == text


def test_headers_of_a_uri_are_found_without_regard_to_case_and_escapes() -> None:
    uri = SipUri.parse("sip:a@b?Subject=x&%52eplaces=c%3Bd&replaces=&X")
    assert uri.header_values("replaces") == ["c;d", ""]
    assert uri.header_values("subject") == ["x"]
    assert uri.header_values("x") == [""]
    assert uri.header_values("route") == []
    assert SipUri.parse("sip:a@b").header_values("replaces") == []


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("sip:alice:s%20ecret@example.com:5070;lr", "sip:alice@example.com:5070;lr"),
        ("SIPS:alice:a:b@example.com", "SIPS:alice@example.com"),
        ("sip:alice@example.com:5070", "sip:alice@example.com:5070"),
        ("sip:example.com:5070", "sip:example.com:5070"),
        ("sip:[2001:db8::1]:5060", "sip:[2001:db8::1]:5060"),
        ("tel:+493012345", "tel:+493012345"),
    ],
)
def test_a_uri_is_shown_without_its_password(uri: str, shown: str) -> None:
    assert without_password(uri) == shown
