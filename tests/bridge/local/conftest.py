"""One real engine for the tests that listen and speak: loading the model takes a second."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from offhook.bridge.local.engine import LocalEngine


@pytest_asyncio.fixture
async def engine() -> AsyncIterator[LocalEngine]:
    real = LocalEngine(recognisers=1)
    await real.start()
    yield real
    await real.close()
