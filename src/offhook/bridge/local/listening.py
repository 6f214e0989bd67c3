"""When the caller begins, pauses and has finished: voice activity turned into utterances. Pure."""

from __future__ import annotations

from collections import deque
from typing import Literal

from offhook.audio.vad import VoiceActivityDetector
from offhook.model.audio import FRAME_MS, Encoding

END_OF_TURN_MS = 500
"""Silence after which the caller has finished. Shorter cuts people off who think; longer feels slow."""

PAUSE_MS = 160
"""Silence after which recognition is begun on trial; longer than the gap in "what time | is it"."""

PREROLL_MS = 300
"""Kept from before the detector decided: its attack of 60 ms and the soft begin of a word."""

MAX_UTTERANCE_MS = 20_000
"""What is said beyond it in one breath is not recognised; recognition would take seven seconds."""

_FRESH_START_FRAMES = 3
"""Frames with speech that begin a new utterance inside the hangover of a settled one."""

Change = Literal["started", "paused", "resumed", "ended"]


class Listening:
    """Follows one caller, a 20 ms G.711 frame at a time."""

    def __init__(self, encoding: Encoding) -> None:
        self._vad = VoiceActivityDetector(encoding, hangover_ms=END_OF_TURN_MS)
        self._preroll: deque[bytes] = deque(maxlen=PREROLL_MS // FRAME_MS)
        self._frames: list[bytes] = []
        self._length = 0
        self._speaking = False
        self._paused = False
        self._fresh_frames = 0

    @property
    def speaking(self) -> bool:
        """Between "started" and "ended" (or ``settle``)."""
        return self._speaking

    @property
    def speech_ms(self) -> int:
        """Length of the present utterance without the silence at its end."""
        return max(0, self._length * FRAME_MS - self._vad.quiet_ms)

    def utterance(self) -> bytes:
        """The present utterance's audio, or the last one's: with a little of the line before it."""
        return b"".join(self._frames)

    def settle(self) -> None:
        """The utterance is dealt with before it ended; whatever is said from now on is a new one."""
        self._speaking = False
        self._fresh_frames = 0

    def feed(self, frame: bytes) -> Change | None:
        change = self._vad.feed(frame)
        if not self._speaking:
            self._preroll.append(frame)
            return self._start() if change == "started" or self._starts_afresh() else None
        self._length += 1
        if self._length * FRAME_MS <= MAX_UTTERANCE_MS:
            self._frames.append(frame)
        if change == "stopped":
            self._speaking = False
            return "ended"
        return self._pause_or_resume()

    def _starts_afresh(self) -> bool:
        self._fresh_frames = self._fresh_frames + 1 if self._vad.speaking and self._vad.heard else 0
        return self._fresh_frames >= _FRESH_START_FRAMES

    def _start(self) -> Change:
        self._speaking = True
        self._paused = False
        self._frames = list(self._preroll)
        self._preroll.clear()
        self._length = _FRESH_START_FRAMES
        return "started"

    def _pause_or_resume(self) -> Change | None:
        if not self._paused and self._vad.quiet_ms >= PAUSE_MS:
            self._paused = True
            return "paused"
        if self._paused and self._vad.heard:
            self._paused = False
            return "resumed"
        return None
