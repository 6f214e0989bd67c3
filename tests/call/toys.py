"""Providers that follow a script and can more, or less, than ``scripted``; what calls asked of them and told them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

from offhook.bridge.codec import BridgeConnection, BridgeInput, BridgeProfile, BridgeRequest
from offhook.bridge.scripted import PROFILE, SCRIPT_OPTION, ScriptedConnection, parse_script

C = TypeVar("C")


class Toy(ScriptedConnection):
    """Knows whether it was opened, and closed."""

    opened = False
    closed = False

    async def open(self) -> None:
        self.opened = True
        await super().open()

    async def close(self) -> None:
        self.closed = True
        await super().close()


class Toys:
    """Implements ``Bridges``: every agent's provider is a script, with this profile."""

    judge = None

    def __init__(self, **profile: Any) -> None:
        self._profile = profile
        self.requests: list[BridgeRequest] = []
        self.connections: list[Toy] = []

    def profile(self, name: str) -> BridgeProfile:
        return replace(PROFILE, **self._profile)

    def open_bridge(self, request: BridgeRequest) -> BridgeConnection:
        connection = Toy(request, parse_script(request.agent.options.get(SCRIPT_OPTION, "")))
        connection.profile = replace(connection.profile, **self._profile)
        self.requests.append(request)
        self.connections.append(connection)
        return connection

    def told(self, kind: type[C], session: int = 0) -> list[C]:
        """What one of the connections got, of one kind of command."""
        return [command for command in self.connections[session].received if isinstance(command, kind)]

    def commands(self, session: int = 0) -> list[BridgeInput]:
        return self.connections[session].received
