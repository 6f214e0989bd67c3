"""Tones with a known level: for ringback, and for tests that look for them again."""

from __future__ import annotations

import numpy as np

from offhook.audio.g711 import encode
from offhook.audio.level import rms_of
from offhook.model.audio import L16_16K, Encoding


def tone(hz: float, ms: int, level_db: float, encoding: Encoding, *, sample_rate_hz: int = 8000) -> bytes:
    """``ms`` of a sine that starts at phase 0; ``level_db`` is in dBm0. Louder than +3.14 is clipped."""
    times = np.arange(sample_rate_hz * ms // 1000) / sample_rate_hz
    wave = np.sqrt(2) * rms_of(level_db) * np.sin(2 * np.pi * hz * times)
    return encode(encoding, np.clip(np.rint(wave), -32768, 32767).astype("<i2").tobytes())


def ringing_tone() -> bytes:
    """One period of the ringing tone most of the world knows (ITU-T E.180: 425 Hz, 1 s on, 4 s off), L16 at 16 kHz."""
    rate_hz = L16_16K.sample_rate_hz
    sound = tone(425, 1000, -20, Encoding.L16, sample_rate_hz=rate_hz)
    return sound + bytes(4 * rate_hz * L16_16K.bytes_per_sample)
