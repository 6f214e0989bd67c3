"""What Ultravox says on its websocket, as data (docs.ultravox.ai, protocol and data messages)."""

from __future__ import annotations

from typing import Literal

import msgspec


class _Message(msgspec.Struct, frozen=True, tag_field="type", rename="camel"):
    pass


class CallStarted(_Message, frozen=True, tag="call_started"):
    pass


class State(_Message, frozen=True, tag="state"):
    state: str


class Transcript(_Message, frozen=True, tag="transcript"):
    """``text``: all so far; ``delta``: what is new."""

    role: str
    medium: str = "voice"
    ordinal: int = 0
    text: str | None = None
    delta: str | None = None
    final: bool = False


class ToolInvocation(_Message, frozen=True, tag="client_tool_invocation"):
    tool_name: str
    invocation_id: str
    parameters: msgspec.Raw = msgspec.Raw(b"{}")


class ClearBuffer(_Message, frozen=True, tag="playback_clear_buffer"):
    pass


Known = CallStarted | State | Transcript | ToolInvocation | ClearBuffer

_known_messages: msgspec.json.Decoder[Known] = msgspec.json.Decoder(Known, strict=False)

_KNOWN_TYPES = frozenset(kind.__struct_config__.tag for kind in Known.__args__)


class _Head(msgspec.Struct, frozen=True):
    type: str


_head = msgspec.json.Decoder(_Head)


class Created(msgspec.Struct, frozen=True, rename="camel"):
    join_url: str
    call_id: str = ""


def read_message(message: bytes) -> Known | Literal["caller_started", "caller_stopped"] | None:
    """None for a message of a kind that is not for us. Raises ``ValueError`` for one that is broken."""
    try:
        return _known_messages.decode(message)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return _read_other(message)


def _read_other(message: bytes) -> Literal["caller_started", "caller_stopped"] | None:
    """How the caller's speech is spelled differs between the vendor's pages. Raises ``ValueError``."""
    try:
        kind = _head.decode(message).type
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        kind = ""
    if not kind or kind in _KNOWN_TYPES:
        raise ValueError("sent a message that cannot be read")
    match kind.replace("_", "").lower():
        case "userstartedspeaking":
            return "caller_started"
        case "userstoppedspeaking":
            return "caller_stopped"
        case _:
            return None
