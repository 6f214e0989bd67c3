"""Answers cut into what a voice can say well."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.bridge.cascade.chunker import MAX_CHARS, Chunker, sentences, speakable

ALPHABET = st.text(alphabet="ab .,!?\n*#_`[]()1<>:é。、|-~", max_size=200)


def chunked(*pieces: str) -> list[str]:
    chunker = Chunker()
    return [chunk for piece in pieces for chunk in chunker.feed(piece)] + chunker.finish()


def test_the_first_clause_goes_early_and_later_sentences_whole() -> None:
    text = "Well of course I can, if you tell me your name. Yes. I have a table at the window, and one outside."
    assert chunked(text) == [
        "Well of course I can, ",
        "if you tell me your name. ",
        "Yes. I have a table at the window, and one outside.",
    ]


def test_a_short_first_sentence_does_not_wait() -> None:
    assert chunked("Hi! ", "How are you today?") == ["Hi! ", "How are you today?"]


@pytest.mark.parametrize(
    "text",
    [
        "Dr. Smith is here.",
        "It costs 3.50 euros.",
        "We close at 5 p.m. on Sundays.",
        "Ask for J. Doe, e.g. by mail.",
        "Am 3. Mai um z.B. acht.",
    ],
)
def test_points_that_end_no_sentence(text: str) -> None:
    assert "".join(chunked("So be it now. ", text)) == f"So be it now. {text}"
    assert chunked("So be it now. ", text)[1:] == [text]


def test_markdown_and_emoji_are_not_spoken() -> None:
    text = "## Menu\n- **Pizza** 🍕\n- [Pasta](http://x.y/z)\n```\n`rice`"
    assert "".join(chunked(text)) == "Menu Pizza Pasta rice"
    assert chunked("🎉", "\n\n", "***") == []


def test_languages_without_blanks_are_cut_as_well() -> None:
    assert (
        chunked("こんにちは。お元気ですか。今日はとても良い天気ですね、散歩に行きましょう。")[0].strip()
        == "こんにちは。"
    )


def test_a_sentence_without_an_end_is_cut_between_words() -> None:
    chunks = chunked("word " * 300)
    assert all(len(chunk) <= MAX_CHARS + 1 for chunk in chunks)
    assert "".join(chunks).split() == ["word"] * 300


@given(ALPHABET, st.lists(st.integers(0, 200), max_size=5))
def test_how_it_arrives_changes_no_word(text: str, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[a:b] for a, b in pairwise(edges)]
    plain = "".join(c if c.isalnum() else " " for c in "".join(chunked(*pieces)))
    whole = "".join(c if c.isalnum() else " " for c in "".join(chunked(*text)))
    assert plain.split() == whole.split()


@given(st.text(max_size=900))
def test_verbatim_text_is_never_changed(text: str) -> None:
    pieces = sentences(text)
    assert "".join(pieces) == text or not text[len("".join(pieces)) :].strip()
    assert all(len(piece) <= MAX_CHARS for piece in pieces)


def test_plain_text_is_left_alone() -> None:
    assert speakable("2 * 3 is 6, snake_case stays & so on.") == "2 * 3 is 6, snake_case stays & so on."
