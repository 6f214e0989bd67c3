"""The session of OpenAI Realtime: what may be in it, what is refused. After the types of the official SDK (GA).

An update that has one thing wrong changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

from offhook.model.audio import L16_24K, PCMA_8K, PCMU_8K, AudioFormat

VOICES = ("alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse", "marin", "cedar")

TRANSCRIBERS = (
    "gpt-live-transcribe",
    "gpt-transcribe",
    "gpt-realtime-whisper",
    "whisper-1",
    "gpt-4o-transcribe",
    "gpt-4o-mini-transcribe",
    "gpt-4o-transcribe-diarize",
)

FORMATS: Mapping[str, AudioFormat] = {"audio/pcm": L16_24K, "audio/pcmu": PCMU_8K, "audio/pcma": PCMA_8K}

TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


class OpenAiRefusalError(Exception):
    """Becomes an ``error`` event, or the body of an HTTP answer."""

    def __init__(self, message: str, code: str, param: str | None = None, kind: str = "invalid_request_error") -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.param = param
        self.kind = kind

    def described(self, event_id: str | None = None) -> dict[str, Any]:
        return {
            "type": self.kind,
            "code": self.code,
            "message": self.message,
            "param": self.param,
            "event_id": event_id,
        }


def first_session(session_id: str, model: str, *, transcription: bool) -> dict[str, Any]:
    """As ``session.created`` has it, before anything was asked for."""
    pcm = {"type": "audio/pcm", "rate": 24000}
    detection = {
        "type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 300, "silence_duration_ms": 500,
        "idle_timeout_ms": None, "create_response": True, "interrupt_response": True,
    }  # fmt: skip
    heard = {"format": pcm, "transcription": None, "noise_reduction": None, "turn_detection": detection}
    if transcription:
        return {
            "type": "transcription", "object": "realtime.transcription_session", "id": session_id,
            "audio": {"input": heard}, "include": None,
        }  # fmt: skip
    return {
        "type": "realtime", "object": "realtime.session", "id": session_id, "model": model,
        "output_modalities": ["audio"], "instructions": "", "tools": [], "tool_choice": "auto",
        "max_output_tokens": "inf", "truncation": "auto", "tracing": None, "prompt": None, "include": None,
        "audio": {"input": heard, "output": {"format": dict(pcm), "voice": "alloy", "speed": 1.0}},
    }  # fmt: skip


def updated(session: Mapping[str, Any], update: Any, *, has_spoken: bool) -> dict[str, Any]:
    """The session with the update in it, deeply. Raises ``OpenAiRefusalError``."""
    if not isinstance(update, dict):
        raise OpenAiRefusalError("Missing required parameter: 'session'.", "missing_required_parameter", "session")
    kind = update.get("type")
    if kind is None:
        raise OpenAiRefusalError(
            "Missing required parameter: 'session.type'.", "missing_required_parameter", "session.type"
        )
    if kind != session["type"]:
        raise OpenAiRefusalError(
            f"Passing a {kind} session to this one is not allowed.", "invalid_value", "session.type"
        )
    _check(update, _TRANSCRIPTION if kind == "transcription" else _REALTIME, "session")
    _check_model(session, update)
    voice = update.get("audio", {}).get("output", {}).get("voice")
    if has_spoken and voice is not None and voice != session["audio"]["output"]["voice"]:
        problem = "Cannot update a conversation's voice if assistant audio is present."
        raise OpenAiRefusalError(problem, "cannot_update_voice", "session.audio.output.voice")
    return _merged(session, update)


def _check_model(session: Mapping[str, Any], update: Mapping[str, Any]) -> None:
    """``reasoning`` and ``parallel_tool_calls`` exist with gpt-realtime-2 and later alone."""
    if str(session.get("model", "")).startswith("gpt-realtime-2"):
        return
    for name in ("reasoning", "parallel_tool_calls"):
        if update.get(name) is not None:
            problem = f"Unsupported parameter: 'session.{name}' is not supported with this model."
            raise OpenAiRefusalError(problem, "unsupported_parameter", f"session.{name}")


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    result = deepcopy(dict(old))
    for name, value in new.items():
        before = result.get(name)
        whole = name in ("format", "turn_detection", "voice", "reasoning")
        if isinstance(value, dict) and isinstance(before, dict) and not whole:
            result[name] = _merged(before, value)
        else:
            result[name] = deepcopy(value)
    return result


# ── what may be where: a name's rule is a table of further names, or a check that returns what it wants instead ──

_Rule = Callable[[Any], str | None]


def _one_of(*allowed: Any) -> _Rule:
    listed = ", ".join(repr(value) for value in allowed)
    return lambda value: None if value in allowed else f"Supported values are: {listed}."


def _number(low: float, high: float) -> _Rule:
    def check(value: Any) -> str | None:
        fits = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
        return None if fits else f"Expected a number between {low:g} and {high:g}."

    return check


def _of(*types: type) -> _Rule:
    names = " or ".join(kind.__name__ for kind in types)
    return lambda value: None if isinstance(value, types) else f"Expected {names}."


def _tokens(value: Any) -> str | None:
    return None if value == "inf" else _number(1, 32_000)(value)


def _voice(value: Any) -> str | None:
    if isinstance(value, dict):
        return None if list(value) == ["id"] and isinstance(value["id"], str) else "Expected an id."
    return _one_of(*VOICES)(value)


def _tools(value: Any) -> str | None:
    if not isinstance(value, list):
        return "Expected an array."
    for tool in value:
        if not isinstance(tool, dict) or tool.get("type") != "function":
            return "Expected functions."
        if set(tool) - {"type", "name", "description", "parameters"}:
            return "A function has a name, a description and parameters."
        if not TOOL_NAME.fullmatch(str(tool.get("name", ""))):
            return f"Expected a name that matches {TOOL_NAME.pattern}."
        if not isinstance(tool.get("parameters", {}), dict):
            return "Expected parameters to be a JSON schema."
    return None


_FLAG = _of(bool)
_TEXT = _of(str)

_DETECTIONS: Mapping[str, Mapping[str, Any]] = {
    "server_vad": {
        "type": _TEXT, "threshold": _number(0, 1), "prefix_padding_ms": _number(0, 10_000),
        "silence_duration_ms": _number(0, 10_000), "idle_timeout_ms": _number(5000, 30_000),
        "create_response": _FLAG, "interrupt_response": _FLAG,
    },
    "semantic_vad": {
        "type": _TEXT, "eagerness": _one_of("low", "medium", "high", "auto"),
        "create_response": _FLAG, "interrupt_response": _FLAG,
    },
}  # fmt: skip

_FORMATS: Mapping[str, Mapping[str, Any]] = {
    "audio/pcm": {"type": _TEXT, "rate": _one_of(24000)},
    "audio/pcmu": {"type": _TEXT},
    "audio/pcma": {"type": _TEXT},
}


class _Kinds:
    """An object whose ``type`` says what else is in it."""

    def __init__(self, kinds: Mapping[str, Mapping[str, Any]]) -> None:
        self.kinds = kinds


_INPUT: Mapping[str, Any] = {
    "format": _Kinds(_FORMATS),
    "noise_reduction": {"type": _one_of("near_field", "far_field"), "strength": _number(0, 1)},
    "transcription": {
        "model": _one_of(*TRANSCRIBERS), "language": _TEXT, "prompt": _TEXT, "keywords": _of(list),
        "languages": _of(list), "delay": _one_of("minimal", "low", "medium", "high", "xhigh"),
    },
    "turn_detection": _Kinds(_DETECTIONS),
}  # fmt: skip

_TRANSCRIPTION: Mapping[str, Any] = {"type": _TEXT, "audio": {"input": _INPUT}, "include": _of(list)}

_REALTIME: Mapping[str, Any] = {
    "type": _TEXT,
    "model": _TEXT,
    "output_modalities": _one_of(["audio"], ["text"]),
    "instructions": _TEXT,
    "audio": {
        "input": _INPUT,
        "output": {"format": _Kinds(_FORMATS), "voice": _voice, "speed": _number(0.25, 1.5)},
    },
    "tools": _tools,
    "tool_choice": _of(str, dict),
    "parallel_tool_calls": _FLAG,
    "reasoning": {"effort": _one_of("none", "minimal", "low", "medium", "high", "xhigh")},
    "max_output_tokens": _tokens,
    "truncation": _of(str, dict),
    "tracing": _of(str, dict),
    "include": _of(list),
    "prompt": _of(dict),
}

_MAY_BE_NULL = ("turn_detection", "noise_reduction", "transcription", "tracing", "prompt", "include", "truncation")


def _check(value: Any, rule: Any, path: str) -> None:
    if value is None and path.rpartition(".")[2] in _MAY_BE_NULL:
        return
    if isinstance(rule, _Kinds):
        kind = value.get("type") if isinstance(value, dict) else None
        if not isinstance(kind, str) or kind not in rule.kinds:
            listed = ", ".join(repr(name) for name in rule.kinds)
            problem = f"Invalid value: {kind!r}. Supported values are: {listed}."
            raise OpenAiRefusalError(problem, "invalid_value", f"{path}.type")
        rule = rule.kinds[kind]
    if isinstance(rule, Mapping):
        _check_names(value, rule, path)
    elif (wanted := rule(value)) is not None:
        raise OpenAiRefusalError(f"Invalid value: {value!r}. {wanted}", "invalid_value", path)


def _check_names(value: Any, rule: Mapping[str, Any], path: str) -> None:
    if not isinstance(value, dict):
        raise OpenAiRefusalError(f"Invalid type for '{path}': expected an object.", "invalid_type", path)
    for name, part in value.items():
        if name not in rule:
            raise OpenAiRefusalError(f"Unknown parameter: '{path}.{name}'.", "unknown_parameter", f"{path}.{name}")
        _check(part, rule[name], f"{path}.{name}")
