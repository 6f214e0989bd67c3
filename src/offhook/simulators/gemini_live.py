"""Google Gemini Live. Strict on what ai.google.dev/api/live says is refused; its errors are close codes.

The service closes each connection after ten minutes, and says ``goAway`` a minute before: here, where a script's fault
is an ``error`` with the text "goAway", ``ms`` before. A conversation outlives its websocket: the next one resumes it by
its handle. ``ends_call``: the model calls the function ``end_call``, if it has one; Gemini never hangs up.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from offhook.simulators.actor import Actor
from offhook.simulators.gemini_schema import UNSUPPORTED, GeminiRefusalError
from offhook.simulators.gemini_session import GeminiConversation, GeminiSession
from offhook.simulators.mishaps import at_the_door
from offhook.simulators.script import Fault, Script
from offhook.simulators.stage import Journal, open_websocket

PATH = r"/ws/google.ai.generativelanguage.{version:v1|v1beta|v1alpha}.GenerativeService.BidiGenerateContent"


class GeminiSimulator:
    """Implements ``stage.Simulator``. ``names_calls`` False: function calls have no id, as on Vertex AI.

    ``needs_input``: it answers no text before real-time input came. ``forgets``: no handle is known any more.
    ``playback_speed``: how much faster than real time its audio is assumed to be played; a turn is complete then.
    """

    def __init__(
        self,
        script: Script,
        *,
        names_calls: bool = True,
        needs_input: bool = False,
        forgets: bool = False,
        playback_speed: float = 1.0,
    ) -> None:
        self.script = script
        self.journal = Journal()
        self.names_calls = names_calls
        self.needs_input = needs_input
        self.forgets = forgets
        self.playback_speed = playback_speed
        self.spent: Counter[int] = Counter()
        self.conversations: list[GeminiConversation] = []

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        return [web.get(PATH, self._serve)]

    def conversation(self, setup: dict[str, Any]) -> GeminiConversation:
        """A new one, or the one that is resumed. Raises ``GeminiRefusalError``."""
        handle = setup.get("sessionResumption", {}).get("handle")
        if handle is None:
            detection = setup.get("realtimeInputConfig", {}).get("automaticActivityDetection", {})
            actor = Actor(self.script, self.spent, hangover_ms=detection.get("silenceDurationMs", 0))
            self.conversations.append(GeminiConversation(actor=actor, number=len(self.conversations) + 1))
            return self.conversations[-1]
        known = re.fullmatch(r"handle-(\d+)-(\d+)", handle)
        if known is None or self.forgets or int(known.group(1)) > len(self.conversations):
            raise GeminiRefusalError(UNSUPPORTED, "BidiGenerateContent session not found")
        conversation = self.conversations[int(known.group(1)) - 1]
        if conversation.session is not None:
            raise GeminiRefusalError(1011, "Internal error encountered.")
        return conversation

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.journal.connections += 1
        number = self.journal.connections
        fault = Actor(self.script, self.spent).fault("connect")
        opens = fault is not None and fault.do == "close"
        refused = await at_the_door(None if opens else fault, request, refuse=_scripted)
        if refused is not None:
            return refused
        websocket = await open_websocket(request)
        session = GeminiSession(request, websocket, self, number)
        try:
            if fault is not None:
                await session.carry_out(fault)
            self._admit(request)
            await session.run()
        except GeminiRefusalError as refusal:
            self.journal.problems.append(f"{refusal.code}: {refusal.reason}")
            await websocket.close(code=refusal.code, message=refusal.reason[:123].encode())
        finally:
            await session.close()
        return websocket

    def _admit(self, request: web.Request) -> None:
        key = request.headers.get("x-goog-api-key") or request.query.get("key")
        if not (key or request.headers.get("Authorization") or request.query.get("access_token")):
            raise GeminiRefusalError(UNSUPPORTED, "Method doesn't allow unregistered callers.")


def _scripted(fault: Fault) -> web.Response:
    return web.json_response({"error": {"code": fault.code, "message": fault.text}}, status=fault.code)
