"""The one websocket pump: makes a ``BridgeConnection`` of any codec. Opens, gates, renews, closes; understands nothing.

A codec's fault with the verdict ``retry`` begins the conversation anew on another websocket, with a codec renewed from
the old one; the caller's audio waits meanwhile, two seconds of it. When that fails too, the fault falls over.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeVar

from offhook.bridge.codec import (
    BridgeEvent,
    BridgeFault,
    BridgeInput,
    BridgeListener,
    BridgeProfile,
    BridgeRequest,
    Expiring,
    Ready,
    ResponseDone,
    ResponseStarted,
    ToolCall,
)
from offhook.bridge.provider_http import ProviderHttp
from offhook.bridge.websocket import HandshakeRefusedError, Websocket, dial
from offhook.bridge.wire import ProviderCodec
from offhook.model.audio import FRAME_MS
from offhook.model.errors import BridgeError

HELD_FRAMES = 2000 // FRAME_MS
"""Of the caller, while there is no session: two seconds, as much as a recogniser catches up with."""

MAX_HELD_COMMANDS = 32

PREPARATION_S = 5.0

RENEWED_IN_S = 3.0
"""A session that is not there by then is not waited for: the caller hears nothing, and there may be others."""

RETRY_S = (0.1, 0.6)
"""Before each further try; up to half as much again, so that a thousand calls do not come at once."""

HEALTHY_S = 30.0
"""A session that lived so long has its tries again."""

LEAST_NOTICE_S = 5.0
"""A connection that will be closed is renewed so long before, though the agent speaks."""

_log = logging.getLogger("offhook.bridge")

_Item = TypeVar("_Item")


class ProviderConnection:
    """Implements ``BridgeConnection``. One session at a time; what an earlier one still says is not heard."""

    def __init__(self, request: BridgeRequest, codec: ProviderCodec, http: ProviderHttp) -> None:
        self._request = request
        self._listener = request.listener
        self._http = http
        self._session = _Session(codec, self._listener, self._take)
        self._live = False
        self._closed = False
        self._tries = 0
        self._responding = False
        self._expiring: asyncio.TimerHandle | None = None
        self._renewal: asyncio.Task[None] | None = None
        self._held: deque[bytes] = deque(maxlen=HELD_FRAMES)
        self._commands: deque[BridgeInput] = deque(maxlen=MAX_HELD_COMMANDS)

    @property
    def profile(self) -> BridgeProfile:
        return self._session.codec.profile

    async def open(self) -> None:
        """Returns with ``Ready``. Raises ``BridgeError``; what is to be tried again was."""
        while True:
            try:
                await self._session.open(self._http)
                break
            except BridgeError as error:
                if error.verdict != "retry":
                    raise
                if self._tries >= len(RETRY_S):
                    raise BridgeError(error.provider, error.problem, "fall_over") from error
                await self._next_session()
        self._go_live()

    def send_audio(self, frame: bytes) -> None:
        if self._live:
            self._session.send_audio(frame)
        else:
            self._held.append(frame)

    def send(self, command: BridgeInput) -> None:
        if self._live:
            self._session.codec.command(command, self._session)
        else:
            self._commands.append(command)

    async def close(self) -> None:
        self._closed, self._live = True, False
        self._forget_end()
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.gather(self._renewal, return_exceptions=True)
        self._session.close()

    # ── what the session tells ───────────────────────────────────────────────────────────────────────────

    def _take(self, session: _Session, event: BridgeEvent) -> None:
        if self._closed or session is not self._session:
            return
        match event:
            case BridgeFault(verdict="retry"):
                self._renew(event)
                return
            case BridgeFault():
                self._live = False
                session.close()
            case ResponseStarted():
                self._responding = True
            case ResponseDone():
                self._responding = False
            case Expiring(seconds=seconds):
                self._expect_end(seconds)
            case _:
                pass
        self._listener.bridge_event(event)
        if self._expiring is not None and not self._responding and isinstance(event, ResponseDone | Expiring):
            self._renew(None)

    def _expect_end(self, seconds: float) -> None:
        self._forget_end()
        delay_s = max(0.0, seconds - LEAST_NOTICE_S)
        self._expiring = asyncio.get_running_loop().call_later(delay_s, self._renew, None)

    def _forget_end(self) -> None:
        if self._expiring is not None:
            self._expiring.cancel()
            self._expiring = None

    # ── another session ──────────────────────────────────────────────────────────────────────────────────

    def _renew(self, fault: BridgeFault | None) -> None:
        """``fault`` None: nothing is wrong, the session will be closed in a while."""
        self._forget_end()
        self._live = self._responding = False
        if asyncio.get_running_loop().time() - self._session.ready_at > HEALTHY_S or fault is None:
            self._tries = 0
        if fault is not None and self._tries >= len(RETRY_S):
            self._give_up(fault)
            return
        if fault is not None:
            self._listener.bridge_event(fault)
        self._renewal = asyncio.create_task(self._begin_anew())

    async def _begin_anew(self) -> None:
        while True:
            try:
                async with asyncio.timeout(RENEWED_IN_S):
                    await self._next_session()
                    await self._session.open(self._http)
            except (BridgeError, TimeoutError) as error:
                retry = not isinstance(error, BridgeError) or error.verdict == "retry"
                if retry and self._tries < len(RETRY_S):
                    continue
                self._give_up(_fault_of(error))
                return
            self._go_live()
            return

    async def _next_session(self) -> None:
        """The old websocket is closed first: some providers refuse a second one for the same conversation."""
        old = self._session
        old.close()
        delay_s = RETRY_S[min(self._tries, len(RETRY_S) - 1)]
        self._tries += 1
        await asyncio.sleep(delay_s * random.uniform(1.0, 1.5))
        codec = old.codec.renewed(self._request.history())
        self._session = _Session(codec, self._listener, self._take)

    def _give_up(self, fault: BridgeFault) -> None:
        verdict = "fall_over" if fault.verdict == "retry" else fault.verdict
        self._session.close()
        if not self._closed:
            self._listener.bridge_event(replace(fault, verdict=verdict))

    def _go_live(self) -> None:
        if self._closed:
            return
        self._live = True
        self._listener.bridge_event(Ready())
        session = self._session
        for command in _drained(self._commands):
            session.codec.command(command, session)
        for frame in _drained(self._held):
            session.send_audio(frame)


class _Session:
    """One codec on one websocket. Implements ``CodecOutput`` and ``WebsocketListener``."""

    def __init__(
        self, codec: ProviderCodec, listener: BridgeListener, tell: Callable[[_Session, BridgeEvent], None]
    ) -> None:
        self.codec = codec
        self.ready_at = 0.0
        self._listener = listener
        self._tell = tell
        self._ready: asyncio.Future[None] | None = None
        self._websocket: Websocket | None = None
        self._closed = False

    async def open(self, http: ProviderHttp) -> None:
        """Returns when the provider takes audio. Raises ``BridgeError``."""
        loop = asyncio.get_running_loop()
        self._ready = loop.create_future()
        await self._prepare(http)
        try:
            self._websocket = await dial(self.codec.target(), self)
        except HandshakeRefusedError as error:
            raise self._error(self.codec.refused(error.status, error.body)) from error
        except OSError as error:
            problem = f"cannot be reached: {str(error) or type(error).__name__}"
            raise BridgeError(self.codec.profile.provider, problem, "retry") from error
        self.codec.opened(self)
        await self._ready
        self.ready_at = loop.time()

    async def _prepare(self, http: ProviderHttp) -> None:
        request = self.codec.preparation()
        if request is None:
            return
        try:
            answer = await http.ask(request, PREPARATION_S)
        except OSError as error:
            problem = f"cannot be reached: {str(error) or type(error).__name__}"
            raise BridgeError(self.codec.profile.provider, problem, "retry") from error
        self.codec.prepared(answer)

    def send_audio(self, frame: bytes) -> None:
        message = self.codec.audio(frame, self)
        if message is not None and self._websocket is not None:
            self._websocket.send_audio(message, binary=self.codec.audio_is_binary)

    def close(self) -> None:
        self._closed = True
        if self._websocket is not None:
            self._websocket.close()
            self._websocket = None

    # ── CodecOutput ──────────────────────────────────────────────────────────────────────────────────────

    def audio_out(self, item: str, audio: bytes) -> None:
        if not self._closed:
            self._listener.audio_out(item, audio)

    def bridge_event(self, event: BridgeEvent) -> None:
        if self._closed:
            return
        if self._ready is None or self._ready.done():
            self._tell(self, event)
        elif isinstance(event, Ready):
            self._ready.set_result(None)
        elif isinstance(event, BridgeFault):
            self._ready.set_exception(self._error(event))
        else:
            self._tell(self, event)

    def send(self, message: bytes) -> None:
        if self._websocket is not None:
            self._websocket.send_text(message)

    # ── WebsocketListener ────────────────────────────────────────────────────────────────────────────────

    def received(self, message: bytes, *, is_text: bool) -> None:
        try:
            self.codec.receive(message, self, is_text=is_text)
        except Exception:  # the boundary: a codec that breaks costs its session, not the process
            _log.exception("the codec of %s broke on a message", self.codec.profile.provider)
            self.bridge_event(BridgeFault(problem="an error inside offhook; see the log", verdict="fall_over"))

    def closed(self, code: int, reason: str) -> None:
        if self._closed:
            return
        fault = self.codec.closed(code, reason)
        if fault is not None:
            self.bridge_event(fault)
        else:
            self.bridge_event(ToolCall(tool_call_id="", name="end_call", arguments="{}"))

    def _error(self, fault: BridgeFault) -> BridgeError:
        return BridgeError(self.codec.profile.provider, fault.problem, fault.verdict)


def _fault_of(error: BridgeError | TimeoutError) -> BridgeFault:
    if isinstance(error, BridgeError):
        return BridgeFault(problem=error.problem, verdict=error.verdict)
    return BridgeFault(problem=f"no new session within {RENEWED_IN_S:g} s", verdict="fall_over")


def _drained(queue: deque[_Item]) -> Iterator[_Item]:
    while queue:
        yield queue.popleft()
