"""Messages as the providers send them, one or more of each kind, to be shaken. ID, TEXT and AUDIO stand for any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Message = dict[str, Any]

_OPENAI_ITEM = {"id": "ID", "type": "message", "role": "assistant", "content": [{"type": "output_audio"}]}
_OPENAI_CALL = {"id": "ID", "type": "function_call", "name": "weather", "call_id": "ID", "arguments": "{}"}
_OPENAI_USAGE = {"input_tokens": 3, "output_tokens": 4, "input_token_details": {"audio_tokens": 2}}
_OPENAI_RESPONSE = {"id": "ID", "status": "completed", "output": [_OPENAI_ITEM, _OPENAI_CALL], "usage": _OPENAI_USAGE}

OPENAI: Sequence[Message] = [
    {"type": "session.updated", "session": {"type": "realtime", "id": "ID"}},
    {"type": "session.created", "session": {"type": "realtime", "id": "ID"}},
    {"type": "input_audio_buffer.speech_started", "item_id": "ID", "audio_start_ms": 20},
    {"type": "input_audio_buffer.speech_stopped", "item_id": "ID", "audio_end_ms": 90},
    {"type": "input_audio_buffer.committed", "item_id": "ID", "previous_item_id": "ID"},
    {"type": "conversation.item.added", "item": _OPENAI_ITEM},
    {"type": "conversation.item.done", "item": _OPENAI_ITEM},
    {"type": "conversation.item.truncated", "item_id": "ID", "audio_end_ms": 10},
    {"type": "conversation.item.input_audio_transcription.delta", "item_id": "ID", "delta": "TEXT"},
    {"type": "conversation.item.input_audio_transcription.completed", "item_id": "ID", "transcript": "TEXT"},
    {"type": "conversation.item.input_audio_transcription.failed", "item_id": "ID", "error": {"code": "x"}},
    {"type": "response.created", "response": {"id": "ID", "status": "in_progress"}},
    {"type": "response.output_item.added", "response_id": "ID", "item": _OPENAI_ITEM},
    {"type": "response.output_item.added", "response_id": "ID", "item": _OPENAI_CALL},
    {"type": "response.output_audio.delta", "response_id": "ID", "item_id": "ID", "delta": "AUDIO"},
    {"type": "response.output_audio.done", "response_id": "ID", "item_id": "ID"},
    {"type": "response.output_audio_transcript.delta", "response_id": "ID", "item_id": "ID", "delta": "TEXT"},
    {"type": "response.output_audio_transcript.done", "response_id": "ID", "item_id": "ID", "transcript": "TEXT"},
    {"type": "response.function_call_arguments.done", "item_id": "ID", "call_id": "ID", "arguments": "{}"},
    {"type": "response.output_item.done", "response_id": "ID", "item": _OPENAI_CALL},
    {"type": "response.output_item.done", "response_id": "ID", "item": _OPENAI_ITEM},
    {"type": "response.done", "response": _OPENAI_RESPONSE},
    {"type": "error", "error": {"type": "invalid_request_error", "code": "CODE", "message": "TEXT", "event_id": "ID"}},
    {"type": "rate_limits.updated", "rate_limits": []},
]

ELEVENLABS: Sequence[Message] = [
    {
        "type": "conversation_initiation_metadata",
        "conversation_initiation_metadata_event": {
            "conversation_id": "ID",
            "agent_output_audio_format": "pcm_16000",
            "user_input_audio_format": "ulaw_8000",
        },
    },
    {
        "type": "audio",
        "audio_event": {
            "audio_base_64": "AUDIO",
            "event_id": 3,
            "alignment": {"chars": ["a", " "], "char_start_times_ms": [0, 40], "char_durations_ms": [40, 40]},
        },
    },
    {"type": "agent_response", "agent_response_event": {"agent_response": "TEXT", "event_id": 3}},
    {"type": "agent_response_correction", "agent_response_correction_event": {"corrected_agent_response": "TEXT"}},
    {"type": "agent_response_complete"},
    {"type": "user_transcript", "user_transcription_event": {"user_transcript": "TEXT"}},
    {"type": "tentative_user_transcript", "tentative_user_transcription_event": {"user_transcript": "TEXT"}},
    {"type": "interruption", "interruption_event": {"event_id": 3}},
    {"type": "ping", "ping_event": {"event_id": 3, "ping_ms": 20}},
    {"type": "client_tool_call", "client_tool_call": {"tool_name": "f", "tool_call_id": "ID", "parameters": {"a": 1}}},
    {"type": "error", "error_event": {"code": 1008, "error_type": "x", "message": "TEXT"}},
]

_GEMINI_SOUND = {"inlineData": {"mimeType": "audio/pcm;rate=24000", "data": "AUDIO"}}

GEMINI: Sequence[Message] = [
    {"setupComplete": {"sessionId": "ID"}},
    {"serverContent": {"modelTurn": {"role": "model", "parts": [_GEMINI_SOUND, {"text": "TEXT", "thought": True}]}}},
    {"serverContent": {"modelTurn": {"parts": [_GEMINI_SOUND]}, "outputTranscription": {"text": "TEXT"}}},
    {"serverContent": {"inputTranscription": {"text": "TEXT", "finished": True}}},
    {"serverContent": {"interrupted": True}},
    {"serverContent": {"generationComplete": True}},
    {"serverContent": {"turnComplete": True}, "usageMetadata": {"promptTokenCount": 3, "responseTokenCount": 4}},
    {"usageMetadata": {"promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 3}]}},
    {"toolCall": {"functionCalls": [{"id": "ID", "name": "f", "args": {"a": 1}}, {"name": "g"}]}},
    {"toolCallCancellation": {"ids": ["ID"]}},
    {"goAway": {"timeLeft": "50s"}},
    {"sessionResumptionUpdate": {"newHandle": "ID", "resumable": True}},
]

_DEEPGRAM_FUNCTION = {"id": "ID", "name": "f", "arguments": '{"a": 1}', "client_side": True}

DEEPGRAM: Sequence[Message] = [
    {"type": "Welcome", "request_id": "ID"},
    {"type": "SettingsApplied"},
    {"type": "UserStartedSpeaking"},
    {"type": "AgentThinking", "content": "TEXT"},
    {"type": "AgentStartedSpeaking", "total_latency": 0.3},
    {"type": "AgentAudioDone"},
    {"type": "ConversationText", "role": "user", "content": "TEXT"},
    {"type": "ConversationText", "role": "assistant", "content": "TEXT"},
    {"type": "FunctionCallRequest", "functions": [_DEEPGRAM_FUNCTION, _DEEPGRAM_FUNCTION]},
    {"type": "FunctionCallCancelled", "functions": [{"id": "ID", "name": "f"}]},
    {"type": "PromptUpdated"},
    {"type": "InjectionRefused", "message": "TEXT"},
    {"type": "Warning", "code": "CODE", "description": "TEXT"},
    {"type": "Error", "code": "CODE", "description": "TEXT"},
]

ULTRAVOX: Sequence[Message] = [
    {"type": "call_started", "callId": "ID"},
    {"type": "state", "state": "speaking"},
    {"type": "state", "state": "listening"},
    {"type": "transcript", "role": "agent", "medium": "voice", "ordinal": 1, "delta": "TEXT", "final": False},
    {"type": "transcript", "role": "agent", "medium": "voice", "ordinal": 1, "text": "TEXT", "final": True},
    {"type": "transcript", "role": "user", "medium": "voice", "ordinal": 2, "text": "TEXT", "final": True},
    {"type": "client_tool_invocation", "toolName": "f", "invocationId": "ID", "parameters": {"a": 1}},
    {"type": "playback_clear_buffer"},
    {"type": "user_started_speaking"},
    {"type": "pong", "timestamp": 3},
]

SAMPLES: Mapping[str, Sequence[Message]] = {
    "openai": OPENAI,
    "elevenlabs": ELEVENLABS,
    "gemini": GEMINI,
    "deepgram": DEEPGRAM,
    "ultravox": ULTRAVOX,
}
