"""Telephone numbers in any writing."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from offhook.call.numbers import e164_of, read_target, region_of
from offhook.model.errors import SipParseError
from offhook.model.trunks import CallRules
from offhook.sip.targets import MAX_TARGET
from offhook.sip.uri import SipUri

FULLWIDTH = str.maketrans("+0123456789", "＋０１２３４５６７８９")
ARABIC = str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")


@pytest.mark.parametrize(
    ("written", "region", "number"),
    [
        ("+61400000000", "", "+61400000000"),
        ("+61 400 000 000", "", "+61400000000"),
        ("+61-400.000/000", "", "+61400000000"),
        ("+1234567890", "", "+1234567890"),
        ("+1 (234) 567-890", "", "+1234567890"),
        ("+49 (0)30 123456", "", "+4930123456"),
        ("0061 400 000 000", "", "+61400000000"),
        ("0061400000000", "DE", "+61400000000"),
        ("0061400000000", "US", "+61400000000"),
        ("0061400000000", "AU", "+61400000000"),
        ("0011 49 30 123456", "AU", "+4930123456"),
        ("011 61 400 000 000", "US", "+61400000000"),
        ("0400 000 000", "AU", "+61400000000"),
        ("030 123456", "DE", "+4930123456"),
        ("(030) 12 34-56", "DE", "+4930123456"),
        ("020 7946 0000", "GB", "+442079460000"),
        ("415 555 0100", "US", "+14155550100"),
        ("1 (415) 555-0100", "US", "+14155550100"),
        ("555 123 4567", "US", "+15551234567"),
        ("06 698 12345", "IT", "+390669812345"),
        ("22 33 44 55", "NO", "+4722334455"),
        ("tel:+49-30-123456", "", "+4930123456"),
        ("tel:+4930123456;ext=5", "", "+4930123456"),
        ("TEL:%2B4930123456", "", "+4930123456"),
        ("tel:030123456;phone-context=+49", "", "+4930123456"),
        ("tel:030123456", "DE", "+4930123456"),
        ("+61400000000".translate(FULLWIDTH), "", "+61400000000"),
        ("+" + "61400000000".translate(ARABIC), "", "+61400000000"),
        ("\u200e+61\u200b400\u00ad000\u2060000\u202c", "", "+61400000000"),
        ("+61\u2011400\u00a0000\u2013000", "", "+61400000000"),
        ("%2B61400000000", "", "+61400000000"),
        ("%252B61400000000", "", "+61400000000"),
        ("1-800-FLOWERS", "US", "+18003569377"),
        ("+1-800-FLOWERS", "", "+18003569377"),
        ("+0061400000000", "", "+61400000000"),
    ],
)
def test_a_number_is_one_of_the_world(written: str, region: str, number: str) -> None:
    assert e164_of(written, region) == number
    assert read_target(written, region) == number


@pytest.mark.parametrize("region", ["", "DE", "US", "IT", "NO", "AU"])
@pytest.mark.parametrize(
    "written", ["200", "*97", "0", "99", "alice", "first.last", "10001", "911", "sales-2", "3cx-sales"]
)
def test_an_extension_or_a_name_is_dialled_as_it_is(written: str, region: str) -> None:
    assert e164_of(written, region) == ""
    assert read_target(written, region) == written


@pytest.mark.parametrize(
    ("written", "region"),
    [("030123456", ""), ("5551234", "US"), ("1234567", "DE"), ("61400000000", ""), ("20012345", "DE"), ("3025", "IT")],
)
def test_of_what_country_nobody_knows_is_dialled_as_it_is(written: str, region: str) -> None:
    assert e164_of(written, region) == ""
    assert read_target(written, region) == written


def test_a_sip_uri_stays_as_it_is() -> None:
    assert read_target("sip:+4930@pbx.example:5070", "DE") == SipUri(user="+4930", host="pbx.example", port=5070)


@pytest.mark.parametrize(
    "written",
    ["", "tel:", "tel:sales", "sip:", "sip:a@b@c", "http://x", "a b", "a@b", "a\r\nb;c", "+", "+0", "tel:+", "+sales"],
)
def test_what_nobody_can_be_called_by_is_an_error(written: str) -> None:
    with pytest.raises(SipParseError):
        read_target(written)


def test_what_is_too_long_is_an_error() -> None:
    with pytest.raises(SipParseError, match=str(MAX_TARGET)):
        read_target("1" * (MAX_TARGET + 1))


@pytest.mark.parametrize(
    ("rules", "region"),
    [
        (CallRules(), ""),
        (CallRules(region="AT"), "AT"),
        (CallRules(caller_ids=("+4930123",)), "DE"),
        (CallRules(region="AT", caller_ids=("+4930123",)), "AT"),
        (CallRules(caller_ids=("+14155550100",)), "US"),
        (CallRules(caller_ids=("+800123456",)), ""),
        (CallRules(caller_ids=("nobody",)), ""),
    ],
)
def test_a_trunk_s_region_is_that_of_its_first_caller_id_where_it_names_none(rules: CallRules, region: str) -> None:
    assert region_of(rules) == region


ANYTHING = st.text(max_size=80) | st.text("+0123456789*#-. ()%;=abcxtelisp:@٣３\u200b", max_size=40)


@settings(deadline=None)  # what is known of a country is read when it is first asked for
@given(ANYTHING, st.sampled_from(["", "DE", "US", "GB", "IT", "ZZ"]))
@example("+", "DE")
@example("%" * 80, "")
def test_whatever_is_written_it_is_a_target_or_an_error_of_ours(text: str, region: str) -> None:
    number = e164_of(text, region)
    assert number == "" or (number[0] == "+" and number[1:].isascii() and number[1:].isdigit())
    try:
        read = read_target(text, region)
    except SipParseError:
        return
    assert isinstance(read, SipUri) or read
