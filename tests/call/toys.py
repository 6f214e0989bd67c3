"""Providers that follow a script and can more, or less, than ``scripted``; what calls asked of them and told them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

from offhook.bridge.codec import BridgeConnection, BridgeInput, BridgeProfile, BridgeRequest
from offhook.bridge.scripted import PROFILE, ScriptedConnection, open_scripted

C = TypeVar("C")


class Toys:
    """Implements ``Bridges``: every agent's provider is a script, with this profile."""

    def __init__(self, **profile: Any) -> None:
        self._profile = profile
        self.requests: list[BridgeRequest] = []
        self.connections: list[ScriptedConnection] = []

    def profile(self, name: str) -> BridgeProfile:
        return replace(PROFILE, **self._profile)

    def open_bridge(self, request: BridgeRequest) -> BridgeConnection:
        connection = open_scripted(request)
        connection.profile = replace(connection.profile, **self._profile)
        self.requests.append(request)
        self.connections.append(connection)
        return connection

    def told(self, kind: type[C], session: int = 0) -> list[C]:
        """What one of the connections got, of one kind of command."""
        return [command for command in self.connections[session].received if isinstance(command, kind)]

    def commands(self, session: int = 0) -> list[BridgeInput]:
        return self.connections[session].received
