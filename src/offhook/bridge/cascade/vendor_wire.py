"""What the vendors' files have in common: how a websocket is addressed, and what its refusal means. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from offhook.bridge.codec import BridgeFault
from offhook.bridge.endings import problem_of, verdict_of
from offhook.bridge.wire import Headers, websocket_scheme


def websocket_url(base_url: str, path: str, query: Mapping[str, Any]) -> str:
    """``query``: a list is the parameter several times; booleans are ``true`` and ``false``, None is left out."""
    given = {key: _parameter(value) for key, value in query.items() if value is not None}
    return f"{websocket_scheme(base_url).rstrip('/')}{path}" + (f"?{urlencode(given, doseq=True)}" if given else "")


def headers_of(own: Mapping[str, str], given: Mapping[str, str]) -> Headers:
    """``given`` ones go over ``own``, whatever their case."""
    replaced = {name.lower() for name in given}
    return (*((name, value) for name, value in own.items() if name.lower() not in replaced), *given.items())


def refusal(status: int, body: bytes) -> BridgeFault:
    """Of a handshake."""
    return BridgeFault(problem=problem_of(status, body), verdict=verdict_of(status))


def _parameter(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value
