"""What OpenAI Realtime says, as far as we listen: one structure for all events, names of before and of now.

Unknown fields are skipped, and everything but ``type`` may be missing: servers that speak like OpenAI leave much out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from offhook.bridge.codec import UsageReported

GA_NAMES = {
    "response.audio.delta": "response.output_audio.delta",
    "response.audio.done": "response.output_audio.done",
    "response.audio_transcript.delta": "response.output_audio_transcript.delta",
    "response.audio_transcript.done": "response.output_audio_transcript.done",
    "response.text.delta": "response.output_text.delta",
    "response.text.done": "response.output_text.done",
    "conversation.item.created": "conversation.item.added",
}
"""The names of before the general availability, which servers that speak like OpenAI still use."""

AUDIO = "response.output_audio.delta"

TYPE_WITHIN = 96
"""Bytes from the beginning in which the type of an event stands, unless a server is strange."""


class _Lax(msgspec.Struct, frozen=True, kw_only=True):
    """Unknown fields are skipped."""


class Content(_Lax, frozen=True):
    type: str = ""
    text: str | None = None
    transcript: str | None = None


class Item(_Lax, frozen=True):
    id: str = ""
    type: str = ""
    role: str | None = None
    status: str | None = None
    name: str | None = None
    call_id: str | None = None
    arguments: str | None = None
    content: list[Content] | None = None


class ErrorDetails(_Lax, frozen=True):
    type: str | None = None
    code: str | None = None
    message: str | None = None
    event_id: str | None = None


class StatusDetails(_Lax, frozen=True):
    type: str | None = None
    reason: str | None = None
    error: ErrorDetails | None = None


class TokenDetails(_Lax, frozen=True):
    text_tokens: float | None = None
    audio_tokens: float | None = None
    cached_tokens: float | None = None


class Usage(_Lax, frozen=True):
    """Of a response, or of a transcription (``type`` tokens or duration)."""

    type: str | None = None
    input_tokens: float | None = None
    output_tokens: float | None = None
    seconds: float | None = None
    input_token_details: TokenDetails | None = None
    output_token_details: TokenDetails | None = None


class Response(_Lax, frozen=True):
    id: str = ""
    status: str | None = None
    status_details: StatusDetails | None = None
    output: list[Item] | None = None
    usage: Usage | None = None
    metadata: dict[str, Any] | None = None


class Event(_Lax, frozen=True):
    type: str
    item_id: str | None = None
    response_id: str | None = None
    delta: str | None = None
    transcript: str | None = None
    item: Item | None = None
    response: Response | None = None
    error: ErrorDetails | None = None
    session: dict[str, Any] | None = None
    usage: Usage | None = None


class AudioDelta(_Lax, frozen=True):
    """``delta``: the sound, decoded."""

    delta: bytes
    item_id: str = ""
    response_id: str = ""


class _Named(_Lax, frozen=True):
    type: str = ""


_event = msgspec.json.Decoder(Event)
_audio = msgspec.json.Decoder(AudioDelta)
_named = msgspec.json.Decoder(_Named)


def is_audio(message: bytes) -> bool:
    """Whether it begins as sound does; a few microseconds sooner than reading it."""
    head = message[:TYPE_WITHIN]
    return b'"response.output_audio.delta"' in head or b'"response.audio.delta"' in head


def read_audio(message: bytes) -> AudioDelta:
    """Raises ``msgspec.DecodeError``."""
    return _audio.decode(message)


def read_event(message: bytes) -> Event | None:
    """None for one whose shape is not known, of a type we do not listen to. Raises ``msgspec.DecodeError``."""
    try:
        return _event.decode(message)
    except msgspec.ValidationError:
        if _named.decode(message).type in LISTENED:
            raise
        return None


def ga_name(event: Event) -> str:
    return GA_NAMES.get(event.type, event.type)


LISTENED = frozenset(
    {
        "error",
        "session.updated",
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.input_audio_transcription.delta",
        "conversation.item.input_audio_transcription.completed",
        "response.created",
        "response.done",
        "response.output_item.added",
        "response.output_item.done",
        *GA_NAMES.values(),
        *GA_NAMES,
    }
)


def format_of(session: dict[str, Any], direction: str) -> str | None:
    """``input`` or ``output``: the format's name in a session of either shape; None where it does not say."""
    flat = session.get(f"{direction}_audio_format")
    if isinstance(flat, str):
        return flat
    audio = session.get("audio")
    part = audio.get(direction) if isinstance(audio, dict) else None
    stated = part.get("format") if isinstance(part, dict) else None
    kind = stated.get("type") if isinstance(stated, dict) else stated
    return kind if isinstance(kind, str) else None


def usage_of(usage: Usage | None, kind: str = "") -> Iterator[UsageReported]:
    """``kind`` goes before the names of the units."""
    if usage is None:
        return
    heard, said = usage.input_token_details, usage.output_token_details
    amounts = {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "audio_input_tokens": heard.audio_tokens if heard is not None else None,
        "cached_input_tokens": heard.cached_tokens if heard is not None else None,
        "audio_output_tokens": said.audio_tokens if said is not None else None,
        "seconds": usage.seconds,
    }
    for units, amount in amounts.items():
        if amount:
            yield UsageReported(units=kind + units, amount=amount)
