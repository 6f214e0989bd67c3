"""The one websocket client: lean, no compression, no proxy from the environment, messages whole or not at all."""

from __future__ import annotations

import asyncio
import ssl
from typing import Protocol

from picows import (
    WSCloseCode,
    WSError,
    WSFrame,
    WSInvalidStatusError,
    WSListener,
    WSMsgType,
    WSTransport,
    ws_connect,
)

from offhook.bridge.wire import WebsocketTarget
from offhook.model.errors import OffhookError

CONNECT_S = 5.0
"""DNS, TCP, TLS and the upgrade take 150 to 400 ms; a caller hangs up after three rings."""

MAX_MESSAGE_BYTES = 16 << 20
"""Some providers put half a minute of audio into one message; more than this is no conversation."""

MAX_QUEUED_BYTES = 256 << 10
"""Waiting to be sent: more than ten seconds of audio as base64. Then frames are dropped, and counted."""

BROKEN, TOO_BIG = 1006, 1009
"""RFC 6455 §7.4.1."""


class HandshakeRefusedError(OffhookError):
    """The server answered the upgrade with an ordinary HTTP response."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.body = body


class WebsocketListener(Protocol):
    """Called on the event loop."""

    def received(self, message: bytes, *, is_text: bool) -> None: ...

    def closed(self, code: int, reason: str) -> None:
        """By the other side, or the connection broke (1006). Not after ``Websocket.close``."""
        ...


class Websocket(WSListener):
    """An open websocket; made by ``dial``."""

    def __init__(self, listener: WebsocketListener) -> None:
        super().__init__()
        self._listener: WebsocketListener | None = listener
        self._transport: WSTransport | None = None
        self._parts: list[bytes] = []
        self._parts_bytes = 0
        self._is_text = True
        self._close: tuple[int, str] = (BROKEN, "")
        self.dropped = 0
        """Audio messages that were not sent because too much waited."""

    def send_text(self, message: bytes) -> None:
        if self._transport is not None:
            self._transport.send(WSMsgType.TEXT, message)

    def send_binary(self, message: bytes) -> None:
        if self._transport is not None:
            self._transport.send(WSMsgType.BINARY, message)

    def send_audio(self, message: bytes, *, binary: bool) -> None:
        """Late audio is worth nothing: it is dropped when the other side does not keep up."""
        if self._transport is None:
            return
        if self._transport.underlying_transport.get_write_buffer_size() > MAX_QUEUED_BYTES:
            self.dropped += 1
            return
        self._transport.send(WSMsgType.BINARY if binary else WSMsgType.TEXT, message)

    def close(self) -> None:
        """Say goodbye and let go; nothing is told any more. Idempotent."""
        self._listener = None
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.send_close(WSCloseCode.OK)
            transport.disconnect()

    # ── WSListener ───────────────────────────────────────────────────────────────────────────────────────

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        kind = frame.msg_type
        if kind == WSMsgType.CLOSE:
            self._close = (int(frame.get_close_code().value), _text(frame.get_close_message()))
            transport.send_close(frame.get_close_code())
            transport.disconnect()
        elif kind in {WSMsgType.PONG, WSMsgType.PING}:
            pass
        elif frame.fin and not self._parts:
            self._deliver(frame.get_payload_as_bytes(), is_text=kind == WSMsgType.TEXT)
        else:
            self._collect(transport, frame)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._transport = None
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.closed(*self._close)

    def _collect(self, transport: WSTransport, frame: WSFrame) -> None:
        """RFC 6455 §5.4: a message in several frames."""
        if frame.msg_type != WSMsgType.CONTINUATION:
            self._is_text = frame.msg_type == WSMsgType.TEXT
        part = frame.get_payload_as_bytes()
        self._parts.append(part)
        self._parts_bytes += len(part)
        if self._parts_bytes > MAX_MESSAGE_BYTES:
            self._close = (TOO_BIG, "a message is too big")
            transport.disconnect()
        elif frame.fin:
            whole, self._parts, self._parts_bytes = b"".join(self._parts), [], 0
            self._deliver(whole, is_text=self._is_text)

    def _deliver(self, message: bytes, *, is_text: bool) -> None:
        if self._listener is not None:
            self._listener.received(message, is_text=is_text)


async def dial(target: WebsocketTarget, listener: WebsocketListener, *, tls: ssl.SSLContext | None = None) -> Websocket:
    """Open a websocket. Raises ``HandshakeRefusedError``, or ``OSError`` (``TimeoutError``) where nobody is there."""

    try:
        async with asyncio.timeout(CONNECT_S):
            _, websocket = await ws_connect(
                lambda: Websocket(listener),
                target.url,
                ssl_context=tls,
                extra_headers=target.headers,
                websocket_handshake_timeout=CONNECT_S,
                max_frame_size=MAX_MESSAGE_BYTES,
                max_redirects=0,
                enable_auto_ping=target.ping_s is not None,
                auto_ping_idle_timeout=target.ping_s or 20.0,
            )
    except WSInvalidStatusError as error:
        response = error.response
        status, body = (int(response.status), response.body) if response is not None else (0, b"")
        raise HandshakeRefusedError(status, body or b"") from error
    except WSError as error:
        raise OSError(f"the upgrade to a websocket failed: {error}") from error
    assert isinstance(websocket, Websocket)
    return websocket


def _text(message: bytes | str | None) -> str:
    return message if isinstance(message, str) else (message or b"").decode("utf-8", "replace")
