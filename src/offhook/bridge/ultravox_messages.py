"""What Ultravox says on its websocket, as data (docs.ultravox.ai, protocol and data messages)."""

from __future__ import annotations

from typing import Literal

import msgspec

from offhook.bridge.known_messages import KnownMessages


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

_messages = KnownMessages[Known](Known)


class Created(msgspec.Struct, frozen=True, rename="camel"):
    join_url: str
    call_id: str = ""


def read_message(message: bytes) -> Known | Literal["caller_started", "caller_stopped"] | None:
    """None for a message of a kind that is not for us. Raises ``ValueError`` for one that is broken."""
    known = _messages.read(message)
    return _caller_speech(known) if isinstance(known, str) else known


def _caller_speech(kind: str) -> Literal["caller_started", "caller_stopped"] | None:
    """How it is spelled differs between the vendor's pages."""
    match kind.replace("_", "").lower():
        case "userstartedspeaking":
            return "caller_started"
        case "userstoppedspeaking":
            return "caller_stopped"
        case _:
            return None
