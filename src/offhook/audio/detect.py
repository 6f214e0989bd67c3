"""What machines send when a call is answered: the beep of voicemail, information tones, fax. Frames in, sounds out.

Each 20 ms the spectrum says whether nearly all energy is in one tone or two; what goes on so is a tone, and by its
pitch, length and steadiness one of these, or one that means nothing here (ringing, busy, a key, a note of music).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from offhook.audio.dtmf import COLUMNS_HZ, ROWS_HZ
from offhook.audio.g711 import decode
from offhook.audio.level import rms_of
from offhook.model.audio import FRAME_MS, AudioFormat

SoundKind = Literal["beep", "sit", "fax", "calling_fax"]
"""``sit``: special information tones (ITU-T E.180 §6). ``fax``: the answer tone CED or ANSam (T.30 §4.3.3, V.8).
``calling_fax``: one burst of CNG (T.30 §4.2), which may be a beep as well: the second one tells."""

LEAST_LEVEL_DBM0 = -40.0
"""Below lies the noise of lines; a beep is as loud as speech."""

PITCH_HZ = (330.0, 2300.0)
"""Below are voices, which hum one tone now and then; above is nothing that is listened for."""

PURITY = 0.8
"""Least share of the energy: a tone 7 dB above noise has it."""

TWIN_SHARE = 0.1
"""The weaker of two tones is at most 10 dB below the stronger."""

SAME_HZ = 35.0
"""How far a tone may stray from one frame to the next: two so near that they beat are one that wavers."""

STEADY_HZ = 24.0
STEADY_DB = 3.0
"""What machines send stays within these; notes of music fade, voices glide."""

STEADY_PURITY = 0.87
"""Of all its frames: a tone 10 dB above noise has it, a vowel has not."""

LEAST_QUARTER = 0.4
"""How much of the loudest 5 ms of a frame the quietest one has: two tones of the network that are too near to be told
apart beat, and fall silent every 20 or 25 ms."""

LEAST_FRAMES = 3
"""60 ms of a tone, and it is not speech."""

MOST_MISSED = 2
"""Frames that a tone may lack: lost packets, a reversal of phase."""

BEEP_MS = (120, 2300)
BEEP_ENDS_DB = 8.0
"""After a beep there is silence: the machine listens. After a note comes the next."""

NETWORK_HZ = 425.0
"""Ringing, busy and congestion of most networks (E.180 §5), within ``NETWORK_STRAY_HZ``."""
NETWORK_STRAY_HZ = 12.0
NETWORK_PAIRS_HZ = ((350.0, 440.0), (400.0, 450.0), (440.0, 480.0), (480.0, 620.0))
"""Dial tone, ringing and busy in North America and Britain."""
PAIR_STRAY_HZ = 25.0

SIT_HZ = (950.0, 1400.0, 1800.0)
"""E.180 §6.2: ±50 Hz, 330 ms ±70 each, up to a second apart; North America sends 914 or 985, 1371 or 1429, 1777 Hz,
274 or 380 ms each."""
SIT_STRAY_HZ = 45.0
"""Less than E.180 allows: 1000 Hz are a beep."""
SIT_MS = (180, 480)
SIT_LAST_MS = 160
"""Of the third one: enough to know it."""
SIT_GAP_MS = 1040

FAX_HZ, FAX_STRAY_HZ, FAX_MS = 2100.0, 24.0, 700
"""T.30 §4.3.3.2: ±15 Hz, at least 2.6 s."""

CALLING_FAX_HZ, CALLING_FAX_STRAY_HZ = 1100.0, 38.0
CALLING_FAX_MS = (400, 600)
"""T.30 §4.2: 0.5 s ±15 %, with 3 s between, which ``CALLING_FAX_PERIOD_MS`` adds up."""
CALLING_FAX_PERIOD_MS = (2900, 4100)

_FFT_BINS = 512
_LOBE_HZ = 105.0
"""Half of the main lobe of a Hann window of 20 ms."""
_QUIET_DB = -100.0


class Sound(NamedTuple):
    """``hz`` of its (first) tone, ``other_hz`` of a second one or 0; times are of the stream, in milliseconds."""

    kind: SoundKind
    hz: float
    began_ms: int
    ended_ms: int
    other_hz: float = 0.0


class _Spectrum(NamedTuple):
    """Of one frame; ``hz`` 0: no tone, ``other_hz`` 0: only one. ``share``: of the energy, that the tone has."""

    level_db: float
    hz: float = 0.0
    other_hz: float = 0.0
    share: float = 0.0
    quarter: float = 1.0


@dataclass(slots=True)
class _Tone:
    """Frames on end that hold the same. The first and the last one may be filled in part, and tell nothing of it."""

    hz: float
    other_hz: float
    first: int
    last: int
    loudest_db: float
    sum_hz: float = 0.0
    counted: int = 0
    latest: _Spectrum | None = None
    low_hz: float = math.inf
    high_hz: float = 0.0
    low_db: float = math.inf
    high_db: float = -math.inf
    sum_share: float = 0.0
    least_quarter: float = 1.0
    told: bool = False

    def holds(self, seen: _Spectrum) -> bool:
        """Whether it goes on in that frame."""
        if not seen.hz or bool(seen.other_hz) != bool(self.other_hz):
            return False
        return abs(seen.hz - self.hz) <= SAME_HZ and abs(seen.other_hz - self.other_hz) <= SAME_HZ

    def go_on(self, seen: _Spectrum, frame: int) -> None:
        before, self.latest = self.latest, seen
        if before is not None and self.last > self.first:
            self._measure(before)
        self.hz, self.other_hz, self.last = seen.hz, seen.other_hz, frame
        self.loudest_db = max(self.loudest_db, seen.level_db)

    def _measure(self, seen: _Spectrum) -> None:
        self.sum_hz += seen.hz
        self.counted += 1
        self.low_hz, self.high_hz = min(self.low_hz, seen.hz), max(self.high_hz, seen.hz)
        self.low_db, self.high_db = min(self.low_db, seen.level_db), max(self.high_db, seen.level_db)
        self.sum_share += seen.share
        self.least_quarter = min(self.least_quarter, seen.quarter)

    @property
    def mean_hz(self) -> float:
        return self.sum_hz / self.counted if self.counted else self.hz

    @property
    def frames(self) -> int:
        return self.last - self.first + 1

    @property
    def length_ms(self) -> int:
        return self.frames * FRAME_MS

    @property
    def steady(self) -> bool:
        stays = self.high_hz - self.low_hz <= STEADY_HZ and self.high_db - self.low_db <= STEADY_DB
        pure = self.sum_share >= STEADY_PURITY * self.counted
        return stays and pure and (bool(self.other_hz) or self.least_quarter >= LEAST_QUARTER)

    def is_at(self, hz: float, stray_hz: float) -> bool:
        return not self.other_hz and abs(self.mean_hz - hz) <= stray_hz


class SoundDetector:
    """One direction of one call, a frame at a time. ``encoding`` is PCMU or PCMA at 8 kHz, or L16 at 8 or 16 kHz."""

    def __init__(self, audio_format: AudioFormat) -> None:
        self._encoding = audio_format.encoding
        self._count = audio_format.sample_rate_hz * FRAME_MS // 1000
        bins = _FFT_BINS * audio_format.sample_rate_hz // 8000
        self._bins = bins
        self._bin_hz = audio_format.sample_rate_hz / bins
        self._window: NDArray[np.float64] = np.hanning(self._count)
        self._lobe = round(_LOBE_HZ / self._bin_hz)
        self._low, self._high = (round(hz / self._bin_hz) for hz in PITCH_HZ)
        self._band = bins * 4000 // audio_format.sample_rate_hz
        self._least = rms_of(LEAST_LEVEL_DBM0) ** 2 * self._count
        self._frame = -1
        self._tone: _Tone | None = None
        self._next: _Tone | None = None
        self._missed: list[float] = []
        self._sit: list[_Tone] = []
        self._perhaps: _Tone | None = None  # a beep, or the first of three
        self._calling: list[int] = []
        self._told_fax = False

    @property
    def sounding(self) -> bool:
        """A tone is on the line now, and no voice."""
        tone = self._tone
        return tone is not None and tone.frames >= LEAST_FRAMES

    def take(self, frame: bytes) -> Sound | None:
        """The next 20 ms, and what is known with it. A frame of another length counts as silence."""
        self._frame += 1
        seen = self._look(frame)
        tone = self._tone
        if tone is None:
            self._tone = self._begun(seen)
            return self._settle()
        if tone.holds(seen):
            tone.go_on(seen, self._frame)
            self._next = None
            self._missed.clear()
            return self._while_it_sounds(tone)
        self._missed.append(seen.level_db)
        return self._follow_next(tone, seen)

    # ── one frame ────────────────────────────────────────────────────────────────────────────────────────

    def _look(self, frame: bytes) -> _Spectrum:
        samples = np.frombuffer(decode(self._encoding, frame), dtype="<i2").astype(np.float64)
        energy = float(samples @ samples) if samples.size == self._count else 0.0
        if energy < self._least:
            return _Spectrum(_QUIET_DB)
        spectrum = np.fft.rfft(samples * self._window, self._bins)[: self._band]
        power = spectrum.real**2 + spectrum.imag**2
        total = float(power.sum())
        level_db = 10 * math.log10(energy)
        hz, share = self._strongest(power, total)
        if share >= PURITY:
            return _Spectrum(level_db, hz, share=share, quarter=_quarter(samples))
        if share < PURITY / 2:
            return _Spectrum(level_db)
        other_hz, other = self._strongest(power, total)
        if share + other < PURITY or other < TWIN_SHARE * share:
            return _Spectrum(level_db)
        return _Spectrum(level_db, min(hz, other_hz), max(hz, other_hz), share + other)

    def _strongest(self, power: NDArray[np.float64], total: float) -> tuple[float, float]:
        """Frequency and share of the strongest tone, which is taken out of ``power``."""
        peak = self._low + int(power[self._low : self._high].argmax())
        before, at, after = (float(power[peak + step]) for step in (-1, 0, 1))
        bend = before - 2 * at + after
        offset = (before - after) / (2 * bend) if bend else 0.0
        lobe = power[max(0, peak - self._lobe) : peak + self._lobe + 1]
        share = float(lobe.sum()) / total if total else 0.0
        lobe[:] = 0.0
        return (peak + offset) * self._bin_hz, share

    # ── a tone over time ─────────────────────────────────────────────────────────────────────────────────

    def _begun(self, seen: _Spectrum) -> _Tone | None:
        if not seen.hz:
            return None
        tone = _Tone(seen.hz, seen.other_hz, self._frame, self._frame, seen.level_db)
        tone.latest = seen
        return tone

    def _follow_next(self, tone: _Tone, seen: _Spectrum) -> Sound | None:
        """Something else than the tone: it ends, when that goes on, or another one begins."""
        if self._next is not None and self._next.holds(seen):
            self._next.go_on(seen, self._frame)
            found = self._end(tone)
            self._tone, self._next = self._next, None
            return found
        self._next = self._begun(seen)
        if len(self._missed) <= MOST_MISSED:
            return None
        found = self._end(tone)
        self._tone, self._next = self._next, None
        return found

    def _while_it_sounds(self, tone: _Tone) -> Sound | None:
        """What is known before its end."""
        if tone.is_at(FAX_HZ, FAX_STRAY_HZ) and tone.length_ms >= FAX_MS and not self._told_fax:
            self._told_fax = True
            return self._sound("fax", tone)
        last = len(self._sit) == len(SIT_HZ) - 1
        if last and tone.length_ms >= SIT_LAST_MS and self._continues_sit(tone):
            first, self._sit = self._sit[0], []
            return self._sound("sit", tone, began=first.first)
        return None

    def _end(self, tone: _Tone) -> Sound | None:
        missed, self._missed = self._missed, []
        self._collect_sit(tone)
        if tone.told or not tone.counted or not tone.steady:
            return None
        if tone.is_at(CALLING_FAX_HZ, CALLING_FAX_STRAY_HZ) and _between(tone.length_ms, CALLING_FAX_MS):
            return self._burst(tone)
        quiet_after = max(missed[1:], default=_QUIET_DB) <= tone.loudest_db - BEEP_ENDS_DB
        if not quiet_after or not _between(tone.length_ms, BEEP_MS) or _means_something_else(tone):
            return None
        if self._sit:
            self._perhaps = tone
            return None
        return self._sound("beep", tone)

    def _settle(self) -> Sound | None:
        """One of the three information tones came, and no other after it: it was a beep."""
        tone = self._perhaps
        if tone is None or (self._frame - tone.last) * FRAME_MS <= SIT_GAP_MS:
            return None
        self._perhaps = None
        alone, self._sit = len(self._sit) == 1, []
        return self._sound("beep", tone) if alone else None

    def _burst(self, tone: _Tone) -> Sound:
        periods = [tone.first * FRAME_MS - before for before in self._calling]
        self._calling = [*self._calling[-2:], tone.first * FRAME_MS]
        again = any(_between(period, CALLING_FAX_PERIOD_MS) for period in periods)
        return self._sound("fax" if again else "calling_fax", tone)

    def _collect_sit(self, tone: _Tone) -> None:
        """The first two of the three tones."""
        expected = self._continues_sit(tone) and _between(tone.length_ms, SIT_MS)
        if expected and len(self._sit) < len(SIT_HZ) - 1:
            self._sit.append(tone)
        elif tone.is_at(SIT_HZ[0], SIT_STRAY_HZ) and _between(tone.length_ms, SIT_MS):
            self._sit = [tone]
        elif tone.frames >= LEAST_FRAMES:
            self._sit = []

    def _continues_sit(self, tone: _Tone) -> bool:
        step = len(self._sit)
        near = not step or (tone.first - self._sit[-1].last) * FRAME_MS <= SIT_GAP_MS
        return near and tone.is_at(SIT_HZ[step], SIT_STRAY_HZ)

    def _sound(self, kind: SoundKind, tone: _Tone, *, began: int | None = None) -> Sound:
        tone.told = True
        first = tone.first if began is None else began
        return Sound(kind, tone.mean_hz, first * FRAME_MS, (tone.last + 1) * FRAME_MS, tone.other_hz)


def _between(value: float, limits: tuple[float, float]) -> bool:
    return limits[0] <= value <= limits[1]


def _quarter(samples: NDArray[np.float64]) -> float:
    quarters = (samples * samples).reshape(4, -1).sum(axis=1)
    return float(quarters.min() / quarters.max())


def _means_something_else(tone: _Tone) -> bool:
    """Ringing and busy, the keys, one of the information tones."""
    if not tone.other_hz:
        return tone.is_at(NETWORK_HZ, NETWORK_STRAY_HZ)
    pairs = (*NETWORK_PAIRS_HZ, *((row, column) for row in ROWS_HZ for column in COLUMNS_HZ))
    return any(
        abs(tone.hz - low) <= PAIR_STRAY_HZ and abs(tone.other_hz - high) <= PAIR_STRAY_HZ for low, high in pairs
    )
