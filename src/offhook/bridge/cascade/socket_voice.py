"""Makes a ``Voice`` of a vendor's codec.

A websocket that breaks is dialled once more, and is given what was not spoken yet; one that was closed for idleness is
dialled when there is something to say. A second failure within ``HEALTHY_S`` falls over.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import replace

from offhook.audio.convert import Converter, converter
from offhook.bridge.cascade.ports import Aligned, ContextDone, ContextFailed, TtsCodec, TtsEvent, TtsListener
from offhook.bridge.cascade.socket import RETRY_S, SocketPart, Tries, connect_twice
from offhook.bridge.cascade.spoken_queue import SpokenQueue
from offhook.bridge.codec import BridgeFault
from offhook.bridge.guard import Guard
from offhook.model.audio import AudioFormat
from offhook.model.errors import BridgeError

SILENT_VOICE_S = 2.5
"""A voice that was given something to say and sends no audio for so long has died: they need 50 to 300 ms."""


class SocketVoice:
    """Implements ``Voice``. ``make``: a fresh codec for each websocket, whose audio is in ``codec_format``."""

    def __init__(
        self,
        make: Callable[[], TtsCodec],
        listener: TtsListener,
        *,
        codec_format: AudioFormat,
        output_format: AudioFormat,
        aligns: bool,
        tls: ssl.SSLContext | None = None,
        guard: Guard | None = None,
    ) -> None:
        self.aligns = aligns
        self._tls, self._guard = tls, guard
        self._make = make
        self._listener = listener
        self._formats = codec_format, output_format
        self._convert: Converter | None = None
        self._queue = SpokenQueue(output_format)
        self._session: _TtsSession | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._silence: asyncio.TimerHandle | None = None
        self._tries = Tries()
        self._closed = False

    async def open(self) -> None:
        """See ``Voice``."""
        await connect_twice(self._connect, self._tries)

    def begin(self, context: str) -> None:
        if self._queue.begin(context):
            self._start()

    def say(self, context: str, text: str) -> None:
        if self._queue.say(context, text) and self._session is not None:
            self._session.codec.say(context, text, self._session)
            self._watch()

    def finish(self, context: str) -> None:
        if self._queue.finish(context) and self._session is not None:
            self._session.codec.finish(context, self._session)
            self._watch()

    def cancel(self, context: str) -> None:
        if self._queue.current == context and self._session is not None:
            self._session.codec.cancel(context, self._session)
        self._leave(context)

    async def close(self) -> None:
        self._closed = True
        self._rest()
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        self._let_go()

    # ── one context after the other ──────────────────────────────────────────────────────────────────────

    def _start(self) -> None:
        """Say what is left of the current context."""
        context = self._queue.current
        if context is None:
            return
        if self._session is None:
            self._dial_again()
            return
        codec, out = self._session.codec, self._session
        self._convert = converter(*self._formats)
        codec.begin(context, out)
        for text in self._queue.unspoken():
            codec.say(context, text, out)
        if self._queue.finished:
            codec.finish(context, out)
        self._watch()

    def _leave(self, context: str) -> None:
        if self._queue.leave(context):
            self._rest()
            self._start()

    def _watch(self) -> None:
        """Expect a sign of life, where there is something to say."""
        self._rest()
        if self._queue.waits:
            self._silence = asyncio.get_running_loop().call_later(SILENT_VOICE_S, self._fell_silent)

    def _rest(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None

    def _fell_silent(self) -> None:
        self._silence = None
        self._fail(BridgeFault(problem=f"the voice sent nothing for {SILENT_VOICE_S:g} s", verdict="retry"))

    # ── the websocket ────────────────────────────────────────────────────────────────────────────────────

    def _dial_again(self, delay_s: float = 0.0) -> None:
        if self._connecting is None and not self._closed:
            self._connecting = asyncio.create_task(self._reconnect(delay_s))

    async def _reconnect(self, delay_s: float) -> None:
        try:
            await asyncio.sleep(delay_s)
            await self._connect()
        except BridgeError as error:
            self._connecting = None
            self._fail(BridgeFault(problem=error.problem, verdict=error.verdict))
            return
        self._connecting = None
        self._start()

    async def _connect(self) -> None:
        session = _TtsSession(self._make(), self, self._tls, self._guard)
        await session.open()
        if self._closed:
            session.close()
        else:
            self._session = session

    def _let_go(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    def _fail(self, fault: BridgeFault) -> None:
        self._rest()
        self._let_go()
        if self._closed:
            return
        if fault.verdict == "retry" and self._tries.again():
            self._listener.tts_event(fault)
            if self._queue.current is not None:
                self._dial_again(RETRY_S)
        else:
            verdict = "fall_over" if fault.verdict == "retry" else fault.verdict
            self._listener.tts_event(replace(fault, verdict=verdict))

    # ── what the session tells ───────────────────────────────────────────────────────────────────────────

    def take_audio(self, context: str, audio: bytes) -> None:
        if context != self._queue.current:
            return
        if self._convert is not None:
            audio = self._convert(audio)
        self._queue.heard(len(audio))
        self._watch()
        self._listener.tts_audio(context, audio)

    def take_event(self, event: TtsEvent) -> None:
        match event:
            case Aligned():
                if event.context == self._queue.current:
                    at_ms = self._queue.align(event.text, event.at_ms)
                    self._listener.tts_event(replace(event, at_ms=at_ms))
            case ContextDone(context=context):
                if self._queue.knows(context):
                    self._listener.tts_event(event)
                    self._leave(context)
            case ContextFailed():
                self._context_failed(event)
            case _:
                self._listener.tts_event(event)

    def _context_failed(self, event: ContextFailed) -> None:
        """Once more on the same websocket, then it is the whole voice's failure: the agent cannot speak."""
        if event.context != self._queue.current:
            return
        if event.fault.verdict == "retry" and self._tries.again():
            self._rest()
            asyncio.get_running_loop().call_later(RETRY_S, self._start_again, event.context)
        else:
            self._fail(replace(event.fault, verdict="fall_over"))

    def _start_again(self, context: str) -> None:
        if self._queue.current == context and not self._closed:
            self._queue.resume()
            self._start()

    def session_ended(self, session: _TtsSession, fault: BridgeFault | None) -> None:
        """None: an ordinary closing; the next thing to say dials again."""
        if session is not self._session:
            return
        self._let_go()
        if fault is not None:
            self._fail(fault)
        elif self._queue.current is not None:
            self._fail(BridgeFault(problem="the voice closed while it spoke", verdict="retry"))


class _TtsSession(SocketPart):
    """Implements ``TtsOutput``."""

    def __init__(self, codec: TtsCodec, voice: SocketVoice, tls: ssl.SSLContext | None, guard: Guard | None) -> None:
        super().__init__("voice", codec, tls, guard)
        self.codec = codec
        self._voice = voice

    def tts_audio(self, context: str, audio: bytes) -> None:
        if not self._closed:
            self._voice.take_audio(context, audio)

    def tts_event(self, event: TtsEvent) -> None:
        if self._closed:
            return
        if isinstance(event, BridgeFault):
            self._fail(event)
        else:
            self._voice.take_event(event)

    def _introduce(self) -> None:
        self.codec.opened(self)

    def _receive(self, message: bytes, is_text: bool) -> None:
        self.codec.receive(message, self, is_text=is_text)

    def _end(self, code: int, reason: str) -> BridgeFault | None:
        return self.codec.closed(code, reason)

    def _ended(self, fault: BridgeFault | None) -> None:
        self._voice.session_ended(self, fault)
