"""Whom calls of ours may reach: (number or URI, policy) -> why not. Pure.

The one judgement for calls by the API, for transfers, and for REFER in both directions. A number is judged in every
reading that a PBX or a carrier behind us might give it; where one of them is refused, the number is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Literal

import phonenumbers
from phonenumbers import PhoneMetadata, ShortNumberCost, shortnumberinfo

from offhook.call.numbers import LEAST_DIGITS, LONGEST_E164, e164_of, parsed, plain
from offhook.model.errors import SipParseError
from offhook.sip.uri import SipUri, is_sip

RangeKind = Literal["premium", "shared_cost", "satellite", "emergency"]
"""What is refused unless the operator permits it."""

_KINDS: tuple[RangeKind, ...] = ("emergency", "satellite", "premium", "shared_cost")

_NAMES: dict[RangeKind, str] = {
    "premium": "premium-rate numbers",
    "shared_cost": "shared-cost numbers",
    "satellite": "satellite and other numbers of no country",
    "emergency": "emergency numbers",
}

_CODES: dict[str, RangeKind] = {
    "808": "shared_cost",
    "870": "satellite",
    "878": "satellite",
    "881": "satellite",
    "882": "satellite",
    "883": "satellite",
    "979": "premium",
}
"""Country codes of no country (ITU-T E.164, list of assigned codes); 800, which is free, is none of them."""

_EMERGENCY = frozenset({"112", "911", "999", "110", "119"})
"""Known to networks everywhere (3GPP TS 22.101 §10.1.1), or to many countries; behind an outside line's prefix, too."""

_EMERGENCY_ALONE = frozenset({"000", "08", "118", "995"})
"""Some countries'; behind a prefix they would be too many extensions."""

_NATIONAL_PREMIUM = re.compile(r"(?:0?900|1900|090[69]|1?976|0190)[0-9]{4,}|118[0-9]{2,3}")
"""Where no region tells better: what begins so costs in more countries than not."""

_COUNTRY_PREFIXES = ("00", "011", "0011", "010", "009", "810")
"""With which the numbers of other countries begin; 00 where no region tells better, and the others somewhere."""

_CARRIER = re.compile(r"101[0-9]{4}(?=[0-9]{7})|010(?:0[0-9]|[1-9])[0-9](?=[0-9]{7})")
"""By whom the call goes, dialled before it: in North America, and in Germany."""

_OUTSIDE_LINE = frozenset("09")
"""One or two of these a PBX wants before a number of the outside."""

_NORTH_AMERICA = 1
"""There personal numbers (500, 533 …) cost what others do. Elsewhere (+44 70, +41 878) they are priced like premium
ones, and abused like them."""

_NUMBER_LIKE = re.compile(r"\+*[0-9*#]")
_EMBEDDED = re.compile(r"(?:sips?|tel):[^<>\s]+", re.IGNORECASE)

LEAST_BEGINNING = 3
"""Digits after the country's that tell a range: 900."""

LONGEST_EXTENSION = 4
"""Digits of what is taken for an extension although a country has costly codes so short: France all of 4000 to 8999."""

LONGEST_READ = LONGEST_E164 + 10
"""Digits that are looked at: E.164's fifteen, and as many again as some write before or after them."""

MOST_PARTS = 16
"""User part, parameters and headers that are looked at: each costs 0.1 ms, and no telephone writes so many."""

_MOST_DIGITS = 64
_MOST_SHOWN = 10

_COUNTRIES = phonenumbers.COUNTRY_CODE_TO_REGION_CODE


@dataclass(frozen=True, kw_only=True, slots=True)
class DestinationPolicy:
    """``allow``: only numbers that begin with one of these; empty: all. ``deny``: none of these. Both as E.164.

    What either has without a plus is an extension or a name, whole, with x for any digit (``2xx``). A name (``alice``)
    is called whatever ``allow`` says, an extension is not.
    """

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    permit: frozenset[RangeKind] = frozenset()


@dataclass(frozen=True, kw_only=True, slots=True)
class NotAllowed:
    """Why nobody calls there: the rule, what it was applied to, and what the operator would have to change."""

    rule: str
    evidence: str
    fix: str


def warm() -> None:
    """Read and compile what is known of every country, 0.3 s: beside the event loop, which judges in 0.1 ms then."""
    for code in _COUNTRIES:
        _ordinary(code)
        kinds_of(f"+{code}900", "")


def judge(target: SipUri | str, region: str, policy: DestinationPolicy) -> NotAllowed | None:
    """``target``: a URI or a user part, as it would be dialled. ``region``: whose national numbers it may be (``DE``).

    None: it may be called. Whatever is no telephone number (a name, an extension of a PBX) may, with no ``allow``.
    """
    dialled = list(islice(_dialled(target), MOST_PARTS + 1))
    if len(dialled) > MOST_PARTS:
        fix = "write the number alone"
        return NotAllowed(rule="a target has few parameters", evidence=f"more than {MOST_PARTS}", fix=fix)
    for text in dialled:
        refused = _judge_kind(text, region, policy) or _judge_denied(text, region, policy)
        if refused is not None:
            return refused
    return _judge_listed(dialled[0], region, policy) if dialled and policy.allow else None


# ── what is dialled ──────────────────────────────────────────────────────────────────────────────────────


def _dialled(target: SipUri | str) -> Iterator[str]:
    """All that a target may make somebody dial: its user part first, then what its parameters and headers hide."""
    if isinstance(target, str):
        try:
            uri = SipUri.parse(target) if is_sip(target) else None
        except SipParseError:  # whoever dials it all the same reads a user part before the @
            yield from _of_uri_text(target)
            return
        if uri is None:
            yield from _of_user(target)
            return
        target = uri
    yield from _of_user(target.host if target.user is None else target.user)
    for _, value in target.params:
        if value and _NUMBER_LIKE.match(plain(value)):
            yield value
    for embedded in _EMBEDDED.findall(plain(target.headers)):
        yield from _of_uri_text(embedded)


def _of_uri_text(text: str) -> Iterator[str]:
    scheme, _, rest = text.partition(":")
    user = rest.partition("?")[0].rpartition("@")[0] or rest
    yield from _of_user(f"tel:{rest}" if scheme.lower() == "tel" else user)


def _of_user(user: str) -> Iterator[str]:
    """The number, the number in its context (RFC 3966), and the parameters that carriers route by (``rn``)."""
    number, *params = plain(user).split(";")
    yield number
    for param in params:
        name, _, value = param.partition("=")
        value = value or name
        if param.strip().lower().startswith("phone-context"):
            yield value + number.removeprefix("tel:")
        elif _NUMBER_LIKE.match(value):
            yield value


def _digits(text: str) -> str:
    """What keypads and switches take of it, letters by their keys; "" for a name."""
    kept = re.sub(r"[^0-9A-Za-z+*#]", "", plain(text).removeprefix("tel:").removeprefix("TEL:"))
    if not _NUMBER_LIKE.match(kept):
        return ""
    return phonenumbers.convert_alpha_characters_in_number(kept)[: _MOST_DIGITS + 1]


# ── kinds ────────────────────────────────────────────────────────────────────────────────────────────────


def _judge_kind(text: str, region: str, policy: DestinationPolicy) -> NotAllowed | None:
    digits = _digits(text)
    found = kinds_of(digits, region) if digits else frozenset()
    for kind in _KINDS:
        if kind in found and kind not in policy.permit:
            return NotAllowed(
                rule=f"the destination policy refuses {_NAMES[kind]}",
                evidence=f"{_shown(text)} is one, or may be dialled as one",
                fix=f'add "{kind}" to dialling.permit in config.json, or call another number',
            )
    return None


@lru_cache(maxsize=512)
def kinds_of(digits: str, region: str) -> frozenset[RangeKind]:
    """What kinds of numbers ``digits`` (perhaps with a plus, * and #) may be, in any reading."""
    found: set[RangeKind] = {"emergency"} if digits in _EMERGENCY_ALONE else set()
    for form in _forms(digits, region):
        found.update(_kinds_inside(form, region))
        for number in _readings(form, region):
            found.update(_kinds_worldwide(number))
    return frozenset(found)


# ── readings ─────────────────────────────────────────────────────────────────────────────────────────────


def _forms(digits: str, region: str) -> Iterator[str]:
    """What may be dialled of it: without services (*67, *72) before it, without a prefix for outside lines.

    With a plus where it cannot but be E.164.
    """
    for part in _parts(digits):
        before, plus, number = part.rpartition("+")
        if plus and number and not number.startswith("0"):
            yield f"+{number}"
            if not before.strip("+"):
                continue
        yield from _inside_forms(part.replace("+", ""), region)


def _parts(digits: str) -> Iterator[str]:
    yield digits.replace("*", "").replace("#", "")
    for index, piece in enumerate(re.split(r"[*#]+", digits)):
        if index:
            yield from (piece, piece[2:], piece[3:])
        elif piece != digits:
            yield piece


def _inside_forms(number: str, region: str) -> Iterator[str]:
    if not number:
        return
    yield number
    if (carrier := _CARRIER.match(number)) and not _is_national(number, region):
        yield number[carrier.end() :]
    for length in (1, 2):
        if set(number[:length]) <= _OUTSIDE_LINE and not _is_national(number, region):
            yield number[length:]


def _readings(form: str, region: str) -> Iterator[str]:
    """The numbers of the world, without their plus, that a form of enough digits may stand for."""
    if form.startswith("+"):
        yield form[1:]
        return
    read = parsed(form, region) if region and len(form) > LONGEST_EXTENSION else None
    if read is not None and (len(form) >= LEAST_DIGITS or phonenumbers.is_valid_number_for_region(read, region)):
        yield f"{read.country_code}{phonenumbers.national_significant_number(read)}"
    if len(form) < LEAST_DIGITS or _is_national(form, region):
        return
    yield form.lstrip("0")
    for prefix in _COUNTRY_PREFIXES:
        if form.startswith(prefix):
            yield form[len(prefix) :].lstrip("0")


@lru_cache(maxsize=512)
def _is_national(number: str, region: str) -> bool:
    """Whether it can only be meant as a number of the region: so it is written, and so it exists."""
    if not region or len(number) < LEAST_DIGITS or not e164_of(number, region):
        return False
    read = parsed(number, region)
    return read is not None and phonenumbers.is_valid_number_for_region(read, region)


# ── what a reading is ────────────────────────────────────────────────────────────────────────────────────


def _kinds_inside(form: str, region: str) -> Iterator[RangeKind]:
    """Short codes, as they are dialled in the region; and what costs in most countries, where none is known."""
    if form in _EMERGENCY:
        yield "emergency"
    if not region:
        if _NATIONAL_PREMIUM.fullmatch(form):
            yield "premium"
        return
    longer = len(form) >= LEAST_DIGITS and not _is_national(form, region)
    if shortnumberinfo.is_emergency_number(form, region) or (
        longer and shortnumberinfo.connects_to_emergency_number(form, region)
    ):
        yield "emergency"
    if LONGEST_EXTENSION < len(form) < LEAST_DIGITS and _is_costly_code(form, region):
        yield "premium"


def _is_costly_code(code: str, region: str) -> bool:
    read = parsed(code, region)
    if read is None or not shortnumberinfo.is_valid_short_number_for_region(read, region):
        return False
    cost = shortnumberinfo.expected_cost_for_region(read, region)
    return bool(cost == ShortNumberCost.PREMIUM_RATE) and not shortnumberinfo.is_sms_service_for_region(read, region)


def _kinds_worldwide(number: str) -> Iterator[RangeKind]:
    """Of what may be E.164, without its plus."""
    if number in _EMERGENCY:
        yield "emergency"
    if number[:3] in _CODES:
        yield _CODES[number[:3]]
    code = next((number[:length] for length in (1, 2, 3) if int(number[:length] or 0) in _COUNTRIES), "")
    if code and number[len(code) :]:
        for national in _national_variants(int(code), number[len(code) : LONGEST_READ]):
            yield from _kinds_in_country(int(code), national)


def _national_variants(code: int, national: str) -> Iterator[str]:
    """With and without the prefix that is dialled inside the country, and that some write all the same: +49 0900."""
    yield national
    if national.startswith("0"):
        yield national.lstrip("0")
    metadata = PhoneMetadata.metadata_for_region_or_calling_code(code, _COUNTRIES[code][0])
    prefix = None if metadata is None else metadata.national_prefix
    if prefix and prefix != "0" and national.startswith(prefix):
        yield national[len(prefix) :]


def _kinds_in_country(code: int, national: str) -> Iterator[RangeKind]:
    if code == _NORTH_AMERICA and national[3:6] == "976":
        yield "premium"
    if 1 < len(national) < LEAST_DIGITS and any(
        shortnumberinfo.is_emergency_number(national, region) for region in _COUNTRIES[code]
    ):
        yield "emergency"
    for kind, pattern in _costly(code):
        if pattern.fullmatch(national) or (
            _may_become(pattern, code, national) and not _ordinary(code).fullmatch(national)
        ):
            yield kind


def _may_become(pattern: re.Pattern[str], code: int, national: str) -> bool:
    """Whether a number of the range is all that ``national`` can be the beginning of, or begins with one: switches
    ignore what comes after its end."""
    if pattern.match(national):
        return True
    if len(national) < LEAST_BEGINNING:
        return False
    longer = [
        national + digit * (length - len(national))
        for length in _costly_lengths(code)
        for digit in "0123456789"
        if length > len(national)
    ]
    return any(pattern.fullmatch(one) for one in longer) and not any(_ordinary(code).fullmatch(one) for one in longer)


@lru_cache(maxsize=256)
def _costly(code: int) -> tuple[tuple[RangeKind, re.Pattern[str]], ...]:
    """The ranges of a country that cost. Kept compiled: libphonenumber leaves that to the cache of ``re``, which its
    patterns overflow."""
    premium = ("premium_rate",) if code == _NORTH_AMERICA else ("premium_rate", "personal_number")
    found: tuple[tuple[RangeKind, re.Pattern[str] | None], ...] = (
        ("premium", _pattern(code, premium)),
        ("shared_cost", _pattern(code, ("shared_cost",))),
    )
    return tuple((kind, pattern) for kind, pattern in found if pattern is not None)


@lru_cache(maxsize=256)
def _ordinary(code: int) -> re.Pattern[str]:
    """All its other numbers."""
    return _pattern(code, ("fixed_line", "mobile", "toll_free", "voip", "uan", "pager", "voicemail")) or re.compile(
        "$^"
    )


def _pattern(code: int, kinds: tuple[str, ...]) -> re.Pattern[str] | None:
    found = (getattr(metadata, kind) for metadata in _plans(code) for kind in kinds)
    patterns = {one.national_number_pattern for one in found if one is not None and one.national_number_pattern}
    return re.compile("|".join(f"(?:{one})" for one in sorted(patterns))) if patterns else None


def _plans(code: int) -> Iterator[PhoneMetadata]:
    for region in _COUNTRIES[code]:
        metadata = PhoneMetadata.metadata_for_region_or_calling_code(code, region)
        if metadata is not None:
            yield metadata


@lru_cache(maxsize=256)
def _costly_lengths(code: int) -> tuple[int, ...]:
    kinds = ("premium_rate", "shared_cost", "personal_number")
    found = (getattr(metadata, kind) for metadata in _plans(code) for kind in kinds)
    lengths = {length for one in found if one is not None for length in one.possible_length}
    return tuple(sorted(length for length in lengths if length > 0))


# ── allow and deny ───────────────────────────────────────────────────────────────────────────────────────


def _judge_denied(text: str, region: str, policy: DestinationPolicy) -> NotAllowed | None:
    if not policy.deny:
        return None
    digits = _digits(text)
    numbers = {f"+{number}" for form in _forms(digits, region) for number in _readings(form, region)} if digits else ()
    for entry in policy.deny:
        if any(number.startswith(entry) for number in numbers) or _is_extension(text, entry):
            return NotAllowed(
                rule="the destination policy denies it",
                evidence=f"{_shown(text)} begins with {entry}, or may be dialled so",
                fix=f'take "{entry}" out of dialling.deny in config.json, or call another number',
            )
    return None


def _judge_listed(text: str, region: str, policy: DestinationPolicy) -> NotAllowed | None:
    number = e164_of(text, region)
    listed = any(number.startswith(entry) for entry in policy.allow if entry.startswith("+")) if number else False
    if listed or not _digits(text) or any(_is_extension(text, entry) for entry in policy.allow):
        return None
    return NotAllowed(
        rule="the destination policy lists whom calls may reach",
        evidence=f"{_shown(text)} is not listed: {', '.join(policy.allow[:_MOST_SHOWN])}",
        fix="add what it begins with, as +49, to dialling.allow in config.json; an extension, whole, as 200 or 2xx",
    )


def _is_extension(text: str, entry: str) -> bool:
    """Whether an entry without a plus names it."""
    said, wanted = plain(text).strip().lower(), entry.lower()
    return (
        not wanted.startswith("+")
        and len(said) == len(wanted)
        and all(one == other or (other == "x" and one.isdigit()) for one, other in zip(said, wanted, strict=True))
    )


def _shown(text: str) -> str:
    return repr(text[:40])
