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
    SpeechStarted,
    ToolCall,
    ToolCallCancelled,
    ToolResult,
)
from offhook.bridge.guard import RefusedTargetError
from offhook.bridge.hiding import Secrets, secrets_in, secrets_of
from offhook.bridge.provider_http import ProviderHttp
from offhook.bridge.websocket import HandshakeRefusedError, Websocket, dial
from offhook.bridge.wire import ProviderCodec
from offhook.model.audio import FRAME_MS
from offhook.model.errors import BridgeError, Verdict

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

MAX_OPEN_CALLS = 64
"""Tool calls whose results are waited for before a renewal; a model calls a few at once."""

_log = logging.getLogger("offhook.bridge")

_Item = TypeVar("_Item")


class ProviderConnection:
    """Implements ``BridgeConnection``. One session at a time; what an earlier one still says is not heard."""

    def __init__(self, request: BridgeRequest, codec: ProviderCodec, http: ProviderHttp) -> None:
        self._request = request
        self._listener = request.listener
        self._http = http
        self._secrets = secrets_in(request.agent.options)
        self._session = _Session(codec, self._listener, self._take, self._secrets)
        self._live = False
        self._closed = False
        self._tries = 0
        self._responding = False
        self._awaited = False
        self._open_calls: set[str] = set()
        self._expiring: asyncio.TimerHandle | None = None
        self._renewal: asyncio.Task[None] | None = None
        self._held: deque[bytes] = deque(maxlen=HELD_FRAMES)
        self._commands: deque[BridgeInput] = deque(maxlen=MAX_HELD_COMMANDS)

    @property
    def profile(self) -> BridgeProfile:
        return self._session.codec.profile

    async def open(self) -> None:
        """Returns after ``Ready``. Raises ``BridgeError``; what is to be tried again was."""
        while True:
            try:
                await self._session.open(self._http)
                return
            except BridgeError as error:
                if error.verdict != "retry":
                    raise
                if self._tries >= len(RETRY_S):
                    raise BridgeError(error.provider, error.problem, "fall_over") from error
                await self._next_session()

    def send_audio(self, frame: bytes) -> None:
        if self._live:
            self._session.send_audio(frame)
        else:
            self._held.append(frame)

    def send(self, command: BridgeInput) -> None:
        if isinstance(command, ToolResult):
            self._open_calls.discard(command.tool_call_id)
        if self._live:
            self._session.command(command)
        else:
            self._commands.append(command)

    async def close(self) -> None:
        self._closed, self._live = True, False
        self._forget_end()
        self._session.close()
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.gather(self._renewal, return_exceptions=True)

    # ── what the session tells ───────────────────────────────────────────────────────────────────────────

    def _take(self, session: _Session, event: BridgeEvent) -> None:
        if self._closed or session is not self._session:
            return
        match event:
            case Ready():
                self._go_live()
                return
            case BridgeFault(verdict="retry"):
                self._renew(event)
                return
            case BridgeFault():
                self._live = False
                session.close()
            case Expiring(seconds=seconds):
                self._expect_end(seconds)
            case _:
                self._follow(event)
        self._listener.bridge_event(event)
        if self._expiring is not None and isinstance(event, ResponseDone | Expiring) and self._quiet:
            self._renew(None)

    def _follow(self, event: BridgeEvent) -> None:
        match event:
            case ResponseStarted():
                self._responding, self._awaited = True, False
            case ResponseDone():
                self._responding = False
            case SpeechStarted():
                self._awaited = True
            case ToolCall(tool_call_id=tool_call_id) if len(self._open_calls) < MAX_OPEN_CALLS:
                self._open_calls.add(tool_call_id)
            case ToolCallCancelled(tool_call_id=tool_call_id):
                self._open_calls.discard(tool_call_id)
            case _:
                pass

    @property
    def _quiet(self) -> bool:
        """Nobody speaks or waits for an answer, as far as the provider said: another session loses nothing."""
        return self._live and not (self._responding or self._awaited or self._open_calls)

    def _expect_end(self, seconds: float) -> None:
        self._forget_end()
        delay_s = max(0.0, seconds - LEAST_NOTICE_S)
        self._expiring = asyncio.get_running_loop().call_later(delay_s, self._end_comes)

    def _end_comes(self) -> None:
        self._expiring = None
        if self._live:
            self._renew(None)

    def _forget_end(self) -> None:
        if self._expiring is not None:
            self._expiring.cancel()
            self._expiring = None

    # ── another session ──────────────────────────────────────────────────────────────────────────────────

    def _renew(self, fault: BridgeFault | None) -> None:
        """``fault`` None: nothing is wrong, the session will be closed in a while."""
        self._forget_end()
        self._session.close()
        self._live = self._responding = self._awaited = False
        self._open_calls.clear()
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

    async def _next_session(self) -> None:
        """The old websocket is closed first: some providers refuse a second one for the same conversation."""
        old = self._session
        old.close()
        delay_s = RETRY_S[min(self._tries, len(RETRY_S) - 1)]
        self._tries += 1
        await asyncio.sleep(delay_s * random.uniform(1.0, 1.5))
        if self._closed:
            raise BridgeError(self.profile.provider, "was closed while it was opened", "fatal")
        codec = old.codec.renewed(self._request.history())
        self._session = _Session(codec, self._listener, self._take, self._secrets)

    def _give_up(self, fault: BridgeFault) -> None:
        verdict = "fall_over" if fault.verdict == "retry" else fault.verdict
        self._session.close()
        if not self._closed:
            self._listener.bridge_event(replace(fault, verdict=verdict))

    def _go_live(self) -> None:
        self._live = True
        self._listener.bridge_event(Ready())
        session = self._session
        for command in _drained(self._commands):
            session.command(command)
        for frame in _drained(self._held):
            session.send_audio(frame)


class _Session:
    """One codec on one websocket. Implements ``CodecOutput`` and ``WebsocketListener``."""

    def __init__(
        self,
        codec: ProviderCodec,
        listener: BridgeListener,
        tell: Callable[[_Session, BridgeEvent], None],
        secrets: Secrets,
    ) -> None:
        self.codec = codec
        self._secrets = secrets
        self.ready_at = 0.0
        self._listener = listener
        self._tell = tell
        self._ready: asyncio.Future[bool] | None = None
        """False: it was closed before."""
        self._websocket: Websocket | None = None
        self._closed = False

    async def open(self, http: ProviderHttp) -> None:
        """Returns when the provider takes audio. Raises ``BridgeError``."""
        self._ready = asyncio.get_running_loop().create_future()
        await self._prepare(http)
        try:
            await dial(self.codec.target(), self, tls=http.tls, guard=http.guard, secrets=self._secrets)
        except HandshakeRefusedError as error:
            raise self._error(self.codec.refused(error.status, error.body)) from error
        except OSError as error:
            raise self._unreachable(error) from error
        if not await self._ready:
            raise BridgeError(self.codec.profile.provider, "was closed while it was opened", "fatal")

    async def _prepare(self, http: ProviderHttp) -> None:
        request = self.codec.preparation()
        if request is None:
            return
        try:
            answer = await http.ask(request, PREPARATION_S)
        except OSError as error:
            raise self._unreachable(error) from error
        self._secrets += secrets_of(request)
        self.codec.prepared(answer)

    def send_audio(self, frame: bytes) -> None:
        try:
            message = self.codec.audio(frame, self)
        except Exception:
            self._broke("a frame of audio")
            return
        if message is not None and self._websocket is not None:
            self._websocket.send_audio(message, binary=self.codec.audio_is_binary)

    def command(self, command: BridgeInput) -> None:
        try:
            self.codec.command(command, self)
        except Exception:
            self._broke(type(command).__name__)

    def close(self) -> None:
        """Idempotent; who waits for it to open waits no longer."""
        self._closed = True
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(False)
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
        elif isinstance(event, BridgeFault):
            self._ready.set_exception(self._error(event))
        else:
            if isinstance(event, Ready):
                self.ready_at = asyncio.get_running_loop().time()
                self._ready.set_result(True)
            self._tell(self, event)

    def send(self, message: bytes) -> None:
        if self._websocket is not None:
            self._websocket.send_text(message)

    # ── WebsocketListener ────────────────────────────────────────────────────────────────────────────────

    def opened(self, websocket: Websocket) -> None:
        if self._closed:
            websocket.close()
            return
        self._websocket = websocket
        try:
            self.codec.opened(self)
        except Exception:
            self._broke("the opening")

    def received(self, message: bytes, *, is_text: bool) -> None:
        if self._closed:
            return
        try:
            self.codec.receive(message, self, is_text=is_text)
        except Exception:
            self._broke("a message")

    def closed(self, code: int, reason: str) -> None:
        if self._closed:
            return
        self._websocket = None
        try:
            fault = self.codec.closed(code, reason)
        except Exception:
            self._broke("the close")
            return
        if fault is not None:
            self.bridge_event(fault)
        elif self._ready is not None and self._ready.done():
            self.bridge_event(ToolCall(tool_call_id="", name="end_call", arguments="{}"))
        else:
            self.bridge_event(BridgeFault(problem="hung up before it was ready", verdict="fall_over"))

    def _broke(self, on: str) -> None:
        """The boundary: a codec that raises costs its session, not the process."""
        _log.exception("the codec of %s broke on %s", self.codec.profile.provider, on)
        self.bridge_event(BridgeFault(problem="an error inside offhook; see the log", verdict="fall_over"))

    def _unreachable(self, error: OSError) -> BridgeError:
        problem = f"cannot be reached: {str(error) or type(error).__name__}"
        verdict: Verdict = "fall_over" if isinstance(error, RefusedTargetError) else "retry"
        return BridgeError(self.codec.profile.provider, problem, verdict)

    def _error(self, fault: BridgeFault) -> BridgeError:
        return BridgeError(self.codec.profile.provider, fault.problem, fault.verdict)


def _fault_of(error: BridgeError | TimeoutError) -> BridgeFault:
    if isinstance(error, BridgeError):
        return BridgeFault(problem=error.problem, verdict=error.verdict)
    return BridgeFault(problem=f"no new session within {RENEWED_IN_S:g} s", verdict="fall_over")


def _drained(queue: deque[_Item]) -> Iterator[_Item]:
    while queue:
        yield queue.popleft()
