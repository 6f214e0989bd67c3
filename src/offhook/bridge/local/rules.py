"""What the local agent answers: a pure function of what was heard, the time of day and what went before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from offhook.bridge.local.phrases import Intent, RepeatAfter, meaning

DEFAULT_GREETING = "Hello, this is the offhook demo agent. Ask me for the time or the date, or say help."
GOODBYE = "Goodbye. Thank you for calling."
ABILITIES = (
    "I can tell you the time and the date, repeat what you say, and read back the keys you press. "
    "Say goodbye to hang up."
)
NOT_UNDERSTOOD = "Sorry, I did not understand that."

LOST_AFTER = 2
"""Utterances not understood in a row until the agent says what it can do."""

_KEY_NAMES = {"#": "pound", "*": "star"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """What the rules keep between turns. ``last_said``: what the caller heard of the agent's last answer."""

    last_said: str = ""
    lost: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """What to say ("" is silence), and whether the call ends after it."""

    text: str
    end_call: bool = False


SILENCE = Reply(text="")


def reply(utterance: str, now: datetime, memory: Memory) -> tuple[Reply, Memory]:
    """The answer to ``utterance``; "" means that the caller spoke and nothing was understood."""
    found = meaning(utterance)
    if found is None and not utterance.strip():
        return _not_understood(memory)
    understood = replace(memory, lost=0)
    if found is None:
        return Reply(text=f"You said: {utterance.strip()}."), understood
    if isinstance(found, RepeatAfter):
        return Reply(text=f"{found.words.capitalize()}."), understood
    return _ANSWERS[found](now, understood), understood


def pressed(digits: str) -> Reply:
    """The answer to keys: "You pressed 5.", each key by itself."""
    names = [_KEY_NAMES.get(digit, digit) for digit in digits]
    return Reply(text=f"You pressed {' '.join(names)}.") if names else SILENCE


def time_of(now: datetime) -> str:
    """``9:05 PM``, ``12 AM``; no leading zero, no minutes on the hour."""
    hour = now.hour % 12 or 12
    minutes = f":{now.minute:02d}" if now.minute else ""
    return f"{hour}{minutes} {'AM' if now.hour < 12 else 'PM'}"


def date_of(now: datetime) -> str:
    """``Friday, November 20, 2026``."""
    return f"{_DAYS[now.weekday()]}, {_MONTHS[now.month - 1]} {now.day}, {now.year}"


def _not_understood(memory: Memory) -> tuple[Reply, Memory]:
    lost = memory.lost + 1
    advice = f" {ABILITIES}" if lost >= LOST_AFTER else " Please say it again, or say help."
    return Reply(text=NOT_UNDERSTOOD + advice), replace(memory, lost=lost % LOST_AFTER)


def _fixed(text: str, *, end_call: bool = False) -> Callable[[datetime, Memory], Reply]:
    return lambda _now, _memory: Reply(text=text, end_call=end_call)


_ANSWERS: dict[Intent, Callable[[datetime, Memory], Reply]] = {
    Intent.TIME: lambda now, _: Reply(text=f"It is {time_of(now)}."),
    Intent.DATE: lambda now, _: Reply(text=f"Today is {date_of(now)}."),
    Intent.GOODBYE: _fixed(GOODBYE, end_call=True),
    Intent.HELP: _fixed(ABILITIES),
    Intent.STOP: _fixed(""),
    Intent.AGAIN: lambda _, memory: Reply(text=memory.last_said),
    Intent.GREETING: _fixed("Hello. What would you like to know?"),
    Intent.YES: _fixed("Good. Ask me for the time or the date, or say help."),
    Intent.NO: _fixed("All right."),
    Intent.THANKS: _fixed("You are welcome."),
    Intent.BACKCHANNEL: _fixed(""),
}

# Not strftime: the words must not follow the machine's locale, the voice speaks English.
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
