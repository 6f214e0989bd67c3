"""Telephone numbers in any writing, and what is dialled for them: E.164 where that can be told. Pure.

What is known of countries is libphonenumber's. Its metadata are read country by country when they are first needed,
1.2 ms for the largest.
"""

from __future__ import annotations

import re
import unicodedata

import phonenumbers
from phonenumbers import PhoneMetadata, PhoneNumber, ValidationResult

from offhook.model.errors import SipParseError
from offhook.model.trunks import CallRules
from offhook.sip.targets import MAX_TARGET, parse_target
from offhook.sip.uri import SipUri, is_sip, unescape

MOST_ESCAPES = 4
"""``%2531`` is ``%31`` is ``1``: nobody escapes more often than this, and each round costs."""

LONGEST_E164 = 15
"""ITU-T E.164 §6: "the maximum number of digits"."""

LEAST_DIGITS = 7
"""Of a number of a country; fewer may be an extension, behind a PBX's prefix or without. Who means a shorter one (there
are, in small countries) writes it with its plus."""

_SEPARATORS = re.compile(r"[\s\-.()/\u2010-\u2015\u2212]+")
_OPTIONAL_ZERO = re.compile(r"(?<=\d)\s*\(0\)")
"""+49 (0)30 …: dialled inside the country only."""

_PLAIN_NUMBER = re.compile(r"\+?[0-9]+")
_VANITY = re.compile(r"(?:\+[0-9]|[01])[0-9A-Za-z]{6,}")
"""1-800-FLOWERS, 0800 FLOWERS: begins as long numbers do. Names do not."""

_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Mn", "Me"})
"""Unicode categories of what is not seen: marks of writing direction, zero-width joints, controls."""


def plain(text: str) -> str:
    """``text`` as it is read: escapes undone, digits of every script as 0-9, without what cannot be seen."""
    for _ in range(MOST_ESCAPES):
        before, text = text, unescape(text)
        if text == before:
            break
    return "".join(_plain_character(one) for one in unicodedata.normalize("NFKC", text))


def _plain_character(one: str) -> str:
    if one.isascii() and one.isprintable():
        return one
    digit = unicodedata.digit(one, None)
    if digit is not None:
        return str(digit)
    return "" if unicodedata.category(one) in _INVISIBLE else one


def read_target(text: str, region: str = "") -> SipUri | str:
    """A SIP URI as it is; else what is dialled: E.164 with its plus, or an extension or name as it is.

    ``region``: whose national numbers it may be (``DE``). Raises ``SipParseError`` for what nobody can be called by.
    """
    stripped = text.strip()
    if len(stripped) > MAX_TARGET:
        raise SipParseError("target", f"{stripped[:40]!r} is longer than {MAX_TARGET} characters")
    if is_sip(stripped):
        return SipUri.parse(stripped)
    number = e164_of(stripped, region)
    target = number or parse_target(plain(stripped))
    if not number and isinstance(target, str) and target.startswith("+"):
        raise SipParseError("target", f"{stripped!r} begins like a number and is none")
    return target


def e164_of(text: str, region: str = "") -> str:
    """The number as +… where that can be told; "" for an extension, a name, a number of nobody knows which country.

    Whether it is assigned, or of a length that its country has, does not matter.
    """
    digits = _written_digits(text)
    if not digits or not digits.isascii():
        return ""
    if digits.startswith("+"):
        rest = digits[1:].lstrip("0")
        return f"+{rest}" if rest else ""
    return _international(digits, region) or _national(digits, region)


def _written_digits(text: str) -> str:
    """``+`` and digits; "" where it is no number. A ``tel:`` URI's context (RFC 3966 §5.1.5) is put before it."""
    number, _, params = plain(text).strip().partition(";")
    tel = number[:4].lower() == "tel:"
    number = _SEPARATORS.sub("", _OPTIONAL_ZERO.sub("", number[4:] if tel else number))
    if _VANITY.fullmatch(number):
        number = phonenumbers.convert_alpha_characters_in_number(number)
    if not _PLAIN_NUMBER.fullmatch(number):
        return ""
    context = _global_context(params) if tel and not number.startswith("+") else ""
    return f"{context}{number.removeprefix('0') if context else number}"


def _global_context(params: str) -> str:
    for param in params.split(";"):
        name, _, value = param.partition("=")
        if name.strip().lower() == "phone-context" and value.startswith("+"):
            return _SEPARATORS.sub("", value)
    return ""


def _international(digits: str, region: str) -> str:
    """By the region's own prefix for other countries (00, 011, 0011); 00, which ITU-T E.123 names, everywhere."""
    metadata = PhoneMetadata.metadata_for_region(region, None) if region else None
    own = "" if metadata is None else metadata.international_prefix or ""
    for prefix in filter(None, (own, "00")):
        match = re.match(prefix, digits)
        rest = digits[match.end() :].lstrip("0") if match else ""
        if len(rest) >= LEAST_DIGITS:
            return f"+{rest}"
    return ""


def _national(digits: str, region: str) -> str:
    metadata = PhoneMetadata.metadata_for_region(region, None) if region else None
    number = parsed(digits, region) if metadata is not None and len(digits) >= LEAST_DIGITS else None
    if metadata is None or number is None:
        return ""
    if metadata.national_prefix == "0" and not digits.startswith("0"):
        return ""  # there a number without it is an extension, a short code, or one of the same town
    if phonenumbers.is_possible_number_with_reason(number) != ValidationResult.IS_POSSIBLE:
        return ""
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def parsed(number: str, region: str) -> PhoneNumber | None:
    """libphonenumber's reading of ``number``; None where it has none."""
    try:
        return phonenumbers.parse(number, region or None)
    except phonenumbers.NumberParseException:
        return None


def region_of(rules: CallRules) -> str:
    """Whose national numbers a trunk dials: as it says, else of the country that its first caller id is of."""
    if rules.region or not rules.caller_ids:
        return rules.region
    number = parsed(rules.caller_ids[0], "")
    code = "" if number is None else phonenumbers.region_code_for_country_code(number.country_code or 0)
    return code if code in phonenumbers.SUPPORTED_REGIONS else ""
