"""One utterance of the agent: its text, its audio, and which words were heard after so many milliseconds. Pure."""

from __future__ import annotations

from bisect import bisect_right

SEARCH_CHARS = 80
"""A word that a voice names is looked for so far ahead; voices that spell numbers out name words that are not there."""

LONGEST_WORD_CHARS = 40
"""Longer ones are of a language that writes no blanks."""


class Utterance:
    """``said`` grows piece by piece; ``align`` tells where in the audio its words are, where the voice knows."""

    def __init__(self) -> None:
        self.said = ""
        self.audio_ms = 0.0
        self.complete = False
        """All its audio came: what is not placed by then was spread over it."""
        self._places: list[tuple[int, int]] = []  # (at_ms, offset in said)
        self._cursor = 0

    def say(self, text: str) -> None:
        self.said += text

    def align(self, text: str, at_ms: int) -> str:
        """The words up to the end of ``text`` that were not told before; "" when ``text`` is not in what was said."""
        wanted = text.strip()
        at = self.said.find(wanted, self._cursor, self._cursor + SEARCH_CHARS + len(wanted)) if wanted else -1
        if at < 0:
            return ""
        while self._places and self._places[-1][0] > at_ms:  # estimates, and this is known
            self._places.pop()
        self._places.append((at_ms, at))
        before, self._cursor = self._cursor, at + len(wanted)
        return self.said[before : self._cursor]

    def rest(self) -> str:
        """What ``align`` has not told of."""
        return self.said[self._cursor :]

    def heard(self, played_ms: float) -> str:
        """The words whose sound had begun; between two known places by their share of the time."""
        if played_ms <= 0:
            return ""
        if self.complete and played_ms >= self.audio_ms:
            return self.said.rstrip()
        index = bisect_right(self._places, played_ms, key=lambda place: place[0]) - 1
        from_ms, start = self._places[index] if index >= 0 else (0, 0)
        to_ms, end = (
            self._places[index + 1] if index + 1 < len(self._places) else (max(self.audio_ms, 1.0), len(self.said))
        )
        share = min(1.0, (played_ms - from_ms) / max(1.0, to_ms - from_ms))
        return _whole_words(self.said, start + int((end - start) * share))


def _whole_words(said: str, reached: int) -> str:
    """Up to the end of the word that had begun by then: half a word was understood as one."""
    if reached >= len(said):
        return said.rstrip()
    blank = said.find(" ", reached)
    if blank < 0:
        blank = len(said)
    end = blank if blank - reached <= LONGEST_WORD_CHARS else reached
    return said[:end].rstrip()
