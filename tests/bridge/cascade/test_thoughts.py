"""Thoughts are not for the caller's ear."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.bridge.cascade.thoughts import ThoughtFilter


def filtered(*pieces: str) -> str:
    thoughts = ThoughtFilter()
    return "".join([thoughts.feed(piece) for piece in pieces] + [thoughts.end()])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<think>Hm.</think>\n\nYes.", "Yes."),
        ("Yes. <think>more</think>No.", "Yes. No."),
        ("a < b", "a < b"),
        ("ends with <thi", "ends with <thi"),
        ("<think>for ever", ""),
    ],
)
def test_thoughts_are_left_out(text: str, said: str) -> None:
    assert filtered(text) == said
    assert filtered(*text) == said


@given(st.lists(st.sampled_from(["<think>", "</think>", "<", "think>", "a", " "]), max_size=12), st.integers(1, 5))
def test_how_it_arrives_does_not_matter(parts: list[str], step: int) -> None:
    text = "".join(parts)
    assert filtered(*[text[at : at + step] for at in range(0, len(text), step)]) == filtered(text)
