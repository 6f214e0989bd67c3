"""Servers of one's own that speak as OpenAI does over HTTP: transcriptions, chat completions and speech, in one.

As vLLM, Ollama, speaches and Kokoro are found to answer: ``/v1/audio/transcriptions`` (JSON and a stream),
``/v1/chat/completions`` (a stream with thoughts, with calls of tools in splinters, with usage only when it is asked
for), ``/v1/audio/speech`` (raw samples of an undeclared rate, in odd pieces; MP3 where no format is named),
``/v1/models``. HTTP has no session: which turn of the script it is shows in the messages, and for transcriptions by
the key of the client: each key is one conversation.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import msgspec
from aiohttp import web

from offhook.audio.wav import WavError, read_wav, write_wav
from offhook.model.audio import AudioFormat, Encoding, SampleRate
from offhook.simulators.actor import Actor
from offhook.simulators.chat_script import ChatRequestError, ChatTurn, chat_turn, turn_that_says
from offhook.simulators.mishaps import ODD_BYTES, stall
from offhook.simulators.script import Fault, Script
from offhook.simulators.stage import Journal, drop
from offhook.simulators.voice import spoken

MODELS = ("sim-chat", "sim-whisper", "sim-voice")

MAX_INPUT_CHARS = 4096

SPLINTER_CHARS = 7

MP3_HEAD = bytes.fromhex("fffb90c4") + bytes(413)
"""One silent frame of MPEG-1 layer III: what a client gets that names no format."""


@dataclass
class _Listener:
    """What one client uploaded last, and how many of its turns were understood."""

    turns: int = 0
    last: bytes = b""


class SelfHostedSimulator:
    """Implements ``stage.Simulator``. ``rate_hz``: of its voice. ``thinks``: shows its thoughts, both ways in use."""

    def __init__(self, script: Script, *, rate_hz: int = 24000, thinks: bool = True) -> None:
        self.script = script
        self.journal = Journal()
        self._format = AudioFormat(encoding=Encoding.L16, sample_rate_hz=cast(SampleRate, rate_hz))
        self._thinks = thinks
        self.spent: Counter[int] = Counter()
        self._broken = False
        """The last request was cut off: with the next one a client comes anew."""
        self._listeners: dict[str, _Listener] = {}

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        return [
            web.get("/v1/models", self._models),
            web.post("/v1/audio/transcriptions", self._transcribe),
            web.post("/v1/chat/completions", self._chat),
            web.post("/v1/audio/speech", self._speak),
        ]

    # ── models ───────────────────────────────────────────────────────────────────────────────────────────

    async def _models(self, request: web.Request) -> web.StreamResponse:
        refused = await self._admit(request)
        if refused is None:
            refused = await self._misbehave(request, self._fault("setup"))
        if refused is not None:
            return refused
        models = [{"id": name, "object": "model", "created": 0, "owned_by": "offhook"} for name in MODELS]
        return web.json_response({"object": "list", "data": models})

    # ── transcriptions ───────────────────────────────────────────────────────────────────────────────────

    async def _transcribe(self, request: web.Request) -> web.StreamResponse:
        refused = await self._admit(request)
        if refused is not None:
            return refused
        form = await request.post()
        upload = form.get("file")
        if not isinstance(upload, web.FileField) or not form.get("model"):
            return self._refuse("file and model are needed")
        try:
            audio_format, audio = await asyncio.to_thread(read_wav, upload.file.read())
        except WavError as error:
            return self._refuse(f"the file is no audio: {error}")
        self.journal.note(self.journal.connections, request.path_qs, f"{audio_format} {len(audio)}")
        self.journal.hear(self.journal.connections, audio)
        text = self._understood(request.headers.get("Authorization", ""), audio)
        if form.get("stream") == "true":
            return await self._stream_text(request, text)
        return web.json_response({"text": text})

    def _understood(self, client: str, audio: bytes) -> str:
        """The same turn once more where the caller only went on: the longer audio begins with all of the shorter."""
        listener = self._listeners.setdefault(client, _Listener())
        goes_on = listener.last and len(audio) > len(listener.last) and audio.startswith(listener.last)
        listener.turns += 0 if goes_on else 1
        listener.last = audio
        turns = self.script.turns
        turn = turns[listener.turns - 1] if listener.turns <= len(turns) else self.script.otherwise
        return turn.hears

    async def _stream_text(self, request: web.Request, text: str) -> web.StreamResponse:
        response = await _begun(request)
        for word in text.split(" "):
            await _event(response, {"type": "transcript.text.delta", "delta": f"{word} "})
        usage = {"type": "duration", "seconds": 1}
        await _event(response, {"type": "transcript.text.done", "text": text, "usage": usage})
        await response.write(b"data: [DONE]\n\n")
        return response

    # ── chat completions ─────────────────────────────────────────────────────────────────────────────────

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        refused = await self._admit(request)
        if refused is not None:
            return refused
        body = await request.text()
        self.journal.note(self.journal.connections, request.path_qs, body)
        try:
            asked = msgspec.json.decode(body, type=dict[str, Any])
            turn = chat_turn(self.script, asked)
        except (msgspec.MsgspecError, ChatRequestError) as error:
            return self._refuse(str(error))
        await asyncio.sleep(turn.pause_ms / 1000)
        fault = self._fault("interrupted") if turn.after_cut else None
        fault = fault or (self._fault("tool", turn.number) if turn.after_tools else None)
        fault = fault or self._fault("turn", turn.number)
        if fault is not None and fault.do in ("refuse", "error"):
            code = fault.code if fault.do == "refuse" else 500
            return web.json_response(_error(fault.text or "server_error"), status=code)
        if not asked.get("stream"):
            return web.json_response(_whole(asked, turn))
        return await self._stream_chat(request, asked, turn, fault)

    async def _stream_chat(
        self, request: web.Request, asked: dict[str, Any], turn: ChatTurn, fault: Fault | None
    ) -> web.StreamResponse:
        response = await _begun(request)
        if await self._break(request, response, fault):
            return response
        async for delta, finish in self._deltas(turn):
            await _event(response, _chunk(asked, delta, finish))
        if (asked.get("stream_options") or {}).get("include_usage"):
            await _event(response, {**_chunk(asked, {}, None), "choices": [], "usage": _usage(asked, turn)})
        await response.write(b"data: [DONE]\n\n")
        return response

    async def _deltas(self, turn: ChatTurn) -> AsyncIterator[tuple[dict[str, Any], str | None]]:
        yield {"role": "assistant", "content": ""}, None
        if self._thinks:
            yield {"reasoning_content": "The caller wants an answer."}, None
            yield {"content": "<thi"}, None
            yield {"content": "nk>I had better be brief.</think>\n\n"}, None
        for at in range(0, len(turn.text), SPLINTER_CHARS):
            yield {"content": turn.text[at : at + SPLINTER_CHARS]}, None
        for index, call in enumerate(turn.calls):
            head = {"index": index, "id": call.tool_call_id, "type": "function"}
            yield {"tool_calls": [{**head, "function": {"name": call.name, "arguments": ""}}]}, None
            for at in range(0, len(call.arguments), SPLINTER_CHARS):
                piece = call.arguments[at : at + SPLINTER_CHARS]
                yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}, None
        yield {}, "tool_calls" if turn.calls else "stop"

    # ── speech ───────────────────────────────────────────────────────────────────────────────────────────

    async def _speak(self, request: web.Request) -> web.StreamResponse:
        refused = await self._admit(request)
        if refused is not None:
            return refused
        body = await request.text()
        self.journal.note(self.journal.connections, request.path_qs, body)
        try:
            asked = msgspec.json.decode(body, type=dict[str, Any])
        except msgspec.MsgspecError as error:
            return self._refuse(str(error))
        text = asked.get("input")
        if not isinstance(text, str) or not text or not asked.get("model") or not asked.get("voice"):
            return self._refuse("input, model and voice are needed")
        if len(text) > MAX_INPUT_CHARS:
            return self._refuse(f"input is longer than {MAX_INPUT_CHARS} characters")
        kind = asked.get("response_format", "mp3")
        if kind == "mp3":
            self.journal.problems.append("no response_format was named: MP3 is sent")
            return web.Response(body=MP3_HEAD, content_type="audio/mpeg")
        if kind not in ("pcm", "wav"):
            return self._refuse(f"response_format {kind!r} is not simulated")
        return await self._stream_speech(request, text.strip(), kind)

    async def _stream_speech(self, request: web.Request, text: str, kind: str) -> web.StreamResponse:
        number = turn_that_says(self.script, text)
        fault = self._fault("greeting") if number == 0 and kind == "pcm" else None
        halfway = self._fault("audio", number) if number else None
        if fault is not None and fault.do in ("refuse", "error"):
            return web.json_response(_error(fault.text or "server_error"), status=500)
        response = web.StreamResponse(headers={"Content-Type": "audio/wav" if kind == "wav" else "audio/pcm"})
        await response.prepare(request)
        if await self._break(request, response, fault):
            return response
        audio = spoken(text, self._format)
        if kind == "wav":
            audio = write_wav(self._format, audio)
        burst = halfway is not None and halfway.do == "burst"
        size = len(audio) if burst else ODD_BYTES
        for at in range(0, len(audio), size):
            if at <= len(audio) // 2 < at + size and await self._break(request, response, halfway):
                return response
            await response.write(audio[at : at + size])
            if self.script.pace:
                await asyncio.sleep(size / self._format.bytes_per_ms / 1000 / self.script.pace)
        return response

    # ── faults ───────────────────────────────────────────────────────────────────────────────────────────

    def _fault(self, on: Any, turn: int = 0) -> Fault | None:
        return Actor(self.script, self.spent).fault(on, turn)

    async def _admit(self, request: web.Request) -> web.StreamResponse | None:
        """A connection, to the script, is a client that asks for the models, or comes back after it was cut off."""
        self.journal.connections += 1
        anew, self._broken = request.path == "/v1/models" or self._broken, False
        return await self._misbehave(request, self._fault("connect")) if anew else None

    async def _misbehave(self, request: web.Request, fault: Fault | None) -> web.StreamResponse | None:
        """Before the answer begins; None: go on."""
        match fault.do if fault is not None else None:
            case "refuse" | "error" if fault is not None:
                status = fault.code if fault.do == "refuse" else 500
                return web.json_response(_error(fault.text or "server_error"), status=status)
            case "drop" | "close":
                await self._drop(request)
                return web.Response()
            case "garbage":
                return web.Response(text='{"object": "li', content_type="application/json")
            case "stall" if fault is not None:
                await stall(fault)
            case _:
                pass
        return None

    async def _break(self, request: web.Request, response: web.StreamResponse, fault: Fault | None) -> bool:
        """In the middle of an answer. True: it is over."""
        match fault.do if fault is not None else None:
            case "drop" | "close":
                await self._drop(request)
                return True
            case "error":
                await _event(response, _error("server_error"))
                return True
            case "garbage":
                await response.write(b'data: {"choices": [{"del\n\n')
            case "unknown":
                await _event(response, {"object": "weather.report", "weather": {"sun": True}})
            case "stall" if fault is not None:
                await stall(fault)
            case _:
                pass
        return False

    async def _drop(self, request: web.Request) -> None:
        self._broken = True
        await drop(request)

    def _refuse(self, problem: str) -> web.Response:
        self.journal.problems.append(problem)
        return web.json_response(_error(problem), status=400)


# ── the wire ─────────────────────────────────────────────────────────────────────────────────────────────


async def _begun(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    await response.prepare(request)
    return response


async def _event(response: web.StreamResponse, data: dict[str, Any]) -> None:
    await response.write(b"data: " + msgspec.json.encode(data) + b"\n\n")


def _chunk(asked: dict[str, Any], delta: dict[str, Any], finish: str | None) -> dict[str, Any]:
    return {
        "id": "chatcmpl-sim",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": asked.get("model"),
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}],
    }


def _whole(asked: dict[str, Any], turn: ChatTurn) -> dict[str, Any]:
    calls = [
        {"id": call.tool_call_id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in turn.calls
    ]
    message = {"role": "assistant", "content": turn.text or None, **({"tool_calls": calls} if calls else {})}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if calls else "stop", "logprobs": None}
    return {
        "id": "chatcmpl-sim",
        "object": "chat.completion",
        "created": 0,
        "model": asked.get("model"),
        "choices": [choice],
        "usage": _usage(asked, turn),
    }


def _usage(asked: dict[str, Any], turn: ChatTurn) -> dict[str, int]:
    prompt = sum(len(str(message.get("content") or "").split()) for message in asked["messages"])
    said = len(turn.text.split()) + len(turn.calls)
    return {"prompt_tokens": prompt, "completion_tokens": said, "total_tokens": prompt + said}


def _error(problem: str) -> dict[str, Any]:
    return {"error": {"message": problem, "type": "invalid_request_error", "param": None, "code": None}}
