"""What a record made by the API may say, where config.json may say more: its writer is a tenant, not the operator."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from offhook.model.call_events import DEFAULT_ACCOUNT
from offhook.model.errors import ConfigError
from offhook.model.records import is_fetched
from offhook.store.forms import AgentForm, AnyForm, FallbackForm, NumberForm, ToolForm
from offhook.store.trunk_forms import OpenForm

_PLACE = re.compile(r"(?i)(?P<part>.*?)(?:base_|endpoint_)?(?P<what>url|headers)")
"""Options that say where a provider, or a part of one, is reached: ``base_url``, ``stt_base_url``, ``headers`` …"""

_FILE_FIX = "Give the https URL of a WAV file, name the file in config.json, or leave it out"


def _any_url(url: str) -> str:
    return ""


def _any_agent(agent: AgentForm) -> None:
    pass


@dataclass(frozen=True, kw_only=True, slots=True)
class Rights:
    """``providers``: names that agents may have; empty: any. ``url_problem``: why a URL may not be reached, "" where it
    may. ``provider_check``: raises ``ConfigError`` for an agent that its provider, or a fallback's, cannot work with.
    """

    providers: Collection[str] = ()
    url_problem: Callable[[str], str] = _any_url
    provider_check: Callable[[AgentForm], None] = _any_agent

    def check(self, account_id: str, form: AnyForm) -> None:
        """Raises ``ConfigError`` naming the field."""
        match form:
            case AgentForm():
                self.check_agent(form)
            case ToolForm(hold_audio=hold_audio) if hold_audio:
                self._check_hold_audio(hold_audio)
            case NumberForm(user="*", trunk="") if account_id != DEFAULT_ACCOUNT:
                fix = "Name a trunk of this account, or list the numbers"
                raise ConfigError("user", "every number of trunks that all accounts share is the operator's", fix)
            case OpenForm() if account_id != DEFAULT_ACCOUNT:
                fix = "Make a register or a gateway trunk, or ask the operator"
                raise ConfigError("kind", "only the operator may let anyone call this server", fix)
            case _:
                pass

    def _check_hold_audio(self, hold_audio: str) -> None:
        if not is_fetched(hold_audio):
            raise ConfigError("hold_audio", "is a file of the server, which the API cannot name", _FILE_FIX)
        if problem := self.url_problem(hold_audio):
            raise ConfigError("hold_audio", problem, "Use a public https address, or ask the operator")

    def check_agent(self, agent: AgentForm) -> None:
        """Raises ``ConfigError``."""
        self._check_provider("", agent.provider, agent.options)
        if agent.hold_audio:
            fix = "Name it for an agent of config.json, or leave it out for our melody"
            raise ConfigError("hold_audio", "is a file of the server, which the API cannot name", fix)
        for index, fallback in enumerate(agent.fallbacks):
            self._check_fallback(f"fallbacks[{index}].", fallback)
        self.provider_check(agent)

    def _check_fallback(self, key: str, fallback: FallbackForm) -> None:
        if fallback.prompt not in ("", "default"):
            fix = 'Write "default" for ours'
            raise ConfigError(f"{key}prompt", "is a file of the server, which the API cannot name", fix)
        if fallback.provider:
            self._check_provider(key, fallback.provider, fallback.options)

    def _check_provider(self, key: str, provider: str, options: Mapping[str, Any]) -> None:
        if self.providers and provider not in self.providers:
            fix = f"Use one of: {', '.join(sorted(self.providers))}"
            raise ConfigError(f"{key}provider", f"there is no {provider!r}", fix)
        for name, value, beside in _places(f"{key}options.", options):
            part = _PLACE.fullmatch(name.rpartition(".")[2])
            stem = part["part"] if part is not None else ""
            if not beside.get(f"{stem}api_key") and not beside.get(f"{stem}key"):
                fix = f"Give {stem}api_key beside it; any text, where the place wants none"
                raise ConfigError(name, "would get the key of this server", fix)
            if isinstance(value, str) and (problem := self.url_problem(value)):
                raise ConfigError(name, problem, "Use a public https or wss address, or ask the operator")


def _places(key: str, options: Mapping[str, Any]) -> Iterator[tuple[str, Any, Mapping[str, Any]]]:
    """Each option that names a place: its path, its value, and the options beside it."""
    for name, value in options.items():
        if value and _PLACE.fullmatch(name):
            yield f"{key}{name}", value, options
        elif isinstance(value, Mapping):
            yield from _places(f"{key}{name}.", value)
