from __future__ import annotations

import random

import pytest

from offhook.rtp.transit import BUCKET_S, BUCKETS, TransitWindow


def fill(
    window: TransitWindow, seconds: float, spread: float = 0.0, *, start: float = 0.0, base: float = 1000.0
) -> float:
    """50 packets a second with transits of base … base + spread; the time after."""
    rng = random.Random(3)
    for index in range(round(seconds * 50)):
        window.add(base + rng.uniform(0, spread), start + index * 0.02)
    return start + seconds


def test_a_steady_stream_has_floor_and_peak_in_one() -> None:
    window = TransitWindow()
    assert window.empty
    fill(window, 2.0)
    assert not window.empty
    assert (window.floor, window.peak, window.jitter) == (1000.0, 1000.0, 0.0)


def test_packets_before_the_playing_lower_the_floor_and_raise_no_peak() -> None:
    window = TransitWindow()
    for transit in (1800, 1640, 1480, 1320, 1160):
        window.add_early(transit, 0.0)
    assert (window.floor, window.peak, window.jitter) == (1160, 1160, 0.0)
    fill(window, 0.3, base=1000)
    assert (window.floor, window.peak) == (1000, 1000)
    fill(window, 1.0, start=0.5, base=1000)
    assert (window.floor, window.peak) == (1000, 1000)


def test_jitter_is_that_of_the_rfc() -> None:
    window = TransitWindow()
    for index, transit in enumerate([1000, 1016, 1016, 1000]):
        window.add(transit, index * 0.02)
    expected = 16 / 16
    expected += (0 - expected) / 16
    expected += (16 - expected) / 16
    assert window.jitter == pytest.approx(expected)


def test_steady_jitter_is_measured_from_floor_to_peak() -> None:
    window = TransitWindow()
    fill(window, 3.0, spread=480)
    assert window.floor == pytest.approx(1000, abs=15)
    assert window.peak == pytest.approx(1480, abs=30)


def test_one_packet_that_comes_late_alone_is_set_aside() -> None:
    window = TransitWindow()
    now = fill(window, 1.0)
    window.add(4000, now)
    fill(window, 0.3, start=now)
    assert window.peak == 1000


def test_two_late_packets_in_one_bucket_move_the_peak_at_once() -> None:
    window = TransitWindow()
    now = fill(window, 1.1)
    assert not window.add(3000, now)
    assert window.add(4000, now + 0.02)
    assert window.peak == 3000


def test_what_was_is_forgotten_after_the_window() -> None:
    window = TransitWindow()
    now = fill(window, 2.0, spread=480)
    now = fill(window, BUCKETS * BUCKET_S + 0.6, start=now, base=1100)
    assert (window.floor, window.peak) == (1100, 1100)


def test_a_drifting_clock_drags_the_floor_along() -> None:
    window = TransitWindow()
    for index in range(50 * 60):
        window.add(1000 + index * 160 * 200e-6, index * 0.02)  # the sender is 200 ppm slow
    newest = 1000 + 50 * 60 * 160 * 200e-6
    assert newest - 8 < window.floor < newest
