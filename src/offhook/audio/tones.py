"""Tones with a known level: for ringback, and for tests that look for them again."""

from __future__ import annotations

import numpy as np

from offhook.audio.g711 import encode
from offhook.audio.level import rms_of
from offhook.model.audio import Encoding


def tone(hz: float, ms: int, level_db: float, encoding: Encoding, *, sample_rate_hz: int = 8000) -> bytes:
    """``ms`` of a sine that starts at phase 0; ``level_db`` is in dBm0. Louder than +3.14 is clipped."""
    times = np.arange(sample_rate_hz * ms // 1000) / sample_rate_hz
    wave = np.sqrt(2) * rms_of(level_db) * np.sin(2 * np.pi * hz * times)
    return encode(encoding, np.clip(np.rint(wave), -32768, 32767).astype("<i2").tobytes())
