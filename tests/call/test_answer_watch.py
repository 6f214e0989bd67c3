"""What is done about who picked up, with streams of sound: voices, beeps and words as a recogniser gives them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from tests.answers import Samples, fax_tone, information_tones, ringback, silence, tone
from tests.audio.signals import voice
from tests.call.pickups import PlayedPickup

from offhook.call.answer_watch import ANSWER_THE_SCREENER, LEAVE_A_MESSAGE, PERSON_CAME, PERSON_WAITS
from offhook.call.ports import Spotter
from offhook.model.audio import AudioFormat, Encoding
from offhook.model.records import AnsweringMachinePlan


def speech(ms: int, seed: int = 3) -> Samples:
    """Without a pause that is longer than within sentences."""
    samples = voice(seed, ms + 2000)
    loud = np.flatnonzero(np.abs(samples) > 200)
    return samples[loud[0] : loud[0] + 8 * ms]


def says(*phrases: str) -> Spotter:
    """A recogniser that hears these at once."""

    async def spot(audio: bytes, audio_format: AudioFormat) -> tuple[str, ...]:
        return phrases

    return spot


def plan(**said: str) -> AnsweringMachinePlan:
    return AnsweringMachinePlan(detect=True, **said)  # type: ignore[arg-type]  # literals


@pytest.fixture(name="played")
def _played() -> Iterator[list[PlayedPickup]]:
    calls: list[PlayedPickup] = []
    yield calls
    for call in calls:
        call.close()


def person(call: PlayedPickup) -> None:
    call.answered(np.concatenate([silence(400), speech(900), silence(900)]))


def voicemail(call: PlayedPickup) -> None:
    call.answered(np.concatenate([silence(400), speech(4000), silence(400), tone(400, 1000), silence(300)]))


@pytest.mark.parametrize("encoding", [Encoding.PCMU, Encoding.PCMA])
def test_the_agent_is_withheld_until_a_person_is_known(encoding: Encoding) -> None:
    call = PlayedPickup(encoding=encoding)
    person(call)
    assert call.verdicts == ["human"]
    assert call.done == ["withhold", "release"]


def test_an_agent_that_waits_for_the_callee_is_told_that_he_waits() -> None:
    call = PlayedPickup(first_speaker="caller")
    person(call)
    assert call.done == ["withhold", f"release {[PERSON_WAITS]}"]


def test_after_the_beep_the_agent_is_told_to_leave_a_message_and_given_a_minute() -> None:
    call = PlayedPickup()
    voicemail(call)
    assert call.verdicts == ["voicemail"]
    assert call.done[-1] == f"release {[LEAVE_A_MESSAGE]}"
    assert call.timers == ["voicemail"]
    assert not call.listens
    call.watch.message_is_due()
    assert call.done[-1].startswith("end: answering_machine")


def test_a_message_is_said_word_by_word() -> None:
    call = PlayedPickup(plan(on_voicemail="leave_message", message="Call us back."))
    voicemail(call)
    assert call.done[-1] == "say and leave: Call us back."


def test_one_hangs_up_as_soon_as_it_is_voicemail(played: list[PlayedPickup]) -> None:
    call = PlayedPickup(plan(on_voicemail="hang_up"), spotter=says("leave a message"))
    played.append(call)
    call.answered(np.concatenate([silence(400), speech(3000)]))
    assert call.done[-1] == "end: answering_machine: voicemail picked up: the words “leave a message”"
    assert not call.listens


def test_or_goes_on_as_with_anybody(played: list[PlayedPickup]) -> None:
    call = PlayedPickup(plan(on_voicemail="ignore"), spotter=says("leave a message"))
    played.append(call)
    call.answered(np.concatenate([silence(400), speech(3000)]))
    assert (call.verdicts, call.done[-1]) == (["voicemail"], "release")


def test_a_person_who_was_a_greeting_is_no_longer_spoken_to(played: list[PlayedPickup]) -> None:
    call = PlayedPickup()
    person(call)
    call.passes(200)
    assert call.done[-1] == "release"
    call.plays(np.concatenate([speech(3000), silence(400), tone(400, 850), silence(300)]))
    assert call.verdicts == ["human", "voicemail"]
    assert call.done[-1] == f"release {[LEAVE_A_MESSAGE]}"


def screener(call: PlayedPickup) -> None:
    call.answered(np.concatenate([silence(400), speech(3000), silence(1200)]))


def test_a_screener_is_answered_by_the_agent_and_the_person_after_it_told_of(played: list[PlayedPickup]) -> None:
    words = ["state your name"]

    async def spot(audio: bytes, audio_format: AudioFormat) -> tuple[str, ...]:
        return tuple(words)

    call = PlayedPickup(spotter=spot)
    played.append(call)
    screener(call)
    assert call.done[-1] == f"release {[ANSWER_THE_SCREENER]}"
    words.clear()
    call.plays(np.concatenate([silence(5000), speech(700), silence(900)]))
    assert call.verdicts == ["screening", "human"]
    assert call.done[-1] == f"tell: {PERSON_CAME}"


def test_or_by_the_words_that_were_given(played: list[PlayedPickup]) -> None:
    call = PlayedPickup(plan(on_screening="answer", screening_answer="It is Acme."), spotter=says("state your name"))
    played.append(call)
    screener(call)
    assert call.done[-2:] == ["release []", "say: It is Acme."]


def test_or_left(played: list[PlayedPickup]) -> None:
    call = PlayedPickup(plan(on_screening="hang_up"), spotter=says("state your name"))
    played.append(call)
    screener(call)
    assert call.done[-1].startswith("end: answering_machine: call screening picked up")


@pytest.mark.parametrize("samples", [information_tones(), fax_tone()], ids=["sit", "fax"])
@pytest.mark.parametrize("early", [True, False])
def test_information_tones_and_fax_end_the_call(early: bool, samples: Samples) -> None:
    call = PlayedPickup()
    heard = np.concatenate([silence(300), samples, silence(300)])
    if early:
        call.early(heard)
    else:
        call.answered(heard)
    assert len(call.verdicts) == 1
    assert call.done[-1].startswith("end: answering_machine: no person picked up")
    assert call.judged[0][1].early == early


def test_a_greeting_before_the_answer_counts_and_is_acted_upon_with_it() -> None:
    call = PlayedPickup()
    call.early(np.concatenate([ringback(american=True), speech(4000), silence(300), tone(400, 1000), silence(300)]))
    assert call.verdicts == ["voicemail"]
    assert call.done == ["withhold"]
    call.answered(silence(100))
    assert call.done[-1] == f"release {[LEAVE_A_MESSAGE]}"


@pytest.mark.parametrize("american", [True, False])
def test_ringing_before_the_answer_is_nobody(american: bool) -> None:
    call = PlayedPickup()
    call.early(np.concatenate([ringback(american=american)] * 3))
    assert call.verdicts == []
    person(call)
    assert call.verdicts == ["human"]


def test_the_recogniser_is_asked_of_what_is_said_one_piece_at_a_time() -> None:
    pieces: list[int] = []

    async def spot(audio: bytes, audio_format: AudioFormat) -> tuple[str, ...]:
        pieces.append(len(audio) // 8)
        return ()

    call = PlayedPickup(spotter=spot)
    call.answered(np.concatenate([silence(400), speech(6000), silence(600)]))
    assert 3 <= len(pieces) <= 6
    assert max(pieces) <= 5000


def test_music_before_the_answer_does_not_use_up_the_recogniser(played: list[PlayedPickup]) -> None:
    words: list[str] = []

    async def spot(audio: bytes, audio_format: AudioFormat) -> tuple[str, ...]:
        return tuple(words)

    call = PlayedPickup(plan(on_voicemail="hang_up"), spotter=spot)
    played.append(call)
    call.early(np.concatenate([speech(9000)] * 12))
    words.append("leave a message")
    call.answered(np.concatenate([silence(400), speech(3000)]))
    assert call.done[-1] == "end: answering_machine: voicemail picked up: the words “leave a message”"


def test_nothing_is_listened_for_once_the_call_ends() -> None:
    call = PlayedPickup()
    person(call)
    call.watch.stop()
    call.watch.stop()
    assert not call.listens


# ── whoever it is does not stay ──


def test_who_is_on_hold_is_not_judged_by_his_silence() -> None:
    call = PlayedPickup()
    call.answered(silence(400))
    call.attends = False
    call.passes(10_000)
    assert call.verdicts == []
    call.attends = True
    call.plays(np.concatenate([speech(900), silence(900)]))
    assert call.verdicts == ["human"]


def test_who_is_sent_on_is_in_nobodys_way() -> None:
    call = PlayedPickup(plan(on_voicemail="hang_up"))
    call.answered(silence(400))
    call.watch.party_moves()
    assert (call.done, call.listens) == (["withhold", "release []"], False)


def test_an_agent_that_sends_a_person_on_is_not_cut_short() -> None:
    call = PlayedPickup(plan(on_voicemail="hang_up"))
    person(call)
    call.watch.party_moves()
    assert (call.done, call.listens) == (["withhold", "release"], False)


def test_who_comes_in_his_place_is_greeted() -> None:
    call = PlayedPickup()
    call.answered(silence(400))
    call.watch.party_moved()
    call.watch.party_moved()
    assert (call.done, call.listens) == (["withhold", "release"], False)


def test_voicemail_that_is_sent_on_is_not_ended_with_its_minute() -> None:
    call = PlayedPickup()
    voicemail(call)
    call.attends = False
    call.watch.message_is_due()
    assert call.done[-1] == f"release {[LEAVE_A_MESSAGE]}"
