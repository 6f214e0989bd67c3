"""Every behaviour on every provider, each a SIP call through the provider's simulator; see ``page``."""

from __future__ import annotations

import asyncio
import traceback
from pathlib import Path

import pytest
from tests.parity.behaviours import BEHAVIOURS, Behaviour
from tests.parity.columns import COLUMNS
from tests.parity.page import cannot, keep
from tests.parity.world import Column, World, world

AT_ONCE = 4
"""Calls side by side: each has its simulator, its tones and its clock in this process."""

CELL_S = 40.0


@pytest.mark.interop
@pytest.mark.parametrize("provider", COLUMNS)
async def test_parity(provider: str, tmp_path: Path) -> None:
    column = COLUMNS[provider]
    wanted = {key: one for key, one in BEHAVIOURS.items() if key not in cannot(provider)}
    places = asyncio.Semaphore(AT_ONCE)
    async with world(column, {key: one.scene for key, one in wanted.items()}, tmp_path) as there:
        results = await asyncio.gather(*(_cell(there, column, key, one, places) for key, one in wanted.items()))
    problems = dict(zip(wanted, results, strict=True))
    keep(provider, "behaviours", {key: not problem for key, problem in problems.items()})
    red = {key: problem for key, problem in problems.items() if problem}
    assert not red, "\n\n".join(f"{key}: {problem}" for key, problem in red.items())


async def _cell(there: World, column: Column, key: str, one: Behaviour, places: asyncio.Semaphore) -> str:
    """What was wrong; "" for nothing."""
    async with places:
        try:
            async with asyncio.timeout(CELL_S), there.call(key) as talk:
                await one.check(talk, column)
                assert not talk.problems(), talk.problems()
        except Exception:
            return traceback.format_exc(limit=-3)
    return ""
