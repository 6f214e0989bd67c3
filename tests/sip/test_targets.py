"""Whom to call, as people write it."""

from __future__ import annotations

import pytest

from offhook.model.errors import SipParseError
from offhook.sip.targets import MAX_TARGET, parse_target
from offhook.sip.uri import SipUri


@pytest.mark.parametrize(
    ("text", "user"),
    [
        ("+4930123456", "+4930123456"),
        ("+49 (30) 123-456", "+4930123456"),
        ("tel:+49-30-123.456", "+4930123456"),
        ("TEL:+4930123456;ext=5", "+4930123456"),
        ("tel:030123;phone-context=+49", "030123"),
        ("tel:%2B4930123", "+4930123"),
        ("*97", "*97"),
        ("200", "200"),
        ("sales", "sales"),
        (" first.last ", "first.last"),
    ],
)
def test_a_number_or_a_name_is_the_user_part_to_dial(text: str, user: str) -> None:
    assert parse_target(text) == user


def test_a_sip_uri_stays_as_it_is() -> None:
    assert parse_target("sip:+4930@pbx.example:5070;transport=tcp") == SipUri(
        user="+4930", host="pbx.example", port=5070, params=(("transport", "tcp"),)
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tel:",
        "tel:sales",
        "sip:",
        "sip:a@b@c",
        "http://x",
        "a b",
        "a@b",
        "a;b",
        "a\r\nb",
        "٣٤",
        "1" * (MAX_TARGET + 1),
    ],
)
def test_what_nobody_can_be_called_by_is_an_error(text: str) -> None:
    with pytest.raises(SipParseError):
        parse_target(text)
