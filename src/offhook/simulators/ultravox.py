"""Ultravox, simulated: calls made by REST and joined by a server websocket.

Wire: docs.ultravox.ai (create call, websockets, protocol and data messages). The service believes that its audio is
played as the caller's audio comes in: that is its clock, and how far ahead it sends is ``clientBufferSizeMs``.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, assert_never, cast
from uuid import uuid4

import msgspec
from aiohttp import WSMsgType, web

from offhook.audio.convert import converter
from offhook.audio.vad import VoiceActivityDetector
from offhook.model.audio import FRAME_MS, PCMU_8K, AudioFormat, Encoding, SampleRate
from offhook.simulators.actor import (
    Actor,
    Answer,
    CallTool,
    CancelTool,
    Deed,
    SpeechBegan,
    SpeechEnded,
    Understood,
)
from offhook.simulators.mishaps import LATE_WORDS, at_the_door, beside, carry_out, later, pieces_of
from offhook.simulators.mouth import Mouth
from offhook.simulators.script import Fault, FaultMoment, Script
from offhook.simulators.stage import Journal, open_websocket
from offhook.simulators.ultravox_calls import CLIENT_BUFFER_MS, DATA_MESSAGES, MAX_TOOL_S, problems_of, seconds
from offhook.simulators.voice import MS_PER_CHARACTER, spoken

TOOL_S = 20.0
"""For a tool that does not say how long it may take."""

INTERRUPTION_S = 0.09
"""Speech that interrupts, where the call says nothing of it."""

GAP_MS = 120
"""Within one utterance; the duration of an interruption is counted without longer ones."""

_MESSAGES: Mapping[str, frozenset[str]] = {
    "client_tool_result": frozenset({"invocationId"}),
    "user_text_message": frozenset({"text"}),
    "forced_agent_message": frozenset({"content"}),
    "set_output_medium": frozenset({"medium"}),
    "hang_up": frozenset(),
    "ping": frozenset({"timestamp"}),
}
"""What a client may say, and what has to be in it."""


@dataclass(slots=True)
class _Call:
    """``turns``: how many of the script's were done when it ended."""

    call_id: str
    body: dict[str, Any]
    turns: int = 0
    joined: bool = False

    @property
    def medium(self) -> Mapping[str, Any]:
        return cast(Mapping[str, Any], self.body["medium"]["serverWebSocket"])

    def sends(self, data_message: str) -> bool:
        wanted = self.medium.get("dataMessages") or {}
        return bool(wanted.get(data_message, DATA_MESSAGES[data_message]))

    def tool_timeout_s(self, name: str) -> float:
        for tool in self.body.get("selectedTools") or []:
            temporary = tool.get("temporaryTool") or {}
            if temporary.get("modelToolName") == name:
                return min(seconds(temporary.get("timeout")) or TOOL_S, MAX_TOOL_S)
        return TOOL_S


class UltravoxSimulator:
    """Implements ``Simulator``. ``api_key`` "": any is good."""

    def __init__(self, script: Script, *, api_key: str = "") -> None:
        self.script = script
        self.journal = Journal()
        self.spent = Counter[int]()
        self._api_key = api_key
        self._calls: dict[str, _Call] = {}

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        return [
            web.post("/api/calls", self._create),
            web.post("/api/agents/{agent_id}/calls", self._create),
            web.get("/calls/{call_id}/server_web_socket", self._join),
        ]

    async def _create(self, request: web.Request) -> web.Response:
        text = await request.text()
        self.journal.note(0, f"POST {request.path_qs}", text)
        key = request.headers.get("X-API-Key", "")
        if not key or self._api_key not in ("", key):
            return self._refuse(403, "the header X-API-Key holds no key that is known")
        try:
            body = msgspec.json.decode(text, type=dict[str, Any])
        except msgspec.DecodeError:
            return self._refuse(400, "the body is no JSON object")
        prior_id = request.query.get("priorCallId")
        if prior_id is not None and prior_id not in self._calls:
            return self._refuse(404, f"there is no call {prior_id}")
        problems = list(problems_of(body, by_agent="agent_id" in request.match_info))
        if problems:
            return self._refuse(400, "; ".join(problems))
        return self._created(request, body, self._calls.get(prior_id or ""))

    def _created(self, request: web.Request, body: dict[str, Any], prior: _Call | None) -> web.Response:
        call_id = str(uuid4())
        whole = {**prior.body, **body} if prior is not None else body
        self._calls[call_id] = _Call(call_id=call_id, body=whole, turns=prior.turns if prior is not None else 0)
        scheme = "wss" if request.secure else "ws"
        join_url = f"{scheme}://{request.host}/calls/{call_id}/server_web_socket"
        return web.json_response({**body, "callId": call_id, "joinUrl": join_url}, status=201)

    def _refuse(self, status: int, problem: str) -> web.Response:
        self.journal.problems.append(problem)
        return web.json_response({"detail": problem}, status=status)

    async def _join(self, request: web.Request) -> web.StreamResponse:
        self.journal.connections += 1
        call = self._calls.get(request.match_info["call_id"])
        if call is None or call.joined:
            return self._refuse(404, "there is no such call to join")
        actor = Actor(self.script, self.spent)
        actor.resume(call.turns)
        refused = await at_the_door(actor.fault("connect"), request, refuse=_scripted)
        if refused is not None:
            return refused
        call.joined = True
        websocket = await open_websocket(request)
        with suppress(ConnectionError):  # the client left between a look and a word
            await _Talk(self, call, request, websocket, actor).run()
        return websocket


def _scripted(fault: Fault) -> web.Response:
    return web.Response(status=fault.code, text="refused by the script")


class _Talk:
    def __init__(
        self,
        simulator: UltravoxSimulator,
        call: _Call,
        request: web.Request,
        websocket: web.WebSocketResponse,
        actor: Actor,
    ) -> None:
        self.call = call
        self.actor = actor
        self.clock = asyncio.Event()
        self._journal = simulator.journal
        self._number = simulator.journal.connections
        self._request = request
        self._websocket = websocket
        self._last = ""
        self._ordinal = -1
        self._forgotten: set[str] = set()
        self._timers: list[asyncio.TimerHandle] = []
        hears = _linear(call.medium["inputSampleRate"])
        self._to_pcmu = converter(hears, PCMU_8K)
        self._rest = b""
        self._ear = VoiceActivityDetector(Encoding.PCMU, hangover_ms=GAP_MS)
        self._voiced_ms = 0
        vad = call.body.get("vadSettings") or {}
        self._interrupts_after_ms = 1000 * (seconds(vad.get("minimumInterruptionDuration")) or INTERRUPTION_S)
        speaks = _linear(call.medium.get("outputSampleRate") or call.medium["inputSampleRate"])
        self._mouth = _Mouth(self, speaks)

    async def run(self) -> None:
        try:
            async with beside(later(self.actor, self._carry_out)):
                await self._begin()
                await self._listen()
        finally:
            for timer in self._timers:
                timer.cancel()
            await self._mouth.close()

    async def _begin(self) -> None:
        await self.misbehave("setup")
        await self.tell("callStarted", type="call_started", callId=self.call.call_id)
        await self.tell("state", type="state", state="idle")
        first = self.call.body.get("firstSpeakerSettings")
        speaks = first is None or "agent" in first
        if speaks and self.call.body.get("firstSpeaker") != "FIRST_SPEAKER_USER":
            await self._do(self.actor.greet(((first or {}).get("agent") or {}).get("text") or ""))
        else:
            await self.tell("state", type="state", state="listening")

    async def _listen(self) -> None:
        async for message in self._websocket:
            if message.type is WSMsgType.BINARY:
                await self._hear(message.data)
            elif message.type is WSMsgType.TEXT:
                self._journal.note(self._number, self._request.path_qs, message.data)
                await self._take(message.data)
            else:
                return

    # ── what the client says ─────────────────────────────────────────────────────────────────────────────

    async def _hear(self, audio: bytes) -> None:
        """While a tool's result is waited for, the talk stands still: whatever is said is lost."""
        if len(audio) % 2:
            self._journal.problems.append("audio of half a sample came")
        self._journal.hear(self._number, audio)
        pcmu = audio if self._to_pcmu is None else self._to_pcmu(audio)
        if self.actor.waits_for_tools:
            return
        deeds = self.actor.hear(pcmu)
        self.clock.set()
        if self._interrupts(pcmu):
            await self._mouth.interrupt()
        await self._do(deeds)

    def _interrupts(self, pcmu: bytes) -> bool:
        """Somebody has now spoken for as long as the call asks for."""
        self._rest += pcmu
        size = PCMU_8K.frame_bytes
        passed = False
        while len(self._rest) >= size:
            frame, self._rest = self._rest[:size], self._rest[size:]
            self._ear.feed(frame)
            before = self._voiced_ms
            self._voiced_ms = before + FRAME_MS if self._ear.speaking else 0
            passed = passed or before < self._interrupts_after_ms <= self._voiced_ms
        return passed

    async def _take(self, text: str) -> None:
        try:
            message = msgspec.json.decode(text, type=dict[str, Any])
        except msgspec.DecodeError:
            self._journal.problems.append("a message is no JSON object")
            return
        kind = str(message.get("type"))
        missing = _MESSAGES.get(kind, frozenset({"type of a client's message"})) - set(message)
        if missing:
            self._journal.problems.append(f"{kind} lacks {', '.join(sorted(missing))}")
            return
        match kind:
            case "client_tool_result":
                await self._take_result(message)
            case "user_text_message":
                await self._read(message)
            case "forced_agent_message":
                if message.get("urgency") == "immediate":
                    await self._mouth.interrupt()
                self._mouth.say(Answer(text=message["content"], turn=self.call.turns))
            case "hang_up":
                self._mouth.say(Answer(text=message.get("message") or "", turn=self.call.turns, ends_call=True))
            case "ping":
                await self.tell("pong", type="pong", timestamp=message["timestamp"])
            case _:
                pass

    async def _read(self, message: Mapping[str, Any]) -> None:
        urgency = message.get("urgency") or ("later" if message.get("deferResponse") else "soon")
        if urgency not in ("immediate", "soon", "later"):
            self._journal.problems.append(f"urgency {urgency!r} is not known")
            return
        await self.transcribe("user", message["text"], medium="text")
        if urgency == "immediate":
            await self._mouth.interrupt()
        if urgency != "later":
            await self._do(self.actor.read(message["text"]))

    async def _take_result(self, message: Mapping[str, Any]) -> None:
        key = message["invocationId"]
        error = message.get("errorType")
        if error not in (None, "undefined", "implementation-error"):
            self._journal.problems.append(f"errorType {error!r} is not known")
        result = message.get("result") or message.get("errorMessage") or ""
        if not isinstance(result, str):
            self._journal.problems.append("a tool's result is text")
            return
        deeds = self.actor.take_result(key, result)
        if deeds is not None:
            await self._do(deeds)
        elif key not in self._forgotten:
            self._journal.problems.append(f"a result for {key}, which nobody waits for")

    # ── what happens ─────────────────────────────────────────────────────────────────────────────────────

    async def _do(self, deeds: Sequence[Deed]) -> None:
        for deed in deeds:
            await self._do_one(deed)

    async def _do_one(self, deed: Deed) -> None:
        match deed:
            case SpeechBegan():
                await self.tell("userStartedSpeaking", type="user_started_speaking")
            case SpeechEnded():
                await self.tell("userStoppedSpeaking", type="user_stopped_speaking")
            case Understood(text=text):
                await self.transcribe("user", text)
            case CallTool():
                await self._invoke(deed)
            case CancelTool(tool_call_id=key):
                self._forgotten.add(key)  # nothing on the wire says so
            case Answer(turn=turn):
                self.call.turns = max(self.call.turns, turn)
                self._mouth.say(deed)
            case _:
                assert_never(deed)

    async def _invoke(self, call: CallTool) -> None:
        await self.tell("state", type="state", state="thinking")
        invocation = {"toolName": call.name, "invocationId": call.tool_call_id}
        parameters = msgspec.json.decode(call.arguments)
        await self.tell("clientToolInvocation", type="client_tool_invocation", **invocation, parameters=parameters)
        timeout_s = self.call.tool_timeout_s(call.name)
        timer = asyncio.get_running_loop().call_later(timeout_s, self._mouth.give_up_tool, call.tool_call_id)
        self._timers.append(timer)
        await self.misbehave("tool")

    def time_out(self, tool_call_id: str) -> list[Deed]:
        """The result did not come in time: the talk goes on without it."""
        deeds = self.actor.take_result(tool_call_id, "the tool timed out")
        if deeds is None:
            return []
        self._forgotten.add(tool_call_id)
        self._journal.problems.append(f"no result for {tool_call_id} in time")
        return deeds

    # ── what it says ─────────────────────────────────────────────────────────────────────────────────────

    def next_ordinal(self) -> int:
        self._ordinal += 1
        return self._ordinal

    async def transcribe(self, role: str, text: str, *, medium: str = "voice") -> None:
        """A whole one."""
        await self.tell(
            "transcript",
            type="transcript",
            role=role,
            medium=medium,
            text=text,
            delta=None,
            final=True,
            ordinal=self.next_ordinal(),
        )

    async def tell(self, data_message: str, **message: object) -> None:
        """If the call asked for such."""
        if self.call.sends(data_message):
            await self._send(msgspec.json.encode(message).decode())

    async def _send(self, text: str) -> None:
        if not self._websocket.closed:
            self._last = text
            await self._websocket.send_str(text)

    async def sound(self, audio: bytes) -> None:
        if not self._websocket.closed:
            await self._websocket.send_bytes(audio)

    async def hang_up(self) -> None:
        await self._websocket.close(code=1000, message=b"call ended")

    async def misbehave(self, on: FaultMoment, turn: int = 0) -> Fault | None:
        fault = self.actor.fault(on, turn)
        if fault is not None:
            await self._carry_out(fault)
        return fault

    async def _carry_out(self, fault: Fault) -> None:
        if fault.do == "duplicate":
            await self._send(self._last)
        else:
            await carry_out(fault, self._request, self._websocket, error=self._fail, say=self._send)

    async def _fail(self, fault: Fault) -> None:
        """It has no word for what goes wrong but the end of the socket."""
        await self._websocket.close(code=fault.code, message=(fault.text or "internal error").encode())


class _Mouth:
    """Says no further ahead of the caller's audio than the client's buffer is long."""

    def __init__(self, talk: _Talk, audio_format: AudioFormat) -> None:
        self._talk = talk
        self._format = audio_format
        self._ahead_ms = talk.call.medium.get("clientBufferSizeMs") or CLIENT_BUFFER_MS
        self._mouth = Mouth(self._say)
        self.say, self.close = self._mouth.say, self._mouth.stop
        self._rest: list[bytes] = []

    def give_up_tool(self, tool_call_id: str) -> None:
        for deed in self._talk.time_out(tool_call_id):
            if isinstance(deed, Answer):
                self.say(deed)

    async def interrupt(self) -> None:
        """What was said is dropped, what was to be said is forgotten."""
        if not await self._mouth.stop():
            return
        await self._talk.tell("playbackClearBuffer", type="playback_clear_buffer")
        await self._talk.tell("state", type="state", state="listening")
        fault = await self._talk.misbehave("interrupted")
        if fault is not None and fault.do == "late_audio":
            for piece in self._rest or [spoken(LATE_WORDS, self._format)]:
                await self._talk.sound(piece)

    async def _say(self, answer: Answer) -> None:
        talk = self._talk
        if answer.text:
            await talk.tell("state", type="state", state="thinking")
            await asyncio.sleep(answer.pause_ms / 1000)
            fault = await talk.misbehave("greeting" if answer.turn == 0 else "turn", answer.turn)
            await talk.tell("state", type="state", state="speaking")
            await self._send_all(answer, fault)
            await talk.tell("state", type="state", state="listening")
        if answer.ends_call:
            await talk.hang_up()

    async def _send_all(self, answer: Answer, fault: Fault | None) -> None:
        """The words go with their sounds; the state changes when the last was played."""
        talk, bytes_per_ms = self._talk, self._format.bytes_per_ms
        audio, ordinal = spoken(answer.text, self._format), talk.next_ordinal()
        self._rest = pieces_of(audio, fault, talk.actor.script.chunk_ms * bytes_per_ms)
        began_ms, middle, sent, told = talk.actor.heard_ms, len(self._rest) // 2, 0, 0
        for index in range(len(self._rest)):
            if index == middle and answer.turn:
                await talk.misbehave("audio", answer.turn)
            await self._wait_until(began_ms + sent // bytes_per_ms - self._ahead_ms)
            words = answer.text[told : (sent + len(self._rest[0])) // bytes_per_ms // MS_PER_CHARACTER]
            if words:
                await self._tell_words(ordinal, delta=words)
                told += len(words)
            piece = self._rest.pop(0)
            sent += len(piece)
            await talk.sound(piece)
            if talk.actor.script.pace:
                await asyncio.sleep(len(piece) / bytes_per_ms / 1000 / talk.actor.script.pace)
        await self._tell_words(ordinal, text=answer.text)
        await self._wait_until(began_ms + sent // bytes_per_ms)

    async def _tell_words(self, ordinal: int, *, delta: str | None = None, text: str | None = None) -> None:
        words = {"text": text, "delta": delta, "final": text is not None, "ordinal": ordinal}
        await self._talk.tell("transcript", type="transcript", role="agent", medium="voice", **words)

    async def _wait_until(self, heard_ms: int) -> None:
        while self._talk.actor.heard_ms < heard_ms:
            self._talk.clock.clear()
            await self._talk.clock.wait()


def _linear(rate_hz: int) -> AudioFormat:
    return AudioFormat(encoding=Encoding.L16, sample_rate_hz=cast(SampleRate, rate_hz))
