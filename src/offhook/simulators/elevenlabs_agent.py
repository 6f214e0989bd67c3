"""ElevenLabs Agents, simulated: the websocket of a conversation, and the REST interface around it.

Wire: elevenlabs.io/docs/eleven-agents (client events, client-to-server events), and what the vendor's Python SDK says
and expects. The service reckons by its own clock what was heard; here that clock is the caller's audio.
"""

from __future__ import annotations

import asyncio
import binascii
import secrets
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, assert_never

import msgspec
from aiohttp import WSMsgType, web

from offhook.audio.convert import converter
from offhook.model.audio import PCMU_8K, AudioFormat, Encoding, SampleRate
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
from offhook.simulators.elevenlabs_workspace import TELEPHONE_AGENT, Workspace, not_allowed
from offhook.simulators.mishaps import LATE_WORDS, at_the_door, beside, carry_out, later, pieces_of
from offhook.simulators.mouth import Mouth
from offhook.simulators.script import Fault, FaultMoment, Script
from offhook.simulators.stage import Journal, open_websocket
from offhook.simulators.voice import MS_PER_CHARACTER, length_ms, spoken

PING_S = 2.0
PONG_WITHIN_S = 1.0

NO_INPUT_S = 60.0
"""A client that sends no audio for so long is gone."""

CLOSE_CODES: Mapping[str, int] = {
    "max_duration_exceeded": 1000,
    "transport_receive_timeout": 1002,
    "llm_timeout": 1002,
    "asyncio_timeout": 1002,
    "llm_error": 1002,
    "custom_llm_error": 1002,
    "cascade_brain_error": 1002,
    "asr_transcription_error": 1002,
    "vad_error": 1002,
    "tts_cascade_error": 1002,
    "safety_violation": 1002,
    "invalid_message": 1008,
    "missing_fields": 1008,
    "value_error": 1008,
    "override_error": 1008,
    "missing_dynamic_variable": 1008,
    "unknown_websocket_crash": 1011,
}
"""By the type of the error that is told before."""

_RATES: Mapping[str, SampleRate] = {"8000": 8000, "16000": 16000, "22050": 22050, "24000": 24000, "44100": 44100}

_CLIENT_MESSAGES: Mapping[str, frozenset[str]] = {
    "pong": frozenset({"event_id"}),
    "user_message": frozenset({"text"}),
    "user_activity": frozenset(),
    "contextual_update": frozenset({"text"}),
    "client_tool_result": frozenset({"tool_call_id", "result", "is_error"}),
    "feedback": frozenset({"event_id", "score"}),
    "mcp_tool_approval_result": frozenset({"tool_call_id", "is_approved"}),
    "multimodal_message": frozenset(),
}
"""What a client may say, and what has to be in it."""

_INTRODUCTION = frozenset(
    {
        "type",
        "conversation_config_override",
        "custom_llm_extra_body",
        "dynamic_variables",
        "user_id",
        "source_info",
        "branch_id",
        "environment",
        "starting_workflow_node_id",
    }
)


def format_of(name: str) -> AudioFormat:
    kind, _, rate = name.partition("_")
    return PCMU_8K if kind == "ulaw" else AudioFormat(encoding=Encoding.L16, sample_rate_hz=_RATES.get(rate, 48000))


class ElevenlabsSimulator:
    """Implements ``Simulator``. ``agent``: how its agents differ from new ones; ``api_key`` "": any is good."""

    def __init__(
        self,
        script: Script,
        *,
        agent: Mapping[str, Any] = TELEPHONE_AGENT,
        api_key: str = "",
        no_input_s: float = NO_INPUT_S,
        ping_s: float = PING_S,
    ) -> None:
        self.script = script
        self.journal = Journal()
        self.workspace = Workspace(self.journal, agent=agent, api_key=api_key)
        self.no_input_s = no_input_s
        self.ping_s = ping_s
        self.spent = Counter[int]()

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        return [*self.workspace.routes(), web.get("/v1/convai/conversation", self._converse)]

    async def _converse(self, request: web.Request) -> web.StreamResponse:
        self.journal.connections += 1
        actor = Actor(self.script, self.spent)
        refused = await at_the_door(actor.fault("connect"), request, refuse=_scripted)
        if refused is not None:
            return refused
        if not request.query.get("agent_id"):
            return web.json_response({"detail": "agent_id is missing"}, status=403)
        if not self.workspace.admits(request):
            self.journal.problems.append("a private agent was asked for without a signed URL")
            return web.json_response({"detail": "not authorized"}, status=403)
        websocket = await open_websocket(request)
        with suppress(ConnectionError):  # the client left between a look and a word
            await _Conversation(self, request, websocket, actor).run()
        return websocket


def _scripted(fault: Fault) -> web.Response:
    return web.Response(status=fault.code, text="refused by the script")


class _RefusedError(Exception):
    """``kind`` is the type of the error the service answers with."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class _Conversation:
    def __init__(
        self, simulator: ElevenlabsSimulator, request: web.Request, websocket: web.WebSocketResponse, actor: Actor
    ) -> None:
        self._simulator = simulator
        self._journal = simulator.journal
        self._number = simulator.journal.connections
        self._request = request
        self._websocket = websocket
        self._actor = actor
        self._script = simulator.script
        self._agent = simulator.workspace.agent(request.query["agent_id"])
        config = self._agent["conversation_config"]
        self._hears = format_of(config["asr"]["user_input_audio_format"])
        self._to_pcmu = converter(self._hears, PCMU_8K)
        self._greeting: str = config["agent"]["first_message"]
        self._events: list[str] = config["conversation"]["client_events"]
        self._event_id = 0
        self._last = ""
        self._pings: dict[int, float] = {}
        self._forgotten: set[str] = set()
        self._mouth = _Mouth(self, format_of(config["tts"]["agent_output_audio_format"]))

    async def run(self) -> None:
        message = await self._websocket.receive()
        if message.type is not WSMsgType.TEXT:
            return
        async with beside(self._ping(), later(self._actor, self._carry_out)):
            try:
                await self._begin(self._read(message.data))
                await self._listen()
            except _RefusedError as refusal:
                self._journal.problems.append(str(refusal))
                await self._end_with(refusal.kind, str(refusal))
            finally:
                await self._mouth.close()

    async def _listen(self) -> None:
        while not self._websocket.closed:
            try:
                message = await self._websocket.receive(timeout=self._simulator.no_input_s)
            except TimeoutError:
                await self._end_with("transport_receive_timeout", "no user input")
                return
            if message.type is WSMsgType.BINARY:
                raise _RefusedError("invalid_message", "a binary message came; all are JSON")
            if message.type is not WSMsgType.TEXT:
                return
            await self._take(self._read(message.data))

    # ── the beginning ────────────────────────────────────────────────────────────────────────────────────

    async def _begin(self, introduction: Mapping[str, Any]) -> None:
        self._check_introduction(introduction)
        overrides = introduction.get("conversation_config_override") or {}
        self._greeting = overrides.get("agent", {}).get("first_message", self._greeting)
        await self.misbehave("setup")
        config = self._agent["conversation_config"]
        await self.tell(
            "conversation_initiation_metadata",
            conversation_initiation_metadata_event={
                "conversation_id": f"conv_{secrets.token_hex(8)}",
                "agent_output_audio_format": config["tts"]["agent_output_audio_format"],
                "user_input_audio_format": config["asr"]["user_input_audio_format"],
            },
        )
        if self._greeting:
            await self._do(self._actor.greet(self._greeting))

    def _check_introduction(self, introduction: Mapping[str, Any]) -> None:
        """Raises ``_RefusedError``."""
        if introduction.get("type") != "conversation_initiation_client_data":
            raise _RefusedError("invalid_message", "the first message is no conversation_initiation_client_data")
        unknown = set(introduction) - _INTRODUCTION
        if unknown:
            raise _RefusedError("invalid_message", f"unknown fields: {', '.join(sorted(unknown))}")
        allowed = self._agent["platform_settings"]["overrides"]
        overrides = introduction.get("conversation_config_override") or {}
        refused = list(not_allowed(overrides, allowed.get("conversation_config_override", {})))
        if refused:
            raise _RefusedError("override_error", f"the agent does not allow to override {', '.join(refused)}")
        if introduction.get("custom_llm_extra_body") and not allowed.get("custom_llm_extra_body"):
            raise _RefusedError("override_error", "the agent does not allow custom_llm_extra_body")

    # ── what the client says ─────────────────────────────────────────────────────────────────────────────

    def _read(self, text: str) -> dict[str, Any]:
        """Raises ``_RefusedError``."""
        self._journal.note(self._number, self._request.path_qs, text)
        try:
            return msgspec.json.decode(text, type=dict[str, Any])
        except msgspec.DecodeError:
            raise _RefusedError("invalid_message", "a message is no JSON object") from None

    async def _take(self, message: dict[str, Any]) -> None:
        if "user_audio_chunk" in message:
            await self._hear(message)
            return
        kind = message.get("type")
        needed = _CLIENT_MESSAGES.get(str(kind))
        if needed is None:
            raise _RefusedError("invalid_message", f"{kind!r} is no message of a client")
        missing = needed - set(message)
        if missing:
            raise _RefusedError("missing_fields", f"{kind} lacks {', '.join(sorted(missing))}")
        match kind:
            case "pong":
                self._take_pong(message["event_id"])
            case "user_message":
                await self._mouth.interrupt()
                await self._do(self._actor.read(message["text"]))
            case "contextual_update":
                self._actor.recall(message["text"])
            case "client_tool_result":
                await self._take_result(message)
            case _:
                pass

    async def _hear(self, message: Mapping[str, Any]) -> None:
        if set(message) != {"user_audio_chunk"}:
            raise _RefusedError("invalid_message", "user_audio_chunk stands alone, without a type")
        try:
            audio = b64decode(message["user_audio_chunk"], validate=True)
        except (binascii.Error, TypeError, ValueError):
            raise _RefusedError("value_error", "user_audio_chunk is no base64") from None
        self._journal.hear(self._number, audio)
        await self._do(self._actor.hear(audio if self._to_pcmu is None else self._to_pcmu(audio)))

    def _take_pong(self, event_id: int) -> None:
        sent_at = self._pings.pop(event_id, None)
        if sent_at is None:
            self._journal.problems.append(f"a pong for {event_id}, which was no ping")
        elif asyncio.get_running_loop().time() - sent_at > PONG_WITHIN_S:
            self._journal.problems.append(f"the pong for {event_id} came late")

    async def _take_result(self, message: Mapping[str, Any]) -> None:
        key, result = message["tool_call_id"], message["result"]
        if not isinstance(result, str) or not isinstance(message["is_error"], bool):
            raise _RefusedError("value_error", "a tool's result is a string, is_error a boolean")
        deeds = self._actor.take_result(key, result)
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
                if not self._ignores(self._actor.hearing):
                    await self._mouth.interrupt()
            case SpeechEnded():
                pass
            case Understood(text=text):
                await self._understand(text)
            case CallTool():
                await self._call(deed)
            case CancelTool(tool_call_id=key):
                self._forgotten.add(key)  # nothing on the wire says so
            case Answer():
                self._mouth.say(deed)
            case _:
                assert_never(deed)

    def _ignores(self, words: str) -> bool:
        terms = self._agent["conversation_config"]["turn"]["interruption_ignore_terms"]
        return words.strip(" .,!").lower() in (term.lower() for term in terms)

    async def _understand(self, text: str) -> None:
        if self._script.interim:
            for end in range(len(text) // 2, len(text), max(1, len(text) // 2)):
                event = {"user_transcript": text[:end], "event_id": self._event_id}
                await self.tell("tentative_user_transcript", tentative_user_transcription_event=event)
        self._event_id += 1
        event = {"user_transcript": text, "event_id": self._event_id}
        await self.tell("user_transcript", user_transcription_event=event)

    async def _call(self, call: CallTool) -> None:
        tool = {
            "tool_name": call.name,
            "tool_call_id": call.tool_call_id,
            "parameters": msgspec.json.decode(call.arguments),
            "event_id": self._event_id,
        }
        await self.tell("client_tool_call", client_tool_call=tool)
        await self.misbehave("tool")

    # ── what it says ─────────────────────────────────────────────────────────────────────────────────────

    @property
    def heard_ms(self) -> int:
        return self._actor.heard_ms

    @property
    def script(self) -> Script:
        return self._script

    def next_event(self) -> int:
        self._event_id += 1
        return self._event_id

    async def tell(self, kind: str, **payload: object) -> None:
        """An event, if the agent is set to send such."""
        if kind in self._events or kind in ("error", "conversation_initiation_metadata"):
            await self.send(msgspec.json.encode({"type": kind, **payload}).decode())

    async def send(self, text: str) -> None:
        if not self._websocket.closed:
            self._last = text
            await self._websocket.send_str(text)

    async def misbehave(self, on: FaultMoment, turn: int = 0) -> Fault | None:
        fault = self._actor.fault(on, turn)
        if fault is not None:
            await self._carry_out(fault)
        return fault

    async def _carry_out(self, fault: Fault) -> None:
        if fault.do == "duplicate":
            await self.send(self._last)
        else:
            await carry_out(fault, self._request, self._websocket, error=self._fail, say=self.send)

    async def _fail(self, fault: Fault) -> None:
        await self._end_with(fault.text or "unknown_websocket_crash", "something went wrong")

    async def _end_with(self, kind: str, message: str) -> None:
        code = CLOSE_CODES.get(kind, 1011)
        event = {"code": code, "error_type": kind, "message": message, "reason": kind, "details": None}
        await self.tell("error", error_event=event)
        await self._websocket.close(code=code, message=kind.encode())

    async def hang_up(self) -> None:
        tool = {"tool_name": "end_call", "tool_call_id": "system", "tool_type": "system", "is_error": False}
        await self.tell("agent_tool_response", agent_tool_response={**tool, "event_id": self._event_id})
        await self._websocket.close(code=1000, message=b"Call ended by agent")

    async def _ping(self) -> None:
        while not self._websocket.closed:
            await asyncio.sleep(self._simulator.ping_s)
            if self._pings:
                self._journal.problems.append(f"no pong for {', '.join(map(str, self._pings))}")
                self._pings.clear()
            number = self.next_event()
            self._pings[number] = asyncio.get_running_loop().time()
            await self.tell("ping", ping_event={"event_id": number, "ping_ms": None})


class _Mouth:
    """Knows how long each sounds at the other end, as the service believes it does."""

    def __init__(self, conversation: _Conversation, audio_format: AudioFormat) -> None:
        self._conversation = conversation
        self._format = audio_format
        self._mouth = Mouth(self._say)
        self.say, self.close = self._mouth.say, self._mouth.stop
        self._text = ""
        self._rest: list[bytes] = []
        self._begins_ms = self._ends_ms = 0
        self._last_event = 0
        self._late_event: int | None = None

    async def interrupt(self) -> None:
        """The caller speaks: whatever is still being said, or heard as far as the clock goes, is given up."""
        heard_ms = self._conversation.heard_ms
        if not await self._mouth.stop() and heard_ms >= self._ends_ms:
            return
        await self._conversation.tell("interruption", interruption_event={"event_id": self._last_event})
        await self._correct(heard_ms)
        self._ends_ms = heard_ms
        fault = await self._conversation.misbehave("interrupted")
        if fault is not None and fault.do == "late_audio":
            self._late_event = self._last_event
            late = self._rest or [spoken(self._text, self._format)]
            for piece in late:
                await self._send(piece, self._last_event, "")

    async def _correct(self, heard_ms: int) -> None:
        heard = self._text[: max(0, heard_ms - self._begins_ms) // MS_PER_CHARACTER]
        event = {
            "original_agent_response": self._text,
            "corrected_agent_response": heard,
            "event_id": self._last_event,
        }
        await self._conversation.tell("agent_response_correction", agent_response_correction_event=event)

    async def _say(self, answer: Answer) -> None:
        conversation = self._conversation
        if not answer.text:
            return
        await asyncio.sleep(answer.pause_ms / 1000)
        fault = await conversation.misbehave("greeting" if answer.turn == 0 else "turn", answer.turn)
        self._text, self._last_event = answer.text, conversation.next_event()
        event = {"agent_response": answer.text, "event_id": self._last_event}
        await conversation.tell("agent_response", agent_response_event=event)
        if self._late_event is not None:  # of what was interrupted, as late as can be
            await self._send(spoken(LATE_WORDS, self._format), self._late_event, "")
            self._late_event = None
        self._begins_ms = max(conversation.heard_ms, self._ends_ms)
        self._ends_ms = self._begins_ms + length_ms(answer.text)
        await self._send_all(answer, fault)
        await conversation.tell("agent_response_complete", agent_response_complete_event={"event_id": self._last_event})
        if answer.ends_call:
            await conversation.hang_up()

    async def _send_all(self, answer: Answer, fault: Fault | None) -> None:
        script, bytes_per_ms = self._conversation.script, self._format.bytes_per_ms
        audio = spoken(answer.text, self._format)
        self._rest = pieces_of(audio, fault, script.chunk_ms * bytes_per_ms)
        middle = len(self._rest) // 2
        for index in range(len(self._rest)):
            if index == middle and answer.turn:
                await self._conversation.misbehave("audio", answer.turn)
            piece = self._rest.pop(0)
            start = len(audio) - sum(map(len, self._rest)) - len(piece)
            self._last_event = self._conversation.next_event()
            await self._send(piece, self._last_event, self._words(answer.text, start, len(piece)))
            if script.pace:
                await asyncio.sleep(len(piece) / bytes_per_ms / 1000 / script.pace)

    def _words(self, text: str, start: int, size: int) -> str:
        """Those whose sound begins in this piece."""
        per_character = MS_PER_CHARACTER * self._format.bytes_per_ms
        return text[-(-start // per_character) : -(-(start + size) // per_character)]

    async def _send(self, audio: bytes, event_id: int, words: str) -> None:
        event: dict[str, Any] = {"audio_base_64": b64encode(audio).decode(), "event_id": event_id}
        if words:
            event["alignment"] = {
                "chars": list(words),
                "char_start_times_ms": [MS_PER_CHARACTER * index for index in range(len(words))],
                "char_durations_ms": [MS_PER_CHARACTER] * len(words),
            }
        await self._conversation.tell("audio", audio_event=event)
