"""``Served``: the API as tests talk to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp
import msgspec
from tests.store.stories import ARRIVED

from offhook.api.app import build_app
from offhook.api.endpoints import Endpoint
from offhook.api.listener import HttpListener, Where
from offhook.api.live import LiveFeed
from offhook.api.native.table import NATIVE
from offhook.api.parts import ApiLimits, ApiParts, ReadyPart
from offhook.api.rates import Rate
from offhook.model.call_events import CallArrived
from offhook.store.accounts import Account, create_account
from offhook.store.database import Database
from offhook.store.directory import DirectoryFollower
from offhook.store.keys import create_key
from offhook.store.vault import Vault

Headers = Mapping[str, str]

GENEROUS = ApiLimits(key_rate=Rate(per_s=10_000, burst=10_000), failure_rate=Rate(per_s=10_000, burst=10_000))


async def scrape() -> bytes:
    return b"offhook_calls 0\n"


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """An answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    data: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.data)

    @property
    def code(self) -> str:
        """Of an error."""
        return str(self.json["code"])


@dataclass(kw_only=True)
class Clock:
    """Stands still until it is told to move."""

    at: float = 1_000.0

    def __call__(self) -> float:
        return self.at


class Served:
    """An API that listens on loopback, and a client of it. ``async with``."""

    def __init__(
        self,
        database: Database,
        data_dir: Path,
        *,
        endpoints: Sequence[Endpoint] = NATIVE,
        limits: ApiLimits = GENEROUS,
        **parts: Any,
    ) -> None:
        self.database = database
        self.data_dir = data_dir
        self.feed = LiveFeed()
        self.vault = Vault.open(data_dir)
        self.directory = DirectoryFollower(database, self.vault, lambda state: None)
        self.clock = Clock()
        self.woken = 0
        self.everything: Headers = {}
        self.ready: list[ReadyPart] = [ReadyPart(name="sip", ready=True)]
        given: dict[str, Any] = {
            "database": database,
            "vault": self.vault,
            "directory": lambda: self.directory.state,
            "directory_changed": self.directory.changed,
            "feed": self.feed,
            "data_dir": data_dir,
            "readiness": lambda: tuple(self.ready),
            "metrics": scrape,
            "trunk_states": dict,
            "wake_sender": self._wake,
            "limits": limits,
            "clock": self.clock,
        }
        self.parts = ApiParts(**{**given, **parts})
        self.listener = HttpListener(build_app(self.parts, endpoints), Where())

    async def __aenter__(self) -> Served:
        await self.directory.changed()
        await self.listener.start(has_keys=False)
        self.url = f"http://127.0.0.1:{self.listener.port}"
        self.client = aiohttp.ClientSession(self.url, auto_decompress=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.client.close()
        await self.listener.close()

    def _wake(self) -> None:
        self.woken += 1

    async def key(self, *scopes: str, account_id: str = "default", expires_at: float | None = None) -> Headers:
        """A new key with these scopes, as the headers that send it."""
        made = await self.database.run(create_key, account_id, now=0.0, scopes=scopes or ("*",), expires_at=expires_at)
        await self.directory.changed()
        return {"Authorization": f"Bearer {made.secret}"}

    async def account(self, account_id: str) -> Headers:
        """A new account, and a key to everything of it."""
        await self.database.run(create_account, Account(account_id=account_id))
        return await self.key(account_id=account_id)

    async def ask(self, method: str, path: str, **more: Any) -> Said:
        """``more`` as ``aiohttp`` takes it: ``json``, ``data``, ``headers``, ``params``."""
        async with self.client.request(method, path, **more) as response:
            return Said(status=response.status, headers=response.headers.copy(), data=await response.read())

    async def get(self, path: str, **more: Any) -> Said:
        return await self.ask("GET", path, **more)

    @asynccontextmanager
    async def stream(self, path: str, **headers: str) -> AsyncIterator[Stream]:
        asked = {"Accept": "text/event-stream", **{name.replace("_", "-"): text for name, text in headers.items()}}
        async with self.client.get(path, headers=asked) as response:
            assert response.status == 200, await response.text()
            yield Stream(response)


class Stream:
    """A stream of server-sent events as a browser takes it apart."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def next(self) -> dict[str, str]:
        """The fields of the next event; raises ``EOFError`` at the end. What has no data is passed over."""
        while True:
            fields: dict[str, str] = {}
            async with asyncio.timeout(5):
                while line := (await self.response.content.readline()).decode():
                    if line == "\n":
                        break
                    name, _, value = line.rstrip("\n").partition(":")
                    fields[name] = value.removeprefix(" ")
                else:
                    raise EOFError
            if "data" in fields:
                return fields

    async def ids(self, count: int) -> list[int]:
        return [int((await self.next())["id"]) for _ in range(count)]


def of_account(account_id: str) -> CallArrived:
    """The first fact of a call of that account."""
    return replace(ARRIVED, account_id=account_id)
