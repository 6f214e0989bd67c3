"""A codec of the simplest protocol there is, and a server for it: what the pump does is seen without a vendor.

The server's words: ``ready``, ``say ITEM``, ``done ITEM``, ``fault VERDICT``, ``expiring S``, ``started``,
``finished``, ``tool ID``, ``speech``, ``break`` (the codec raises). Ours: ``hello HISTORY``, ``audio BYTES``,
``command NAME``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import get_args

from aiohttp import web

from offhook.bridge.codec import (
    AudioDone,
    BridgeEvent,
    BridgeFault,
    BridgeInput,
    BridgeProfile,
    Expiring,
    Ready,
    ResponseDone,
    ResponseStarted,
    SpeechStarted,
    ToolCall,
    Utterance,
)
from offhook.bridge.wire import CodecOutput, HttpAnswer, HttpRequest, WebsocketTarget
from offhook.model.audio import PCMU_8K
from offhook.model.errors import BridgeError, Verdict

PROFILE = BridgeProfile(provider="line", input_formats=(PCMU_8K,), output_formats=(PCMU_8K,))


class LineCodec:
    """``hangs_up_on``: the close code that means that the agent hung up."""

    audio_is_binary = True

    def __init__(self, url: str, *, history: Sequence[Utterance] = (), prepare: bool = False) -> None:
        self._url = url
        self._history = tuple(history)
        self._prepare = prepare

    @property
    def profile(self) -> BridgeProfile:
        return PROFILE

    def preparation(self) -> HttpRequest | None:
        return (
            HttpRequest(method="POST", url=self._url.replace("ws", "http", 1) + "/prepare") if self._prepare else None
        )

    def prepared(self, answer: HttpAnswer) -> None:
        if answer.status != 200:
            raise BridgeError("line", answer.body.decode(), "fatal")

    def target(self) -> WebsocketTarget:
        return WebsocketTarget(url=self._url, headers=(("X-Key", "k"),))

    def opened(self, out: CodecOutput) -> None:
        said = ",".join(utterance.text for utterance in self._history)
        out.send(f"hello {said}".encode())

    def audio(self, frame: bytes, out: CodecOutput) -> bytes | None:
        if frame == b"break":
            raise ValueError(frame)
        return None if frame == b"skip" else b"audio " + frame

    def command(self, command: BridgeInput, out: CodecOutput) -> None:
        out.send(f"command {type(command).__name__}".encode())

    def receive(self, message: bytes, out: CodecOutput, *, is_text: bool) -> None:
        word, _, rest = message.decode().partition(" ")
        match word:
            case "say":
                out.audio_out(rest, b"sound")
            case "fault":
                verdict = next(known for known in get_args(Verdict) if known == rest)
                out.bridge_event(BridgeFault(problem="as asked", verdict=verdict))
            case "break":
                raise ValueError(message)
            case "expiring":
                out.bridge_event(Expiring(seconds=float(rest)))
            case "tool":
                out.bridge_event(ToolCall(tool_call_id=rest, name="weather", arguments="{}"))
            case "done":
                out.bridge_event(AudioDone(item=rest))
            case _:
                plain: dict[str, BridgeEvent] = {
                    "ready": Ready(),
                    "started": ResponseStarted(),
                    "finished": ResponseDone(),
                }
                out.bridge_event(plain.get(word, SpeechStarted()))

    def refused(self, status: int, body: bytes) -> BridgeFault:
        verdict: Verdict = "retry" if status >= 500 else "fatal"
        return BridgeFault(problem=f"{status} {body.decode()}", verdict=verdict)

    def closed(self, code: int, reason: str) -> BridgeFault | None:
        if code == 1000:
            return None
        if code == 4999:
            raise ValueError(reason)
        return BridgeFault(problem=f"{code} {reason}", verdict="retry" if code == 1006 else "fall_over")

    def renewed(self, history: Sequence[Utterance]) -> LineCodec:
        return LineCodec(self._url, history=history, prepare=self._prepare)


@dataclass
class Line:
    """The server. Each connection is served by the next of ``scenes``, the last one again and again."""

    scenes: list[Callable[[web.WebSocketResponse], Awaitable[None]]]
    url: str = ""
    refuse: list[tuple[int, str]] = field(default_factory=list)
    prepared: tuple[int, str] = (200, "")
    heard: list[str] = field(default_factory=list)
    """What clients said, ``N:`` and the words, ``N: end`` when the connection was over."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    connections: int = 0
    keys: list[str] = field(default_factory=list)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        number, self.connections = self.connections, self.connections + 1
        self.keys.append(request.headers.get("X-Key", ""))
        if self.refuse:
            status, body = self.refuse.pop(0)
            return web.Response(status=status, text=body)
        websocket = web.WebSocketResponse(max_msg_size=0, compress=False)
        await websocket.prepare(request)
        scene = self.scenes[min(number, len(self.scenes) - 1)]
        playing = asyncio.create_task(self._play(scene, websocket))
        async for message in websocket:
            data = message.data
            self.note(f"{number}: {data if isinstance(data, str) else data.decode()}")
        playing.cancel()
        await asyncio.gather(playing, return_exceptions=True)
        self.note(f"{number}: end")
        return websocket

    async def _play(
        self, scene: Callable[[web.WebSocketResponse], Awaitable[None]], websocket: web.WebSocketResponse
    ) -> None:
        with suppress(ConnectionError):
            await scene(websocket)

    def note(self, words: str) -> None:
        self.heard.append(words)
        self.changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


def tells(*lines: str, close: int = 0) -> Callable[[web.WebSocketResponse], Awaitable[None]]:
    """A server that says this at once, then closes, or stays."""

    async def scene(websocket: web.WebSocketResponse) -> None:
        for line in lines:
            await websocket.send_str(line)
        if close:
            await websocket.close(code=close, message=b"because")

    return scene


@asynccontextmanager
async def line(*scenes: Callable[[web.WebSocketResponse], Awaitable[None]]) -> AsyncIterator[Line]:
    server = Line(scenes=list(scenes))

    async def prepare(request: web.Request) -> web.Response:
        return web.Response(status=server.prepared[0], text=server.prepared[1])

    app = web.Application()
    app.add_routes([web.get("/", server.serve), web.post("/prepare", prepare)])
    runner = web.AppRunner(app, shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"ws://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()
