"""Voice activity on a phone line: is somebody speaking now?

Energy against a noise floor that follows the line. Each 20 ms frame of G.711 becomes four numbers, one
per 5 ms, by a table look-up and a sum (``level.LOUDNESS``). The floor is the quietest frame of the last
two seconds of sound: speech always has gaps within that time and constant noise has none, so noise that comes and
stays is learned, even while it is taken for speech.
"""

from __future__ import annotations

from typing import Literal

from offhook.audio.level import LOUDNESS, loudness_of, sketch
from offhook.model.audio import FRAME_MS, Encoding

_QUARTER = 40  # samples in 5 ms
_QUARTERS = 4

_WINDOW = 0xFFFF  # the last 16 quarters, 80 ms, one bit each
_ATTACK_QUARTERS = 9
"""45 ms of sound within 80 ms begin speech: more than a click of 35 ms touches, and whatever its offset in a
frame, speech is decided on within 60 ms of its first whole quarter."""

_MARGIN_DB = 10.0
"""How far above the noise floor speech is: six standard deviations of a quarter of white noise."""
_KEEP_DB = 4.0
"""Speech once begun is kept by sound this much weaker: the ends of words."""
_LEAST_DBM0 = -32.0
"""Sound below this never begins speech, be the line ever so quiet: noise of -35 may come and go."""
_FIRST_FLOOR_DBM0 = -38.0
"""Assumed before the line was heard: only sound above -28 dBm0 begins speech then."""

_BLOCK_FRAMES = 25
_BLOCKS = 4
"""The floor is the minimum of four blocks of half a second."""

DEFAULT_HANGOVER_MS = 600
"""Silence that ends an utterance: longer than the gaps within one, short enough not to be felt as a delay."""


def _factor(db: float) -> float:
    """Loudness is the root of amplitude: 20 dB are a factor of the root of ten."""
    return float(10 ** (db / 40))


class VoiceActivityDetector:
    """Follows one direction of one call, a frame at a time.

    ``encoding`` is PCMU or PCMA at 8 kHz, or L16 at 16 kHz. ``hangover_ms`` of no speech end an utterance.
    """

    def __init__(self, encoding: Encoding, *, hangover_ms: int = DEFAULT_HANGOVER_MS) -> None:
        self._wideband = encoding is Encoding.L16
        self._table = LOUDNESS[Encoding.PCMU if self._wideband else encoding]
        self._hangover_frames = max(1, hangover_ms // FRAME_MS)
        self._least = loudness_of(_LEAST_DBM0) * _QUARTER
        self._history = 0
        self._quiet_frames = 0
        self._speaking = False
        self._heard = False
        first = loudness_of(_FIRST_FLOOR_DBM0) * _QUARTER * _QUARTERS
        self._minima = [first] * _BLOCKS
        self._frames_in_block = 0
        self._threshold = 0.0
        self._set_threshold()

    @property
    def speaking(self) -> bool:
        """Between "started" and "stopped"; the hangover is part of it."""
        return self._speaking

    @property
    def heard(self) -> bool:
        """The last frame itself carried speech: not only the hangover."""
        return self._heard

    @property
    def quiet_ms(self) -> int:
        """Since the last frame that carried speech."""
        return self._quiet_frames * FRAME_MS

    def feed(self, frame: bytes) -> Literal["started", "stopped"] | None:
        """One 20 ms frame; what is missing of one counts as silence. Returns what changed with it."""
        loudness = (sketch(frame) if self._wideband else frame).translate(self._table)
        first, second = sum(loudness[:40]), sum(loudness[40:80])
        third, fourth = sum(loudness[80:120]), sum(loudness[120:160])
        limit = self._threshold
        loud = (first > limit) << 3 | (second > limit) << 2 | (third > limit) << 1 | (fourth > limit)
        self._history = (self._history << 4 | loud) & _WINDOW
        total = first + second + third + fourth
        self._follow_floor(total)
        if self._speaking:
            return self._keep(total)
        self._quiet_frames += 1
        if self._history.bit_count() >= _ATTACK_QUARTERS:
            return self._start()
        return None

    def _start(self) -> Literal["started"]:
        self._speaking = self._heard = True
        self._quiet_frames = 0
        return "started"

    def _keep(self, total: int) -> Literal["stopped"] | None:
        self._heard = total > self._threshold * (_QUARTERS / _factor(_KEEP_DB))
        self._quiet_frames = 0 if self._heard else self._quiet_frames + 1
        if self._quiet_frames < self._hangover_frames:
            return None
        self._speaking = False
        return "stopped"

    def _follow_floor(self, total: int) -> None:
        # Digital silence is no noise of the line: a lost packet, a muted or discontinuous sender.
        if not total:
            return
        if total < self._minima[-1]:
            self._minima[-1] = total
            self._set_threshold()
        self._frames_in_block += 1
        if self._frames_in_block == _BLOCK_FRAMES:
            self._frames_in_block = 0
            self._minima = [*self._minima[1:], float("inf")]
            self._set_threshold()

    def _set_threshold(self) -> None:
        floor = min(self._minima) / _QUARTERS
        self._threshold = max(self._least, floor * _factor(_MARGIN_DB))
