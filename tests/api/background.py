"""The API in a thread of its own: for clients that block."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.api.placers import Placing
from tests.api.served import Served

from offhook.store.database import Database


@contextmanager
def serving(data_dir: Path, prepare: Callable[[Served], Awaitable[None]]) -> Iterator[Served]:
    """An API with a database of its own in ``data_dir``, after ``prepare``. Every call is placed, and none made."""
    ready, stop = threading.Event(), asyncio.Event()
    served: list[Served] = []
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        database = Database.open("", data_dir=data_dir)
        database.migrate()
        try:
            async with Served(database, data_dir, clock=time.monotonic, placer=Placing()) as one:
                await prepare(one)
                served.append(one)
                loops.append(asyncio.get_running_loop())
                ready.set()
                await stop.wait()
        finally:
            ready.set()
            database.close()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), name="api under test")
    thread.start()
    ready.wait(30)
    try:
        yield served[0]
    finally:
        if loops:
            loops[0].call_soon_threadsafe(stop.set)
        thread.join(30)
