"""Makes a ``Recogniser`` of a vendor's codec.

A websocket that breaks is dialled once more, and hears again what the caller said of an unfinished turn. A second
failure within ``HEALTHY_S`` falls over.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from offhook.audio.convert import Converter, converter
from offhook.bridge.cascade.ports import EndOfTurn, SpeechBegan, SttCodec, SttEvent
from offhook.bridge.cascade.socket import RETRY_S, SocketPart, Tries, connect_twice
from offhook.bridge.codec import BridgeFault
from offhook.bridge.guard import Guard
from offhook.model.audio import FRAME_MS, AudioFormat
from offhook.model.errors import BridgeError

HELD_FRAMES = 3000 // FRAME_MS
"""Of the caller, to be heard by the next websocket: as much as a recogniser catches up with."""

LOST_TURN_FRAMES = 3000 // FRAME_MS
"""A turn of which another websocket heard nothing more within that time is over."""


class SocketRecogniser:
    """Implements ``Recogniser``. ``make``: a fresh codec for each websocket, which takes ``codec_format``."""

    def __init__(
        self,
        make: Callable[[], SttCodec],
        tell: Callable[[SttEvent], None],
        *,
        input_format: AudioFormat,
        codec_format: AudioFormat,
        tls: ssl.SSLContext | None = None,
        guard: Guard | None = None,
    ) -> None:
        self._make = make
        self._tls, self._guard = tls, guard
        self._tell = tell
        self._convert: Converter | None = converter(input_format, codec_format)
        self._session: _SttSession | None = None
        self._held: deque[bytes] = deque(maxlen=HELD_FRAMES)
        self._turn: deque[bytes] = deque(maxlen=HELD_FRAMES)
        self._speaking = False
        self._lost_frames = 0
        self._tries = Tries()
        self._renewal: asyncio.Task[None] | None = None
        self._closed = False

    async def open(self) -> None:
        """See ``Recogniser``."""
        await connect_twice(self._connect, self._tries)

    def feed(self, frame: bytes) -> None:
        if self._closed:
            return
        audio = self._convert(frame) if self._convert is not None else frame
        self._turn.append(audio)
        session = self._session
        if session is None or not session.codec.takes_audio:
            self._hold(audio)
            return
        if self._held:
            self._catch_up(session)
        session.send_audio(audio)
        self._count_lost()

    async def close(self) -> None:
        self._closed = True
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.gather(self._renewal, return_exceptions=True)
        if self._session is not None:
            self._session.close()
            self._session = None

    def _hold(self, audio: bytes) -> None:
        if self._session is not None and len(self._held) == HELD_FRAMES:
            self._fail(BridgeFault(problem="the recogniser was not ready within 3 s", verdict="retry"))
        self._held.append(audio)

    def _catch_up(self, session: _SttSession) -> None:
        while self._held:
            session.send_audio(self._held.popleft())

    def _count_lost(self) -> None:
        """The new websocket may not take the rest of a turn for speech; each turn has its end all the same."""
        if self._lost_frames:
            self._lost_frames -= 1
            if not self._lost_frames and self._speaking:
                self._event(EndOfTurn(text=""))

    async def _connect(self) -> None:
        session = _SttSession(self._make(), self._heard, self._tls, self._guard)
        await session.open()
        if self._closed:
            session.close()
        else:
            self._session = session

    def _heard(self, session: _SttSession, event: SttEvent) -> None:
        if self._closed or (session is not self._session and self._session is not None):
            return
        if isinstance(event, BridgeFault):
            self._fail(event)
        else:
            self._event(event)

    def _event(self, event: SttEvent) -> None:
        match event:
            case SpeechBegan():
                self._lost_frames = 0
                if self._speaking:
                    return  # the same turn on another websocket
                self._speaking = True
            case EndOfTurn():
                if not self._speaking:
                    self._tell(SpeechBegan())
                self._speaking, self._lost_frames = False, 0
                self._turn.clear()
            case _:
                pass
        self._tell(event)

    def _fail(self, fault: BridgeFault) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None
        if self._speaking:
            self._held = self._turn.copy()
        if fault.verdict != "retry":
            self._tell(fault)
        elif self._tries.again():
            self._tell(fault)
            self._renewal = asyncio.create_task(self._renew())
        else:
            self._tell(replace(fault, verdict="fall_over"))

    async def _renew(self) -> None:
        await asyncio.sleep(RETRY_S)
        try:
            await self._connect()
        except BridgeError as error:
            verdict = "fall_over" if error.verdict == "retry" else error.verdict
            self._tell(BridgeFault(problem=error.problem, verdict=verdict))
            return
        self._lost_frames = LOST_TURN_FRAMES if self._speaking else 0


class _SttSession(SocketPart):
    """Implements ``SttOutput``."""

    def __init__(
        self,
        codec: SttCodec,
        tell: Callable[[_SttSession, SttEvent], None],
        tls: ssl.SSLContext | None,
        guard: Guard | None,
    ) -> None:
        super().__init__("speech recognition", codec, tls, guard)
        self.codec = codec
        self._tell = tell

    def send_audio(self, frame: bytes) -> None:
        message = self.codec.audio(frame, self)
        if message is not None and self._websocket is not None:
            self._websocket.send_audio(message, binary=self.codec.audio_is_binary)

    def stt_event(self, event: SttEvent) -> None:
        if self._closed:
            return
        if isinstance(event, BridgeFault):
            self._fail(event)
        else:
            self._tell(self, event)

    def _introduce(self) -> None:
        self.codec.opened(self)

    def _receive(self, message: bytes, is_text: bool) -> None:
        self.codec.receive(message, self, is_text=is_text)

    def _end(self, code: int, reason: str) -> BridgeFault | None:
        return self.codec.closed(code, reason)

    def _ended(self, fault: BridgeFault | None) -> None:
        self._tell(self, fault or BridgeFault(problem="the recogniser closed", verdict="retry"))
