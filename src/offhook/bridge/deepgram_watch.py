"""What Deepgram's Voice Agent owes us, and since when: its failures are often silent. Pure; frames are its clock."""

from __future__ import annotations

from typing import Literal

from offhook.audio.vad import VoiceActivityDetector
from offhook.model.audio import FRAME_MS, Encoding

STALL_FRAMES = 8000 // FRAME_MS
"""Of silence after the caller began to speak, without his words: the recogniser has lost them."""

ANSWER_FRAMES = 20_000 // FRAME_MS
"""From the caller's words, or the last tool's result, to anything of the agent's; models think for seconds."""

Lapse = Literal["", "no_words", "no_answer"]


class ServerWatch:
    """``feed`` it every frame of the caller, in the format of ``encoding``; it says once what did not come in time."""

    def __init__(self, encoding: Encoding) -> None:
        self._ear = VoiceActivityDetector(encoding)
        self._awaits: Literal["", "words", "answer"] = ""
        self._waited = 0

    def expect_words(self) -> None:
        """The caller has begun to speak."""
        self._awaits, self._waited = "words", 0

    def expect_answer(self) -> None:
        self._awaits, self._waited = "answer", 0

    def answered(self) -> None:
        if self._awaits == "answer":
            self._awaits = ""

    def feed(self, frame: bytes) -> Lapse:
        if not self._awaits:
            return ""
        self._waited += 1
        if self._awaits == "words":
            return self._listen(frame)
        if self._waited < ANSWER_FRAMES:
            return ""
        self._awaits = ""
        return "no_answer"

    def _listen(self, frame: bytes) -> Lapse:
        """With an ear of our own: while the caller speaks, his words are not late."""
        self._ear.feed(frame)
        if self._ear.heard:
            self._waited = 0
        if self._waited < STALL_FRAMES:
            return ""
        self._awaits = ""
        return "no_words"
