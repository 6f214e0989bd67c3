"""The language of the signaling tests: messages to put on the wire, and somebody who notes what comes off it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from offhook.sip.events import Address, Flow, Outbound
from offhook.sip.message import Request, Response
from offhook.sip.parser import StreamItem


def request(method: str = "OPTIONS", *, call_id: str = "1", transport: str = "TCP", body: bytes = b"") -> bytes:
    """A whole request as a stranger would send it."""
    head = (
        f"{method} sip:demo@127.0.0.1 SIP/2.0\r\n"
        f"Via: SIP/2.0/{transport} 127.0.0.1:5999;rport;branch=z9hG4bK-{method}-{call_id}\r\n"
        "Max-Forwards: 70\r\n"
        "From: <sip:stranger@127.0.0.1>;tag=from\r\n"
        "To: <sip:demo@127.0.0.1>\r\n"
        f"Call-ID: {call_id}\r\n"
        f"CSeq: 1 {method}\r\n"
        "Contact: <sip:stranger@127.0.0.1:5999>\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def outbound(data: bytes, flow: Flow, token: int = 7) -> Outbound:
    return Outbound(data=data, flow=flow, token=token)


class Noted:
    """An owner of transports that notes everything; ``until`` waits for a condition on it."""

    def __init__(self) -> None:
        self.datagrams: list[tuple[bytes, Flow]] = []
        self.items: list[tuple[StreamItem, Flow]] = []
        self.failures: list[tuple[int, str]] = []
        self.lost: list[int] = []
        self.unreached: list[tuple[Address, str]] = []
        self._changed = asyncio.Event()

    def datagram_received(self, data: bytes, flow: Flow) -> None:
        self.datagrams.append((data, flow))
        self._changed.set()

    def stream_received(self, item: StreamItem, flow: Flow) -> None:
        self.items.append((item, flow))
        self._changed.set()

    def send_failed(self, token: int, problem: str) -> None:
        self.failures.append((token, problem))
        self._changed.set()

    def unreachable(self, remote: Address, problem: str) -> None:
        self.unreached.append((remote, problem))
        self._changed.set()

    def connection_lost(self, number: int) -> None:
        self.lost.append(number)
        self._changed.set()

    @property
    def call_ids(self) -> list[str]:
        return [item.sip_call_id for item, _ in self.items if isinstance(item, Request | Response)]

    async def until(self, condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
        async with asyncio.timeout(timeout_s):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


class Telnet:
    """A bare TCP client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.unread = b""
        """What ``closed_by_peer`` met on its way."""

    @classmethod
    async def to(cls, address: Address) -> Telnet:
        return cls(*await asyncio.open_connection(address.host, address.port))

    @property
    def address(self) -> Address:
        return Address(*self._writer.get_extra_info("sockname")[:2])

    async def send(self, data: bytes) -> None:
        """Raises ``ConnectionError`` where the other side has closed."""
        if self._writer.is_closing():
            raise ConnectionResetError
        self._writer.write(data)
        await self._writer.drain()

    async def read(self, size: int) -> bytes:
        return await asyncio.wait_for(self._reader.readexactly(size), 5)

    async def read_message(self) -> bytes:
        """One message without a body."""
        return await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), 5)

    async def closed_by_peer(self, timeout_s: float = 5.0) -> bool:
        """Waits for the end of the stream."""
        try:
            async with asyncio.timeout(timeout_s):
                while data := await self._reader.read(65536):
                    self.unread += data
        except ConnectionError:
            return True
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        self._writer.close()
