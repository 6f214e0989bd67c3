"""Deepgram: its Voice Agent, its recognisers Nova and Flux, and its voice Aura, as one server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial

from aiohttp import web

from offhook.simulators.actor import Actor
from offhook.simulators.deepgram_agent import AgentSocket
from offhook.simulators.deepgram_listen import FluxSocket, NovaSocket
from offhook.simulators.deepgram_speak import SpeakSocket
from offhook.simulators.deepgram_wire import CLIENT_TIMEOUT_S, DeepgramRefusalError, DeepgramSocket, admit, refusal
from offhook.simulators.mishaps import beside, later
from offhook.simulators.script import Script
from offhook.simulators.stage import Journal, open_websocket


class DeepgramSimulator:
    """Implements ``stage.Simulator``."""

    def __init__(self, script: Script, *, client_timeout_s: float = CLIENT_TIMEOUT_S) -> None:
        self.script = script
        self.journal = Journal()
        self._client_timeout_s = client_timeout_s
        self.spent: Counter[int] = Counter()

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        return [
            web.get("/v1/agent/converse", partial(self._serve, AgentSocket)),
            web.get("/v1/listen", partial(self._serve, NovaSocket)),
            web.get("/v2/listen", partial(self._serve, FluxSocket)),
            web.get("/v1/speak", partial(self._serve, SpeakSocket)),
        ]

    async def _serve(self, kind: type[DeepgramSocket], request: web.Request) -> web.StreamResponse:
        actor = Actor(self.script, self.spent)
        refused = await admit(request, actor, self.journal)
        if refused is not None:
            return refused
        try:
            kind.check(request.query)
        except DeepgramRefusalError as error:
            self.journal.problems.append(str(error))
            return refusal(400, error.code, error.problem)
        websocket = await open_websocket(request)
        timeout_s = None if kind is SpeakSocket else self._client_timeout_s
        socket = kind(request, websocket, actor, self.journal)
        async with beside(later(actor, socket.go_wrong)):
            await socket.run(timeout_s)
        return websocket
