"""A vendor made up for tests: codecs that speak in plain words, and a server that does what a test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import WSMsgType, web

from offhook.bridge.cascade.ports import (
    Aligned,
    ContextDone,
    ContextFailed,
    EndOfTurn,
    SpeechBegan,
    SttOutput,
    TtsOutput,
)
from offhook.bridge.codec import BridgeFault
from offhook.bridge.wire import WebsocketTarget
from offhook.model.errors import Verdict

RETRY: Verdict = "retry"


class _ToyCodec:
    def __init__(self, url: str) -> None:
        self._url = url

    def target(self) -> WebsocketTarget:
        return WebsocketTarget(url=self._url)

    def refused(self, status: int, body: bytes) -> BridgeFault:
        return BridgeFault(problem=f"HTTP {status}", verdict="fall_over" if status == 401 else RETRY)

    def goodbye(self) -> bytes | None:
        return b"goodbye"


class ToyStt(_ToyCodec):
    """Server: ``ready``, ``began``, ``end TEXT``, ``fail``. Client: ``hello``, then its audio."""

    audio_is_binary = True

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.takes_audio = False

    def opened(self, out: SttOutput) -> None:
        out.send(b"hello")

    def audio(self, frame: bytes, out: SttOutput) -> bytes | None:
        return frame

    def receive(self, message: bytes, out: SttOutput, *, is_text: bool) -> None:
        word, _, text = message.decode().partition(" ")
        match word:
            case "ready":
                self.takes_audio = True
            case "began":
                out.stt_event(SpeechBegan())
            case "end":
                out.stt_event(EndOfTurn(text=text))
            case "fail":
                out.stt_event(BridgeFault(problem="failed", verdict=RETRY))
            case "raise":
                raise ValueError("a bug")
            case _:
                pass

    def closed(self, code: int, reason: str) -> BridgeFault:
        return BridgeFault(problem=f"closed {code}", verdict=RETRY)


class ToyTts(_ToyCodec):
    """Client: ``begin C``, ``say C TEXT``, ``finish C``, ``cancel C``.

    Server: ``audio C TEXT``, ``done C``, ``failed C``; the text is its own sound.
    """

    def opened(self, out: TtsOutput) -> None:
        pass

    def begin(self, context: str, out: TtsOutput) -> None:
        out.send(f"begin {context}".encode())

    def say(self, context: str, text: str, out: TtsOutput) -> None:
        out.send(f"say {context} {text}".encode())

    def finish(self, context: str, out: TtsOutput) -> None:
        out.send(f"finish {context}".encode())

    def cancel(self, context: str, out: TtsOutput) -> None:
        out.send(f"cancel {context}".encode())

    def receive(self, message: bytes, out: TtsOutput, *, is_text: bool) -> None:
        word, context, text = (*message.decode().split(" ", 2), "", "")[:3]
        match word:
            case "audio":
                out.tts_event(Aligned(context=context, text=text, at_ms=0))
                out.tts_audio(context, text.encode())
            case "done":
                out.tts_event(ContextDone(context=context))
            case "failed":
                fault = BridgeFault(problem="busy", verdict=RETRY)
                out.tts_event(ContextFailed(context=context, fault=fault))
            case _:
                pass

    def closed(self, code: int, reason: str) -> BridgeFault | None:
        return None if code == 1000 else BridgeFault(problem=f"closed {code}", verdict=RETRY)


class Line:
    """One websocket at the server's side."""

    def __init__(self, websocket: web.WebSocketResponse, request: web.Request) -> None:
        self.texts: list[str] = []
        self.audio = b""
        self._websocket = websocket
        self._request = request

    async def says(self, text: str) -> None:
        await self._websocket.send_str(text)

    async def closes(self, code: int = 1000) -> None:
        await self._websocket.close(code=code)

    def breaks(self) -> None:
        assert self._request.transport is not None
        self._request.transport.abort()

    async def run(self, changed: Callable[[], None]) -> None:
        async for message in self._websocket:
            if message.type is WSMsgType.BINARY:
                self.audio += message.data
            else:
                self.texts.append(message.data)
            changed()


class ToyServer:
    """``lines``: of all clients; ``refuses``: HTTP statuses for the next handshakes."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.refuses: list[int] = []
        self.url = ""
        self._changed = asyncio.Event()
        self.greets = "ready"

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if self.refuses:
            return web.Response(status=self.refuses.pop(0))
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        line = Line(websocket, request)
        self.lines.append(line)
        self._changed.set()
        if self.greets:
            await line.says(self.greets)
        await line.run(self._changed.set)
        return websocket

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


@asynccontextmanager
async def toy_server() -> AsyncIterator[ToyServer]:
    server = ToyServer()
    app = web.Application()
    app.add_routes([web.get("/", server.handle)])
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"ws://127.0.0.1:{runner.addresses[0][1]}/"
    try:
        yield server
    finally:
        await runner.cleanup()
