"""One websocket of the simulated OpenAI Realtime: what the client says, item by item, and who speaks when."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from typing import Any

import msgspec
from aiohttp import WSMsgType, web

from offhook.audio.convert import Converter, converter
from offhook.model.audio import PCMU_8K, AudioFormat
from offhook.simulators import mishaps
from offhook.simulators.actor import Actor, Answer, CallTool, Deed, SpeechBegan, SpeechEnded, Understood
from offhook.simulators.openai_items import Items, text_of
from offhook.simulators.openai_reply import FATAL_CODES, INPUT_TOKEN_MS, Reply
from offhook.simulators.openai_session import FORMATS, OpenAiRefusalError, first_session, updated
from offhook.simulators.script import Fault, FaultMoment, Script
from offhook.simulators.stage import Journal

LEAST_COMMIT_MS = 100

ONSET_MS = 60
"""Of a voice, before it is noticed."""

EXACTLY = re.compile(r'Say exactly:?\s*"(.*)"', re.DOTALL)
"""What a model that is told so does as a rule."""

EXPIRED = "Your session hit the maximum duration of 60 minutes."


class _Append(msgspec.Struct):
    audio: bytes


class Talk:
    """A session and its conversation. Implements ``ReplyTo``."""

    def __init__(self, script: Script, spent: Counter[int], journal: Journal, number: int) -> None:
        self.actor = Actor(script, spent)
        self.script = script
        self.chunk_ms = script.chunk_ms
        self.pace = script.pace
        self.session: dict[str, Any] = {}
        self._journal = journal
        self._number = number
        self._ids = count(1)
        self._items = Items()
        self._reply: Reply | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._ready: list[Deed] = []
        """What the next response will say, where the script knows already."""
        self._unread: list[str] = []
        self._told: list[str] = []
        self._has_spoken = False
        self._input: AudioFormat = FORMATS["audio/pcm"]
        self._to_pcmu: Converter | None = converter(self._input, PCMU_8K)
        self._buffered_bytes = self._heard_bytes = self._answered_bytes = 0
        self._caller_item = ""
        self._last = ""

    # ── the websocket ────────────────────────────────────────────────────────────────────────────────────

    async def run(
        self, request: web.Request, websocket: web.WebSocketResponse, *, model: str, transcription: bool
    ) -> None:
        """Until the client leaves."""
        self._request, self._websocket = request, websocket
        self.session = first_session(self.new_id("sess"), model, transcription=transcription)
        await self.emit("session.created", session=self.session)
        try:
            async for message in websocket:
                if message.type is not WSMsgType.TEXT:
                    self._journal.problems.append("a binary message")
                    break
                self._journal.note(self._number, request.path_qs, message.data)
                await self._take(message.data)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def emit(self, kind: str, **fields: Any) -> None:
        event = {"type": kind, "event_id": f"event_{next(self._ids)}", **fields}
        await self._say(msgspec.json.encode(event).decode())

    async def _say(self, text: str) -> None:
        self._last = text
        if not self._websocket.closed:
            with suppress(ConnectionError):  # the client left between the look and the word
                await self._websocket.send_str(text)

    async def expire(self, after_s: float) -> None:
        await asyncio.sleep(after_s)
        await self._refuse_fatally("session_expired")

    async def misbehave(self, on: FaultMoment, turn: int) -> Fault | None:
        fault = self.actor.fault(on, turn)
        if fault is not None:
            await self.carry_out(fault)
        return fault

    async def carry_out(self, fault: Fault) -> None:
        if fault.do == "duplicate":
            await self._say(self._last)
        else:
            await mishaps.carry_out(fault, self._request, self._websocket, error=self._scripted_error, say=self._say)

    async def _scripted_error(self, fault: Fault) -> None:
        """Codes that are none of the session's fail a response only, which says so itself."""
        if fault.on in ("setup", "after") or fault.text in FATAL_CODES:
            await self._refuse_fatally(fault.text or "server_error")

    async def _refuse_fatally(self, code: str) -> None:
        kind = "server_error" if code == "server_error" else "invalid_request_error"
        message = EXPIRED if code == "session_expired" else "It was scripted."
        await self.emit("error", error=OpenAiRefusalError(message, code, kind=kind).described())
        if code == "session_expired":
            await self._websocket.close(code=1001, message=EXPIRED.encode())

    # ── what the client says ─────────────────────────────────────────────────────────────────────────────

    async def _take(self, text: str) -> None:
        if '"input_audio_buffer.append"' in text[:64]:
            await self._append(text)
            return
        event_id = None
        try:
            event = msgspec.json.decode(text)
            if not isinstance(event, dict):
                raise OpenAiRefusalError("The event is no object.", "invalid_json")
            event_id = event.get("event_id")
            await self._obey(event)
        except msgspec.DecodeError:
            await self._refuse(OpenAiRefusalError("We could not parse the JSON body of your message.", "invalid_json"))
        except OpenAiRefusalError as refusal:
            await self._refuse(refusal, event_id)

    async def _refuse(self, refusal: OpenAiRefusalError, event_id: str | None = None) -> None:
        self._journal.problems.append(refusal.message)
        await self.emit("error", error=refusal.described(event_id))

    async def _obey(self, event: dict[str, Any]) -> None:
        commands = {
            "session.update": self._update,
            "input_audio_buffer.append": self._append_plainly,
            "input_audio_buffer.commit": self._commit,
            "input_audio_buffer.clear": self._clear,
            "conversation.item.create": self._create_item,
            "conversation.item.delete": self._delete_item,
            "conversation.item.truncate": self._truncate_item,
            "response.create": self._create_response,
            "response.cancel": self._cancel_response,
        }
        command = commands.get(str(event.get("type")))
        if command is None:
            listed = ", ".join(repr(name) for name in commands)
            problem = f"Invalid value: {event.get('type')!r}. Supported values are: {listed}."
            raise OpenAiRefusalError(problem, "invalid_value", "type")
        await command(event)

    async def _update(self, event: dict[str, Any]) -> None:
        fault = await self.misbehave("setup", 0)
        if fault is not None and fault.do == "error":
            return
        before = self._detection
        self.session = updated(self.session, event.get("session"), has_spoken=self._has_spoken)
        wanted = FORMATS[self.session["audio"]["input"]["format"]["type"]]
        if wanted != self._input:
            self._input, self._to_pcmu = wanted, converter(wanted, PCMU_8K)
            self._buffered_bytes = self._heard_bytes = self._answered_bytes = 0
        if self._detection != before:
            self.actor.listen(int(self._detection.get("silence_duration_ms") or self.script.hangover_ms))
        await self.emit("session.updated", session=self.session)

    @property
    def _detection(self) -> dict[str, Any]:
        """Empty where turns are the client's business."""
        return self.session["audio"]["input"]["turn_detection"] or {}

    @property
    def _interrupts(self) -> bool:
        return bool(self._detection.get("interrupt_response", True))

    @property
    def _transcription(self) -> bool:
        return bool(self.session["type"] == "transcription")

    # ── the caller's voice ───────────────────────────────────────────────────────────────────────────────

    async def _append(self, text: str) -> None:
        try:
            audio = msgspec.json.decode(text, type=_Append).audio
        except msgspec.DecodeError:
            problem = "Invalid 'audio'. Expected base64-encoded audio bytes."
            await self._refuse(OpenAiRefusalError(problem, "invalid_value", "audio"))
            return
        self._journal.hear(self._number, audio)
        self._buffered_bytes += len(audio)
        self._heard_bytes += len(audio)
        if self._detection:
            deeds = self.actor.hear(audio if self._to_pcmu is None else self._to_pcmu(audio))
            if deeds:
                await self._heard(deeds)

    async def _append_plainly(self, event: dict[str, Any]) -> None:
        await self._append(msgspec.json.encode(event).decode())

    async def _heard(self, deeds: Sequence[Deed]) -> None:
        content = [deed for deed in deeds if isinstance(deed, Answer | CallTool)]
        understood = ""
        for deed in deeds:
            match deed:
                case SpeechBegan(at_ms=at_ms):
                    await self._speech_began(at_ms)
                case SpeechEnded(at_ms=at_ms):
                    await self.emit("input_audio_buffer.speech_stopped", audio_end_ms=at_ms, item_id=self._caller_item)
                case Understood(text=text):
                    understood = text
                case _:
                    pass
        if any(isinstance(deed, SpeechEnded) for deed in deeds):
            await self._turn(understood, content)

    async def _speech_began(self, at_ms: int) -> None:
        self._caller_item = self.new_id("item")
        start_ms = max(0, at_ms - ONSET_MS - int(self._detection.get("prefix_padding_ms", 0)))
        await self.emit("input_audio_buffer.speech_started", audio_start_ms=start_ms, item_id=self._caller_item)
        if self._reply is not None and self._interrupts:
            self._reply.cancel("turn_detected")
            await self.misbehave("interrupted", 0)

    async def _turn(self, understood: str, content: Sequence[Deed]) -> None:
        """What was buffered becomes an item, which may be answered."""
        self._ready, self._unread, self._told = list(content), [], []
        item_id, seconds = self._caller_item, self._buffered_bytes / self._input.bytes_per_ms / 1000
        self._buffered_bytes = 0
        item = {
            "id": item_id, "object": "realtime.item", "type": "message", "status": "completed", "role": "user",
            "content": [{"type": "input_audio", "transcript": None}],
        }  # fmt: skip
        previous = self.add_item(item)
        await self.emit("input_audio_buffer.committed", previous_item_id=previous, item_id=item_id)
        await self.emit("conversation.item.added", previous_item_id=previous, item=item)
        await self.emit("conversation.item.done", previous_item_id=previous, item=item)
        detection = self._detection
        # "If both create_response and interrupt_response are set to false, the model will never respond
        # automatically"; with interrupt_response alone "this may fail to create a response if the model is already
        # responding" (the SDK's documentation of server_vad).
        if not self._transcription and detection.get("create_response", bool(detection)):
            if self._reply is not None:
                await self._refuse_second()
            else:
                await self._respond(self._taken())
        await self._transcribe(item_id, understood, seconds)

    async def _transcribe(self, item_id: str, text: str, seconds: float) -> None:
        if not self.session["audio"]["input"]["transcription"]:
            return
        kind = "conversation.item.input_audio_transcription"
        place = {"item_id": item_id, "content_index": 0}
        for index, word in enumerate(text.split(" ") if self.script.interim else ()):
            await self.emit(f"{kind}.delta", **place, delta=f" {word}" if index else word)
        usage = {"type": "duration", "seconds": round(seconds, 2)}
        await self.emit(f"{kind}.completed", **place, transcript=text, usage=usage)

    async def _commit(self, event: dict[str, Any]) -> None:
        buffered_ms = self._buffered_bytes / self._input.bytes_per_ms
        if buffered_ms < LEAST_COMMIT_MS:
            problem = (
                "Error committing input audio buffer: buffer too small. Expected at least 100ms of audio, but "
                f"buffer only has {buffered_ms:.2f}ms of audio."
            )
            raise OpenAiRefusalError(problem, "input_audio_buffer_commit_empty")
        self._caller_item = self.new_id("item")
        deeds = self.actor.commit()
        understood = next(deed.text for deed in deeds if isinstance(deed, Understood))
        await self._turn(understood, [deed for deed in deeds if isinstance(deed, Answer | CallTool)])

    async def _clear(self, event: dict[str, Any]) -> None:
        self._buffered_bytes = 0
        await self.emit("input_audio_buffer.cleared")

    # ── items ────────────────────────────────────────────────────────────────────────────────────────────

    def new_id(self, kind: str) -> str:
        return f"{kind}_{self._number}_{next(self._ids)}"

    def add_item(self, item: dict[str, Any], *, audio_ms: int = 0) -> str | None:
        return self._items.add(item, audio_ms=audio_ms)

    def audio_sent(self, item_id: str, ms: int) -> None:
        self._has_spoken = True
        self._items.audio_sent(item_id, ms)

    def call_made(self, call_id: str) -> None:
        self._items.call_made(call_id)

    async def _create_item(self, event: dict[str, Any]) -> None:
        item = event.get("item")
        if not isinstance(item, dict):
            raise OpenAiRefusalError("Missing required parameter: 'item'.", "missing_required_parameter", "item")
        item = {"id": self.new_id("item"), **item, "object": "realtime.item", "status": "completed"}
        self._items.check_new(item)
        if item["type"] == "message":
            self._write(item["role"], text_of(item))
        elif item["type"] == "function_call_output":
            self._result(item["call_id"], item["output"])
        previous = self.add_item(item)
        await self.emit("conversation.item.added", previous_item_id=previous, item=item)
        await self.emit("conversation.item.done", previous_item_id=previous, item=item)

    def _write(self, role: str, text: str) -> None:
        if role == "user":
            self._unread.append(text)
        elif role == "system":
            self._told.append(text)
        else:
            self._unread, self._told, self._has_spoken = [], [], True

    def _result(self, call_id: str, output: str) -> None:
        deeds = self.actor.take_result(call_id, output)
        if deeds is None:
            self._told.append(output)
        elif deeds:
            self._ready = list(deeds)
            if self._reply is not None:
                self._reply.release()

    def waits_for_caller(self, call_ids: Sequence[str]) -> bool:
        return self._interrupts and self.actor.may_cancel(call_ids)

    async def _delete_item(self, event: dict[str, Any]) -> None:
        item_id = self._items.delete(event)
        await self.emit("conversation.item.deleted", item_id=item_id)
        await self._interrupted(item_id)

    async def _truncate_item(self, event: dict[str, Any]) -> None:
        item_id, end_ms = self._items.truncate(event)
        await self.emit("conversation.item.truncated", item_id=item_id, content_index=0, audio_end_ms=end_ms)
        await self._interrupted(item_id)

    async def _interrupted(self, item_id: str) -> None:
        fault = await self.misbehave("interrupted", 0)
        if fault is not None and fault.do == "late_audio":
            place = {"response_id": "resp_late", "item_id": item_id, "output_index": 0, "content_index": 0}
            await self.emit("response.output_audio.delta", **place, delta="/" * 216)

    # ── responses ────────────────────────────────────────────────────────────────────────────────────────

    async def _create_response(self, event: dict[str, Any]) -> None:
        if self._transcription:
            raise OpenAiRefusalError("Transcription sessions have no responses.", "invalid_value", "type")
        if self._reply is not None:
            await self._refuse_second(event.get("event_id"))
            return
        params = event.get("response") or {}
        unknown = set(params) - RESPONSE_PARAMETERS
        if unknown:
            name = min(unknown)
            raise OpenAiRefusalError(f"Unknown parameter: 'response.{name}'.", "unknown_parameter", f"response.{name}")
        exact = EXACTLY.search(str(params.get("instructions", "")))
        if self.actor.waits_for_tools and exact is None:  # words meanwhile ("let me look") answer no call
            self._journal.problems.append("response.create before every function call had its output")
        told = [Answer(text=exact.group(1), turn=-1 if self._has_spoken else 0)] if exact else self._taken()
        await self._respond(told, params.get("metadata"))

    async def _refuse_second(self, event_id: str | None = None) -> None:
        assert self._reply is not None
        problem = f"Conversation already has an active response in progress: {self._reply.response_id}."
        refusal = OpenAiRefusalError(problem, "conversation_already_has_active_response")
        await self.emit("error", error=refusal.described(event_id))

    def _taken(self) -> Sequence[Deed]:
        """What the model makes of everything it has not answered yet."""
        ready, unread, told = self._ready, self._unread, self._told
        self._ready, self._unread, self._told = [], [], []
        if ready:
            return ready
        if unread or (told and self._has_spoken):
            return self.actor.read(" ".join(unread or told))
        if not self._has_spoken:
            return self.actor.greet("")
        return [Answer(text=self.script.otherwise.says, turn=-1)]

    async def _respond(self, deeds: Sequence[Deed], metadata: dict[str, Any] | None = None) -> None:
        heard_ms = (self._heard_bytes - self._answered_bytes) // self._input.bytes_per_ms
        self._answered_bytes = self._heard_bytes
        output = FORMATS[self.session["audio"]["output"]["format"]["type"]]
        self._reply = Reply(self, deeds, output, input_tokens=heard_ms // INPUT_TOKEN_MS, metadata=metadata)
        await self._reply.begin()
        task = asyncio.create_task(self._play(self._reply))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _play(self, reply: Reply) -> None:
        await reply.run()
        self._reply = None
        if reply.failed:
            self._ready = [*reply.deeds, *self._ready]
        await reply.finish()

    async def _cancel_response(self, event: dict[str, Any]) -> None:
        reply = self._reply
        if reply is None or event.get("response_id") not in (None, reply.response_id):
            problem = "Cancellation failed: no active response found"
            refusal = OpenAiRefusalError(problem, "response_cancel_not_active")
            await self.emit("error", error=refusal.described(event.get("event_id")))
            return
        reply.cancel("client_cancelled")


RESPONSE_PARAMETERS = {
    "instructions", "output_modalities", "audio", "tools", "tool_choice", "max_output_tokens", "conversation", "input",
    "metadata", "reasoning", "parallel_tool_calls", "prompt",
}  # fmt: skip
