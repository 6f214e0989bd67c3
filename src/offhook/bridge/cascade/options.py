"""What an agent's ``options`` may hold for ``pipeline`` and ``cartesia``, and the parts that come of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import msgspec

from offhook.bridge.cascade.endpointing import EAGER_MS, END_MS, Pauses
from offhook.bridge.cascade.llm_chat import FIRST_WORD_S, ModelSettings
from offhook.bridge.cascade.ports import PartSettings, SttVendor, TtsVendor
from offhook.bridge.cascade.stt_http import Transcribing
from offhook.bridge.cascade.vendors import LLM_VENDORS, STT_VENDORS, TTS_VENDORS, HttpVendor, current_name
from offhook.bridge.options import ProviderOptions, read_options
from offhook.bridge.outside import Outside
from offhook.model.errors import ConfigError
from offhook.model.records import Agent

RATES_HZ = (8000, 48000)

SHARED_ACCESS = "pipeline"
"""Whose URL and key of this server are those of ``custom`` parts."""

Vendor = SttVendor | TtsVendor | HttpVendor


class CascadeOptions(ProviderOptions, frozen=True):
    """``base_url``, ``api_key`` and ``headers`` serve every ``custom`` part that has none of its own.

    ``…_extra``: the vendor's own parameters by their own names. ``tts_sample_rate`` 0: asked of the server.
    ``stt_eager_ms``, ``stt_end_ms``: silence that makes a trial, and the end; for recognisers over HTTP.
    """

    stt_provider: str = "custom"
    stt_base_url: str = ""
    stt_api_key: str = ""
    stt_model: str = ""
    stt_language: str = ""
    stt_keywords: tuple[str, ...] = ()
    stt_stream: bool = False
    stt_eager_ms: int = EAGER_MS
    stt_end_ms: int = END_MS
    stt_extra: dict[str, Any] = msgspec.field(default_factory=dict)
    llm_provider: str = "custom"
    llm_base_url: str = ""
    llm_api_key: str = ""
    llm_model: str = ""
    llm_temperature: float | None = None
    llm_max_tokens: int = 0
    llm_reasoning_effort: str = ""
    llm_timeout_s: float = FIRST_WORD_S
    llm_extra: dict[str, Any] = msgspec.field(default_factory=dict)
    tts_provider: str = "custom"
    tts_base_url: str = ""
    tts_api_key: str = ""
    tts_model: str = ""
    tts_voice: str = ""
    tts_speed: float = 1.0
    tts_sample_rate: int = 0
    tts_extra: dict[str, Any] = msgspec.field(default_factory=dict)


class CartesiaOptions(CascadeOptions, frozen=True):
    """``voice_id``: the voice's UUID. ``api_key`` and ``base_url`` are Cartesia's; ``model`` is the voice's."""

    stt_provider: str = "deepgram"
    llm_provider: str = "openai"
    tts_provider: str = "cartesia"
    voice_id: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The parts of one agent, checked."""

    stt_vendor: SttVendor | HttpVendor
    stt: PartSettings
    transcribing: Transcribing
    llm_vendor: HttpVendor
    llm: ModelSettings
    tts_vendor: TtsVendor | HttpVendor
    tts: PartSettings
    tts_rate_hz: int

    @property
    def names(self) -> str:
        return f"{self.stt_vendor.name}, {self.llm_vendor.name}, {self.tts_vendor.name}"


def plan_of(agent: Agent, options: CascadeOptions, outside: Outside) -> Plan:
    """Raises ``ConfigError`` naming the option."""
    stt_vendor = _chosen("stt", options.stt_provider, STT_VENDORS)
    llm_vendor = _chosen("llm", options.llm_provider, LLM_VENDORS)
    tts_vendor = _chosen("tts", options.tts_provider, TTS_VENDORS)
    _check_numbers(options)
    settle = partial(_settings, agent, options=options, outside=outside)
    stt = settle("stt", stt_vendor)
    llm = _model(settle("llm", llm_vendor), options)
    tts = settle("tts", tts_vendor)
    return Plan(
        stt_vendor=stt_vendor,
        stt=replace(
            stt,
            language=options.stt_language or agent.language,
            keywords=options.stt_keywords,
        ),
        transcribing=Transcribing(
            pauses=Pauses(eager_ms=options.stt_eager_ms, end_ms=options.stt_end_ms), streams=options.stt_stream
        ),
        llm_vendor=llm_vendor,
        llm=llm,
        tts_vendor=tts_vendor,
        tts=replace(tts, language=agent.language, voice=_voice(agent, options, tts_vendor), speed=options.tts_speed),
        tts_rate_hz=options.tts_sample_rate or _known_rate(tts_vendor),
    )


def pipeline_options(agent: Agent) -> CascadeOptions:
    """Raises ``ConfigError``."""
    return read_options(agent, CascadeOptions)


def cartesia_options(agent: Agent) -> CascadeOptions:
    """As SIP4AI's ``cartesia{…}`` has them too: the whole object may stand as the option ``cartesia``.

    Raises ``ConfigError``.
    """
    nested = agent.options.get("cartesia")
    if isinstance(nested, Mapping):
        rest = {name: value for name, value in agent.options.items() if name != "cartesia"}
        agent = replace(agent, options={**nested, **rest})
    options = read_options(agent, CartesiaOptions)
    if options.tts_provider != "cartesia":
        fix = "Leave it out, or use the provider pipeline"
        raise ConfigError("options.tts_provider", "is Cartesia with this provider", fix)
    return msgspec.structs.replace(
        options,
        tts_voice=options.tts_voice or options.voice_id,
        tts_model=options.tts_model or options.model,
        tts_api_key=options.tts_api_key or options.api_key,
        tts_base_url=options.tts_base_url or options.base_url,
        api_key="",
        base_url="",
        model="",
    )


def _chosen(part: str, name: str, vendors: Mapping[str, Any]) -> Any:
    vendor = vendors.get(name)
    if vendor is None:
        known = ", ".join(sorted(vendors))
        raise ConfigError(f"options.{part}_provider", f"there is no {name!r}", f"Use one of: {known}")
    return vendor


def _settings(agent: Agent, part: str, vendor: Vendor, *, options: CascadeOptions, outside: Outside) -> PartSettings:
    """URL, key and model of a part: its own, else what serves all, else the server's, else the vendor's.

    A tenant's part that leads elsewhere, or adds headers, gets no key of the server's.
    """
    if vendor.name == "local":
        if outside.local_voice is None:
            fix = "Run pip install 'offhook[local]', or choose another"
            raise ConfigError("options.tts_provider", "there is no local voice on this server", fix)
        return PartSettings(base_url="")
    own_url, own_key = str(getattr(options, f"{part}_base_url")), str(getattr(options, f"{part}_api_key"))
    shared = vendor.name == "custom"
    given = outside.access(SHARED_ACCESS if shared else vendor.name)
    agents_url = own_url or (options.base_url if shared else "")
    url = agents_url or given.base_url or vendor.url
    _check_url(part, url)
    led = bool(agents_url or (shared and options.headers)) and not agent.by_operator
    key = own_key or (options.api_key if shared else "") or ("" if led else given.api_key)
    if not key and (vendor.key_need == "always" or url.rstrip("/") == vendor.url) and not shared:
        fix = f"Set {vendor.key_variable} in the environment, or options.{part}_api_key"
        raise ConfigError(f"options.{part}_api_key", "is missing", fix)
    model = current_name(f"{part}_model", str(getattr(options, f"{part}_model")), vendor.renamed)
    own_model = vendor.model if isinstance(vendor, HttpVendor) else ""
    return PartSettings(
        base_url=url.rstrip("/"),
        api_key=key,
        judged=bool(agents_url) and not agent.by_operator,
        headers=options.headers if shared else {},
        model=model or own_model,
        extra=getattr(options, f"{part}_extra"),
    )


def _check_url(part: str, url: str) -> None:
    if not url:
        fix = "Write it like http://127.0.0.1:8000/v1 (options.base_url serves all parts)"
        raise ConfigError(f"options.{part}_base_url", "is missing", fix)
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss", "http", "https") or not parts.hostname:
        raise ConfigError(f"options.{part}_base_url", f"{url!r} is no URL", "Write it like http://127.0.0.1:8000/v1")


def _model(settings: PartSettings, options: CascadeOptions) -> ModelSettings:
    model = settings.model or options.model
    if not model:
        raise ConfigError("options.llm_model", "is missing", "Name a model that the server has")
    fields = dict(settings.extra)
    if options.llm_temperature is not None:
        fields["temperature"] = options.llm_temperature
    if options.llm_reasoning_effort:
        fields["reasoning_effort"] = options.llm_reasoning_effort
    return ModelSettings(
        base_url=settings.base_url,
        model=model,
        api_key=settings.api_key,
        judged=settings.judged,
        headers=settings.headers,
        max_tokens=options.llm_max_tokens,
        fields=fields,
        first_word_s=options.llm_timeout_s,
    )


def _voice(agent: Agent, options: CascadeOptions, vendor: Vendor) -> str:
    voice = options.tts_voice or agent.voice
    if not voice and isinstance(vendor, TtsVendor):
        voice = vendor.default_voice
        if not voice:
            key = "options.voice_id" if isinstance(options, CartesiaOptions) else "options.tts_voice"
            raise ConfigError(key, "is missing", f"Name a voice of {vendor.name}")
    return voice


def _known_rate(vendor: Vendor) -> int:
    """OpenAI's own voices are documented to be at 24 kHz; every other server is asked."""
    return 24000 if vendor.name == "openai" else 0


def _check_numbers(options: CascadeOptions) -> None:
    rate = options.tts_sample_rate
    if rate and not RATES_HZ[0] <= rate <= RATES_HZ[1]:
        raise ConfigError("options.tts_sample_rate", f"{rate} Hz is no rate of speech", "Use 8000 to 48000, or 0")
    if not 100 <= options.stt_eager_ms <= options.stt_end_ms <= 5000:
        fix = "Use 100 to 5000, the first not above the second"
        raise ConfigError("options.stt_eager_ms", f"{options.stt_eager_ms} before {options.stt_end_ms}", fix)
    if not 1 <= options.llm_timeout_s <= 120:
        raise ConfigError("options.llm_timeout_s", f"{options.llm_timeout_s:g} s is no time to wait", "Use 1 to 120")
