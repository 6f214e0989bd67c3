"""One response of OpenAI Realtime, in the order of events the real service keeps, until it is done or cancelled."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal, Protocol

from offhook.model.audio import AudioFormat
from offhook.simulators.actor import Answer, CallTool, Deed
from offhook.simulators.mishaps import pieces_of
from offhook.simulators.script import Fault, FaultMoment
from offhook.simulators.voice import length_ms, spoken

OUTPUT_TOKEN_MS, INPUT_TOKEN_MS = 50, 100
"""What the service counts as one token of audio."""

Stop = Literal["turn_detected", "client_cancelled"]

FATAL_CODES = (
    "insufficient_quota",
    "credit_balance_exhausted",
    "billing_hard_limit_reached",
    "invalid_api_key",
    "account_deactivated",
    "model_not_found",
    "session_expired",
)
"""Told by an ``error`` event; anything else fails the response."""


class ReplyTo(Protocol):
    """The conversation a reply is part of."""

    chunk_ms: int
    pace: float

    async def emit(self, kind: str, **fields: Any) -> None: ...

    async def misbehave(self, on: FaultMoment, turn: int) -> Fault | None: ...

    def new_id(self, kind: str) -> str: ...

    def add_item(self, item: dict[str, Any], *, audio_ms: int = 0) -> str | None:
        """Returns the id of the item before it."""
        ...

    def audio_sent(self, item_id: str, ms: int) -> None: ...

    def call_made(self, call_id: str) -> None: ...

    def waits_for_caller(self, call_ids: Sequence[str]) -> bool:
        """One of these calls is taken back when the caller speaks: its response is cancelled then."""
        ...


class Reply:
    """``deeds``: what it says and calls. ``output_format``: as the session has it when the response begins."""

    def __init__(
        self,
        conversation: ReplyTo,
        deeds: Sequence[Deed],
        output_format: AudioFormat,
        *,
        input_tokens: int,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self.response_id = conversation.new_id("resp")
        self._to = conversation
        self.deeds = deeds
        self._format = output_format
        self._input_tokens = input_tokens
        self._metadata = metadata
        self._output: list[dict[str, Any]] = []
        self._said_ms = self._said_tokens = 0
        self._stop: Stop | None = None
        self._failed: str | None = None
        self._released = asyncio.Event()

    def cancel(self, reason: Stop) -> None:
        self._stop = self._stop or reason
        self._released.set()

    def release(self) -> None:
        """The results it waited for have come."""
        self._released.set()

    async def begin(self) -> None:
        await self._to.emit("response.created", response=self._described("in_progress"))

    async def run(self) -> None:
        for deed in self.deeds:
            if isinstance(deed, Answer) and not self._over:
                await self._answer(deed)
        calls = [deed for deed in self.deeds if isinstance(deed, CallTool)]
        for call in calls:
            if not self._over:
                await self._call(call)
        if calls and not self._over:
            await self._to.misbehave("tool", 0)
            if self._to.waits_for_caller([call.tool_call_id for call in calls]):
                await self._released.wait()

    async def finish(self) -> None:
        """Its last words; it is no longer active when they are sent."""
        await self._to.emit("response.done", response=self._described(self._status, usage=self._usage()))
        limits = [{"name": "tokens", "limit": 200_000, "remaining": 199_000, "reset_seconds": 0.3}]
        await self._to.emit("rate_limits.updated", rate_limits=limits)

    @property
    def failed(self) -> bool:
        """By a fault of the script: what it was to say is not said."""
        return self._failed is not None

    @property
    def _over(self) -> bool:
        return self._stop is not None or self._failed is not None

    @property
    def _status(self) -> str:
        return "cancelled" if self._stop else "failed" if self._failed else "completed"

    # ── what it says ─────────────────────────────────────────────────────────────────────────────────────

    async def _answer(self, answer: Answer) -> None:
        await self._wait(answer.pause_ms / 1000)
        fault = await self._misbehave("greeting" if answer.turn == 0 else "turn", answer.turn)
        if self._over or not answer.text:
            return
        item = {
            "id": self._to.new_id("item"), "object": "realtime.item", "type": "message", "status": "in_progress",
            "role": "assistant", "content": [],
        }  # fmt: skip
        place = await self._add(item)
        place |= {"content_index": 0}
        part = {"type": "audio", "transcript": ""}
        await self._to.emit("response.content_part.added", **place, part=part)
        said = await self._speak(answer, place, fault)
        part = {"type": "audio", "transcript": said}
        await self._to.emit("response.output_audio.done", **place)
        await self._to.emit("response.output_audio_transcript.done", **place, transcript=said)
        await self._to.emit("response.content_part.done", **place, part=part)
        content = [{"type": "output_audio", "transcript": said}]
        await self._done(place, {**item, "content": content})
        if answer.ends_call and not self._over:
            # The service cannot hang up: the model calls the tool it was given for that.
            await self._call(CallTool(tool_call_id=self._to.new_id("call"), name="end_call", arguments="{}"))

    async def _speak(self, answer: Answer, place: dict[str, Any], fault: Fault | None) -> str:
        """Words and sound take turns, as they come from the model. Returns the words that were sent."""
        chunk_bytes = self._to.chunk_ms * self._format.bytes_per_ms
        mishap = fault if fault is not None and fault.do in {"burst", "trickle"} else None
        chunks = _chunks(answer.text, self._format, chunk_bytes) if mishap is None else None
        if chunks is None:
            pieces = pieces_of(spoken(answer.text, self._format), mishap, chunk_bytes)
            chunks = tuple((len(piece), b64encode(piece).decode()) for piece in pieces)
        words = _words(answer.text)
        said = ""
        self._said_tokens += len(words)
        for index, (size, audio) in enumerate(chunks):
            if index == len(chunks) // 2 and answer.turn:
                await self._misbehave("audio", answer.turn)
            if self._over:
                break
            until = len(words) * (index + 1) // len(chunks)
            delta = "".join(words[len(words) * index // len(chunks) : until])
            if delta:
                said += delta
                await self._to.emit("response.output_audio_transcript.delta", **place, delta=delta)
            ms = size // self._format.bytes_per_ms
            self._said_ms += ms
            self._to.audio_sent(place["item_id"], ms)
            await self._to.emit("response.output_audio.delta", **place, delta=audio)
            await self._wait(ms / 1000 / self._to.pace if self._to.pace else 0)
        return said

    async def _call(self, call: CallTool) -> None:
        item = {
            "id": self._to.new_id("item"), "object": "realtime.item", "type": "function_call", "status": "in_progress",
            "name": call.name, "call_id": call.tool_call_id, "arguments": "",
        }  # fmt: skip
        place = await self._add(item)
        named = {**place, "call_id": call.tool_call_id}
        half = len(call.arguments) // 2
        for delta in (call.arguments[:half], call.arguments[half:]):
            await self._to.emit("response.function_call_arguments.delta", **named, delta=delta)
        await self._to.emit("response.function_call_arguments.done", **named, name=call.name, arguments=call.arguments)
        self._to.call_made(call.tool_call_id)
        self._said_tokens += 10
        await self._done(place, {**item, "arguments": call.arguments})

    async def _add(self, item: dict[str, Any]) -> dict[str, Any]:
        """Returns what tells its events from others'."""
        place = {"response_id": self.response_id, "output_index": len(self._output)}
        self._output.append(item)
        previous = self._to.add_item(item)
        await self._to.emit("response.output_item.added", **place, item=item)
        await self._to.emit("conversation.item.added", previous_item_id=previous, item=item)
        return {**place, "item_id": item["id"]}

    async def _done(self, place: dict[str, Any], item: dict[str, Any]) -> None:
        item["status"] = "incomplete" if self._over else "completed"
        self._output[place["output_index"]] = item
        where = {"response_id": place["response_id"], "output_index": place["output_index"]}
        await self._to.emit("response.output_item.done", **where, item=item)
        await self._to.emit("conversation.item.done", previous_item_id=None, item=item)

    async def _wait(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        try:
            async with asyncio.timeout(seconds):
                await self._released.wait()
        except TimeoutError:
            pass

    async def _misbehave(self, on: FaultMoment, turn: int) -> Fault | None:
        fault = await self._to.misbehave(on, turn)
        if fault is not None and fault.do == "error" and fault.text not in FATAL_CODES:
            self._failed = fault.text or "server_error"
        return fault

    # ── what it is ───────────────────────────────────────────────────────────────────────────────────────

    def _described(self, status: str, usage: dict[str, Any] | None = None) -> dict[str, Any]:
        details: dict[str, Any] | None = None
        if status == "cancelled":
            details = {"type": "cancelled", "reason": self._stop}
        elif status == "failed":
            kind = self._failed if self._failed == "server_error" else "invalid_request_error"
            details = {"type": "failed", "error": {"type": kind, "code": self._failed, "message": "It was scripted."}}
        return {
            "object": "realtime.response", "id": self.response_id, "status": status, "status_details": details,
            "output": list(self._output), "conversation_id": "conv_1", "output_modalities": ["audio"],
            "max_output_tokens": "inf", "usage": usage, "metadata": self._metadata,
        }  # fmt: skip

    def _usage(self) -> dict[str, Any]:
        audio = self._said_ms // OUTPUT_TOKEN_MS
        texts = self._said_tokens
        return {
            "total_tokens": self._input_tokens + audio + texts,
            "input_tokens": self._input_tokens,
            "output_tokens": audio + texts,
            "input_token_details": {
                "text_tokens": 0, "audio_tokens": self._input_tokens, "image_tokens": 0, "cached_tokens": 0,
                "cached_tokens_details": {"text_tokens": 0, "audio_tokens": 0, "image_tokens": 0},
            },
            "output_token_details": {"text_tokens": texts, "audio_tokens": audio},
        }  # fmt: skip


def _words(text: str) -> list[str]:
    """With the space before each but the first: joined they are the text."""
    first, *rest = text.split(" ")
    return [first, *(f" {word}" for word in rest)]


@lru_cache(maxsize=256)
def _chunks(text: str, audio_format: AudioFormat, chunk_bytes: int) -> tuple[tuple[int, str], ...]:
    """Bytes and base64 of each piece; made once, however many conversations say the same."""
    audio = spoken(text, audio_format)
    assert len(audio) == length_ms(text) * audio_format.bytes_per_ms
    pieces = (audio[at : at + chunk_bytes] for at in range(0, len(audio), chunk_bytes))
    return tuple((len(piece), b64encode(piece).decode()) for piece in pieces)
