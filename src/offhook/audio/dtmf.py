"""Keys as tones in the audio (ITU-T Q.23): heard and made, for peers that know no other way.

The detector measures the eight frequencies by correlation over 20 ms (what Goertzel's recurrence computes, as one
matrix product) every 5 ms. What tells a key from speech and music is that nothing else is there: two steady tones, one
of each group, at their frequencies to 2 % and with nearly all the energy, for 35 ms on end.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from offhook.audio.g711 import decode, encode, silence
from offhook.audio.level import rms_of
from offhook.model.audio import FRAME_MS, AudioFormat

ROWS_HZ = (697, 770, 852, 941)
COLUMNS_HZ = (1209, 1336, 1477, 1633)
KEYPAD = "123A456B789C*0#D"
"""By row, then column (Q.23)."""

HOP_MS = 5
_HOPS = FRAME_MS // HOP_MS

LEAST_LEVEL_DBM0 = -33.0
"""Of each tone. Q.24 table A-1: receivers take -24 to -29 dBm; below lies the echo of our own speech."""

MOST_TWIST_DB = 6.0
LEAST_TWIST_DB = -10.0
"""How much stronger the column may be than the row: Q.24 has +4 and -8, to which a short window adds its error."""

PURITY = 0.9
"""The least share of the energy that both tones have: noise may be 10 dB below them."""

FIRST_PURITY = 0.35
"""Before the frequencies are known exactly: what tones 1.5 % off leave of themselves in the bins."""

NEIGHBOUR_DB = 6.0
"""How far the strongest tone of a group stands out; the next key's is 13 dB down in a window of 20 ms."""

TOLERANCE = 0.02
"""Q.24: 1.5 % off is taken, 3.5 % off is not."""

MOST_GLIDE = 0.0045
"""How much both frequencies may seem to rise or fall together within those 35 ms. Keys stay below 0.0042, at 1.5 % off;
a voice whose pitch moves by 19 semitones a second comes to 0.006 and more."""

LEAST_HITS = 4
"""Windows in a row, 35 ms of tone: 40 ms has four that are filled by it, 23 ms no more than two."""

PAUSE_HITS = 3
"""Quiet windows in a row end a key: a pause of 40 ms has them, one of 20 ms (Q.24: an interruption) has not."""

_PAUSE_RATIO = 0.1  # quiet: 10 dB below the key
OTHER_HITS = 10
"""Windows that hold something else end a key, 50 ms of it; clicks and splices do not."""

MOST_MISSED_FRAMES = 5
"""So many lost frames in a row end a key."""

LEVEL_DBM0 = (-10.0, -8.0)
"""Row and column as they are sent: the higher one is stronger by 2 dB, as lines weaken it more (Q.23)."""

TONE_MS = 100
TONE_GAP_MS = 100
LEAST_TONE_MS = 40
MOST_TONE_MS = 6000
MAX_QUEUED_TONES = 128

_BINS_HZ = ROWS_HZ + COLUMNS_HZ
_GROUP = len(ROWS_HZ)
_MOST_TWIST, _LEAST_TWIST = 10 ** (MOST_TWIST_DB / 10), 10 ** (LEAST_TWIST_DB / 10)
_NEIGHBOUR = 10 ** (NEIGHBOUR_DB / 10)
_MOST_STRAY = 2.1  # radians: 33 Hz in a window of 20 ms, 2 % of the highest tone
_LEAST_STRAY = 1e-6
_TURN = 2 * math.pi
_ADVANCE = tuple(_TURN * hz * HOP_MS / 1000 for hz in _BINS_HZ)


class ToneHeard(NamedTuple):
    """A key that is over."""

    digit: str
    duration_ms: int


@dataclass(slots=True)
class _Tone:
    """One of a run's two tones. How far it strays from its frequency is read off its phase, hop by hop."""

    number: int
    phase: float
    strayed: float = 0.0  # radians since the first window
    first_hop: float | None = None  # share of its frequency that it strayed by
    last_hop: float = 0.0

    def move_to(self, phase: float) -> None:
        hop = _wrapped(phase - self.phase - _ADVANCE[self.number])
        self.phase = phase
        self.strayed += hop
        self.last_hop = hop / _ADVANCE[self.number]
        if self.first_hop is None:
            self.first_hop = self.last_hop

    @property
    def glide(self) -> float:
        return self.last_hop - (self.first_hop or 0.0)

    def is_true(self, hops: int) -> bool:
        return abs(self.strayed) <= hops * TOLERANCE * _ADVANCE[self.number]


@dataclass(slots=True)
class _Run:
    """Windows in a row that hold the same key."""

    key: int
    first: int
    row: _Tone
    column: _Tone
    hits: int = 1

    def is_true(self) -> bool:
        """Long enough, at the frequencies of the key, and not gliding together as the harmonics of a voice do."""
        hops, glides = self.hits - 1, (self.row.glide, self.column.glide)
        gliding = min(glides) > MOST_GLIDE or max(glides) < -MOST_GLIDE
        return hops >= LEAST_HITS - 1 and not gliding and self.row.is_true(hops) and self.column.is_true(hops)


@dataclass(slots=True)
class _Key:
    """A key that sounds; times are counted in windows."""

    key: int
    first: int
    last: int
    power: float
    quiet: int = 0


class ToneDetector:
    """The keys in one audio stream, frame by frame. A key is told when it is over."""

    def __init__(self, audio_format: AudioFormat) -> None:
        self.format = audio_format
        count = audio_format.sample_rate_hz * FRAME_MS // 1000
        self._count = count
        self._samples = np.zeros(2 * count)
        self._latest = self._samples[count:]
        hop = count // _HOPS
        step = self._samples.itemsize
        self._windows = as_strided(self._samples[hop:], shape=(_HOPS, count), strides=(hop * step, step))
        self._basis = _basis(count, audio_format.sample_rate_hz)
        self._least_power = rms_of(LEAST_LEVEL_DBM0) ** 2
        self._now = 0  # windows so far
        self._missed = 0  # frames, up to now
        self._run: _Run | None = None
        self._key: _Key | None = None

    def take(self, frame: bytes) -> list[ToneHeard]:
        """The next 20 ms; the key that has ended by it, if any. A frame of another length counts as missed."""
        samples = np.frombuffer(decode(self.format.encoding, frame), dtype="<i2")
        if samples.size != self._count:
            return self.miss()
        self._samples[: self._count] = self._latest
        self._latest[:] = samples
        # After a lost frame only the window that does not reach back into it is known.
        first = _HOPS - 1 if self._missed else 0
        self._missed = 0
        if self._key is None and float(self._latest @ self._latest) < self._least_power * self._count:
            self._now += _HOPS
            self._run = None
            return []
        return self._listen(first)

    def miss(self) -> list[ToneHeard]:
        """20 ms that were lost: whatever is played in their place says nothing about keys."""
        self._now += _HOPS
        self._run = None
        self._missed += 1
        if self._key is None or self._missed < MOST_MISSED_FRAMES:
            return []
        return [self._end(self._key)]

    def _listen(self, first: int) -> list[ToneHeard]:
        spectra = self._windows @ self._basis
        squares = spectra * spectra
        powers = (squares[:, : len(_BINS_HZ)] + squares[:, len(_BINS_HZ) :]).tolist()
        energies = (self._samples * self._samples).reshape(2 * _HOPS, -1).sum(axis=1).tolist()
        parts = spectra.tolist()
        told: list[ToneHeard] = []
        self._now += first
        for index in range(first, _HOPS):
            self._now += 1
            total = sum(energies[index + 1 : index + 1 + _HOPS]) / self._count
            hit = self._extend(parts[index], powers[index], total)
            told += self._follow(hit, total)
        return told

    def _extend(self, parts: list[float], powers: list[float], total: float) -> bool:
        """Whether the window goes on with the run, or begins one."""
        row = max(range(_GROUP), key=powers.__getitem__)
        column = max(range(_GROUP, 2 * _GROUP), key=powers.__getitem__)
        run, self._run = self._run, None
        if not self._stand_out(powers, row, column):
            return False
        key = row * _GROUP + column - _GROUP
        row_phase, column_phase = _phase(parts, row), _phase(parts, column)
        if run is None or run.key != key:
            if powers[row] + powers[column] >= FIRST_PURITY * total:
                self._run = _Run(
                    key=key, first=self._now, row=_Tone(row, row_phase), column=_Tone(column, column_phase)
                )
            return self._run is not None
        run.row.move_to(row_phase)
        run.column.move_to(column_phase)
        tones = powers[row] / _left(run.row.strayed / run.hits) + powers[column] / _left(run.column.strayed / run.hits)
        if tones < PURITY * total:
            return False
        run.hits += 1
        self._run = run
        return True

    def _stand_out(self, powers: list[float], row: int, column: int) -> bool:
        """Loud enough, of like strength, and above the other tones of their groups."""
        low, high = powers[row], powers[column]
        if min(low, high) < self._least_power or not _LEAST_TWIST * low <= high <= _MOST_TWIST * low:
            return False
        rows, columns = powers[:_GROUP], powers[_GROUP:]
        return sorted(rows)[-2] * _NEIGHBOUR < low and sorted(columns)[-2] * _NEIGHBOUR < high

    def _follow(self, hit: bool, total: float) -> list[ToneHeard]:
        """What a window means for the key that sounds, if one does."""
        run, key = self._run, self._key
        if key is not None and hit and run is not None and run.key == key.key:
            key.last, key.quiet, key.power = self._now, 0, max(key.power, total)
            return []
        told: list[ToneHeard] = []
        if key is not None:
            key.quiet = key.quiet + 1 if total < key.power * _PAUSE_RATIO else 0
            if key.quiet < PAUSE_HITS and self._now - key.last < OTHER_HITS and not (run and run.is_true()):
                return []
            told = [self._end(key)]
        if run is not None and run.is_true():
            self._key = _Key(key=run.key, first=run.first, last=self._now, power=total)
        return told

    def _end(self, key: _Key) -> ToneHeard:
        self._key = None
        return ToneHeard(KEYPAD[key.key], (key.last - key.first) * HOP_MS + FRAME_MS)


def _basis(count: int, sample_rate_hz: int) -> NDArray[np.float64]:
    """Cosines, then sines, scaled so that the squares of a tone's two products add up to its power."""
    angles = _TURN / sample_rate_hz * np.outer(np.arange(count), _BINS_HZ)
    return np.hstack([np.cos(angles), -np.sin(angles)]) * (math.sqrt(2) / count)


def _phase(parts: list[float], tone: int) -> float:
    return math.atan2(parts[len(_BINS_HZ) + tone], parts[tone])


def _wrapped(radians: float) -> float:
    return (radians + math.pi) % _TURN - math.pi


def _left(drift: float) -> float:
    """The share of its power that a tone leaves in the bin it strays from by ``drift`` radians a hop."""
    half_turns = min(abs(drift) * _HOPS / 2, _MOST_STRAY)
    return (math.sin(half_turns) / half_turns) ** 2 if half_turns > _LEAST_STRAY else 1.0


class ToneSender:
    """Keys as tones, frame by frame, in a leg's format: ``next_frame`` takes the place of the audio."""

    def __init__(self, audio_format: AudioFormat) -> None:
        self._format = audio_format
        self._queue: deque[tuple[str, int]] = deque()  # key, frames
        self._sounding: deque[bytes] = deque()

    @property
    def idle(self) -> bool:
        return not self._queue and not self._sounding

    def queue(self, digits: str, duration_ms: int = TONE_MS) -> None:
        """Append digits of ``duration_ms`` each (40 ms to 6 s). Raises ``ValueError`` for a non-digit or too many."""
        keys = [KEYPAD[KEYPAD.index(digit)] for digit in digits.upper()]
        if len(self._queue) + len(keys) > MAX_QUEUED_TONES:
            raise ValueError(f"more than {MAX_QUEUED_TONES} digits wait to be sent")
        frames = -(-min(max(duration_ms, LEAST_TONE_MS), MOST_TONE_MS) // FRAME_MS)
        self._queue.extend((key, frames) for key in keys)

    def retune(self, audio_format: AudioFormat) -> None:
        """The leg's format changed: a key that sounds ends here."""
        self._format = audio_format
        self._sounding.clear()

    def next_frame(self) -> bytes | None:
        """The tone's next 20 ms, or the pause's after it; None: nothing is to be sent."""
        if not self._sounding and self._queue:
            key, frames = self._queue.popleft()
            audio = key_tone(key, frames * FRAME_MS, self._format) + silence(self._format) * (TONE_GAP_MS // FRAME_MS)
            size = self._format.frame_bytes
            self._sounding.extend(audio[at : at + size] for at in range(0, len(audio), size))
        return self._sounding.popleft() if self._sounding else None


def key_tone(digit: str, duration_ms: int, audio_format: AudioFormat) -> bytes:
    """One key, at ``LEVEL_DBM0``. Raises ``ValueError`` for a non-digit."""
    row, column = divmod(KEYPAD.index(digit), _GROUP)
    times = np.arange(audio_format.sample_rate_hz * duration_ms // 1000) / audio_format.sample_rate_hz
    wave = np.zeros(times.size)
    for hz, level_dbm0 in zip((ROWS_HZ[row], COLUMNS_HZ[column]), LEVEL_DBM0, strict=True):
        wave += math.sqrt(2) * rms_of(level_dbm0) * np.sin(_TURN * hz * times)
    return encode(audio_format.encoding, np.rint(wave).astype("<i2").tobytes())
