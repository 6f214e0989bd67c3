from __future__ import annotations

from itertools import product
from typing import get_args

import numpy as np
import pytest
from tests.audio.signals import decibels, frames_of, level_at, samples_of

from offhook.audio.convert import converter
from offhook.audio.g711 import PCMA_TO_PCMU, PCMU_TO_PCMA, decode, encode
from offhook.audio.tones import tone
from offhook.model.audio import L16_8K, L16_16K, PCMA_8K, PCMU_8K, AudioFormat, Encoding, SampleRate

EVERY_CODE = bytes(range(256))
FORMATS = [
    AudioFormat(encoding=encoding, sample_rate_hz=rate)
    for encoding, rate in product((Encoding.PCMU, Encoding.PCMA, Encoding.L16), get_args(SampleRate))
]
LEG_FORMATS = [PCMU_8K, PCMA_8K, L16_16K]


def convert(audio: bytes, source: AudioFormat, target: AudioFormat) -> bytes:
    run = converter(source, target)
    assert run is not None
    return run(audio)


@pytest.mark.parametrize("audio_format", FORMATS)
def test_the_same_format_needs_no_conversion(audio_format: AudioFormat) -> None:
    assert converter(audio_format, audio_format) is None


def test_between_the_laws_by_table() -> None:
    assert convert(EVERY_CODE, PCMU_8K, PCMA_8K) == PCMU_TO_PCMA
    assert convert(EVERY_CODE, PCMA_8K, PCMU_8K) == PCMA_TO_PCMU


def test_between_a_law_and_samples() -> None:
    assert convert(EVERY_CODE, PCMU_8K, L16_8K) == decode(Encoding.PCMU, EVERY_CODE)
    samples = decode(Encoding.PCMA, EVERY_CODE)
    assert convert(samples, L16_8K, PCMA_8K) == encode(Encoding.PCMA, samples) == EVERY_CODE


def test_half_a_sample_waits_for_the_next_piece() -> None:
    run = converter(L16_8K, PCMU_8K)
    assert run is not None
    samples = decode(Encoding.PCMU, EVERY_CODE.replace(b"\x7f", b"\xff"))
    pieces = [samples[at : at + 3] for at in range(0, len(samples), 3)]
    assert b"".join(run(piece) for piece in pieces) == EVERY_CODE.replace(b"\x7f", b"\xff")


@pytest.mark.parametrize("source", FORMATS)
@pytest.mark.parametrize("target", LEG_FORMATS)
def test_a_tone_arrives_in_every_format(source: AudioFormat, target: AudioFormat) -> None:
    audio = tone(1000, 500, -10, source.encoding, sample_rate_hz=source.sample_rate_hz)
    run = converter(source, target)
    result = run(audio) if run else audio
    assert len(result) == 25 * target.frame_bytes
    heard = level_at(1000, decode(target.encoding, result)[640:], target.sample_rate_hz)
    sent = level_at(1000, decode(source.encoding, audio)[640:], source.sample_rate_hz)
    assert abs(decibels(heard / sent)) < 0.2


def test_each_conversion_has_its_own_state() -> None:
    first, second = converter(PCMU_8K, L16_16K), converter(PCMU_8K, L16_16K)
    assert first is not None
    assert second is not None
    loud = tone(1000, 20, 0, Encoding.PCMU)
    first(loud)
    assert second(b"\xff" * 160) == bytes(640)
    assert first(b"\xff" * 160) != bytes(640)


@pytest.mark.parametrize("source", LEG_FORMATS)
@pytest.mark.parametrize("target", LEG_FORMATS)
def test_between_legs_a_frame_makes_a_frame_and_is_late_by_no_more_than_5_ms(
    source: AudioFormat, target: AudioFormat
) -> None:
    """The delay is read from the phase of a sine that was there from the start."""
    run = converter(source, target) or bytes
    audio = tone(100, 200, -10, source.encoding, sample_rate_hz=source.sample_rate_hz)
    frames = [run(frame) for frame in frames_of(audio, source.frame_bytes)]
    assert {len(frame) for frame in frames} == {target.frame_bytes}
    steady = samples_of(decode(target.encoding, b"".join(frames[2:])))  # whole periods were left out
    times = np.arange(steady.size) / target.sample_rate_hz
    phase = np.angle((steady * np.exp(-2j * np.pi * 100 * times)).sum()) + np.pi / 2
    assert -phase / (2 * np.pi * 100) * 1000 == pytest.approx(
        0 if source.sample_rate_hz == target.sample_rate_hz else 1.25, abs=0.07
    )
