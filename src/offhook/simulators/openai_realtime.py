"""OpenAI Realtime (GA), conversations and transcriptions, as https://platform.openai.com/docs/guides/realtime has it.

What the real service refuses is refused: the retired beta header, unknown parameters, voices it has not, a response
while another one runs, a truncation beyond what was sent. Noise like a voice begins a turn, as it does there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from aiohttp import web

from offhook.simulators.mishaps import at_the_door, beside, later
from offhook.simulators.openai_session import OpenAiRefusalError
from offhook.simulators.openai_talk import Talk
from offhook.simulators.script import Fault, Script
from offhook.simulators.stage import Journal, open_websocket

PATHS = ("/v1/realtime", "/openai/v1/realtime")
"""OpenAI's, and Azure's."""

DEFAULT_MODEL = "gpt-realtime-2.1"

STATUS_CODES = {401: "invalid_api_key", 403: "forbidden", 404: "model_not_found", 429: "rate_limit_exceeded"}


class OpenAiSimulator:
    """Implements ``stage.Simulator``. ``session_s``: how long a session lives, an hour at the real service."""

    def __init__(self, script: Script, *, session_s: float = 3600.0) -> None:
        self.script = script
        self.journal = Journal()
        self.talks: list[Talk] = []
        """Those that are open."""
        self._session_s = session_s
        self.spent: Counter[int] = Counter()

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        return [web.get(path, self._realtime) for path in PATHS]

    async def _realtime(self, request: web.Request) -> web.StreamResponse:
        self.journal.connections += 1
        number = self.journal.connections
        self.journal.note(number, request.path_qs, "")
        talk = Talk(self.script, self.spent, self.journal, number)
        refused = await self._admit(request, talk)
        if refused is not None:
            return refused
        websocket = await open_websocket(request)
        self.talks.append(talk)
        transcription = request.query.get("intent") == "transcription"
        try:
            async with beside(talk.expire(self._session_s), later(talk.actor, talk.carry_out)):
                model = request.query.get("model", DEFAULT_MODEL)
                await talk.run(request, websocket, model=model, transcription=transcription)
        finally:
            self.talks.remove(talk)
        return websocket

    async def _admit(self, request: web.Request, talk: Talk) -> web.StreamResponse | None:
        refused = await at_the_door(talk.actor.fault("connect"), request, refuse=_scripted)
        if refused is not None:
            return refused
        try:
            _check_headers(request)
        except OpenAiRefusalError as refusal:
            self.journal.problems.append(refusal.message)
            return _answer(401 if refusal.code == "invalid_api_key" else 400, refusal)
        return None


def _check_headers(request: web.Request) -> None:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    key = token if scheme == "Bearer" else request.headers.get("api-key", "")
    if not key.strip():
        raise OpenAiRefusalError("Missing bearer or basic authentication in header", "invalid_api_key")
    if "OpenAI-Beta" in request.headers:
        problem = "The Realtime Beta API is no longer supported. Please use /v1/realtime for the GA API."
        raise OpenAiRefusalError(problem, "beta_api_shape_disabled")
    if "model" not in request.query and request.query.get("intent") != "transcription":
        raise OpenAiRefusalError("You must provide a model parameter.", "missing_model", "model")


def _scripted(fault: Fault) -> web.Response:
    code = fault.text or STATUS_CODES.get(fault.code, "server_error")
    return _answer(fault.code, OpenAiRefusalError("It was scripted.", code))


def _answer(status: int, refusal: OpenAiRefusalError) -> web.Response:
    described = {**refusal.described(), "message": refusal.message}
    described.pop("event_id")
    return web.json_response({"error": described}, status=status)
