"""Several voices into one frame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from offhook.audio.g711 import decode, encode
from offhook.model.audio import Encoding


def mix(encoding: Encoding, frames: Sequence[bytes]) -> bytes:
    """The saturating sum, as long as the longest frame; one frame comes back as it is, none as ``b""``."""
    if len(frames) < 2:
        return frames[0] if frames else b""
    voices = [np.frombuffer(decode(encoding, frame), dtype="<i2") for frame in frames]
    total = np.zeros(max(voice.size for voice in voices), dtype=np.int32)
    for voice in voices:
        total[: voice.size] += voice
    return encode(encoding, np.clip(total, -32768, 32767).astype("<i2").tobytes())
