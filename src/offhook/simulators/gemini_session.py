"""One websocket of a simulated Gemini Live: reads what a client sends, and says what its conversation's actor does."""

from __future__ import annotations

import asyncio
import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol, assert_never

import msgspec
from aiohttp import WSMsgType, web

from offhook.audio.convert import Converter, converter
from offhook.model.audio import L16_16K, L16_24K, PCMU_8K, AudioFormat, Encoding, SampleRate
from offhook.simulators.actor import Actor, Answer, CallTool, CancelTool, Deed, SpeechBegan, SpeechEnded, Understood
from offhook.simulators.gemini_schema import (
    INVALID,
    UNSUPPORTED,
    GeminiRefusalError,
    check_setup,
    read_client_message,
)
from offhook.simulators.mishaps import carry_out, later, pieces_of
from offhook.simulators.mouth import Mouth
from offhook.simulators.script import Fault, FaultMoment, Script
from offhook.simulators.stage import Journal
from offhook.simulators.voice import spoken

END_CALL_ID = "call_end"

LATE_PIECES = 3
"""Of audio that comes after an interruption, where the script wants it."""

_WEB_SAFE = str.maketrans("-_", "+/")
"""proto3 JSON takes both alphabets of base64; Google's own client writes this one."""

_RATES: dict[str, SampleRate] = {"8000": 8000, "16000": 16000, "24000": 24000, "48000": 48000}


@dataclass(slots=True)
class GeminiConversation:
    """What a handle leads to. ``told``: each text of the client's that is context now, instructions first."""

    actor: Actor
    number: int
    handles: int = 0
    session: GeminiSession | None = None
    told: list[str] = field(default_factory=list)
    open_calls: dict[str, str] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)

    def new_handle(self) -> str:
        self.handles += 1
        return f"handle-{self.number}-{self.handles}"


class GeminiService(Protocol):
    """The simulator, as its sessions see it."""

    script: Script
    journal: Journal
    names_calls: bool
    needs_input: bool
    playback_speed: float

    def conversation(self, setup: dict[str, Any]) -> GeminiConversation:
        """Raises ``GeminiRefusalError``."""
        ...


class GeminiSession:
    """``run`` it, then ``close`` it."""

    def __init__(
        self, request: web.Request, websocket: web.WebSocketResponse, simulator: GeminiService, number: int
    ) -> None:
        self._request = request
        self._websocket = websocket
        self._simulator = simulator
        self._journal = simulator.journal
        self._number = number
        self._setup: dict[str, Any] | None = None
        self._conversation: GeminiConversation | None = None
        self._hearing: tuple[str, Converter | None] = ("", None)
        self._awaits_history = False
        self._has_input = not simulator.needs_input
        self._in_activity = False
        self._unasked: list[str] = []
        self._mouth = Mouth(self._say)
        self._later: list[asyncio.Task[None]] = []
        self._last = ""

    async def run(self) -> None:
        """Until either side closes. Raises ``GeminiRefusalError``."""
        async for message in self._websocket:
            if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                continue
            self._journal.note(self._number, self._request.path_qs, message.data)
            await self._read(message.data)

    async def close(self) -> None:
        if self._conversation is not None and self._conversation.session is self:
            self._conversation.session = None
        await self._mouth.stop()
        for task in self._later:
            task.cancel()
        await asyncio.gather(*self._later, return_exceptions=True)

    # ── what the client sends ────────────────────────────────────────────────────────────────────────────

    async def _read(self, data: bytes | str) -> None:
        try:
            decoded = msgspec.json.decode(data)
        except msgspec.DecodeError:
            raise GeminiRefusalError(INVALID, "Invalid JSON payload received.") from None
        name, value = read_client_message(decoded)
        if self._setup is None:
            if name != "setup":
                raise GeminiRefusalError(INVALID, f"setup must be the first message and only the first, not {name}")
            await self._set_up(value)
            return
        match name:
            case "clientContent":
                await self._take_content(value)
            case "realtimeInput":
                await self._take_input(value)
            case "toolResponse":
                await self._take_results(value)
            case "contextUpdate":
                self._take_context(value)
            case _:
                raise GeminiRefusalError(INVALID, "setup must be the first message and only the first")

    async def _set_up(self, setup: dict[str, Any]) -> None:
        check_setup(setup)
        self._setup = setup
        conversation = self._conversation = self._simulator.conversation(setup)
        conversation.session = self
        self._awaits_history = setup.get("historyConfig", {}).get("initialHistoryInClientContent", False)
        conversation.told += _texts([setup.get("systemInstruction", {})])
        self._begin_faults()
        if await self._mishap("setup"):
            return
        await self._send({"setupComplete": {"sessionId": f"session-{self._number}"}}, binary=True)
        await self._offer_resumption()

    def _begin_faults(self) -> None:
        self._spawn(later(self._actor, self.carry_out))

    async def _take_content(self, content: dict[str, Any]) -> None:
        texts = _texts(content.get("turns", ()))
        self._talk.told += texts
        if self._awaits_history:
            self._awaits_history = not content.get("turnComplete", False)
            return
        await self._interrupt()
        if content.get("turnComplete", True):
            self._unasked.append(texts[-1] if texts else "")
            await self._answer_texts()

    async def _take_input(self, sent: dict[str, Any]) -> None:
        if self._awaits_history:
            self._journal.problems.append("real-time input came before the history that was announced")
        self._has_input = True
        if "audio" in sent:
            await self._hear(sent["audio"])
        elif sent.get("text", "").strip():
            await self._interrupt()
            self._unasked.append(sent["text"])
        elif sent.get("audioStreamEnd"):
            await self._end_of_speech()
        elif "activityStart" in sent or "activityEnd" in sent:
            await self._take_activity(begins="activityStart" in sent)
        await self._answer_texts()

    async def _take_activity(self, *, begins: bool) -> None:
        """https://ai.google.dev/gemini-api/docs/live-guide#disable-automatic-vad"""
        if not self._detection.get("disabled"):
            raise GeminiRefusalError(INVALID, "Explicit activity control is not supported with automatic detection.")
        self._in_activity = begins
        if begins:
            await self._interrupt()
        else:
            await self._end_of_speech()

    async def _end_of_speech(self) -> None:
        silence = b"\xff" * PCMU_8K.frame_bytes
        for _ in range(100):
            await self._do(self._actor.hear(silence))

    async def _hear(self, blob: dict[str, Any]) -> None:
        audio_format = _format_of(blob.get("mimeType", ""))
        try:
            l16 = b64decode(blob.get("data", "").translate(_WEB_SAFE), validate=True)
        except Base64Error:
            raise GeminiRefusalError(INVALID, "Invalid value at 'realtime_input.audio.data'") from None
        self._journal.hear(self._number, l16)
        if self._detection.get("disabled") and not self._in_activity:
            return
        if self._hearing[0] != blob["mimeType"]:
            self._hearing = (blob["mimeType"], converter(audio_format, PCMU_8K))
        convert = self._hearing[1]
        await self._do(self._actor.hear(convert(l16) if convert is not None else l16))

    async def _take_results(self, response: dict[str, Any]) -> None:
        for one in response.get("functionResponses", ()):
            key = self._call_of(one)
            if key is None:
                continue
            del self._talk.open_calls[key]
            output = one.get("response", {})
            text = output.get("output", output.get("error", output)) if isinstance(output, dict) else output
            if key == END_CALL_ID:
                await self._send({"serverContent": {"turnComplete": True}})
                continue
            deeds = self._actor.take_result(key, text if isinstance(text, str) else msgspec.json.encode(text).decode())
            await self._do(deeds or ())

    def _call_of(self, response: dict[str, Any]) -> str | None:
        """Which call this answers: by its id, or by name and order where ids are not used. Raises."""
        calls: dict[str, str] = self._talk.open_calls
        key: str = response.get("id", "")
        if not self._simulator.names_calls:
            key = next((one for one, name in calls.items() if name == response.get("name")), "")
        if key in self._talk.cancelled:
            self._journal.problems.append(f"a result came for {key}, which was taken back")
            return None
        if key not in calls:
            raise GeminiRefusalError(INVALID, f"Request contains an invalid argument: no function call {key!r} is open")
        return key

    def _take_context(self, update: dict[str, Any]) -> None:
        assert self._setup is not None
        if "gemini-3.8" not in self._setup["model"]:
            raise GeminiRefusalError(INVALID, 'Invalid JSON payload received. Unknown name "contextUpdate"')
        self._talk.told += _texts([update.get("systemInstruction", {})])

    # ── what the actor does ──────────────────────────────────────────────────────────────────────────────

    async def _answer_texts(self) -> None:
        while self._has_input and self._unasked:
            await self._do(_reading(self._actor, self._unasked.pop(0)))

    async def _do(self, deeds: Iterable[Deed]) -> None:
        calls: list[CallTool] = []
        for deed in deeds:
            match deed:
                case SpeechBegan():
                    if self._interruptible:
                        await self._interrupt()
                case SpeechEnded():
                    pass
                case Understood(text=text):
                    await self._transcribe(text)
                case CallTool():
                    calls.append(deed)
                case CancelTool():
                    await self._cancel(deed)
                case Answer():
                    self._mouth.say(deed)
                case _:
                    assert_never(deed)
        if calls:
            await self._call(calls)

    async def _transcribe(self, text: str) -> None:
        if self._setup is None or "inputAudioTranscription" not in self._setup:
            return
        pieces = re.findall(r"\s*\S+", text) if self._simulator.script.interim else [text]
        for piece in pieces:
            await self._send({"serverContent": {"inputTranscription": {"text": piece}}})

    async def _call(self, calls: list[CallTool]) -> None:
        await self._send({"sessionResumptionUpdate": {"resumable": False}})
        functions = []
        for call in calls:
            self._talk.open_calls[call.tool_call_id] = call.name
            function = {"name": call.name, "args": msgspec.json.decode(call.arguments)}
            functions.append(function | ({"id": call.tool_call_id} if self._simulator.names_calls else {}))
        await self._send({"toolCall": {"functionCalls": functions}})
        await self._offer_resumption()
        fault = self._actor.fault("tool")
        if fault is not None:
            self._spawn(self.carry_out(fault))

    async def _cancel(self, call: CancelTool) -> None:
        self._talk.open_calls.pop(call.tool_call_id, None)
        self._talk.cancelled.add(call.tool_call_id)
        await self._send({"toolCallCancellation": {"ids": [call.tool_call_id]}})

    # ── what it says ─────────────────────────────────────────────────────────────────────────────────────

    async def _interrupt(self) -> None:
        """The model stops, generating or playing as the server assumes it to be."""
        if not await self._mouth.stop():
            return
        await self._send({"serverContent": {"interrupted": True}})
        fault = self._actor.fault("interrupted")
        if fault is not None and fault.do == "late_audio":
            late = pieces_of(spoken("What was interrupted.", L16_24K), None, self._chunk_bytes)
            for piece in late[:LATE_PIECES]:
                await self._send(_content(piece), binary=True)
        elif fault is not None:
            self._spawn(self.carry_out(fault))
        await self._send({"serverContent": {"turnComplete": True}})

    async def _say(self, answer: Answer) -> None:
        await asyncio.sleep(answer.pause_ms / 1000)
        if answer.turn and await self._mishap("turn", answer.turn):
            return
        await self._send({"sessionResumptionUpdate": {"resumable": False}})
        began = asyncio.get_running_loop().time()
        audio = spoken(answer.text, L16_24K)
        if await self._say_audio(answer, audio):
            return
        await self._send({"serverContent": {"generationComplete": True}})
        await self._say_words(re.findall(r"\s*\S+", answer.text)[-1:])
        if answer.ends_call and await self._end_call():
            return
        played_s = len(audio) / L16_24K.bytes_per_ms / 1000 / self._simulator.playback_speed
        await asyncio.sleep(max(0.0, began + played_s - asyncio.get_running_loop().time()))
        await self._send({"serverContent": {"turnComplete": True}, "usageMetadata": _usage(answer.text)})
        await self._offer_resumption()

    async def _say_audio(self, answer: Answer, audio: bytes) -> bool:
        """True: something went wrong that ended it. The last word comes later than the audio."""
        moment: FaultMoment = "audio" if answer.turn else "greeting"
        fault = self._actor.fault(moment, answer.turn)
        pieces = pieces_of(audio, fault, self._chunk_bytes)
        words = re.findall(r"\s*\S+", answer.text)[:-1]
        for index, piece in enumerate(pieces):
            message = _content(piece)
            said = words[len(words) * index // len(pieces) : len(words) * (index + 1) // len(pieces)]
            if said and self._transcribes:
                message["serverContent"]["outputTranscription"] = {"text": "".join(said)}
            await self._send(message, binary=True)
            if fault is not None and index == len(pieces) // 2 and await self._wrong(fault):
                return True
            await self._pace(len(piece))
        return False

    async def _say_words(self, words: Iterable[str]) -> None:
        for word in words if self._transcribes else ():
            await self._send({"serverContent": {"outputTranscription": {"text": word}}})

    async def _end_call(self) -> bool:
        assert self._setup is not None
        declared = [
            one["name"] for tool in self._setup.get("tools", ()) for one in tool.get("functionDeclarations", ())
        ]
        if "end_call" not in declared:
            return False
        self._talk.open_calls[END_CALL_ID] = "end_call"
        call: dict[str, Any] = {"name": "end_call", "args": {}}
        if self._simulator.names_calls:
            call["id"] = END_CALL_ID
        await self._send({"toolCall": {"functionCalls": [call]}})
        return True

    async def _pace(self, audio_bytes: int) -> None:
        pace = self._simulator.script.pace
        await asyncio.sleep(audio_bytes / L16_24K.bytes_per_ms / 1000 / pace if pace else 0)

    async def go_away(self, notice_s: float) -> None:
        """The connection has lived long enough."""
        await self._send({"goAway": {"timeLeft": f"{notice_s:g}s"}})
        await asyncio.sleep(notice_s)
        await self._websocket.close(code=1011, message=b"Deadline expired before operation could complete.")

    async def _offer_resumption(self) -> None:
        if self._setup is not None and "sessionResumption" in self._setup:
            update = {"newHandle": self._talk.new_handle(), "resumable": True}
            await self._send({"sessionResumptionUpdate": update})

    async def _send(self, message: dict[str, Any], *, binary: bool = False) -> None:
        text = msgspec.json.encode(message).decode()
        self._last = text
        await self._put(text, binary=binary)

    async def _put(self, text: str, *, binary: bool = False) -> None:
        if self._websocket.closed:
            return
        try:
            if binary:
                await self._websocket.send_bytes(text.encode())
            else:
                await self._websocket.send_str(text)
        except ConnectionError:
            pass  # the client left

    # ── what goes wrong ──────────────────────────────────────────────────────────────────────────────────

    async def carry_out(self, fault: Fault) -> None:
        await carry_out(fault, self._request, self._websocket, error=self._error, say=self._put)

    async def _error(self, fault: Fault) -> None:
        """It has no error messages: a close code and a reason."""
        if fault.text == "goAway":
            self._spawn(self.go_away(fault.ms / 1000))
        else:
            await self._websocket.close(code=fault.code, message=fault.text[:123].encode())

    async def _mishap(self, on: FaultMoment, turn: int = 0) -> bool:
        fault = self._actor.fault(on, turn)
        return fault is not None and await self._wrong(fault)

    async def _wrong(self, fault: Fault) -> bool:
        """True: the connection is gone by it."""
        if fault.do == "duplicate":
            await self._put(self._last)
        else:
            await self.carry_out(fault)
        return self._websocket.closed or fault.do == "drop"

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._later.append(asyncio.create_task(work))

    # ── looks ────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _talk(self) -> GeminiConversation:
        assert self._conversation is not None
        return self._conversation

    @property
    def _actor(self) -> Actor:
        return self._talk.actor

    @property
    def _detection(self) -> dict[str, Any]:
        detection: dict[str, Any] = self._input_config.get("automaticActivityDetection", {})
        return detection

    @property
    def _interruptible(self) -> bool:
        return self._input_config.get("activityHandling") != "NO_INTERRUPTION"

    @property
    def _input_config(self) -> dict[str, Any]:
        config: dict[str, Any] = (self._setup or {}).get("realtimeInputConfig", {})
        return config

    @property
    def _transcribes(self) -> bool:
        return "outputAudioTranscription" in (self._setup or {})

    @property
    def _chunk_bytes(self) -> int:
        return self._simulator.script.chunk_ms * L16_24K.bytes_per_ms


def _reading(actor: Actor, text: str) -> list[Deed]:
    """A greeting or a sentence that is asked for in quotes is said; anything else is read."""
    quoted = re.search(r'\b(?:greet|say)\b.*?"(.+)"', text, re.IGNORECASE | re.DOTALL)
    greeting = re.search(r"\bgreet\b", text, re.IGNORECASE)
    deeds: list[Deed]
    if greeting:
        deeds = actor.greet(quoted.group(1) if quoted else "")
    elif quoted:
        deeds = [Answer(text=quoted.group(1), turn=0)]
    else:
        deeds = actor.read(text)
    return deeds


def _texts(contents: Iterable[dict[str, Any]]) -> list[str]:
    return [part["text"] for content in contents for part in content.get("parts", ()) if "text" in part]


def _content(audio: bytes) -> dict[str, Any]:
    data = {"mimeType": "audio/pcm;rate=24000", "data": b64encode(audio).decode()}
    return {"serverContent": {"modelTurn": {"role": "model", "parts": [{"inlineData": data}]}}}


def _format_of(mime_type: str) -> AudioFormat:
    """Raises ``GeminiRefusalError``."""
    found = re.fullmatch(r"audio/pcm(?:;\s*rate=(\d+))?", mime_type)
    rate_hz = _RATES.get(found.group(1) or "16000") if found else None
    if rate_hz is None:
        raise GeminiRefusalError(UNSUPPORTED, f"Unsupported MIME type {mime_type!r}")
    return L16_16K if rate_hz == 16000 else AudioFormat(encoding=Encoding.L16, sample_rate_hz=rate_hz)


def _usage(text: str) -> dict[str, Any]:
    """25 tokens a second of audio, and a few of text."""
    spoken_tokens = max(1, len(text))
    return {
        "promptTokenCount": 300,
        "responseTokenCount": spoken_tokens,
        "totalTokenCount": 300 + spoken_tokens,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 200}, {"modality": "AUDIO", "tokenCount": 100}],
        "responseTokensDetails": [{"modality": "AUDIO", "tokenCount": spoken_tokens}],
    }
