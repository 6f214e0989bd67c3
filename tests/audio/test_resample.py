from __future__ import annotations

from itertools import pairwise
from math import ceil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.audio.signals import decibels, l16, level_at, samples_of, sine

from offhook.audio.resample import Resampler

RATES = [8000, 16000, 22050, 24000, 48000]
PAIRS = [(source, target) for source in RATES for target in RATES if source != target]
AMPLITUDE = 10_000.0


def converted(audio: bytes, from_hz: int, to_hz: int) -> bytes:
    """A whole signal, in 20 ms pieces."""
    resampler, piece = Resampler(from_hz, to_hz), 2 * from_hz // 50
    return b"".join(resampler(audio[at : at + piece]) for at in range(0, len(audio), piece))


def settled(audio: bytes, rate_hz: int) -> bytes:
    """Without the first 20 ms, where the filter was still empty."""
    return audio[2 * rate_hz // 50 :]


@pytest.mark.parametrize(("from_hz", "to_hz"), PAIRS)
def test_20_ms_in_give_20_ms_out(from_hz: int, to_hz: int) -> None:
    resampler = Resampler(from_hz, to_hz)
    lengths = {len(resampler(bytes(2 * from_hz // 50))) for _ in range(60)}
    assert lengths == {2 * to_hz // 50}


@pytest.mark.parametrize(("from_hz", "to_hz"), PAIRS)
@pytest.mark.parametrize("hz", [300, 1000, 3000])
def test_a_tone_of_speech_keeps_its_level_and_stays_alone(from_hz: int, to_hz: int, hz: int) -> None:
    result = settled(converted(sine(hz, 500, from_hz), from_hz, to_hz), to_hz)
    assert abs(decibels(level_at(hz, result, to_hz) / AMPLITUDE)) < 0.1
    samples = samples_of(result)
    times = np.arange(samples.size) / to_hz
    basis = np.stack([np.sin(2 * np.pi * hz * times), np.cos(2 * np.pi * hz * times)], axis=1)
    rest = samples - basis @ np.linalg.lstsq(basis, samples, rcond=None)[0]
    assert decibels(float(np.std(rest)) / (AMPLITUDE / np.sqrt(2))) < -56


@pytest.mark.parametrize("from_hz", [16000, 22050, 24000, 48000])
@pytest.mark.parametrize("hz", [4600, 4800, 5000, 5500, 6000, 6900, 7500])
def test_what_would_fold_into_the_telephone_band_is_gone(from_hz: int, hz: int) -> None:
    result = settled(converted(sine(hz, 500, from_hz), from_hz, 8000), 8000)
    assert decibels(level_at(8000 - hz, result, 8000) / AMPLITUDE) < -60


@pytest.mark.parametrize("to_hz", [16000, 24000, 48000])
@pytest.mark.parametrize("hz", [300, 1000, 2000, 3000, 3400])
def test_raising_the_rate_leaves_no_mirror_image(to_hz: int, hz: int) -> None:
    result = settled(converted(sine(hz, 500, 8000), 8000, to_hz), to_hz)
    assert decibels(level_at(8000 - hz, result, to_hz) / AMPLITUDE) < -60


@pytest.mark.parametrize(("from_hz", "to_hz"), PAIRS)
def test_the_delay_is_half_the_filter(from_hz: int, to_hz: int) -> None:
    impulse = np.zeros(from_hz // 10)
    impulse[from_hz // 50] = 20_000
    peak = int(np.argmax(np.abs(samples_of(converted(l16(impulse), from_hz, to_hz)))))
    delay_ms = 1000 * (peak / to_hz - 1 / 50)
    assert delay_ms == pytest.approx(1000 * 10 / min(from_hz, to_hz), abs=0.13)
    assert delay_ms < 1.4


def test_a_constant_stays_the_constant_it_was() -> None:
    for from_hz, to_hz in PAIRS:
        steady = samples_of(settled(converted(l16([30_000] * (from_hz // 10)), from_hz, to_hz), to_hz))
        assert set(steady) == {30_000.0}, (from_hz, to_hz)


def test_full_scale_saturates_and_does_not_wrap() -> None:
    square = np.where(np.arange(4800) // 24 % 2, 32767, -32768).astype(float)
    result = samples_of(settled(converted(l16(square), 24000, 8000), 8000))
    assert result.max() == 32767
    assert result.min() == -32768
    crossings = (np.diff(np.sign(result)) != 0).sum()
    assert crossings == len(result) / 8


@given(
    pair=st.sampled_from(PAIRS),
    cuts=st.lists(st.integers(0, 3000), max_size=12),
    seed=st.integers(0, 9),
)
def test_the_result_does_not_depend_on_the_pieces(pair: tuple[int, int], cuts: list[int], seed: int) -> None:
    """Pieces end anywhere, inside a sample too; output never runs ahead or behind."""
    from_hz, to_hz = pair
    audio = l16(np.random.default_rng(seed).normal(0, 5000, 1500))
    resampler, result, bounds = Resampler(from_hz, to_hz), b"", sorted({0, *cuts, len(audio)})
    for start, end in pairwise(bounds):
        result += resampler(audio[start:end])
        assert len(result) // 2 == ceil((end // 2) * to_hz / from_hz)
    assert result == Resampler(from_hz, to_hz)(audio)


def test_nothing_in_nothing_out() -> None:
    assert Resampler(8000, 24000)(b"") == b""
    assert Resampler(8000, 24000)(b"\x01") == b""
