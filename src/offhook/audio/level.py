"""How loud G.711 is, and how to make it quieter, by 256-byte tables: no sample is decoded on the hot path.

Levels are in dBm0: a full-scale sine is +3.14 dBm0 (G.711 §4.1; µ-law's +3.17 is taken as the same).
"""

from __future__ import annotations

import math

import numpy as np

from offhook.audio.g711 import decode, encode
from offhook.model.audio import Encoding

FULL_SCALE_SINE_DBM0 = 3.14
QUIETEST_DBM0 = -90.0
"""What digital silence is called; below anything 16 bits can hold."""

_ZERO_DBM0_RMS = (32768 / math.sqrt(2)) / 10 ** (FULL_SCALE_SINE_DBM0 / 20)
_LOUDEST = 32124  # the largest output value of µ-law; A-law's 32,256 is the same class
_NOISE_ROOT = 0.822  # mean square root of |x| where x is normally distributed with an RMS of 1
_EVERY_CODE = bytes(range(256))
_G711 = (Encoding.PCMU, Encoding.PCMA)

ATTENUATION_STEP_DB = 3
_MOST_STEPS = 20  # 60 dB down nothing but silence is left of speech


def rms_of(level_dbm0: float) -> float:
    """The RMS of 16-bit samples at ``level_dbm0``."""
    return _ZERO_DBM0_RMS * 10 ** (level_dbm0 / 20)


def level_of(rms: float) -> float:
    """The level, in dBm0, of 16-bit samples with this RMS."""
    return max(QUIETEST_DBM0, 20 * math.log10(rms / _ZERO_DBM0_RMS)) if rms > 0 else QUIETEST_DBM0


def loudness_of(level_dbm0: float) -> float:
    """The mean of ``LOUDNESS`` bytes over white noise of ``level_dbm0``; a sine's is 4 % higher."""
    return 255 * _NOISE_ROOT * math.sqrt(min(rms_of(level_dbm0), _LOUDEST) / _LOUDEST)


def _loudness_table(encoding: Encoding) -> bytes:
    samples = np.frombuffer(decode(encoding, _EVERY_CODE), dtype="<i2").astype(np.float64)
    # The smallest value of each sign is what a silent line carries (PCMA has no zero).
    magnitude = np.where(np.abs(samples) <= 8, 0, np.minimum(np.abs(samples), _LOUDEST))
    return bytes(np.rint(255 * np.sqrt(magnitude / _LOUDEST)).astype(np.uint8))


LOUDNESS = {encoding: _loudness_table(encoding) for encoding in _G711}
"""For ``bytes.translate``: code -> 0..255, the square root of the amplitude.

A byte holds 48 dB of amplitude; its root stretches that over 90 dB, and one click weighs little in the sum.
"""


def sketch(l16: bytes) -> bytes:
    """Every second sample of L16 at 16 kHz as PCMU: as loud as the frame, for tables made for G.711 at 8 kHz.

    What lies above 4 kHz folds over; that changes what it sounds like, not how loud it is.
    """
    return encode(Encoding.PCMU, np.frombuffer(l16, dtype="<i2")[::2].tobytes())


def frame_level_db(encoding: Encoding, frame: bytes) -> float:
    """The RMS level of a frame of any length, in dBm0; ``QUIETEST_DBM0`` for an empty one."""
    samples = np.frombuffer(decode(encoding, frame), dtype="<i2").astype(np.float64)
    if not samples.size:
        return QUIETEST_DBM0
    return level_of(math.sqrt(float(samples @ samples) / samples.size))


def _attenuation_table(encoding: Encoding, step: int) -> bytes:
    samples = np.frombuffer(decode(encoding, _EVERY_CODE), dtype="<i2")
    gain: float = 10 ** (-ATTENUATION_STEP_DB * step / 20)
    return encode(encoding, np.rint(samples * gain).astype("<i2").tobytes())


_ATTENUATION = {
    encoding: tuple(_attenuation_table(encoding, step) for step in range(1, _MOST_STEPS + 1)) for encoding in _G711
}


def attenuate(encoding: Encoding, frame: bytes, db: float) -> bytes:
    """A G.711 frame made quieter by ``db``, rounded to whole steps of 3 dB, at most 60; 0 or less: as it is."""
    steps = min(round(db / ATTENUATION_STEP_DB), _MOST_STEPS)
    return frame.translate(_ATTENUATION[encoding][steps - 1]) if steps > 0 else frame
