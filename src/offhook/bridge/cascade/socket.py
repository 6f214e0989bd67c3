"""One websocket of a cascade's part: dials, hands messages to the codec, says what became of it."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from typing import Protocol

from offhook.bridge.codec import BridgeFault
from offhook.bridge.guard import Guard, RefusedTargetError
from offhook.bridge.websocket import HandshakeRefusedError, Websocket, dial
from offhook.bridge.wire import WebsocketTarget
from offhook.model.errors import BridgeError, Verdict

RETRY_S = 0.1

HEALTHY_S = 30.0
"""A part that worked so long has its second try again."""

_log = logging.getLogger("offhook.bridge")


class SocketCodec(Protocol):
    def target(self) -> WebsocketTarget: ...

    def refused(self, status: int, body: bytes) -> BridgeFault: ...

    def goodbye(self) -> bytes | None: ...


class Tries:
    """Whether one more is worth it: one within ``HEALTHY_S``."""

    def __init__(self) -> None:
        self._last = float("-inf")

    def again(self) -> bool:
        now = asyncio.get_running_loop().time()
        before, self._last = self._last, now
        return now - before > HEALTHY_S


async def connect_twice(connect: Callable[[], Awaitable[None]], tries: Tries) -> None:
    """Once more where that may go better. Raises ``BridgeError``."""
    try:
        await connect()
    except BridgeError as error:
        if error.verdict != "retry" or not tries.again():
            raise
        await asyncio.sleep(RETRY_S)
        await connect()


class SocketPart:
    """One codec on one websocket. ``adopted``: somebody uses it; what fails before that makes ``open`` fail."""

    def __init__(self, part: str, codec: SocketCodec, tls: ssl.SSLContext | None, guard: Guard | None) -> None:
        self.adopted = False
        self._part = part
        self._codec = codec
        self._tls, self._guard = tls, guard
        self._websocket: Websocket | None = None
        self._failed: BridgeFault | None = None
        self._closed = False

    async def open(self) -> None:
        """Raises ``BridgeError``."""
        try:
            await dial(self._codec.target(), self, tls=self._tls, guard=self._guard)
        except HandshakeRefusedError as error:
            raise self._error(self._codec.refused(error.status, error.body)) from error
        except OSError as error:
            problem = f"cannot be reached: {str(error) or type(error).__name__}"
            verdict: Verdict = "fall_over" if isinstance(error, RefusedTargetError) else "retry"
            raise BridgeError(self._part, problem, verdict) from error
        if self._failed is not None:
            raise self._error(self._failed)
        self.adopted = True

    def close(self) -> None:
        self._closed = True
        websocket, self._websocket = self._websocket, None
        if websocket is not None:
            goodbye = self._codec.goodbye()
            if goodbye is not None:
                websocket.send_text(goodbye)
            websocket.close()

    def send(self, message: bytes) -> None:
        if self._websocket is not None:
            self._websocket.send_text(message)

    def opened(self, websocket: Websocket) -> None:
        self._websocket = websocket
        self._introduce()

    def received(self, message: bytes, *, is_text: bool) -> None:
        if self._closed:
            return
        try:
            self._receive(message, is_text)
        except Exception:  # the boundary: a codec that breaks costs its part, not the process
            _log.exception("the codec of the %s broke on a message", self._part)
            self._fail(BridgeFault(problem="an error inside offhook; see the log", verdict="fall_over"))

    def closed(self, code: int, reason: str) -> None:
        self._websocket = None
        if self._closed:
            return
        fault = self._end(code, reason)
        if self.adopted:
            self._closed = True
            self._ended(fault)
        else:
            self._failed = self._failed or fault or BridgeFault(problem="closed at once", verdict="retry")

    def _fail(self, fault: BridgeFault) -> None:
        if self.adopted:
            self._ended(fault)
        else:
            self._failed = self._failed or fault

    def _introduce(self) -> None:
        raise NotImplementedError

    def _receive(self, message: bytes, is_text: bool) -> None:
        raise NotImplementedError

    def _end(self, code: int, reason: str) -> BridgeFault | None:
        raise NotImplementedError

    def _ended(self, fault: BridgeFault | None) -> None:
        """It is of no use any more; None: an ordinary closing."""
        raise NotImplementedError

    def _error(self, fault: BridgeFault) -> BridgeError:
        return BridgeError(self._part, fault.problem, fault.verdict)
