"""What went over the wire: one record a message, for a log, a ladder or a pcap; and what of it is nobody's business."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from offhook.sip.events import Flow


@dataclass(frozen=True, kw_only=True, slots=True)
class TraceRecord:
    """One SIP message as it was received or sent. ``at`` is Unix time in seconds."""

    at: float
    direction: Literal["received", "sent"]
    flow: Flow
    data: bytes


Trace = Callable[[TraceRecord], None]

_CALL_ID = re.compile(rb"\n(?:call-id|i)[ \t]*:[ \t]*([^\r\n]*)", re.I)

_CREDENTIALS = re.compile(rb"^((?:Proxy-)?Authorization\s*:\s*\S*)[^\r\n]*(?:\r?\n[ \t][^\r\n]*)*", re.I | re.M)

_SECRETS = (
    re.compile(rb"(?<=\bresponse=\")[^\"\r\n]*", re.I),  # a digest answer can be attacked offline
    re.compile(rb"(?<=\bresponse=)[0-9a-f]+", re.I),
    re.compile(rb"(?<=\bBasic )[A-Za-z0-9+/=]+"),
    re.compile(rb"(?<=\bBearer )[^\r\n]+"),
    re.compile(rb"(?<=inline:)[^\r\n|]+"),  # RFC 4568: the SRTP master key
    re.compile(rb"(?<=a=ice-pwd:)[^\r\n]+"),
)
_PASSWORD_IN_URI = re.compile(rb"(sips?:[^\s:@<>\"]*:)([^\s@<>\"]+)(?=@)", re.I)


def sip_call_id_of(data: bytes) -> str:
    """The Call-ID of a raw message, found without parsing it; "" where there is none."""
    found = _CALL_ID.search(data)
    return "" if found is None else found[1].strip().decode("utf-8", "backslashreplace")


def without_credentials(data: bytes) -> bytes:
    """``data`` with the values of Authorization and Proxy-Authorization cut out: what a log may show.

    A digest answer can be attacked offline, so it is as secret as the password it was made from.
    """
    return _CREDENTIALS.sub(rb"\1 (cut)", data)


def redacted(data: bytes) -> bytes:
    """``data`` with what is secret in it crossed out, character by character: lengths stay those of the wire.

    Who, which realm and which nonce stay: that is what one looks for when a password is refused.
    """
    for secret in _SECRETS:
        data = secret.sub(_crossed_out, data)
    return _PASSWORD_IN_URI.sub(lambda found: found[1] + b"x" * len(found[2]), data)


def _crossed_out(found: re.Match[bytes]) -> bytes:
    return b"x" * len(found[0])
