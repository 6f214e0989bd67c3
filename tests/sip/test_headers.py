"""The header multimap and the typed views (RFC 3261 §7.3, §20)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from offhook.model.errors import SipParseError
from offhook.sip.headers import CSeq, Headers, NameAddr, Via

# ── the multimap ─────────────────────────────────────────────────────────────────────────────────────────


def headers() -> Headers:
    return Headers(
        [
            ("v", "SIP/2.0/UDP one, SIP/2.0/UDP two"),
            ("FROM", "<sip:a@b>;tag=1"),
            ("Via", "SIP/2.0/TCP three"),
            ("x-Own", "first"),
            ("X-OWN", "second"),
        ]
    )


def test_names_are_found_in_any_spelling_and_written_as_the_rfc_does() -> None:
    assert [headers().get(name) for name in ("f", "From", "FROM", "fRoM")] == ["<sip:a@b>;tag=1"] * 4
    assert [name for name, _ in headers().items()] == ["Via", "From", "Via", "x-Own", "X-OWN"]
    assert headers().get_all("x-own") == ["first", "second"]


def test_get_gives_the_first_line_and_a_default() -> None:
    assert headers().get("Via") == "SIP/2.0/UDP one, SIP/2.0/UDP two"
    assert headers().get("To") is None
    assert headers().get("To", "nobody") == "nobody"


def test_values_go_over_all_lines() -> None:
    assert headers().values("Via") == ["SIP/2.0/UDP one", "SIP/2.0/UDP two", "SIP/2.0/TCP three"]
    assert headers().values("Route") == []


def test_set_replaces_all_lines_in_the_place_of_the_first() -> None:
    changed = headers()
    changed.set("X-Own", "only")
    changed.set("v", "SIP/2.0/UDP new")
    changed.set("To", "<sip:b@c>")
    assert changed.items() == [
        ("Via", "SIP/2.0/UDP new"),
        ("From", "<sip:a@b>;tag=1"),
        ("X-Own", "only"),
        ("To", "<sip:b@c>"),
    ]


def test_add_appends_prepend_comes_first_remove_takes_every_line() -> None:
    changed = headers()
    changed.add("l", "0")
    changed.prepend("Route", "<sip:r;lr>")
    changed.remove("x-own")
    changed.remove("Subject")
    assert [name for name, _ in changed.items()] == ["Route", "Via", "From", "Via", "Content-Length"]
    assert "VIA" in changed
    assert "X-Own" not in changed


def test_a_change_is_seen_at_once_and_only_in_its_own_copy() -> None:
    original = headers()
    assert original.get("Subject") is None
    copy = original.copy()
    copy.add("Subject", "hello")
    assert (copy.get("s"), original.get("s")) == ("hello", None)
    assert copy != original
    copy.remove("s")
    assert copy == original


def test_equality_ignores_the_spelling_of_names_but_not_order() -> None:
    assert Headers([("X-a", "1"), ("b-b", "2")]) == Headers([("x-A", "1"), ("B-B", "2")])
    assert Headers([("X-a", "1"), ("b-b", "2")]) != Headers([("b-b", "2"), ("X-a", "1")])
    assert Headers() != []


def test_repeated_counts_lines() -> None:
    assert headers().repeated(("Via", "From", "To", "X-Own")) == ["Via", "X-Own"]


def test_only_ascii_names_lose_their_case() -> None:
    """A Kelvin sign in lower case is a ``k``, the compact form of Supported."""
    assert Headers([("\u212a", "timer")]).get("Supported") is None


# ── addresses ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "display_name", "uri", "params"),
    [
        ("sip:a@b", "", "sip:a@b", ()),
        ("sip:a@b;tag=1;x", "", "sip:a@b", (("tag", "1"), ("x", None))),
        ("<sip:a@b;lr?h=1>;q=0.5", "", "sip:a@b;lr?h=1", (("q", "0.5"),)),
        ('"Bob, \\"the\\" <builder>" <sip:a@b>', 'Bob, "the" <builder>', "sip:a@b", ()),
        ("Bob the Builder  <sip:a@b>", "Bob the Builder", "sip:a@b", ()),
        ("caller<sip:a@b>;tag=323", "caller", "sip:a@b", (("tag", "323"),)),
        ("José <tel:+49301234>", "José", "tel:+49301234", ()),
        ("Bell, Alexander <sip:a@b>", "Bell, Alexander", "sip:a@b", ()),
        ('"" < sip:a@b >', "", "sip:a@b", ()),
        ('"x"<urn:service:sos>\t; a = b ', "x", "urn:service:sos", (("a", "b"),)),
        ('"\udce9\0" <sip:a@b>', "\udce9\0", "sip:a@b", ()),
    ],
)
def test_addresses(text: str, display_name: str, uri: str, params: tuple[tuple[str, str | None], ...]) -> None:
    address = NameAddr.parse(text)
    assert address == NameAddr(display_name=display_name, uri=uri, params=params)
    assert NameAddr.parse(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "*",
        "Bob",
        "<>",
        "<sip:a@b",
        "sip:a@b>",
        "< sip:a @b>",
        '"Mr. J. User <sip:a@b>',
        '"Bob" sip:a@b',
        "sip:a@b?Route=%3Csip:c%3E",
        "sip:a,b@c",
        "<sip:a@b>, <sip:c@d>",
        "<sip:a@b>;;",
        "<sip:a@b> x",
        "<alice@example.com>",
    ],
)
def test_what_is_no_address_is_refused_with_the_name_of_its_header(text: str) -> None:
    with pytest.raises(SipParseError) as refused:
        NameAddr.parse(text, "Contact")
    assert (refused.value.field, refused.value.status) == ("Contact", 400)


def test_the_tag_is_read_and_replaced() -> None:
    address = NameAddr.parse("<sip:a@b>;TAG=1;x=y")
    assert address.tag == "1"
    assert str(address.with_tag("2")) == "<sip:a@b>;x=y;tag=2"
    assert NameAddr.parse("<sip:a@b>").tag is None


def test_a_contact_keeps_its_instance() -> None:
    address = NameAddr.parse('<sip:a@b>;+sip.instance="<urn:uuid:1>"')
    assert address.param("+sip.instance") == "<urn:uuid:1>"
    assert str(address) == '<sip:a@b>;+sip.instance="<urn:uuid:1>"'


def test_the_uri_is_read_on_demand() -> None:
    assert NameAddr.parse("<sip:a@B:5070>").sip_uri().host == "b"
    with pytest.raises(SipParseError) as refused:
        NameAddr.parse("<tel:+1>").sip_uri()
    assert refused.value.status == 416


# ── Via ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_part_of_a_via_is_found() -> None:
    assert Via.parse("SIP/2.0/udp Host.example:5070;rport=1;x=y;received=192.0.2.1;branch=z9hG4bKa") == Via(
        transport="UDP",
        host="host.example",
        port=5070,
        branch="z9hG4bKa",
        received="192.0.2.1",
        rport="1",
        params=(("x", "y"),),
    )


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("SIP/2.0/UDP 192.0.2.1", "SIP/2.0/UDP 192.0.2.1"),
        ("SIP  /   2.0 /UDP   192.0.2.2;branch=390skdjuw", "SIP/2.0/UDP 192.0.2.2;branch=390skdjuw"),
        ("SIP/2.0/TLS h : 5061 ; rport ; branch = z9hG4bK1", "SIP/2.0/TLS h:5061;branch=z9hG4bK1;rport"),
        ("SIP/2.0/UDP [2001:db8::9:1]:6050", "SIP/2.0/UDP [2001:db8::9:1]:6050"),
        ("SIP/2.0/UDP h;received=2001:db8::1", "SIP/2.0/UDP h;received=[2001:db8::1]"),
        ("SIP/7.0/UNKNOWN h;ttl=3", "SIP/7.0/UNKNOWN h;ttl=3"),
        ("SIP/2.0/TCP docker_host;alias", "SIP/2.0/TCP docker_host;alias"),
    ],
)
def test_vias_are_written_in_one_form(text: str, written: str) -> None:
    assert str(Via.parse(text)) == written
    assert Via.parse(written) == Via.parse(text)


def test_rport_asked_filled_in_and_absent() -> None:
    assert [Via.parse(f"SIP/2.0/UDP h{end}").rport for end in ("", ";rport", ";rport=5062")] == [None, "", "5062"]


def test_a_server_notes_where_a_request_came_from() -> None:
    noted = replace(Via.parse("SIP/2.0/UDP h;rport;branch=z9hG4bK1"), received="2001:db8::1", rport="5062")
    assert str(noted) == "SIP/2.0/UDP h;branch=z9hG4bK1;received=[2001:db8::1];rport=5062"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SIP/2.0 h",
        "SIP/2.0/UDP",
        "SIP/2.0/UDP 192.0.2.15;;",
        "SIP/2.0/UDP h:x",
        "SIP/2.0/UDP h:70000",
        "SIP/2.0/UDP 2001:db8::1",
        "SIP/2.0/UDP h i",
        "SIP/2.0/UDP h, SIP/2.0/UDP i",
    ],
)
def test_what_is_no_via_is_refused(text: str) -> None:
    with pytest.raises(SipParseError) as refused:
        Via.parse(text)
    assert refused.value.field == "Via"


# ── CSeq ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "number", "method"),
    [("0009   INVITE", 9, "INVITE"), ("0 ACK", 0, "ACK"), ("2147483647\tInvite", 2147483647, "Invite")],
)
def test_cseq(text: str, number: int, method: str) -> None:
    assert CSeq.parse(text) == CSeq(number=number, method=method)
    assert str(CSeq.parse(text)) == f"{number} {method}"


@pytest.mark.parametrize("text", ["", "1", "INVITE", "INVITE 1", "-1 INVITE", "1INVITE", "2147483648 INVITE", "1 a b"])
def test_what_is_no_cseq_is_refused(text: str) -> None:
    with pytest.raises(SipParseError) as refused:
        CSeq.parse(text)
    assert refused.value.field == "CSeq"
