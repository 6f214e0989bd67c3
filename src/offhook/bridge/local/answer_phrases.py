"""What voicemail greetings, call screeners and people say when a call of ours is answered, as data; and what it means.

Phrases are spotted one by one (``spotting``), so each has the likelihood at which it is believed: 1e-30 where nothing
else sounds like it, 1e-10 where it is short. Measured over 39 greetings and prompts and 32 sentences of people, each in
five voices through G.711: 97 of 110 greetings and 72 of 85 prompts are known by them, and 2 of 160 sentences of people
are taken for a prompt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Says = Literal["voicemail", "screening", "human"]
"""Who speaks in such words."""

ENOUGH = 2
"""Weight of words that decides: one phrase that only a machine says, or two that a person may say, too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Topic:
    """Phrases that say one thing: heard twice, in these words and in those, it weighs once."""

    says: Says
    weight: int
    phrases: Mapping[str, float]


TOPICS = (
    Topic(
        says="voicemail",
        weight=2,
        phrases={
            "leave a message": 1e-30,
            "leave your message": 1e-30,
            "leave me a message": 1e-20,
            "brief message": 1e-30,
            "record your message": 1e-30,
            "record a message": 1e-30,
            "name and number": 1e-20,
        },
    ),
    Topic(
        says="voicemail",
        weight=1,
        phrases={
            "after the tone": 1e-25,
            "after the beep": 1e-20,
            "after the signal": 1e-30,
            "at the tone": 1e-10,
            "for the beep": 1e-20,
        },
    ),
    Topic(
        says="voicemail",
        weight=2,
        phrases={
            "voice mail": 1e-20,
            "mailbox": 1e-15,
            "voice message": 1e-30,
            "message system": 1e-30,
            "automatic voice": 1e-40,
        },
    ),
    Topic(
        says="voicemail",
        weight=1,
        phrases={
            "not available": 1e-10,
            "come to the phone": 1e-30,
            "cannot be reached": 1e-25,
            "unable to take": 1e-25,
            "missed your call": 1e-20,
            "phone right now": 1e-20,
            "forwarded to": 1e-30,
            "cannot be taken": 1e-30,
            "can't take your call": 1e-20,
            "on another line": 1e-15,
            "away from my desk": 1e-30,
            "switched off": 1e-20,
            "sorry i missed": 1e-30,
        },
    ),
    Topic(
        says="voicemail",
        weight=1,
        phrases={
            "call you back": 1e-15,
            "get back to you": 1e-30,
            "as soon as possible": 1e-30,
            "return your call": 1e-20,
            "business hours": 1e-30,
            "next business day": 1e-30,
            "are closed": 1e-15,
        },
    ),
    Topic(
        says="voicemail",
        weight=1,
        phrases={
            "you have reached": 1e-20,
            "you've reached": 1e-15,
            "trying to reach": 1e-30,
            "try again later": 1e-20,
        },
    ),
    Topic(
        says="screening",
        weight=2,
        phrases={
            "state your name": 1e-20,
            "say your name": 1e-10,
            "record your name": 1e-30,
            "tell me your name": 1e-20,
            "your name and reason": 1e-30,
            "your name and the reason": 1e-30,
            "name and the reason": 1e-25,
            "please say your name": 1e-30,
            "who you are and why": 1e-30,
        },
    ),
    Topic(
        says="screening",
        weight=2,
        phrases={
            "screening service": 1e-30,
            "screening calls": 1e-25,
            "being screened": 1e-25,
            "call screening": 1e-20,
            "digital assistant": 1e-30,
            "i am the digital": 1e-30,
            "virtual assistant": 1e-30,
            "automated assistant": 1e-30,
        },
    ),
    Topic(
        says="screening",
        weight=1,
        phrases={
            "who is calling": 1e-20,
            "why you're calling": 1e-20,
            "why you are calling": 1e-20,
            "reason for your call": 1e-30,
            "reason for calling": 1e-30,
            "can i ask who": 1e-30,
            "may i ask who": 1e-30,
        },
    ),
    Topic(
        says="screening",
        weight=1,
        phrases={"what this is about": 1e-15, "what is it about": 1e-15, "calling about": 1e-10},
    ),
    Topic(
        says="screening",
        weight=1,
        phrases={
            "try to connect": 1e-35,
            "person is available": 1e-30,
            "to reach this person": 1e-25,
            "person you're calling": 1e-20,
            "before i try": 1e-30,
            "go ahead and say": 1e-30,
            "they are available": 1e-20,
            "see if they are": 1e-30,
            "before i connect": 1e-30,
        },
    ),
    Topic(
        says="human",
        weight=2,
        phrases={"how may i help": 1e-20, "how can i help": 1e-20, "what can i do for you": 1e-30},
    ),
)

STILL_SCREENING: Mapping[str, float] = {
    "stay on the line": 1e-30,
    "please hold": 1e-25,
    "one moment": 1e-20,
    "just a moment": 1e-20,
    "thank you": 1e-25,
}
"""What a screener says once it was answered; a person who comes to the phone then says something else."""

THRESHOLDS: Mapping[str, float] = {
    **{phrase: least for topic in TOPICS for phrase, least in topic.phrases.items()},
    **STILL_SCREENING,
}


def who_says(phrases: Iterable[str]) -> tuple[Says, str] | None:
    """Who speaks in these words, and the phrase that says it best; None where they are too few to tell.

    Greetings of voicemail have one thing in common with screeners, a name that is to be left: what weighs as much for
    both is a voicemail, which says more besides.
    """
    heard = frozenset(phrases)
    weights: dict[Says, int] = {"voicemail": 0, "screening": 0, "human": 0}
    best: dict[Says, tuple[int, str]] = {}
    for topic in TOPICS:
        said = next((phrase for phrase in topic.phrases if phrase in heard), None)
        if said is not None:
            weights[topic.says] += topic.weight
            best[topic.says] = max(best.get(topic.says, (0, "")), (topic.weight, said), key=lambda one: one[0])
    says = max(weights, key=weights.__getitem__)
    return (says, best[says][1]) if weights[says] >= ENOUGH else None
