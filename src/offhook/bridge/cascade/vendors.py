"""Who offers which part of a cascade. One line each."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from offhook.bridge.cascade.ports import KeyNeed, SttVendor, TtsVendor
from offhook.bridge.cascade.stt_cartesia import CARTESIA_STT
from offhook.bridge.cascade.stt_deepgram import DEEPGRAM_STT
from offhook.bridge.cascade.stt_openai import OPENAI_STT
from offhook.bridge.cascade.tts_cartesia import CARTESIA_TTS
from offhook.bridge.cascade.tts_deepgram import DEEPGRAM_TTS
from offhook.bridge.cascade.tts_elevenlabs import ELEVENLABS_TTS

_log = logging.getLogger("offhook.bridge")


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpVendor:
    """One that is spoken to as OpenAI is, over HTTP. ``url`` "": has to be given, and the ``model`` too where it is
    "".
    """

    name: str
    url: str = ""
    key_variable: str = ""
    model: str = ""
    key_need: KeyNeed = "always"
    renamed: Mapping[str, str] = field(default_factory=dict)


STT_VENDORS: Mapping[str, SttVendor | HttpVendor] = {
    "custom": HttpVendor(name="custom", key_need="vendor_url"),
    "cartesia": CARTESIA_STT,
    "deepgram": DEEPGRAM_STT,
    "openai": OPENAI_STT,
}

LLM_VENDORS: Mapping[str, HttpVendor] = {
    "custom": HttpVendor(name="custom", key_need="vendor_url"),
    "openai": HttpVendor(
        name="openai",
        url="https://api.openai.com/v1",
        key_variable="OPENAI_API_KEY",
        model="gpt-4.1-mini",
        key_need="vendor_url",
        renamed={"gpt-4o-mini": "gpt-4.1-mini"},
    ),
    "anthropic": HttpVendor(
        name="anthropic",
        url="https://api.anthropic.com/v1",
        key_variable="ANTHROPIC_API_KEY",
        model="claude-haiku-4-5",
        key_need="vendor_url",
    ),
    "groq": HttpVendor(
        name="groq",
        url="https://api.groq.com/openai/v1",
        key_variable="GROQ_API_KEY",
        model="llama-3.3-70b-versatile",
        key_need="vendor_url",
    ),
}
"""``renamed``: OpenAI ends gpt-4o-mini in January 2027."""

TTS_VENDORS: Mapping[str, TtsVendor | HttpVendor] = {
    "custom": HttpVendor(name="custom", key_need="vendor_url"),
    "openai": HttpVendor(
        name="openai",
        url="https://api.openai.com/v1",
        key_variable="OPENAI_API_KEY",
        model="gpt-4o-mini-tts",
        key_need="vendor_url",
    ),
    "cartesia": CARTESIA_TTS,
    "elevenlabs": ELEVENLABS_TTS,
    "deepgram": DEEPGRAM_TTS,
    "local": HttpVendor(name="local"),
}

_told: set[tuple[str, str]] = set()


def current_name(part: str, name: str, renamed: Mapping[str, str]) -> str:
    """What replaces a model that its vendor ended; told once for each name."""
    new = renamed.get(name, name)
    if new != name and (part, name) not in _told:
        _told.add((part, name))
        _log.warning("%s %r was ended by its vendor: %r is used instead", part, name, new)
    return new
