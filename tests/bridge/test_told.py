"""What a model is told in words, and how much of what was said."""

from __future__ import annotations

from offhook.bridge.codec import Utterance
from offhook.bridge.told import MAX_CHARACTERS, MAX_UTTERANCES, newest


def said(text: str) -> Utterance:
    return Utterance(speaker="caller", text=text)


def test_the_newest_utterances_are_told_in_their_order() -> None:
    told = newest([said(str(number)) for number in range(2 * MAX_UTTERANCES)])
    assert [one.text for one in told] == [str(number) for number in range(MAX_UTTERANCES, 2 * MAX_UTTERANCES)]


def test_no_utterance_is_told_in_part() -> None:
    half = "x" * (MAX_CHARACTERS // 2)
    assert newest([said(half), said(half), said("y")]) == [said(half), said("y")]
    assert newest([said("z" * (MAX_CHARACTERS + 1))]) == []
