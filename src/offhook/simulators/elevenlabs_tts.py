"""ElevenLabs as a voice: text to speech by websocket, with one context or several, and by HTTP.

elevenlabs.io/docs/api-reference/text-to-speech. Of the script only the faults and how audio is sent have a meaning;
without turns in it each context counts as one, from 1 on each websocket. ElevenLabs' agents are another simulator.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import count
from typing import Any

import msgspec
from aiohttp import WSMsgType, web

from offhook.model.audio import AudioFormat, Encoding
from offhook.simulators.actor import Actor
from offhook.simulators.chat_script import turn_that_says
from offhook.simulators.mishaps import ODD_BYTES, at_the_door, beside, carry_out, later, piece_bytes
from offhook.simulators.script import Fault, FaultMoment, Script
from offhook.simulators.stage import Journal, open_websocket
from offhook.simulators.voice import spoken

MAX_CONTEXTS = 5
"""Open at once on one websocket; the next one costs the websocket."""

INACTIVITY_S, MAX_INACTIVITY_S = 20.0, 180.0

LEAST_CHARACTERS = 50
"""Without ``auto_mode`` so many have to come before anything is said."""

RETIRED_MODELS = ("eleven_monolingual_v1", "eleven_multilingual_v1")

POLICY_VIOLATION = 1008

FORMATS: Mapping[str, AudioFormat] = {
    "ulaw_8000": AudioFormat(encoding=Encoding.PCMU),
    "alaw_8000": AudioFormat(encoding=Encoding.PCMA),
    "pcm_8000": AudioFormat(encoding=Encoding.L16),
    "pcm_16000": AudioFormat(encoding=Encoding.L16, sample_rate_hz=16000),
    "pcm_24000": AudioFormat(encoding=Encoding.L16, sample_rate_hz=24000),
}
"""Of those of the service, the ones a telephone has a use for."""


class ElevenLabsRefusalError(Exception):
    """``code``: theirs, a word."""

    def __init__(self, code: str, problem: str) -> None:
        super().__init__(problem)
        self.code = code
        self.problem = problem


class ElevenLabsTtsSimulator:
    """Implements ``stage.Simulator``. ``inactivity_s``: what a second of their time-out for silence lasts here."""

    def __init__(self, script: Script, *, inactivity_s: float = 1.0) -> None:
        self.script = script
        self.journal = Journal()
        self._second = inactivity_s
        self.spent: Counter[int] = Counter()

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        base = "/v1/text-to-speech/{voice}"
        return [
            web.get(f"{base}/multi-stream-input", self._websocket),
            web.get(f"{base}/stream-input", self._websocket),
            web.post(f"{base}/stream", self._http),
            web.post(base, self._http),
        ]

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        refused = await self._admit(request)
        if refused is not None:
            return refused
        websocket = await open_websocket(request)
        actor = Actor(self.script, self.spent)
        socket = _Socket(request, websocket, actor, self.journal)
        async with beside(later(actor, socket.carry_out)):
            await socket.run(self._second)
        return websocket

    async def _http(self, request: web.Request) -> web.StreamResponse:
        refused = await self._admit(request)
        if refused is not None:
            return refused
        body = await request.text()
        self.journal.note(self.journal.connections, request.path_qs, body)
        try:
            message = msgspec.json.decode(body, type=dict[str, Any])
            audio_format = _wanted(request, message)
            _check_key(request)
        except (msgspec.MsgspecError, ElevenLabsRefusalError) as error:
            code = error.code if isinstance(error, ElevenLabsRefusalError) else "invalid_json"
            self.journal.problems.append(str(error))
            status = 401 if code == "invalid_api_key" else 400
            return web.json_response({"detail": {"status": code, "message": str(error)}}, status=status)
        response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
        await response.prepare(request)
        audio = spoken(str(message.get("text", "")).strip(), audio_format)
        for at in range(0, len(audio), ODD_BYTES):
            await response.write(audio[at : at + ODD_BYTES])
        return response

    async def _admit(self, request: web.Request) -> web.StreamResponse | None:
        self.journal.connections += 1
        self.journal.note(self.journal.connections, request.path_qs, "")
        fault = Actor(self.script, self.spent).fault("connect")
        return await at_the_door(fault, request, refuse=_scripted)


def _scripted(fault: Fault) -> web.Response:
    detail = {"status": fault.text or "scripted", "message": "It was scripted"}
    return web.json_response({"detail": detail}, status=fault.code)


class _Socket:
    """One websocket. With one context the context has no name, and its end is the websocket's."""

    def __init__(self, request: web.Request, websocket: web.WebSocketResponse, actor: Actor, journal: Journal) -> None:
        self.script = actor.script
        self.actor = actor
        self.turns = count(1)
        self.auto = request.query.get("auto_mode") == "true"
        self.many = request.path.endswith("/multi-stream-input")
        self._request = request
        self._websocket = websocket
        self._journal = journal
        self._number = journal.connections
        self._contexts: dict[str, _Context] = {}

    async def run(self, second: float) -> None:
        try:
            audio_format = _wanted(self._request, {})
            _check_key(self._request)
            limit_s = float(self._request.query.get("inactivity_timeout", INACTIVITY_S))
            if limit_s > MAX_INACTIVITY_S:
                raise ElevenLabsRefusalError("invalid_request", f"inactivity_timeout is above {MAX_INACTIVITY_S:g}")
            while not self._websocket.closed:
                message = await self._websocket.receive(timeout=limit_s * second)
                if message.type is not WSMsgType.TEXT:
                    return
                self._journal.note(self._number, self._request.path_qs, message.data)
                await self._take(_read(message.data), audio_format)
        except TimeoutError:
            await self._refuse(ElevenLabsRefusalError("input_timeout_exceeded", "No new text came in time"))
        except ElevenLabsRefusalError as refusal:
            self._journal.problems.append(refusal.problem)
            await self._refuse(refusal)
        finally:
            for context in list(self._contexts.values()):
                await context.stop()

    async def _take(self, message: Mapping[str, Any], audio_format: AudioFormat) -> None:
        if message.get("close_socket"):
            open_ones = list(self._contexts.values())
            for one in open_ones:
                one.end()
            await asyncio.gather(*(one.ended() for one in open_ones))
            await self._websocket.close(code=1000)
            return
        name = str(message.get("context_id") or "") if self.many else ""
        context = self._contexts.get(name)
        if context is None:
            context = self._begin(name, message, audio_format)
        context.take(message)

    def _begin(self, name: str, message: Mapping[str, Any], audio_format: AudioFormat) -> _Context:
        """Whatever names a context begins it, a flush as well: that is what fills their five places with nothing."""
        if len(self._contexts) >= MAX_CONTEXTS:
            problem = f"Maximum simultaneous contexts per WebSocket connection exceeded ({MAX_CONTEXTS})"
            raise ElevenLabsRefusalError("max_active_conversations", problem)
        if message.get("close_context") or "text" not in message:
            self._journal.problems.append(f"The context {name} is not open")
        context = self._contexts[name] = _Context(self, name, audio_format)
        return context

    async def forget(self, name: str) -> None:
        self._contexts.pop(name, None)
        if not self.many:
            await self._websocket.close(code=1000)

    async def send(self, message: Mapping[str, Any] | str) -> None:
        if not self._websocket.closed:
            text = message if isinstance(message, str) else msgspec.json.encode(message).decode()
            with suppress(ConnectionError):  # the client left between the look and the word
                await self._websocket.send_str(text)

    async def _refuse(self, refusal: ElevenLabsRefusalError) -> None:
        await self.send({"message": refusal.problem, "error": refusal.code, "code": POLICY_VIOLATION})
        await self._websocket.close(code=POLICY_VIOLATION, message=refusal.problem.encode()[:120])

    # ── faults ───────────────────────────────────────────────────────────────────────────────────────────

    async def misbehave(self, on: FaultMoment, turn: int) -> Fault | None:
        fault = self.actor.fault(on, turn)
        if fault is not None:
            await self.carry_out(fault)
        return fault

    def turn_of(self, text: str, context: int) -> int:
        """By a whole script the turn of what is said is known, and what is in none is a greeting: 0."""
        return turn_that_says(self.script, text) if self.script.turns else context

    async def carry_out(self, fault: Fault) -> None:
        await carry_out(fault, self._request, self._websocket, error=self._scripted_error, say=self.send)

    async def _scripted_error(self, fault: Fault) -> None:
        await self._refuse(ElevenLabsRefusalError(fault.text or "internal_server_error", "It was scripted"))


class _Context:
    def __init__(self, socket: _Socket, name: str, audio_format: AudioFormat) -> None:
        self._socket = socket
        self._name = name
        self._turn = next(socket.turns)
        self._format = audio_format
        self._buffer = ""
        self._texts: deque[str] = deque()
        self._news = asyncio.Event()
        self._last = False
        self._flushed = False
        self._task = asyncio.create_task(self._speak())

    def take(self, message: Mapping[str, Any]) -> None:
        text = str(message.get("text") or "")
        self._buffer += text
        if not self._socket.many and message.get("text") == "":
            self.end()
            return
        enough = self._socket.auto or len(self._buffer) >= LEAST_CHARACTERS
        if message.get("flush") or (enough and text.strip()):
            self._flushed = bool(message.get("flush"))
            self._release()
        if message.get("close_context"):
            self._close()

    def end(self) -> None:
        """Nothing more comes, all of it is to be said."""
        self._release()
        self._last = True
        self._news.set()

    def _close(self) -> None:
        """What was not flushed is not said any more; what is being said goes on to its end."""
        if not self._flushed:
            self._texts.clear()
        self._buffer = ""
        self._last = True
        self._news.set()

    async def ended(self) -> None:
        await asyncio.gather(self._task, return_exceptions=True)

    async def stop(self) -> None:
        self._task.cancel()
        await self.ended()

    def _release(self) -> None:
        if self._buffer.strip():
            self._texts.append(self._buffer.strip())
        self._buffer = ""
        self._news.set()

    async def _speak(self) -> None:
        while True:
            while self._texts:
                await self._generate(self._texts.popleft())
            if self._last:
                break
            await self._news.wait()
            self._news.clear()
        if self._name and not self._flushed:
            await self._after_cancel()
        await self._tell({"audio": None, "isFinal": True})
        await self._socket.forget(self._name)

    async def _after_cancel(self) -> None:
        fault = await self._socket.misbehave("interrupted", self._turn)
        if fault is not None and fault.do == "late_audio":
            await self._tell({"audio": b64encode(spoken("too late", self._format)).decode(), "isFinal": None})

    async def _generate(self, text: str) -> None:
        turn = self._socket.turn_of(text, self._turn)
        fault = await self._socket.misbehave("turn" if turn else "greeting", turn)
        audio = spoken(text, self._format)
        size = self._chunk_bytes(fault, len(audio))
        times = 2 if fault is not None and fault.do == "duplicate" else 1
        for at in range(0, len(audio), size):
            if turn and at <= len(audio) // 2 < at + size:
                await self._socket.misbehave("audio", turn)
            chunk = audio[at : at + size]
            alignment = self._alignment(text, at / len(audio), (at + len(chunk)) / len(audio), len(audio))
            for _ in range(times):
                await self._tell(
                    {
                        "audio": b64encode(chunk).decode(),
                        "isFinal": None,
                        "alignment": alignment,
                        "normalizedAlignment": alignment,
                    }
                )
            await self._wait(len(chunk))

    def _alignment(self, text: str, start: float, end: float, audio_bytes: int) -> dict[str, Any]:
        """Of the part of the audio from ``start`` to ``end``, shares of it: the characters that begin in it."""
        characters = f"{text} "
        whole_ms = audio_bytes * 1000 / (self._format.sample_rate_hz * self._format.bytes_per_sample)
        step_ms = whole_ms / len(characters)
        chosen = [
            (character, round(index * step_ms - start * whole_ms))
            for index, character in enumerate(characters)
            if start <= index / len(characters) < end
        ]
        return {
            "chars": [character for character, _ in chosen],
            "charStartTimesMs": [max(0, at_ms) for _, at_ms in chosen],
            "charDurationsMs": [round(step_ms)] * len(chosen),
        }

    def _chunk_bytes(self, fault: Fault | None, whole: int) -> int:
        return piece_bytes(fault, self._format.bytes_per_ms * self._socket.script.chunk_ms, whole)

    async def _wait(self, size: int) -> None:
        pace = self._socket.script.pace
        await asyncio.sleep(size / self._format.bytes_per_ms / 1000 / pace if pace else 0)

    async def _tell(self, message: Mapping[str, Any]) -> None:
        await self._socket.send({**message, "contextId": self._name} if self._socket.many else message)


def _read(text: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.MsgspecError:
        raise ElevenLabsRefusalError("invalid_input_message", "Could not parse input message") from None


def _wanted(request: web.Request, body: Mapping[str, Any]) -> AudioFormat:
    model = body.get("model_id") or request.query.get("model_id", "")
    if model in RETIRED_MODELS:
        raise ElevenLabsRefusalError("model_not_found", f"The model {model} does not exist any more")
    name = request.query.get("output_format", "mp3_44100_128")
    if name not in FORMATS:
        raise ElevenLabsRefusalError("invalid_output_format", f"{name} is not simulated")
    return FORMATS[name]


def _check_key(request: web.Request) -> None:
    if not request.headers.get("xi-api-key"):
        raise ElevenLabsRefusalError("invalid_api_key", "There is no API key")
