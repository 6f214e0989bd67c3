"""Cartesia: Sonic speaks (websocket and HTTP), ink-2 listens. Strict on what docs.cartesia.ai says is refused.

It is no agent, but two parts of one: of the script only ``hears``, the faults and how audio is sent have a meaning.
Without turns in the script each context counts as one, from 1 on each websocket.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import msgspec
from aiohttp import web

from offhook.simulators.actor import Actor
from offhook.simulators.cartesia_errors import CartesiaRefusalError, error_answer
from offhook.simulators.cartesia_speech import SpeechSocket, check_generation, sound
from offhook.simulators.cartesia_turns import TurnsSocket, listening
from offhook.simulators.mishaps import at_the_door, beside, later
from offhook.simulators.script import Fault, Script
from offhook.simulators.stage import Journal, open_websocket

IDLE_S = 300.0
"""A websocket for speech on which the client sent nothing for so long is closed."""

CONCURRENCY = 15
"""Contexts that may speak at once, as in the plan "Scale"."""

API_VERSION = re.compile(r"20\d\d-\d\d-\d\d")


class CartesiaSimulator:
    """Implements ``stage.Simulator``."""

    def __init__(self, script: Script, *, idle_s: float = IDLE_S, concurrency: int = CONCURRENCY) -> None:
        self.script = script
        self.journal = Journal()
        self._idle_s = idle_s
        self._concurrency = concurrency
        self.spent: Counter[int] = Counter()
        self._contexts: set[str] = set()

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        return [
            web.get("/tts/websocket", self._speech),
            web.post("/tts/bytes", self._bytes),
            web.get("/stt/turns/websocket", self._turns),
        ]

    async def _speech(self, request: web.Request) -> web.StreamResponse:
        refused = await self._admit(request)
        if refused is not None:
            return refused
        websocket = await open_websocket(request)
        socket = SpeechSocket(request, websocket, self._actor(), self.journal, self._contexts)
        run = socket.run(idle_s=self._idle_s, concurrency=self._concurrency)
        return await self._play(run, websocket, socket.carry_out)

    async def _turns(self, request: web.Request) -> web.StreamResponse:
        refused = await self._admit(request)
        if refused is not None:
            return refused
        try:
            audio_format = listening(request.query, request.query.getall("keyterm", []))
        except CartesiaRefusalError as refusal:
            return self._refused(refusal)
        websocket = await open_websocket(request)
        socket = TurnsSocket(request, websocket, self._actor(), self.journal, audio_format)
        return await self._play(socket.run(), websocket, socket.carry_out)

    async def _play(
        self,
        run: Coroutine[Any, Any, None],
        websocket: web.WebSocketResponse,
        carry_out: Callable[[Fault], Coroutine[Any, Any, None]],
    ) -> web.WebSocketResponse:
        """To the end of the websocket, with what the script has go wrong some time ``after`` its beginning."""
        async with beside(later(self._actor(), carry_out)):
            await run
        return websocket

    async def _bytes(self, request: web.Request) -> web.StreamResponse:
        """The whole text at once, the audio as it is made. docs.cartesia.ai/api-reference/tts/bytes"""
        refused = await self._admit(request)
        if refused is not None:
            return refused
        body = await request.text()
        self.journal.note(self.journal.connections, request.path_qs, body)
        try:
            message = msgspec.json.decode(body, type=dict[str, Any])
            check_generation(message)
            if not message["transcript"].strip():
                raise CartesiaRefusalError("transcript is empty")
        except msgspec.DecodeError:
            return self._refused(CartesiaRefusalError("The body is no JSON object"))
        except CartesiaRefusalError as refusal:
            return self._refused(refusal)
        wanted = message["output_format"]
        audio = sound(message["transcript"], wanted["encoding"], wanted["sample_rate"])
        response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
        await response.prepare(request)
        for at in range(0, len(audio), 4000):
            await response.write(audio[at : at + 4000])
        return response

    async def _admit(self, request: web.Request) -> web.StreamResponse | None:
        self.journal.connections += 1
        self.journal.note(self.journal.connections, request.path_qs, "")
        refused = await at_the_door(self._actor().fault("connect"), request, refuse=_scripted)
        if refused is not None:
            return refused
        key = request.headers.get("Authorization", "").removeprefix("Bearer ") or request.headers.get("X-API-Key", "")
        if not (key or request.query.get("api_key")):
            return self._refused(CartesiaRefusalError("There is no API key", "unauthorized", 401))
        version = request.query.get("cartesia_version", "") or request.headers.get("Cartesia-Version", "")
        if not API_VERSION.fullmatch(version):
            return self._refused(CartesiaRefusalError(f"{version!r} is no API version"))
        return None

    def _refused(self, refusal: CartesiaRefusalError) -> web.Response:
        self.journal.problems.append(refusal.problem)
        return error_answer(refusal)

    def _actor(self) -> Actor:
        return Actor(self.script, self.spent)


def _scripted(fault: Fault) -> web.Response:
    return error_answer(CartesiaRefusalError("It was scripted", fault.text or None, fault.code))
