"""Audio as it arrives: at once where it is in its place, in order always, and 50 frames a second in the long run."""

from __future__ import annotations

import random

import pytest

from offhook.audio.g711 import silence
from offhook.audio.tones import tone
from offhook.media.arrivals import MOST_AHEAD, MOST_CAUGHT_UP, STARVED_TICKS, WAIT_TICKS, Arrivals
from offhook.model.audio import PCMU_8K, Encoding

FRAME = PCMU_8K.frame_bytes
SILENCE = silence(PCMU_8K)
START = 0xFFFFFFFF - 5 * FRAME
"""The timestamps wrap in every test."""


def frame(number: int) -> bytes:
    return bytes([number % 128]) * FRAME


class Line:
    """A sender of 20 ms packets, and what is heard of it."""

    def __init__(self) -> None:
        self.arrivals = Arrivals(PCMU_8K)
        self.heard: list[bytes] = []

    def comes(self, *numbers: int, skipped_samples: int = 0) -> None:
        for number in numbers:
            timestamp = (START + number * FRAME + skipped_samples) & 0xFFFFFFFF
            self.heard += self.arrivals.push(number & 0xFFFF, timestamp, frame(number))

    def ticks(self, number: int = 1) -> None:
        for _ in range(number):
            self.heard += self.arrivals.tick()

    def runs(self, first: int, last: int) -> None:
        for number in range(first, last):
            self.comes(number)
            self.ticks()


@pytest.fixture
def line() -> Line:
    return Line()


def test_a_packet_in_its_place_is_heard_at_once(line: Line) -> None:
    for number in range(20):
        line.comes(number)
        assert line.heard[-1] == frame(number)
        line.ticks()
    assert line.heard == [frame(number) for number in range(20)]


def test_packets_that_overtook_one_another_are_put_in_order(line: Line) -> None:
    line.runs(0, 5)
    line.comes(6)
    assert line.heard[-1] == frame(4)
    line.comes(5)
    assert line.heard[-2:] == [frame(5), frame(6)]
    assert line.arrivals.concealed == 0


def test_a_lost_packet_is_waited_for_and_then_concealed(line: Line) -> None:
    voice = tone(400, 20 * 8, -10, Encoding.PCMU)
    heard: list[bytes] = []
    for number in range(8):
        if number != 5:
            payload = voice[number * FRAME : (number + 1) * FRAME]
            heard += line.arrivals.push(number, number * FRAME, payload)
        heard += line.arrivals.tick()
    heard += line.arrivals.tick(WAIT_TICKS)
    assert len(heard) == 8
    assert heard[:5] + heard[7:] == [voice[at * FRAME : (at + 1) * FRAME] for at in (0, 1, 2, 3, 4, 7)]
    assert heard[5] not in {SILENCE, heard[4]}
    assert line.arrivals.concealed == 1


def test_a_silent_line_is_silence_at_its_pace(line: Line) -> None:
    line.ticks(10)
    assert line.heard == [SILENCE] * 10
    line.runs(0, 5)
    line.heard.clear()
    line.ticks(50)
    assert line.heard == [SILENCE] * (50 - STARVED_TICKS)


def test_after_a_pause_of_the_sender_the_next_packet_is_heard_at_once(line: Line) -> None:
    line.runs(0, 5)
    line.ticks(45)
    line.heard.clear()
    line.comes(5, skipped_samples=45 * FRAME)
    assert line.heard == [frame(5)]


def test_after_an_event_the_next_packet_is_heard_at_once(line: Line) -> None:
    line.runs(0, 5)
    line.arrivals.interlude(5)
    line.ticks(10)
    line.heard.clear()
    line.heard += line.arrivals.push(6, (START + 15 * FRAME) & 0xFFFFFFFF, frame(6))
    assert line.heard == [frame(6)]


def test_what_a_stall_held_back_is_heard_late_but_whole(line: Line) -> None:
    line.runs(0, 5)
    line.ticks(8)
    line.comes(*range(5, 13))
    line.runs(13, 40)
    assert [one for one in line.heard if one != SILENCE] == [frame(number) for number in range(40)]


def test_of_a_long_stall_only_the_end_is_caught_up(line: Line) -> None:
    line.runs(0, 5)
    line.ticks(100)
    line.heard.clear()
    line.comes(*range(5, 105))
    assert line.heard[-1] == frame(104)
    assert len(line.heard) <= MOST_CAUGHT_UP + STARVED_TICKS


def test_a_peer_that_sends_faster_than_real_time_is_not_heard_beyond_a_second(line: Line) -> None:
    for number in range(5000):
        line.comes(number)
    assert len(line.heard) <= MOST_AHEAD + 1
    assert line.arrivals.dropped


@pytest.mark.parametrize("ptime_ms", [10, 30, 40, 60])
def test_packets_of_any_length_are_heard_in_frames(ptime_ms: int) -> None:
    arrivals = Arrivals(PCMU_8K)
    sent = bytes(index % 251 for index in range(FRAME * 60))
    heard = b""
    for number, start in enumerate(range(0, len(sent), ptime_ms * 8)):
        for one in arrivals.push(number, start, sent[start : start + ptime_ms * 8]):
            assert len(one) == FRAME
            heard += one
        if number * ptime_ms % 20 == 0:
            for one in arrivals.tick(max(1, ptime_ms // 20)):
                heard += one
    assert heard == sent


@pytest.mark.parametrize("seed", range(10))
def test_whatever_comes_the_pace_is_kept_and_nothing_runs_backwards(seed: int) -> None:
    chance = random.Random(seed)
    line = Line()
    late: list[tuple[int, int]] = []
    ticks = 3000
    for number in range(ticks):
        if chance.random() > 0.05:
            late.append((number + chance.choice((0, 0, 0, 0, 1, 2, 9)), number))
        for one in sorted(one for one in late if one[0] <= number):
            late.remove(one)
            line.comes(one[1])
        line.ticks()
        assert -STARVED_TICKS - 2 * WAIT_TICKS - 1 <= len(line.heard) - number <= MOST_AHEAD
    assert abs(len(line.heard) - ticks) <= MOST_AHEAD
