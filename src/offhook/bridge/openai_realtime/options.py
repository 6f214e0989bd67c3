"""What an agent's ``options`` may say about OpenAI Realtime and services that speak like it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Literal
from urllib.parse import urlencode, urlsplit, urlunsplit

import msgspec

from offhook.bridge.options import ProviderAccess, ProviderOptions, access_of, need_key, read_options
from offhook.bridge.wire import Headers
from offhook.model.errors import ConfigError
from offhook.model.records import Agent

VENDOR_URL = "wss://api.openai.com/v1"
KEY_VARIABLE = "OPENAI_API_KEY"

DEFAULT_MODEL = "gpt-realtime-2.1"
DEFAULT_VOICE = "marin"
DEFAULT_TRANSCRIBER = "gpt-live-transcribe"

THINKING_MODELS = "gpt-realtime-2"
"""What the names of those begin with that take ``reasoning``; others refuse the whole session for it."""

VOICES = ("alloy", "ash", "ballad", "cedar", "coral", "echo", "marin", "sage", "shimmer", "verse")

RENAMED_VOICES: Mapping[str, str] = {"fable": "ballad", "nova": "marin", "onyx": "cedar"}
"""Of the text-to-speech models, which the realtime ones refuse."""

RENAMED_MODELS: Mapping[str, str] = {
    "gpt-realtime": "gpt-realtime-2.1",
    "gpt-realtime-mini": "gpt-realtime-2.1-mini",
    "gpt-4o-realtime-preview": "gpt-realtime-2.1",
    "gpt-4o-mini-realtime-preview": "gpt-realtime-2.1-mini",
}
RENAMED_TRANSCRIBERS: Mapping[str, str] = {
    "whisper-1": DEFAULT_TRANSCRIBER,
    "gpt-4o-transcribe": DEFAULT_TRANSCRIBER,
    "gpt-4o-mini-transcribe": DEFAULT_TRANSCRIBER,
}
"""Models that are gone or end within months (providers' page of deprecations)."""

_log = logging.getLogger("offhook.bridge")

Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=10_000)]


class TurnDetection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """As OpenAI has it; what is left out is our default for the phone."""

    type: Literal["server_vad", "semantic_vad"] = "server_vad"
    threshold: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    prefix_padding_ms: Milliseconds | None = None
    silence_duration_ms: Milliseconds | None = None
    idle_timeout_ms: Annotated[int, msgspec.Meta(ge=5000, le=30_000)] | None = None
    eagerness: Literal["low", "medium", "high", "auto"] | None = None
    create_response: bool | None = None
    interrupt_response: bool | None = None


class OpenAiOptions(ProviderOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``turn_detection`` null: the provider detects no turns, we do. ``transcription_model`` "": none.

    ``protocol`` "beta": the older names and shapes, for servers that never learnt others. ``auth``: how the key is
    sent; "auto" is as Azure wants it where the URL is Azure's, else as a bearer token. ``greeting`` and
    ``instructions`` stand in for an agent's empty ones.
    """

    voice: str = ""
    turn_detection: TurnDetection | Literal["server_vad", "semantic_vad"] | msgspec.UnsetType | None = msgspec.UNSET
    transcription_model: str = DEFAULT_TRANSCRIBER
    keywords: tuple[str, ...] = ()
    noise_reduction: Literal["", "near_field", "far_field"] = ""
    language: str = ""
    speed: Annotated[float, msgspec.Meta(ge=0.25, le=1.5)] | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    max_output_tokens: Annotated[int, msgspec.Meta(ge=1, le=32_000)] | Literal["inf"] | None = None
    parallel_tool_calls: bool | None = None
    protocol: Literal["ga", "beta"] = "ga"
    auth: Literal["auto", "bearer", "api-key", "none"] = "auto"
    greeting: str = ""
    instructions: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Setup:
    """Everything that is settled before a call: checked, with old names replaced. Keys are not in its repr."""

    options: OpenAiOptions = field(repr=False)
    url: str = field(repr=False)
    headers: Headers = field(repr=False)
    model: str
    voice: str
    language: str
    transcriber: str
    ours: bool
    """The vendor's own service, whose names and limits are known."""
    judged: bool = False
    """As ``ProviderAccess`` has it."""


def setup_of(agent: Agent, given: ProviderAccess) -> Setup:
    """Raises ``ConfigError`` with a path from ``options`` on, or ``voice``."""
    options = read_options(agent, OpenAiOptions)
    access = access_of(agent, options, given, vendor_url=VENDOR_URL)
    ours = urlsplit(access.base_url).hostname == urlsplit(VENDOR_URL).hostname
    if ours or _is_azure(access) or options.auth in ("bearer", "api-key"):
        need_key(access, KEY_VARIABLE)
    model = _renamed("model", options.model or DEFAULT_MODEL, RENAMED_MODELS if ours else {})
    voice = _renamed("voice", options.voice or agent.voice or DEFAULT_VOICE, RENAMED_VOICES)
    transcriber = _renamed("transcription model", options.transcription_model, RENAMED_TRANSCRIBERS if ours else {})
    _check(options, model, voice, ours=ours)
    return Setup(
        options=options,
        url=_url(access.base_url, model),
        headers=_headers(access, options),
        model=model,
        voice=voice,
        language=(options.language or agent.language).split("-")[0].lower(),
        transcriber=transcriber,
        ours=ours,
        judged=access.judged,
    )


def _check(options: OpenAiOptions, model: str, voice: str, *, ours: bool) -> None:
    if ours and voice not in VOICES and not voice.startswith("voice_"):
        where = "options.voice" if options.voice else "voice"
        raise ConfigError(where, f"{voice!r} is no voice of OpenAI Realtime", f"Use one of: {', '.join(VOICES)}")
    if ours and options.reasoning_effort is not None and not model.startswith(THINKING_MODELS):
        fix = f"Leave it out, or use a model like {DEFAULT_MODEL}"
        raise ConfigError("options.reasoning_effort", f"{model} does not take it", fix)
    detection = options.turn_detection
    if isinstance(detection, TurnDetection):
        _check_detection(detection)


def _check_detection(detection: TurnDetection) -> None:
    semantic = detection.type == "semantic_vad"
    misplaced = (
        ("threshold", "prefix_padding_ms", "silence_duration_ms", "idle_timeout_ms") if semantic else ("eagerness",)
    )
    for name in misplaced:
        if getattr(detection, name) is not None:
            key = f"options.turn_detection.{name}"
            raise ConfigError(key, f"does not go with the type {detection.type}", "Leave it out, or change the type")


def _url(base_url: str, model: str) -> str:
    """``…/realtime?model=``; a URL that ends in ``/realtime`` itself, or has a query, is kept."""
    parts = urlsplit(base_url)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    path = parts.path if parts.path.endswith("/realtime") else parts.path.rstrip("/") + "/realtime"
    query = parts.query
    if "model=" not in query and "deployment=" not in query:
        query = "&".join(filter(None, (query, urlencode({"model": model}))))
    return urlunsplit((scheme, parts.netloc, path, query, ""))


def _headers(access: ProviderAccess, options: OpenAiOptions) -> Headers:
    """The beta header selects a retired protocol at OpenAI, and is what older servers insist on."""
    auth = options.auth if options.auth != "auto" else "api-key" if _is_azure(access) else "bearer"
    headers = dict(options.headers)
    if access.api_key and auth == "bearer":
        headers.setdefault("Authorization", f"Bearer {access.api_key}")
    elif access.api_key and auth == "api-key":
        headers.setdefault("api-key", access.api_key)
    if options.protocol == "beta":
        headers.setdefault("OpenAI-Beta", "realtime=v1")
    return tuple(headers.items())


def _is_azure(access: ProviderAccess) -> bool:
    return (urlsplit(access.base_url).hostname or "").endswith(".azure.com")


def _renamed(what: str, name: str, new_names: Mapping[str, str]) -> str:
    dateless = name.split("-20", 1)[0]
    new = new_names.get(name) or new_names.get(dateless)
    if new is None:
        return name
    _warn(what, name, new)
    return new


@cache
def _warn(what: str, old: str, new: str) -> None:
    """Once for each name, though many agents and calls have it."""
    _log.warning("OpenAI Realtime: the %s %s is retired; %s is used instead", what, old, new)
