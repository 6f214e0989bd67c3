"""What callers hear who wait."""

from __future__ import annotations

from pathlib import Path

import pytest

from offhook.audio.tones import tone
from offhook.audio.wav import WavError, write_wav
from offhook.call.hold_audio import MELODY, HoldAudio, read_hold_audio
from offhook.model.audio import L16_16K, PCMA_8K, PCMU_8K, AudioFormat, Encoding


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
