from __future__ import annotations

from datetime import datetime

import pytest

from offhook.bridge.local.rules import (
    ABILITIES,
    GOODBYE,
    NOT_UNDERSTOOD,
    SILENCE,
    Memory,
    Reply,
    ToolUse,
    date_of,
    pressed,
    reply,
    time_of,
)

EVENING = datetime(2026, 11, 20, 21, 47)


def answer(utterance: str, *, now: datetime = EVENING, memory: Memory | None = None) -> Reply:
    return reply(utterance, now, memory or Memory())[0]


@pytest.mark.parametrize(
    ("hour", "minute", "said"),
    [
        (0, 0, "12 AM"), (0, 5, "12:05 AM"), (9, 5, "9:05 AM"), (12, 0, "12 PM"), (13, 30, "1:30 PM"),
        (23, 59, "11:59 PM"),
    ],
)  # fmt: skip
def test_time_on_a_twelve_hour_clock(hour: int, minute: int, said: str) -> None:
    assert time_of(datetime(2026, 1, 1, hour, minute)) == said


def test_date_with_weekday() -> None:
    assert date_of(EVENING) == "Friday, November 20, 2026"
    assert date_of(datetime(2027, 1, 1)) == "Friday, January 1, 2027"


def test_tells_time_and_date() -> None:
    assert answer("could you tell me the time") == Reply(text="It is 9:47 PM.")
    assert answer("what day is it today") == Reply(text="Today is Friday, November 20, 2026.")


def test_says_goodbye_and_ends_the_call() -> None:
    assert answer("good bye") == Reply(text=GOODBYE, tool=ToolUse(name="end_call"))


def test_repeats_what_it_is_asked_to_say() -> None:
    assert answer("say hello world") == Reply(text="Hello world.")


def test_gives_free_speech_back() -> None:
    assert answer("my name is john") == Reply(text="You said: my name is john.")


@pytest.mark.parametrize("utterance", ["stop", "wait a moment", "mm-hm", "okay"])
def test_is_silent_when_told_to_stop_or_only_encouraged(utterance: str) -> None:
    assert answer(utterance) == SILENCE


def test_says_what_it_can_do() -> None:
    assert answer("help") == Reply(text=ABILITIES)


def test_says_what_it_can_do_when_lost_twice_in_a_row() -> None:
    first, memory = reply("", EVENING, Memory())
    second, memory = reply("", EVENING, memory)
    third, _ = reply("", EVENING, memory)
    assert first.text.startswith(NOT_UNDERSTOOD)
    assert ABILITIES not in first.text
    assert second.text == f"{NOT_UNDERSTOOD} {ABILITIES}"
    assert third == first


def test_being_understood_once_forgets_that_it_was_lost() -> None:
    _, memory = reply("", EVENING, Memory())
    _, memory = reply("what time is it", EVENING, memory)
    again, _ = reply("", EVENING, memory)
    assert ABILITIES not in again.text


def test_repeats_its_last_answer_as_far_as_it_was_heard() -> None:
    assert answer("repeat that", memory=Memory(last_said="It is 9:47")) == Reply(text="It is 9:47")
    assert answer("repeat that") == SILENCE


@pytest.mark.parametrize(
    ("digits", "text"),
    [
        ("5", "You pressed 5."), ("12#", "You pressed 1 2 pound."), ("*", "You pressed star."),
        ("A", "You pressed A."), ("", ""),
    ],
)  # fmt: skip
def test_reads_keys_back_one_by_one(digits: str, text: str) -> None:
    assert pressed(digits) == Reply(text=text)
