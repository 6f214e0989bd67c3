from __future__ import annotations

import builtins
import importlib
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.audio.signals import decibels, frames_of, l16, level_at, samples_of, sine

from offhook.audio import opus
from offhook.audio.opus import MOST_DURATION, OpusDecoder, OpusEncoder, opus_problem, packet_duration

FRAME = 960  # 20 ms
needs_opus = pytest.mark.skipif(opus_problem() is not None, reason=str(opus_problem()))


def packet(config: int, code: int, *rest: int) -> bytes:
    return bytes([config << 3 | code, *rest])


@pytest.mark.parametrize(
    ("config", "milliseconds"),
    [(0, 10), (1, 20), (2, 40), (3, 60), (9, 20), (11, 60), (12, 10), (15, 20), (16, 2.5), (17, 5), (30, 10), (31, 20)],
)
def test_the_first_byte_tells_the_length_of_a_frame(config: int, milliseconds: float) -> None:
    assert packet_duration(packet(config, 0)) == milliseconds * 48


@pytest.mark.parametrize(
    ("coded", "milliseconds"),
    [
        (packet(1, 1), 40),
        (packet(1, 2), 40),
        (packet(1, 3, 3), 60),
        (packet(1, 3, 0xC0 | 6), 120),
        (packet(16, 3, 48), 120),
        (packet(1, 3, 7), 0),  # RFC 6716 §3.2.5: not more than 120 ms
        (packet(1, 3, 0), 0),
        (packet(1, 3), 0),
        (b"", 0),
    ],
)
def test_the_length_of_a_packet(coded: bytes, milliseconds: int) -> None:
    assert packet_duration(coded) == milliseconds * 48


@given(st.binary(max_size=300))
def test_no_packet_is_longer_than_120_ms(coded: bytes) -> None:
    duration = packet_duration(coded)
    assert 0 <= duration <= MOST_DURATION
    assert duration % 120 == 0


@pytest.fixture
def unknown(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Forgets what was found before and after the test."""
    opus.opus_problem.cache_clear()
    opus._library.cache_clear()
    yield monkeypatch
    opus.opus_problem.cache_clear()
    opus._library.cache_clear()


@pytest.mark.parametrize(
    ("problem", "told"),
    [
        (ModuleNotFoundError("No module named 'opuslib_next'"), "pip install 'offhook[opus]'"),
        (builtins.Exception("Could not find Opus library. Make sure it is installed."), "apt-get install libopus0"),
        (OSError("libopus.so.0: invalid ELF header"), "apt-get install libopus0"),
    ],
)
def test_what_is_missing_is_told_with_its_remedy(unknown: pytest.MonkeyPatch, problem: Exception, told: str) -> None:
    def fail(name: str) -> ModuleType:
        raise problem

    unknown.setattr(importlib, "import_module", fail)
    assert told in str(opus_problem())


# ── with libopus ─────────────────────────────────────────────────────────────────────────────────────────


def coded(audio: bytes) -> list[bytes]:
    encoder = OpusEncoder()
    return [encoder.encode(frame) for frame in frames_of(audio, 640)]


@needs_opus
@pytest.mark.parametrize("hz", [300, 1000, 3000, 5000])
def test_a_tone_comes_back_at_its_level(hz: int) -> None:
    audio = sine(hz, 600, 16_000)
    decoder = OpusDecoder()
    heard = b"".join(decoder.decode(each) for each in coded(audio))
    assert len(heard) == len(audio)
    change = decibels(level_at(hz, heard[6400:], 16_000) / level_at(hz, audio[6400:], 16_000))
    assert change == pytest.approx(0, abs=1.5)


@needs_opus
def test_a_frame_of_ours_is_20_ms_and_small() -> None:
    packets = coded(sine(700, 400, 16_000))
    assert {packet_duration(each) for each in packets} == {FRAME}
    assert max(map(len, packets)) < 200


@needs_opus
def test_a_lost_frame_is_repaired_from_the_next_packet_better_than_it_is_guessed() -> None:
    noise = np.random.default_rng(3).normal(0, 1, 16_000)
    times = np.arange(16_000) / 16_000
    voice = np.sin(2 * np.pi * (150 + 60 * np.sin(2 * np.pi * 3 * times)).cumsum() / 16_000)
    audio = l16(3000 * np.sign(voice) * np.abs(np.sin(2 * np.pi * 4 * times)) + 100 * noise)
    packets = coded(audio)
    whole, guessing, repairing = OpusDecoder(), OpusDecoder(), OpusDecoder()
    errors = {"guessed": 0.0, "repaired": 0.0}
    for index in range(len(packets)):
        right = samples_of(whole.decode(packets[index]))
        if index % 5 == 4 and index + 1 < len(packets):
            errors["guessed"] += float(np.square(samples_of(guessing.conceal(FRAME)) - right).sum())
            errors["repaired"] += float(
                np.square(samples_of(repairing.repair(packets[index + 1], FRAME)) - right).sum()
            )
        else:
            guessing.decode(packets[index])
            repairing.decode(packets[index])
    assert errors["repaired"] < 0.7 * errors["guessed"]


@needs_opus
def test_concealment_goes_on_and_fades() -> None:
    decoder = OpusDecoder()
    for each in coded(sine(500, 200, 16_000)):
        decoder.decode(each)
    levels = [float(np.std(samples_of(decoder.conceal(FRAME)))) for _ in range(20)]
    assert levels[0] > 3000
    assert levels[-1] < 300


@needs_opus
@given(st.binary(max_size=200))
def test_whatever_comes_is_as_long_as_it_says(coded: bytes) -> None:
    decoder = OpusDecoder()
    assert len(decoder.decode(coded)) == packet_duration(coded) // 3 * 2
    assert len(decoder.repair(coded, FRAME)) == 640
