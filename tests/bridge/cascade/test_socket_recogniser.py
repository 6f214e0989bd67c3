"""A recogniser behind a websocket that may break."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.bridge.cascade.recorded_parts import RecordedEar
from tests.bridge.cascade.toy_socket import ToyServer, ToyStt, toy_server

from offhook.bridge.cascade import socket_recogniser
from offhook.bridge.cascade.ports import EndOfTurn, SpeechBegan
from offhook.bridge.cascade.socket_recogniser import HELD_FRAMES, SocketRecogniser
from offhook.bridge.codec import BridgeFault
from offhook.model.audio import PCMA_8K, PCMU_8K, AudioFormat
from offhook.model.errors import BridgeError


@asynccontextmanager
async def listening(
    server: ToyServer, codec_format: AudioFormat = PCMU_8K
) -> AsyncIterator[tuple[SocketRecogniser, RecordedEar]]:
    ear = RecordedEar()
    recogniser = SocketRecogniser(
        lambda: ToyStt(server.url), ear.stt_event, input_format=PCMU_8K, codec_format=codec_format
    )
    try:
        await recogniser.open()
        yield recogniser, ear
    finally:
        await recogniser.close()


def frame(number: int) -> bytes:
    return bytes([number % 256]) * 160


async def test_audio_waits_until_it_is_taken() -> None:
    async with toy_server() as server:
        server.greets = ""
        async with listening(server) as (recogniser, _):
            for number in range(5):
                recogniser.feed(frame(number))
            await server.lines[0].says("ready")
            await asyncio.sleep(0.02)
            recogniser.feed(frame(5))
            await server.until(lambda: len(server.lines[0].audio) == 6 * 160)
            assert server.lines[0].audio == b"".join(frame(number) for number in range(6))
        await server.until(lambda: server.lines[0].texts == ["hello", "goodbye"])


async def test_audio_is_converted_where_the_vendor_takes_another() -> None:
    async with toy_server() as server, listening(server, PCMA_8K) as (recogniser, _):
        await asyncio.sleep(0.02)
        recogniser.feed(b"\xff" * 160)
        await server.until(lambda: bool(server.lines[0].audio))
        assert server.lines[0].audio == b"\xd5" * 160


async def test_an_unfinished_turn_is_heard_again_from_its_begin_and_ends_once() -> None:
    async with toy_server() as server, listening(server) as (recogniser, ear):
        await server.until(lambda: "hello" in server.lines[0].texts)
        await asyncio.sleep(0.02)
        recogniser.feed(frame(1))
        await server.lines[0].says("began")
        await ear.until(lambda: SpeechBegan() in ear.events)
        recogniser.feed(frame(2))
        await server.until(lambda: len(server.lines[0].audio) == 320)
        server.lines[0].breaks()
        await ear.until(lambda: any(isinstance(event, BridgeFault) for event in ear.events))
        recogniser.feed(frame(3))
        await server.until(lambda: len(server.lines) == 2)
        await asyncio.sleep(0.05)
        recogniser.feed(frame(4))
        await server.until(lambda: len(server.lines[1].audio) == 4 * 160)
        assert server.lines[1].audio == b"".join(frame(number) for number in (1, 2, 3, 4))
        await server.lines[1].says("began")
        await server.lines[1].says("end hello you")
        await ear.until(lambda: EndOfTurn(text="hello you") in ear.events)
        assert [type(event) for event in ear.events] == [SpeechBegan, BridgeFault, EndOfTurn]


async def test_a_turn_of_which_nothing_more_is_heard_ends_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket_recogniser, "LOST_TURN_FRAMES", 5)
    async with toy_server() as server, listening(server) as (recogniser, ear):
        await server.lines[0].says("began")
        await ear.until(lambda: SpeechBegan() in ear.events)
        server.lines[0].breaks()
        await server.until(lambda: len(server.lines) == 2)
        await asyncio.sleep(0.05)
        for number in range(8):
            recogniser.feed(frame(number))
        await ear.until(lambda: EndOfTurn(text="") in ear.events)


@pytest.mark.parametrize("how", ["breaks", "fails", "raises"])
async def test_a_second_failure_falls_over(how: str) -> None:
    async with toy_server() as server, listening(server) as (_, ear):
        for index in range(2):
            await server.until(lambda index=index: len(server.lines) == index + 1)  # type: ignore[misc]
            await asyncio.sleep(0.05)
            if how == "breaks":
                server.lines[index].breaks()
            else:
                await server.lines[index].says("fail" if how == "fails" else "raise")
            if how == "raises":
                break
        await ear.until(lambda: ear.events[-1:] != [] and getattr(ear.events[-1], "verdict", "") == "fall_over")
        verdicts = [event.verdict for event in ear.events if isinstance(event, BridgeFault)]
        assert verdicts == (["fall_over"] if how == "raises" else ["retry", "fall_over"])


async def test_a_handshake_that_fails_once_is_made_again() -> None:
    async with toy_server() as server:
        server.refuses = [503]
        async with listening(server):
            assert len(server.lines) == 1


@pytest.mark.parametrize("statuses", [[503, 503], [401]])
async def test_who_is_not_let_in_fails(statuses: list[int]) -> None:
    async with toy_server() as server:
        server.refuses = list(statuses)
        with pytest.raises(BridgeError, match=f"HTTP {statuses[0]}"):
            async with listening(server):
                pass
        assert server.refuses == []


async def test_a_vendor_that_never_takes_audio_is_left() -> None:
    async with toy_server() as server:
        server.greets = ""
        async with listening(server) as (recogniser, ear):
            for number in range(HELD_FRAMES + 1):
                recogniser.feed(frame(number))
            await ear.until(lambda: bool(ear.events))
            assert [event.verdict for event in ear.events if isinstance(event, BridgeFault)] == ["retry"]
