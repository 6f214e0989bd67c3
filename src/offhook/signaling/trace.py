"""What went over the wire: one record a message, for a log, a pcap or a HEP collector."""

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

_CREDENTIALS = re.compile(rb"^((?:Proxy-)?Authorization\s*:\s*\S*)[^\r\n]*(?:\r?\n[ \t][^\r\n]*)*", re.I | re.M)


def without_credentials(data: bytes) -> bytes:
    """``data`` with the values of Authorization and Proxy-Authorization cut out: what a log may show.

    A digest answer can be attacked offline, so it is as secret as the password it was made from.
    """
    return _CREDENTIALS.sub(rb"\1 (cut)", data)
