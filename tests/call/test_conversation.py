"""The transcript holds what was heard, when, and how long it took."""

from __future__ import annotations

from offhook.call.conversation import LATE_WORDS_S, MAX_CHARACTERS, MAX_OPEN_ITEMS, Conversation
from offhook.model.call_events import TurnSpoken


def answered(at: float = 100.0) -> Conversation:
    conversation = Conversation()
    conversation.answered(at)
    return conversation


def test_an_item_played_to_its_end_is_a_turn_with_all_its_words() -> None:
    talk = answered()
    talk.agent_words("a", "Hello, ", final=False, at_ms=0)
    talk.agent_words("a", "Hello, caller.", final=True, at_ms=None)
    talk.agent_heard("a", 100.5)
    assert talk.agent_done("a", 102.0) == TurnSpoken(
        speaker="agent", text="Hello, caller.", started_ms=500, ended_ms=2000
    )


def test_latency_counts_from_the_last_speech_packet_to_the_first_answer_packet() -> None:
    talk = answered()
    talk.caller_speech_started(101.0)
    talk.caller_speech_stopped(102.0)
    caller = talk.caller_said("what time is it", 102.9)
    talk.agent_words("a", "Ten.", final=True, at_ms=None)
    talk.agent_heard("a", 102.8)
    agent = talk.agent_done("a", 103.5)
    assert (caller.started_ms, caller.ended_ms) == (1000, 2000)
    assert agent is not None
    assert agent.latency_ms == 800


def caller_utters(talk: Conversation, since: float, until: float) -> None:
    talk.caller_speech_started(since)
    talk.caller_speech_stopped(until)


def when(turn: TurnSpoken) -> tuple[int, int]:
    return turn.started_ms, turn.ended_ms


def test_words_that_come_before_the_silence_are_of_what_is_being_said() -> None:
    talk = answered()
    caller_utters(talk, 101.0, 102.0)
    assert when(talk.caller_said("yes", 102.5)) == (1000, 2000)
    talk.caller_speech_started(107.0)
    assert when(talk.caller_said("goodbye", 108.4, last_speech_at=108.0)) == (7000, 8000)
    assert when(talk.caller_said("goodbye", 108.4, last_speech_at=106.0)) == (7000, 7000)
    talk.caller_speech_stopped(108.0)
    talk.caller_speech_started(110.0)
    assert when(talk.caller_said("really", 111.0, last_speech_at=110.8)) == (10_000, 10_800)


def test_words_that_come_when_he_speaks_again_are_of_what_he_said_before() -> None:
    talk = answered()
    caller_utters(talk, 101.0, 102.0)
    talk.caller_speech_started(103.0)
    assert when(talk.caller_said("yes", 103.5, last_speech_at=103.5)) == (1000, 2000)
    assert when(talk.caller_said("and no", 104.5, last_speech_at=104.0)) == (3000, 4000)


def test_a_sound_long_ago_that_was_no_word_has_none_of_later_ones() -> None:
    talk = answered()
    caller_utters(talk, 101.0, 102.0)
    talk.caller_speech_started(102.0 + LATE_WORDS_S + 1)
    assert when(talk.caller_said("hello", 110.0, last_speech_at=109.0)) == (round(3000 + 1000 * LATE_WORDS_S), 9000)


def test_what_was_no_turn_has_no_words() -> None:
    talk = answered()
    caller_utters(talk, 101.0, 102.0)
    talk.caller_disregarded()
    talk.caller_speech_started(103.0)
    assert when(talk.caller_said("hello", 104.0, last_speech_at=104.0)) == (3000, 4000)


def test_only_the_first_item_of_an_answer_has_a_latency() -> None:
    talk = answered()
    talk.caller_speech_stopped(101.0)
    latencies = []
    for item, at in (("a", 101.7), ("b", 103.0)):
        talk.agent_words(item, "words", final=True, at_ms=None)
        talk.agent_heard(item, at)
        turn = talk.agent_done(item, at + 1)
        assert turn is not None
        latencies.append(turn.latency_ms)
    assert latencies == [700, None]


def test_a_cut_item_keeps_the_words_whose_sound_had_begun() -> None:
    talk = answered()
    for at_ms, word in ((0, "one "), (400, "two "), (900, "three ")):
        talk.agent_words("a", word, final=False, at_ms=at_ms)
    talk.agent_words("a", "one two three", final=True, at_ms=None)
    talk.agent_heard("a", 100.0)
    turn = talk.agent_cut("a", 600, 1300, 100.6)
    assert turn is not None
    assert (turn.text, turn.interrupted) == ("one two", True)


def test_without_positions_the_share_of_the_audio_decides() -> None:
    talk = answered()
    talk.agent_words("a", "one two three four", final=True, at_ms=None)
    talk.agent_heard("a", 100.0)
    turn = talk.agent_cut("a", 500, 1000, 100.5)
    assert turn is not None
    assert turn.text == "one two"


def test_what_was_never_heard_is_no_turn() -> None:
    talk = answered()
    talk.agent_words("a", "unheard", final=True, at_ms=None)
    assert talk.agent_cut("a", 0, 1000, 101.0) is None
    assert talk.agent_done("never seen", 101.0) is None


def test_items_that_never_end_are_forgotten() -> None:
    talk = answered()
    for number in range(MAX_OPEN_ITEMS + 1):
        talk.agent_words(str(number), "x", final=True, at_ms=None)
        talk.agent_heard(str(number), 101.0)
    assert talk.agent_done("0", 102.0) is None
    assert talk.agent_done("1", 102.0) is not None


def test_words_without_end_are_not_kept() -> None:
    talk = answered()
    talk.agent_heard("a", 101.0)
    for _ in range(10_000):
        talk.agent_words("a", "words " * 10, final=False, at_ms=0)
    turn = talk.agent_done("a", 102.0)
    assert turn is not None
    assert len(turn.text) < MAX_CHARACTERS + 100
