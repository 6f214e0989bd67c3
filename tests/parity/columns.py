"""The providers of the matrix, and how each is led to its simulators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.parity.world import Column


def _one(provider: str, *, takes_tools_back: bool = False, **more: Any) -> Column:
    def options(urls: Mapping[str, str]) -> dict[str, Any]:
        return {"api_key": "key", "base_url": urls[provider], **more}

    return Column(provider=provider, simulators=(provider,), options=options, takes_tools_back=takes_tools_back)


COLUMNS = {
    column.provider: column
    for column in (
        _one("openai"),
        _one("elevenlabs", agent_id="agent_1"),
        _one("gemini"),
        _one("deepgram", takes_tools_back=True),
        _one("ultravox"),
    )
}
