"""What ``POST /api/calls`` of Ultravox takes, as strictly as the service does (docs.ultravox.ai, create call)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

CALL_FIELDS = frozenset(
    {
        "systemPrompt",
        "temperature",
        "model",
        "voice",
        "externalVoice",
        "languageHint",
        "initialMessages",
        "joinTimeout",
        "maxDuration",
        "timeExceededMessage",
        "inactivityMessages",
        "selectedTools",
        "medium",
        "recordingEnabled",
        "firstSpeaker",
        "transcriptOptional",
        "initialOutputMedium",
        "vadSettings",
        "firstSpeakerSettings",
        "metadata",
        "experimentalSettings",
        "initialState",
        "dataConnection",
        "callbacks",
    }
)

AGENT_CALL_FIELDS = frozenset(
    {
        "templateContext",
        "initialMessages",
        "metadata",
        "medium",
        "joinTimeout",
        "maxDuration",
        "recordingEnabled",
        "initialOutputMedium",
        "firstSpeakerSettings",
        "dataConnection",
        "callbacks",
        "experimentalSettings",
    }
)
"""What an agent made there leaves to a call."""

DATA_MESSAGES: Mapping[str, bool] = {
    "pong": True,
    "state": True,
    "transcript": True,
    "clientToolInvocation": True,
    "playbackClearBuffer": True,
    "callStarted": True,
    "debug": False,
    "callEvent": False,
    "toolUsed": False,
    "userStartedSpeaking": False,
    "userStoppedSpeaking": False,
}
"""And whether they are sent where nothing is said of them."""

CLIENT_BUFFER_MS = 60
"""Unless the call says otherwise: hardly more than it takes to play in real time."""

MAX_TOOL_S = 40.0

_VAD_FIELDS = ("turnEndpointDelay", "minimumTurnDuration", "minimumInterruptionDuration", "frameActivationThreshold")

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)s")


def seconds(text: object) -> float | None:
    """``"0.5s"``; None for anything else."""
    found = _DURATION.fullmatch(text) if isinstance(text, str) else None
    return float(found.group(1)) if found else None


def problems_of(call: Mapping[str, Any], *, by_agent: bool) -> Iterator[str]:
    """One sentence for each thing the service would refuse."""
    for name in sorted(set(call) - (AGENT_CALL_FIELDS if by_agent else CALL_FIELDS)):
        yield f"{name}: unknown field"
    yield from _medium_problems(call.get("medium"))
    duration = call.get("maxDuration")
    if duration is not None and not 10 <= (seconds(duration) or 0) <= 3600:
        yield "maxDuration: not between 10s and 3600s"
    temperature = call.get("temperature")
    if temperature is not None and not 0 <= temperature <= 1:
        yield "temperature: not between 0 and 1"
    first = call.get("firstSpeakerSettings")
    if first is not None and (len(first) != 1 or not set(first) <= {"agent", "user"}):
        yield "firstSpeakerSettings: exactly one of agent and user"
    yield from _vad_problems(call.get("vadSettings") or {})
    for tool in call.get("selectedTools") or []:
        yield from _tool_problems(tool)


def _medium_problems(medium: Any) -> Iterator[str]:
    if not isinstance(medium, dict) or set(medium) != {"serverWebSocket"}:
        yield "medium: only serverWebSocket is simulated"
        return
    socket = medium["serverWebSocket"]
    for name in sorted(set(socket) - {"inputSampleRate", "outputSampleRate", "clientBufferSizeMs", "dataMessages"}):
        yield f"medium.serverWebSocket.{name}: unknown field"
    for name in ("inputSampleRate", "outputSampleRate"):
        if not 8000 <= socket.get(name, 8000) <= 48000:
            yield f"medium.serverWebSocket.{name}: not between 8000 and 48000"
    if "inputSampleRate" not in socket:
        yield "medium.serverWebSocket.inputSampleRate: missing"
    for name in sorted(set(socket.get("dataMessages") or {}) - set(DATA_MESSAGES)):
        yield f"medium.serverWebSocket.dataMessages.{name}: unknown field"


def _vad_problems(settings: Mapping[str, Any]) -> Iterator[str]:
    for name, value in settings.items():
        if name not in _VAD_FIELDS:
            yield f"vadSettings.{name}: unknown field"
        elif name == "frameActivationThreshold":
            if not 0.1 <= value <= 1:
                yield f"vadSettings.{name}: not between 0.1 and 1"
        elif seconds(value) is None:
            yield f"vadSettings.{name}: {value!r} is no duration"


def _tool_problems(tool: Mapping[str, Any]) -> Iterator[str]:
    temporary = tool.get("temporaryTool")
    if temporary is None:
        if not tool.get("toolName") and not tool.get("toolId"):
            yield "selectedTools: one has neither toolName, toolId nor temporaryTool"
        return
    name = temporary.get("modelToolName")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        yield f"selectedTools: {name!r} is no name of a tool"
    timeout = temporary.get("timeout")
    if timeout is not None and not 0 < (seconds(timeout) or 0) <= MAX_TOOL_S:
        yield f"selectedTools.{name}.timeout: {timeout!r}"
    for parameter in temporary.get("dynamicParameters") or []:
        if not {"name", "location", "schema"} <= set(parameter) or not isinstance(parameter["schema"], dict):
            yield f"selectedTools.{name}: a parameter lacks name, location or schema"
