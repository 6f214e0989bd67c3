"""The local agent as the registry knows it."""

from __future__ import annotations

from offhook.bridge.codec import BridgeConnection, BridgeRequest, Provider
from offhook.bridge.local import connection, prompts
from offhook.bridge.local.connection import LocalConnection
from offhook.bridge.local.engine import LocalEngine
from offhook.bridge.local.prompts import PromptConnection


def local_provider(engine: LocalEngine) -> Provider:
    """Conversations on ``engine``; where its extra is missing, the shipped prompts."""
    if engine.missing is not None:
        return Provider(factory=PromptConnection, profile=prompts.PROFILE)

    def connect(request: BridgeRequest) -> BridgeConnection:
        return LocalConnection(request, engine)

    return Provider(factory=connect, profile=connection.PROFILE)
