"""A configuration out of a text and an environment, as `serve` would read it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from offhook.config import Settings, all_problems, load_settings
from offhook.model.errors import ConfigError
from offhook.server.providers import provider_problems

VENDOR_KEYS = {
    "OPENAI_API_KEY": "key",
    "ELEVEN_LABS_API_KEY": "key",
    "GEMINI_API_KEY": "key",
    "DEEPGRAM_API_KEY": "key",
    "CARTESIA_API_KEY": "key",
}
"""As SIP4AI's document names them."""

ACCOUNT = {
    "SIP_USERNAME": "user",
    "SIP_PASSWORD": "pass",
    "SIP_DOMAIN": "pbx.example.com",
    "SIP_SERVER": "pbx.example.com",
}

Document = Mapping[str, Any] | str


def written(folder: Path, document: Document) -> Path:
    file = folder / "config.json"
    file.write_text(document if isinstance(document, str) else json.dumps(document))
    return file


def load(folder: Path, document: Document, environment: Mapping[str, str] | None = None, **flags: Any) -> Settings:
    """``flags``: ``http__port`` for ``http.port``."""
    named = {key.replace("__", "."): value for key, value in flags.items()}
    return load_settings(written(folder, document), environment or {}, named)


def problems_of(folder: Path, document: Document, environment: Mapping[str, str] | None = None) -> list[ConfigError]:
    """All that `offhook config check` would tell, but for files."""
    file = written(folder, document)
    found = all_problems(file, environment or {})
    return found or list(provider_problems(load_settings(file, environment or {})))
