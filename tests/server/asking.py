"""A whole server, and a client of its API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from tests.api.served import Said
from tests.call.phones import TestPhone

from offhook.config.checking import convert
from offhook.server.service import Server

AGENT = {"id": "demo", "provider": "scripted", "record": False, "options": {"script": "{}"}}


class Asking:
    """One server, and a client of its API."""

    def __init__(self, server: Server, client: aiohttp.ClientSession) -> None:
        self.server = server
        self.client = client

    async def ask(self, method: str, path: str, body: object = None, **headers: str) -> Said:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.client.request(method, path, json=body, headers=named) as answer:
            return Said(status=answer.status, headers=answer.headers.copy(), data=await answer.read())

    async def get(self, path: str) -> Any:
        said = await self.ask("GET", path)
        assert said.status == 200, said
        return said.json

    async def until(self, call_id: str, status: str) -> Any:
        return await self._found(f"/api/calls/{call_id}", lambda call: call["status"] == status)

    async def tells(self, call_id: str, event: str) -> None:
        """Until the call has it on record."""
        await self._found(f"/api/calls/{call_id}/events", lambda page: event in _names(page))

    async def events(self, call_id: str) -> list[str]:
        return _names(await self.get(f"/api/calls/{call_id}/events"))

    async def _found(self, path: str, such: Callable[[Any], bool]) -> Any:
        async with asyncio.timeout(10):
            while not such(found := await self.get(path)):  # noqa: ASYNC110 who asks is told nothing by itself
                await asyncio.sleep(0.02)
        return found


def _names(page: Any) -> list[str]:
    return [event["event"] for event in page["events"]]


@asynccontextmanager
async def serving(folder: Path, **more: Any) -> AsyncIterator[Asking]:
    """``more``: keys of config.json."""
    config = {
        "sip": {"host": "127.0.0.1", "port": 0, "transports": ["udp"], "trace": False},
        "http": {"host": "127.0.0.1", "port": 0},
        "rtp": {"port_min": 30000, "port_max": 31998},
        "data_dir": str(folder),
        "agents": [AGENT],
    }
    server = Server(convert(config | more))
    try:
        await server.start()
        ((host, port),) = server.http_addresses
        async with aiohttp.ClientSession(f"http://{host}:{port}") as client:
            yield Asking(server, client)
    finally:
        await server.close()


def wanted(callee: TestPhone, user: str = "bob", **more: Any) -> dict[str, Any]:
    """What is sent to call him."""
    target = f"sip:{user}@{callee.address.host}:{callee.address.port}"
    return {"target": target, "task": "Say hello", "machines": {"detect": False}, **more}
