"""``sip4ai`` as its users start it: a folder with a config.json, variables of the environment, no argument at all."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from tests.interop.offhook_server import Record
from tests.interop.program import Program
from tests.interop.tools import free_port, free_sip_port
from tests.kept_calls import kept_calls

COMMAND = Path(sys.executable).with_name("sip4ai")
OFFHOOK = Path(sys.executable).with_name("offhook")
STARTS_WITHIN_S = 30.0
LOOK_S = 0.2
"""Many calls are looked at at once, and a key may ask 50 times a second."""

OVER = frozenset({"completed", "failed"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    status: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def document(self) -> Any:
        return json.loads(self.body)


def environment(where: Path, **variables: str) -> dict[str, str]:
    """What the process sees: this machine's variables without those that name providers or lines, and ``variables``."""
    ours = {name: value for name, value in os.environ.items() if not name.endswith(("_API_KEY", "_BASE_URL"))}
    ours.pop("OFFHOOK_HTTP_PORT", None)  # tests/conftest.py sets it; here API_PORT says where
    return ours | {"OFFHOOK_DATA_DIR": str(where / "data"), "OFFHOOK_SIP_HOST": "127.0.0.1"} | variables


class Sip4ai:
    """One running ``sip4ai``. ``key``: a Bearer token, once ``with_key`` has made one."""

    def __init__(self, program: Program, where: Path, *, sip_port: int, http_port: int) -> None:
        self.program = program
        self.where = where
        self.sip_port = sip_port
        self.http_port = http_port
        self.key = ""
        self.http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))

    @classmethod
    async def start(cls, where: Path, config: str | Mapping[str, Any], **variables: str) -> Sip4ai:
        """``config``: the text of config.json, or its document."""
        text = config if isinstance(config, str) else json.dumps(config)
        (where / "config.json").write_text(text)
        sip_port, http_port = free_sip_port(), free_port("tcp")
        ports = {"OFFHOOK_SIP_PORT": str(sip_port), "API_PORT": str(http_port)}
        program = await Program.start(COMMAND, cwd=where, env=environment(where, **ports, **variables))
        one = cls(program, where, sip_port=sip_port, http_port=http_port)
        try:
            await program.says("offhook listens on", STARTS_WITHIN_S)
        except BaseException:
            await one.close()
            raise
        return one

    @property
    def base(self) -> str:
        return f"http://localhost:{self.http_port}"

    async def close(self) -> None:
        await self.http.close()
        await self.program.stop()

    async def interrupted(self) -> None:
        """Ctrl-C while no call is up: it ends by itself, without a traceback."""
        self.program.interrupt()
        assert await self.program.ends(15) == 0, self.program.tail()
        assert "Traceback" not in self.program.output, self.program.output

    async def offhook(self, *words: str) -> str:
        """What another command of ours prints, about the same data."""
        env = environment(self.where)
        program = await Program.start(OFFHOOK, *words, "--data", self.where / "data", cwd=self.where, env=env)
        assert await program.ends(20) == 0, program.tail()
        return program.output

    async def with_key(self) -> str:
        """Make the first API key: from then on nothing goes without one."""
        reply = await self.ask("POST", "/api/keys", {"name": "snippets"})
        assert reply.status == 201, reply
        self.key = str(reply.document["key"])
        return self.key

    async def ask(
        self, method: str, path: str, body: object = None, *, headers: Mapping[str, str] | None = None
    ) -> Reply:
        sent = dict(headers or {})
        if self.key:
            sent.setdefault("Authorization", f"Bearer {self.key}")
        async with self.http.request(method, self.base + path, json=body, headers=sent) as answer:
            return Reply(status=answer.status, body=await answer.read(), headers=dict(answer.headers))

    async def get(self, path: str) -> Any:
        """The document of an answer that is 200."""
        reply = await self.ask("GET", path)
        assert reply.status == 200, (path, reply)
        return reply.document

    async def places(self, target: str, *, headers: Mapping[str, str] | None = None, **body: Any) -> str:
        """``POST /api/calls``, which has to be 201; the id."""
        reply = await self.ask("POST", "/api/calls", {"target": target, "task": "Ask.", **body}, headers=headers)
        assert reply.status == 201, f"{target}: {reply}\n{self.program.tail()}"
        return str(reply.document["call_id"])

    async def call(self, call_id: str) -> Any:
        return await self.get(f"/api/calls/{call_id}")

    async def has_status(self, call_id: str, *statuses: str, timeout_s: float = 15.0) -> Any:
        """Wait until ``GET /api/calls/{id}`` shows one of these."""
        call: Any = None
        for _ in range(round(timeout_s / LOOK_S)):
            call = await self.call(call_id)
            if call["status"] in statuses:
                return call
            await asyncio.sleep(LOOK_S)
        raise AssertionError(f"{call_id} is not {statuses} after {timeout_s:g} s but {call}:\n{self.program.tail()}")

    async def over(self, call_id: str, timeout_s: float = 20.0) -> Any:
        """Wait for its end; the call as the API has it."""
        return await self.has_status(call_id, *OVER, timeout_s=timeout_s)

    def records(self) -> list[Record]:
        """Every call's record with its facts, oldest first."""
        return kept_calls(self.where / "data")

    def record(self, call_id: str) -> Record:
        [one] = [record for record in self.records() if record["call_id"] == call_id]
        return one
