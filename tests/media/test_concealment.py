from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from offhook.audio.g711 import decode, encode
from offhook.audio.level import frame_level_db
from offhook.media.concealment import COMFORT_DBM0, Concealer
from offhook.model.audio import PCMU_8K, AudioFormat, Encoding

FRAME = 160
ENCODINGS = [Encoding.PCMU, Encoding.PCMA]


def tone(hz: float, frames: int, encoding: Encoding = Encoding.PCMU, amplitude: int = 8000) -> list[bytes]:
    phase = np.arange(frames * FRAME) * hz / 8000 * 2 * np.pi
    coded = encode(encoding, (amplitude * np.sin(phase)).astype("<i2").tobytes())
    return [coded[start : start + FRAME] for start in range(0, len(coded), FRAME)]


def samples(frames: list[bytes], encoding: Encoding = Encoding.PCMU) -> NDArray[np.float64]:
    return np.frombuffer(decode(encoding, b"".join(frames)), dtype="<i2").astype(np.float64)


def play(frames: list[bytes], lost: set[int], encoding: Encoding = Encoding.PCMU) -> list[bytes]:
    concealer = Concealer(AudioFormat(encoding=encoding))
    return [concealer.lost() if index in lost else concealer.good(frame) for index, frame in enumerate(frames)]


def snr_db(heard: NDArray[np.float64], sent: NDArray[np.float64]) -> float:
    return float(10 * np.log10((sent @ sent) / max(1.0, float((heard - sent) @ (heard - sent)))))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_what_came_is_passed_on_untouched(encoding: Encoding) -> None:
    frames = tone(440, 20, encoding)
    assert play(frames, set(), encoding) == frames


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("hz", [1000.0, 440.0, 150.0, 700.0])
def test_one_lost_frame_of_a_tone_goes_on_in_phase(hz: float, encoding: Encoding) -> None:
    frames = tone(hz, 20, encoding)
    heard = samples(play(frames, {10}, encoding), encoding)[1600:1680]
    assert snr_db(heard, samples(frames, encoding)[1600:1680]) > 12


@pytest.mark.parametrize("hz", [1000.0, 440.0, 150.0])
def test_the_seams_do_not_click(hz: float) -> None:
    frames = tone(hz, 20)
    heard = samples(play(frames, {10, 11}))
    steepest = np.abs(np.diff(samples(frames))).max()
    assert np.abs(np.diff(heard)).max() < 1.5 * steepest


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_long_loss_fades_within_60_ms_to_noise_and_never_to_digital_silence(encoding: Encoding) -> None:
    heard = play(tone(440, 30, encoding), set(range(10, 30)), encoding)
    levels = [frame_level_db(encoding, frame) for frame in heard]
    assert levels[10] > levels[9] - 3
    assert levels[9] > levels[11] > levels[12] > levels[13]
    assert all(abs(level - COMFORT_DBM0) < 8 for level in levels[13:])
    assert all(len(set(frame)) > 1 for frame in heard)


def test_a_stream_that_ends_is_not_drawn_out() -> None:
    concealer = Concealer(PCMU_8K)
    for frame in tone(1000, 10):
        concealer.good(frame)
    ended = samples([concealer.lost(ending=True), concealer.lost(ending=True)])
    assert np.abs(ended[:24]).max() > 6000
    assert np.abs(ended[165:]).max() < 100


def test_the_beginning_of_a_frame_is_completed() -> None:
    frames = tone(1000, 10)
    concealer = Concealer(PCMU_8K)
    for frame in frames[:5]:
        concealer.good(frame)
    completed = concealer.complete(frames[5][:80])
    assert completed[:80] == frames[5][:80]
    assert snr_db(samples([completed]), samples([frames[5]])) > 12
    assert concealer.concealed_frames == 1


def test_a_frame_left_out_is_bridged() -> None:
    frames = tone(437, 10)
    concealer = Concealer(PCMU_8K)
    for frame in frames[:5]:
        concealer.good(frame)
    joined = samples([frames[4], concealer.splice(frames[5], frames[6])])
    steepest = np.abs(np.diff(samples(frames))).max()
    assert np.abs(np.diff(joined)).max() < 1.5 * steepest
    assert concealer.good(frames[7]) == frames[7]


def test_a_loss_before_anything_came_is_faint() -> None:
    frame = Concealer(PCMU_8K).lost()
    assert len(frame) == FRAME
    assert frame_level_db(Encoding.PCMU, frame) < COMFORT_DBM0 + 5


def test_after_a_pause_nothing_of_before_is_repeated() -> None:
    concealer = Concealer(PCMU_8K)
    for frame in tone(440, 5):
        concealer.good(frame)
    concealer.forget()
    assert frame_level_db(Encoding.PCMU, concealer.lost()) < COMFORT_DBM0 + 5


def test_the_loudest_signal_does_not_wrap_around() -> None:
    frames = tone(300, 12, amplitude=32_000)
    heard = samples(play(frames, {6, 7}))
    assert np.abs(np.diff(heard)).max() < 3 * np.abs(np.diff(samples(frames))).max()
