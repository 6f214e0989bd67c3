"""Refer-To, Referred-By, Event, Subscription-State and message/sipfrag: what is read, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sip.network import Network

from offhook.model.errors import SipParseError
from offhook.sip.message import Request
from offhook.sip.refer_values import (
    EventType,
    Fragment,
    ReferTo,
    SubscriptionState,
    refer_to_of,
    referred_by_of,
    wants_no_subscription,
)
from offhook.sip.replaces_value import Replaces

DIALOG = Replaces(sip_call_id="a@b", to_tag="1", from_tag="2")


@pytest.mark.parametrize(
    ("text", "uri", "replaces"),
    [
        ("<sip:op@pbx.example>", "sip:op@pbx.example", None),
        ('"The operator" <sip:op@pbx.example;transport=tcp>;x=1', "sip:op@pbx.example;transport=tcp", None),
        ("sip:op@pbx.example;x=1", "sip:op@pbx.example", None),
        ("  sips:op@pbx.example  ", "sips:op@pbx.example", None),
        ("tel:+4930123", "tel:+4930123", None),
        ("<tel:+49-30-123;phone-context=example.com>", "tel:+49-30-123;phone-context=example.com", None),
        ("<sip:op@h?Replaces=a%40b%3Bto-tag%3D1%3Bfrom-tag%3D2>", "sip:op@h", DIALOG),
        ("sip:op@h?Replaces=a%40b%3Bto-tag%3D1%3Bfrom-tag%3D2", "sip:op@h", DIALOG),
        ("<sip:op@h?X=1&REPLACES=a%40b;from-tag%3D2;to-tag%3D1&Subject=y>", "sip:op@h", DIALOG),
        ("<sip:op@h?%52eplaces=a@b%3Bto-tag%3D1%3Bfrom-tag%3D2>", "sip:op@h", DIALOG),
        ("<sip:op@h;method=INVITE;user=phone>", "sip:op@h;user=phone", None),
        ("<sip:op@h?Route=%3Csip:evil%3E&Subject=x>", "sip:op@h", None),
        ("<sip:a%3Bb;c@[2001:db8::1]:5070>", "sip:a%3Bb;c@[2001:db8::1]:5070", None),
    ],
)
def test_whom_to_call(text: str, uri: str, replaces: Replaces | None) -> None:
    assert ReferTo.parse(text) == ReferTo(uri=uri, replaces=replaces)


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("", 400),
        ("op", 400),
        ("<sip:op@h", 400),
        ("sip:op@h>", 400),
        ("<sip:op@h>, <sip:two@h>", 400),
        ("<sip:op@h> <sip:two@h>", 400),
        ("<>", 400),
        ("<sip:>", 400),
        ("<sip:op@h:70000>", 400),
        ("sip:op@h?Replaces=a b", 400),
        ("<sip:op@h?Replaces=a%3Bto-tag%3D1>", 400),
        ("<sip:op@h?Replaces=a%3Bto-tag%3D1%3Bfrom-tag%3D2&Replaces=b%3Bto-tag%3D1%3Bfrom-tag%3D2>", 400),
        ("<sip:op@h?Replaces>", 400),
        ("<http://example.com/>", 416),
        ("<mailto:op@h>", 416),
        ("<sip:op@h;method=BYE>", 603),
        ("<sip:op@h;method=SUBSCRIBE>", 603),
    ],
)
def test_nobody_to_call(text: str, status: int) -> None:
    with pytest.raises(SipParseError) as caught:
        ReferTo.parse(text)
    assert caught.value.status == status


def refer(*headers: tuple[str, str]) -> Request:
    net = Network()
    return net.peer().build("REFER", net.phone("bob"), headers=headers)


@pytest.mark.parametrize("count", [0, 2, 3])
def test_there_must_be_one_refer_to(count: int) -> None:
    with pytest.raises(SipParseError, match=f"{count} of them") as caught:
        refer_to_of(refer(*[("Refer-To", "<sip:op@h>")] * count))
    assert caught.value.status == 400


def test_the_compact_forms_are_read() -> None:
    request = refer(("r", "<sip:op@h>"), ("b", "<sip:me@h>"))
    assert (refer_to_of(request).uri, referred_by_of(request)) == ("sip:op@h", "sip:me@h")


@pytest.mark.parametrize(
    ("values", "uri"),
    [
        ([], ""),
        (["sip:me@h"], "sip:me@h"),
        (['"Me" <sip:me@h>;cid="20398823.2UWQFN309shb3@referrer.example"'], "sip:me@h"),
        (["<tel:+1>"], "tel:+1"),
        (["<sip:me@h"], ""),
        (["me"], ""),
        ([""], ""),
        (["<sip:me@h>", "<sip:you@h>"], ""),
    ],
)
def test_who_referred(values: list[str], uri: str) -> None:
    assert referred_by_of(refer(*[("Referred-By", value) for value in values])) == uri


@pytest.mark.parametrize(
    ("value", "unwanted"),
    [(None, False), ("true", False), ("false", True), (" FALSE ;x=1", True), ("", False), ("maybe", False)],
)
def test_who_wants_no_subscription_says_false(value: str | None, unwanted: bool) -> None:
    assert wants_no_subscription(value) is unwanted


@pytest.mark.parametrize(
    ("text", "event"),
    [
        ("refer", EventType(package="refer")),
        ("Refer ; id=93809824", EventType(package="refer", id_="93809824")),
        ('refer;x;id="7"', EventType(package="refer", id_="7")),
        ("message-summary", EventType(package="message-summary")),
        ("refer.winfo;id", EventType(package="refer.winfo", id_="")),
    ],
)
def test_event(text: str, event: EventType) -> None:
    assert EventType.parse(text) == event


@pytest.mark.parametrize(
    "text", ["", ";", ";id=1", "re fer", "refer;", "refer;id=", "refer;;id=1", "refer,x", '"refer"']
)
def test_no_event(text: str) -> None:
    with pytest.raises(SipParseError) as caught:
        EventType.parse(text)
    assert caught.value.field == "Event"


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("active", SubscriptionState(state="active")),
        ("Active;expires=60", SubscriptionState(state="active", expires_s=60)),
        ("pending ; expires=0060;x", SubscriptionState(state="pending", expires_s=60)),
        ("terminated;reason=noresource", SubscriptionState(state="terminated", reason="noresource")),
        ("TERMINATED", SubscriptionState(state="terminated")),
        ("resting", SubscriptionState(state="resting")),
    ],
)
def test_subscription_state(text: str, state: SubscriptionState) -> None:
    read = SubscriptionState.parse(text)
    assert read == state
    assert read.terminated is (state.state == "terminated")


@pytest.mark.parametrize(
    "text",
    ["", ";expires=1", "act ive", "active;expires=x", "active;expires=-1", "active;expires=9999999999999", "a;=1"],
)
def test_no_subscription_state(text: str) -> None:
    with pytest.raises(SipParseError) as caught:
        SubscriptionState.parse(text)
    assert caught.value.field == "Subscription-State"


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"SIP/2.0 100 Trying\r\n", 100, "Trying"),
        (b"SIP/2.0 200 OK", 200, "OK"),
        (b"SIP/2.0 486", 486, ""),
        (b"\r\n\r\nSIP/2.0  603  Decline \r\nTo: <sip:a@b>\r\n\r\n", 603, "Decline"),
        (b"sip/2.0 180 Klingelt\nVia: x", 180, "Klingelt"),
        (b"SIP/2.0 503 \xff\xfe\r\n", 503, "\ufffd\ufffd"),
        ("SIP/2.0 486 Besetzt \u260e\r\n".encode(), 486, "Besetzt \u260e"),
    ],
)
def test_fragment(body: bytes, status: int, reason: str) -> None:
    fragment = Fragment.parse(body)
    assert (fragment.status, fragment.reason) == (status, reason)
    assert fragment.final is (status >= 200)


def test_of_a_fragment_only_so_much_is_read() -> None:
    assert len(Fragment.parse(b"SIP/2.0 486 " + b"x" * 60_000).reason) < 256


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\r\n",
        b"200 OK",
        b"SIP/2.0",
        b"SIP/2.0 OK",
        b"SIP/2.0 099 x",
        b"SIP/2.0 700 x",
        b"SIP/2.0 2000 x",
        b"SIP/1.0 200 OK",
        b"NOTIFY sip:a SIP/2.0",
        b"\x00" * 100,
        b"SIP/2.0 20",
        b"SIP/2.0 200OK",
    ],
)
def test_no_fragment(body: bytes) -> None:
    with pytest.raises(SipParseError) as caught:
        Fragment.parse(body)
    assert caught.value.field == "message/sipfrag"


def test_a_fragment_is_written_as_it_is_read() -> None:
    fragment = Fragment(status=486, reason="Besetzt \u260e")
    assert bytes(fragment) == "SIP/2.0 486 Besetzt \u260e\r\n".encode()
    assert Fragment.parse(bytes(fragment)) == fragment


@given(text=st.text(max_size=80))
def test_whatever_is_written_there_is_a_value_or_a_parse_error(text: str) -> None:
    for read in (ReferTo.parse, EventType.parse, SubscriptionState.parse, lambda one: Fragment.parse(one.encode())):
        try:
            read(text)
        except SipParseError:
            continue
