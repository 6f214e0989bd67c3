"""What Deepgram's Voice Agent is told first: an agent and its options, as the message ``Settings``.

developers.deepgram.com/docs/configure-voice-agent. Their schema takes no null and no float where an integer stands, so
what is not set is left out, and whole numbers are written whole.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any, Literal

import msgspec

from offhook.bridge.codec import ToolSpec, Utterance
from offhook.bridge.options import ProviderOptions, as_json
from offhook.bridge.told import newest
from offhook.model.audio import AudioFormat, Encoding
from offhook.model.errors import ConfigError
from offhook.model.records import Agent

DEFAULT_LISTEN = "flux-general-en"
MULTILINGUAL_LISTEN = "flux-general-multi"

DEFAULT_THINK = "gpt-4.1-mini"
"""Of the models that Deepgram manages; gpt-4o-mini ends in January 2027, and reasoning models fail with functions."""

DEFAULT_SPEAK = "aura-2-thalia-en"

SPEAK_BY_LANGUAGE: Mapping[str, str] = {
    "de": "aura-2-viktoria-de",
    "en": DEFAULT_SPEAK,
    "es": "aura-2-celeste-es",
    "fr": "aura-2-agathe-fr",
    "it": "aura-2-livia-it",
    "ja": "aura-2-izanami-ja",
    "nl": "aura-2-rhea-nl",
}

RENAMED: Mapping[str, str] = dict.fromkeys(
    ("alloy", "ash", "ballad", "coral", "echo", "fable", "nova", "onyx", "sage", "shimmer", "verse"), ""
)
"""Voices of another vendor that configurations of old name: "" is the default of the agent's language."""

SPEAK_PREFIXES = ("aura-", "flux-")

MAX_PROMPT_CHARACTERS = 25_000
"""Of a prompt for a model that Deepgram manages; a longer one is cut off by the server."""

MAX_NOTES = 50
NOTES_CHARACTERS = MAX_PROMPT_CHARACTERS // 2
"""Of what is added to the prompt in a call."""

SpeakProvider = Literal["deepgram", "eleven_labs", "cartesia", "open_ai"]

_ENCODINGS: Mapping[Encoding, str] = {Encoding.PCMU: "mulaw", Encoding.PCMA: "alaw", Encoding.L16: "linear16"}

_SPEAK_MODELS: Mapping[str, str] = {"eleven_labs": "eleven_flash_v2_5", "cartesia": "sonic-3.5", "open_ai": "tts-1"}

_log = logging.getLogger("offhook.bridge")


class DeepgramOptions(ProviderOptions, frozen=True):
    """``model``: the voice. ``think_…``: the language model, with an endpoint where it is not one of Deepgram's own.

    ``greeting`` and ``system_prompt`` stand in for an agent's empty ``greeting`` and ``instructions``. ``early_tools``:
    functions that may be called before the caller's turn is sure to be over, as they change nothing.
    """

    listen_model: str = ""
    language: str = ""
    keyterms: tuple[str, ...] = ()
    smart_format: bool | None = None
    eot_threshold: Annotated[float, msgspec.Meta(ge=0.5, le=1.0)] | None = None
    eager_eot_threshold: Annotated[float, msgspec.Meta(ge=0.3, le=0.9)] | None = None
    eot_timeout_ms: Annotated[int, msgspec.Meta(ge=500, le=10_000)] | None = None
    think_provider: Literal["open_ai", "anthropic", "google", "groq", "deepgram"] = "open_ai"
    think_model: str = DEFAULT_THINK
    think_temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    think_endpoint_url: str = ""
    think_endpoint_headers: dict[str, str] = msgspec.field(default_factory=dict)
    think_key: str = ""
    context_length: Annotated[int, msgspec.Meta(ge=2)] | Literal["max"] | None = None
    speak_provider: SpeakProvider = "deepgram"
    speak_model: str = ""
    speak_endpoint_url: str = ""
    speak_endpoint_headers: dict[str, str] = msgspec.field(default_factory=dict)
    speak_key: str = ""
    speed: Annotated[float, msgspec.Meta(ge=0.7, le=1.5)] | None = None
    early_tools: tuple[str, ...] = ()
    mip_opt_out: bool | None = None
    tags: tuple[str, ...] = ()
    greeting: str = ""
    system_prompt: str = ""


def check_options(agent: Agent, options: DeepgramOptions) -> None:
    """Raises ``ConfigError`` for what the real service would refuse only when a call is up."""
    voice = voice_of(agent, options)
    if options.speak_provider == "deepgram" and not voice.startswith(SPEAK_PREFIXES):
        fix = f"Use a voice like {DEFAULT_SPEAK}; a model that listens is options.listen_model"
        raise ConfigError("options.model" if options.model else "voice", f"{voice!r} is no voice of Deepgram's", fix)
    if options.speak_provider != "deepgram" and not options.speak_key and not options.speak_endpoint_headers:
        raise ConfigError("options.speak_key", "is missing", f"Give the key of {options.speak_provider}")
    if options.speak_provider in ("eleven_labs", "cartesia") and not voice:
        raise ConfigError("options.model", "is missing", f"Give the id of a voice of {options.speak_provider}")
    if options.think_provider == "groq" and not options.think_endpoint_url:
        fix = "Give https://api.groq.com/openai/v1/chat/completions, and options.think_key"
        raise ConfigError("options.think_endpoint_url", "is missing", fix)
    if options.context_length is not None and not options.think_endpoint_url:
        fix = "Leave it out, or give options.think_endpoint_url"
        raise ConfigError("options.context_length", "is for a model behind an endpoint of your own", fix)


def voice_of(agent: Agent, options: DeepgramOptions) -> str:
    """The agent's own, in the words of who speaks; names of old are replaced, with a warning."""
    named = options.model or agent.voice
    if options.speak_provider != "deepgram":
        return named or ("alloy" if options.speak_provider == "open_ai" else "")
    default = SPEAK_BY_LANGUAGE.get(_language(agent, options).split("-")[0].lower(), DEFAULT_SPEAK)
    if named in RENAMED:
        _warn_of_old_name(named, RENAMED[named] or default)
        named = RENAMED[named]
    return named or default


@lru_cache(maxsize=256)
def _warn_of_old_name(old: str, new: str) -> None:
    """Once for each."""
    _log.warning("Deepgram has no voice %r: %r speaks instead. Set options.model", old, new)


def greeting_of(agent: Agent, options: DeepgramOptions) -> str:
    return agent.greeting or options.greeting


def instructions_of(agent: Agent, options: DeepgramOptions) -> str:
    return agent.instructions or options.system_prompt


class PromptNotes:
    """What the agent was told since the call began; the oldest is forgotten first."""

    def __init__(self) -> None:
        self.texts: deque[str] = deque(maxlen=MAX_NOTES)

    def add(self, text: str) -> None:
        self.texts.append(text)
        while sum(map(len, self.texts)) > NOTES_CHARACTERS and len(self.texts) > 1:
            self.texts.popleft()

    def merged(self, instructions: str) -> str:
        """The whole prompt."""
        notes = "\n".join(f"- {text}" for text in self.texts)
        return f"{instructions}\n\nSince the call began:\n{notes}" if notes else instructions


# ── the message ──────────────────────────────────────────────────────────────────────────────────────────


def settings(
    agent: Agent,
    options: DeepgramOptions,
    *,
    formats: tuple[AudioFormat, AudioFormat],
    think: Mapping[str, Any],
    greeting: str,
    history: Sequence[Utterance],
) -> bytes:
    """``Settings``; ``formats``: in and out. ``greeting`` "" and an empty ``history`` are left out."""
    heard, spoken = formats
    document = {
        "type": "Settings",
        "tags": list(options.tags) or None,
        "mip_opt_out": options.mip_opt_out,
        "audio": {
            "input": {"encoding": _ENCODINGS[heard.encoding], "sample_rate": heard.sample_rate_hz},
            "output": {
                "encoding": _ENCODINGS[spoken.encoding],
                "sample_rate": spoken.sample_rate_hz,
                "container": "none",  # a WAV header would click
            },
        },
        "agent": {
            "listen": {"provider": listen_provider(agent, options)},
            "think": think,
            "speak": speak(agent, options),
            "greeting": greeting or None,
            "context": {"messages": _messages(history)} if history else None,
        },
    }
    return msgspec.json.encode(plain(document))


def listen_provider(agent: Agent, options: DeepgramOptions) -> dict[str, Any]:
    """Flux (v2) judges the end of a turn by what was said, Nova (v1) by silence; their fields differ."""
    language = _language(agent, options)
    foreign = bool(language) and not language.lower().startswith("en")
    model = options.listen_model or (MULTILINGUAL_LISTEN if foreign else DEFAULT_LISTEN)
    common = {"type": "deepgram", "model": model, "keyterms": list(options.keyterms) or None}
    if not model.startswith("flux"):
        return {**common, "version": "v1", "language": language or None, "smart_format": options.smart_format}
    return {
        **common,
        "version": "v2",
        "language_hints": [language] if language and model == MULTILINGUAL_LISTEN else None,
        "eot_threshold": options.eot_threshold,
        "eager_eot_threshold": options.eager_eot_threshold,
        "eot_timeout_ms": options.eot_timeout_ms,
    }


def think(options: DeepgramOptions, prompt: str, tools: Iterable[ToolSpec]) -> dict[str, Any]:
    return {
        "provider": {
            "type": options.think_provider,
            "model": options.think_model,
            "temperature": options.think_temperature,
        },
        "endpoint": _endpoint(options.think_endpoint_url, options.think_endpoint_headers, options.think_key),
        "prompt": prompt or None,
        "context_length": options.context_length,
        "functions": [_function(tool, options) for tool in tools] or None,
    }


def _function(tool: ToolSpec, options: DeepgramOptions) -> dict[str, Any]:
    """Most tools do something that cannot be undone, so they wait for the end of the turn unless told otherwise."""
    return {
        "name": tool.name,
        "description": tool.description,
        "parameters": as_json(tool.parameters) or {"type": "object", "properties": {}},
        "defer_until_eot": None if tool.name in options.early_tools else True,
    }


def speak(agent: Agent, options: DeepgramOptions) -> dict[str, Any]:
    voice = voice_of(agent, options)
    model = options.speak_model or _SPEAK_MODELS.get(options.speak_provider, "")
    url, headers = options.speak_endpoint_url, dict(options.speak_endpoint_headers)
    provider: dict[str, Any]
    match options.speak_provider:
        case "deepgram":
            provider = {"type": "deepgram", "model": voice, "speed": options.speed}
            return {"provider": provider, "endpoint": _endpoint(url, headers, options.speak_key)}
        case "eleven_labs":
            provider = {"type": "eleven_labs", "model_id": model, "language_code": _language(agent, options) or None}
            url = url or f"wss://api.elevenlabs.io/v1/text-to-speech/{voice}/multi-stream-input"
            key_header = {"xi-api-key": options.speak_key}
        case "cartesia":
            language = _language(agent, options) or None
            provider = {
                "type": "cartesia",
                "model_id": model,
                "voice": {"mode": "id", "id": voice},
                "language": language,
            }
            url = url or "wss://api.cartesia.ai/tts/websocket"
            key_header = {"x-api-key": options.speak_key}
        case "open_ai":
            provider = {"type": "open_ai", "model": model, "voice": voice}
            url = url or "https://api.openai.com/v1/audio/speech"
            key_header = {"authorization": f"Bearer {options.speak_key}"}
    return {"provider": provider, "endpoint": {"url": url, "headers": {**key_header, **headers}}}


def _endpoint(url: str, headers: Mapping[str, str], key: str) -> dict[str, Any] | None:
    if not url:
        return None
    bearer = {"authorization": f"Bearer {key}"} if key else {}
    return {"url": url, "headers": {**bearer, **headers}}


def _messages(history: Sequence[Utterance]) -> list[dict[str, str]]:
    """The newest of what was said, as much as may be told."""
    roles = {"caller": "user", "agent": "assistant"}
    return [{"type": "History", "role": roles[said.speaker], "content": said.text} for said in newest(history)]


def _language(agent: Agent, options: DeepgramOptions) -> str:
    return options.language or agent.language


def plain(value: Any) -> Any:
    """``value`` without what is None, and with whole numbers as integers."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [plain(each) for each in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
