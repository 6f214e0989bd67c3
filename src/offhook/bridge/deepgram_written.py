"""What is written to Deepgram's agent in the caller's place: it comes back as his words, or is refused. Pure."""

from __future__ import annotations

from collections import deque

from offhook.model.audio import FRAME_MS

REPEAT_FRAMES = 1000 // FRAME_MS
"""After a text was refused because somebody spoke; it is sent again with this pause, or when the agent is done."""
MAX_REPEATS = 10

MAX_WRITTEN = 50
"""Texts that may still come back: with an answer they are forgotten."""


class WrittenTexts:
    """Of one session. ``frame``: the caller's frames so far, which are the clock."""

    def __init__(self) -> None:
        self._written: deque[str] = deque(maxlen=MAX_WRITTEN)
        self._last = ""
        self._refusals = 0
        self._again_at = 0

    def add(self, text: str, *, again: bool = False) -> None:
        """It is sent now; ``again``: once more, since it was refused."""
        self._written.append(text)
        self._last = text
        if not again:
            self._refusals = 0

    def came_back(self, words: str) -> bool:
        """Whether these words of the caller's are ours."""
        if words not in self._written:
            return False
        self._written.remove(words)
        return True

    def answered(self) -> None:
        """What was written comes back before its answer, or never."""
        self._written.clear()

    def refused(self, frame: int) -> None:
        """Somebody was speaking: the last one is sent again when the agent is done, or in a second."""
        self._refusals += 1
        if self._refusals <= MAX_REPEATS:
            self._again_at = frame + REPEAT_FRAMES

    def is_due(self, frame: int) -> bool:
        return 0 < self._again_at <= frame

    def take_again(self) -> str:
        """The text that is to be sent again; "" for none."""
        waiting, self._again_at = self._again_at, 0
        return self._last if waiting else ""
