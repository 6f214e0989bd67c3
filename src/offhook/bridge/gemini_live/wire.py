"""The messages of BidiGenerateContent. Source: https://ai.google.dev/api/live; camelCase, as proto3 JSON prefers.

What the server sends comes as text or as binary frames, several fields in one message. Only the audio is decoded with
the message; what is rarer stays raw until it is looked at, so that one odd field costs itself, not the message.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import msgspec

from offhook.bridge.codec import UsageReported, Utterance

_T = TypeVar("_T", bound=msgspec.Struct)

MAX_CALLS_A_MESSAGE = 32
"""Tools called at once; a model calls a handful."""


class InlineData(msgspec.Struct, rename="camel"):
    mime_type: str = ""
    data: bytes = b""


class Part(msgspec.Struct, rename="camel"):
    inline_data: InlineData | None = None


class ModelTurn(msgspec.Struct, rename="camel"):
    parts: list[Part] | None = None


class Transcription(msgspec.Struct, rename="camel"):
    text: str | None = None
    finished: bool | None = None


class ServerContent(msgspec.Struct, rename="camel"):
    model_turn: ModelTurn | None = None
    input_transcription: Transcription | None = None
    output_transcription: Transcription | None = None
    interrupted: bool | None = None
    generation_complete: bool | None = None
    turn_complete: bool | None = None


_NOTHING = msgspec.Raw(b"null")


class ServerMessage(msgspec.Struct, rename="camel"):
    setup_complete: msgspec.Raw = _NOTHING
    server_content: ServerContent | None = None
    tool_call: msgspec.Raw = _NOTHING
    tool_call_cancellation: msgspec.Raw = _NOTHING
    usage_metadata: msgspec.Raw = _NOTHING
    go_away: msgspec.Raw = _NOTHING
    session_resumption_update: msgspec.Raw = _NOTHING


class FunctionCall(msgspec.Struct, rename="camel"):
    """Vertex AI may leave ``id`` out."""

    name: str
    id: str | None = None
    args: msgspec.Raw = msgspec.Raw(b"{}")


class ToolCalls(msgspec.Struct, rename="camel"):
    function_calls: list[FunctionCall] | None = None


class Cancellation(msgspec.Struct, rename="camel"):
    ids: list[str] | None = None


class ResumptionUpdate(msgspec.Struct, rename="camel"):
    new_handle: str | None = None
    resumable: bool | None = None


class _GoAway(msgspec.Struct, rename="camel"):
    time_left: str | None = None


class _Tokens(msgspec.Struct, rename="camel"):
    modality: str | None = None
    token_count: float | None = None


class _Usage(msgspec.Struct, rename="camel"):
    prompt_token_count: float | None = None
    cached_content_token_count: float | None = None
    response_token_count: float | None = None
    thoughts_token_count: float | None = None
    prompt_tokens_details: list[_Tokens] | None = None
    response_tokens_details: list[_Tokens] | None = None


_decode = msgspec.json.Decoder(ServerMessage).decode


def read_message(message: bytes) -> ServerMessage:
    """Raises ``ValueError``."""
    try:
        return _decode(message)
    except RecursionError as error:
        raise ValueError("it is nested without end") from error


def read_tool_calls(raw: msgspec.Raw) -> list[FunctionCall]:
    calls = _read(raw, ToolCalls)
    return (calls.function_calls or [])[:MAX_CALLS_A_MESSAGE] if calls else []


def read_cancelled(raw: msgspec.Raw) -> list[str]:
    cancelled = _read(raw, Cancellation)
    return (cancelled.ids or [])[:MAX_CALLS_A_MESSAGE] if cancelled else []


def read_handle(raw: msgspec.Raw) -> str | None:
    """What a later session resumes this one by; None where it cannot just now."""
    update = _read(raw, ResumptionUpdate)
    return (update.new_handle or None) if update is not None and update.resumable else None


def read_time_left_s(raw: msgspec.Raw) -> float | None:
    """Of goAway, "50s" or "1.5s"; 0 where it does not say. None: there is none."""
    if not is_there(raw):
        return None
    going = _read(raw, _GoAway)
    seconds = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)s", going.time_left or "") if going else None
    return float(seconds.group(1)) if seconds else 0.0


def read_usage(raw: msgspec.Raw) -> Iterator[UsageReported]:
    usage = _read(raw, _Usage)
    if usage is None:
        return
    amounts = {
        "input_tokens": usage.prompt_token_count,
        "output_tokens": usage.response_token_count,
        "cached_input_tokens": usage.cached_content_token_count,
        "thinking_tokens": usage.thoughts_token_count,
        "audio_input_tokens": _audio(usage.prompt_tokens_details),
        "audio_output_tokens": _audio(usage.response_tokens_details),
    }
    for units, amount in amounts.items():
        if amount and amount > 0 and math.isfinite(amount):
            yield UsageReported(units=units, amount=amount)


def is_there(raw: msgspec.Raw) -> bool:
    return bytes(raw) != b"null"


def audio_rate_hz(mime_type: str) -> int | None:
    """Of ``audio/pcm;rate=24000``; 24000 where it does not say. None: no audio we can play."""
    kind, _, parameters = mime_type.replace(" ", "").lower().partition(";")
    if kind not in ("audio/pcm", "audio/l16"):
        return None
    rate = re.search(r"(?:^|;)rate=([0-9]{1,6})(?:;|$)", parameters)
    return int(rate.group(1)) if rate else 24000


# ── what we send ─────────────────────────────────────────────────────────────────────────────────────────


def client_content(turns: Sequence[dict[str, Any]], *, complete: bool) -> bytes:
    """Interrupts what the model is saying; it answers where ``complete``."""
    return encoded({"clientContent": {"turns": list(turns), "turnComplete": complete}})


def user_turn(text: str) -> dict[str, Any]:
    return {"role": "user", "parts": [{"text": text}]}


def history_turn(utterance: Utterance) -> dict[str, Any]:
    return {"role": "model" if utterance.speaker == "agent" else "user", "parts": [{"text": utterance.text}]}


def context_update(instructions: str) -> bytes:
    return encoded({"contextUpdate": {"systemInstruction": user_turn(instructions)}})


def realtime_text(text: str) -> bytes:
    return encoded({"realtimeInput": {"text": text}})


AUDIO_STREAM_END = b'{"realtimeInput":{"audioStreamEnd":true}}'


def tool_response(response: dict[str, Any]) -> bytes:
    return encoded({"toolResponse": {"functionResponses": [response]}})


encoded = msgspec.json.encode


def _audio(details: list[_Tokens] | None) -> float:
    return sum(one.token_count or 0 for one in details or () if one.modality == "AUDIO")


def _read(raw: msgspec.Raw, kind: type[_T]) -> _T | None:
    if not is_there(raw):
        return None
    try:
        return msgspec.json.decode(raw, type=kind)
    except (ValueError, RecursionError):
        return None
