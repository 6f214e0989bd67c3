"""PLACEHOLDER by the head until the bridge helper's file lands: overwrite freely, nothing here matters."""

from __future__ import annotations

from offhook.bridge.local.engine import LocalEngine
from offhook.bridge.registry import SCRIPTED, Provider


def local_provider(engine: LocalEngine) -> Provider:
    return SCRIPTED
