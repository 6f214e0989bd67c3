"""What one says along with somebody, and what stops him."""

from __future__ import annotations

import pytest

from offhook.bridge.backchannels import is_backchannel, is_sound, same_words


@pytest.mark.parametrize(
    "text",
    [
        *("", "mm-hm", "Mm-hmm.", "Uh-huh, okay.", "yes", "Yeah, yeah, yeah!", "OK", "I see.", "All right"),
        *("That’s right.", "[cough]", "(laughs) yes", "<noise>", "M. M. H. M.", "Ja, genau.", "Alles klar"),
        *("Sí, claro que sí", "D'accord", "Oui, oui", "c’est ça", "va bene", "tá bom", "ja hoor", "да, понятно"),
        *("はい。", "うん、うん", "嗯。", "네", "हाँ", "نعم"),
    ],
)  # fmt: skip
def test_says_go_on(text: str) -> None:
    assert is_backchannel(text)


@pytest.mark.parametrize(
    "text",
    [
        *("stop", "Wait, stop.", "no", "No, wait a minute.", "hold on", "okay but listen", "hello?"),
        *("yes I would like to", "Moment mal", "halt", "nein", "espera", "no", "attendez", "aspetta", "what?"),
        *("нет", "待って", "等一下"),
        "yeah yeah yeah yeah yeah yeah yeah",
    ],
)  # fmt: skip
def test_says_something(text: str) -> None:
    assert not is_backchannel(text)


@pytest.mark.parametrize("text", ["", "Mm-hm.", "uh-huh", "Ähm…", "[cough]", "er, um, er, um, er, um, er"])
def test_says_nothing_at_all(text: str) -> None:
    assert is_sound(text)


@pytest.mark.parametrize("text", ["yes", "um, yes", "ja"])
def test_says_a_word(text: str) -> None:
    assert not is_sound(text)


def test_words_are_the_same_however_they_are_written() -> None:
    assert same_words("What’s the time?", "what's the  TIME")
    assert not same_words("what is the time", "what is the day")
