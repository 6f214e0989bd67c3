"""Keys as a call sees them: one stream out of three sources, and which of three ways they leave by.

A leg's remote party presses keys by RTP events (RFC 4733), by SIP INFO, or by tones in its audio; some do two of
these at once. INFO bodies follow no RFC: ``application/dtmf-relay`` is Cisco's ("Signal=5", "Duration=160" in ms),
``application/dtmf`` holds the bare key. Everything here is pure: times are arguments, monotonic seconds.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from typing import Literal, NamedTuple, assert_never

from offhook.model.trunks import DtmfMethod
from offhook.rtp.telephone_event import (
    DEFAULT_DURATION_MS,
    DIGIT_GAP_MS,
    DIGITS,
    LEAST_DURATION_MS,
    MAX_QUEUED_DIGITS,
    MOST_DURATION_MS,
    DigitPressed,
)

DigitSource = Literal["rfc4733", "info", "inband"]
DigitWay = DigitSource
"""How digits of ours leave."""

RELAY_TYPE = "application/dtmf-relay"
PLAIN_TYPE = "application/dtmf"
INFO_TYPES = frozenset({RELAY_TYPE, PLAIN_TYPE, "application/vnd.nortelnetworks.digits"})
"""Content types of an INFO that carries a key."""

MAX_INFO_BYTES = 512
"""A key and a duration take 30 bytes; what lies behind is not read."""

SAME_PRESS_S = 2.0
"""Two sources tell of one press within this time: an INFO that was lost twice comes 1.5 s late (RFC 3261, T1)."""

REMEMBERED_PRESSES = 64
"""More than anyone presses within ``SAME_PRESS_S``; a flood forgets its own beginning."""

_FIELD = re.compile(
    r"^[ \t]*(signal|d|duration)[ \t]*[=:][ \t]*\"?([^\s\"]{1,16})\"?[ \t]*$", re.IGNORECASE | re.MULTILINE
)
_BARE = re.compile(r"\s*\"?([^\s\"]{1,16})\"?\s*")
_SPELLED = {"STAR": "*", "POUND": "#", "HASH": "#"}


# ── the body of an INFO ──────────────────────────────────────────────────────────────────────────────────


def is_digits(content_type: str) -> bool:
    """Whether an INFO of this type is for ``parse_info``."""
    return content_type.partition(";")[0].strip().lower() in INFO_TYPES


def parse_info(body: bytes) -> DigitPressed | None:
    """The key in the body of any of ``INFO_TYPES``; None where there is none, or a hook flash.

    Taken as phones write it: any line ends, spaces, quotes, order and case; keys as numbers (10 is ``*``, 11 is
    ``#``); without a duration it is ``DEFAULT_DURATION_MS``.
    """
    text = body[:MAX_INFO_BYTES].decode("ascii", "replace").replace("\r", "\n")
    fields = {name.lower(): value for name, value in reversed(_FIELD.findall(text))}
    signal = fields.get("signal") or fields.get("d") or _bare(text)
    digit = _digit(signal)
    return DigitPressed(digit=digit, duration_ms=_duration_ms(fields.get("duration", ""))) if digit else None


def write_info(digit: str, duration_ms: int, *, content_type: str = RELAY_TYPE) -> bytes:
    """The body for one key."""
    if content_type == PLAIN_TYPE:
        return digit.encode("ascii")
    return f"Signal={digit}\r\nDuration={duration_ms}\r\n".encode("ascii")


def _bare(text: str) -> str:
    """The only word of the body."""
    found = _BARE.fullmatch(text)
    return found[1] if found else ""


def _digit(signal: str) -> str | None:
    signal = signal.upper()
    if len(signal) == 1:
        return signal if signal in DIGITS else None
    if len(signal) == 2 and signal.isascii() and signal.isdigit():
        return DIGITS[int(signal)] if int(signal) < len(DIGITS) else None
    return _SPELLED.get(signal)


def _duration_ms(text: str) -> int:
    duration_ms = int(text) if text.isascii() and text.isdigit() else 0
    return min(duration_ms, MOST_DURATION_MS) or DEFAULT_DURATION_MS


# ── one stream out of three sources ──────────────────────────────────────────────────────────────────────


@dataclass(slots=True, eq=False)
class _Press:
    digit: str
    began: float
    ended: float
    sources: set[DigitSource]

    def is_also(self, digit: str, source: DigitSource, began: float, ended: float) -> bool:
        """Another source's account of the same press: the two overlap, or nearly so."""
        apart = max(began - self.ended, self.began - ended)
        return digit == self.digit and source not in self.sources and apart <= SAME_PRESS_S


class DigitGate:
    """What one leg's sources tell, each press once. A source tells no press twice itself.

    A press may be told by each source; who tells it first is believed, the others are matched with it, oldest
    first. Two presses told by one source are always two. Tones are not listened to any more once the remote party
    has sent a key by signalling: what it has in its audio as well says nothing new.
    """

    def __init__(self) -> None:
        self._presses: deque[_Press] = deque(maxlen=REMEMBERED_PRESSES)
        self._signals = False
        self.dropped = 0

    def admit(self, digit: str, source: DigitSource, *, at: float, duration_ms: int) -> bool:
        """Whether this is a new press. ``at``: when it was told, which is at its end or later."""
        began = at - duration_ms / 1000
        known = next((press for press in self._presses if press.is_also(digit, source, began, at)), None)
        if known is not None:
            known.sources.add(source)
            known.began, known.ended = min(known.began, began), max(known.ended, at)
        ignored = known is not None or (source == "inband" and self._signals)
        self._signals |= source != "inband"
        self.dropped += ignored
        if not ignored:
            self._presses.append(_Press(digit=digit, began=began, ended=at, sources={source}))
        return not ignored


# ── the way out ──────────────────────────────────────────────────────────────────────────────────────────


def choose_way(method: DtmfMethod, *, dtmf_payload_type: int | None, allows_info: bool | None) -> DigitWay | None:
    """How digits are sent to a peer; None: it takes no events and we may send nothing else.

    ``dtmf_payload_type`` is the agreement's. ``allows_info``: whether the peer's Allow names INFO (RFC 3261 §20.5);
    None where it sent none: then tones are surer than an INFO that may be answered and ignored.
    """
    match method:
        case "auto":
            if dtmf_payload_type is not None:
                return "rfc4733"
            return "info" if allows_info else "inband"
        case "rfc4733":
            return "rfc4733" if dtmf_payload_type is not None else None
        case "info" | "inband":
            return method
        case _:
            assert_never(method)


class InfoRequest(NamedTuple):
    """An INFO to be sent now."""

    content_type: str
    body: bytes


_UNSUPPORTED_MEDIA_TYPE = 415
_PEER_IS_GONE = frozenset({408, 481})
"""RFC 3261 §12.2.1.2: they end the dialog; there is nobody left to send digits to."""


class InfoDialler:
    """Digits by INFO: one at a time, the next when the last was answered and has had its time.

    Ask ``next_request`` after each call and at ``get_timer``; tell ``answered`` each final status.
    """

    def __init__(self) -> None:
        self._queue: deque[DigitPressed] = deque()
        self._content_type = RELAY_TYPE
        self._in_flight: DigitPressed | None = None
        self._free_at = 0.0
        self.refused = False
        """The peer takes no digits by INFO, whatever its Allow says."""

    @property
    def idle(self) -> bool:
        return not self._queue and self._in_flight is None

    def queue(self, digits: str, duration_ms: int = DEFAULT_DURATION_MS) -> None:
        """Append digits. Raises ``ValueError`` for a non-digit or too many."""
        keys = [DIGITS[DIGITS.index(digit)] for digit in digits.upper()]
        if len(self._queue) + len(keys) > MAX_QUEUED_DIGITS:
            raise ValueError(f"more than {MAX_QUEUED_DIGITS} digits wait to be sent")
        bounded_ms = min(max(duration_ms, LEAST_DURATION_MS), MOST_DURATION_MS)
        self._queue.extend(DigitPressed(digit=key, duration_ms=bounded_ms) for key in keys)

    def get_timer(self) -> float | None:
        """When ``next_request`` has something; None: only an answer changes anything."""
        return self._free_at if self._queue and self._in_flight is None else None

    def next_request(self, now: float) -> InfoRequest | None:
        """The INFO to be sent now, if any; it is in flight from here on."""
        if self._in_flight is not None or not self._queue or now < self._free_at:
            return None
        key = self._in_flight = self._queue.popleft()
        self._free_at = now + (key.duration_ms + DIGIT_GAP_MS) / 1000
        body = write_info(key.digit, key.duration_ms, content_type=self._content_type)
        return InfoRequest(self._content_type, body)

    def answered(self, status: int | None) -> str:
        """The final status of the INFO in flight, None where it could not be sent. The digits to go by another way.

        A peer that does not know ``application/dtmf-relay`` gets ``application/dtmf``; one that refuses that as
        well, or INFO altogether, takes nothing more by it.
        """
        key, self._in_flight = self._in_flight, None
        if key is None or (status is not None and status < 300):
            return ""
        if status == _UNSUPPORTED_MEDIA_TYPE and self._content_type == RELAY_TYPE:
            self._content_type = PLAIN_TYPE
            self._queue.appendleft(key)
            self._free_at = 0.0
            return ""
        left = "".join(each.digit for each in (key, *self._queue))
        self._queue.clear()
        self.refused = status not in _PEER_IS_GONE
        return left if self.refused else ""
