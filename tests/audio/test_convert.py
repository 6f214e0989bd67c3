from __future__ import annotations

from itertools import product
from typing import get_args

import pytest
from tests.audio.signals import decibels, level_at

from offhook.audio.convert import converter
from offhook.audio.g711 import PCMA_TO_PCMU, PCMU_TO_PCMA, decode, encode
from offhook.audio.tones import tone
from offhook.model.audio import L16_8K, L16_16K, PCMA_8K, PCMU_8K, AudioFormat, Encoding, SampleRate

EVERY_CODE = bytes(range(256))
FORMATS = [
    AudioFormat(encoding=encoding, sample_rate_hz=rate) for encoding, rate in product(Encoding, get_args(SampleRate))
]


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
@pytest.mark.parametrize("target", [PCMU_8K, PCMA_8K, L16_16K])
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
