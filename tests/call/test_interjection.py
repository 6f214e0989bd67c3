"""A turn, or only an "mm-hm": told with lengths, words and a recogniser's verdicts."""

from __future__ import annotations

import pytest

from offhook.call.interjection import (
    AWAIT_RECOGNISER_MS,
    AWAIT_WORDS_MS,
    END_MS,
    PERHAPS_A_TURN_MS,
    SURELY_A_TURN_MS,
    Interjection,
)
from offhook.model.audio import FRAME_MS


def said(ms: int, *, words_come: bool = True, foreign: bool = False) -> Interjection:
    interjection = Interjection(words_come=words_come, foreign=foreign)
    for _ in range(ms // FRAME_MS):
        interjection.hear(sounds=True)
    return interjection


def silent(interjection: Interjection, ms: int) -> None:
    for _ in range(ms // FRAME_MS):
        interjection.hear(sounds=False)


def verdict_after(interjection: Interjection, limit_ms: int = 5000) -> tuple[int, bool | None]:
    """How long it is silent before there is a verdict, and which."""
    for quiet_ms in range(0, limit_ms, FRAME_MS):
        if (verdict := interjection.verdict()) is not None:
            return quiet_ms, verdict
        interjection.hear(sounds=False)
    return limit_ms, None


def test_long_speech_is_a_turn_whatever_it_was() -> None:
    assert said(SURELY_A_TURN_MS - FRAME_MS).verdict() is None
    assert said(SURELY_A_TURN_MS).verdict() is True


def test_where_nobody_tells_words_the_length_decides() -> None:
    assert verdict_after(said(500, words_come=False)) == (END_MS, False)
    assert verdict_after(said(PERHAPS_A_TURN_MS, words_come=False)) == (0, True)


@pytest.mark.parametrize("ms", [300, 1300])
def test_words_that_do_not_come_are_not_waited_for_without_end(ms: int) -> None:
    assert verdict_after(said(ms)) == (END_MS + AWAIT_WORDS_MS, ms >= PERHAPS_A_TURN_MS)


def test_a_backchannel_lets_the_agent_go_on_as_soon_as_the_caller_pauses() -> None:
    interjection = said(1300)
    interjection.read("1", "Mm-hm.", final=True)
    assert interjection.verdict() is None
    assert verdict_after(interjection) == (160, False)


def test_words_of_a_turn_decide_at_once() -> None:
    interjection = said(200)
    interjection.read("1", "Wait, stop.", final=True)
    assert interjection.verdict() is True


def test_a_word_that_is_not_whole_decides_nothing() -> None:
    interjection = said(200)
    for piece in ("O", "kay", " ye", "ah"):
        interjection.read("1", piece, final=False)
        assert interjection.verdict() is None
    interjection.read("1", " but", final=False)
    assert interjection.verdict() is None
    interjection.read("1", " no", final=False)
    assert interjection.verdict() is True


def test_a_turn_after_a_backchannel_is_a_turn() -> None:
    interjection = said(200)
    interjection.read("1", "Okay.", final=True)
    interjection.read("2", "Stop.", final=True)
    assert interjection.verdict() is True


def test_words_of_an_utterance_before_are_not_this_ones() -> None:
    interjection = said(300, foreign=True)
    interjection.read("before", "What is", final=False)
    interjection.read("before", "What is the weather in Ulm?", final=True)
    interjection.read("before", "What is the weather in Ulm?", final=True)
    assert interjection.verdict() is None
    interjection.read("this", "mm-hm", final=True)
    silent(interjection, 200)
    assert interjection.verdict() is False


def test_the_recogniser_is_asked_when_a_pause_begins_and_again_after_more() -> None:
    interjection = said(300)
    assert [interjection.hear(sounds=False) for _ in range(10)].count(True) == 1
    interjection.hear(sounds=True)
    assert [interjection.hear(sounds=False) for _ in range(10)].count(True) == 1


@pytest.mark.parametrize("genuine", [True, False])
def test_the_recogniser_decides_where_words_do_not_come(genuine: bool) -> None:
    interjection = said(300)
    silent(interjection, 160)
    interjection.await_recogniser()
    assert interjection.verdict() is None
    interjection.recognise(genuine)
    assert interjection.verdict() is genuine


def test_a_recogniser_that_knows_nothing_or_is_late_leaves_it_to_the_length() -> None:
    for late in (False, True):
        interjection = said(300, words_come=False)
        silent(interjection, 160)
        interjection.await_recogniser()
        if not late:
            interjection.recognise(None)
        quiet_ms, verdict = verdict_after(interjection)
        assert verdict is False
        assert quiet_ms <= END_MS + AWAIT_RECOGNISER_MS


def test_a_verdict_on_half_of_it_does_not_count_for_the_whole() -> None:
    interjection = said(300)
    silent(interjection, 160)
    interjection.await_recogniser()
    interjection.recognise(False)
    for _ in range(10):
        interjection.hear(sounds=True)
    assert interjection.verdict() is None
    silent(interjection, 160)
    interjection.await_recogniser()
    assert interjection.verdict() is None
    interjection.recognise(True)
    assert interjection.verdict() is True
