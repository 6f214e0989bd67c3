"""The AI providers of this server: each begins when the first agent needs it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator

from offhook.bridge.codec import BridgeConnection, BridgeProfile, BridgeRequest
from offhook.bridge.local.engine import LocalEngine
from offhook.bridge.local.provider import local_provider
from offhook.bridge.registry import SCRIPTED, BridgeRegistry
from offhook.config import Settings
from offhook.model.errors import ConfigError
from offhook.model.records import Agent

PROVIDERS = ("local", "scripted")
"""Names that ``agents[].provider`` may have."""


def provider_problems(settings: Settings) -> Iterator[ConfigError]:
    """One for each agent of config.json whose provider nobody knows."""
    for index, agent in enumerate(settings.agents):
        if agent.provider not in PROVIDERS:
            fix = f"Use one of: {', '.join(PROVIDERS)}"
            yield ConfigError(f"agents[{index}].provider", f"there is no {agent.provider!r}", fix)


def check_providers(settings: Settings) -> None:
    """Raises the first of ``provider_problems``."""
    for problem in provider_problems(settings):
        raise problem


class Providers:
    """Implements the call's ``Bridges``. An agent whose provider is not there yet, or nowhere, refuses its call."""

    def __init__(self) -> None:
        self.engine: LocalEngine | None = None
        self._registry = BridgeRegistry({"scripted": SCRIPTED})
        self._turn = asyncio.Lock()

    async def serve(self, agents: Iterable[Agent]) -> None:
        """Start what these agents need. Raises ``BridgeError``."""
        async with self._turn:
            if self.engine is None and any(agent.provider == "local" for agent in agents):
                engine = LocalEngine()
                await engine.start()
                self.engine = engine
                self._registry = BridgeRegistry({"scripted": SCRIPTED, "local": local_provider(engine)})

    def profile(self, name: str) -> BridgeProfile:
        return self._registry.profile(name)

    def open_bridge(self, request: BridgeRequest) -> BridgeConnection:
        return self._registry.open_bridge(request)

    async def close(self) -> None:
        if self.engine is not None:
            await self.engine.close()
