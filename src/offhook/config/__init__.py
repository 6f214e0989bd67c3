"""config.json (comments and trailing commas allowed) + environment + flags -> frozen ``Settings``, read once.

Precedence, weakest first: defaults, the file, the environment (``OFFHOOK_`` + the key's path in capitals:
``OFFHOOK_SIP_PORT``), flags. Every error names the key and the fix (``ConfigError``). Later features add
sections to ``settings.py``, not mechanisms.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from offhook.config.checking import convert, settings_problems, shape_problems
from offhook.config.definitions import DEMO_AGENT_ID, agents_of, forms_of, numbers_of, trunks_of
from offhook.config.reading import file_of, merge, misspelt
from offhook.config.reloading import waits_for_restart
from offhook.config.schema import config_schema
from offhook.config.settings import (
    DatabaseSettings,
    DiallingSettings,
    HttpSettings,
    LogSettings,
    RetentionSettings,
    RtpSettings,
    SecuritySettings,
    Settings,
    SipSettings,
    TelemetrySettings,
    TlsFiles,
)
from offhook.config.sip4ai import provider_agent, provider_record
from offhook.config.sip4ai_keys import OutboundSettings
from offhook.model.errors import ConfigError

__all__ = [
    "DEMO_AGENT_ID",
    "DatabaseSettings",
    "DiallingSettings",
    "HttpSettings",
    "LogSettings",
    "OutboundSettings",
    "RetentionSettings",
    "RtpSettings",
    "SecuritySettings",
    "Settings",
    "SipSettings",
    "TelemetrySettings",
    "TlsFiles",
    "agents_of",
    "all_problems",
    "config_schema",
    "file_of",
    "forms_of",
    "load_settings",
    "misspelt",
    "numbers_of",
    "provider_agent",
    "provider_record",
    "trunks_of",
    "waits_for_restart",
]


def load_settings(
    path: Path | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
) -> Settings:
    """Read, merge and check. ``flags`` maps key paths (``sip.port``) to values; None values are left out.

    Raises ``ConfigError``.
    """
    merged = merge(path, os.environ if environment is None else environment, flags)
    for problem in merged.problems:
        raise problem
    settings = convert(merged.document)
    for problem in settings_problems(settings):
        raise problem
    return settings


def all_problems(path: Path | None = None, environment: Mapping[str, str] | None = None) -> list[ConfigError]:
    """Every problem ``load_settings`` would meet, not only the first one; empty: it would not raise."""
    try:
        merged = merge(path, os.environ if environment is None else environment)
    except ConfigError as error:
        return [error]
    document = merged.document
    return [*merged.problems, *(list(shape_problems(document)) or settings_problems(convert(document)))]
