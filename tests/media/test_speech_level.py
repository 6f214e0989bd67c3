from __future__ import annotations

import numpy as np
import pytest

from offhook.audio.g711 import encode
from offhook.audio.level import rms_of
from offhook.media.speech_level import SpeechLevel
from offhook.model.audio import Encoding

FRAME = 160


def noise(level_dbm0: float, frames: int, *, seed: int = 1, samples: int = FRAME) -> list[bytes]:
    rng = np.random.default_rng(seed)
    wave = np.clip(rng.normal(0, rms_of(level_dbm0), frames * samples), -32768, 32767).astype("<i2")
    coded = encode(Encoding.PCMU, wave.tobytes())
    return [coded[start : start + samples] for start in range(0, len(coded), samples)]


def judge(frames: list[bytes], level: SpeechLevel | None = None) -> list[bool]:
    level = level or SpeechLevel(Encoding.PCMU)
    return [level.sounds(frame) for frame in frames]


def test_silence_is_no_speech() -> None:
    assert not any(judge([b"\xff" * FRAME] * 100 + noise(-50, 100)))


@pytest.mark.parametrize("samples", [80, 160, 240, 480])
def test_speech_is_heard_from_the_first_packet_whatever_its_length(samples: int) -> None:
    assert all(judge(noise(-18, 20, samples=samples)))


@pytest.mark.parametrize("background", [-60.0, -40.0, -32.0])
def test_noise_of_the_line_is_learned_and_speech_stands_out(background: float) -> None:
    level = SpeechLevel(Encoding.PCMU)
    judge(noise(background, 150), level)
    assert sum(judge(noise(background, 200, seed=2), level)) <= 2
    assert sum(judge(noise(-18, 20, seed=3), level)) >= 19
    assert sum(judge(noise(background, 100, seed=4), level)) <= 2


def test_noise_that_ends_is_forgotten() -> None:
    level = SpeechLevel(Encoding.PCMU)
    judge(noise(-25, 200), level)
    judge(noise(-60, 100), level)
    assert all(judge(noise(-24, 20, seed=5), level))


def test_speech_after_a_muted_line_is_heard_at_once() -> None:
    level = SpeechLevel(Encoding.PCMU)
    judge([b"\xff" * FRAME] * 300, level)
    assert all(judge(noise(-18, 20), level))


def test_an_empty_packet_is_no_speech() -> None:
    assert judge([b""]) == [False]
