"""Calls under random kill -9 of the server and of its webhook receiver: one end, one record, and all is told."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from tests.interop import postgres
from tests.interop.crashes import Victims, calls_among_crashes, judge


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "sqlite":
        yield ""
        return
    with postgres.running() as cluster:
        yield cluster.database()


@pytest.fixture
async def victims(tmp_path: Path, database_url: str) -> AsyncIterator[Victims]:
    async with AsyncExitStack() as cleanup:
        both = Victims(tmp_path, database_url)
        cleanup.push_async_callback(both.close)
        yield both


async def test_calls_among_crashes(victims: Victims) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    seen = await calls_among_crashes(victims, calls=60, lines=8, seed=seed)
    print(judge(victims, seen))
    assert len(seen) == 60
    assert len(victims.lives.deaths) > 3
    assert victims.receiver_deaths > 3
