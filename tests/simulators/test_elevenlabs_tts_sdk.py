"""ElevenLabs' own client lets the simulator speak, and its own types take every message of it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
import trustme
from elevenlabs.client import ElevenLabs
from elevenlabs.core.api_error import ApiError
from elevenlabs.core.unchecked_base_model import construct_type
from elevenlabs.types.voice_settings import VoiceSettings
from elevenlabs.v_1_text_to_speech_voice_id_multi_stream_input.types.receive_message_multi import ReceiveMessageMulti

from offhook.model.audio import PCMA_8K, PCMU_8K
from offhook.simulators.elevenlabs_tts import ElevenLabsTtsSimulator
from offhook.simulators.script import Script
from offhook.simulators.stage import Stage
from offhook.simulators.voice import spoken

VOICE = "JBFqnCBsd6RMkjVDRZzb"


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A certificate for localhost, which everything in this process trusts."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    return context


@pytest.mark.filterwarnings("ignore:ConnectionClosed.code is deprecated:DeprecationWarning")  # their client asks it
async def test_speaks_text_that_comes_in_pieces(tls: ssl.SSLContext) -> None:
    simulator = ElevenLabsTtsSimulator(Script())

    def converse(url: str) -> list[bytes]:
        def text() -> Iterator[str]:
            yield "Hello, how are you today, and what may I do for you? "
            yield "I am listening."

        client = ElevenLabs(api_key="k", base_url=url)
        settings = VoiceSettings(stability=0.5)
        return list(
            client.text_to_speech.convert_realtime(
                VOICE, text=text(), model_id="eleven_flash_v2_5", output_format="ulaw_8000", voice_settings=settings
            )
        )

    async with Stage(simulator, tls=tls) as stage:
        pieces = await asyncio.to_thread(converse, stage.url)
    first = spoken("Hello, how are you today, and what may I do for you?", PCMU_8K)
    assert b"".join(pieces) == first + spoken("I am listening.", PCMU_8K)
    assert simulator.journal.problems == []


async def test_speaks_whole_texts_by_http() -> None:
    def converse(url: str) -> bytes:
        client = ElevenLabs(api_key="k", base_url=url)
        return b"".join(client.text_to_speech.stream(VOICE, text="Good morning.", output_format="alaw_8000"))

    async with Stage(ElevenLabsTtsSimulator(Script())) as stage:
        assert await asyncio.to_thread(converse, stage.url) == spoken("Good morning.", PCMA_8K)


async def test_models_of_old_are_refused() -> None:
    def converse(url: str) -> bytes:
        client = ElevenLabs(api_key="k", base_url=url)
        return b"".join(
            client.text_to_speech.stream(VOICE, text="Hi.", model_id="eleven_monolingual_v1", output_format="ulaw_8000")
        )

    async with Stage(ElevenLabsTtsSimulator(Script())) as stage:
        with pytest.raises(ApiError, match="model_not_found"):
            await asyncio.to_thread(converse, stage.url)


# ── several contexts on one websocket, which their client does not speak but has the types of ────────────

QUERY = "?model_id=eleven_flash_v2_5&output_format=ulaw_8000&auto_mode=true"


async def told(stage: Stage, *messages: dict[str, Any], query: str = QUERY) -> list[Any]:
    """Everything that is said, to the end of the websocket; each message as their own type has it."""
    url = f"{stage.ws_url}/v1/text-to-speech/{VOICE}/multi-stream-input{query}"
    async with aiohttp.ClientSession() as http, http.ws_connect(url, headers={"xi-api-key": "k"}) as websocket:
        for message in messages:
            await websocket.send_json(message)
        async with asyncio.timeout(10):
            return [
                construct_type(type_=ReceiveMessageMulti, object_=msgspec.json.decode(message.data))  # type: ignore[arg-type]
                async for message in websocket
            ]


def audio_of(messages: list[Any], context: str) -> bytes:
    encoded = [m.audio for m in messages if m.context_id == context and getattr(m, "audio", None)]
    return b"".join(msgspec.convert(audio, bytes) for audio in encoded)


async def test_contexts_are_spoken_each_to_its_own_end() -> None:
    simulator = ElevenLabsTtsSimulator(Script())
    async with Stage(simulator) as stage:
        messages = await told(
            stage,
            {"text": " ", "context_id": "one", "voice_settings": {"speed": 1.1}},
            {"text": "The first. ", "context_id": "one"},
            {"text": " ", "context_id": "two"},
            {"text": "The second. ", "context_id": "two"},
            {"context_id": "one", "flush": True},
            {"context_id": "one", "close_context": True},
            {"close_socket": True},
        )
    assert audio_of(messages, "one") == spoken("The first.", PCMU_8K)
    assert audio_of(messages, "two") == spoken("The second.", PCMU_8K)
    assert [m.context_id for m in messages if getattr(m, "is_final", None)] == ["one", "two"]
    first = next(m for m in messages if m.context_id == "one")
    assert first.alignment.chars[:3] == ["T", "h", "e"]
    assert first.alignment.char_start_times_ms[0] == 0
    assert simulator.journal.problems == []


async def test_a_sixth_context_costs_the_websocket() -> None:
    simulator = ElevenLabsTtsSimulator(Script())
    async with Stage(simulator) as stage:
        messages = await told(stage, *({"text": " ", "context_id": f"c{index}"} for index in range(6)))
    assert messages[-1].error == "max_active_conversations"
    assert len(simulator.journal.problems) == 1


async def test_silence_ends_the_websocket() -> None:
    async with Stage(ElevenLabsTtsSimulator(Script(), inactivity_s=0.01)) as stage:
        messages = await told(stage)
    assert messages[-1].error == "input_timeout_exceeded"


async def test_a_format_that_is_not_theirs_is_refused() -> None:
    async with Stage(ElevenLabsTtsSimulator(Script())) as stage:
        messages = await told(stage, query="?output_format=ulaw_16000")
    assert messages[-1].error == "invalid_output_format"
