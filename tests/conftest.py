"""Every asynchronous test runs on uvloop, the loop that serves calls; servers of tests take a free HTTP port."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping

import uvloop

os.environ.setdefault("OFFHOOK_HTTP_PORT", "0")


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}
