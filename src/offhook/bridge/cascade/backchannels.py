"""Sounds and words that say "I listen" and ask for no answer. Pure."""

from __future__ import annotations

import re

SOUNDS = frozenset(
    [
        "mm",
        "mhm",
        "mmhm",
        "mmhmm",
        "hm",
        "hmm",
        "mmm",
        "uhhuh",
        "uh",
        "um",
        "er",
        "erm",
        "ah",
        "aha",
        "oh",
        "huh",
        "ehm",
        "äh",
        "ähm",
        "öhm",
        "hein",
    ]
)
"""Say nothing at all, wherever they come."""

WORDS = frozenset(
    [
        "yeah",
        "yep",
        "yes",
        "ok",
        "okay",
        "right",
        "sure",
        "good",
        "great",
        "alright",
        "ja",
        "genau",
        "gut",
        "si",
        "sí",
        "oui",
        "voilà",
        "certo",
    ]
)
"""Say "go on" while the agent speaks, but are answers when it has asked."""

MOST_WORDS = 3

_WORD = re.compile(r"[^\W_]+")


def is_sound(text: str) -> bool:
    """Not a word in it; nothing at all counts too."""
    words = _words(text)
    return all(word in SOUNDS for word in words)


def is_backchannel(text: str) -> bool:
    """Said over the agent it is no turn."""
    words = _words(text)
    return len(words) <= MOST_WORDS and all(word in SOUNDS or word in WORDS for word in words)


def same_words(one: str, other: str) -> bool:
    """The same but for letters' case and punctuation."""
    return _plain(one) == _plain(other)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower().replace("-", "").replace("'", ""))


def _plain(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())
