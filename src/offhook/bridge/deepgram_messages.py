"""What Deepgram's Voice Agent says in text, as far as a call needs it.

developers.deepgram.com/docs/voice-agent-outputs
"""

from __future__ import annotations

import msgspec


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


kind_of = msgspec.json.Decoder(ServerMessage).decode
conversation_text = msgspec.json.Decoder(ConversationText).decode
function_call_request = msgspec.json.Decoder(FunctionCallRequest).decode
function_call_cancelled = msgspec.json.Decoder(FunctionCallCancelled).decode
problem_of = msgspec.json.Decoder(Problem).decode
