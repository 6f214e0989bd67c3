"""What a caller measures of a call, at his own ear: how long he waited for each answer."""

from __future__ import annotations

import time

from offhook.audio.level import LOUDNESS, loudness_of, sketch
from offhook.model.audio import AudioFormat, Encoding

SPEECH_DBM0 = -42.0
"""Speech is around -20 dBm0, the noise of a line below -50."""


class TurnLatencies:
    """A media tap of a leg: from our last speech frame sent to the far end's first speech frame heard."""

    def __init__(self, audio_format: AudioFormat) -> None:
        self.turns_ms: list[int] = []
        self._wideband = audio_format.encoding is Encoding.L16
        self._table = LOUDNESS[Encoding.PCMU if self._wideband else audio_format.encoding]
        self._threshold = loudness_of(SPEECH_DBM0)
        self._spoke_at: float | None = None

    def __call__(self, frame_in: bytes, frame_out: bytes) -> None:
        if self._is_speech(frame_in):
            if self._spoke_at is not None:
                self.turns_ms.append(round((time.monotonic() - self._spoke_at) * 1000))
                self._spoke_at = None
        elif self._is_speech(frame_out):
            self._spoke_at = time.monotonic()

    def _is_speech(self, frame: bytes) -> bool:
        codes = sketch(frame) if self._wideband else frame
        return sum(codes.translate(self._table)) > self._threshold * len(codes)
