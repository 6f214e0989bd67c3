from __future__ import annotations

import pytest

from offhook.bridge.local.names import called_by_name, listed, mentioned, named

NAMES = ("sales", "technical support", "Anna Schmidt")


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("sales", "sales"),
        ("sails", "sales"),
        ("the sales department please", "sales"),
        ("support", "technical support"),
        ("tech support", "technical support"),
        ("Anna", "Anna Schmidt"),
        ("mr schmidt", "Anna Schmidt"),
        ("marketing", None),
        ("tails", None),
        ("my sister", None),
        ("please", None),
        ("", None),
    ],
)
def test_a_name_is_known_by_its_sound_or_by_a_part(words: str, name: str | None) -> None:
    assert named(words, NAMES) == name


@pytest.mark.parametrize(
    ("words", "name"),
    [("technical", "technical support"), ("sales support", "sales support"), ("support", None)],
)
def test_a_word_that_two_names_share_tells_neither(words: str, name: str | None) -> None:
    assert named(words, ("technical support", "sales support")) == name


def test_names_that_are_nearly_alike_are_not_guessed() -> None:
    assert named("mayer", ("mayor", "maier")) is None
    assert named("anna", ()) is None


def test_called_by_name_means_nothing_but_the_name() -> None:
    assert called_by_name("Technical support, please.", NAMES) == "technical support"
    assert called_by_name("the sales were good", NAMES) is None
    assert called_by_name("", ("",)) is None


def test_mentioned_finds_the_longest_name_in_a_sentence() -> None:
    assert mentioned("connect me to the operator at night", ("operator", "operator at night")) == "operator at night"
    assert mentioned("operators", ("operator",)) is None


@pytest.mark.parametrize(
    ("names", "text"), [(("a",), "a"), (("a", "b"), "a or b"), (("a", "b", "c"), "a, b or c"), ((), "")]
)
def test_lists_names_as_one_says_them(names: tuple[str, ...], text: str) -> None:
    assert listed(names) == text
