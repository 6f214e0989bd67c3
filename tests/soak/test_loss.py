"""20 % random loss of SIP packets each way: every call is set up and ends on both sides, and nothing is left behind."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.call.phones import NOTHING_LEFT, TestPhone, phone, scripted
from tests.soak.lossy_relay import LossyRelay

from offhook.call.session import CallSession
from offhook.model.call_events import CallAnswered, CallEnded

LOSS = 0.2
AT_ONCE = 20
TRANSACTIONS_RUN_OUT_S = 64.0
"""Twice 64*T1: an ACK that never came, then a BYE that is never answered."""

LONGEST_CALL_S = 75.0
"""64*T1 to be answered, 64*T1 for the farewell, and what is said in between. Guards against hanging."""

WHO_HANGS_UP = {
    "caller": (scripted("listener"), scripted("caller", hang_up_after_ms=200)),
    "callee": (scripted("talker", hang_up_after_ms=200), scripted("caller")),
}


@asynccontextmanager
async def lossy_line(callee: TestPhone, seed: int) -> AsyncIterator[LossyRelay]:
    relay = LossyRelay(callee.address, loss=LOSS, rng=random.Random(seed))
    try:
        yield relay
    finally:
        relay.close()


async def place_calls(number: int, *, hangs_up: str, seed: int, settle_s: float) -> None:
    """``number`` calls, ``AT_ONCE`` at a time; then both phones are looked at."""
    callees, callers = WHO_HANGS_UP[hangs_up]
    async with phone(callees) as callee, phone() as caller, lossy_line(callee, seed) as relay:
        free = asyncio.Semaphore(AT_ONCE)

        async def one_call() -> None:
            async with free, asyncio.timeout(LONGEST_CALL_S):
                call: CallSession = caller.call(relay.front, callers)
                await caller.phone.manager.wait(call)

        await asyncio.gather(*(one_call() for _ in range(number)))
        async with asyncio.timeout(LONGEST_CALL_S):
            await asyncio.gather(*map(callee.phone.manager.wait, tuple(callee.phone.manager.calls.values())))
        print(f"seed {seed}: {relay.carried} packets carried, {relay.lost} lost")
        assert relay.lost > relay.carried / 10
        for one in (caller, callee):
            assert len(one.facts.of(CallAnswered)) == number
            assert [ended.cause for ended in one.facts.of(CallEnded)] == ["hangup"] * number
        await asyncio.sleep(settle_s)
        for one in (caller, callee):
            assert one.left_over["calls"] == one.left_over["ports"] == 0
            if settle_s:
                assert one.left_over == NOTHING_LEFT
                assert set(one.phone.endpoint.user_agent.counts().values()) == {0}


@pytest.mark.parametrize("hangs_up", WHO_HANGS_UP)
async def test_ten_calls_over_a_bad_line(hangs_up: str) -> None:
    await place_calls(10, hangs_up=hangs_up, seed=20, settle_s=0)


@pytest.mark.soak
@pytest.mark.parametrize("hangs_up", WHO_HANGS_UP)
async def test_a_hundred_calls_each_way_over_a_bad_line(hangs_up: str) -> None:
    """Two hundred in all; a phone of these tests has RTP ports for a hundred calls, and they rest after use."""
    seed = random.randrange(2**32)
    await place_calls(100, hangs_up=hangs_up, seed=seed, settle_s=TRANSACTIONS_RUN_OUT_S)
