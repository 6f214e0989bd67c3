"""What a caller may say to the local agent, as data: shared by the recogniser and the rules.

A phrase of two or more words becomes one long word of the recogniser's language model, so that it competes
with free speech inside one search and wins when it was really said. A single word is too short for that;
it is looked for by a small grammar, in short utterances only. What asks for somebody has a grammar of its own, with
the names of those whom an agent may connect callers to. Every phrase listened for is one more that other sentences may
be taken for: each agent's recogniser listens for its vocabulary only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import product
from typing import assert_never


class Intent(Enum):
    TIME = "time"
    DATE = "date"
    GOODBYE = "goodbye"
    HELP = "help"
    STOP = "stop"
    AGAIN = "again"
    GREETING = "greeting"
    YES = "yes"
    NO = "no"
    THANKS = "thanks"
    BACKCHANNEL = "backchannel"
    TRANSFER = "transfer"
    PERSON = "person"
    ACCEPT = "accept"
    DECLINE = "decline"


class Vocabulary(Enum):
    """What is listened for, by what the agent is there for.

    ``ASKING``: callers ask it to connect them. ``DECIDING``: an operator tells it whether he takes a caller.
    """

    COMMON = "common"
    ASKING = "asking"
    DECIDING = "deciding"


@dataclass(frozen=True, kw_only=True, slots=True)
class RepeatAfter:
    """The caller asks to hear ``words``."""

    words: str


@dataclass(frozen=True, kw_only=True, slots=True)
class TransferTo:
    """The caller asks for whoever ``words`` name. ``surely``: whatever they are, it asks for nothing else."""

    words: str
    surely: bool


Meaning = Intent | RepeatAfter | TransferTo

_ASKING = ("tell me", "could you tell me", "can you tell me", "please tell me", "do you know", "i want to know")
_SURELY_TO = ("transfer me to", "connect me to", "connect me with", "put me through to")
_PERHAPS_TO = (
    *("i want to talk to", "i want to speak to", "i want to speak with", "i would like to speak to"),
    *("i would like to talk to", "can i talk to", "can i speak to", "let me talk to", "let me speak to"),
)
"""They may go on otherwise: "I want to talk to my sister about it"."""
_A_PERSON = (
    *("a human", "a person", "a real person", "somebody", "someone", "an agent", "an operator", "the operator"),
)


def _each(*parts: tuple[str, ...]) -> tuple[str, ...]:
    """Every combination of one alternative from each part; an empty one leaves its part out."""
    return tuple(" ".join(filter(None, words)) for words in product(*parts))


PHRASES: Mapping[Intent, tuple[str, ...]] = {
    Intent.TIME: (
        *_each(("what time is it", "what is the time", "what's the time"), ("", "now", "please")),
        *_each(_ASKING, ("the time", "what time it is")),
        "tell me the time please",
        "could you tell me the time please",
        "can you tell me the time please",
        "do you have the time",
        "time please",
    ),
    Intent.DATE: (
        *_each(
            ("what is the date", "what's the date", "what day is it", "what date is it", "which day is it"),
            ("", "today"),
        ),
        *_each(_ASKING, ("the date", "what day it is")),
        "what is today's date",
        "what's today's date",
        "tell me today's date",
        "what day is today",
        "today's date",
    ),
    Intent.GOODBYE: (
        "good bye",
        "goodbye",
        "bye",
        "bye bye",
        *_each(("okay", "thanks", "thank you"), ("bye", "goodbye", "good bye")),
        "goodbye now",
        "hang up",
        "please hang up",
        "hang up please",
        "hang up the phone",
        "end the call",
        "see you later",
    ),
    Intent.HELP: (
        "help",
        "help me",
        "help me please",
        "what can you do",
        "what can i say",
        "what can i do",
        "who are you",
    ),
    Intent.STOP: (
        "stop",
        "stop it",
        "stop talking",
        "please stop",
        "please stop talking",
        "wait",
        "wait a moment",
        "wait a minute",
        "wait please",
        "hold on",
        "be quiet",
        "please be quiet",
    ),
    Intent.AGAIN: ("repeat that", "repeat that please", "say that again", "say it again", "could you repeat that"),
    Intent.GREETING: ("hello", "hi", "hello there", "hi there", "good morning", "good evening", "how are you"),
    Intent.YES: ("yes", "yes please"),
    Intent.NO: ("no", "no thanks", "no thank you"),
    Intent.THANKS: ("thanks", "thank you", "thank you very much"),
    Intent.BACKCHANNEL: ("mm-hm", "uh huh", "okay", "yeah", "right", "i see", "sure", "hmm", "mm-hmm"),
    Intent.TRANSFER: (
        *_each(("", "please", "can you", "could you"), ("transfer me", "connect me", "put me through")),
        *("transfer me please", "connect me please", "put me through please"),
        *_each(_SURELY_TO, _A_PERSON),
        *("operator", "operator please", "human please", "a human please"),
    ),
    Intent.PERSON: _each(_PERHAPS_TO, _A_PERSON),
    Intent.ACCEPT: (
        *("put him through", "put her through", "put them through", "put the call through", "connect us"),
        *("i take the call", "i will take the call", "i'll take it", "take the call", "accept", "accept the call"),
    ),
    Intent.DECLINE: ("decline", "decline the call", "not now", "not right now", "i am busy", "i'm busy"),
}

TRANSFER_OPENINGS = (*_SURELY_TO, *_PERHAPS_TO)
"""A name follows."""

REPEAT_PREFIXES = ("repeat after me", "please say", "say", "repeat")
REPEAT_EXAMPLES = ("say hello world", "say hello", "say good morning", "repeat after me")
"""Known to the recogniser as wholes, so that the word that makes the request is not lost."""

HUMMED: Mapping[str, tuple[str, ...]] = {
    # Synthetic callers have no hum in their lexicon and spell it: "em em aitch em".
    "mm-hm": ("M HH AH M", "AH M HH M", "M M", "M HH M", "EH M EH M EY CH EH M", "EH M EY CH EH M"),
    "mm-hmm": ("M HH M HH", "M AH HH AH M", "EH M EH M EY CH EH M EH M", "EY CH EH M EH M"),
}
"""Words that the recogniser's dictionary lacks, in its phone alphabet (ARPAbet)."""

_MAX_STRAY_WORDS = 2
"""A phrase with up to so many words around it still counts; with more, the caller said something else."""

_MAX_WORDS_BEFORE = 3
"""As in "could you please connect me to sales"."""

_ONLY_ALONE = frozenset({Intent.BACKCHANNEL, Intent.YES, Intent.NO})
_ONLY_LAST = frozenset({Intent.GOODBYE, Intent.STOP})
"""Too short, or too consequential, to be picked out of the middle of a sentence."""

_COURTESIES = frozenset((
    *("um", "uh", "er", "well", "so", "please", "hello", "hi", "hey", "okay", "yes", "yeah", "thanks", "now"),
    *("sir", "madam", "and", "then", "the", "a"),
))  # fmt: skip
"""Around a phrase they change nothing. The recogniser hears a breath as "the" or "a"."""

_BEGINNINGS = frozenset(
    {Intent.GREETING, Intent.YES, Intent.NO, Intent.THANKS, Intent.TRANSFER, Intent.PERSON},
)
"""Often only the begin of a sentence: a name may follow "connect me"."""

_FILLERS = frozenset(("uh", "um", "ah", "oh", "huh", "hm", "er"))
_SPELLED_HUM = re.compile(r"[mh]( [mhn])+")
_NOT_A_WORD = re.compile(r"[^a-z0-9' -]+")

_BESIDES: Mapping[Vocabulary, frozenset[Intent]] = {
    Vocabulary.COMMON: frozenset(),
    Vocabulary.ASKING: frozenset({Intent.TRANSFER, Intent.PERSON}),
    Vocabulary.DECIDING: frozenset({Intent.ACCEPT, Intent.DECLINE}),
}
"""They mean something only where there are people to be connected."""
_COMMON = frozenset(Intent).difference(*_BESIDES.values())

_PERSON_WORDS = frozenset((
    *("human", "being", "person", "real", "somebody", "someone", "anybody", "anyone", "agent", "operator"),
    *("an", "a", "the"),
))  # fmt: skip
_INTENTS = {phrase: intent for intent, phrases in PHRASES.items() for phrase in phrases}
_LONGEST_FIRST = sorted(
    ((phrase, intent) for phrase, intent in _INTENTS.items() if " " in phrase), key=lambda entry: -len(entry[0])
)


def compounds(vocabulary: Vocabulary) -> tuple[str, ...]:
    """Its phrases of several words, the longest first."""
    openings = TRANSFER_OPENINGS if vocabulary is Vocabulary.ASKING else ()
    phrases = [*_phrases_of(_COMMON | _BESIDES[vocabulary]), *REPEAT_EXAMPLES, *openings]
    return tuple(sorted((phrase for phrase in phrases if " " in phrase), key=len, reverse=True))


def grammar_phrases(vocabulary: Vocabulary) -> tuple[str, ...]:
    """What the grammar of phrases listens for, compounds first. Each more makes all of them less sure; what asks for
    somebody is left to the grammar of the names."""
    vocabulary = Vocabulary.COMMON if vocabulary is Vocabulary.ASKING else vocabulary
    known = _phrases_of(_COMMON | _BESIDES[vocabulary])
    return (*compounds(vocabulary), *(phrase for phrase in known if " " not in phrase))


def transfer_phrases() -> tuple[str, ...]:
    """What asks for somebody, whoever it is."""
    return tuple(_phrases_of(_BESIDES[Vocabulary.ASKING]))


def _phrases_of(intents: frozenset[Intent]) -> list[str]:
    return [phrase for phrase, intent in _INTENTS.items() if intent in intents]


def normalised(utterance: str) -> str:
    """Lower case, single spaces, no punctuation but apostrophes and hyphens."""
    return " ".join(_NOT_A_WORD.sub(" ", utterance.lower()).split())


def meaning(utterance: str) -> Meaning | None:
    """What ``utterance`` asks for; None when it is free speech (or nothing)."""
    text = normalised(utterance)
    if _SPELLED_HUM.fullmatch(text) or is_filler(text):
        return Intent.BACKCHANNEL
    if text in _INTENTS:
        return _INTENTS[text]
    repeat = _repeat_after(text)
    if repeat is not None:
        return repeat
    bare = without_courtesies(text)
    return _INTENTS.get(bare) or _transfer_to(bare) or _phrase_within(bare)


def is_filler(utterance: str) -> bool:
    """Sounds only: what the recogniser makes of a breath, or of a short word it did not catch."""
    words = normalised(utterance).split()
    return bool(words) and _FILLERS.issuperset(words)


def is_command(utterance: str, vocabulary: Vocabulary) -> bool:
    """It is complete as it stands: it may be answered without waiting whether more comes."""
    intent = _INTENTS.get(normalised(utterance))
    return intent is not None and intent not in _BEGINNINGS and _belongs(intent, vocabulary)


def is_understood(utterance: str, vocabulary: Vocabulary) -> bool:
    """It asks an agent with that ``vocabulary`` for something."""
    found = meaning(utterance)
    return found is not None and _belongs(found, vocabulary) and not is_filler(utterance)


def _belongs(found: Meaning, vocabulary: Vocabulary) -> bool:
    match found:
        case RepeatAfter():
            return True
        case TransferTo():
            return vocabulary is Vocabulary.ASKING
        case Intent():
            return found in _COMMON | _BESIDES[vocabulary]
        case _:
            assert_never(found)


def _repeat_after(text: str) -> RepeatAfter | None:
    for prefix in REPEAT_PREFIXES:
        words = text.removeprefix(prefix + " ")
        if words != text:
            return RepeatAfter(words=words)
    return None


def _transfer_to(text: str) -> Intent | TransferTo | None:
    for opening in TRANSFER_OPENINGS:
        before, found, after = f" {text} ".partition(f" {opening} ")
        if not found or len(before.split()) > _MAX_WORDS_BEFORE:
            continue
        words = without_courtesies(after)
        if _PERSON_WORDS.issuperset(words.split()):
            return Intent.TRANSFER if opening in _SURELY_TO else Intent.PERSON
        return TransferTo(words=words, surely=opening in _SURELY_TO)
    return None


def without_courtesies(text: str) -> str:
    """Without the words at both ends that change nothing, such as "please"."""
    words = text.split()
    while words and words[0] in _COURTESIES:
        words.pop(0)
    while words and words[-1] in _COURTESIES:
        words.pop()
    return " ".join(words)


def _phrase_within(text: str) -> Intent | None:
    count = len(text.split())
    for phrase, intent in _LONGEST_FIRST:
        stray = count - len(phrase.split())
        if stray <= _MAX_STRAY_WORDS and f" {phrase} " in f" {text} " and _may_stand(intent, phrase, text):
            return intent
    return None


def _may_stand(intent: Intent, phrase: str, text: str) -> bool:
    if intent in _ONLY_LAST:
        return text.endswith(phrase)
    return intent not in _ONLY_ALONE
