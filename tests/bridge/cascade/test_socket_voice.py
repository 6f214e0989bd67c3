"""A voice behind a websocket that may break, or be closed for idleness."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.bridge.cascade.recorded_parts import RecordedVoice
from tests.bridge.cascade.toy_socket import ToyServer, ToyTts, toy_server

from offhook.audio.g711 import PCMU_TO_PCMA
from offhook.bridge.cascade import socket_voice
from offhook.bridge.cascade.socket_voice import SocketVoice
from offhook.bridge.codec import BridgeFault
from offhook.model.audio import PCMA_8K, PCMU_8K, AudioFormat
from offhook.model.errors import BridgeError


@asynccontextmanager
async def speaking(
    server: ToyServer, output_format: AudioFormat = PCMU_8K
) -> AsyncIterator[tuple[SocketVoice, RecordedVoice]]:
    heard = RecordedVoice()
    voice = SocketVoice(
        lambda: ToyTts(server.url), heard, codec_format=PCMU_8K, output_format=output_format, aligns=True
    )
    try:
        await voice.open()
        yield voice, heard
    finally:
        await voice.close()


def say(voice: SocketVoice, context: str, *pieces: str) -> None:
    voice.begin(context)
    for piece in pieces:
        voice.say(context, piece)
    voice.finish(context)


async def test_contexts_are_spoken_one_after_the_other() -> None:
    async with toy_server() as server, speaking(server) as (voice, heard):
        say(voice, "c1", "One.")
        say(voice, "c2", "Two.")
        line = server.lines[0]
        await server.until(lambda: "finish c1" in line.texts)
        assert line.texts == ["begin c1", "say c1 One.", "finish c1"]
        await line.says("audio c1 One.")
        await line.says("done c1")
        await server.until(lambda: "finish c2" in line.texts)
        await line.says("audio c1 late")
        await line.says("audio c2 Two.")
        await line.says("done c2")
        await heard.until(lambda: heard.done() == ["c1", "c2"])
        assert heard.audio == {"c1": b"One.", "c2": b"Two."}


async def test_audio_is_converted_where_the_call_wants_another() -> None:
    async with toy_server() as server, speaking(server, PCMA_8K) as (voice, heard):
        say(voice, "c1", "\x7f")
        await server.lines[0].says("audio c1 \x7f")
        await heard.until(lambda: heard.audio == {"c1": PCMU_TO_PCMA[0x7F:0x80]})


async def test_what_was_cut_off_is_cancelled_and_silent() -> None:
    async with toy_server() as server, speaking(server) as (voice, heard):
        say(voice, "c1", "One.")
        say(voice, "c2", "Two.")
        voice.cancel("c2")
        voice.cancel("c1")
        voice.cancel("c3")
        say(voice, "c4", "Four.")
        await server.until(lambda: "finish c4" in server.lines[0].texts)
        assert [text for text in server.lines[0].texts if "c2" in text] == []
        await server.lines[0].says("audio c1 One.")
        await server.lines[0].says("audio c4 Four.")
        await heard.until(lambda: "c4" in heard.audio)
        assert list(heard.audio) == ["c4"]


async def test_what_was_not_spoken_is_said_on_the_next_websocket() -> None:
    async with toy_server() as server, speaking(server) as (voice, heard):
        say(voice, "c1", "One. ", "Two.")
        await server.until(lambda: "finish c1" in server.lines[0].texts)
        await server.lines[0].says("audio c1 One. ")
        await heard.until(lambda: "c1" in heard.audio)
        server.lines[0].breaks()
        await server.until(lambda: len(server.lines) == 2 and "finish c1" in server.lines[1].texts)
        assert server.lines[1].texts == ["begin c1", "say c1 Two.", "finish c1"]
        await server.lines[1].says("audio c1 Two.")
        await server.lines[1].says("done c1")
        await heard.until(lambda: heard.done() == ["c1"])
        assert heard.audio == {"c1": b"One. Two."}


async def test_an_idle_websocket_may_be_closed() -> None:
    async with toy_server() as server, speaking(server) as (voice, heard):
        await server.lines[0].closes(1000)
        await asyncio.sleep(0.05)
        say(voice, "c1", "One.")
        await server.until(lambda: len(server.lines) == 2 and "finish c1" in server.lines[1].texts)
        await server.lines[1].says("audio c1 One.")
        await server.lines[1].says("done c1")
        await heard.until(lambda: heard.done() == ["c1"])
        assert heard.of(BridgeFault) == []


async def test_a_context_that_failed_is_said_once_more() -> None:
    async with toy_server() as server, speaking(server) as (voice, heard):
        say(voice, "c1", "One.")
        await server.until(lambda: "finish c1" in server.lines[0].texts)
        await server.lines[0].says("failed c1")
        await server.until(lambda: server.lines[0].texts.count("finish c1") == 2)
        await server.lines[0].says("failed c1")
        await heard.until(lambda: bool(heard.of(BridgeFault)))
        assert [fault.verdict for fault in heard.of(BridgeFault)] == ["fall_over"]


async def test_a_voice_that_says_nothing_is_dialled_again_and_then_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket_voice, "SILENT_VOICE_S", 0.1)
    async with toy_server() as server, speaking(server) as (voice, heard):
        say(voice, "c1", "One.")
        await heard.until(lambda: len(heard.of(BridgeFault)) == 2)
        assert [fault.verdict for fault in heard.of(BridgeFault)] == ["retry", "fall_over"]
        assert len(server.lines) == 2


async def test_a_model_may_think_between_two_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket_voice, "SILENT_VOICE_S", 0.1)
    async with toy_server() as server, speaking(server) as (voice, heard):
        voice.begin("c1")
        await asyncio.sleep(0.15)
        voice.say("c1", "One. ")
        await server.lines[0].says("audio c1 One.")
        await heard.until(lambda: "c1" in heard.audio)
        await asyncio.sleep(0.15)
        assert heard.of(BridgeFault) == []


async def test_a_handshake_that_fails_once_is_made_again() -> None:
    async with toy_server() as server:
        server.refuses = [503]
        async with speaking(server):
            assert len(server.lines) == 1


@pytest.mark.parametrize("statuses", [[503, 503], [401]])
async def test_who_is_not_let_in_fails(statuses: list[int]) -> None:
    async with toy_server() as server:
        server.refuses = list(statuses)
        with pytest.raises(BridgeError, match=f"HTTP {statuses[0]}"):
            async with speaking(server):
                pass
        assert server.refuses == []
