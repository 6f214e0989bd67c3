"""What the local agent answers: a pure function of what was heard, the time of day and what went before."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from offhook.bridge.local.names import called_by_name, listed, mentioned, named
from offhook.bridge.local.phrases import Intent, Meaning, RepeatAfter, TransferTo, meaning

DEFAULT_GREETING = "Hello, this is the offhook demo agent. Ask me for the time or the date, or say help."
GOODBYE = "Goodbye. Thank you for calling."
ABILITIES = (
    "I can tell you the time and the date, repeat what you say, and read back the keys you press. "
    "Say goodbye to hang up."
)
NOT_UNDERSTOOD = "Sorry, I did not understand that."
CANNOT_TRANSFER = "Sorry, I cannot connect you to anybody."
NOT_CONNECTED = "Sorry, I could not connect you"
WHAT_ELSE = "What else can I do for you?"
DECIDE = "Please say yes to take the call, or no to decline it."

LOST_AFTER = 2
"""Utterances not understood in a row until the agent says what it can do."""

_KEY_NAMES = {"#": "pound", "*": "star"}

ToolName = Literal["end_call", "transfer_call", "accept_transfer", "decline_transfer"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolUse:
    """``destination``: a name of the agent's, for ``transfer_call``."""

    name: ToolName
    destination: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """What the rules keep between turns. ``last_said``: what the caller heard of the agent's last answer.

    ``choosing``: the agent asked whom to connect the caller to.
    """

    last_said: str = ""
    lost: int = 0
    choosing: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """What to say ("" is silence), and the tool to use when it is said."""

    text: str
    tool: ToolUse | None = None


SILENCE = Reply(text="")


def reply(utterance: str, now: datetime, memory: Memory, names: Sequence[str] = ()) -> tuple[Reply, Memory]:
    """The answer to ``utterance``; "" means that the caller spoke and nothing was understood.

    ``names``: of those whom the agent may connect callers to.
    """
    found = meaning(utterance)
    about_transfer = _about_transfer(found, utterance, memory, names)
    if about_transfer is not None:
        return about_transfer
    if found is None and not utterance.strip():
        return _not_understood(memory, names)
    understood = replace(memory, lost=0, choosing=memory.choosing and found in _LEAVES_IT_OPEN)
    if isinstance(found, RepeatAfter):
        return Reply(text=f"{found.words.capitalize()}."), understood
    if isinstance(found, Intent) and found in _ANSWERS:
        return _ANSWERS[found](now, understood), understood
    if found is Intent.HELP:
        return Reply(text=abilities(names)), understood
    return Reply(text=f"You said: {utterance.strip()}."), understood


def pressed(digits: str) -> Reply:
    """The answer to keys: "You pressed 5.", each key by itself."""
    keys = [_KEY_NAMES.get(digit, digit) for digit in digits]
    return Reply(text=f"You pressed {' '.join(keys)}.") if keys else SILENCE


def abilities(names: Sequence[str]) -> str:
    """What it says when it is asked for help."""
    return f"{ABILITIES} Or I connect you to {listed(names)}." if names else ABILITIES


def time_of(now: datetime) -> str:
    """``9:05 PM``, ``12 AM``; no leading zero, no minutes on the hour."""
    hour = now.hour % 12 or 12
    minutes = f":{now.minute:02d}" if now.minute else ""
    return f"{hour}{minutes} {'AM' if now.hour < 12 else 'PM'}"


def date_of(now: datetime) -> str:
    """``Friday, November 20, 2026``."""
    return f"{_DAYS[now.weekday()]}, {_MONTHS[now.month - 1]} {now.day}, {now.year}"


# ── handing the caller over ──────────────────────────────────────────────────────────────────────────────


def _about_transfer(
    found: Meaning | None, utterance: str, memory: Memory, names: Sequence[str]
) -> tuple[Reply, Memory] | None:
    """None where it is about something else."""
    surely = found is Intent.TRANSFER or (isinstance(found, TransferTo) and found.surely)
    asks = surely or found is Intent.PERSON
    if not names:
        return (Reply(text=CANNOT_TRANSFER), replace(memory, lost=0)) if asks else None
    words = found.words if isinstance(found, TransferTo) else utterance
    name = _destination(found, words, memory, names)
    if name is not None or (surely and len(names) == 1):
        return _transfer(name or names[0]), replace(memory, lost=0, choosing=False)
    named_only = called_by_name(utterance, names) is not None
    if asks or named_only or isinstance(found, TransferTo) or (memory.choosing and _may_be_a_name(found, memory)):
        lost = memory.lost + 1 if memory.choosing else 0
        return Reply(text=_which(names)), replace(memory, lost=lost, choosing=True)
    return None


def is_choice(utterance: str, memory: Memory, names: Sequence[str]) -> bool:
    """Whether it answers the agent's question whom to connect the caller to."""
    return memory.choosing and _destination(meaning(utterance), utterance, memory, names) is not None


def _destination(found: Meaning | None, words: str, memory: Memory, names: Sequence[str]) -> str | None:
    """The one the caller means, by a name said as such or as the answer to the agent's question."""
    if isinstance(found, TransferTo):
        return named(found.words, names)
    if found in (Intent.TRANSFER, Intent.PERSON):
        return mentioned(words, names)
    if memory.choosing and len(names) == 1 and _agrees(found, words):
        return names[0]
    return named(words, names) if memory.choosing and found is None else None


def _may_be_a_name(found: Meaning | None, memory: Memory) -> bool:
    """It was asked for one and heard something; nobody is asked for ever."""
    return found in (None, Intent.YES) and memory.lost < LOST_AFTER


def _which(names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"Shall I connect you to {names[0]}?"
    return f"Whom shall I connect you to: {listed(names)}?"


def _transfer(name: str) -> Reply:
    return Reply(text=f"One moment, I connect you to {name}.", tool=ToolUse(name="transfer_call", destination=name))


_LEAVES_IT_OPEN = frozenset({Intent.BACKCHANNEL, Intent.STOP, Intent.AGAIN})
"""The question whom to connect to still stands."""

_AGREEING = frozenset(("okay", "sure", "yeah", "right", "yes okay", "okay yes"))
"""As an answer to a question; elsewhere they only encourage the agent."""


def _agrees(found: Meaning | None, utterance: str) -> bool:
    return found in (Intent.YES, Intent.ACCEPT) or utterance in _AGREEING


_OUTCOME = re.compile(r"transfer to (?P<name>.+?): (?P<outcome>[a-z][a-z ]+?)(?: \(.*\))?", re.DOTALL)
"""How the call tells it: "transfer to sales: the line is busy (486 Busy Here)"."""

CONNECTED = "the caller is connected"


def told(text: str, *, failed: bool) -> Reply:
    """What to say when the call tells how a transfer ended, or what became of it later."""
    found = _OUTCOME.fullmatch(text)
    if found is None:
        return Reply(text=f"{NOT_CONNECTED}. {WHAT_ELSE}" if failed else f"{text[:1].upper()}{text[1:]}.")
    if found["outcome"] == CONNECTED:
        return SILENCE
    name = "" if _is_address(found["name"]) else f" to {found['name']}"
    return Reply(text=f"{NOT_CONNECTED}{name}: {found['outcome']}. {WHAT_ELSE}")


def _is_address(name: str) -> bool:
    return ":" in name or "@" in name


# ── telling an operator about a caller ───────────────────────────────────────────────────────────────────


def decision(utterance: str) -> bool | None:
    """Whether an operator takes the caller; None when he said neither."""
    found = meaning(utterance)
    if _agrees(found, utterance):
        return True
    return False if found in (Intent.DECLINE, Intent.NO) else None


def reply_to_operator(utterance: str, briefing: str, memory: Memory) -> tuple[Reply, Memory]:
    """The answer of an agent that tells an operator about a caller who waits: ``briefing`` again, for what is said
    at first is his own greeting, and then what is to be decided."""
    decided = decision(utterance)
    if decided is not None:
        return Reply(text="", tool=ToolUse(name="accept_transfer" if decided else "decline_transfer")), memory
    found = meaning(utterance)
    if found in (Intent.BACKCHANNEL, Intent.STOP):
        return SILENCE, memory
    again = found in (Intent.AGAIN, Intent.HELP) or memory.lost == 0
    return Reply(text=briefing if again else DECIDE), replace(memory, lost=memory.lost + 1)


# ── the rest ─────────────────────────────────────────────────────────────────────────────────────────────


def _not_understood(memory: Memory, names: Sequence[str]) -> tuple[Reply, Memory]:
    lost = memory.lost + 1
    advice = f" {abilities(names)}" if lost >= LOST_AFTER else " Please say it again, or say help."
    return Reply(text=NOT_UNDERSTOOD + advice), replace(memory, lost=lost % LOST_AFTER)


def _fixed(text: str, tool: ToolUse | None = None) -> Callable[[datetime, Memory], Reply]:
    return lambda _now, _memory: Reply(text=text, tool=tool)


_ANSWERS: dict[Intent, Callable[[datetime, Memory], Reply]] = {
    Intent.TIME: lambda now, _: Reply(text=f"It is {time_of(now)}."),
    Intent.DATE: lambda now, _: Reply(text=f"Today is {date_of(now)}."),
    Intent.GOODBYE: _fixed(GOODBYE, ToolUse(name="end_call")),
    Intent.STOP: _fixed(""),
    Intent.AGAIN: lambda _, memory: Reply(text=memory.last_said),
    Intent.GREETING: _fixed("Hello. What would you like to know?"),
    Intent.YES: _fixed("Good. Ask me for the time or the date, or say help."),
    Intent.NO: _fixed("All right."),
    Intent.THANKS: _fixed("You are welcome."),
    Intent.BACKCHANNEL: _fixed(""),
}
"""``HELP`` depends on the agent; ``TRANSFER``, ``PERSON``, ``ACCEPT`` and ``DECLINE`` on what it is there for."""

# Not strftime: the words must not follow the machine's locale, the voice speaks English.
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
