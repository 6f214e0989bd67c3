"""What the Live API takes from a client, field by field. Source: https://ai.google.dev/api/live, google-genai's types.

JSON as proto3 reads it: each name in camelCase or in snake_case, at every level; what is not known is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

MODELS = (
    "models/gemini-3.8-live",
    "models/gemini-3.8-live-extended-thinking",
    "models/gemini-3.1-flash-live-preview",
    "models/gemini-2.5-flash-native-audio-preview-12-2025",
)

_VOICE_NAMES = (
    "Achernar Achird Algenib Algieba Alnilam Aoede Autonoe Callirrhoe Charon Despina Enceladus Erinome Fenrir Gacrux "
    "Iapetus Kore Laomedeia Leda Orus Puck Pulcherrima Rasalgethi Sadachbia Sadaltager Schedar Sulafat Umbriel "
    "Vindemiatrix Zephyr Zubenelgenubi"
)
VOICES = frozenset(_VOICE_NAMES.split())

INVALID, UNSUPPORTED = 1007, 1008
"""Close codes: what was sent is no message of this API; it is, but cannot be had."""


class GeminiRefusalError(Exception):
    """The service closes the websocket with ``code`` and ``reason``."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class _Free:
    """Any JSON: its names are the client's own."""


class _Many:
    def __init__(self, of: Any) -> None:
        self.of = of


class _One:
    """One of these words."""

    def __init__(self, *words: str) -> None:
        self.words = words


FREE = _Free()

_CONTENT = {
    "role": _One("user", "model"),
    "parts": _Many({"text": str, "thought": bool, "inlineData": {"mimeType": str, "data": str}, "fileData": FREE}),
}

_SPEECH = {
    "voiceConfig": {"prebuiltVoiceConfig": {"voiceName": _One(*sorted(VOICES))}},
    "languageCode": str,
}

_GENERATION = {
    "responseModalities": _Many(_One("AUDIO", "TEXT")),
    "temperature": float,
    "topP": float,
    "topK": float,
    "maxOutputTokens": int,
    "seed": int,
    "candidateCount": int,
    "speechConfig": _SPEECH,
    "thinkingConfig": {
        "thinkingBudget": int,
        "thinkingLevel": _One("MINIMAL", "LOW", "MEDIUM", "HIGH"),
        "includeThoughts": bool,
    },
    "enableAffectiveDialog": bool,
    "mediaResolution": str,
}

_TOOL = {
    "functionDeclarations": _Many(
        {
            "name": str,
            "description": str,
            "parameters": FREE,
            "parametersJsonSchema": FREE,
            "response": FREE,
            "responseJsonSchema": FREE,
            "behavior": _One("BLOCKING", "NON_BLOCKING"),
        }
    ),
    "googleSearch": FREE,
}

_TRANSCRIPTION = {"languageCodes": _Many(str), "customVocabulary": _Many(str), "wordTimestamp": bool}

_SETUP = {
    "model": str,
    "generationConfig": _GENERATION,
    "systemInstruction": _CONTENT,
    "tools": _Many(_TOOL),
    "realtimeInputConfig": {
        "automaticActivityDetection": {
            "disabled": bool,
            "startOfSpeechSensitivity": _One("START_SENSITIVITY_HIGH", "START_SENSITIVITY_LOW"),
            "endOfSpeechSensitivity": _One("END_SENSITIVITY_HIGH", "END_SENSITIVITY_LOW"),
            "prefixPaddingMs": int,
            "silenceDurationMs": int,
        },
        "activityHandling": _One("START_OF_ACTIVITY_INTERRUPTS", "NO_INTERRUPTION"),
        "turnCoverage": _One(
            "TURN_INCLUDES_ONLY_ACTIVITY", "TURN_INCLUDES_ALL_INPUT", "TURN_INCLUDES_AUDIO_ACTIVITY_AND_ALL_VIDEO"
        ),
    },
    "inputAudioTranscription": _TRANSCRIPTION,
    "outputAudioTranscription": _TRANSCRIPTION,
    "sessionResumption": {"handle": str},
    "contextWindowCompression": {"triggerTokens": int, "slidingWindow": {"targetTokens": int}},
    "historyConfig": {"initialHistoryInClientContent": bool},
    "proactivity": {"proactiveAudio": bool},
    "explicitVadSignal": bool,
    "safetySettings": _Many(FREE),
}

_BLOB = {"mimeType": str, "data": str}

_MESSAGE = {
    "setup": _SETUP,
    "clientContent": {"turns": _Many(_CONTENT), "turnComplete": bool},
    "realtimeInput": {
        "audio": _BLOB,
        "video": _BLOB,
        "text": str,
        "activityStart": {},
        "activityEnd": {},
        "audioStreamEnd": bool,
    },
    "toolResponse": {
        "functionResponses": _Many(
            {
                "id": str,
                "name": str,
                "response": FREE,
                "scheduling": _One("SILENT", "WHEN_IDLE", "INTERRUPT"),
                "willContinue": bool,
            }
        )
    },
    "contextUpdate": {"systemInstruction": _CONTENT, "tools": FREE},
}


def read_client_message(message: Any) -> tuple[str, dict[str, Any]]:
    """Its one field and what it holds, names in camelCase. Raises ``GeminiRefusalError``."""
    read = _read(message, _MESSAGE, "")
    if len(read) != 1:
        raise GeminiRefusalError(INVALID, f"A message has exactly one field, not {len(read)}: {', '.join(read)}")
    [(name, value)] = read.items()
    if name == "realtimeInput" and len(value) != 1:
        raise GeminiRefusalError(INVALID, "realtime_input has exactly one field")
    return name, value


def check_setup(setup: Mapping[str, Any]) -> None:
    """What depends on the model. Raises ``GeminiRefusalError``."""
    model = setup.get("model")
    if model not in MODELS:
        raise GeminiRefusalError(
            UNSUPPORTED, f"{model} is not found for API version v1beta, or is not supported for bidiGenerateContent."
        )
    generation = setup.get("generationConfig", {})
    if "TEXT" in generation.get("responseModalities", ["AUDIO"]):
        raise GeminiRefusalError(INVALID, "The requested combination of response modalities is not supported.")
    if "gemini-3.8" in model:
        _check_newest(setup, generation, thinks_long="extended-thinking" in model)


def _check_newest(setup: Mapping[str, Any], generation: Mapping[str, Any], *, thinks_long: bool) -> None:
    if "enableAffectiveDialog" in generation or setup.get("proactivity", {}).get("proactiveAudio") is False:
        raise GeminiRefusalError(INVALID, "Request contains an invalid argument: affective dialog, proactivity.")
    level = "thinkingLevel" in generation.get("thinkingConfig", {})
    if level != thinks_long:
        raise GeminiRefusalError(INVALID, "Request contains an invalid argument: thinking_level.")
    declared = [one for tool in setup.get("tools", ()) for one in tool.get("functionDeclarations", ())]
    if thinks_long and any(one.get("behavior") == "BLOCKING" for one in declared):
        raise GeminiRefusalError(INVALID, "This model supports NON_BLOCKING functions only.")


def _read(value: Any, shape: Any, path: str) -> Any:
    """``value`` with its names in camelCase. Raises ``GeminiRefusalError``."""
    match shape:
        case _Free():
            return value
        case dict():
            return _read_object(value, shape, path)
        case _Many(of=of):
            if not isinstance(value, list):
                raise _wrong(value, path)
            return [_read(one, of, f"{path}[{index}]") for index, one in enumerate(value)]
        case _One(words=words):
            if value not in words:
                raise _wrong(value, path)
            return value
        case _:
            return _read_scalar(value, shape, path)


def _read_object(value: Any, shape: Mapping[str, Any], path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(value, path)
    read: dict[str, Any] = {}
    for name, one in value.items():
        known = _camel(name)
        if known not in shape:
            where = f" at '{path}'" if path else ""
            raise GeminiRefusalError(INVALID, f'Invalid JSON payload received. Unknown name "{name}"{where}')
        if known in read:
            raise GeminiRefusalError(INVALID, f'Invalid JSON payload received. "{name}" is there twice')
        read[known] = _read(one, shape[known], f"{path}.{name}".lstrip("."))
    return read


def _read_scalar(value: Any, kind: type, path: str) -> Any:
    """proto3 JSON: 64-bit integers may be strings."""
    if kind is int and isinstance(value, str) and re.fullmatch(r"-?\d+", value):
        return int(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return value
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise _wrong(value, path)
    return value


def _wrong(value: Any, path: str) -> GeminiRefusalError:
    return GeminiRefusalError(INVALID, f"Invalid value at '{path}': {value!r}"[:120])


def _camel(name: str) -> str:
    return re.sub(r"_([a-z0-9])", lambda found: found.group(1).upper(), name)
