"""An answer that comes word by word, cut into what a voice can say well: sentences, the first of them early. Pure.

What only a screen can show (markdown, emoji) is taken out.
"""

from __future__ import annotations

import re

FIRST_CLAUSE_CHARS = 16
"""The first piece may be a clause of so many characters: the caller waits for it."""

SENTENCE_CHARS = 24
"""Later sentences that are shorter go with the next one: a voice finds no melody for "Yes."."""

CLAUSE_CHARS = 140
"""A sentence that is longer is cut at a clause: the voice would wait for its end."""

MAX_CHARS = 400
"""No voice is given more at once; it is cut between words."""

_SENTENCE_END = re.compile(r"""[.!?…]+["'”’)\]*_]*(?=\s)|[。！？]+["'”’)\]」』]*|\n+""")
_CLAUSE_END = re.compile(r"""[,;:]["'”’)\]*_]*(?=\s)|\s[–—](?=\s)|[，、；：]""")

_ABBREVIATION = re.compile(
    r"""(?:^|[\s("'])(?:
        mr|mrs|ms|dr|prof|st|sr|jr|vs|approx|no|nos|dept|est|fig|vol|inc|ltd|co|corp|ave|blvd|rd|ext|tel|a\.m|p\.m|
        e\.g|i\.e|etc|cf|al|u\.s|u\.k|
        z\.\s?b|d\.\s?h|u\.\s?a|bzw|ca|usw|str|nr|hr|fr|inkl|evtl|ggf|tel|
        m|mme|mlle|sra|srta|dra|ud|sig|dott|
        jan|feb|mar|apr|jun|jul|aug|sep|sept|oct|nov|dec|mon|tue|wed|thu|fri|sat|sun|
        \w|\d{1,2}
    )\.$""",
    re.IGNORECASE | re.VERBOSE,
)
"""Ends with a point and is no end of a sentence: known short forms, initials, ordinals and numbers of lists."""

_MARKDOWN = (
    (re.compile(r"!?\[([^\]]*)\]\([^)]*\)"), r"\1"),  # links and images
    (re.compile(r"```\w*|`+"), ""),
    (re.compile(r"^\s{0,3}#{1,6}\s+", re.MULTILINE), ""),
    (re.compile(r"^\s*[-*+•]\s+", re.MULTILINE), ""),
    (re.compile(r"^\s*>\s?", re.MULTILINE), ""),
    (re.compile(r"^\s*\|?[\s:|-]{3,}\|?\s*$", re.MULTILINE), ""),
    (re.compile(r"\*{1,3}(?=\S)|(?<=\S)\*{1,3}|~~"), ""),
    (re.compile(r"(?<!\w)_{1,3}(?=\S)|(?<=\S)_{1,3}(?!\w)"), ""),
    (re.compile(r"\s*\|\s*"), " "),
)

_EMOJI = re.compile(
    "[\U0001f000-\U0001faff\u2600-\u27bf\u2b00-\u2bff\u2190-\u21ff\u25a0-\u25ff\ufe0e\ufe0f\u200d\u20e3\U000e0020-\U000e007f]"
)

_SPACE = re.compile(r"\s+")


class Chunker:
    """One answer. Pieces end with the blank that followed them, so that they can be joined as they are."""

    def __init__(self) -> None:
        self._text = ""
        self._first = True

    def feed(self, text: str) -> list[str]:
        """The pieces that are whole now."""
        self._text += text
        pieces: list[str] = []
        while (end := self._end()) is not None:
            piece, self._text = self._text[:end], self._text[end:].lstrip()
            self._add(piece + " ", pieces)
        return pieces

    def finish(self) -> list[str]:
        """The answer is over."""
        pieces: list[str] = []
        self._add(self._text, pieces)
        self._text = ""
        return pieces

    def _add(self, raw: str, pieces: list[str]) -> None:
        spoken = speakable(raw)
        if any(char.isalnum() for char in spoken):
            pieces.append(spoken)
            self._first = False

    def _end(self) -> int | None:
        """Where the first piece ends: at a sentence, at a clause where that is worth it, or at last anywhere."""
        sentence = self._sentence_end()
        if sentence is not None and not self._first:
            return sentence
        clause_chars = FIRST_CLAUSE_CHARS if self._first else CLAUSE_CHARS
        clause = next((m.end() for m in _CLAUSE_END.finditer(self._text) if m.end() >= clause_chars), None)
        ends = [end for end in (sentence, clause) if end is not None]
        if not ends and len(self._text) > MAX_CHARS:
            blank = self._text.rfind(" ", 1, MAX_CHARS)
            return blank if blank > 0 else MAX_CHARS
        return min(ends, default=None)

    def _sentence_end(self) -> int | None:
        least = 1 if self._first else SENTENCE_CHARS
        for match in _SENTENCE_END.finditer(self._text):
            if match.end() >= least and not _ABBREVIATION.search(self._text[: match.end()][-12:]):
                return match.end()
        return None


def speakable(text: str) -> str:
    """Without markdown and emoji, blanks made single; a blank at the end is kept."""
    for pattern, replacement in _MARKDOWN:
        text = pattern.sub(replacement, text)
    return _SPACE.sub(" ", _EMOJI.sub("", text)).lstrip()


def sentences(text: str) -> list[str]:
    """``text`` word for word, in pieces that a voice takes at once; joined they are the text again."""
    pieces: list[str] = []
    while len(text) > MAX_CHARS:
        ends = [match.end() for match in _SENTENCE_END.finditer(text, 0, MAX_CHARS)]
        end = ends[-1] if ends else text.rfind(" ", 1, MAX_CHARS)
        end = end if end > 0 else MAX_CHARS
        pieces.append(text[:end])
        text = text[end:]
    return [*pieces, text] if text.strip() else pieces
