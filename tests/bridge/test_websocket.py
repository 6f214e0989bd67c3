"""The websocket client against a server that writes each frame by hand (RFC 6455 §5.2)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import cast

import pytest
import trustme

from offhook.bridge import websocket as client
from offhook.bridge.websocket import MAX_MESSAGE_BYTES, HandshakeRefusedError, Websocket, dial
from offhook.bridge.wire import WebsocketTarget

CONTINUED, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True) -> bytes:
    size = len(payload)
    short = size if size < 126 else 126 if size < 1 << 16 else 127
    longer = b"" if size < 126 else struct.pack(">H" if size < 1 << 16 else ">Q", size)
    return bytes([opcode | (0x80 if fin else 0), short]) + longer + payload


def close_frame(code: int, reason: str = "") -> bytes:
    return frame(CLOSE, struct.pack(">H", code) + reason.encode())


class Peer:
    """The server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.head = ""

    async def shake_hands(self) -> None:
        self.head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        start = self.head.lower().index("sec-websocket-key:") + len("sec-websocket-key:")
        key = self.head[start:].split("\r\n")[0].strip()
        digest = hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        accept = base64.b64encode(digest).decode()
        self.send(
            f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
        )

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def read(self) -> tuple[int, bytes]:
        """The next frame of the client: opcode, payload. Raises ``IncompleteReadError`` when it is gone."""
        head = await self.reader.readexactly(2)
        size = head[1] & 0x7F
        if size >= 126:
            size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8), "big")
        mask = await self.reader.readexactly(4)
        payload = await self.reader.readexactly(size)
        return head[0] & 0x0F, bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))


class Ear:
    """A ``WebsocketListener`` that keeps everything."""

    def __init__(self) -> None:
        self.messages: list[tuple[bytes, bool]] = []
        self.ends: list[tuple[int, str]] = []
        self.opens = 0
        self._changed = asyncio.Event()

    def opened(self, websocket: Websocket) -> None:
        self.opens += 1

    def received(self, message: bytes, *, is_text: bool) -> None:
        self.messages.append((message, is_text))
        self._changed.set()

    def closed(self, code: int, reason: str) -> None:
        self.ends.append((code, reason))
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


Scene = Callable[[Peer], Awaitable[None]]


@asynccontextmanager
async def serving(scene: Scene, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await scene(Peer(reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls, limit=1 << 26)
    try:
        host = "localhost" if tls else "127.0.0.1"
        yield f"{'wss' if tls else 'ws'}://{host}:{server.sockets[0].getsockname()[1]}/talk?model=m"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def target(url: str, ping_s: float | None = None) -> WebsocketTarget:
    return WebsocketTarget(url=url, headers=(("Authorization", "Bearer k"), ("X-Two", "2")), ping_s=ping_s)


def sends(*frames: bytes) -> Scene:
    """Shakes hands, sends this in one write, then waits for the client to go."""

    async def scene(peer: Peer) -> None:
        await peer.shake_hands()
        peer.send(b"".join(frames))
        while True:
            await peer.read()

    return scene


async def heard(*frames: bytes) -> Ear:
    """What a listener has been told when the connection is over."""
    ear = Ear()
    async with serving(sends(*frames)) as url:
        websocket = await dial(target(url), ear)
        await ear.until(lambda: bool(ear.ends))
        websocket.close()
    return ear


# ── the handshake ────────────────────────────────────────────────────────────────────────────────────────


async def test_headers_and_path_are_sent_and_no_compression_is_offered() -> None:
    seen: list[str] = []

    async def scene(peer: Peer) -> None:
        await peer.shake_hands()
        seen.append(peer.head)
        await peer.read()

    async with serving(scene) as url:
        ear = Ear()
        (await dial(target(url), ear)).close()
        assert ear.opens == 1
    assert seen[0].startswith("GET /talk?model=m HTTP/1.1\r\n")
    assert "Authorization: Bearer k\r\n" in seen[0]
    assert "X-Two: 2\r\n" in seen[0]
    assert "extensions" not in seen[0].lower()


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503, 302])
async def test_a_refusal_carries_its_status_and_body(status: int) -> None:
    async def scene(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 {status} No\r\nContent-Length: 20\r\nLocation: http://127.0.0.1:9/\r\n\r\n".encode()
        peer.send(head + b'{"error":"no money"}')
        await peer.reader.read()

    async with serving(scene) as url:
        with pytest.raises(HandshakeRefusedError) as caught:
            await dial(target(url), Ear())
    assert (caught.value.status, caught.value.body) == (status, b'{"error":"no money"}')


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 101 Yes\r\n\r\n", b"\x00\x01\r\n\r\n", b"HTTP/1.1 799 Odd\r\n\r\n"])
async def test_what_is_no_handshake_is_an_os_error_or_a_refusal(answer: bytes) -> None:
    async def scene(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        peer.send(answer)

    async with serving(scene) as url:
        with pytest.raises((OSError, HandshakeRefusedError)):
            await dial(target(url), Ear())


async def test_a_server_that_says_nothing_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(peer: Peer) -> None:
        await peer.reader.read()
        over.set()

    over = asyncio.Event()
    monkeypatch.setattr(client, "CONNECT_S", 0.05)
    async with serving(scene) as url:
        with pytest.raises(TimeoutError):
            await dial(target(url), Ear())
        await asyncio.wait_for(over.wait(), 20)


async def test_a_dial_that_is_cancelled_leaves_nothing_open() -> None:
    async def scene(peer: Peer) -> None:
        there.set()
        await go.wait()
        await peer.shake_hands()
        with pytest.raises(asyncio.IncompleteReadError):
            await peer.read()
        over.set()

    there, go, over = asyncio.Event(), asyncio.Event(), asyncio.Event()
    async with serving(scene) as url:
        ear = Ear()
        dialling = asyncio.create_task(dial(target(url), ear))
        await there.wait()
        dialling.cancel()
        await asyncio.gather(dialling, return_exceptions=True)
        go.set()
        await asyncio.wait_for(over.wait(), 20)
        assert (ear.opens, ear.ends) == (0, [])


async def test_over_tls_only_whom_it_trusts() -> None:
    authority = trustme.CA()
    server_side, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(server_side)
    authority.configure_trust(trusting)
    async with serving(sends(frame(TEXT, b"hello"), close_frame(1000)), tls=server_side) as url:
        ear = Ear()
        await dial(target(url), ear, tls=trusting)
        await ear.until(lambda: bool(ear.ends))
        assert ear.messages == [(b"hello", True)]
        with pytest.raises(OSError, match=r"certificate|CERTIFICATE"):
            await dial(target(url), Ear())


# ── messages ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_comes_with_the_handshake_is_received() -> None:
    ear = await heard(frame(TEXT, b"1"), frame(BINARY, b"\x00"), frame(TEXT, b""), close_frame(1000))
    assert ear.messages == [(b"1", True), (b"\x00", False), (b"", True)]


async def test_a_message_in_pieces_is_received_whole_with_pings_between() -> None:
    ear = await heard(
        frame(BINARY, b"", fin=False), frame(CONTINUED, b"ab", fin=False), frame(PING, b"?"), frame(CONTINUED, b"c"),
        frame(TEXT, b"d"), frame(TEXT, b"e", fin=False), frame(CONTINUED, b"f"), close_frame(1000),
    )  # fmt: skip
    assert ear.messages == [(b"abc", False), (b"d", True), (b"ef", True)]


async def test_a_message_of_10_megabytes_is_received() -> None:
    big = bytes(range(256)) * 40_000
    ear = await heard(frame(BINARY, big), frame(TEXT, b"after"), close_frame(1000))
    assert [len(message) for message, _ in ear.messages] == [10_240_000, 5]
    assert ear.messages[0][0] == big


@pytest.mark.parametrize("pieces", [1, 3])
async def test_a_message_that_is_too_big_ends_the_connection(pieces: int) -> None:
    part = bytes(MAX_MESSAGE_BYTES // pieces + 1)
    frames = [frame(CONTINUED if index else BINARY, part, fin=index == pieces - 1) for index in range(pieces)]
    ear = await heard(*frames)
    assert ear.messages == []
    assert len(ear.ends) == 1
    assert pieces == 1 or ear.ends == [(1009, "a message is too big")]


async def test_each_byte_by_itself() -> None:
    async def scene(peer: Peer) -> None:
        await peer.shake_hands()
        for byte in frame(TEXT, b"a" * 130) + close_frame(4001, "no"):
            peer.send(bytes([byte]))
            await asyncio.sleep(0)
        await peer.read()

    async with serving(scene) as url:
        ear = Ear()
        await dial(target(url), ear)
        await ear.until(lambda: bool(ear.ends))
    assert (ear.messages, ear.ends) == ([(b"a" * 130, True)], [(4001, "no")])


# ── the end ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("code", "reason"),
    [(1000, ""), (1001, "60 minutes"), (1008, "override"), (1011, "x"), (3000, "y"), (4001, "tired")],
)
async def test_a_close_is_told_with_its_code_and_answered(code: int, reason: str) -> None:
    answers: list[tuple[int, bytes]] = []

    async def scene(peer: Peer) -> None:
        await peer.shake_hands()
        peer.send(close_frame(code, reason))
        answers.append(await peer.read())
        over.set()

    over = asyncio.Event()
    async with serving(scene) as url:
        ear = Ear()
        await dial(target(url), ear)
        await ear.until(lambda: bool(ear.ends))
        await over.wait()
    assert ear.ends == [(code, reason)]
    assert answers == [(CLOSE, struct.pack(">H", code))]


async def test_a_close_without_a_code_is_1005() -> None:
    assert (await heard(frame(CLOSE))).ends == [(1005, "")]


async def test_a_connection_that_breaks_is_1006() -> None:
    async def scene(peer: Peer) -> None:
        await peer.shake_hands()
        peer.send(frame(TEXT, b"half", fin=False))
        await peer.writer.drain()

    async with serving(scene) as url:
        ear = Ear()
        await dial(target(url), ear)
        await ear.until(lambda: bool(ear.ends))
    assert (ear.messages, ear.ends) == ([], [(1006, "")])


@pytest.mark.parametrize("wrong", [b"\xff\xff\xff", frame(CLOSE, b"\x00"), frame(3, b"x"), close_frame(999)])
async def test_what_is_no_frame_breaks_the_connection_once(wrong: bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "picows")
    assert len((await heard(wrong, frame(TEXT, b"after"))).ends) == 1


async def test_close_says_goodbye_and_nothing_is_told_after_it() -> None:
    said: list[tuple[int, bytes]] = []

    async def scene(peer: Peer) -> None:
        await peer.shake_hands()
        said.append(await peer.read())
        said.append(await peer.read())
        peer.send(frame(TEXT, b"late") + close_frame(1000))
        over.set()

    over = asyncio.Event()
    async with serving(scene) as url:
        ear = Ear()
        websocket = await dial(target(url), ear)
        websocket.send_text(b"last words")
        websocket.close()
        websocket.close()
        websocket.send_text(b"unheard")
        websocket.send_audio(b"unheard", binary=True)
        await asyncio.wait_for(over.wait(), 20)
        assert said == [(TEXT, b"last words"), (CLOSE, struct.pack(">H", 1000))]
        assert (ear.messages, ear.ends) == ([], [])


# ── pings, and a server that does not keep up ────────────────────────────────────────────────────────────


async def test_pings_are_answered_and_sent() -> None:
    seen: list[tuple[int, bytes]] = []

    async def scene(peer: Peer) -> None:
        await peer.shake_hands()
        peer.send(frame(PING, b"are you there"))
        seen.append(await peer.read())
        while seen[-1][0] != PING:
            seen.append(await peer.read())
        peer.send(frame(PONG, seen[-1][1]) + close_frame(1000))

    async with serving(scene) as url:
        ear = Ear()
        await dial(target(url, ping_s=0.05), ear)
        await ear.until(lambda: bool(ear.ends))
    assert seen[0] == (PONG, b"are you there")
    assert ear.ends == [(1000, "")]


async def test_a_ping_that_is_not_answered_breaks_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "PONG_S", 0.05)
    async with serving(sends()) as url:
        ear = Ear()
        await dial(target(url, ping_s=0.05), ear)
        await ear.until(lambda: bool(ear.ends))
    assert ear.ends == [(1006, "")]


async def test_audio_is_dropped_and_commands_kept_when_the_server_does_not_read() -> None:
    async def scene(peer: Peer) -> None:
        await peer.shake_hands()
        await go.wait()
        while kinds[-1:] != [TEXT]:
            kinds.append((await peer.read())[0])
        over.set()

    go, over = asyncio.Event(), asyncio.Event()
    kinds: list[int] = []
    sent = 0
    async with serving(scene) as url:
        websocket = await dial(target(url), Ear())
        while websocket.dropped < 10:
            websocket.send_audio(bytes(50_000), binary=True)
            sent += 1
            assert sent < 10_000
        websocket.send_text(b"heard all the same")
        go.set()
        await asyncio.wait_for(over.wait(), 30)
        assert kinds.count(BINARY) == sent - 10
        websocket.close()


async def test_a_handshake_that_trickles_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(peer: Peer) -> None:
        peer.send(b"HTTP/1.1 101 Switching Protocols\r\n")
        while True:
            peer.send(b"X-More: x\r\n")
            await asyncio.sleep(0.01)

    monkeypatch.setattr(client, "CONNECT_S", 0.2)
    async with serving(scene) as url, asyncio.timeout(5):
        with pytest.raises(TimeoutError):
            await dial(target(url), Ear())


async def test_a_head_without_end_is_no_handshake(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(peer: Peer) -> None:
        peer.send(b"HTTP/1.1 101 Switching Protocols\r\n")
        while True:
            peer.send(b"X-More: " + b"x" * 60_000)
            sent.append(60_000)
            await peer.writer.drain()

    sent: list[int] = []
    monkeypatch.setattr(client, "CONNECT_S", 1.0)
    async with serving(scene) as url, asyncio.timeout(10):
        with pytest.raises((OSError, HandshakeRefusedError)):
            await dial(target(url), Ear())
    assert sum(sent) < 2 * MAX_MESSAGE_BYTES


@pytest.mark.parametrize("opcode", [PING, TEXT])
async def test_who_talks_and_reads_nothing_is_cut_off(opcode: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be answered for ever, into memory: pings by themselves, messages by their codec."""

    async def scene(peer: Peer) -> None:
        await peer.shake_hands()
        cast(asyncio.Transport, peer.writer.transport).pause_reading()
        while True:
            peer.send(frame(opcode, b"x" * 100) * 100)
            await peer.writer.drain()

    class Answering(Ear):
        def opened(self, websocket: Websocket) -> None:
            self.websocket = websocket

        def received(self, message: bytes, *, is_text: bool) -> None:
            self.websocket.send_text(bytes(5000))

    monkeypatch.setattr(client, "MAX_UNREAD_BYTES", 100_000)
    ear = Answering()
    async with serving(scene) as url:
        await dial(target(url), ear)
        await ear.until(lambda: bool(ear.ends))
    assert ear.ends == [(1006, "nothing is read there")]
