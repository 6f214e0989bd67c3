"""Turns of the caller where the server detects none (``turn_detection`` null). Pure.

Only what is said is sent, with a little before it: silence that is committed is heard, and paid for, as well.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Literal

from offhook.audio.convert import converter
from offhook.audio.vad import VoiceActivityDetector
from offhook.model.audio import FRAME_MS, PCMU_8K, AudioFormat, Encoding

PREROLL_MS = 300
"""Of sound before a voice is noticed: the first consonant is quiet."""


class OwnEars:
    def __init__(self, audio_format: AudioFormat) -> None:
        narrow = audio_format.encoding in {Encoding.PCMU, Encoding.PCMA}
        self._to_pcmu = None if narrow else converter(audio_format, PCMU_8K)
        self._vad = VoiceActivityDetector(audio_format.encoding if narrow else Encoding.PCMU)
        self._before: deque[bytes] = deque(maxlen=PREROLL_MS // FRAME_MS)

    def hear(self, frame: bytes) -> tuple[Literal["started", "stopped"] | None, Sequence[bytes]]:
        """20 ms of the caller: what changed with it, and the frames that are to be sent now."""
        change = self._vad.feed(frame if self._to_pcmu is None else self._to_pcmu(frame))
        if change == "started":
            frames = (*self._before, frame)
            self._before.clear()
            return change, frames
        if self._vad.speaking or change == "stopped":
            return change, (frame,)
        self._before.append(frame)
        return None, ()
