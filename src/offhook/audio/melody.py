"""A quiet melody for people who wait, so that nobody takes silence for a lost call."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from offhook.model.audio import SampleRate

RATE_HZ: SampleRate = 16000

_NOTES_HZ = (261.63, 329.63, 392.00, 523.25, 493.88, 392.00, 329.63, 293.66)
"""C, E, G, c, B, G, E, D: an arpeggio without an author."""

_NOTE_S = 0.75
_PEAK = 0.08
"""Of full scale: some 25 dB below it, softer than speech."""


@lru_cache(maxsize=1)
def melody() -> bytes:
    """Six seconds of L16 at ``RATE_HZ`` that can be repeated without a seam."""
    times = np.arange(int(_NOTE_S * RATE_HZ)) / RATE_HZ
    fade = np.minimum(times / 0.02, 1.0) * np.exp(-2.5 * times) * np.minimum((_NOTE_S - times) / 0.05, 1.0)
    notes = [fade * (np.sin(2 * np.pi * hz * times) + 0.3 * np.sin(4 * np.pi * hz * times)) for hz in _NOTES_HZ]
    wave = np.concatenate(notes) * (_PEAK * 32767)
    return np.rint(wave).astype("<i2").tobytes()
