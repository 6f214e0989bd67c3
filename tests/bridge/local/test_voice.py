"""Only what needs no espeak-ng: the library is loaded in the voice process alone (see ``test_engine``)."""

from __future__ import annotations

import espeakng_loader
import pytest

from offhook.bridge.local import voice
from offhook.bridge.local.voice import Voice, VoiceError, pronounced, word_positions


@pytest.mark.parametrize(
    ("written", "spoken"),
    [("9:05", "9 oh 5"), ("12:00", "12 oh 0"), ("9:47", "9:47"), ("(9:05),", "(9 oh 5),"), ("hello", "hello")],
)
def test_minutes_below_ten_are_spoken_with_oh(written: str, spoken: str) -> None:
    assert pronounced(written) == spoken


def test_each_word_begins_where_its_first_sound_does() -> None:
    words = ["It", "is", "9:47", "PM."]
    events = [(0, 0), (3, 113), (6, 261), (8, 589), (9, 990), (11, 1436)]
    assert word_positions(words, events) == (0, 113, 261, 1436)


def test_a_word_without_a_sound_of_its_own_shares_the_next_ones_place() -> None:
    assert word_positions(["for", "the", "time"], [(0, 0), (8, 300)]) == (0, 300, 300)


def test_words_after_the_last_sound_stay_at_its_place() -> None:
    assert word_positions(["a", "-", "!"], [(0, 50)]) == (50, 50, 50)
    assert word_positions(["a"], []) == (0,)
    assert word_positions([], [(0, 0)]) == ()


def test_a_path_that_espeak_would_cut_is_told_before_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(espeakng_loader, "get_data_path", lambda: "/" + "x" * voice.MAX_DATA_PATH_BYTES)
    with pytest.raises(VoiceError, match="install offhook in a folder with a shorter path"):
        Voice()
