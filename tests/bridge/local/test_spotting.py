"""Phrases are spotted in what our own voice says, through a telephone line; and in nothing else."""

from __future__ import annotations

import pytest

from offhook.audio.g711 import decode
from offhook.model.audio import L16_8K, PCMU_8K, Encoding

pytest.importorskip("pocketsphinx", reason="the extra local is not installed")
pytest.importorskip("espeakng_loader", reason="the extra local is not installed")

from offhook.bridge.local.recogniser import Recogniser
from offhook.bridge.local.voice import Voice


@pytest.fixture(scope="module")
def recogniser() -> Recogniser:
    return Recogniser()


@pytest.fixture(scope="module")
def voice() -> Voice:
    return Voice()


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("You have reached the voicemail of John Miller. Please leave a message after the tone.", "voice mail"),
        ("The person you are trying to reach is not available.", "not available"),
        ("Please state your name and why you are calling.", "state your name"),
        ("Good morning, this is Karen, how may I help you today?", "how may i help"),
    ],
)
def test_a_phrase_is_spotted(text: str, phrase: str, recogniser: Recogniser, voice: Voice) -> None:
    audio = decode(Encoding.PCMU, voice.speak(text, PCMU_8K).audio)
    assert phrase in recogniser.spot(audio)


def test_nothing_is_spotted_where_nothing_was_said(recogniser: Recogniser, voice: Voice) -> None:
    assert recogniser.spot(b"") == ()
    assert recogniser.spot(bytes(16_000)) == ()
    assert recogniser.spot(voice.speak("My sister lives in Boston.", L16_8K).audio) == ()


def test_the_other_searches_go_on_as_before(recogniser: Recogniser, voice: Voice) -> None:
    asked = voice.speak("Goodbye.", L16_8K).audio
    before = recogniser.recognise(asked)
    recogniser.spot(voice.speak("Please leave a message.", L16_8K).audio)
    assert recogniser.recognise(asked) == before == "goodbye"
