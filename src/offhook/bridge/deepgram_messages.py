"""What Deepgram's Voice Agent says in text, as far as a call needs it, and what its failures mean.

developers.deepgram.com/docs/voice-agent-outputs
"""

from __future__ import annotations

import msgspec

from offhook.model.errors import Verdict

_FATAL_CODES = frozenset(
    {
        "UNPARSABLE_CLIENT_MESSAGE",
        "INVALID_SETTINGS",
        "NON_SETTINGS_MESSAGE_BEFORE_SETTINGS",
        "BINARY_MESSAGE_BEFORE_SETTINGS",
        "SETTINGS_ALREADY_APPLIED",
        "USER_AUDIO_FORMAT",
        "NON_EXISTENT_FUNCTION_CALLED",
        "AGENT_ID_NOT_SUPPORTED",
        "INVALID_AGENT_ID",
    }
)
"""Another session would end the same way. developers.deepgram.com/docs/voice-agent-errors-warnings"""

_BACKEND_CODES = frozenset({"FAILED_TO_THINK", "FAILED_TO_SPEAK"})
"""What stands behind Deepgram has failed, with all it could fall back on."""

_REFUSING_CLOSES = frozenset({1002, 1003, 1007, 1008, 1009, 1010})
"""RFC 6455 §7.4.1: it does not want what we are, so that it would not the next time."""


class ServerMessage(msgspec.Struct):
    """``type`` decides which of the others a message is."""

    type: str = ""


class ConversationText(msgspec.Struct):
    role: str = ""
    content: str = ""


class RequestedFunction(msgspec.Struct):
    """``client_side`` False: Deepgram calls it itself."""

    id: str
    name: str
    arguments: str = "{}"
    client_side: bool = True
    thought_signature: str | None = None


class FunctionCallRequest(msgspec.Struct):
    functions: list[RequestedFunction]


class CancelledFunction(msgspec.Struct):
    id: str


class FunctionCallCancelled(msgspec.Struct):
    functions: list[CancelledFunction]


class Problem(msgspec.Struct):
    """An ``Error``, which ends the session, or a ``Warning``."""

    code: str = ""
    description: str = ""

    def __str__(self) -> str:
        return f"{self.code[:80] or 'no code'}: {self.description[:400]}"

    @property
    def verdict(self) -> Verdict:
        """Of an ``Error``."""
        if self.code in _FATAL_CODES:
            return "fatal"
        return "fall_over" if self.code in _BACKEND_CODES else "retry"


def verdict_of_status(status: int) -> Verdict:
    """Of a refused handshake: no money and no room are this vendor's, a refused key or request is ours."""
    if status in {402, 429}:
        return "fall_over"
    return "retry" if status == 408 or status >= 500 else "fatal"


def verdict_of_close(code: int) -> Verdict:
    return "fall_over" if code in _REFUSING_CLOSES else "retry"


kind_of = msgspec.json.Decoder(ServerMessage).decode
conversation_text = msgspec.json.Decoder(ConversationText).decode
function_call_request = msgspec.json.Decoder(FunctionCallRequest).decode
function_call_cancelled = msgspec.json.Decoder(FunctionCallCancelled).decode
read_problem = msgspec.json.Decoder(Problem).decode
