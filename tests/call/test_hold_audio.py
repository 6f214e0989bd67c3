"""What callers hear who wait."""

from __future__ import annotations

from pathlib import Path

import pytest

from offhook.audio.tones import tone
from offhook.audio.wav import WavError, write_wav
from offhook.call import hold_audio
from offhook.call.hold_audio import MELODY, HoldAudio, fetched_frames, read_hold_audio
from offhook.model.audio import L16_16K, PCMA_8K, PCMU_8K, AudioFormat, Encoding, SampleRate


class Leg:
    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def relay(self, frame: bytes) -> None:
        self.frames.append(frame)


def played(audio: HoldAudio, name: str, audio_format: AudioFormat, frames: int) -> list[bytes]:
    leg = Leg()
    player = audio.player(name, audio_format, leg)
    for _ in range(frames):
        player.feed(b"")
    return leg.frames


@pytest.mark.parametrize("audio_format", [PCMU_8K, PCMA_8K, L16_16K])
def test_the_melody_goes_round_in_whole_frames_of_any_leg(audio_format: AudioFormat) -> None:
    frames = played(HoldAudio(), MELODY, audio_format, 700)
    assert {len(frame) for frame in frames} == {audio_format.frame_bytes}
    assert frames[:100] == frames[300:400]
    assert len(set(frames)) > 100


def test_a_file_of_the_agents_own_is_played_in_the_format_of_the_leg() -> None:
    sound = tone(1000, 100, -10, Encoding.PCMU)
    audio = HoldAudio()
    audio.add("own.wav", write_wav(PCMU_8K, sound))
    assert b"".join(played(audio, "own.wav", PCMU_8K, 5)) == sound
    assert played(audio, "own.wav", L16_16K, 6)[5] == played(audio, "own.wav", L16_16K, 1)[0]
    assert played(audio, "other.wav", PCMU_8K, 1) == played(audio, MELODY, PCMU_8K, 1)


def test_what_cannot_be_played_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(WavError):
        HoldAudio().add("x", b"no wav")
    with pytest.raises(WavError, match="shorter"):
        HoldAudio().add("x", write_wav(PCMU_8K, bytes(10)))
    with pytest.raises(WavError, match="cannot be read"):
        read_hold_audio(tmp_path / "missing.wav")


URL = "https://app.example.com/hold.wav"


def test_what_a_url_led_to_is_played_as_a_file_is() -> None:
    sound = tone(1000, 100, -10, Encoding.PCMU)
    audio = HoldAudio()
    audio.add("own.wav", write_wav(PCMU_8K, sound))
    audio.keep(URL, fetched_frames(write_wav(PCMU_8K, sound)))
    for audio_format in (PCMU_8K, PCMA_8K, L16_16K):
        assert played(audio, URL, audio_format, 7) == played(audio, "own.wav", audio_format, 7)
    assert played(audio, "https://other.example", PCMU_8K, 1) == played(audio, MELODY, PCMU_8K, 1)


@pytest.mark.parametrize("rate", [8000, 16000, 24000, 48000])
def test_any_sample_rate_comes_out_at_its_length(rate: SampleRate) -> None:
    source = AudioFormat(encoding=Encoding.L16, sample_rate_hz=rate)
    frames = fetched_frames(write_wav(source, bytes(source.frame_bytes * 50)))
    assert {len(of_format) for of_format in frames.values()} == {50}


def test_a_long_one_is_cut_and_one_too_many_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hold_audio, "MAX_FETCHED_S", 1)
    monkeypatch.setattr(hold_audio, "MOST_FETCHED", 2)
    frames = fetched_frames(write_wav(PCMU_8K, bytes(8000 * 3)))
    assert len(frames[PCMU_8K]) == 50
    audio = HoldAudio()
    for name in "abac":
        audio.keep(f"{URL}?{name}", frames)
    assert [audio.has(f"{URL}?{name}") for name in "abc"] == [True, False, True]


@pytest.mark.parametrize("content", [b"", b"<html>", write_wav(PCMU_8K, bytes(10))])
def test_what_is_no_sound_is_an_error(content: bytes) -> None:
    with pytest.raises(WavError):
        fetched_frames(content)


def test_only_urls_are_wanted_of_anybody() -> None:
    wanted: list[str] = []
    audio = HoldAudio()
    audio.want(URL)
    audio.on_wanted = wanted.append
    for name in ("", "own.wav", URL, "http://here.example/a.wav"):
        audio.want(name)
    assert wanted == [URL, "http://here.example/a.wav"]
