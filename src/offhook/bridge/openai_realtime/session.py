"""What is said to OpenAI Realtime: the session, items, responses. As JSON, UTF-8.

The order is the server's ``session.created``, our ``session.update``, its ``session.updated``; audio sent earlier would
be taken for 24 kHz. One wrong name rejects the whole update, so only what was asked for is in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from offhook.bridge.codec import ToolSpec, Utterance
from offhook.bridge.openai_realtime.options import THINKING_MODELS, Setup, TurnDetection
from offhook.bridge.options import as_json
from offhook.bridge.told import newest
from offhook.model.audio import L16_24K, PCMA_8K, PCMU_8K, AudioFormat

GA_FORMATS: dict[AudioFormat, dict[str, Any]] = {
    PCMU_8K: {"type": "audio/pcmu"},
    PCMA_8K: {"type": "audio/pcma"},
    L16_24K: {"type": "audio/pcm", "rate": 24000},
}
BETA_FORMATS = {PCMU_8K: "g711_ulaw", PCMA_8K: "g711_alaw", L16_24K: "pcm16"}

DETECTION: dict[str, Any] = {
    "type": "server_vad",
    "threshold": 0.5,
    "prefix_padding_ms": 300,
    "silence_duration_ms": 500,
    "create_response": True,
    "interrupt_response": False,
}
"""The server begins an answer by itself, which saves a round trip, and never breaks one off: whether a sound over the
agent is a turn is decided by us, who know what the caller hears."""

TRUNCATION = {"type": "retention_ratio", "retention_ratio": 0.8}
"""When the context is full, a fifth of it goes at once, so that what stays can be cached."""


def encoded(event: dict[str, Any]) -> bytes:
    return msgspec.json.encode(event)


def detection_of(setup: Setup) -> dict[str, Any] | None:
    """None: turns are ours to detect."""
    asked = setup.options.turn_detection
    if asked is None:
        return None
    kind = asked if isinstance(asked, str) else asked.type if isinstance(asked, TurnDetection) else "server_vad"
    detection = dict(DETECTION)
    if kind == "semantic_vad":
        detection = {"type": kind, "create_response": True, "interrupt_response": False}
    if isinstance(asked, TurnDetection):
        detection |= {name: value for name, value in msgspec.structs.asdict(asked).items() if value is not None}
    return detection


def session_update(
    setup: Setup, instructions: str, tools: Sequence[ToolSpec], formats: tuple[AudioFormat, AudioFormat]
) -> bytes:
    """``formats``: of the caller, of the agent."""
    build = _ga_session if setup.options.protocol == "ga" else _beta_session
    return encoded(
        {"type": "session.update", "event_id": "setup", "session": build(setup, instructions, tools, formats)}
    )


def _ga_session(
    setup: Setup, instructions: str, tools: Sequence[ToolSpec], formats: tuple[AudioFormat, AudioFormat]
) -> dict[str, Any]:
    options = setup.options
    heard: dict[str, Any] = {"format": GA_FORMATS[formats[0]], "turn_detection": detection_of(setup)}
    if setup.transcriber:
        heard["transcription"] = _transcription(setup)
    if options.noise_reduction:
        heard["noise_reduction"] = {"type": options.noise_reduction}
    voice = {"id": setup.voice} if setup.voice.startswith("voice_") else setup.voice
    said: dict[str, Any] = {"format": GA_FORMATS[formats[1]], "voice": voice}
    if options.speed is not None:
        said["speed"] = options.speed
    session: dict[str, Any] = {
        "type": "realtime", "output_modalities": ["audio"], "instructions": instructions,
        "audio": {"input": heard, "output": said}, "tools": [_tool(tool) for tool in tools], "tool_choice": "auto",
    }  # fmt: skip
    if setup.ours:
        session["truncation"] = TRUNCATION
    if options.reasoning_effort is not None:
        session["reasoning"] = {"effort": options.reasoning_effort}
    if options.parallel_tool_calls is not None and (setup.model.startswith(THINKING_MODELS) or not setup.ours):
        session["parallel_tool_calls"] = options.parallel_tool_calls
    if options.max_output_tokens is not None:
        session["max_output_tokens"] = options.max_output_tokens
    return session


def _beta_session(
    setup: Setup, instructions: str, tools: Sequence[ToolSpec], formats: tuple[AudioFormat, AudioFormat]
) -> dict[str, Any]:
    """The flat shape of before, which has no field for some of it."""
    session: dict[str, Any] = {
        "modalities": ["audio", "text"], "instructions": instructions, "voice": setup.voice,
        "input_audio_format": BETA_FORMATS[formats[0]], "output_audio_format": BETA_FORMATS[formats[1]],
        "turn_detection": detection_of(setup), "tools": [_tool(tool) for tool in tools], "tool_choice": "auto",
    }  # fmt: skip
    if setup.transcriber:
        session["input_audio_transcription"] = _transcription(setup)
    if setup.options.max_output_tokens is not None:
        session["max_response_output_tokens"] = setup.options.max_output_tokens
    return session


def _transcription(setup: Setup) -> dict[str, Any]:
    transcription: dict[str, Any] = {"model": setup.transcriber}
    if setup.language:
        transcription["language"] = setup.language
    if setup.options.keywords:
        transcription["keywords"] = list(setup.options.keywords)
    return transcription


def _tool(tool: ToolSpec) -> dict[str, Any]:
    return {
        "type": "function", "name": tool.name, "description": tool.description, "parameters": as_json(tool.parameters),
    }  # fmt: skip


def instructions_update(instructions: str, *, beta: bool) -> bytes:
    session = {"instructions": instructions} if beta else {"type": "realtime", "instructions": instructions}
    return encoded({"type": "session.update", "session": session})


def message_item(role: str, text: str, *, beta: bool) -> bytes:
    """``role``: system, user or assistant."""
    kind = "input_text" if role != "assistant" else "text" if beta else "output_text"
    item = {"type": "message", "role": role, "content": [{"type": kind, "text": text}]}
    return encoded({"type": "conversation.item.create", "item": item})


def history_items(history: Sequence[Utterance], *, beta: bool) -> list[bytes]:
    """The newest of it; the service has no other way to learn what was said on another connection."""
    roles = {"caller": "user", "agent": "assistant"}
    return [message_item(roles[said.speaker], said.text, beta=beta) for said in newest(history)]


def call_item(call_id: str, name: str, arguments: str) -> bytes:
    item = {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}
    return encoded({"type": "conversation.item.create", "item": item})


def result_item(call_id: str, output: str) -> bytes:
    item = {"type": "function_call_output", "call_id": call_id, "output": output}
    return encoded({"type": "conversation.item.create", "item": item})


def truncation(item_id: str, heard_ms: int) -> bytes:
    """What was not heard is forgotten; of nothing heard, the whole item."""
    if heard_ms <= 0:
        return deletion(item_id)
    return encoded(
        {"type": "conversation.item.truncate", "item_id": item_id, "content_index": 0, "audio_end_ms": heard_ms}
    )


def deletion(item_id: str) -> bytes:
    return encoded({"type": "conversation.item.delete", "item_id": item_id})


def cancellation(response_id: str) -> bytes:
    return encoded({"type": "response.cancel", "response_id": response_id})
