"""What a voice has still to say."""

from __future__ import annotations

from offhook.bridge.cascade.spoken_queue import MS_PER_CHARACTER, SpokenQueue
from offhook.model.audio import PCMU_8K


def queue(*pieces: str) -> SpokenQueue:
    made = SpokenQueue(PCMU_8K)
    made.begin("c1")
    for piece in pieces:
        made.say("c1", piece)
    return made


def test_one_context_after_the_other() -> None:
    made = queue("One.")
    assert not made.begin("c2")
    assert not made.say("c2", "Two.")
    assert made.current == "c1"
    assert made.leave("c1")
    assert (made.current, made.unspoken()) == ("c2", ("Two.",))


def test_unknown_contexts_are_nothing() -> None:
    made = queue()
    assert not made.say("x", "Hello.")
    assert not made.finish("x")
    assert not made.leave("x")


def test_the_voice_is_waited_for_while_it_owes_something() -> None:
    made = queue()
    assert not made.waits
    made.say("c1", "One.")
    assert made.waits
    made.heard(800)
    assert not made.waits
    made.finish("c1")
    assert made.waits


def test_all_of_it_again_when_nothing_was_heard() -> None:
    assert queue("One. ", "Two.").unspoken() == ("One. ", "Two.")


def test_only_the_words_that_were_not_heard() -> None:
    made = queue("One two ", "three four.")
    made.align("One", 0)
    made.align("two", 400)
    made.align("three", 900)
    made.heard(800 * 8)
    assert made.unspoken() == ("three four.",)
    assert made.align("three", 0) == 800
    made.heard(300 * 8)
    made.say("c1", " Five.")
    assert made.unspoken() == ("four. Five.",)


def test_without_places_whole_pieces_by_their_length() -> None:
    made = queue("One two. ", "Three.")
    made.heard((9 * MS_PER_CHARACTER + 100) * 8)
    assert made.unspoken() == ("Three.",)
