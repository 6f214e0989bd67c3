"""Takes ``<think>…</think>`` out of a streamed answer: thoughts are not for the caller's ear. Pure."""

from __future__ import annotations

_OPEN, _CLOSE = "<think>", "</think>"


class ThoughtFilter:
    def __init__(self) -> None:
        self._rest = ""
        self._thinking = False
        self._begun = False

    def feed(self, text: str) -> str:
        """What of the answer is sure to be no thought."""
        self._rest += text
        said = ""
        while True:
            tag = _CLOSE if self._thinking else _OPEN
            before, found, after = self._rest.partition(tag)
            if not found:
                break
            said += "" if self._thinking else before
            self._rest = after
            self._thinking = not self._thinking
        keep = _overlap(self._rest, tag)
        if not self._thinking:
            said += self._rest[: len(self._rest) - keep]
        self._rest = self._rest[len(self._rest) - keep :]
        return self._without_leading_space(said)

    def end(self) -> str:
        """The answer is over: what looked like the beginning of a tag was none."""
        rest, self._rest = self._rest, ""
        return "" if self._thinking else self._without_leading_space(rest)

    def _without_leading_space(self, said: str) -> str:
        """Thoughts are followed by blank lines."""
        said = said if self._begun else said.lstrip()
        self._begun = self._begun or bool(said)
        return said


def _overlap(text: str, tag: str) -> int:
    """How many characters at the end of ``text`` may be the beginning of ``tag``."""
    return next((n for n in range(min(len(text), len(tag) - 1), 0, -1) if tag.startswith(text[-n:])), 0)
