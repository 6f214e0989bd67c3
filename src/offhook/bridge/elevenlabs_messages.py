"""What ElevenLabs Agents say on their websocket, as data (elevenlabs.io/docs/eleven-agents, client events)."""

from __future__ import annotations

import msgspec

from offhook.bridge.known_messages import KnownMessages


class _Message(msgspec.Struct, frozen=True, tag_field="type"):
    pass


class Formats(msgspec.Struct, frozen=True):
    agent_output_audio_format: str = "pcm_16000"
    user_input_audio_format: str = "pcm_16000"


class Metadata(_Message, frozen=True, tag="conversation_initiation_metadata"):
    conversation_initiation_metadata_event: Formats


class Alignment(msgspec.Struct, frozen=True):
    chars: list[str] = []
    char_start_times_ms: list[float] = []


class Sound(msgspec.Struct, frozen=True):
    audio_base_64: bytes
    event_id: int
    alignment: Alignment | None = None


class Audio(_Message, frozen=True, tag="audio"):
    audio_event: Sound


class Answer(msgspec.Struct, frozen=True):
    agent_response: str
    event_id: int | None = None


class AgentResponse(_Message, frozen=True, tag="agent_response"):
    agent_response_event: Answer


class AgentResponseComplete(_Message, frozen=True, tag="agent_response_complete"):
    pass


class Final(msgspec.Struct, frozen=True):
    user_transcript: str


class UserTranscript(_Message, frozen=True, tag="user_transcript"):
    user_transcription_event: Final


class Tentative(msgspec.Struct, frozen=True):
    user_transcript: str = ""


class TentativeTranscript(_Message, frozen=True, tag="tentative_user_transcript"):
    tentative_user_transcription_event: Tentative


class Numbered(msgspec.Struct, frozen=True):
    event_id: int


class Interruption(_Message, frozen=True, tag="interruption"):
    interruption_event: Numbered


class Ping(_Message, frozen=True, tag="ping"):
    ping_event: Numbered


class Call(msgspec.Struct, frozen=True):
    tool_name: str
    tool_call_id: str
    parameters: msgspec.Raw = msgspec.Raw(b"{}")


class ClientToolCall(_Message, frozen=True, tag="client_tool_call"):
    client_tool_call: Call


class ErrorDetails(msgspec.Struct, frozen=True):
    code: int | None = None
    error_type: str | None = None
    message: str | None = None
    reason: str | None = None


class Error(_Message, frozen=True, tag="error"):
    """Also seen flat, with nothing but ``message``, for a quota."""

    error_event: ErrorDetails | None = None
    message: str | None = None


Known = (
    Metadata
    | Audio
    | AgentResponse
    | AgentResponseComplete
    | UserTranscript
    | TentativeTranscript
    | Interruption
    | Ping
    | ClientToolCall
    | Error
)

_messages = KnownMessages[Known](Known)


class SignedUrl(msgspec.Struct, frozen=True):
    signed_url: str


def read_message(message: bytes) -> Known | None:
    """None for a message of a kind that is not for us. Raises ``ValueError`` for one that is broken."""
    known = _messages.read(message)
    return None if isinstance(known, str) else known
