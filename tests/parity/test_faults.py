"""Twenty faults on every provider: once each in `make interop`, ten times in `make soak`."""

from __future__ import annotations

import asyncio
import traceback
from pathlib import Path

import pytest
from tests.parity.columns import COLUMNS
from tests.parity.faults import FAULTS, OPENING_S, goes_on, key_of, scene
from tests.parity.page import keep
from tests.parity.world import World, world

AT_ONCE = 7

CALL_S = 30.0

ROUNDS = 10


@pytest.mark.interop
@pytest.mark.parametrize("provider", COLUMNS)
async def test_every_fault_once(provider: str, tmp_path: Path) -> None:
    keep(provider, "faults", {"faults": False})
    await every_fault(provider, tmp_path)
    keep(provider, "faults", {"faults": True})


@pytest.mark.soak
@pytest.mark.parametrize("provider", COLUMNS)
async def test_every_fault_ten_times(provider: str, tmp_path: Path) -> None:
    for number in range(ROUNDS):
        await every_fault(provider, tmp_path / str(number))


async def every_fault(provider: str, folder: Path) -> None:
    scenes = {key_of(name): scene(fault) for name, fault in FAULTS.items()}
    places = asyncio.Semaphore(AT_ONCE)
    async with world(COLUMNS[provider], scenes, folder) as there:
        results = await asyncio.gather(*(_one(there, name, places) for name in FAULTS))
    red = {name: problem for name, problem in zip(FAULTS, results, strict=True) if problem}
    assert not red, "\n\n".join(f"{name}: {problem}" for name, problem in red.items())


async def _one(there: World, name: str, places: asyncio.Semaphore) -> str:
    async with places:
        try:
            async with asyncio.timeout(CALL_S + OPENING_S), there.call(key_of(name)) as talk:
                await goes_on(talk, FAULTS[name])
        except Exception:
            return traceback.format_exc(limit=-3)
    return ""
