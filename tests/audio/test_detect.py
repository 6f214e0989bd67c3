"""Tones with known properties go in; beeps, information tones and fax come out, and nothing of anything else."""

from __future__ import annotations

import time
from collections.abc import Iterable

import numpy as np
import pytest
from tests.answers import Samples, fax_tone, information_tones, ringback, silence, tone
from tests.audio.signals import captured_speech, voice, white_noise

from offhook.audio.detect import Sound, SoundDetector
from offhook.audio.g711 import encode
from offhook.audio.melody import melody
from offhook.call.own_words import PROMPTS, prompt_audio
from offhook.model.audio import L16_8K, PCMA_8K, PCMU_8K, AudioFormat, Encoding

FORMATS = (PCMU_8K, PCMA_8K, L16_8K)


def sounds(*parts: Samples, snr_db: float | None = None, audio_format: AudioFormat = PCMU_8K) -> list[Sound]:
    samples = np.concatenate(parts)
    if snr_db is not None:
        noise = 5000 / np.sqrt(2) * 10 ** (-snr_db / 20)
        samples = samples + np.random.default_rng(7).normal(0, noise, samples.size)
    coded = encode(audio_format.encoding, np.clip(np.rint(samples), -32768, 32767).astype("<i2").tobytes())
    return heard(coded, audio_format)


def heard(coded: bytes, audio_format: AudioFormat = PCMU_8K) -> list[Sound]:
    detector, size = SoundDetector(audio_format), audio_format.frame_bytes
    frames = (coded[at : at + size] for at in range(0, len(coded) - size + 1, size))
    return [sound for sound in map(detector.take, frames) if sound is not None]


def kinds(found: Iterable[Sound]) -> list[str]:
    return [sound.kind for sound in found]


# ── beeps ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("snr_db", [None, 30, 10])
@pytest.mark.parametrize("ms", [130, 300, 1000, 2000])
@pytest.mark.parametrize("hz", [400, 440, 850, 1000, 1400, 2000, 2200])
def test_a_beep_of_any_pitch_and_length_is_one_sound(hz: float, ms: int, snr_db: float | None) -> None:
    (beep,) = sounds(silence(207), tone(ms, hz), silence(400), snr_db=snr_db)
    assert beep.kind == "beep"
    assert abs(beep.hz - hz) < 8
    assert abs(beep.began_ms - 207) <= 20
    assert abs(beep.ended_ms - 207 - ms) <= 20


@pytest.mark.parametrize("audio_format", FORMATS, ids=lambda one: one.encoding.value)
@pytest.mark.parametrize("amplitude", [700, 5000, 30_000])
def test_it_may_be_quiet_or_loud_in_any_encoding(amplitude: float, audio_format: AudioFormat) -> None:
    found = sounds(silence(100), tone(300, 1000, amplitude=amplitude), silence(300), audio_format=audio_format)
    assert kinds(found) == ["beep"]


def test_two_tones_at_once_are_a_beep_as_well() -> None:
    (beep,) = sounds(silence(100), tone(300, 600, 900), silence(300))
    assert (beep.kind, round(beep.hz / 10), round(beep.other_hz / 10)) == ("beep", 60, 90)


@pytest.mark.parametrize("lost", [{7}, {7, 8}, {5, 9, 13}], ids=["one", "two on end", "three"])
@pytest.mark.parametrize("filling", [b"\xff" * 160, None], ids=["silence", "the last frame again"])
def test_frames_that_were_lost_do_not_part_it(lost: set[int], filling: bytes | None) -> None:
    coded = encode(Encoding.PCMU, np.concatenate([silence(60), tone(400, 1000), silence(300)]).astype("<i2").tobytes())
    frames = [coded[at : at + 160] for at in range(0, len(coded) - 159, 160)]
    for at in sorted(lost):
        frames[at] = frames[at - 1] if filling is None else filling
    assert kinds(heard(b"".join(frames))) == ["beep"]


def test_one_that_might_begin_the_information_tones_is_told_when_no_other_follows() -> None:
    assert kinds(sounds(silence(100), tone(330, 950), silence(1500))) == ["beep"]


# ── information tones, fax ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("snr_db", [None, 10])
@pytest.mark.parametrize("gap_ms", [0, 30, 500])
@pytest.mark.parametrize(
    ("hz", "ms"),
    [((950, 1400, 1800), 330), ((985, 1429, 1777), 276), ((914, 1371, 1777), 380), ((920, 1430, 1835), 270)],
)
def test_three_rising_tones_are_the_networks(
    hz: tuple[float, float, float], ms: float, gap_ms: float, snr_db: float | None
) -> None:
    found = sounds(silence(207), information_tones(hz, ms, gap_ms), silence(2000), snr_db=snr_db)
    assert kinds(found) == ["sit"]


def test_three_falling_ones_are_not() -> None:
    assert "sit" not in kinds(sounds(silence(100), information_tones((1800, 1400, 950)), silence(2000)))


@pytest.mark.parametrize("snr_db", [None, 15])
@pytest.mark.parametrize("reversals", [False, True], ids=["CED", "ANSam"])
def test_the_answer_tone_of_a_fax_is_known_in_a_second(reversals: bool, snr_db: float | None) -> None:
    (found,) = sounds(silence(300), fax_tone(reversals=reversals), silence(300), snr_db=snr_db)
    assert found.kind == "fax"
    assert found.ended_ms < 1300


def test_a_calling_fax_is_sure_with_its_second_burst() -> None:
    burst = tone(500, 1100)
    found = sounds(silence(100), burst, silence(3000), burst, silence(200))
    assert kinds(found) == ["calling_fax", "fax"]


# ── what is none of these ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "samples",
    [
        ringback(american=True),
        ringback(american=False),
        np.concatenate([part for _ in range(4) for part in (tone(500, 425), silence(500))]),
        np.concatenate([part for _ in range(4) for part in (tone(500, 480, 620), silence(500))]),
        np.concatenate([part for _ in range(2) for part in (tone(400, 400, 450), silence(200))]),
        np.concatenate([tone(1500, 350, 440), silence(500)]),
    ],
    ids=["ringing US", "ringing EU", "busy EU", "busy US", "ringing GB", "dial tone US"],
)
def test_the_networks_own_tones_mean_nothing(samples: Samples) -> None:
    assert sounds(silence(107), samples, samples, silence(300)) == []


def test_keys_mean_nothing() -> None:
    keys = [part for row in (697, 770, 852, 941) for column in (1209, 1336, 1477) for part in _key(row, column)]
    assert sounds(silence(100), *keys) == []


def _key(row: float, column: float) -> tuple[Samples, Samples]:
    return tone(120, row, column), silence(80)


def test_music_on_hold_means_nothing() -> None:
    notes = np.frombuffer(melody(), dtype="<i2").astype(float)[::2]
    assert sounds(*[3 * notes] * 3) == []


def test_voices_and_noise_mean_nothing() -> None:
    assert sounds(*[voice(seed) for seed in range(20)]) == []
    assert heard(white_noise(-20, 4000)) == []
    assert [heard(prompt_audio(prompt, PCMU_8K)) for prompt in PROMPTS] == [[]] * len(PROMPTS)


def test_recorded_speech_means_nothing() -> None:
    assert heard(captured_speech(), PCMA_8K) == []


def test_a_tone_is_known_as_such_before_it_is_speech() -> None:
    detector = SoundDetector(PCMU_8K)
    coded = encode(Encoding.PCMU, tone(200, 425).astype("<i2").tobytes())
    for at in range(0, 480, 160):
        detector.take(coded[at : at + 160])
    assert detector.sounding


def test_whatever_comes_nothing_raises() -> None:
    detector = SoundDetector(PCMU_8K)
    for frame in (b"", b"\x00", b"\x7f" * 160, b"\xff" * 500, bytes(range(160))):
        detector.take(frame)


def test_a_frame_takes_less_than_a_tenth_of_a_millisecond() -> None:
    frames = [encode(Encoding.PCMU, tone(20, 1000).astype("<i2").tobytes())] * 500
    detector, best = SoundDetector(PCMU_8K), 1.0
    for _ in range(5):
        began = time.perf_counter()
        for frame in frames:
            detector.take(frame)
        best = min(best, (time.perf_counter() - began) / len(frames))
    assert best < 100e-6
