"""One server of ours with an agent for each behaviour, each agent with simulators of its own; and callers to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from aiohttp import web
from tests.interop.speech import Samples, read_wav
from tests.kept_calls import kept_calls
from tests.parity.caller import Caller, until

from offhook.config.checking import convert
from offhook.model.audio import AudioFormat, Encoding
from offhook.server.service import Server
from offhook.simulators.catalogue import BASE_PATHS, SIMULATORS
from offhook.simulators.script import Script
from offhook.simulators.stage import Simulator, Stage
from offhook.simulators.voice import pitch_hz
from offhook.sip.events import Address

SPEECH = Path(__file__).resolve().parents[2] / "src/offhook/cli/selfcheck/what_time_is_it.wav"

PATIENCE_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Column:
    """A provider and the simulators it talks to. ``options``: of its agent, given their URLs by name."""

    provider: str
    simulators: tuple[str, ...]
    options: Callable[[Mapping[str, str]], dict[str, Any]]
    takes_tools_back: bool = False
    """Its protocol can cancel a tool call."""
    converted: Mapping[Encoding, AudioFormat] = field(default_factory=dict)
    """The laws it does not take, and what it hears instead; audio in the others is not touched, either way."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What a behaviour needs: what the simulators do, and how the agent is set up."""

    script: Mapping[str, Any] = field(default_factory=dict)
    agent: Mapping[str, Any] = field(default_factory=dict)


class Talk:
    """One call to an agent whose simulators play a scene."""

    def __init__(
        self, caller: Caller, server: Server, simulators: Sequence[Simulator], user: str, folder: Path
    ) -> None:
        self.caller = caller
        self.server = server
        self.simulators = simulators
        self.user = user
        self._folder = folder

    async def command(self, what: str, body: Mapping[str, Any]) -> None:
        """Ask the API: ``POST /api/calls/{id}/what``."""
        host, port = self.server.http_addresses[0]
        call_id = await self._call_id()
        async with aiohttp.ClientSession() as http:
            answer = await http.post(f"http://{host}:{port}/api/calls/{call_id}/{what}", json=body)
            assert answer.status in {200, 202, 204}, await answer.text()

    async def _call_id(self) -> str:
        """Ours; the call is up."""
        for record in await asyncio.to_thread(kept_calls, self._folder):
            if f"sip:{self.user}@" in record["to_uri"] and record["phase"] != "ended":
                return str(record["call_id"])
        raise AssertionError(f"no call to {self.user}")

    async def hears(self, text: str, within_s: float = PATIENCE_S) -> None:
        """The agent says just this."""
        await self.caller.hears_tone(pitch_hz(text), within_s)

    async def says_something(self) -> None:
        """The caller does, for a second; the line stays quiet after it."""
        await self.caller.phone.say(speech())

    async def told(self, needle: str, within_s: float = PATIENCE_S) -> None:
        """A provider gets a message that holds this."""
        await until(lambda: self.was_told(needle), within_s, f"no provider was told {needle!r}")

    def was_told(self, needle: str) -> bool:
        return any(needle in text for text in self.messages())

    def messages(self) -> list[str]:
        """What the providers got, without audio."""
        return [
            message.data if isinstance(message.data, str) else message.data.decode("utf-8", "replace")
            for simulator in self.simulators
            for message in simulator.journal.received
            if len(message.data) < 20_000
        ]

    def messages_with(self, needle: str) -> list[str]:
        return [text for text in self.messages() if needle in text]

    def connections(self) -> int:
        return max(simulator.journal.connections for simulator in self.simulators)

    def faults_met(self) -> int:
        """How often the script's faults happened."""
        return sum(simulator.spent.total() for simulator in self.simulators)

    def given(self) -> bytes:
        """The caller's audio as the providers got it."""
        journals = (simulator.journal for simulator in self.simulators)
        return b"".join(bytes(audio) for journal in journals for audio in journal.audio_of.values())

    def problems(self) -> list[str]:
        """What a real service would have refused."""
        return [problem for simulator in self.simulators for problem in simulator.journal.problems]

    async def ended(self, within_s: float = PATIENCE_S) -> Mapping[str, Any]:
        """The record, when the call is over."""
        async with asyncio.timeout(within_s):
            while True:
                for record in await asyncio.to_thread(kept_calls, self._folder):
                    if f"sip:{self.user}@" in record["to_uri"] and record["phase"] == "ended":
                        return record
                await asyncio.sleep(0.2)

    async def hangs_up(self) -> Mapping[str, Any]:
        await self.caller.hang_up()
        return await self.ended()


class World:
    """``async with world(column, scenes, folder) as there: async with there.call(name) as talk: …``"""

    def __init__(self, server: Server, address: Address, folder: Path, simulators: Mapping[str, Sequence[Simulator]]):
        self.server = server
        self._address = address
        self._folder = folder
        self._simulators = simulators

    @asynccontextmanager
    async def call(
        self, name: str, encoding: Encoding = Encoding.PCMU, *, first_words: Samples | None = None
    ) -> AsyncIterator[Talk]:
        caller = await Caller.dial(self._address, name, encoding, first_words=first_words)
        try:
            yield Talk(caller, self.server, self._simulators[name], name, self._folder)
        finally:
            await caller.close()


@asynccontextmanager
async def world(column: Column, scenes: Mapping[str, Scene], folder: Path) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        tools_url = await stack.enter_async_context(_tool_server())
        agents, simulators = [], {}
        for name, scene in scenes.items():
            script = msgspec.convert(scene.script, Script)
            stages = {one: await stack.enter_async_context(Stage(SIMULATORS[one](script))) for one in column.simulators}
            simulators[name] = [stage.simulator for stage in stages.values()]
            options = column.options({one: stage.url + BASE_PATHS.get(one, "") for one, stage in stages.items()})
            agents.append({"id": name, "provider": column.provider, "record": False, "options": options, **scene.agent})
        config = {
            "sip": {"host": "127.0.0.1", "port": 0, "transports": ["udp"], "trace": False},
            "http": {"host": "127.0.0.1", "port": 0},
            "rtp": {"port_min": 20000, "port_max": 29998},
            "security": {"allow_http": True, "allowed_targets": ["127.0.0.0/8"]},
            "data_dir": str(folder),
            "agents": agents,
            "numbers": [{"user": name, "agent": name} for name in scenes],
            "tools": [
                {"id": name, "name": name, "url": f"{tools_url}/{name}", "description": f"Tells the {name}."}
                for name in TOOLS
            ],
        }
        server = Server(convert(json.loads(json.dumps(config))))
        stack.push_async_callback(server.close)
        listening = await server.start()
        address = next(address for transport, address in listening if transport == "UDP")
        yield World(server, address, folder, simulators)


TOOLS = {"weather": "sunny and warm", "traffic": "all roads are free", "slow": "too late"}
"""What a server of the user's knows."""

SLOW_S = 4.0


@asynccontextmanager
async def _tool_server() -> AsyncIterator[str]:
    async def answer(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        await asyncio.sleep(SLOW_S if name == "slow" else 0)
        return web.json_response({"result": TOOLS[name]})

    app = web.Application()
    app.add_routes([web.route("*", "/{name}", answer)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def speech() -> Samples:
    return read_wav(SPEECH)
