"""The providers of the matrix, and how each is led to its simulators. ``local`` has no other side to simulate: its
calls are tests/interop's, made with its own models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.parity.world import Column

from offhook.model.audio import L16_8K, L16_16K, PCMU_8K, AudioFormat, Encoding

VOICE_ID = "a0e99841-438c-4a64-b679-ae501e7d6091"


BOTH_LAWS = (Encoding.PCMU, Encoding.PCMA)


def _one(
    provider: str,
    *,
    takes_tools_back: bool = False,
    converted: Mapping[Encoding, AudioFormat] | None = None,
    **more: Any,
) -> Column:
    def options(urls: Mapping[str, str]) -> dict[str, Any]:
        return {"api_key": "key", "base_url": urls[provider], **more}

    return Column(
        provider=provider,
        simulators=(provider,),
        options=options,
        takes_tools_back=takes_tools_back,
        converted=converted or {},
    )


def _cartesia(urls: Mapping[str, str]) -> dict[str, Any]:
    return {
        "voice_id": VOICE_ID,
        "api_key": "key",
        "base_url": urls["cartesia"],
        "stt_provider": "deepgram",
        "stt_api_key": "key",
        "stt_base_url": urls["deepgram"],
        **_model(urls),
    }


def _pipeline(urls: Mapping[str, str]) -> dict[str, Any]:
    url = urls["self_hosted"]
    return {"stt_base_url": url, **_model(urls), "tts_base_url": url, "tts_model": "sim-voice", "tts_voice": "one"}


def _model(urls: Mapping[str, str]) -> dict[str, Any]:
    return {"llm_provider": "custom", "llm_base_url": urls["self_hosted"], "llm_model": "sim-chat"}


COLUMNS = {
    column.provider: column
    for column in (
        _one("openai"),
        _one("elevenlabs", agent_id="agent_1", converted={Encoding.PCMA: PCMU_8K}),
        _one("gemini", takes_tools_back=True, converted=dict.fromkeys(BOTH_LAWS, L16_16K)),
        _one("deepgram", takes_tools_back=True),
        _one("ultravox", converted=dict.fromkeys(BOTH_LAWS, L16_8K)),
        Column(
            provider="cartesia",
            simulators=("deepgram", "cartesia", "self_hosted"),
            options=_cartesia,
            takes_tools_back=True,
        ),
        Column(
            provider="pipeline",
            simulators=("self_hosted",),
            options=_pipeline,
            takes_tools_back=True,
            converted=dict.fromkeys(BOTH_LAWS, L16_16K),
        ),
    )
}
