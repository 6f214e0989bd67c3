"""What of config.json a server takes while it serves, and what it takes at its next start only."""

from __future__ import annotations

import msgspec

from offhook.config.section import Section
from offhook.config.settings import Settings
from offhook.config.sip4ai_keys import ProviderSection

_LISTS = ("agents", "numbers", "trunks", "tools", "squads", "webhooks", "functions")
_PROVIDERS = tuple(field.name for field in msgspec.structs.fields(Settings) if field.type is ProviderSection)

RELOADED = frozenset({*_LISTS, *_PROVIDERS, "provider", "audio_file", "outbound", "event_webhook", "dialling"})
"""Keys of config.json that `offhook reload` makes true at once; TLS files are read again where they are."""


def waits_for_restart(before: Settings, after: Settings) -> tuple[str, ...]:
    """The keys that differ and are not taken over: ``sip.port``, ``max_calls`` …"""
    found = _differing("", before, after)
    spelt = ("http.enabled", "http.port") if "api_port" in found else ()
    return tuple(name for name in found if name not in spelt)


def _differing(path: str, before: msgspec.Struct, after: msgspec.Struct) -> list[str]:
    found = []
    for name in before.__struct_fields__:
        if not path and name in RELOADED:
            continue
        one, other = getattr(before, name), getattr(after, name)
        if isinstance(one, Section):
            found += _differing(f"{name}.", one, other)
        elif one != other:
            found.append(f"{path}{name}")
    return found
