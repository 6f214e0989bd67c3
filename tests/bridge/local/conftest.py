"""One real engine for each file that listens and speaks: loading the model takes a second."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from offhook.bridge.local.engine import LocalEngine


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[LocalEngine]:
    real = LocalEngine(recognisers=1)
    await real.start()
    yield real
    await real.close()
