"""The one websocket client: lean, no compression, no proxy from the environment, messages whole or not at all."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine
from functools import cache
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
from picows.url import WSInvalidURL, WSParsedURL

from offhook.bridge.guard import Guard
from offhook.bridge.hiding import Secrets, hidden, secrets_of
from offhook.bridge.wire import WebsocketTarget
from offhook.model.errors import OffhookError

CONNECT_S = 5.0
"""DNS, TCP, TLS and the upgrade take 150 to 400 ms; a caller hangs up after three rings."""

NEXT_ADDRESS_S = 0.5
"""A judged name's next address is tried after so long."""

MAX_MESSAGE_BYTES = 16 << 20
"""Some providers put half a minute of audio into one message; more than this is no conversation."""

MAX_QUEUED_BYTES = 256 << 10
"""Waiting to be sent: more than ten seconds of audio as base64. Then frames are dropped, and counted."""

MAX_UNREAD_BYTES = 4 << 20
"""With so much waiting to be sent, the other side reads nothing any more: it is broken, whatever it says."""

PONG_S = 10.0
"""A connection whose ping is not answered by then is broken."""

NO_CODE, BROKEN, TOO_BIG = 1005, 1006, 1009
"""RFC 6455 §7.4.1."""


class HandshakeRefusedError(OffhookError):
    """The server answered the upgrade with an ordinary HTTP response.

    ``body``: as much of it as came together with the head, and as it came (it may be chunked): to search, not to parse.
    """

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.body = body


class WebsocketListener(Protocol):
    """Called on the event loop."""

    def opened(self, websocket: Websocket) -> None:
        """Before anything is received, and before ``dial`` returns."""
        ...

    def received(self, message: bytes, *, is_text: bool) -> None: ...

    def closed(self, code: int, reason: str) -> None:
        """By the other side, or the connection broke (1006). Not after ``Websocket.close``."""
        ...


class Websocket(WSListener):
    """An open websocket; made by ``dial``. ``secrets``: the listener hears none of them."""

    def __init__(self, listener: WebsocketListener, secrets: Secrets = ()) -> None:
        super().__init__()
        self._secrets = secrets
        self._listener: WebsocketListener | None = listener
        self._transport: WSTransport | None = None
        self._parts: bytearray | None = None
        self._is_text = True
        self._close: tuple[int, str] = (BROKEN, "")
        self.dropped = 0
        """Audio messages that were not sent because too much waited."""

    def send_text(self, message: bytes) -> None:
        if self._transport is not None and self._is_read(self._transport):
            self._transport.send(WSMsgType.TEXT, message)

    def send_audio(self, message: bytes, *, binary: bool) -> None:
        """Late audio is worth nothing: it is dropped when the other side does not keep up."""
        if self._transport is None:
            return
        if self._transport.underlying_transport.get_write_buffer_size() > MAX_QUEUED_BYTES:
            self.dropped += 1
            return
        self._transport.send(WSMsgType.BINARY if binary else WSMsgType.TEXT, message)

    def close(self) -> None:
        """Say goodbye and let go; nothing is told any more. Idempotent; also of one that is not open yet."""
        self._listener = None
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.send_close(WSCloseCode.OK)
            transport.disconnect()

    # ── WSListener ───────────────────────────────────────────────────────────────────────────────────────

    def on_ws_connected(self, transport: WSTransport) -> None:
        if self._listener is None:  # nobody waits for it any more
            transport.disconnect()
        else:
            self._transport = transport
            self._listener.opened(self)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        kind = frame.msg_type
        if kind == WSMsgType.CLOSE:
            self._close = _code_and_reason(hidden(frame.get_payload_as_bytes(), self._secrets))
            transport.send_close(WSCloseCode.OK if self._close[0] == NO_CODE else frame.get_close_code())
            transport.disconnect()
        elif kind == WSMsgType.PING:
            if self._is_read(transport):
                transport.send_pong(frame.get_payload_as_bytes())
        elif kind == WSMsgType.PONG:
            pass
        elif frame.fin and self._parts is None:
            self._deliver(frame.get_payload_as_bytes(), is_text=kind == WSMsgType.TEXT)
        else:
            self._collect(transport, frame)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._transport = None
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.closed(*self._close)

    def pause_writing(self) -> None:
        """``send_audio`` looks at the queue itself."""

    def resume_writing(self) -> None:
        pass

    def _is_read(self, transport: WSTransport) -> bool:
        """Else it is cut off: what waits would grow for as long as the other side says something."""
        if transport.underlying_transport.get_write_buffer_size() <= MAX_UNREAD_BYTES:
            return True
        self._close = (BROKEN, "nothing is read there")
        transport.underlying_transport.abort()
        return False

    def _collect(self, transport: WSTransport, frame: WSFrame) -> None:
        """RFC 6455 §5.4: a message in several frames."""
        if self._parts is None:
            self._parts, self._is_text = bytearray(), frame.msg_type == WSMsgType.TEXT
        self._parts += frame.get_payload_as_memoryview()
        if len(self._parts) > MAX_MESSAGE_BYTES:
            self._close = (TOO_BIG, "a message is too big")
            self._parts = None
            transport.disconnect()
        elif frame.fin:
            whole, self._parts = bytes(self._parts), None
            self._deliver(whole, is_text=self._is_text)

    def _deliver(self, message: bytes, *, is_text: bool) -> None:
        if self._listener is not None:
            self._listener.received(hidden(message, self._secrets), is_text=is_text)


async def dial(
    target: WebsocketTarget,
    listener: WebsocketListener,
    *,
    tls: ssl.SSLContext | None = None,
    guard: Guard | None = None,
    secrets: Secrets = (),
) -> Websocket:
    """Open a websocket. ``guard``: judges where it leads; None where the operator chose it.
    ``secrets``: what the provider may not say back, beside what ``target`` holds.

    Raises ``HandshakeRefusedError``; ``RefusedTargetError``, or another ``OSError`` (``TimeoutError``) where nobody is
    there.
    """
    if guard is not None:
        guard.check(target.url)
    secrets = (*secrets_of(target), *secrets)
    websocket = Websocket(listener, secrets)
    if tls is None and target.url.startswith("wss:"):
        tls = await asyncio.to_thread(_default_tls)
    try:
        async with asyncio.timeout(CONNECT_S):
            await _connect(target, websocket, tls, guard)
    except HandshakeRefusedError as error:
        websocket.close()
        raise HandshakeRefusedError(error.status, hidden(error.body, secrets)) from None
    except BaseException:
        websocket.close()
        raise
    return websocket


async def _connect(
    target: WebsocketTarget, websocket: Websocket, tls: ssl.SSLContext | None, guard: Guard | None
) -> None:
    try:
        _, opened = await ws_connect(
            lambda: websocket,
            target.url,
            ssl_context=tls,
            extra_headers=target.headers,
            websocket_handshake_timeout=CONNECT_S,
            max_frame_size=MAX_MESSAGE_BYTES,
            max_redirects=0,
            enable_auto_pong=False,  # it would answer who never reads, without bound
            socket_factory=None if guard is None else _judged_socket(guard),
            enable_auto_ping=target.ping_s is not None,
            auto_ping_idle_timeout=target.ping_s or 0.0,
            auto_ping_reply_timeout=min(PONG_S, target.ping_s or 0.0),
        )
    except WSInvalidStatusError as error:
        response = error.response
        status = int(response.status) if response is not None else 0
        raise HandshakeRefusedError(status, error.raw_body or b"") from error
    except WSInvalidURL:
        raise OSError("the URL of the websocket cannot be used") from None  # its own text has all of it, keys and all
    except (WSError, ValueError) as error:
        raise OSError(f"the upgrade to a websocket failed: {error}") from error
    if opened is not websocket:
        raise OSError("the connection broke before the upgrade to a websocket was answered")


def _judged_socket(guard: Guard) -> Callable[[WSParsedURL], Coroutine[None, None, socket.socket]]:
    async def connected(url: WSParsedURL) -> socket.socket:
        addresses = await guard.addresses(url.host, url.port, secure=url.is_secure)
        for address in addresses[:-1]:
            try:
                async with asyncio.timeout(NEXT_ADDRESS_S):
                    return await _connected_socket(address, url.port)
            except OSError:
                continue
        return await _connected_socket(addresses[-1], url.port)

    return connected


async def _connected_socket(address: str, port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(made, (address, port))
    except BaseException:
        made.close()
        raise
    return made


@cache
def _default_tls() -> ssl.SSLContext:
    """Reading the certificates of the system takes 40 ms: once a process, and off the event loop."""
    return ssl.create_default_context()


def _code_and_reason(payload: bytes) -> tuple[int, str]:
    """Of a close frame (RFC 6455 §5.5.1)."""
    if len(payload) < 2:
        return NO_CODE, ""
    return int.from_bytes(payload[:2], "big"), payload[2:].decode("utf-8", "replace")
