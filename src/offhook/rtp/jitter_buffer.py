"""The jitter buffer: packets in as they come, one 20 ms frame out per tick.

Everything is measured in samples on one axis: a packet's *transit* is its arrival minus its timestamp, the
buffer's *lag* is the tick minus the timestamp it plays. Lag above the least transit is the playout delay.
The buffer keeps the lag near ``ideal`` = least transit + target delay, by leaving out or inserting
a frame, in silence where it can.

Pieces of audio lie in a dict under their timestamp, cut to at most one frame, so any packet time is
played in frames of 20 ms, and memory is bounded by ``MAX_PIECES``.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Generic, Protocol, Self, TypeVar

from offhook.rtp.packet import timestamp_distance
from offhook.rtp.transit import TransitWindow

LEAST_DELAY_MS = 40
"""Two frames: what a quiet network and a 20 ms tick need, and where every stream starts."""

MOST_DELAY_MS = 300
"""Beyond it a conversation breaks down; the packets that come later still are concealed."""

MARGIN_MS = 5
"""Above the measured peak: the next peak may be a little higher."""

RUNNING_MS = 400
"""A stream without packets for this long has paused: what follows is silence, not concealment."""

MAX_PIECES = 192
"""Nearly two seconds of 10 ms packets. No honest stream fills it."""

MAX_PAYLOAD_MS = 200
"""RFC 3551 §4.2 asks receivers for 200 ms; a longer packet is dropped."""

MOST_AHEAD_S = 1.0
MOST_BEHIND_S = 2.0
"""A timestamp this far from where it should be is a break of the timeline: believed at the second packet."""

CONFIRM_S = 1.0
"""Within this time that second packet has to come."""

_JITTER_WEIGHT = 2
"""The delay is at least this often the RFC 3550 jitter, which rises before the peaks have been seen."""

_SPACING_TICKS = ((200, 2), (60, 5), (0, 10))
"""Excess delay in ms above which a sounding frame may be left out every so many ticks."""

_INSERT_SPACING_TICKS = 3

_LEAVE_OUT_FROM_MS = 20
_INSERT_BELOW_MS = -15
"""How far the delay may stray from its target; playing starts within ±10 ms, so noise changes nothing.
A packet that came too late takes the lower bound to 0 until the delay has changed."""


class Gap(Enum):
    """What a tick gets when there is no frame to play."""

    LOST = "lost"  # conceal: this part of the stream is missing, what follows it is here
    STALLED = "stalled"  # fade out: nothing more is here, the network or the sender pauses
    SILENT = "silent"  # nothing has come for ``RUNNING_MS``, or nothing was sent


class Stretch(Protocol):
    """Some coded audio: as long as it takes in timestamp units, to be cut and joined.

    Plain bytes are one where a byte takes one unit: G.711, and G.722 as well.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Self: ...

    def __add__(self, following: Self, /) -> Self: ...


Piece = TypeVar("Piece", bound=Stretch)


class JitterBuffer(Generic[Piece]):
    """One inbound audio stream. ``quiet`` says whether a frame may be left out or repeated unheard.

    ``frame_samples`` is a frame's length in timestamp units. Times are monotonic seconds.
    """

    def __init__(self, *, quiet: Callable[[Piece], bool], frame_samples: int = 160, clock_hz: int = 8000) -> None:
        self._quiet = quiet
        self._frame = frame_samples
        self._half = frame_samples // 2
        self._clock_hz = clock_hz
        self._per_ms = clock_hz // 1000
        self._most_excess = _LEAVE_OUT_FROM_MS * self._per_ms
        self._ahead, self._behind = -MOST_AHEAD_S * clock_hz, MOST_BEHIND_S * clock_hz
        self._most_payload = MAX_PAYLOAD_MS * self._per_ms
        self._running_ticks = RUNNING_MS * self._per_ms // frame_samples
        self.late = 0
        self.overflows = 0
        self.breaks = 0
        self.left_out = 0
        self.inserted = 0
        self.spliced: Piece | None = None
        """The frame left out before the one just returned, for a cross-fade; None on every other tick."""
        self.following: Piece | None = None
        """After ``Gap.LOST``: what comes right after the missing frame, where that is here; it may repair it."""
        self._end = 0  # where the newest packet ends, unwrapped
        self._expected = 0  # the same as a timestamp on the wire
        self._suspect: tuple[float, float] | None = None  # transit, arrival
        self._forget()

    def _forget(self) -> None:
        self._pieces: dict[int, Piece] = {}
        self._onsets: set[int] = set()  # timestamps before which nothing was sent
        self._transit = TransitWindow()
        self._ideal = 0.0
        self._cursor: int | None = None  # the timestamp to play next; None while filling
        self._absent_ticks = self._running_ticks  # without audio, up to now
        self._waited_ticks = 0  # of them, those in which the cursor stood still
        self._next_sequence = -1
        self._note_change()

    def reset(self) -> None:
        """Forget the stream: another one begins (new SSRC, jump of the numbering, new codec)."""
        absent_ticks = self._absent_ticks
        self._forget()
        self._absent_ticks = absent_ticks

    # ── measures ─────────────────────────────────────────────────────────────────────────────────────────

    @property
    def jitter(self) -> float:
        """Interarrival jitter in timestamp units (RFC 3550 §6.4.1)."""
        return self._transit.jitter

    @property
    def jitter_ms(self) -> float:
        return self._transit.jitter / self._per_ms

    @property
    def target_delay_ms(self) -> float:
        return 0.0 if self._transit.empty else (self._ideal - self._transit.floor) / self._per_ms

    def delay_ms(self, now: float) -> float:
        """How long the fastest packet of the frame played at the tick ``now`` waited here; 0 while nothing plays."""
        if self._cursor is None:
            return 0.0
        return (now * self._clock_hz - (self._cursor - self._frame) - self._transit.floor) / self._per_ms

    @property
    def held_pieces(self) -> int:
        return len(self._pieces)

    # ── in ───────────────────────────────────────────────────────────────────────────────────────────────

    def push(self, sequence: int, timestamp: int, marker: bool, payload: Piece, arrival_s: float) -> None:
        """Take one packet that is not a duplicate (``Reception`` has judged it)."""
        extended = self._end
        if timestamp != self._expected:
            extended += timestamp_distance(timestamp, self._expected)
        transit = arrival_s * self._clock_hz - extended
        if not self._ahead <= transit - self._transit.floor <= self._behind:
            if not self._believes(transit, arrival_s):
                return
            self._end, self._expected = extended, timestamp
        count = len(payload)
        if not 0 < count <= self._most_payload:
            return
        cursor, window = self._cursor, self._transit
        if window.add_early(transit, arrival_s) if cursor is None else window.add(transit, arrival_s):
            self._aim()
        if extended >= self._end:
            # A pause of the sender shows as a marker (RFC 3551 §4.1) or as time that took no packets.
            if extended > self._end and (marker or sequence == self._next_sequence):
                self._onsets.add(extended)
            self._end, self._expected = extended + count, (timestamp + count) & 0xFFFFFFFF
            self._next_sequence = (sequence + 1) & 0xFFFF
        if cursor is None or extended < cursor or count > self._frame or len(self._pieces) >= MAX_PIECES:
            self._store(extended, payload)
        else:
            self._pieces[extended] = payload

    def interlude(self, sequence: int) -> None:
        """A packet of the stream without audio: comfort noise (RFC 3389) or an event (RFC 4733).

        What is missing before the next audio was never sent, then, unless numbers are missing too.
        """
        self._next_sequence = (sequence + 1) & 0xFFFF

    def _believes(self, transit: float, arrival_s: float) -> bool:
        """A timestamp off the timeline: the first of all, or one that breaks with it, which the next must confirm."""
        if self._transit.empty:
            return True
        suspect, self._suspect = self._suspect, (transit, arrival_s)
        if suspect is None or abs(transit - suspect[0]) > self._clock_hz or arrival_s - suspect[1] > CONFIRM_S:
            return False
        self._suspect = None
        self.breaks += 1
        self.reset()
        return True

    def _aim(self) -> None:
        window = self._transit
        wanted = max(window.peak - window.floor, _JITTER_WEIGHT * window.jitter) + MARGIN_MS * self._per_ms
        bounded = min(max(wanted, LEAST_DELAY_MS * self._per_ms), MOST_DELAY_MS * self._per_ms)
        self._ideal = window.floor + bounded

    def _store(self, at: int, payload: Piece) -> None:
        cursor, pieces = self._cursor, self._pieces
        if cursor is not None and at < cursor:
            payload = payload[cursor - at :]
            at = cursor
            if not payload:
                self.late += 1
                self._least_excess = 0
                return
        if len(pieces) >= MAX_PIECES:
            self.overflows += 1
            self.reset()
        elif len(payload) <= self._frame:
            pieces[at] = payload
        else:
            for start in range(0, len(payload), self._frame):
                pieces[at + start] = payload[start : start + self._frame]

    # ── out ──────────────────────────────────────────────────────────────────────────────────────────────

    def pull(self, due_s: float) -> Piece | Gap:
        """What to play at the tick that was due at ``due_s``.

        A result shorter than a frame is its beginning; the rest is lost.
        """
        self.spliced = None
        cursor = self._cursor
        if cursor is None:
            return self._fill(due_s)
        self._ticks_since_change += 1
        excess = due_s * self._clock_hz - cursor - self._ideal
        piece = self._pieces.pop(cursor, None)
        if piece is None or len(piece) != self._frame:
            piece = self._join(cursor, piece)
            if piece is None or len(piece) != self._frame:
                return self._mend(cursor, piece, excess, due_s)
        self._absent_ticks = self._waited_ticks = 0
        if self._least_excess <= excess < self._most_excess:
            self._cursor = cursor + self._frame
            return piece
        return self._adapt(cursor, piece, excess)

    def skip(self, frames: int) -> None:
        """Ticks that will never be played (the engine came late): the timeline moves on without them."""
        if self._cursor is not None:
            self._cursor += frames * self._frame
            self._purge(self._cursor)

    def _fill(self, due_s: float) -> Piece | Gap:
        if self._pieces:
            first = min(self._pieces)
            if due_s * self._clock_hz - first >= self._ideal - self._half:
                self._cursor = first
                self._note_change()
                return self.pull(due_s)
        return self._absent()

    def _absent(self) -> Gap:
        """A tick of a pause: its beginning fades out and leaves the noise of a line, a long one is silence."""
        self._absent_ticks += 1
        return Gap.STALLED if self._absent_ticks <= self._running_ticks else Gap.SILENT

    def _adapt(self, cursor: int, piece: Piece, excess: float) -> Piece | Gap:
        """The lag strays from the ideal: leave this frame out, or insert one before it, when that is due."""
        quiet = self._quiet(piece)
        spacing = self._spacing(excess) if excess > 0 else _INSERT_SPACING_TICKS
        if not quiet and self._ticks_since_change < spacing:
            self._cursor = cursor + self._frame
            return piece
        if excess > 0:
            return self._leave_out(cursor, piece, quiet)
        self._pieces[cursor] = piece
        self._note_change()
        self.inserted += 1
        self.following = None
        return piece if quiet else Gap.LOST

    def _leave_out(self, cursor: int, piece: Piece, quiet: bool) -> Piece:
        following_at = self._cursor = cursor + self._frame
        following = self._join(following_at, self._pieces.pop(following_at, None))
        if following is None or len(following) != self._frame:
            if following is not None:
                self._pieces[following_at] = following
            return piece
        self._cursor = following_at + self._frame
        self._note_change()
        self.left_out += 1
        self.spliced = None if quiet else piece
        return following

    def _note_change(self) -> None:
        self._ticks_since_change = 0
        self._least_excess = _INSERT_BELOW_MS * self._per_ms

    def _spacing(self, excess: float) -> int:
        excess_ms = excess / self._per_ms
        return next(ticks for above, ticks in _SPACING_TICKS if excess_ms >= above)

    def _mend(self, cursor: int, frame: Piece | None, excess: float, due_s: float) -> Piece | Gap:
        """No whole frame lies at the cursor, only its beginning or nothing: wait, or go over the hole."""
        self._purge(cursor)
        if not self._pieces:
            return self._wait(cursor, frame)
        following = min(self._pieces)
        silent = following in self._onsets
        self._onsets = {onset for onset in self._onsets if onset >= following}
        if frame is not None:
            # A hole begins inside this frame: the beginning is played, the rest is left to the concealment.
            self._absent_ticks = self._waited_ticks = 0
            self._cursor = min(cursor + self._frame, following)
            return frame
        if self._waited_ticks:
            return self._catch_up(cursor, following, due_s)
        if excess < self._least_excess and not silent:
            # It may yet come: the delay is to grow anyway.
            self._note_change()
            self.inserted += 1
            self.following = None
            return Gap.LOST
        return self._cross(cursor, following, max(0, int(excess)) if silent else 0, silent, due_s)

    def _join(self, cursor: int, head: Piece | None) -> Piece | None:
        frame = head
        while frame is not None and len(frame) < self._frame:
            piece = self._pieces.pop(cursor + len(frame), None)
            if piece is None:
                break
            frame = frame + piece
        if frame is not None and len(frame) > self._frame:
            self._pieces[cursor + self._frame] = frame[self._frame :]
            frame = frame[: self._frame]
        return frame

    def _purge(self, cursor: int) -> None:
        """Pieces that begin before the cursor: a remainder is put under it, what has passed is dropped."""
        for at in [at for at in self._pieces if at < cursor]:
            rest = self._pieces.pop(at)[cursor - at :]
            if rest and cursor not in self._pieces:
                self._pieces[cursor] = rest

    def _wait(self, cursor: int, frame: Piece | None) -> Gap:
        """Nothing is left: the network stalls or the sender pauses. The cursor stays, so the lag grows."""
        if frame is not None:
            self._pieces[cursor] = frame
        self._waited_ticks += 1
        if self._waited_ticks > self._running_ticks:
            self._cursor = None
        return self._absent()

    def _catch_up(self, cursor: int, following: int, due_s: float) -> Piece | Gap:
        """Packets are back after empty ticks: what was lost meanwhile has been concealed already."""
        waited = min(self._waited_ticks * self._frame, following - cursor)
        self._waited_ticks = 0
        self._cursor = cursor + waited
        return self.pull(due_s)

    def _cross(self, cursor: int, following: int, surplus: int, silent: bool, due_s: float) -> Piece | Gap:
        """Go over a hole frame by frame, over the last part of one so that the cursor meets the next piece.

        In a pause of the sender the surplus delay is worked off at once.
        """
        if following - cursor < self._half:
            self._cursor = following
            return self.pull(due_s)
        self._cursor = min(cursor + self._frame + surplus, following)
        self.following = self._pieces.get(self._cursor)
        return self._absent() if silent else Gap.LOST
