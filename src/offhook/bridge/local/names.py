"""Which of an agent's destinations a caller means: names as they are configured against words as they were heard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from difflib import SequenceMatcher

from offhook.bridge.local.phrases import normalised, without_courtesies

ALIKE = 0.75
"""Share of letters in common: "sails" is "sales" (0.8), "tails" is nobody (0.6)."""

CLEARLY = 0.1
"""The best name is so much more alike than the second, or nobody can tell which was meant."""

_BY_PART = 0.05
"""What a name known by one of its words counts less than one known whole."""

_LEAST_LETTERS = 3
"""Of a word by which a longer name may be known: not "of", nor "dr"."""

_TELLS_NOTHING = frozenset(("the", "department", "desk", "office", "team", "mister", "miss", "and", "from", "with"))


def named(words: str, names: Sequence[str]) -> str | None:
    """The one of ``names`` that ``words`` are most like, whole or by one of its words; None for none or several."""
    heard = without_courtesies(normalised(words))
    parts = Counter(part for name in names for part in set(_telling(normalised(name))))
    ranked = sorted(((_likeness(heard, normalised(name), parts), name) for name in names), reverse=True)
    if not heard or not ranked or ranked[0][0] < ALIKE:
        return None
    clearly = len(ranked) == 1 or ranked[0][0] - ranked[1][0] >= CLEARLY
    return ranked[0][1] if clearly else None


def called_by_name(utterance: str, names: Sequence[str]) -> str | None:
    """The one whose name ``utterance`` is, and nothing more."""
    bare = without_courtesies(normalised(utterance))
    return next((name for name in names if bare and bare == normalised(name)), None)


def mentioned(utterance: str, names: Sequence[str]) -> str | None:
    """The one whose name is among the words, whole; the longest, where one is a part of another."""
    text = f" {normalised(utterance)} "
    found = [name for name in names if f" {normalised(name)} " in text and normalised(name)]
    return max(found, key=len, default=None)


def listed(names: Sequence[str]) -> str:
    """``sales, support or Anna``."""
    return " or ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def _likeness(heard: str, name: str, parts: Counter[str]) -> float:
    """From 0 to 1. A word that several names share tells none of them."""
    telling = [part for part in _telling(name) if parts[part] == 1]
    by_part = max((_ratio(word, part) for word in _telling(heard) for part in telling), default=0.0)
    return max(_ratio(heard, name), by_part - _BY_PART)


def _telling(text: str) -> list[str]:
    return [word for word in text.split() if len(word) >= _LEAST_LETTERS and word not in _TELLS_NOTHING]


def _ratio(one: str, other: str) -> float:
    return SequenceMatcher(None, one.replace(" ", ""), other.replace(" ", ""), autojunk=False).ratio()
