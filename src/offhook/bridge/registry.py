"""Providers by name. The one place that knows which exist."""

from __future__ import annotations

from collections.abc import Mapping

from offhook.bridge import scripted
from offhook.bridge.codec import BridgeConnection, BridgeProfile, BridgeRequest, Provider
from offhook.model.errors import BridgeError, ConfigError
from offhook.model.records import Agent

__all__ = ["SCRIPTED", "BridgeRegistry", "Provider"]

SCRIPTED = Provider(factory=scripted.open_scripted, profile=scripted.PROFILE)


class BridgeRegistry:
    """``BridgeRegistry({"scripted": SCRIPTED})``; the composition root decides what is in it."""

    judge = None
    """Nobody here listens to what is said over an agent."""

    def __init__(self, providers: Mapping[str, Provider]) -> None:
        self._providers = dict(providers)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._providers))

    def profile(self, name: str) -> BridgeProfile:
        """Raises ``BridgeError`` naming the known providers."""
        return self._provider(name).profile

    def check(self, agent: Agent) -> None:
        """Raises ``ConfigError`` (``options.model`` …) for options its provider cannot work with, ``BridgeError``."""
        self._provider(agent.provider).check(agent)

    def open_bridge(self, request: BridgeRequest) -> BridgeConnection:
        """The connection for ``request.agent.provider``, not yet opened. Raises ``BridgeError``."""
        name = request.agent.provider
        try:
            return self._provider(name).factory(request)
        except ConfigError as error:
            raise BridgeError(name, str(error), "fatal") from error

    def _provider(self, name: str) -> Provider:
        provider = self._providers.get(name)
        if provider is None:
            known = ", ".join(self.names) or "none"
            raise BridgeError(name, f"no such provider; known are: {known}", "fatal")
        return provider
