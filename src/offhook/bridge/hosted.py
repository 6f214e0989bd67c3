"""Makes a ``Provider`` of a codec: a vendor's agent behind one websocket."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from offhook.bridge.codec import BridgeConnection, BridgeProfile, BridgeRequest, Provider
from offhook.bridge.connection import ProviderConnection
from offhook.bridge.options import ProviderAccess, ProviderOptions
from offhook.bridge.outside import Outside
from offhook.bridge.wire import ProviderCodec
from offhook.model.records import Agent

Options = TypeVar("Options", bound=ProviderOptions)


def hosted(
    outside: Outside,
    profile: BridgeProfile,
    settle: Callable[[Agent], tuple[Options, ProviderAccess]],
    codec: Callable[[BridgeRequest, Options, ProviderAccess], ProviderCodec],
) -> Provider:
    """``settle``: what an agent's options come to; raises ``ConfigError``, as the provider's check and factory do."""

    def check(agent: Agent) -> None:
        settle(agent)

    def factory(request: BridgeRequest) -> BridgeConnection:
        options, access = settle(request.agent)
        return ProviderConnection(request, codec(request, options, access), outside.client(judged=access.judged))

    return Provider(factory=factory, profile=profile, check=check)
