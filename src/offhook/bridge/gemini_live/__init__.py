"""Google Gemini Live: one websocket, JSON both ways, L16 at 16 kHz in and 24 kHz out.

``options`` is what an agent may set, ``wire`` the messages, ``caller_audio`` what the model hears while it speaks,
``asking`` what it is told in words, ``codec`` the conversation.
"""

from __future__ import annotations

from offhook.bridge.codec import BridgeConnection, BridgeRequest, Provider
from offhook.bridge.connection import ProviderConnection
from offhook.bridge.gemini_live.codec import PROFILE, GeminiCodec
from offhook.bridge.gemini_live.options import check_options, session_options
from offhook.bridge.outside import Outside
from offhook.model.records import Agent

__all__ = ["GeminiCodec", "provider"]


def provider(outside: Outside) -> Provider:
    """Gemini Live, as this server reaches it. Its factory raises ``ConfigError``, as ``check`` does."""
    given = outside.access("gemini")

    def open_bridge(request: BridgeRequest) -> BridgeConnection:
        session = session_options(request.agent, given)
        return ProviderConnection(request, GeminiCodec(request, session), outside.client(judged=session.judged))

    def check(agent: Agent) -> None:
        check_options(agent, given)

    return Provider(factory=open_bridge, profile=PROFILE, check=check)
