"""What went over the wire: one record a message, for a log, a ladder or a pcap; and what of it is nobody's business."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
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

_BLANK = rb"(?:[ \t]|\r?\n[ \t])*+"
_REST = rb"[^\r\n]*+(?:\r?\n[ \t][^\r\n]*+)*+"
"""Of a header that may be folded (RFC 3261 §7.3.1)."""

_CALL_ID = re.compile(rb"\n(?:call-id|i)[ \t]*:" + _BLANK + rb"([^\r\n]*)", re.I)

_SECRETS = (
    # A digest answer can be attacked offline: it is as secret as the password it was made from (RFC 7616 §5.8).
    (b"authorization", re.compile(rb"\bresponse" + _BLANK + b"=" + _BLANK + rb'(?:"([^"\r\n]*+)|([^\s,"]++))')),
    (b"rspauth", re.compile(rb"\brspauth" + _BLANK + b"=" + _BLANK + rb'(?:"([^"\r\n]*+)|([^\s,"]++))')),
    # Of other schemes everything: Basic is the password itself, Bearer a key.
    (b"authorization", re.compile(rb"\n(?:proxy-)?authorization[ \t]*+:[ \t]*+(?!digest\b)[^\s]*+(" + _REST + b")")),
    (b"authorization=", re.compile(rb"[?&](?:proxy-)?authorization=([^&>\s\"]*+)")),  # in a URI (RFC 3261 §19.1.1)
    (b"inline:", re.compile(rb"inline:([^\s|;]*+)")),  # RFC 4568 §6.1: the SRTP master key
    (b"a=ice-pwd:", re.compile(rb"a=ice-pwd:([^\r\n]*+)")),
    (b"a=key-mgmt:", re.compile(rb"a=key-mgmt:[^\s]*+([^\r\n]*+)")),  # RFC 4567
    (b"\nk=", re.compile(rb"\nk=[a-z0-9]++:([^\r\n]*+)")),  # RFC 4566 §5.12
)
"""(what must be in the message, where the secret is), both of the message in lower case.

Nothing here goes back over what it has read: a message of 64 KB that is made to be slow holds every call up.
"""

_USERINFO = re.compile(rb"sips?:([^\s@<>\"]*+)@?")

_CROSSED_OUT = bytes(octet if octet in b"\r\n\t " else ord("x") for octet in range(256))
"""Line ends stay: the message keeps its headers and its Content-Length."""


def sip_call_id_of(data: bytes) -> str:
    """The Call-ID of a raw message as the parser would give it, found without parsing; "" where there is none."""
    found = _CALL_ID.search(data)
    return "" if found is None else found[1].strip(b" \t").decode("utf-8", "surrogateescape")


def redacted(data: bytes) -> bytes:
    """``data`` with what is secret in it crossed out, character by character: lengths stay those of the wire.

    Who, which realm and which nonce stay: that is what one looks for when a password is refused.
    """
    spans = [span for span in _secrets(data.lower()) if span[0] < span[1]]
    if not spans:
        return data
    shown = bytearray(data)
    for start, end in spans:
        shown[start:end] = shown[start:end].translate(_CROSSED_OUT)
    return bytes(shown)


def _secrets(lowered: bytes) -> Iterator[tuple[int, int]]:
    for keyword, pattern in _SECRETS:
        if keyword in lowered:
            for found in pattern.finditer(lowered):
                yield found.span(found.lastindex or 0)
    for found in _USERINFO.finditer(lowered):
        colon = lowered.find(b":", found.start(1), found.end(1))
        if colon >= 0 and found.end() > found.end(1):  # sip:user:password@host
            yield colon + 1, found.end(1)
