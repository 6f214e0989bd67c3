from __future__ import annotations

from datetime import datetime

import pytest

from offhook.bridge.local.rules import (
    ABILITIES,
    CANNOT_TRANSFER,
    DECIDE,
    GOODBYE,
    NOT_UNDERSTOOD,
    SILENCE,
    Memory,
    Reply,
    ToolUse,
    abilities,
    date_of,
    decision,
    is_choice,
    pressed,
    reply,
    reply_to_operator,
    time_of,
    told,
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


# ── handing the caller over ──────────────────────────────────────────────────────────────────────────────

THREE = ("sales", "technical support", "Anna Schmidt")
WHICH = "Whom shall I connect you to: sales, technical support or Anna Schmidt?"
CHOOSING = Memory(choosing=True)


def to(name: str) -> Reply:
    tool = ToolUse(name="transfer_call", destination=name)
    return Reply(text=f"One moment, I connect you to {name}.", tool=tool)


def ask(utterance: str, *names: str, memory: Memory | None = None) -> Reply:
    return reply(utterance, EVENING, memory or Memory(), names)[0]


@pytest.mark.parametrize("utterance", ["transfer me", "operator", "connect me to the moon", "connect me to a person"])
def test_the_only_destination_needs_no_name(utterance: str) -> None:
    assert ask(utterance, "sales") == to("sales")


@pytest.mark.parametrize(
    ("utterance", "name"),
    [
        ("connect me to sales", "sales"),
        ("could you please put me through to the technical support", "technical support"),
        ("i want to talk to anna", "Anna Schmidt"),
    ],
)
def test_connects_to_whom_the_caller_names(utterance: str, name: str) -> None:
    assert ask(utterance, *THREE) == to(name)


@pytest.mark.parametrize(
    "utterance", ["transfer me please", "i want to speak to somebody", "connect me to the moon", "sales"]
)
def test_asks_which_one_until_it_knows(utterance: str) -> None:
    asked, memory = reply(utterance, EVENING, Memory(), THREE)
    assert asked == Reply(text=WHICH)
    assert reply("tech support please", EVENING, memory, THREE) == (to("technical support"), Memory())


def test_asks_no_more_often_than_one_bears() -> None:
    memory = CHOOSING
    texts = []
    for _ in range(4):
        answered, memory = reply("the moon", EVENING, memory, THREE)
        texts.append(answered.text)
    assert texts == [WHICH, WHICH, "You said: the moon.", "You said: the moon."]


@pytest.mark.parametrize("utterance", ["no thank you", "what time is it", "goodbye"])
def test_whoever_wants_something_else_is_not_asked_again(utterance: str) -> None:
    answered, memory = reply(utterance, EVENING, CHOOSING, THREE)
    assert answered.text != WHICH
    assert memory.choosing is False


def test_the_question_may_be_repeated() -> None:
    answered, memory = reply("say that again", EVENING, Memory(choosing=True, last_said=WHICH), THREE)
    assert answered == Reply(text=WHICH)
    assert memory.choosing


@pytest.mark.parametrize(
    "utterance",
    ["i want to talk to my sister", "i want to talk to about the contract", "i want to talk to the operator"],
)
@pytest.mark.parametrize("yes", ["yes", "yes please", "okay", "sure"])
def test_a_sentence_that_may_mean_something_else_is_asked_about(utterance: str, yes: str) -> None:
    asked, memory = reply(utterance, EVENING, Memory(), ("sales",))
    assert asked == Reply(text="Shall I connect you to sales?")
    assert reply(yes, EVENING, memory, ("sales",))[0] == to("sales")
    assert ask("no", "sales", memory=memory) == Reply(text="All right.")


@pytest.mark.parametrize("utterance", ["i want to talk to sales", "can i speak to the sails please"])
def test_the_only_destination_is_connected_at_once_when_it_was_named(utterance: str) -> None:
    assert ask(utterance, "sales") == to("sales")


def test_a_destination_may_be_called_operator() -> None:
    assert ask("connect me to the operator", "sales", "operator") == to("operator")
    assert ask("can i talk to the operator", "operator") == to("operator")


@pytest.mark.parametrize("utterance", ["transfer me", "operator", "connect me to sales", "can i talk to someone"])
def test_without_destinations_nobody_is_connected(utterance: str) -> None:
    assert ask(utterance) == Reply(text=CANNOT_TRANSFER)


def test_without_destinations_talking_to_somebody_is_free_speech() -> None:
    assert ask("i want to talk to my sister") == Reply(text="You said: i want to talk to my sister.")
    assert ask("put him through") == Reply(text="You said: put him through.")


def test_help_names_the_destinations() -> None:
    assert abilities(()) == ABILITIES
    assert ask("help", "sales", "support").text == f"{ABILITIES} Or I connect you to sales or support."


@pytest.mark.parametrize(
    ("utterance", "memory", "chosen"),
    [
        ("sales", CHOOSING, True),
        ("sales", Memory(), False),
        ("what time is it", CHOOSING, False),
        ("the moon", CHOOSING, False),
        ("", CHOOSING, False),
    ],
)
def test_a_choice_is_one_of_the_names_when_they_were_asked_for(utterance: str, memory: Memory, chosen: bool) -> None:
    assert is_choice(utterance, memory, THREE) is chosen


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "transfer to sales: the line is busy (486 Busy Here)",
            "Sorry, I could not connect you to sales: the line is busy. What else can I do for you?",
        ),
        (
            "transfer to Anna Schmidt: nobody answered",
            "Sorry, I could not connect you to Anna Schmidt: nobody answered. What else can I do for you?",
        ),
        (
            "transfer to sip:200@10.0.0.1:5060: the call was declined (603 (no: not now))",
            "Sorry, I could not connect you: the call was declined. What else can I do for you?",
        ),
        ("a transfer is under way", "Sorry, I could not connect you. What else can I do for you?"),
        ("", "Sorry, I could not connect you. What else can I do for you?"),
    ],
)
def test_a_failed_transfer_is_told_in_words(text: str, said: str) -> None:
    assert told(text, failed=True) == Reply(text=said)


def test_what_the_call_tells_by_itself_is_said_as_it_is() -> None:
    assert told("the operator has left the call", failed=False) == Reply(text="The operator has left the call.")
    assert told("transfer to sales: the caller is connected (he joined)", failed=False) == SILENCE


# ── telling an operator about a caller ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("utterance", "taken"),
    [
        ("yes", True), ("okay", True), ("put him through", True), ("i'll take it", True), ("accept", True),
        ("no", False), ("decline", False), ("not right now", False), ("no thank you", False),
        ("mm-hm", None), ("who is it", None), ("hello", None), ("", None),
    ],
)  # fmt: skip
def test_an_operator_decides(utterance: str, taken: bool | None) -> None:
    assert decision(utterance) is taken


def test_an_operator_is_told_again_and_then_what_to_say() -> None:
    memory = Memory()
    texts = []
    for utterance in ("sales anna speaking", "who is it", "mm-hm", "say that again"):
        answered, memory = reply_to_operator(utterance, "A caller waits.", memory)
        texts.append(answered.text)
    assert texts == ["A caller waits.", DECIDE, "", "A caller waits."]
