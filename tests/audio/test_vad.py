from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import pytest
from tests.audio.signals import captured_speech, frames_of, l16, low_noise, spoken, white_noise

from offhook.audio.g711 import SILENCE, encode
from offhook.audio.level import frame_level_db, rms_of
from offhook.audio.tones import tone
from offhook.audio.vad import VoiceActivityDetector
from offhook.model.audio import Encoding

PCMU = Encoding.PCMU
SILENT_MS = SILENCE[PCMU] * 8
SENTENCE = (
    "the quick brown fox jumps over the lazy dog and then runs along the river until it reaches the old wooden "
    "bridge where the farmer keeps his boats and many nets for fishing in the early morning light"
)


class Noise(Protocol):
    def __call__(self, level_dbm0: float, ms: int, /, *, seed: int = 1) -> bytes: ...


def changes(audio: bytes, detector: VoiceActivityDetector | None = None) -> list[tuple[int, str]]:
    """What the detector says of this sound, each with the end of its frame in milliseconds."""
    detector = detector or VoiceActivityDetector(PCMU)
    heard = ((20 * count, detector.feed(frame)) for count, frame in enumerate(frames_of(audio), start=1))
    return [(at, change) for at, change in heard if change]


def burst(ms: int, *, offset_samples: int, amplitude: float = 30_000) -> bytes:
    """A second of silence, a noisy burst that begins anywhere in a frame, a second of silence."""
    samples = np.zeros(2 * 8000)
    start = 8000 + offset_samples
    samples[start : start + 8 * ms] = amplitude * np.sin(np.arange(8 * ms) * 0.7)
    return encode(PCMU, l16(samples))


def onset_ms(audio: bytes, encoding: Encoding = PCMU, *, above_dbm0: float = -30.0) -> int:
    """The first 5 ms of a sound above a level."""
    levels = (frame_level_db(encoding, quarter) for quarter in frames_of(audio, 40))
    return next(5 * index for index, level in enumerate(levels) if level > above_dbm0)


@pytest.mark.parametrize("noise", [white_noise, low_noise])
@pytest.mark.parametrize("level_dbm0", [-70, -50, -40, -35])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_constant_noise_is_no_speech(noise: Noise, level_dbm0: float, seed: int) -> None:
    assert changes(noise(level_dbm0, 20_000, seed=seed)) == []


@pytest.mark.parametrize("noise", [white_noise, low_noise])
def test_noise_that_begins_on_a_quiet_line_is_no_speech(noise: Noise) -> None:
    assert changes(SILENT_MS * 2000 + noise(-65, 3000) + noise(-35, 5000)) == []


def test_louder_noise_is_learned_while_it_is_taken_for_speech() -> None:
    assert changes(white_noise(-60, 3000) + white_noise(-18, 20_000)) == [(3060, "started"), (5080, "stopped")]


@pytest.mark.parametrize("milliseconds", [1, 5, 10, 20, 30, 35])
@pytest.mark.parametrize("amplitude", [3_000, 30_000])
def test_a_click_is_no_speech_wherever_it_falls(milliseconds: int, amplitude: float) -> None:
    for offset in range(0, 160, 8):
        assert changes(burst(milliseconds, offset_samples=offset, amplitude=amplitude)) == []


def test_a_click_of_39_ms_at_the_beginning_of_a_frame_is_no_speech() -> None:
    assert changes(burst(39, offset_samples=0)) == []


def test_clicks_one_after_another_are_no_speech() -> None:
    click = tone(700, 10, 0, PCMU) + SILENT_MS * 90
    assert changes(click * 50) == []


def test_speech_is_decided_on_within_60_ms_of_its_first_whole_5_ms() -> None:
    for offset in range(0, 160, 8):
        ((started_at, change), *_) = changes(burst(200, offset_samples=offset, amplitude=5_000))
        assert change == "started"
        assert started_at - (1000 + 5 * -(-offset // 40)) <= 60


@pytest.mark.parametrize("hangover_ms", [200, 500, 700])
def test_speech_ends_when_the_hangover_has_passed(hangover_ms: int) -> None:
    audio = white_noise(-60, 1000) + tone(440, 400, -20, PCMU) + white_noise(-60, 2000)
    detector = VoiceActivityDetector(PCMU, hangover_ms=hangover_ms)
    assert changes(audio, detector) == [(1060, "started"), (1400 + hangover_ms, "stopped")]


def test_a_gap_shorter_than_the_hangover_is_within_one_utterance() -> None:
    word = tone(440, 300, -20, PCMU)
    audio = white_noise(-60, 1000) + word + white_noise(-60, 400) + word + white_noise(-60, 1000)
    assert changes(audio, VoiceActivityDetector(PCMU, hangover_ms=500)) == [(1060, "started"), (2500, "stopped")]


def test_state_between_the_changes() -> None:
    detector = VoiceActivityDetector(PCMU, hangover_ms=100)
    quiet, loud = white_noise(-60, 20), tone(440, 20, -20, PCMU)
    states = []
    for frame in [quiet, loud, loud, loud, quiet, quiet, quiet, quiet, quiet, quiet]:
        detector.feed(frame)
        states.append((detector.speaking, detector.heard, detector.quiet_ms))
    assert states == [
        (False, False, 20),
        (False, False, 40),
        (False, False, 60),
        (True, True, 0),
        (True, False, 20),
        (True, False, 40),
        (True, False, 60),
        (True, False, 80),
        (False, False, 100),
        (False, False, 120),
    ]


def test_digital_silence_does_not_make_the_line_a_quiet_one() -> None:
    """A lost packet is silence: the noise that comes back after it is what it was before."""
    noise = white_noise(-31, 1000)
    assert changes(noise + (SILENT_MS * 100 + noise) * 5) == []


def test_speech_after_long_digital_silence_is_heard() -> None:
    audio = SILENT_MS * 10_000 + tone(440, 500, -20, PCMU) + SILENT_MS * 1000
    assert changes(audio) == [(10_060, "started"), (11_100, "stopped")]


@pytest.mark.parametrize("length", [0, 1, 79, 161, 320])
def test_a_frame_of_another_length_does_no_harm(length: int) -> None:
    detector = VoiceActivityDetector(PCMU)
    assert detector.feed(b"\x80" * length) is None
    assert [detector.feed(b"\x80" * 160) for _ in range(3)].count("started") == 1


@pytest.mark.parametrize("encoding", [Encoding.PCMU, Encoding.PCMA])
def test_both_laws_hear_alike(encoding: Encoding) -> None:
    audio = white_noise(-50, 1000, encoding) + tone(300, 400, -18, encoding) + white_noise(-50, 1000, encoding)
    assert changes(audio, VoiceActivityDetector(encoding)) == [(1060, "started"), (2000, "stopped")]


def test_a_wideband_leg_is_heard_alike() -> None:
    noise = l16(np.random.default_rng(1).normal(0, rms_of(-50), 16_000))
    audio = noise + tone(300, 400, -18, Encoding.L16, sample_rate_hz=16_000) + noise
    detector = VoiceActivityDetector(Encoding.L16)
    heard = ((20 * count, detector.feed(frame)) for count, frame in enumerate(frames_of(audio, 640), start=1))
    assert [(at, change) for at, change in heard if change] == [(1060, "started"), (2000, "stopped")]


@pytest.mark.parametrize("voice", ["slt", "rms", "awb"])
@pytest.mark.parametrize("noise_dbm0", [-70, -50, -35])
def test_a_spoken_sentence_is_one_utterance(voice: str, noise_dbm0: float, tmp_path: Path) -> None:
    silence = np.zeros(8000)
    speech = np.concatenate([silence, spoken("what time is it please?", tmp_path, voice=voice), silence, silence])
    noise = np.random.default_rng(3).normal(0, rms_of(noise_dbm0), speech.size)
    (started, stopped) = changes(encode(PCMU, l16(speech + noise)))
    clean = encode(PCMU, l16(speech))
    assert started[1] == "started"
    assert 0 < started[0] - onset_ms(clean) <= 60
    assert stopped[1] == "stopped"
    end_ms = 1000 + len(speech) // 8 - 3000
    assert 0 < stopped[0] - end_ms <= 700


@pytest.mark.parametrize("level_dbm0", [-15, -24, -33])
def test_a_long_sentence_without_a_pause_is_one_utterance(level_dbm0: float, tmp_path: Path) -> None:
    speech = np.concatenate([spoken(SENTENCE, tmp_path, level_dbm0=level_dbm0), np.zeros(16_000)])
    noise = np.random.default_rng(3).normal(0, 5, speech.size)
    assert [change for _, change in changes(encode(PCMU, l16(speech + noise)))] == ["started", "stopped"]


def test_captured_speech_is_heard_when_it_begins() -> None:
    speech = captured_speech()
    assert len(speech) > 7 * 8000
    ((started_at, change), *later) = changes(speech, VoiceActivityDetector(Encoding.PCMA))
    assert change == "started"
    assert 0 < started_at - onset_ms(speech, Encoding.PCMA) <= 60
    assert later == []
