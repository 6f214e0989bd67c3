"""The actor of all simulators, without any wire."""

from __future__ import annotations

import pytest

from offhook.simulators.actor import Actor, Answer
from offhook.simulators.script import Script, Turn


def answer_to(text: str) -> str:
    (deed,) = Actor(Script(turns=(Turn(hears="weather", says="It rains."),))).read(text)
    assert isinstance(deed, Answer)
    return deed.text


@pytest.mark.parametrize(
    "asked",
    [
        'Say exactly: "Let me look."',
        '[Say exactly these words to the caller, and nothing else: "Let me look."]',
        '<instruction>Say this to the caller: "Let me look."</instruction>',
        "<instruction>Say this to the caller: Let me look.</instruction>",
        "[Tell the caller this, in your own words: Let me look.]",
    ],
)
def test_what_it_is_asked_to_say_it_says(asked: str) -> None:
    assert answer_to(asked) == "Let me look."


def test_what_its_next_turn_is_about_it_answers_by_that() -> None:
    assert answer_to("And the weather?") == "It rains."


def test_all_else_it_repeats() -> None:
    assert answer_to("The line is bad. Tell the caller.") == "You wrote: The line is bad. Tell the caller."
