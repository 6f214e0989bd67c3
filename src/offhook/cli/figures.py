"""What a caller measures of a call, at his own ear: how long he waited for each answer."""

from __future__ import annotations

import time

from offhook.audio.level import is_speech
from offhook.model.audio import Encoding


class TurnLatencies:
    """A media tap: from our last speech frame sent to the far end's first speech frame heard."""

    def __init__(self, encoding: Encoding) -> None:
        self.turns_ms: list[int] = []
        self.heard_frames = 0
        self._encoding = encoding
        self._spoke_at: float | None = None

    def __call__(self, frame_in: bytes, frame_out: bytes) -> None:
        if is_speech(self._encoding, frame_in):
            self.heard_frames += 1
            if self._spoke_at is not None:
                self.turns_ms.append(round((time.monotonic() - self._spoke_at) * 1000))
                self._spoke_at = None
        elif is_speech(self._encoding, frame_out):
            self._spoke_at = time.monotonic()
