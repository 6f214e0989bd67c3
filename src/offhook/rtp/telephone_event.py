"""Digits as RTP packets (RFC 4733): what a key press looks like on the wire, received and sent.

A key press is one event: packets that carry the same RTP timestamp and a growing duration, the last one
three times over with the E bit.
"""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass

from offhook.rtp.packet import timestamp_distance

DIGITS = "0123456789*#ABCD"
"""RFC 4733 §3.2, table 3: event codes 0 to 15."""

PAYLOAD = struct.Struct("!BBH")
"""Event, E bit + R bit + volume, duration in timestamp units (§2.3)."""

END = 0x80
VOLUME = 10
"""-10 dBm0, in the middle of what §2.3.4 allows."""

END_PACKETS = 3
"""§2.5.1.4: the final packet is sent three times in all."""

LOST_END_S = 0.3
"""No packet of an event for this long: its end was lost. Senders update every 20 to 50 ms (§2.5.1.2)."""

LONGEST_SEGMENT = 0xFFFF
"""§2.5.1.3: a longer event goes on in a new segment whose timestamp is where the last one ended."""

DEFAULT_DURATION_MS = 160
LEAST_DURATION_MS = 40  # §2.5.2.2: ITU-T Q.24 receivers take nothing shorter for a digit
MOST_DURATION_MS = 6000
DIGIT_GAP_MS = 80
"""Between two digits; Q.24 asks for 40 at least, slow decoders behind gateways want more."""

MAX_QUEUED_DIGITS = 128


@dataclass(frozen=True, kw_only=True, slots=True)
class DigitPressed:
    digit: str
    duration_ms: int


class DtmfReceiver:
    """Turns event packets into one ``DigitPressed`` each, whatever is lost, doubled or late.

    A digit is told at its first end packet; when all of those are lost, at the next event or after
    ``LOST_END_S``. ``clock_hz`` is the payload type's rate, which need not be the audio's.
    """

    def __init__(self, *, clock_hz: int = 8000) -> None:
        self._clock_hz = clock_hz
        self._event: int | None = None  # code of the event going on
        self._timestamp = 0
        self._duration = 0
        self._before = 0  # duration of the segments that are complete
        self._last_packet_at = 0.0
        self._told: int | None = None  # timestamp of the last event that was told

    @property
    def pending(self) -> bool:
        """An event goes on: ``expire`` must be asked."""
        return self._event is not None

    def receive(self, timestamp: int, payload: bytes, now: float) -> list[DigitPressed]:
        """The digits this packet completes: none, or one; two where it ends one and is all there is of another."""
        if len(payload) < PAYLOAD.size:
            return []
        event, flags, duration = PAYLOAD.unpack_from(payload)
        if event >= len(DIGITS) or self._is_past(timestamp):
            return []
        pressed: list[DigitPressed] = []
        if self._event is None:
            self._begin(event, timestamp)
        elif timestamp != self._timestamp:
            if self._continues(event, timestamp):
                self._before += LONGEST_SEGMENT
                self._timestamp, self._duration = timestamp, 0
            else:
                pressed.append(self._tell())
                self._begin(event, timestamp)
        self._last_packet_at = now
        self._duration = max(self._duration, duration)
        if flags & END:
            pressed.append(self._tell())
        return pressed

    def expire(self, now: float) -> list[DigitPressed]:
        """The digit whose end never came, once it is overdue."""
        if self._event is None or now - self._last_packet_at < LOST_END_S:
            return []
        return [self._tell()]

    def _is_past(self, timestamp: int) -> bool:
        """A straggler: of the event told last or one before it, or from before the one going on."""
        if self._event is not None and timestamp_distance(timestamp, self._timestamp) < 0:
            return True
        return self._told is not None and -_MEMORY <= timestamp_distance(timestamp, self._told) <= 0

    def _continues(self, event: int, timestamp: int) -> bool:
        """§2.5.1.3: the next segment of a long event begins where the longest duration ended."""
        return event == self._event and timestamp_distance(timestamp, self._timestamp) == LONGEST_SEGMENT

    def _begin(self, event: int, timestamp: int) -> None:
        self._event, self._timestamp = event, timestamp
        self._duration = self._before = 0

    def _tell(self) -> DigitPressed:
        assert self._event is not None
        pressed = DigitPressed(
            digit=DIGITS[self._event],
            duration_ms=(self._before + self._duration) * 1000 // self._clock_hz,
        )
        self._event, self._told = None, self._timestamp
        return pressed


_MEMORY = 10 * 8000
"""Timestamps up to ten seconds before the last digit are stragglers; further back the sender has restarted."""


class DtmfSender:
    """Digits as packets, one a tick: ``next_payload`` takes the place of the audio while a digit is sounding.

    The RTP timestamp of an event is the one its first tick would have had; audio after it goes on where
    the ticks are, so the timeline has no gap. Durations are in timestamp units.
    """

    def __init__(self, *, frame_samples: int = 160, clock_hz: int = 8000) -> None:
        self._frame = frame_samples
        self._per_ms = clock_hz // 1000
        self._queue: deque[tuple[int, int]] = deque()  # event, duration
        self._event = 0
        self._total = 0
        self._elapsed = 0
        self._ends_left = 0
        self._gap_left = 0
        self.timestamp = 0
        """Of the event that is sounding."""
        self.marker = False
        """The payload just given begins an event (§2.5.1.1)."""

    @property
    def idle(self) -> bool:
        return not self._queue and not self._ends_left and self._gap_left <= 0

    def queue(self, digits: str, duration_ms: int = DEFAULT_DURATION_MS) -> None:
        """Append digits of ``duration_ms`` each (40 ms to 6 s). Raises ``ValueError`` for a non-digit or too many."""
        events = [DIGITS.index(digit) for digit in digits.upper()]
        if len(self._queue) + len(events) > MAX_QUEUED_DIGITS:
            raise ValueError(f"more than {MAX_QUEUED_DIGITS} digits wait to be sent")
        duration = min(max(duration_ms, LEAST_DURATION_MS), MOST_DURATION_MS) * self._per_ms
        whole_frames = -(-duration // self._frame) * self._frame
        self._queue.extend((event, whole_frames) for event in events)

    def next_payload(self, timestamp: int) -> bytes | None:
        """The event payload of the tick whose audio would carry ``timestamp``; None: send audio."""
        self.marker = False
        if not self._ends_left:
            if self._gap_left > 0:
                self._gap_left -= self._frame
                return None
            if not self._queue:
                return None
            self._begin(timestamp)
        self._elapsed = min(self._elapsed + self._frame, self._total)
        ending = self._elapsed == self._total
        if ending:
            self._ends_left -= 1
            self._gap_left = 0 if self._ends_left else DIGIT_GAP_MS * self._per_ms
        return PAYLOAD.pack(self._event, VOLUME | (END if ending else 0), self._elapsed)

    def _begin(self, timestamp: int) -> None:
        self._event, self._total = self._queue.popleft()
        self._elapsed = 0
        self._ends_left = END_PACKETS
        self.timestamp = timestamp
        self.marker = True
