"""What an agent's ``options`` may hold for its provider: one frozen struct each, unknown names are errors."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from offhook.model.errors import ConfigError
from offhook.model.records import Agent
from offhook.model.written_values import choices

UNKNOWN_OPTION = "is not known"
KNOWN_ARE = "Known are: "
"""The problem with an option that the provider does not have, and the fix: the names of those it has."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProviderAccess:
    """How this server reaches a provider, unless an agent's options say otherwise: ``base_url`` "" is the vendor's.

    ``judged``: the URL is a tenant's, so where it leads is judged at connecting (``guard``).
    """

    api_key: str = field(default="", repr=False)
    base_url: str = field(default="", repr=False)
    judged: bool = False


class ProviderOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every provider has. ``headers`` go with each request beside the provider's own."""

    api_key: str = ""
    base_url: str = ""
    headers: dict[str, str] = {}
    model: str = ""

    def __repr__(self) -> str:
        """Keys, and what may hold some, are in no log."""
        return f"{type(self).__name__}(model={self.model!r})"


T = TypeVar("T", bound=msgspec.Struct)


def read_options(agent: Agent, options: type[T]) -> T:
    """Raises ``ConfigError`` whose key is a path from ``options`` on."""
    try:
        return msgspec.convert(dict(agent.options), options)
    except msgspec.ValidationError as error:
        problem, _, path = str(error).partition(" - at ")
        unknown = re.search(r"unknown field `([^`]+)`", problem)
        key = "options" + path.strip("`").removeprefix("$") + (f".{unknown.group(1)}" if unknown else "")
        names = ", ".join(field.name for field in msgspec.structs.fields(options))
        page = f"See docs/providers/{agent.provider}.md"
        words = "" if unknown else choices(options, path)
        fix = f"{KNOWN_ARE}{names}" if unknown and path in ("", "`$`") else f"Use one of: {words}" if words else page
        raise ConfigError(key, UNKNOWN_OPTION if unknown else problem, fix) from None


def access_of(agent: Agent, options: ProviderOptions, given: ProviderAccess, *, vendor_url: str) -> ProviderAccess:
    """The agent's own key and URL where it has them, else the server's, else the vendor's. Raises ``ConfigError``.

    A tenant's agent that leads elsewhere, or adds headers (``Host`` leads elsewhere too), gets no key of the server's.
    """
    url = options.base_url or given.base_url or vendor_url
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss", "http", "https") or not parts.hostname:
        raise ConfigError("options.base_url", f"{url!r} is no URL", f"Write it like {vendor_url}")
    led = bool(options.base_url or options.headers) and not agent.by_operator
    return ProviderAccess(
        api_key=options.api_key or ("" if led else given.api_key),
        base_url=url.rstrip("/"),
        judged=bool(options.base_url) and not agent.by_operator,
    )


def need_key(access: ProviderAccess, variable: str) -> None:
    """Raises ``ConfigError`` where there is no key."""
    if not access.api_key:
        raise ConfigError("options.api_key", "is missing", f"Set {variable} in the environment, or options.api_key")


def as_json(text: str) -> Any:
    """A tool's parameters; checked when the tool was made."""
    return msgspec.json.decode(text or "{}")
