from __future__ import annotations

import pytest

from offhook.bridge.local.phrases import (
    HUMMED,
    PHRASES,
    REPEAT_EXAMPLES,
    TRANSFER_OPENINGS,
    Intent,
    RepeatAfter,
    TransferTo,
    Vocabulary,
    compounds,
    grammar_phrases,
    is_command,
    is_filler,
    is_understood,
    meaning,
    normalised,
    transfer_phrases,
)

ASKING = (Intent.TRANSFER, Intent.PERSON)
DECIDING = (Intent.ACCEPT, Intent.DECLINE)


def phrases_of(*intents: Intent) -> set[str]:
    return {phrase for intent in intents for phrase in PHRASES[intent]}


@pytest.mark.parametrize(("phrase", "intent"), [(p, i) for i, phrases in PHRASES.items() for p in phrases])
def test_every_phrase_means_its_intent(phrase: str, intent: Intent) -> None:
    assert meaning(phrase) is intent


def test_no_phrase_means_two_things() -> None:
    phrases = [phrase for phrases in PHRASES.values() for phrase in phrases]
    assert sorted(phrases) == sorted(set(phrases))


@pytest.mark.parametrize(
    ("utterance", "intent"),
    [
        ("What time is it?", Intent.TIME),
        ("um hello what time is it please", Intent.TIME),
        ("so what's the date today now", Intent.DATE),
        ("well what can you do for me", Intent.HELP),
        ("Okay, goodbye.", Intent.GOODBYE),
        ("please stop talking now", Intent.STOP),
        ("then q good bye", Intent.GOODBYE),
        ("leave stop talking", Intent.STOP),
        ("m m h m", Intent.BACKCHANNEL),
        ("uh um", Intent.BACKCHANNEL),
    ],
)
def test_courtesies_and_a_stray_word_change_nothing(utterance: str, intent: Intent) -> None:
    assert meaning(utterance) is intent


@pytest.mark.parametrize(
    "utterance",
    [
        "",
        "my name is john and i live in berlin",
        "tell me the time thing about the weather tomorrow",
        "i said good bye to my friend",
        "the bus did not stop talking dogs",
        "timeless",
    ],
)
def test_other_speech_means_nothing_in_particular(utterance: str) -> None:
    assert meaning(utterance) is None


@pytest.mark.parametrize(
    ("utterance", "words"),
    [
        ("say hello world", "hello world"),
        ("repeat after me the quick brown fox", "the quick brown fox"),
        ("Repeat after me: I like apples.", "i like apples"),
        ("please say good morning", "good morning"),
        ("repeat one two three", "one two three"),
    ],
)
def test_asks_to_repeat(utterance: str, words: str) -> None:
    assert meaning(utterance) == RepeatAfter(words=words)


@pytest.mark.parametrize(
    ("utterance", "words", "surely"),
    [
        ("connect me to sales", "sales", True),
        ("could you please put me through to the technical support please", "technical support", True),
        ("i want to talk to my sister about it", "my sister about it", False),
    ],
)
def test_asks_for_somebody(utterance: str, words: str, surely: bool) -> None:
    assert meaning(utterance) == TransferTo(words=words, surely=surely)


@pytest.mark.parametrize(
    ("utterance", "intent"),
    [
        ("connect me to", Intent.TRANSFER),
        ("connect me with a real human being", Intent.TRANSFER),
        ("well could you transfer me please", Intent.TRANSFER),
        ("i want to talk to", Intent.PERSON),
        ("let me talk to a real human being", Intent.PERSON),
    ],
)
def test_asks_for_anybody(utterance: str, intent: Intent) -> None:
    assert meaning(utterance) is intent


def test_in_the_middle_of_a_sentence_nobody_is_asked_for() -> None:
    assert meaning("my sister said that i want to talk to her") is None


def test_repeat_that_asks_for_the_last_answer() -> None:
    assert meaning("repeat that") is Intent.AGAIN
    assert meaning("say that again") is Intent.AGAIN


@pytest.mark.parametrize(
    ("utterance", "complete"),
    [
        ("what time is it", True),
        ("goodbye", True),
        ("stop", True),
        ("mm-hm", True),
        ("hello", False),
        ("yes", False),
        ("say hello", False),
        ("connect me", False),
        ("can i talk to someone", False),
        ("my name is", False),
        ("", False),
    ],
)
@pytest.mark.parametrize("vocabulary", Vocabulary)
def test_a_command_needs_no_more_words(utterance: str, complete: bool, vocabulary: Vocabulary) -> None:
    assert is_command(utterance, vocabulary) is complete


@pytest.mark.parametrize(
    ("vocabulary", "complete"), [(Vocabulary.COMMON, False), (Vocabulary.ASKING, False), (Vocabulary.DECIDING, True)]
)
def test_who_need_not_decide_may_go_on_after_the_words_that_decide(vocabulary: Vocabulary, complete: bool) -> None:
    assert is_command("put him through", vocabulary) is complete
    assert is_command("i am busy", vocabulary) is complete


@pytest.mark.parametrize(
    ("utterance", "understood"),
    [
        ("what time is it", set(Vocabulary)),
        ("say hello world", set(Vocabulary)),
        ("connect me", {Vocabulary.ASKING}),
        ("can i talk to a person", {Vocabulary.ASKING}),
        ("i want to talk to my sister", {Vocabulary.ASKING}),
        ("not now", {Vocabulary.DECIDING}),
        ("the moon", set()),
        ("uh", set()),
        ("", set()),
    ],
)
def test_an_agent_understands_what_belongs_to_its_vocabulary(utterance: str, understood: set[Vocabulary]) -> None:
    assert {vocabulary for vocabulary in Vocabulary if is_understood(utterance, vocabulary)} == understood


def test_fillers_are_only_sounds() -> None:
    assert is_filler("uh")
    assert is_filler("Um, oh")
    assert not is_filler("uh what")
    assert not is_filler("")


@pytest.mark.parametrize("vocabulary", Vocabulary)
def test_compounds_are_the_longer_phrases_longest_first(vocabulary: Vocabulary) -> None:
    found = compounds(vocabulary)
    assert "what time is it" in found
    assert "say hello world" in found
    assert all(" " in phrase for phrase in found)
    assert list(found) == sorted(found, key=len, reverse=True)


@pytest.mark.parametrize("vocabulary", [Vocabulary.COMMON, Vocabulary.ASKING])
def test_the_grammar_has_every_phrase_that_any_agent_knows(vocabulary: Vocabulary) -> None:
    found = grammar_phrases(vocabulary)
    assert {"stop", "goodbye", "bye", "help", "yes", "no", "okay", "mm-hm", "what time is it", "say hello"} <= set(
        found
    )
    some = phrases_of(*ASKING, *DECIDING)
    assert phrases_of(*Intent) - some <= set(found)
    assert not some & set(found)
    assert set(transfer_phrases()) == phrases_of(*ASKING)


def test_the_grammar_for_operators_has_what_they_decide_by_too() -> None:
    found = grammar_phrases(Vocabulary.DECIDING)
    assert set(found) == {*grammar_phrases(Vocabulary.COMMON), *phrases_of(*DECIDING)}
    assert len(found) == len(set(found))


def test_every_phrase_of_several_words_is_a_compound_where_it_means_something() -> None:
    common = phrases_of(*Intent) - phrases_of(*ASKING, *DECIDING)
    expected = {
        Vocabulary.COMMON: {*common, *REPEAT_EXAMPLES},
        Vocabulary.ASKING: {*common, *REPEAT_EXAMPLES, *phrases_of(*ASKING), *TRANSFER_OPENINGS},
        Vocabulary.DECIDING: {*common, *REPEAT_EXAMPLES, *phrases_of(*DECIDING)},
    }
    for vocabulary, phrases in expected.items():
        assert set(compounds(vocabulary)) == {phrase for phrase in phrases if " " in phrase}


def test_hummed_words_are_phrases_too() -> None:
    assert set(HUMMED) <= set(PHRASES[Intent.BACKCHANNEL])


def test_normalised_keeps_apostrophes_and_hyphens() -> None:
    assert normalised("  What's\tTHE time, mm-hm?! ") == "what's the time mm-hm"
