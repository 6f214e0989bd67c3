"""Texts written in the caller's place: told from his own words, sent again when they were refused."""

from __future__ import annotations

from offhook.bridge.deepgram_written import MAX_REPEATS, MAX_WRITTEN, REPEAT_FRAMES, WrittenTexts


def test_what_comes_back_is_ours_once() -> None:
    texts = WrittenTexts()
    texts.add("The order is on its way.")
    assert texts.came_back("The order is on its way.")
    assert not texts.came_back("The order is on its way.")
    assert not texts.came_back("Hello?")


def test_an_answer_ends_the_wait_for_what_was_written() -> None:
    texts = WrittenTexts()
    texts.add("one")
    texts.answered()
    assert not texts.came_back("one")


def test_the_last_text_that_was_refused_is_due_after_a_pause_and_once() -> None:
    texts = WrittenTexts()
    texts.add("one")
    texts.add("two")
    texts.refused(100)
    assert not texts.is_due(100 + REPEAT_FRAMES - 1)
    assert texts.is_due(100 + REPEAT_FRAMES)
    assert texts.take_again() == "two"
    assert texts.take_again() == ""
    assert not texts.is_due(10_000)


def test_a_text_is_repeated_so_often_and_a_new_one_begins_anew() -> None:
    texts = WrittenTexts()
    texts.add("one")
    for _ in range(MAX_REPEATS):
        texts.refused(1)
        texts.add(texts.take_again(), again=True)
    texts.refused(1)
    assert texts.take_again() == ""
    texts.add("two")
    texts.refused(1)
    assert texts.take_again() == "two"


def test_only_so_many_are_remembered() -> None:
    texts = WrittenTexts()
    for number in range(MAX_WRITTEN + 1):
        texts.add(str(number))
    assert not texts.came_back("0")
    assert texts.came_back(str(MAX_WRITTEN))
