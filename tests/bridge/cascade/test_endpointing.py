"""When the caller begins, pauses, goes on and has finished."""

from __future__ import annotations

import pytest

from offhook.audio.g711 import silence
from offhook.audio.tones import tone
from offhook.bridge.cascade.endpointing import MAX_TURN_MS, Endpointer, Pauses
from offhook.model.audio import FRAME_MS, L16_16K, PCMA_8K, PCMU_8K, AudioFormat


class Line:
    def __init__(self, audio_format: AudioFormat = PCMU_8K, pauses: Pauses | None = None) -> None:
        self.endpointer = Endpointer(audio_format.encoding, pauses)
        self.format = audio_format
        self.at_ms = 0
        self.changes: list[tuple[str, int]] = []

    def speak(self, ms: int) -> Line:
        return self.play(tone(440, ms, -12, self.format.encoding, sample_rate_hz=self.format.sample_rate_hz))

    def murmur(self, ms: int) -> Line:
        """The gap between words, on a line that is never quite silent."""
        return self.play(tone(440, ms, -60, self.format.encoding, sample_rate_hz=self.format.sample_rate_hz))

    def be_silent(self, ms: int) -> Line:
        return self.play(silence(self.format) * (ms // FRAME_MS))

    def play(self, audio: bytes) -> Line:
        size = self.format.frame_bytes
        for at in range(0, len(audio), size):
            self.at_ms += FRAME_MS
            change = self.endpointer.feed(audio[at : at + size])
            if change is not None:
                self.changes.append((change, self.at_ms))
        return self

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.changes]


@pytest.mark.parametrize("audio_format", [PCMU_8K, PCMA_8K, L16_16K])
def test_a_turn(audio_format: AudioFormat) -> None:
    line = Line(audio_format).be_silent(500).speak(800).be_silent(1000)
    (_, began), (_, paused), (_, ended) = line.changes
    assert line.names == ["began", "paused", "ended"]
    assert 100 <= began - 500 <= 200
    assert 260 <= paused - 1300 <= 320
    assert 580 <= ended - 1300 <= 640
    assert 700 <= line.endpointer.speech_ms <= 840


def test_a_pause_within_a_turn() -> None:
    line = Line().speak(600).be_silent(400).speak(600).be_silent(800)
    assert line.names == ["began", "paused", "resumed", "paused", "ended"]


def test_a_cough_is_no_turn() -> None:
    line = Line().be_silent(500).speak(60).be_silent(1000).speak(600).be_silent(1000)
    assert line.names == ["began", "paused", "ended"]


def test_the_turn_holds_the_soft_beginning_and_nothing_of_the_turn_before() -> None:
    line = Line().be_silent(1000).speak(600).be_silent(800)
    first = line.endpointer.turn()
    line.be_silent(1000).speak(300).be_silent(800)
    second = line.endpointer.turn()
    assert first.startswith(silence(PCMU_8K) * 10)
    assert len(second) == len(first) - 300 * 8


def test_the_silence_that_ends_a_turn_can_be_chosen() -> None:
    line = Line(pauses=Pauses(eager_ms=200, end_ms=1000)).speak(600).be_silent(900).speak(600).be_silent(1200)
    assert line.names == ["began", "paused", "resumed", "paused", "ended"]


def test_a_turn_without_end_ends() -> None:
    line = Line()
    for _ in range(MAX_TURN_MS // 1000 * 3):
        line.speak(500).murmur(100)
    assert line.names.count("ended") == 1
    assert len(line.endpointer.turn()) <= MAX_TURN_MS * 8
    line.murmur(3000).speak(500).murmur(1000)
    assert line.names.count("began") == 2
