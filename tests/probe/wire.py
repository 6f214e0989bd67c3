"""A SIP peer of bare bytes: sockets and a reader of its own, so that nothing of offhook judges offhook."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

from offhook.sip.events import Address

HOST = "127.0.0.1"
PATIENCE_S = 10.0
"""Guards against hanging only; nothing is measured with it."""

_COMPACT = {"v": "via", "f": "from", "t": "to", "i": "call-id", "m": "contact", "l": "content-length"}
_TAG = re.compile(r";\s*tag=([^;,\s]+)")
_HEADER_END = b"\r\n\r\n"
_serial = itertools.count(1)


def unique(prefix: str) -> str:
    """A token that no other test, process or run uses."""
    return f"{prefix}{os.getpid()}x{next(_serial)}x{time.monotonic_ns():x}"


@dataclass(frozen=True, slots=True)
class Message:
    """What came: start line, header fields in order (names in lower case, long form), body."""

    start: str
    fields: tuple[tuple[str, str], ...]
    body: str

    @classmethod
    def of(cls, data: bytes) -> Message:
        """Latin-1 on purpose: every byte that came is one character here."""
        head, _, body = data.decode("latin-1").partition("\r\n\r\n")
        start, *lines = head.split("\r\n")
        pairs = (line.partition(":") for line in lines)
        fields = tuple((_COMPACT.get(name.lower(), name.lower()), value.strip()) for name, _, value in pairs)
        return cls(start, fields, body)

    @property
    def status(self) -> int:
        """0 for a request."""
        return int(self.start.split(" ")[1]) if self.start.startswith("SIP/2.0 ") else 0

    @property
    def method(self) -> str:
        """Of the request, or of the request that is answered."""
        return self.get("cseq").split()[1]

    @property
    def number(self) -> int:
        return int(self.get("cseq").split()[0])

    @property
    def uri(self) -> str:
        return self.start.split(" ")[1]

    @property
    def to_tag(self) -> str:
        return _tag_of(self.get("to"))

    @property
    def from_tag(self) -> str:
        return _tag_of(self.get("from"))

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key == name]

    def get(self, name: str) -> str:
        """The one value of a header that must be there once."""
        values = self.all(name)
        assert len(values) == 1, f"{name} is there {len(values)} times in:\n{self}"
        return values[0]

    def __str__(self) -> str:
        return "\n".join([self.start, *(f"{name}: {value}" for name, value in self.fields), "", self.body])


def _tag_of(value: str) -> str:
    found = _TAG.search(value.rpartition(">")[2])
    return found[1] if found else ""


class Peer:
    """A UDP socket for SIP and one for RTP, on ``host``."""

    def __init__(self, host: str = HOST, port: int = 0) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.bind((host, port))
        self.address = Address(*self._socket.getsockname()[:2])
        self.media = socket.socket(family, socket.SOCK_DGRAM)
        self.media.bind((host, 0))
        self.media_port = int(self.media.getsockname()[1])

    transport = "UDP"

    @property
    def host_port(self) -> str:
        return _joined(self.address)

    def send(self, target: Address, message: str | bytes) -> None:
        """Text is sent as Latin-1 with CRLF line ends."""
        self._socket.sendto(octets(message), target)

    def receive(self, within_s: float = PATIENCE_S) -> Message:
        message = self.hear(within_s)
        assert message is not None, f"nothing came within {within_s:g} s"
        return message

    def hear(self, within_s: float) -> Message | None:
        """The next message, if one comes."""
        return next(self._until(time.monotonic() + within_s), None)

    def messages(self, for_s: float) -> list[Message]:
        """Everything that comes in the next ``for_s`` seconds."""
        return list(self._until(time.monotonic() + for_s))

    def _until(self, end: float) -> Iterator[Message]:
        while (left_s := end - time.monotonic()) > 0:
            self._socket.settimeout(left_s)
            try:
                data = self._socket.recv(65_535)
            except TimeoutError:
                return
            if not _is_media(data):
                yield Message.of(data)

    def response(self, method: str) -> Message:
        """The next response to a ``method``; no other message may come before it."""
        message = self.receive()
        assert (message.status > 0, message.method) == (True, method), f"not a response to {method}:\n{message}"
        return message

    def final(self, method: str = "INVITE") -> Message:
        """The next final response to a ``method``; provisional ones may come before it."""
        while (message := self.response(method)).status < 200:
            pass
        return message

    def request(self, method: str) -> Message:
        """The next request with that method; copies of responses that come before it are ignored."""
        while (message := self.receive()).status or message.method != method:
            assert message.status, f"not {method}:\n{message}"
        return message

    def hears_rtp(self, within_s: float = PATIENCE_S) -> Address:
        """Wait for a packet on the RTP socket; returns where it came from."""
        return _rtp_source(self.media, within_s)

    def forget_rtp(self) -> None:
        """Empty the RTP socket: what comes from now on is new."""
        self.media.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                self.media.recv(2048)

    def close(self) -> None:
        self._socket.close()
        self.media.close()


def _is_media(data: bytes) -> bool:
    """RTP or RTCP (version 2, RFC 3550 §5.1) of another test's call, to a port that the kernel gave us meanwhile."""
    return data[:1] >= b"\x80"


def _rtp_source(media: socket.socket, within_s: float) -> Address:
    media.settimeout(within_s)
    try:
        return Address(*media.recvfrom(2048)[1][:2])
    except TimeoutError:
        raise AssertionError(f"no RTP came within {within_s:g} s") from None


class StreamPeer:
    """A TCP connection to ``target``; reads one framed message after the other (RFC 3261 §18.3)."""

    transport = "TCP"

    def __init__(self, target: Address) -> None:
        self._socket = socket.create_connection(target, PATIENCE_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.address = Address(*self._socket.getsockname()[:2])
        self.media_port = 9
        self._rest = b""

    @property
    def host_port(self) -> str:
        return _joined(self.address)

    def send(self, target: Address, message: str | bytes) -> None:
        """``target`` is where it is connected to already; takes the same arguments as ``Peer.send``."""
        self._socket.sendall(octets(message))

    def receive(self, within_s: float = PATIENCE_S) -> Message:
        self._socket.settimeout(within_s)
        while (whole := self._framed()) is None:
            assert self._read(), "the connection was closed"
        return Message.of(whole)

    def raw(self, size: int) -> bytes:
        """The next ``size`` bytes, whatever they are."""
        while len(self._rest) < size:
            assert self._read(), "the connection was closed"
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken

    def is_closed(self, within_s: float = PATIENCE_S) -> bool:
        """Read until the other side closes."""
        self._socket.settimeout(within_s)
        try:
            while self._read():
                pass
        except TimeoutError:
            return False
        return True

    def final(self, method: str = "INVITE") -> Message:
        while (message := self.receive()).status < 200 or message.method != method:
            assert message.status, f"not a response:\n{message}"
        return message

    def close(self) -> None:
        self._socket.close()

    def _read(self) -> bool:
        try:
            data = self._socket.recv(65_536)
        except TimeoutError:
            raise
        except OSError:
            return False
        self._rest += data
        return bool(data)

    def _framed(self) -> bytes | None:
        head, end, rest = self._rest.partition(_HEADER_END)
        if not end:
            return None
        length = int(Message.of(head).get("content-length"))
        if len(rest) < length:
            return None
        self._rest = rest[length:]
        return head + end + rest[:length]


def _joined(address: Address) -> str:
    return f"[{address.host}]:{address.port}" if ":" in address.host else f"{address.host}:{address.port}"


def octets(message: str | bytes) -> bytes:
    if isinstance(message, bytes):
        return message
    return message.replace("\n", "\r\n").encode("latin-1")
