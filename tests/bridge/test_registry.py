from __future__ import annotations

import pytest
from tests.bridge.recording_listener import RecordingListener, request_for

from offhook.bridge.registry import SCRIPTED, BridgeRegistry
from offhook.model.errors import BridgeError


async def test_opens_the_provider_the_agent_names() -> None:
    registry = BridgeRegistry({"scripted": SCRIPTED})
    connection = registry.open_bridge(request_for(RecordingListener()))
    assert connection.profile.provider == "scripted"
    assert registry.profile("scripted") == SCRIPTED.profile


def test_an_unknown_provider_is_refused_naming_the_known_ones() -> None:
    registry = BridgeRegistry({"scripted": SCRIPTED, "other": SCRIPTED})
    with pytest.raises(BridgeError, match=r"^hal: no such provider; known are: other, scripted$") as raised:
        registry.profile("hal")
    assert raised.value.verdict == "fatal"
