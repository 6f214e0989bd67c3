from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import uvloop

from offhook.media.clock import FRAME_S, MOST_DUE, PHASE_GROUPS, PHASE_S, MediaClock


class VirtualLoop:
    """Just enough of a loop: one timer, time that only ``run`` moves."""

    def __init__(self) -> None:
        self.now = 50.0
        self.timers: list[tuple[float, Callable[[], None], VirtualTimer]] = []
        self.wakes = 0
        self.problems: list[dict[str, Any]] = []

    def call_later(self, delay: float, callback: Callable[[], None]) -> VirtualTimer:
        timer = VirtualTimer()
        self.timers.append((self.now + delay, callback, timer))
        return timer

    def call_exception_handler(self, problem: dict[str, Any]) -> None:
        self.problems.append(problem)

    def run(self, seconds: float, *, early: float = 0.0) -> None:
        end = self.now + seconds
        while self.timers:
            self.timers = [entry for entry in self.timers if not entry[2].cancelled]
            due = [entry for entry in self.timers if entry[0] <= end]
            if not due:
                break
            first = min(due, key=lambda entry: entry[0])
            self.timers.remove(first)
            self.now = max(self.now, first[0] - early)
            self.wakes += 1
            first[1]()
        self.now = max(self.now, end)

    def stall(self, seconds: float) -> None:
        self.now += seconds


class VirtualTimer:
    cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Leg:
    def __init__(self, loop: VirtualLoop | None = None) -> None:
        self.loop = loop
        self.dues: list[float] = []
        self.ran_at: list[float] = []
        self.skipped: list[int] = []
        self.heard: list[float] = []
        self.then: Callable[[], None] = lambda: None

    def send(self, due_s: float, now: float) -> None:
        self.dues.append(due_s)
        self.ran_at.append(self.loop.now if self.loop else time.monotonic())
        assert now <= self.ran_at[-1]
        self.then()

    def hear(self, due_s: float) -> None:
        self.heard.append(due_s)

    def skip(self, frames: int, due_s: float) -> None:
        assert due_s == pytest.approx(self.dues[-1] + FRAME_S)
        self.skipped.append(frames)


def open_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected sockets that keep datagrams apart."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    near.setblocking(False)
    return near, far


def clock_on(loop: VirtualLoop) -> MediaClock:
    return MediaClock(loop, monotonic=lambda: loop.now)  # type: ignore[arg-type]


def steps(leg: Leg) -> list[float]:
    return [round(later - earlier, 6) for earlier, later in pairwise(leg.dues)]


def test_a_leg_is_ticked_every_20_ms() -> None:
    loop = VirtualLoop()
    leg = Leg(loop)
    clock_on(loop).add(leg)
    loop.run(10.0)
    assert len(leg.dues) == pytest.approx(500, abs=1)
    assert set(steps(leg)) == {FRAME_S}


def test_the_groups_are_5_ms_apart() -> None:
    loop = VirtualLoop()
    clock = clock_on(loop)
    legs = [Leg(loop) for _ in range(PHASE_GROUPS)]
    for group, leg in enumerate(legs):
        clock.add(leg, group)
    loop.run(1.0)
    phases = [round(leg.dues[10] % FRAME_S, 6) for leg in legs]
    assert sorted(round((phase - phases[0]) % FRAME_S, 6) for phase in phases) == [
        pytest.approx(group * PHASE_S) for group in range(PHASE_GROUPS)
    ]


def test_the_emptiest_group_is_where_the_next_call_goes() -> None:
    clock = clock_on(VirtualLoop())
    for _ in range(9):
        clock.add(Leg(), clock.emptiest_group())
    assert [len(group.legs) for group in clock._groups] == [3, 2, 2, 2]


def test_a_timer_that_fires_early_does_not_make_it_spin() -> None:
    loop = VirtualLoop()
    leg = Leg(loop)
    clock_on(loop).add(leg)
    loop.run(1.0, early=0.0005)
    assert loop.wakes <= len(leg.dues) + 1
    assert set(steps(leg)) == {FRAME_S}


@pytest.mark.parametrize("stall_ms", [25, 45, 60])
def test_a_short_stall_is_made_up_for(stall_ms: int) -> None:
    loop = VirtualLoop()
    clock, leg = clock_on(loop), Leg(loop)
    clock.add(leg)
    loop.run(1.0)
    loop.stall(stall_ms / 1000)
    loop.run(1.0)
    assert set(steps(leg)) == {FRAME_S}
    assert leg.skipped == []
    assert clock.skipped_ticks == 0
    assert clock.late_ticks >= 1


def test_a_long_stall_sends_three_frames_and_skips_the_older() -> None:
    loop = VirtualLoop()
    clock, leg = clock_on(loop), Leg(loop)
    clock.add(leg)
    loop.run(1.0)
    before = len(leg.dues)
    loop.stall(0.5)
    burst_at = loop.now
    loop.run(0.5)
    burst = [due for due, ran_at in zip(leg.dues, leg.ran_at, strict=True) if ran_at == burst_at]
    assert len(burst) == MOST_DUE
    assert leg.skipped == [pytest.approx(25 - MOST_DUE, abs=1)]
    assert clock.skipped_ticks == leg.skipped[0]
    assert clock.worst_late_s == pytest.approx(0.5, abs=FRAME_S)
    # The schedule has not moved: every due time is a whole number of frames after the first.
    assert all(abs((due - leg.dues[0]) / FRAME_S - round((due - leg.dues[0]) / FRAME_S)) < 1e-6 for due in leg.dues)
    assert len(leg.dues) - before + leg.skipped[0] == pytest.approx(50, abs=1)


def test_a_leg_that_is_gone_is_ticked_no_more_and_the_clock_sleeps() -> None:
    loop = VirtualLoop()
    clock, leg, other = clock_on(loop), Leg(loop), Leg(loop)
    clock.add(leg)
    clock.add(other)
    loop.run(0.1)
    clock.remove(leg)
    clock.remove(leg)
    count = len(leg.dues)
    loop.run(0.1)
    assert len(leg.dues) == count
    assert len(other.dues) > count
    clock.remove(other)
    wakes = loop.wakes
    loop.run(1.0)
    assert loop.wakes == wakes
    assert len(clock) == 0


def test_a_leg_may_remove_itself_and_add_others_in_its_tick() -> None:
    loop = VirtualLoop()
    clock, leg, neighbour, added = clock_on(loop), Leg(loop), Leg(loop), Leg(loop)
    clock.add(leg)
    clock.add(neighbour)

    def swap() -> None:
        clock.remove(leg)
        clock.add(added)

    leg.then = swap
    loop.run(0.2)
    assert len(leg.dues) == 1
    assert len(neighbour.dues) == pytest.approx(10, abs=1)
    assert len(added.dues) == pytest.approx(9, abs=1)


def test_the_clock_goes_on_after_it_slept() -> None:
    loop = VirtualLoop()
    clock, leg = clock_on(loop), Leg(loop)
    clock.add(leg)
    loop.run(0.1)
    clock.remove(leg)
    loop.run(5.0)
    again = Leg(loop)
    clock.add(again)
    loop.run(0.1)
    assert again.skipped == []
    assert len(again.dues) == pytest.approx(5, abs=1)


def test_a_fault_of_one_leg_is_told_and_stays_its_own() -> None:
    loop = VirtualLoop()
    clock, broken, fine = clock_on(loop), Leg(loop), Leg(loop)

    def fail() -> None:
        raise RuntimeError("a sink failed")

    broken.then = fail
    clock.add(broken)
    clock.add(fine)
    loop.run(0.2)
    assert len(fine.dues) == len(broken.dues)
    assert clock.faults == len(broken.dues) == len(loop.problems)
    assert str(loop.problems[0]["exception"]) == "a sink failed"
    assert broken.heard == broken.dues


def test_the_whole_group_has_sent_before_its_sockets_are_read_and_before_any_leg_hears() -> None:
    loop = VirtualLoop()
    clock, order = clock_on(loop), list[str]()
    near, far = open_pair()

    class Talker(Leg):
        def send(self, due_s: float, now: float) -> None:
            order.append("send")

        def hear(self, due_s: float) -> None:
            order.append("hear")

    clock.add(Talker())
    clock.add(Talker())
    clock.watch(near.fileno(), lambda now, ahead_s: order.append(near.recv(10).decode()))
    for datagram in ("one", "two"):
        far.send(datagram.encode())
    loop.run(FRAME_S)
    assert order == ["send", "send", "one", "two", "hear", "hear"]
    clock.unwatch(near.fileno())
    near.close()
    far.close()


def test_groups_that_are_late_together_send_before_any_of_them_hears() -> None:
    loop = VirtualLoop()
    clock, order = clock_on(loop), list[str]()
    legs = [Leg(loop) for _ in range(PHASE_GROUPS)]
    for group, leg in enumerate(legs):
        clock.add(leg, group)
        leg.then = lambda: order.append("".join(str(len(leg.heard)) for leg in legs))
    loop.stall(FRAME_S * 1.9)
    loop.run(0.0)
    assert order == ["0000"] * 4
    assert [len(leg.heard) for leg in legs] == [1] * 4


SECONDS_TO_JUDGE = 10


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_on_a_real_loop_the_cadence_holds_and_nothing_spins(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def run() -> tuple[list[float], list[float], float]:
        clock, leg = MediaClock(), Leg()
        clock.add(leg)
        cpu = time.process_time()
        await asyncio.sleep(1.0)
        clock.remove(leg)
        return leg.ran_at, leg.dues, time.process_time() - cpu

    for _ in range(SECONDS_TO_JUDGE):  # the first in which no other program held us up
        with asyncio.Runner(loop_factory=new_loop) as runner:
            ran_at, dues, cpu_s = runner.run(run())
        lateness = sorted(ran - due for ran, due in zip(ran_at, dues, strict=True))
        assert lateness[0] > -0.0007
        assert cpu_s < 0.2
        if abs(len(ran_at) - 50) <= 2 and lateness[len(lateness) // 2] < 0.005:
            return
    raise AssertionError(f"{len(ran_at)} frames, as late as {lateness}")
