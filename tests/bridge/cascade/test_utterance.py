"""Which words of an utterance were heard."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.bridge.cascade.utterance import Utterance

TEXT = "It is twenty past four in Ulm."


def spoken(audio_ms: float = 3000, places: tuple[tuple[str, int], ...] = ()) -> Utterance:
    utterance = Utterance()
    utterance.say(TEXT)
    utterance.audio_ms, utterance.complete = audio_ms, True
    for text, at_ms in places:
        utterance.align(text, at_ms)
    return utterance


@pytest.mark.parametrize(
    ("played_ms", "heard"),
    [(0, ""), (1, "It"), (900, "It is twenty"), (1500, "It is twenty past"), (2999, TEXT), (4000, TEXT)],
)
def test_by_share(played_ms: int, heard: str) -> None:
    assert spoken().heard(played_ms) == heard


def test_by_the_places_of_words() -> None:
    utterance = spoken(places=(("It", 0), ("is", 200), ("twenty", 2000), ("past", 2400)))
    assert utterance.heard(1900) == "It is"
    assert utterance.heard(2050) == "It is twenty"
    assert utterance.heard(2450) == "It is twenty past"


def test_words_that_were_not_said_are_passed_over() -> None:
    utterance = spoken()
    assert [utterance.align(word, at) for word, at in (("It", 0), ("20", 100), ("past", 300))] == [
        "It",
        "",
        " is twenty past",
    ]
    assert utterance.rest() == " four in Ulm."


def test_estimates_give_way_to_what_is_known() -> None:
    utterance = spoken(places=(("It", 0), ("is", 5000), ("twenty", 1000)))
    assert utterance.heard(1100) == "It is twenty"


@given(st.floats(0, 5000), st.lists(st.tuples(st.sampled_from(TEXT.split()), st.integers(0, 4000)), max_size=6))
def test_what_was_heard_is_a_beginning_of_whole_words(played_ms: float, places: list[tuple[str, int]]) -> None:
    heard = spoken(places=tuple(places)).heard(played_ms)
    assert TEXT.startswith(heard)
    assert heard == TEXT or TEXT[len(heard)] == " " or not heard
