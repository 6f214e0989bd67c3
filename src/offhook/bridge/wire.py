"""What a provider codec is: pure, messages in, messages and events out. The pump (``connection``) does the I/O.

One codec is one websocket's conversation: it learns of time by the caller's frames, 20 ms each, which come for the
whole call. Whatever the provider sends, it never raises: what it does not know it ignores, what it cannot use is a
fault.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from offhook.bridge.codec import BridgeEvent, BridgeFault, BridgeInput, BridgeProfile, Utterance

HttpMethod = Literal["GET", "POST"]

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpRequest:
    """Asked of a provider's REST interface; URL and headers may hold keys, so neither is in the repr."""

    method: HttpMethod
    url: str = field(repr=False)
    headers: Headers = field(default=(), repr=False)
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpAnswer:
    status: int
    body: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class WebsocketTarget:
    """``ping_s``: how often the connection is probed; None where the provider answers pings late, or not."""

    url: str = field(repr=False)
    headers: Headers = field(default=(), repr=False)
    ping_s: float | None = 20.0


def websocket_scheme(url: str) -> str:
    """``url`` by ws(s), where it was http(s)."""
    return "ws" + url.removeprefix("http") if url.startswith("http") else url


class CodecOutput(Protocol):
    """Where a codec puts what comes of a message; the pump implements it, tests record it."""

    def audio_out(self, item: str, audio: bytes) -> None:
        """Audio of ``item``, in the agreed output format, of any length."""
        ...

    def bridge_event(self, event: BridgeEvent) -> None: ...

    def send(self, message: bytes) -> None:
        """A text message to the provider, UTF-8."""
        ...


class ProviderCodec(Protocol):
    """``audio_is_binary``: how the messages that ``audio`` makes are sent.

    In order: ``preparation`` and ``prepared``, ``target``, ``opened``; then ``receive`` until it puts ``Ready`` out,
    when the provider takes audio; then the rest in any order.
    """

    audio_is_binary: bool

    @property
    def profile(self) -> BridgeProfile: ...

    def preparation(self) -> HttpRequest | None:
        """A request to be answered before the websocket can be opened; None where none is needed."""
        ...

    def prepared(self, answer: HttpAnswer) -> None:
        """Raises ``BridgeError`` with its verdict where the answer cannot be used."""
        ...

    def target(self) -> WebsocketTarget: ...

    def opened(self, out: CodecOutput) -> None:
        """The websocket is open: introduce ourselves, where it is on us."""
        ...

    def audio(self, frame: bytes, out: CodecOutput) -> bytes | None:
        """The message for 20 ms of the caller, in the agreed input format; None: nothing is to be sent for it."""
        ...

    def command(self, command: BridgeInput, out: CodecOutput) -> None: ...

    def receive(self, message: bytes, out: CodecOutput, *, is_text: bool) -> None:
        """One whole message of the provider."""
        ...

    def refused(self, status: int, body: bytes) -> BridgeFault:
        """The handshake was answered with this HTTP status instead."""
        ...

    def closed(self, code: int, reason: str) -> BridgeFault | None:
        """The provider closed (1006: the connection broke). None: its agent hung up, when all it said was heard."""
        ...

    def renewed(self, history: Sequence[Utterance]) -> ProviderCodec:
        """A codec for the next websocket of the same conversation: it resumes it, or is told what was said so far."""
        ...
