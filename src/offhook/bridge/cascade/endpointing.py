"""When the caller begins, pauses and has finished, by the sound alone, for recognisers that do not say. Pure.

Energy against the line's noise floor (``audio.vad``). A turn model would be better at thinking pauses; the one that is
freely bundled comes inside a framework's package of many dependencies, so there is none here.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal

from offhook.audio.vad import VoiceActivityDetector
from offhook.model.audio import FRAME_MS, Encoding

START_MS = 100
"""Speech that is shorter is a click or a cough."""

EAGER_MS = 280
"""Silence after which an answer is begun on trial: longer than the gap in "what time | is it"."""

END_MS = 600
"""Silence after which the caller has finished. Shorter cuts people off who think; longer feels slow."""

PREROLL_MS = 300
"""Kept from before the detector decided: its attack and the soft beginning of a word."""

MAX_TURN_MS = 60_000
"""A turn ends then, whatever is said: noise that is taken for speech, or a caller who dictates."""

Change = Literal["began", "paused", "resumed", "ended"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Pauses:
    """``eager_ms`` of silence: a trial; ``end_ms``: the end."""

    eager_ms: int = EAGER_MS
    end_ms: int = END_MS


class Endpointer:
    """Follows one caller, 20 ms at a time: PCMU or PCMA at 8 kHz, or L16 at 16 kHz."""

    def __init__(self, encoding: Encoding, pauses: Pauses | None = None) -> None:
        pauses = pauses or Pauses()
        self._vad = VoiceActivityDetector(encoding, hangover_ms=pauses.end_ms)
        self._eager_ms = pauses.eager_ms
        self._before: deque[bytes] = deque(maxlen=(PREROLL_MS + START_MS) // FRAME_MS)
        self._frames: list[bytes] = []
        self._speech_ms = 0
        self._phase: Literal["silence", "speech", "pause"] = "silence"
        self._deaf = False  # until the line is silent: a turn was ended by its length

    @property
    def speech_ms(self) -> int:
        """Of the present turn, or the last one: frames that carried speech."""
        return self._speech_ms

    def turn(self) -> bytes:
        """The audio of the present turn, or the last one, with a little of the line before it."""
        return b"".join(self._frames)

    def feed(self, frame: bytes) -> Change | None:
        change = self._vad.feed(frame)
        if self._phase == "silence":
            return self._wait(frame, change)
        self._frames.append(frame)
        self._speech_ms += FRAME_MS if self._vad.heard else 0
        if change == "stopped" or len(self._frames) * FRAME_MS >= MAX_TURN_MS:
            self._deaf = change != "stopped"
            return self._end()
        return self._pause_or_resume()

    def _wait(self, frame: bytes, change: str | None) -> Change | None:
        self._before.append(frame)
        if change == "stopped" or self._deaf:
            self._deaf = self._deaf and change != "stopped"
            self._speech_ms = 0
            return None
        if change == "started":
            self._speech_ms = 0
        if not self._vad.speaking:
            return None
        self._speech_ms += FRAME_MS if self._vad.heard else 0
        if self._speech_ms < START_MS:
            return None
        self._phase = "speech"
        self._frames = list(self._before)
        return "began"

    def _pause_or_resume(self) -> Change | None:
        if self._phase == "speech" and self._vad.quiet_ms >= self._eager_ms:
            self._phase = "pause"
            return "paused"
        if self._phase == "pause" and self._vad.quiet_ms == 0:
            self._phase = "speech"
            return "resumed"
        return None

    def _end(self) -> Change:
        self._phase = "silence"
        self._before.clear()
        return "ended"
