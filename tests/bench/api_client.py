"""A client of the API as a process of its own: one job on standard input, its result on standard output.

It asks one thing again and again over a few connections, the next time as soon as it was answered. A key may ask 50
times a second, so it has many.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import aiohttp
import msgspec
import uvloop
from tests.bench.figures import ApiRequest, spread
from tests.bench.jobs import ApiAnswers, ApiJob

KEYS = 80
CONNECTIONS = 4

PATCHED = {"id": "patched", "provider": "scripted", "name": "none"}
ASKED: Mapping[ApiRequest, tuple[str, str]] = {
    "list calls": ("GET", "/api/calls?limit=20"),
    "read a call": ("GET", "/api/calls/{call_id}"),
    "patch an agent": ("PATCH", "/api/agents/patched"),
}


class _Client:
    def __init__(self, session: aiohttp.ClientSession, job: ApiJob) -> None:
        self._session = session
        self._job = job
        self.ms: list[float] = []
        self.failed = 0

    async def run(self) -> ApiAnswers:
        keys = await self._keys()
        method, path = ASKED[self._job.request]
        if "{call_id}" in path:
            path = path.format(call_id=await self._call_id(keys[0]))
        if method == "PATCH":
            await self._session.post("/api/agents", json=PATCHED, headers=_bearer(keys[0]))
        await asyncio.sleep(max(0.0, self._job.begin_at - time.time()))
        mine, end = itertools.cycle(keys), time.monotonic() + self._job.seconds
        await asyncio.gather(*(self._ask(method, path, mine, end) for _ in range(CONNECTIONS)))
        rate_per_s = round(len(self.ms) / self._job.seconds, 1)
        return ApiAnswers(answered=len(self.ms), failed=self.failed, rate_per_s=rate_per_s, ms=spread(self.ms))

    async def _ask(self, method: str, path: str, keys: Iterator[str], end: float) -> None:
        for number in itertools.count():
            began = time.monotonic()
            if began > end:
                return
            body = {"name": f"name {number}"} if method == "PATCH" else None
            async with self._session.request(method, path, json=body, headers=_bearer(next(keys))) as answer:
                await answer.read()
            if answer.status == 200:
                self.ms.append((time.monotonic() - began) * 1000)
            else:
                self.failed += 1

    async def _keys(self) -> list[str]:
        first = await self._new_key("")
        return [first, *[await self._new_key(first) for _ in range(KEYS)]]

    async def _new_key(self, with_key: str) -> str:
        headers = _bearer(with_key) if with_key else {}
        while True:
            async with self._session.post("/api/keys", json={"name": "bench"}, headers=headers) as answer:
                document: dict[str, Any] = await answer.json()
            if answer.status == 201:
                return str(document["key"])
            if answer.status != 429:
                raise RuntimeError(f"no key: {answer.status} {document}")
            await asyncio.sleep(1)

    async def _call_id(self, key: str) -> str:
        async with self._session.get("/api/calls?limit=1", headers=_bearer(key)) as answer:
            return str((await answer.json())["calls"][0]["id"])


def _bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def main() -> None:
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=ApiJob)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{job.port}") as session:
        sys.stdout.buffer.write(msgspec.json.encode(await _Client(session, job).run()))


if __name__ == "__main__":
    uvloop.run(main())
