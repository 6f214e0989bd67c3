"""SIP input gets its share of the loop, not more."""

from __future__ import annotations

import asyncio
import time

from offhook.signaling.budget import SHARE_S, WINDOW_S, WorkBudget


async def test_a_spent_share_comes_back_with_the_next_window() -> None:
    budget = WorkBudget(asyncio.get_running_loop())
    assert not budget.exhausted
    assert not budget.charge(time.monotonic() - SHARE_S)
    assert budget.exhausted
    refilled = asyncio.Event()
    budget.when_refilled(refilled.set)
    await asyncio.wait_for(refilled.wait(), 1)
    assert not budget.exhausted
    assert budget.exhaustions == 1


async def test_small_charges_add_up_within_one_window() -> None:
    budget = WorkBudget(asyncio.get_running_loop())
    started = time.monotonic()
    charges = 0
    while budget.charge(time.monotonic() - SHARE_S / 8):
        charges += 1
        assert time.monotonic() - started < WINDOW_S, "the machine was too slow for this window"
    assert 1 <= charges <= 8


async def test_who_waits_first_is_resumed_first() -> None:
    budget = WorkBudget(asyncio.get_running_loop())
    budget.charge(time.monotonic() - SHARE_S)
    order: list[int] = []
    done = asyncio.Event()
    for number in range(3):
        budget.when_refilled(lambda number=number: order.append(number))  # type: ignore[misc]
    budget.when_refilled(done.set)
    await asyncio.wait_for(done.wait(), 1)
    assert order == [0, 1, 2]


async def test_after_close_nobody_is_resumed() -> None:
    budget = WorkBudget(asyncio.get_running_loop())
    resumed: list[int] = []
    budget.charge(time.monotonic() - SHARE_S)
    budget.when_refilled(lambda: resumed.append(1))
    budget.close()
    await asyncio.sleep(2 * WINDOW_S)
    assert resumed == []
