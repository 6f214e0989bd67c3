"""Deepgram: its Voice Agent, its recognisers Nova and Flux, and its voice Aura, as one server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from aiohttp import web

from offhook.simulators.actor import Actor
from offhook.simulators.deepgram_agent import AgentSocket
from offhook.simulators.deepgram_wire import CLIENT_TIMEOUT_S, DeepgramSocket, admit
from offhook.simulators.script import Script
from offhook.simulators.stage import Journal, open_websocket


class DeepgramSimulator:
    """Implements ``stage.Simulator``."""

    def __init__(self, script: Script, *, client_timeout_s: float = CLIENT_TIMEOUT_S) -> None:
        self.script = script
        self.journal = Journal()
        self._client_timeout_s = client_timeout_s
        self._spent: Counter[int] = Counter()

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        return [web.get("/v1/agent/converse", self._agent)]

    async def _agent(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, AgentSocket)

    async def _serve(self, request: web.Request, kind: type[DeepgramSocket]) -> web.StreamResponse:
        actor = Actor(self.script, self._spent)
        refused = await admit(request, actor, self.journal)
        if refused is not None:
            return refused
        websocket = await open_websocket(request)
        await kind(request, websocket, actor, self.journal).run(self._client_timeout_s)
        return websocket
