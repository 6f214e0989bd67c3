"""Providers by name. The one place that knows which exist."""

from __future__ import annotations

from collections.abc import Mapping

from offhook.bridge import scripted
from offhook.bridge.codec import BridgeConnection, BridgeProfile, BridgeRequest, Provider
from offhook.model.errors import BridgeError

__all__ = ["SCRIPTED", "BridgeRegistry", "Provider"]

SCRIPTED = Provider(factory=scripted.open_scripted, profile=scripted.PROFILE)


class BridgeRegistry:
    """``BridgeRegistry({"scripted": SCRIPTED})``; the composition root decides what is in it."""

    def __init__(self, providers: Mapping[str, Provider]) -> None:
        self._providers = dict(providers)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._providers))

    def profile(self, name: str) -> BridgeProfile:
        """Raises ``BridgeError`` naming the known providers."""
        return self._provider(name).profile

    def open_bridge(self, request: BridgeRequest) -> BridgeConnection:
        """The connection for ``request.agent.provider``, not yet opened. Raises ``BridgeError``."""
        return self._provider(request.agent.provider).factory(request)

    def _provider(self, name: str) -> Provider:
        provider = self._providers.get(name)
        if provider is None:
            known = ", ".join(self.names) or "none"
            raise BridgeError(name, f"no such provider; known are: {known}", "fatal")
        return provider
