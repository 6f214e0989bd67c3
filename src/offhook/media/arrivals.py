"""Audio as it arrives, in order and in whole frames, for a listener that wants it soon rather than evenly: an AI.

What plays to people waits in the jitter buffer for packets that may be late; a recogniser need not wait. A packet in
its place is given on at once; one that is missing is waited for two ticks, then concealed; a line that says nothing is
silence, so that 50 frames a second are heard whatever comes.
"""

from __future__ import annotations

from collections import deque

from offhook.audio.g711 import silence
from offhook.media.concealment import Concealer
from offhook.model.audio import AudioFormat
from offhook.rtp.packet import timestamp_distance

WAIT_TICKS = 2
"""For a packet that another has overtaken: 40 ms, as long as people's ears wait for it."""

STARVED_TICKS = 3
"""Without a packet for so long, silence is heard in its place."""

MOST_CAUGHT_UP = 10
"""Frames that are given on late, after silence was heard in their place: 200 ms. Older ones are left out."""

MOST_CONCEALED = 10
"""Frames of one gap: speech is gone after 60 ms anyway, the rest keeps the time."""

MOST_HELD = 32
"""Packets beyond a gap. More are a new timeline."""

MOST_AHEAD = 50
"""Frames given before their time: a second. Stalls leave a few; who sends faster than real time is not heard."""

_HISTORY = 3


class Arrivals:
    """One inbound stream of G.711, where a byte is a unit of the timestamp. ``push`` and ``tick`` give frames."""

    def __init__(self, audio_format: AudioFormat) -> None:
        self._format = audio_format
        self._frame = audio_format.frame_bytes
        self._silence = silence(audio_format)
        self.concealed = 0
        self.filled = 0
        """Frames of silence, all told."""
        self.dropped = 0
        self.reset()

    def reset(self) -> None:
        """Another stream begins (new SSRC, jump of the numbering)."""
        self._next: int | None = None  # the timestamp that is due
        self._next_sequence = -1
        self._held: dict[int, bytes] = {}
        self._rest = b""
        self._ahead = 0  # frames given, less ticks gone
        self._owed = 0  # frames of silence given in place of what may yet come
        self._waited = 0
        self._history: deque[bytes] = deque(maxlen=_HISTORY)
        self._blend: Concealer | None = None

    def push(self, sequence: int, timestamp: int, payload: bytes) -> tuple[bytes, ...]:
        """A packet that is no duplicate. Returns the frames that are whole and in order now."""
        distance = 0 if self._next is None else timestamp_distance(timestamp, self._next)
        paused = distance > 0 and sequence == self._next_sequence and not self._held
        if self._next is None or paused:
            self._begin(timestamp)
            distance = 0
        if distance >= 0:
            self._next_sequence = (sequence + 1) & 0xFFFF
        if not distance and not self._held and len(payload) == self._frame and not self._rest:
            self._next = (timestamp + self._frame) & 0xFFFFFFFF
            return self._give(payload)
        return self._push_oddly(distance, timestamp, payload)

    def interlude(self, sequence: int) -> None:
        """A packet without audio: what is missing before the next audio was never sent."""
        self._next_sequence = (sequence + 1) & 0xFFFF

    def tick(self, ticks: int = 1) -> tuple[bytes, ...]:
        """So many frames of time have gone. Returns what is heard in place of what did not come."""
        if self._next is None:
            return (self._silence,) * min(ticks, MOST_CAUGHT_UP)
        self._ahead -= ticks
        if self._held:
            self._waited += ticks
            return self._cross() if self._waited > WAIT_TICKS else ()
        missing = min(-self._ahead - STARVED_TICKS, MOST_CAUGHT_UP)
        if missing <= 0:
            return ()
        self._ahead += missing
        self._owed += missing
        self.filled += missing
        self._history.clear()
        return (self._silence,) * missing

    # ── in order ─────────────────────────────────────────────────────────────────────────────────────────

    def _begin(self, timestamp: int) -> None:
        """The first packet, or the first after a pause of the sender: what was filled in was that pause."""
        self._next = timestamp
        self._ahead = self._owed = 0
        self._rest = b""

    def _push_oddly(self, distance: int, timestamp: int, payload: bytes) -> tuple[bytes, ...]:
        """Not a whole frame in its place: earlier, later, longer, shorter."""
        if distance < 0:
            payload = payload[-distance:]  # its place has been given to something else
        elif distance > 0:
            self._held[timestamp] = payload
            return self._cross() if len(self._held) > MOST_HELD else ()
        return self._drain(self._take(payload)) if payload else ()

    def _take(self, payload: bytes) -> tuple[bytes, ...]:
        assert self._next is not None
        self._next = (self._next + len(payload)) & 0xFFFFFFFF
        audio = self._rest + payload
        whole = len(audio) - len(audio) % self._frame
        self._rest = audio[whole:]
        frames: tuple[bytes, ...] = ()
        for start in range(0, whole, self._frame):
            frames += self._give(audio[start : start + self._frame])
        return frames

    def _drain(self, frames: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """What waited for the packet that came."""
        while self._held and self._next in self._held:
            frames += self._take(self._held.pop(self._next))
        if not self._held:
            self._waited = 0
        return frames

    def _give(self, frame: bytes) -> tuple[bytes, ...]:
        if self._owed > MOST_CAUGHT_UP or self._ahead >= MOST_AHEAD:
            self._owed = max(0, self._owed - 1)
            self.dropped += 1
            return ()
        if self._ahead >= 0:
            self._owed = 0
        self._ahead += 1
        self._history.append(frame)
        if self._blend is not None:
            frame, self._blend = self._blend.good(frame), None
        return (frame,)

    def _cross(self) -> tuple[bytes, ...]:
        """What is missing will not come: conceal it, as far as silence has not filled its time."""
        assert self._next is not None
        nearest = min(self._held, key=lambda at: timestamp_distance(at, self._next or 0))
        missing = max(0, timestamp_distance(nearest, self._next) - len(self._rest)) // self._frame
        missing = min(max(0, missing - self._owed), MOST_CONCEALED)
        concealer = Concealer(self._format)
        for frame in self._history:
            concealer.good(frame)
        concealed = tuple(concealer.lost() for _ in range(missing))
        self.concealed += missing
        self._ahead += missing
        self._owed = self._waited = 0
        self._rest = b""
        self._next = nearest
        self._blend = concealer if missing else None
        return concealed + self._drain(())
