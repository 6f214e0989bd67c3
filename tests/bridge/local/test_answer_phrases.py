"""Which words decide who speaks; and whether they are heard in speech of our own voice."""

from __future__ import annotations

import pytest

from offhook.bridge.local.answer_phrases import STILL_SCREENING, THRESHOLDS, TOPICS, who_says


@pytest.mark.parametrize(
    ("phrases", "says"),
    [
        (["leave a message"], "voicemail"),
        (["not available", "after the tone"], "voicemail"),
        (["state your name"], "screening"),
        (["state your name", "after the tone"], "screening"),
        (["who is calling", "try to connect"], "screening"),
        (["how can i help"], "human"),
        (["say your name", "leave a message", "not available"], "voicemail"),
    ],
)
def test_what_weighs_most_decides(phrases: list[str], says: str) -> None:
    found = who_says(phrases)
    assert found is not None
    assert found[0] == says
    assert found[1] in phrases


@pytest.mark.parametrize(
    "phrases", [[], ["not available"], ["who is calling"], ["after the tone", "at the tone"], ["?"]]
)
def test_too_little_decides_nothing(phrases: list[str]) -> None:
    assert who_says(phrases) is None


def test_a_greeting_that_asks_for_a_name_is_a_voicemail() -> None:
    found = who_says(["say your name", "leave a message"])
    assert found == ("voicemail", "leave a message")


def test_each_phrase_stands_in_one_topic() -> None:
    assert len(THRESHOLDS) == sum(len(phrases) for phrases in (*(topic.phrases for topic in TOPICS), STILL_SCREENING))
    assert all(phrase == phrase.lower() for phrase in THRESHOLDS)
