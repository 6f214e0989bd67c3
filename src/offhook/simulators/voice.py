"""How a simulated agent sounds: a tone for each sentence, the same in every run, so that it can be told from others."""

from __future__ import annotations

from functools import lru_cache
from zlib import crc32

from offhook.audio.tones import tone
from offhook.model.audio import FRAME_MS, AudioFormat

MS_PER_CHARACTER = 60
LEAST_MS = 400

LOWEST_HZ, HIGHEST_HZ, STEP_HZ = 300, 1500, 10

LEVEL_DB = -18.0


def length_ms(text: str) -> int:
    """As long as a person would need, in whole frames."""
    wanted = max(LEAST_MS, len(text) * MS_PER_CHARACTER)
    return -(-wanted // FRAME_MS) * FRAME_MS


def pitch_hz(text: str) -> int:
    """Of the first sentence alone: an answer that is spoken sentence by sentence begins as one that is not."""
    first = text.strip().partition(". ")[0].rstrip(".")
    return LOWEST_HZ + crc32(first.encode()) % ((HIGHEST_HZ - LOWEST_HZ) // STEP_HZ) * STEP_HZ


@lru_cache(maxsize=256)
def spoken(text: str, audio_format: AudioFormat) -> bytes:
    """``text`` as it sounds, in ``audio_format``; "" is silence of no length."""
    if not text:
        return b""
    return tone(
        pitch_hz(text), length_ms(text), LEVEL_DB, audio_format.encoding, sample_rate_hz=audio_format.sample_rate_hz
    )
