"""Digits as RTP packets (RFC 4733): what a key press looks like on the wire, received and sent.

A key press is one event: packets that carry the same RTP timestamp and a growing duration, the last one
three times over with the E bit.
"""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

from offhook.rtp.packet import sequence_distance, timestamp_distance

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

ONE_PRESS_MS = 60
"""Timestamps of one key that lie no further apart are of one press: some senders count on within it, by 20 or 50 ms.
Presses begin at least 80 ms apart (ITU-T Q.24: 40 ms of tone, 40 ms of pause)."""

STRAGGLING_S = 1.0
"""How long packets may straggle behind. What comes later is new, whatever its numbers say: 16 bits of sequence number
tell old from new for eleven minutes, and players of recordings begin again at the same ones."""

REMEMBERED_PRESSES = 4
"""Stragglers come from the last press or the one before; a second is not enough for more than that."""

DEFAULT_DURATION_MS = 160
LEAST_DURATION_MS = 40  # §2.5.2.2: ITU-T Q.24 receivers take nothing shorter for a digit
MOST_DURATION_MS = 6000
DIGIT_GAP_MS = 80
"""Between two digits; Q.24 asks for 40 at least, slow decoders behind gateways want more."""

MAX_QUEUED_DIGITS = 128
_TICKS_PER_S = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class DigitPressed:
    digit: str
    duration_ms: int


class _Update(NamedTuple):
    """One event packet."""

    event: int
    sequence: int
    timestamp: int
    duration: int
    end: bool
    at: float


@dataclass(slots=True, eq=False)
class _Press:
    """What arrived of one event so far. ``segment`` is the timestamp that ``duration`` counts from."""

    event: int
    start: int
    segment: int
    latest: int  # timestamp, for senders that count on
    anchor: int  # timestamp less duration of the first packet: the same in each packet of such senders
    first_sequence: int
    newest: _Update  # by sequence number
    began_at: float
    last_at: float
    before: int = 0  # duration of the segments that are complete
    duration: int = 0
    ended: bool = False
    told: bool = False

    def owns(self, update: _Update, one_press: int) -> bool:
        """Whether a packet belongs to this press; ``one_press``: ``ONE_PRESS_MS`` in timestamp units."""
        if update.event != self.event or self._is_followed_by(update):
            return False
        if update.timestamp in (self.segment, (self.segment + LONGEST_SEGMENT) & 0xFFFFFFFF):
            return True
        if (update.timestamp - update.duration) & 0xFFFFFFFF == self.anchor:
            return True
        ahead = timestamp_distance(update.timestamp, self.latest)
        if ahead > 0:
            return ahead <= one_press and (update.end or not self.ended)
        return ahead >= -one_press or timestamp_distance(update.timestamp, self.start) >= 0

    def _is_followed_by(self, update: _Update) -> bool:
        """After the end a smaller duration begins another press, by senders whose clock stands still meanwhile.

        So does whatever comes long after it.
        """
        newer = sequence_distance(update.sequence, self.newest.sequence) > 0
        restarts = newer and update.duration < self.newest.duration
        return self.ended and (restarts or update.at - self.last_at > STRAGGLING_S)

    def take(self, update: _Update) -> None:
        self.last_at = update.at
        if sequence_distance(update.sequence, self.first_sequence) < 0:
            self.first_sequence = update.sequence
        if sequence_distance(update.sequence, self.newest.sequence) > 0:
            self.newest = update
        if timestamp_distance(update.timestamp, self.latest) > 0:
            self.latest = update.timestamp
        ahead = timestamp_distance(update.timestamp, self.segment)
        if ahead == LONGEST_SEGMENT:
            self.before += LONGEST_SEGMENT
            self.segment, self.duration = update.timestamp, 0
        if ahead >= 0:
            self.duration = max(self.duration, update.duration)

    def go_on_as(self, update: _Update) -> None:
        """The same press under new numbers."""
        self.first_sequence, self.newest = update.sequence, update
        self.start = self.segment = self.latest = update.timestamp


def _begin(update: _Update) -> _Press:
    return _Press(
        event=update.event,
        start=update.timestamp,
        segment=update.timestamp,
        latest=update.timestamp,
        anchor=(update.timestamp - update.duration) & 0xFFFFFFFF,
        first_sequence=update.sequence,
        newest=update,
        began_at=update.at,
        last_at=update.at,
        duration=update.duration,
    )


class DtmfReceiver:
    """Turns event packets into one ``DigitPressed`` each, whatever is lost, doubled or late.

    A digit is told at its first end packet; when all of those are lost, at the next event or after
    ``LOST_END_S``. ``clock_hz`` is the payload type's rate, which need not be the audio's; it may change.
    """

    def __init__(self, *, clock_hz: int = 8000) -> None:
        self.clock_hz = clock_hz
        self._press: _Press | None = None  # the newest
        self._past: deque[_Press] = deque(maxlen=REMEMBERED_PRESSES)
        self._adrift = False  # the numbering began anew since the last packet

    @property
    def pending(self) -> bool:
        """An event goes on: ``expire`` must be asked."""
        return self._press is not None and not self._press.told

    def receive(self, sequence: int, timestamp: int, payload: bytes, now: float) -> list[DigitPressed]:
        """The digits this packet completes: none, or one; two where it ends one and is all there is of another.

        ``sequence`` and ``timestamp`` are the packet's, which must be no duplicate (``Reception`` has judged it).
        """
        if len(payload) < PAYLOAD.size:
            return []
        event, flags, duration = PAYLOAD.unpack_from(payload)
        if event >= len(DIGITS):
            return []
        update = _Update(event, sequence, timestamp, duration, bool(flags & END), now)
        press = self._press
        pressed: list[DigitPressed] = []
        if press is None:
            press = self._press = _begin(update)
        elif self._goes_on(press, update):
            press.take(update)
        elif self._is_old(press, update):
            return self._overtaken(press, update)
        else:
            pressed = self._tell(press)
            self._past.append(press)
            press = self._press = _begin(update)
        self._adrift = False
        if update.end:
            press.ended = True
            pressed += self._tell(press)
        return pressed

    def expire(self, now: float) -> list[DigitPressed]:
        """The digit whose end never came, once it is overdue."""
        if self._press is None or now - self._press.last_at < LOST_END_S:
            return []
        return self._tell(self._press)

    def restart(self) -> None:
        """The sender began anew (SSRC, jump of the numbering): its numbers say nothing about those before.

        A key held meanwhile stays one press.
        """
        self._adrift = True
        self._past.clear()

    def _goes_on(self, press: _Press, update: _Update) -> bool:
        if not self._adrift:
            return press.owns(update, self.clock_hz * ONE_PRESS_MS // 1000)
        if update.event != press.event:
            return False
        held = not press.told and update.duration > press.duration and update.at - press.last_at < LOST_END_S
        if not held and (update.timestamp != press.segment or update.at - press.last_at > STRAGGLING_S):
            return False
        press.go_on_as(update)
        return True

    def _is_old(self, press: _Press, update: _Update) -> bool:
        if self._adrift or update.at - press.last_at > STRAGGLING_S:
            return False
        return sequence_distance(update.sequence, press.first_sequence) < 0

    def _overtaken(self, press: _Press, update: _Update) -> list[DigitPressed]:
        """A packet from before ``press``: a straggler, unless it is the first of a digit whose turn has not passed."""
        one_press = self.clock_hz * ONE_PRESS_MS // 1000
        if press.told or any(past.owns(update, one_press) for past in self._past):
            return []
        if self._past and sequence_distance(update.sequence, self._past[-1].first_sequence) < 0:
            return []
        late = _begin(update)
        self._past.append(late)
        return self._tell(late)

    def _tell(self, press: _Press) -> list[DigitPressed]:
        """Once for each press."""
        if press.told:
            return []
        press.told = True
        units = press.before + press.duration
        # Some senders leave the duration at 0: then it is as long as packets came.
        duration_ms = units * 1000 // self.clock_hz if units else round((press.last_at - press.began_at) * 1000)
        return [DigitPressed(digit=DIGITS[press.event], duration_ms=duration_ms)]


class DtmfSender:
    """Digits as packets, one a tick of 20 ms: ``next_payload`` takes the place of the audio while a digit is sounding.

    The RTP timestamp of an event is the one its first tick would have had; audio after it goes on where
    the ticks are, so the timeline has no gap. Durations are in units of ``clock_hz``.
    """

    def __init__(self, *, clock_hz: int = 8000) -> None:
        self._queue: deque[tuple[int, int]] = deque()  # event, ticks
        self._event = 0
        self._ticks = 0
        self._elapsed = 0  # ticks
        self._ends_left = 0
        self._gap_left = 0  # ticks
        self._frame = clock_hz // _TICKS_PER_S
        self._start = 0
        self.timestamp = 0
        """Of the event that is sounding, or its segment (§2.5.1.3)."""
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
        bounded_ms = min(max(duration_ms, LEAST_DURATION_MS), MOST_DURATION_MS)
        ticks = -(-bounded_ms * _TICKS_PER_S // 1000)
        self._queue.extend((event, ticks) for event in events)

    def retune(self, clock_hz: int) -> None:
        """Another clock from now on; a digit that is sounding ends here, its receiver finds that by itself."""
        frame = clock_hz // _TICKS_PER_S
        if frame != self._frame:
            self._frame = frame
            self._ends_left = 0

    def clear(self) -> None:
        """The remote side takes no events any more: forget what waits and what sounds."""
        self._queue.clear()
        self._ends_left = self._gap_left = 0

    def next_payload(self, timestamp: int) -> bytes | None:
        """The event payload of the tick whose audio would carry ``timestamp``; None: send audio."""
        self.marker = False
        if not self._ends_left:
            if self._gap_left > 0:
                self._gap_left -= 1
                return None
            if not self._queue:
                return None
            self._begin(timestamp)
        self._elapsed = min(self._elapsed + 1, self._ticks)
        ending = self._elapsed == self._ticks
        if ending:
            self._ends_left -= 1
            self._gap_left = 0 if self._ends_left else DIGIT_GAP_MS * _TICKS_PER_S // 1000
        elapsed = self._elapsed * self._frame
        segments = (elapsed - 1) // LONGEST_SEGMENT
        self.timestamp = (self._start + segments * LONGEST_SEGMENT) & 0xFFFFFFFF
        return PAYLOAD.pack(self._event, VOLUME | (END if ending else 0), elapsed - segments * LONGEST_SEGMENT)

    def _begin(self, timestamp: int) -> None:
        self._event, self._ticks = self._queue.popleft()
        self._elapsed = 0
        self._ends_left = END_PACKETS
        self._start = timestamp
        self.marker = True
