"""Whom to call, as people and programs write it: SIP URIs, tel URIs (RFC 3966), numbers, names at a PBX."""

from __future__ import annotations

import re

from offhook.model.errors import SipParseError
from offhook.sip.uri import SipUri, is_sip, unescape

MAX_TARGET = 512
"""Characters; the longest telephone number has fifteen digits (E.164)."""

HOW_TO_WRITE = "Write it as +4930123456, tel:+4930123456 or sip:user@host"
"""What whoever wrote something else is told."""

_SEPARATORS = str.maketrans("", "", "-.() ")
"""RFC 3966 §3: visual separators "are purely included to aid readability"."""

_NUMBER = re.compile(r"\+?[0-9*#][0-9*#A-Da-d]*")
_USER = re.compile(r"[A-Za-z0-9\-_.!~*'()&=+$,#%]+")
"""RFC 3261 §25.1, without the characters that would end a user part."""


def parse_target(text: str) -> SipUri | str:
    """A ``sip:`` or ``sips:`` URI as it is; the user part to dial for a ``tel:`` URI, a number or a name.

    A number loses its separators: ``tel:+49-30-1234;ext=5`` and ``+49 (30) 1234`` are both ``+49301234``.
    Raises ``SipParseError`` for what nobody can be called by.
    """
    stripped = text.strip()
    if not stripped.isascii() or len(stripped) > MAX_TARGET:
        raise SipParseError("target", f"{stripped[:40]!r} is too long, or not ASCII: write a number in 0-9")
    if is_sip(stripped):
        return SipUri.parse(stripped)
    tel = stripped[:4].lower() == "tel:"
    user = unescape(stripped[4:].partition(";")[0]) if tel else stripped
    number = user.translate(_SEPARATORS)
    if _NUMBER.fullmatch(number):
        return number
    if tel or not _USER.fullmatch(user):
        raise SipParseError("target", f"{stripped[:40]!r} is neither a SIP URI, a tel URI nor a number")
    return user
