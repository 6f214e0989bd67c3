"""What an agent's ``options`` may say to Gemini Live, and what becomes of it: address, headers, session settings.

Source: https://ai.google.dev/api/live (BidiGenerateContentSetup).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from offhook.bridge.options import ProviderAccess, ProviderOptions, access_of, need_key, read_options
from offhook.bridge.wire import Headers, websocket_scheme
from offhook.model.errors import ConfigError
from offhook.model.records import Agent

VENDOR_URL = "https://generativelanguage.googleapis.com"
KEY_VARIABLE = "GEMINI_API_KEY"

DEFAULT_MODEL = "gemini-3.8-live"
DEFAULT_VOICE = "Puck"

RETIRED_MODELS = {
    "gemini-2.0-flash-exp": DEFAULT_MODEL,
    "gemini-2.0-flash-live-001": DEFAULT_MODEL,
    "gemini-live-2.5-flash-preview": DEFAULT_MODEL,
    "gemini-2.5-flash-preview-native-audio-dialog": DEFAULT_MODEL,
}
"""Old names, and what serves instead of them."""

_VOICE_NAMES = (
    "Achernar Achird Algenib Algieba Alnilam Aoede Autonoe Callirrhoe Charon Despina Enceladus Erinome Fenrir Gacrux "
    "Iapetus Kore Laomedeia Leda Orus Puck Pulcherrima Rasalgethi Sadachbia Sadaltager Schedar Sulafat Umbriel "
    "Vindemiatrix Zephyr Zubenelgenubi"
)
VOICES = tuple(_VOICE_NAMES.split())
"""https://ai.google.dev/gemini-api/docs/speech-generation#voices; another name is sent as it is."""

_OPENAIS_VOICES = "alloy ash ballad cedar coral echo fable marin nova onyx sage shimmer verse"
OTHER_VENDORS_VOICES = frozenset(_OPENAIS_VOICES.split())
"""An agent that came from another provider may still have one; Google would refuse the session."""

BargeIn = Literal["judged", "provider", "never"]

_log = logging.getLogger("offhook.bridge")


class GeminiOptions(ProviderOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``barge_in``: see ``caller_audio``. ``silence_ms`` of the caller end a turn. The rest are the vendor's own."""

    voice: str = ""
    api_version: str = "v1beta"
    barge_in: BargeIn = "judged"
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    max_output_tokens: int | None = None
    seed: int | None = None
    silence_ms: int = 500
    prefix_padding_ms: int = 20
    start_sensitivity: Literal["high", "low"] = "high"
    end_sensitivity: Literal["high", "low"] = "low"
    turn_coverage: Literal["only_activity", "all_input"] = "only_activity"
    tool_behavior: Literal["blocking", "non_blocking"] | None = None
    thinking_level: Literal["minimal", "low", "medium", "high"] | None = None
    thinking_budget: int | None = None
    proactive_audio: bool | None = None
    affective_dialog: bool | None = None
    context_compression: bool = True
    session_resumption: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionOptions:
    """An agent's options, read: where to connect and what to be.

    ``model``: as the wire has it. ``judged``: as ``ProviderAccess`` has it.
    """

    options: GeminiOptions
    model: str
    voice: str
    url: str = field(repr=False)
    headers: Headers = field(repr=False)
    judged: bool = False

    @property
    def blocking_tools(self) -> bool:
        if self.options.tool_behavior is not None:
            return self.options.tool_behavior == "blocking"
        return not self.thinks_long

    @property
    def newest(self) -> bool:
        """Of the models that take ``contextUpdate``, and refuse the settings older ones knew."""
        return "gemini-3.8" in self.model

    @property
    def thinks_long(self) -> bool:
        return "extended-thinking" in self.model


def check_options(agent: Agent, given: ProviderAccess) -> None:
    """Raises ``ConfigError``."""
    session_options(agent, given)


def session_options(agent: Agent, given: ProviderAccess) -> SessionOptions:
    """Raises ``ConfigError``."""
    options = read_options(agent, GeminiOptions)
    access = access_of(agent, options, given, vendor_url=VENDOR_URL)
    if not any(name.lower() == "authorization" for name in options.headers):
        need_key(access, KEY_VARIABLE)
    session = SessionOptions(
        options=options,
        model=_model(options.model),
        voice=_voice(agent.voice or options.voice),
        url=_websocket_url(access.base_url, options.api_version),
        headers=_headers(access.api_key, options),
        judged=access.judged,
    )
    _refuse_impossible(session)
    return session


def generation_config(session: SessionOptions, language: str) -> dict[str, Any]:
    """BidiGenerateContentSetup.generationConfig."""
    options = session.options
    speech: dict[str, Any] = {"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": session.voice}}}
    if language:
        speech["languageCode"] = language
    config: dict[str, Any] = {"responseModalities": ["AUDIO"], "speechConfig": speech}
    wanted = {
        "temperature": options.temperature,
        "topP": options.top_p,
        "topK": options.top_k,
        "maxOutputTokens": options.max_output_tokens,
        "seed": options.seed,
        "enableAffectiveDialog": options.affective_dialog,
        "thinkingConfig": _thinking(session),
    }
    return config | {name: value for name, value in wanted.items() if value is not None}


def realtime_input_config(options: GeminiOptions) -> dict[str, Any]:
    never = options.barge_in == "never"
    return {
        "automaticActivityDetection": {
            "startOfSpeechSensitivity": f"START_SENSITIVITY_{options.start_sensitivity.upper()}",
            "endOfSpeechSensitivity": f"END_SENSITIVITY_{options.end_sensitivity.upper()}",
            "prefixPaddingMs": options.prefix_padding_ms,
            "silenceDurationMs": options.silence_ms,
        },
        "activityHandling": "NO_INTERRUPTION" if never else "START_OF_ACTIVITY_INTERRUPTS",
        "turnCoverage": f"TURN_INCLUDES_{options.turn_coverage.upper()}",
    }


def _thinking(session: SessionOptions) -> dict[str, Any] | None:
    options = session.options
    level = options.thinking_level or ("low" if session.thinks_long else None)
    config = {"thinkingLevel": level.upper() if level else None, "thinkingBudget": options.thinking_budget}
    return {name: value for name, value in config.items() if value is not None} or None


def _refuse_impossible(session: SessionOptions) -> None:
    options = session.options
    if session.thinks_long and options.tool_behavior == "blocking":
        raise ConfigError("options.tool_behavior", f"{session.model} has no blocking tools", "Leave it out")
    if not session.newest:
        return
    if options.affective_dialog is not None:
        raise ConfigError("options.affective_dialog", f"{session.model} no longer has it", "Leave it out")
    if options.proactive_audio is not None:
        raise ConfigError("options.proactive_audio", f"is always on in {session.model}", "Leave it out")
    if not session.thinks_long and (options.thinking_level or options.thinking_budget is not None):
        fix = f"Leave it out, or use {DEFAULT_MODEL}-extended-thinking"
        raise ConfigError("options.thinking_level", f"{session.model} does not think aloud", fix)


def _model(name: str) -> str:
    """With ``models/`` before it, once; Vertex AI's ``projects/…`` as it is."""
    short = name.removeprefix("models/") or DEFAULT_MODEL
    if short in RETIRED_MODELS:
        _warn_once(f"the model {short} is retired; using {RETIRED_MODELS[short]}")
        short = RETIRED_MODELS[short]
    return short if short.startswith("projects/") else f"models/{short}"


def _voice(name: str) -> str:
    if name.lower() in OTHER_VENDORS_VOICES:
        _warn_once(f"the voice {name} is not one of Gemini's; using {DEFAULT_VOICE}")
        return DEFAULT_VOICE
    return next((voice for voice in VOICES if voice.lower() == name.lower()), name or DEFAULT_VOICE)


def _websocket_url(base_url: str, version: str) -> str:
    """``base_url``: http(s) or ws(s), with the method's path or without."""
    url = websocket_scheme(base_url)
    if "BidiGenerateContent" in url:
        return url
    return f"{url}/ws/google.ai.generativelanguage.{version}.GenerativeService.BidiGenerateContent"


def _headers(api_key: str, options: GeminiOptions) -> Headers:
    own = (("x-goog-api-key", api_key),) if api_key else ()
    return (*own, *options.headers.items())


@lru_cache(maxsize=64)
def _warn_once(text: str) -> None:
    _log.warning("gemini: %s", text)
