from __future__ import annotations

import pytest
from tests.audio.signals import l16, level_at, samples_of

from offhook.audio.g711 import SILENCE, decode, encode
from offhook.audio.mix import mix
from offhook.audio.tones import tone
from offhook.model.audio import Encoding


def test_l16_is_added_sample_by_sample() -> None:
    assert mix(Encoding.L16, [l16([1, -2, 300]), l16([10, 20, -30]), l16([0, 1, 0])]) == l16([11, 19, 270])


@pytest.mark.parametrize("law", [Encoding.PCMU, Encoding.PCMA])
def test_two_tones_are_both_heard(law: Encoding) -> None:
    low, high = tone(400, 200, -12, law), tone(1300, 200, -12, law)
    mixed = decode(law, mix(law, [low, high]))
    for hz, alone in ((400, low), (1300, high)):
        assert level_at(hz, mixed, 8000) == pytest.approx(level_at(hz, decode(law, alone), 8000), rel=0.02)


def test_the_sum_saturates() -> None:
    loud = l16([30_000, -30_000])
    assert mix(Encoding.L16, [loud, loud]) == l16([32767, -32768])
    loudest = encode(Encoding.PCMU, loud)
    assert list(samples_of(decode(Encoding.PCMU, mix(Encoding.PCMU, [loudest] * 20)))) == [32124, -32124]


@pytest.mark.parametrize("law", [Encoding.PCMU, Encoding.PCMA])
def test_silence_adds_next_to_nothing(law: Encoding) -> None:
    frame = tone(440, 20, -10, law)
    mixed, alone = samples_of(decode(law, mix(law, [frame, SILENCE[law] * 160]))), samples_of(decode(law, frame))
    assert abs(mixed - alone).max() <= 256


def test_a_short_frame_counts_as_silence_where_it_ends() -> None:
    assert mix(Encoding.L16, [l16([1, 2, 3]), l16([10])]) == l16([11, 2, 3])


def test_one_frame_passes_and_none_is_nothing() -> None:
    frame = b"\x01\x02\x03"
    assert mix(Encoding.PCMU, [frame]) is frame
    assert mix(Encoding.PCMU, []) == b""
