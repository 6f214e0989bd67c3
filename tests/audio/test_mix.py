from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
from tests.audio.signals import decibels, frames_of, l16, level_at, samples_of

from offhook.audio.g711 import decode, silence
from offhook.audio.mix import Mixer, mix
from offhook.audio.tones import tone
from offhook.model.audio import L16_16K, PCMA_8K, PCMU_8K, AudioFormat, Encoding

LEG_FORMATS = [PCMU_8K, PCMA_8K, L16_16K]
Source = Callable[[bytes], None]


def test_one_voice_alone_is_the_bytes_it_was() -> None:
    frame = bytes(range(160))
    assert mix(Encoding.PCMU, [frame]) is frame


def test_samples_are_added() -> None:
    mixed = mix(Encoding.L16, [l16([1, -2, 300]), l16([10, 20, -30]), l16([0, 0, 1000])])
    assert samples_of(mixed).tolist() == [11, 18, 1270]


def test_what_is_too_loud_is_limited_and_does_not_wrap() -> None:
    mixed = mix(Encoding.L16, [l16([30_000, -30_000])] * 4)
    assert samples_of(mixed).tolist() == [32767, -32768]


def test_a_shorter_frame_ends_in_silence() -> None:
    assert samples_of(mix(Encoding.L16, [l16([5]), l16([1, 2])])).tolist() == [6, 2]


@pytest.mark.parametrize("encoding", [Encoding.PCMU, Encoding.PCMA])
def test_two_tones_of_g711_are_both_heard_at_their_levels(encoding: Encoding) -> None:
    low, high = tone(500, 200, -16, encoding), tone(1200, 200, -16, encoding)
    mixed = decode(encoding, mix(encoding, [low, high]))
    for hz, alone in ((500, low), (1200, high)):
        assert abs(decibels(level_at(hz, mixed, 8000) / level_at(hz, decode(encoding, alone), 8000))) < 0.3


def test_no_voice_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="empty"):
        mix(Encoding.L16, [])


# ── streams ──────────────────────────────────────────────────────────────────────────────────────────────


def mixer(target: AudioFormat = L16_16K) -> tuple[Mixer, list[bytes]]:
    heard: list[bytes] = []
    return Mixer(heard.append, target), heard


def constant(value: int) -> bytes:
    return l16([value] * 320)


def values(frames: list[bytes]) -> list[int]:
    """What each frame is full of."""
    return [int(np.unique(samples_of(frame)).item()) for frame in frames]


@pytest.mark.parametrize("target", LEG_FORMATS)
def test_legs_of_three_formats_are_heard_together_in_any_fourth(target: AudioFormat) -> None:
    room, heard = mixer(target)
    sources = [room.source(each) for each in LEG_FORMATS]
    tones = [
        tone(hz, 400, -16, each.encoding, sample_rate_hz=each.sample_rate_hz)
        for hz, each in zip((500, 900, 1700), LEG_FORMATS, strict=True)
    ]
    for frames in zip(*(frames_of(t, f.frame_bytes) for t, f in zip(tones, LEG_FORMATS, strict=True)), strict=True):
        for source, frame in zip(sources, frames, strict=True):
            source(frame)
    assert [len(frame) for frame in heard] == [target.frame_bytes] * 20
    mixed = decode(target.encoding, b"".join(heard[2:]))
    expected = level_at(500, decode(Encoding.PCMU, tones[0]), 8000)
    for hz in (500, 900, 1700):
        assert abs(decibels(level_at(hz, mixed, target.sample_rate_hz) / expected)) < 0.5


def test_a_tick_gives_one_frame_whatever_the_order_of_the_sources() -> None:
    room, heard = mixer()
    sources = [room.source(L16_16K) for _ in range(3)]
    order = random.Random(1)
    for tick in range(50):
        for index in order.sample(range(3), 3):
            sources[index](constant(tick * 10 + index))
        assert len(heard) == tick + 1
    assert values(heard) == [3 * tick * 10 + 3 for tick in range(50)]


def test_a_source_that_falls_silent_holds_the_others_up_for_one_tick_and_no_more() -> None:
    room, heard = mixer()
    steady, leaving = room.source(L16_16K), room.source(L16_16K)
    steady(constant(1))
    leaving(constant(10))
    for _ in range(5):
        steady(constant(2))
    assert values(heard) == [11, 2, 2, 2, 2, 2]


def test_a_source_that_never_speaks_is_not_waited_for() -> None:
    room, heard = mixer()
    steady = room.source(L16_16K)
    room.source(PCMU_8K)
    for tick in range(10):
        steady(constant(tick))
        assert len(heard) >= tick
    assert values(heard)[:9] == list(range(9))


def test_a_source_that_comes_back_is_heard_again() -> None:
    room, heard = mixer()
    steady, other = room.source(L16_16K), room.source(L16_16K)
    for tick in range(20):
        steady(constant(1))
        if tick < 5 or tick >= 10:
            other(constant(10))
    assert 19 <= len(heard) <= 20
    assert values(heard)[:5] == [11] * 5
    assert values(heard)[6:10] == [1] * 4
    assert values(heard)[12:] == [11] * (len(heard) - 12)


def test_who_leaves_completes_the_round_of_the_others() -> None:
    room, heard = mixer()
    staying, leaving = room.source(L16_16K), room.source(L16_16K)
    staying(constant(1))
    room.remove(leaving)
    room.remove(leaving)
    staying(constant(2))
    assert values(heard) == [1, 2]


def test_the_last_who_leaves_leaves_nothing_behind() -> None:
    room, heard = mixer()
    only = room.source(L16_16K)
    only(constant(1))
    room.remove(only)
    assert values(heard) == [1]


def test_chaos_never_makes_more_frames_than_the_busiest_source_gave() -> None:
    room, heard = mixer()
    sources: list[Source] = [room.source(L16_16K) for _ in range(4)]
    chance = random.Random(7)
    given = [0] * 4
    for _ in range(2000):
        index = chance.randrange(4)
        sources[index](constant(1))
        given[index] += 1
    assert max(given) - 1 <= len(heard) <= sum(given)
    assert sum(values(heard)) <= sum(given)


def test_silence_of_g711_adds_nothing() -> None:
    frame = tone(700, 20, -10, Encoding.PCMU)
    mixed = mix(Encoding.PCMU, [frame, silence(PCMU_8K)])
    assert mixed == frame
