"""Whom calls of ours may reach, however the number is written."""

from __future__ import annotations

import time
from collections.abc import Iterator

import phonenumbers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phonenumbers import PhoneNumberFormat, PhoneNumberType

from offhook.call.destination_policy import DestinationPolicy, NotAllowed, RangeKind, judge, kinds_of, warm
from offhook.sip.refer_values import ReferTo
from offhook.sip.uri import SipUri

PERMISSIVE: frozenset[RangeKind] = frozenset({"premium", "shared_cost", "satellite", "emergency"})
FULLWIDTH = str.maketrans("+0123456789", "＋０１２３４５６７８９")
ARABIC = str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")


def refusal(target: str, region: str = "", **policy: object) -> NotAllowed | None:
    """Of a target as text; a SIP URI is judged as one, too, and has to fare alike."""
    rules = DestinationPolicy(**policy)  # type: ignore[arg-type]  # a table's columns
    told = judge(target, region, rules)
    if target.startswith(("sip:", "sips:")):
        assert judge(SipUri.parse(target), region, rules) == told
    return told


PREMIUM = [
    ("+19005551234", ""),  # North America
    ("+1 900 555 1234", ""),
    ("+1-900-555-1234", ""),
    ("+1.900.555.1234", ""),
    ("+1(900)5551234", ""),
    ("+14159765551", ""),  # NPA-976
    ("9005551234", "US"),
    ("1 900 555 1234", "US"),
    ("011 44 909 879 1234", "US"),
    ("+499001234567", ""),  # Germany
    ("0900 1234567", "DE"),
    ("+49 0900 1234567", ""),
    ("+49 (0)900 1234567", ""),
    ("0049 900 1234567", "DE"),
    ("+449098791234", ""),  # Britain
    ("+447012345678", ""),  # personal, priced like it
    ("+33899123456", ""),  # France
    ("+390899123456", ""),  # Italy
    ("+61190012345 6", ""),  # Australia
    ("1900 123 456", "AU"),
    ("+34803123456", ""),  # Spain
    ("+31 906 1234", ""),  # the Netherlands
    ("+41900123456", ""),  # Switzerland
    ("+43900123456", ""),  # Austria
    ("+48703123456", ""),  # Poland
    ("+979123456789", ""),  # international premium rate
    ("11880", ""),  # a directory, by its short code
    ("118 712", "FR"),
    ("0 118 712", "FR"),
    # a beginning, and one too long
    ("+1900", ""),
    ("+1900555", ""),
    ("+190055512345678", ""),
    ("+4990012345678901", ""),
    # prefixes for other countries, for outside lines, and services before it
    ("0019005551234", ""),
    ("01119005551234", ""),
    ("001119005551234", ""),
    ("19005551234", ""),
    ("499001234567", ""),
    ("919005551234", ""),
    ("9 1 900 555 1234", "US"),
    ("0 0900 1234567", "DE"),
    ("00019005551234", ""),
    ("0009001234567", "DE"),
    ("*6719005551234", ""),
    ("*72 19005551234", ""),
    ("*21*+19005551234#", ""),
    ("#31#+19005551234", ""),
    ("++19005551234", ""),
    ("1010288 1 900 555 1234", ""),
    ("1010288 1 900 555 1234", "US"),
    ("01013 0900 1234567", "DE"),
    ("010066 0900 1234567", "DE"),
    ("9 011 44 909 879 1234", "US"),
    ("+0019005551234", ""),
    ("9+19005551234", ""),
    ("0900 1234567", ""),
    ("900 555 1234", ""),
    # letters
    ("+1-900-HOT-CALL", ""),
    ("1900HOTCALL", "US"),
    # tel:
    ("tel:+19005551234", ""),
    ("TEL:+1-900-555-1234", ""),
    ("tel:+19005551234;ext=5", ""),
    ("tel:%2B19005551234", ""),
    ("tel:5551234;phone-context=+1900", ""),
    ("tel:+14155550100;rn=+19005551234;npdi", ""),
    # escapes and scripts
    ("%2B19005551234", ""),
    ("%2B1%39%30%305551234", ""),
    ("%252B19005551234", ""),
    ("+19005551234".translate(FULLWIDTH), ""),
    ("+19005551234".translate(ARABIC), ""),
    ("+१९००५५५१२३४", ""),  # Devanagari
    ("+𝟏𝟗𝟎𝟎𝟓𝟓𝟓𝟏𝟐𝟑𝟒", ""),  # mathematical
    ("+1\u200b900\u200d555\u20601234", ""),
    ("\u202e+19005551234\u202c", ""),
    ("+1\u00ad900\u00ad5551234", ""),
    ("+1\u2011900\u2212555\u00a01234", ""),
    ("+1_900_555_1234", ""),
    ("'+19005551234'", ""),
    # SIP URIs
    ("sip:+19005551234@gw.example", ""),
    ("sips:+19005551234@gw.example", ""),
    ("sip:19005551234@gw.example", ""),
    ("sip:0019005551234@192.0.2.1", ""),
    ("sip:9005551234@[2001:db8::1]:5070;transport=tcp", "US"),
    ("sip:%2B19005551234@gw.example", ""),
    ("sip:%2b1%390%30555%31234@gw.example", ""),
    ("sip:+1-900-555.1234@gw.example;user=phone", ""),
    ("sip:+19005551234;phone-context=example.org@gw.example", ""),
    ("sip:+19005551234;user=phone@gw.example;user=phone", ""),
    ("sip:5551234;phone-context=+1900@gw.example;user=phone", ""),
    ("sip:+14155550100;rn=+19005551234;npdi@gw.example", ""),
    ("sip:+19005551234:secret@gw.example", ""),
    ("sip:+19005551234@alice.example?Replaces=x%3Bto-tag%3Da%3Bfrom-tag%3Db", ""),
    ("sip:alice@gw.example?To=%3Csip%3A%2B19005551234%40gw.example%3E", ""),
    ("sip:alice@gw.example?Refer-To=tel%3A%2B19005551234", ""),
    ("sip:alice@gw.example;rn=+19005551234", ""),
    ("sip:19005551234", ""),
    ("sip:%2B19005551234%40alice.example@gw.example", ""),
    ("sip:alice%3B+19005551234@gw.example", ""),
    ("sip:1900HOTCALL@gw.example", "US"),
    ("sip:*6719005551234@gw.example", ""),
    ("sip:+1\u06f9\u06f0\u06f05551234@gw.example", ""),
]


@pytest.mark.parametrize(("target", "region"), PREMIUM)
def test_premium_numbers_are_refused_however_they_are_written(target: str, region: str) -> None:
    told = refusal(target, region)
    assert told is not None
    assert "premium" in told.rule
    assert '"premium"' in told.fix


@pytest.mark.parametrize(
    ("target", "region"),
    [
        ("+8821612345678", ""),
        ("+881612345678", ""),
        ("+88213000000", ""),
        ("+883510000000", ""),
        ("+870772001234", ""),
        ("+878101234567", ""),
        ("+882", ""),
        ("008821612345678", ""),
        ("01188216123456", "US"),
        ("8821612345678", ""),
        ("0 00 881 612345678", "DE"),
        ("tel:+881-612-345-678", ""),
        ("tel:612345678;phone-context=+881", ""),
        ("sip:+8821612345678@gw.example", ""),
        ("+8821612345678".translate(FULLWIDTH), ""),
    ],
)
def test_satellites_are_refused(target: str, region: str) -> None:
    told = refusal(target, region)
    assert told is not None
    assert "satellite" in told.rule


@pytest.mark.parametrize(
    ("target", "region"),
    [("+4918051234567", ""), ("0180 5 1234567", "DE"), ("1300 123 456", "AU"), ("+33 826 123456", "")],
)
def test_shared_cost_is_refused(target: str, region: str) -> None:
    told = refusal(target, region)
    assert told is not None
    assert "shared-cost" in told.rule


@pytest.mark.parametrize(
    ("target", "region"),
    [
        *((code, "") for code in ("112", "911", "999", "110", "119", "000", "118", "08", "995")),
        ("110", "DE"),
        ("112", "DE"),
        ("911", "DE"),
        ("17", "FR"),
        ("100", "IN"),
        ("0112", ""),
        ("9911", ""),
        ("00112", ""),
        ("99911", ""),
        ("0 110", "DE"),
        ("0 17", "FR"),
        ("+112", ""),
        ("+49112", ""),
        ("+49 110", ""),
        ("+1911", ""),
        ("+44999", ""),
        ("*67911", ""),
        ("9115551234", "US"),
        ("tel:112", ""),
        ("tel:911;phone-context=+1", ""),
        ("sip:112@pbx.example", ""),
        ("sip:%3112@pbx.example", ""),
        ("sip:911;user=phone@192.0.2.1", ""),
        ("112".translate(FULLWIDTH), ""),
        ("1\u200b1\u200b2", ""),
        ("1-1-2", ""),
        ("1.1.2", ""),
    ],
)
def test_emergency_numbers_are_refused(target: str, region: str) -> None:
    told = refusal(target, region)
    assert told is not None
    assert "emergency" in told.rule


@pytest.mark.parametrize(
    ("target", "region"),
    [
        ("+61400000000", ""),
        ("+1234567890", ""),
        ("+14155550100", ""),
        ("+15551234567", ""),
        ("+4930123456", ""),
        ("+4915112345678", ""),
        ("+49800123456 7", ""),
        ("+18005551234", ""),
        ("+800 1234 5678", ""),
        ("888 555 1234", ""),
        ("9876543210", ""),
        ("+442079460000", ""),
        ("+918012345678", ""),
        ("+819012345678", ""),
        ("030 123456", "DE"),
        ("415 555 0100", "US"),
        ("979 555 1234", "US"),
        ("870 555 1234", "US"),
        ("0118 496 0000", "GB"),
        ("200", ""),
        ("200", "DE"),
        ("1121", "DE"),
        ("1100", "DE"),
        ("10001", "US"),
        ("*97", ""),
        ("alice", ""),
        ("user1900", ""),
        ("sip:alice@example.org", ""),
        ("sip:200@192.0.2.1", ""),
        ("sip:192.0.2.1", ""),
        ("sip:pbx.example", ""),
        ("sip:sales404@127.0.0.1:5060;transport=tcp", ""),
        ("sip:alice@example.org;maddr=192.0.2.1", ""),
        ("", ""),
        ("+", ""),
    ],
)
def test_any_other_number_may_be_called(target: str, region: str) -> None:
    assert refusal(target, region) is None


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ("+19005551234", "premium"),
        ("+4918051234567", "shared_cost"),
        ("+881612345678", "satellite"),
        ("112", "emergency"),
    ],
)
def test_what_the_operator_permits_may_be_called(target: str, kind: RangeKind) -> None:
    assert refusal(target, permit=frozenset({kind})) is None
    assert refusal(target, permit=PERMISSIVE - {kind}) is not None


@pytest.mark.parametrize(
    ("target", "region"),
    [
        ("+4930123456", "DE"),
        ("030 123456", "DE"),
        ("0049 30 123456", "DE"),
        ("sip:+4930123456@gw.example", ""),
        ("tel:+49-30-123456", ""),
        ("200", ""),
        ("sip:200@pbx.example", ""),
        ("301", ""),
        ("alice", ""),
        ("sip:alice@example.org", ""),
    ],
)
def test_what_is_listed_may_be_called_and_so_may_names(target: str, region: str) -> None:
    assert refusal(target, region, allow=("+4930", "+61", "200", "3xx")) is None


@pytest.mark.parametrize(
    ("target", "region"),
    [
        ("+14155550123", ""),
        ("+4940123456", ""),
        ("040 123456", "DE"),
        ("tel:+1-415-555-0123", ""),
        ("sip:0014155550123@gw.example", ""),
        ("sip:%2B14155550123@gw.example", ""),
        ("4930123456", ""),  # without its plus it might be anything
        ("201", ""),
        ("2000", ""),
        ("sip:0400@pbx.example", ""),
        ("+14155550123".translate(ARABIC), ""),
    ],
)
def test_what_is_not_listed_may_not(target: str, region: str) -> None:
    told = refusal(target, region, allow=("+4930", "+61", "200", "3xx"))
    assert told is not None
    assert "lists" in told.rule
    assert "dialling.allow" in told.fix


def test_what_is_listed_is_no_permission_for_what_costs() -> None:
    assert refusal("+19005551234", allow=("+1",)) is not None
    assert refusal("+19005551234", allow=("+1",), permit=frozenset({"premium"})) is None


@pytest.mark.parametrize(
    ("target", "region"),
    [
        ("+14155550123", ""),
        ("0014155550123", ""),
        ("01114155550123", ""),
        ("14155550123", ""),
        ("415 555 0123", "US"),
        ("9 1 415 555 0123", "US"),
        ("0 00 1 415 555 0123", "DE"),
        ("sip:+14155550123@gw.example?Replaces=x", ""),
        ("tel:5550123;phone-context=+1415", ""),
        ("+14155550123".translate(FULLWIDTH), ""),
        ("666", ""),
    ],
)
def test_what_is_denied_may_not_be_called(target: str, region: str) -> None:
    told = refusal(target, region, deny=("+1415", "666"))
    assert told is not None
    assert "denies" in told.rule
    assert refusal("+14165550123", deny=("+1415", "666")) is None
    assert refusal("6660", deny=("+1415", "666")) is None


def test_what_has_parameters_without_end_is_refused_at_once() -> None:
    told = refusal("sip:alice" + ";+4930123456" * 1000 + "@gw.example")
    assert told is not None
    assert "parameters" in told.rule


def test_a_number_in_a_refer_to_is_judged_with_its_headers_and_without() -> None:
    text = "<sip:+19005551234@pbx.example?Replaces=a%3Bto-tag%3Db%3Bfrom-tag%3Dc&X-Ticket=7>"
    assert refusal(ReferTo.parse(text).uri) is not None


ANYTHING = st.text(max_size=80) | st.text("+0123456789*#-.()%;=abcxphone-context:@?٣３\u200b", max_size=60)
SEPARATORS = st.sampled_from(["", "-", ".", " ", "\u200b", "(", ")", "\u00ad", "_"])


@settings(deadline=None)  # what is known of a country is read when it is first asked for
@given(ANYTHING, st.sampled_from(["", "DE", "US", "GB", "IT", "RU", "ZZ"]))
def test_whatever_is_asked_for_is_judged(text: str, region: str) -> None:
    for target in (text, f"sip:{text}@host", f"tel:{text}"):
        judge(target, region, DestinationPolicy(allow=("+49", "2xx"), deny=("+1", "3")))


@settings(deadline=None)
@given(st.lists(SEPARATORS, min_size=12, max_size=12), st.lists(st.booleans(), min_size=12, max_size=12))
def test_no_writing_of_a_premium_number_passes(separators: list[str], escaped: list[bool]) -> None:
    written = "".join(
        (f"%{ord(digit):02X}" if escape else digit) + separator
        for digit, separator, escape in zip("+19005551234", separators, escaped, strict=True)
    )
    assert refusal(written) is not None


COSTLY = ("PREMIUM_RATE", "SHARED_COST", "PERSONAL_NUMBER")
ORDINARY = ("FIXED_LINE", "MOBILE", "TOLL_FREE", "VOIP", "UAN")
TAKEN_FOR_SATELLITES = {"LI": "UAN", "MN": "MOBILE", "PY": "VOIP"}
"""Countries whose example, written nationally and without its 0, begins like a number of no country."""


def examples(kinds: tuple[str, ...]) -> Iterator[tuple[str, str, str]]:
    """Region, kind and number: one of each kind in every country, as libphonenumber has them."""
    for region in sorted(phonenumbers.SUPPORTED_REGIONS):
        for kind in kinds:
            number = phonenumbers.example_number_for_type(region, getattr(PhoneNumberType, kind))
            if number is None or (kind == "PERSONAL_NUMBER" and number.country_code == 1):
                continue
            for style in (PhoneNumberFormat.E164, PhoneNumberFormat.INTERNATIONAL, PhoneNumberFormat.NATIONAL):
                yield region, kind, phonenumbers.format_number(number, style)


def test_the_costly_numbers_of_every_country_are_refused() -> None:
    passed = [(region, kind, number) for region, kind, number in examples(COSTLY) if not refusal(number, region)]
    assert passed == []


def test_the_ordinary_numbers_of_every_country_are_not() -> None:
    refused = {region: kind for region, kind, number in examples(ORDINARY) if refusal(number, region)}
    assert refused == TAKEN_FOR_SATELLITES


@pytest.mark.parametrize("region", ["", "DE", "FR", "GB", "IT", "US"])
def test_of_a_thousand_extensions_few_are_refused(region: str) -> None:
    """Emergency codes, and those behind a prefix for outside lines."""
    refused = {number for number in map(str, range(100, 10_000)) if refusal(number, region)}
    assert len(refused) < 30, sorted(refused)
    assert {"112", "911", "9112", "9911"} <= refused


def test_a_judgement_costs_the_loop_next_to_nothing() -> None:
    """Once what is known of countries is in memory, and of numbers that were not asked for before."""
    warm()
    kinds_of.cache_clear()
    numbers = [f"+{code}{national}" for code in (1, 44, 49, 61, 91) for national in range(2_000_000_000, 2_000_000_020)]
    began = time.process_time()
    for number in numbers:
        judge(number, "DE", DestinationPolicy())
    assert (time.process_time() - began) / len(numbers) < 0.005
