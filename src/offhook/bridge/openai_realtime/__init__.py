"""OpenAI Realtime: one model that hears, thinks and speaks, over one websocket."""

from __future__ import annotations

from offhook.bridge.codec import BridgeConnection, BridgeRequest, Provider
from offhook.bridge.connection import ProviderConnection
from offhook.bridge.openai_realtime.codec import PROFILE, OpenAiCodec
from offhook.bridge.openai_realtime.options import setup_of
from offhook.bridge.outside import Outside
from offhook.model.records import Agent

VENDOR = "openai"


def provider(outside: Outside) -> Provider:
    def open_bridge(request: BridgeRequest) -> BridgeConnection:
        setup = setup_of(request.agent, outside.access(VENDOR))
        return ProviderConnection(request, OpenAiCodec(request, setup), outside.client(judged=setup.judged))

    def check(agent: Agent) -> None:
        setup_of(agent, outside.access(VENDOR))

    return Provider(factory=open_bridge, profile=PROFILE, check=check)
