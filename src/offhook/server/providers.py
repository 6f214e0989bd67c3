"""The AI providers of this server: each begins when the first agent needs it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec

from offhook.bridge import deepgram_agent, elevenlabs_agent, gemini_live, openai_realtime, ultravox
from offhook.bridge.codec import BridgeConnection, BridgeProfile, BridgeRequest, Provider
from offhook.bridge.local.engine import LocalEngine
from offhook.bridge.local.provider import local_provider
from offhook.bridge.options import ProviderAccess
from offhook.bridge.outside import Outside
from offhook.bridge.provider_http import ProviderHttp
from offhook.bridge.registry import SCRIPTED, BridgeRegistry
from offhook.config import Settings
from offhook.config.settings import ProviderSettings, agents_of
from offhook.model.errors import ConfigError
from offhook.model.records import Agent

HOSTED: Mapping[str, Callable[[Outside], Provider]] = {
    "deepgram": deepgram_agent.provider,
    "elevenlabs": elevenlabs_agent.provider,
    "ultravox": ultravox.provider,
    "gemini": gemini_live.provider,
    "openai": openai_realtime.provider,
}
"""Those of other companies, and what speaks like them: made when the server is, reached when a call is."""

PROVIDERS = ("local", "scripted", *HOSTED)
"""Names that ``agents[].provider`` may have."""


def provider_problems(settings: Settings) -> Iterator[ConfigError]:
    """One for each agent of config.json whose provider nobody knows, or cannot work with what it is given."""
    registry = BridgeRegistry({"scripted": SCRIPTED, **_hosted(outside_of(settings, ProviderHttp()))})
    for index, agent in enumerate(agents_of(settings)):
        if agent.provider not in PROVIDERS:
            fix = f"Use one of: {', '.join(PROVIDERS)}"
            yield ConfigError(f"agents[{index}].provider", f"there is no {agent.provider!r}", fix)
        elif agent.provider in registry.names:
            try:
                registry.check(agent)
            except ConfigError as error:
                yield ConfigError(f"agents[{index}].{error.key}", error.problem, error.fix)


def check_providers(settings: Settings) -> None:
    """Raises the first of ``provider_problems``."""
    for problem in provider_problems(settings):
        raise problem


def outside_of(settings: Settings, http: ProviderHttp) -> Outside:
    vendors: Mapping[str, ProviderSettings] = msgspec.structs.asdict(settings.providers)
    accesses = {
        name: ProviderAccess(api_key=vendor.api_key, base_url=vendor.base_url) for name, vendor in vendors.items()
    }
    return Outside(http=http, accesses=accesses)


class Providers:
    """Implements the call's ``Bridges``. An agent whose provider is not there yet, or nowhere, refuses its call."""

    def __init__(self, settings: Settings) -> None:
        self.engine: LocalEngine | None = None
        self._http = ProviderHttp()
        self._there: dict[str, Provider] = {"scripted": SCRIPTED, **_hosted(outside_of(settings, self._http))}
        self._registry = BridgeRegistry(self._there)
        self._turn = asyncio.Lock()

    async def serve(self, agents: Iterable[Agent]) -> None:
        """Start what these agents need. Raises ``BridgeError``."""
        async with self._turn:
            if self.engine is None and any(agent.provider == "local" for agent in agents):
                engine = LocalEngine()
                await engine.start()
                self.engine = engine
                self._there["local"] = local_provider(engine)
                self._registry = BridgeRegistry(self._there)

    def profile(self, name: str) -> BridgeProfile:
        return self._registry.profile(name)

    def open_bridge(self, request: BridgeRequest) -> BridgeConnection:
        return self._registry.open_bridge(request)

    async def close(self) -> None:
        await self._http.close()
        if self.engine is not None:
            await self.engine.close()


def _hosted(outside: Outside) -> dict[str, Provider]:
    return {name: make(outside) for name, make in HOSTED.items()}
