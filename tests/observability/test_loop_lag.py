"""The loop's lag: what is counted as a stall, and that it is told."""

from __future__ import annotations

import asyncio
import time

import pytest

from offhook.observability import STALL_S, LoopLag


async def test_a_held_loop_is_counted_and_told(caplog: pytest.LogCaptureFixture) -> None:
    lag = LoopLag()
    lag.start()
    await asyncio.sleep(0)
    time.sleep(STALL_S * 4)  # noqa: ASYNC251 the stall itself
    async with asyncio.timeout(10):
        while not lag.stalls:  # noqa: ASYNC110 the probe has no event
            await asyncio.sleep(0.01)
    lag.stop()
    assert "the event loop stalled for" in caplog.text
    assert lag.read() >= STALL_S * 1000
    assert lag.read() == 0.0
