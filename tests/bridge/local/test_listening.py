from __future__ import annotations

import pytest

from offhook.audio.tones import tone
from offhook.bridge.local.listening import END_OF_TURN_MS, MAX_UTTERANCE_MS, PAUSE_MS, PREROLL_MS, Listening
from offhook.model.audio import Encoding

QUIET = b"\xff" * 160
LOUD = tone(300, 20, -15.0, Encoding.PCMU)


def hear(listening: Listening, frame: bytes, ms: int) -> list[tuple[int, str]]:
    """What changed while ``ms`` of one frame came in, each with its time."""
    changes = [(at + 20, listening.feed(frame)) for at in range(0, ms, 20)]
    return [(at, change) for at, change in changes if change is not None]


@pytest.fixture
def listening() -> Listening:
    calm = Listening(Encoding.PCMU)
    assert hear(calm, QUIET, 1000) == []
    return calm


def test_speech_begins_within_60_ms(listening: Listening) -> None:
    changes = hear(listening, LOUD, 200)
    assert [change for _, change in changes] == ["started"]
    assert changes[0][0] <= 60


def test_silence_pauses_then_ends(listening: Listening) -> None:
    hear(listening, LOUD, 400)
    assert hear(listening, QUIET, 1000) == [(PAUSE_MS, "paused"), (END_OF_TURN_MS, "ended")]
    assert not listening.speaking


def test_speech_after_a_pause_goes_on(listening: Listening) -> None:
    hear(listening, LOUD, 400)
    hear(listening, QUIET, 300)
    assert hear(listening, LOUD, 200) == [(20, "resumed")]
    assert hear(listening, QUIET, 600) == [(PAUSE_MS, "paused"), (END_OF_TURN_MS, "ended")]


def test_the_utterance_holds_the_line_before_it_and_all_that_was_said(listening: Listening) -> None:
    hear(listening, LOUD, 400)
    hear(listening, QUIET, PAUSE_MS)
    frames = listening.utterance()
    assert frames.count(LOUD) == 20
    assert PREROLL_MS <= len(frames) // 8 - 400 - PAUSE_MS + 60 <= PREROLL_MS + 60


def test_speech_is_measured_without_the_silence_at_its_end(listening: Listening) -> None:
    hear(listening, LOUD, 400)
    hear(listening, QUIET, 200)
    assert 380 <= listening.speech_ms <= 440


def test_a_settled_utterance_does_not_end_again(listening: Listening) -> None:
    hear(listening, LOUD, 400)
    hear(listening, QUIET, 200)
    listening.settle()
    assert hear(listening, QUIET, 1000) == []


def test_speech_inside_the_hangover_of_a_settled_utterance_is_a_new_one(listening: Listening) -> None:
    hear(listening, LOUD, 400)
    hear(listening, QUIET, 200)
    listening.settle()
    assert hear(listening, LOUD, 300) == [(60, "started")]
    assert listening.utterance().count(LOUD) <= 15
    assert [change for _, change in hear(listening, QUIET, 600)] == ["paused", "ended"]


def test_an_endless_utterance_stays_bounded(listening: Listening) -> None:
    for _ in range(MAX_UTTERANCE_MS // 20):
        hear(listening, LOUD, 60)
        hear(listening, QUIET, 100)
    assert len(listening.utterance()) <= (MAX_UTTERANCE_MS + PREROLL_MS) * 8
