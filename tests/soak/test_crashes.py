"""A thousand calls under random kill -9 of the server and of its webhook receiver."""

from __future__ import annotations

import random
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from tests.interop.crashes import Victims, calls_among_crashes, judge

CALLS = 1000


@pytest.mark.soak
async def test_a_thousand_calls_among_crashes(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    async with AsyncExitStack() as cleanup:
        victims = Victims(tmp_path)
        cleanup.push_async_callback(victims.close)
        seen = await calls_among_crashes(victims, calls=CALLS, lines=24, seed=seed)
        print(judge(victims, seen))
        assert len(seen) == CALLS
