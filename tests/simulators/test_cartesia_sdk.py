"""Cartesia's own client talks to the simulator, and finds nothing to complain about."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import cartesia
import pytest
from cartesia import AsyncCartesia, Omit
from cartesia.lib._tts import AsyncWebSocketContext
from cartesia.types.raw_output_format_param import RawOutputFormatParam
from cartesia.types.stt_encoding import STTEncoding
from cartesia.types.websocket_response import WebsocketResponse

from offhook.audio.tones import tone
from offhook.model.audio import PCMA_8K, PCMU_8K, Encoding
from offhook.simulators.cartesia import CartesiaSimulator
from offhook.simulators.script import Fault, Script, Turn
from offhook.simulators.stage import Stage
from offhook.simulators.voice import spoken

VOICE = "a0e99841-438c-4a64-b679-ae501e7d6091"
PCMU: RawOutputFormatParam = {"container": "raw", "encoding": "pcm_mulaw", "sample_rate": 8000}
PCMA: RawOutputFormatParam = {"container": "raw", "encoding": "pcm_alaw", "sample_rate": 8000}


def client_of(stage: Stage) -> AsyncCartesia:
    return AsyncCartesia(api_key="k", base_url=stage.url, websocket_base_url=stage.ws_url, max_retries=0)


async def say(context: AsyncWebSocketContext, *texts: str, wanted: RawOutputFormatParam = PCMU) -> None:
    for text in texts:
        await context.send(
            transcript=text,
            model_id="sonic-3.5",
            voice={"id": VOICE},
            output_format=wanted,
            add_timestamps=True,
            max_buffer_delay_ms=0,
        )


async def finish(context: AsyncWebSocketContext, wanted: RawOutputFormatParam = PCMU) -> None:
    await context.send(
        transcript="",
        model_id="sonic-3.5",
        voice={"id": VOICE},
        output_format=wanted,
        continue_=False,
        add_timestamps=True,
        max_buffer_delay_ms=0,
    )


async def all_of(context: AsyncWebSocketContext) -> list[WebsocketResponse]:
    async with asyncio.timeout(10):
        return [event async for event in context.receive()]


def audio_of(events: list[WebsocketResponse]) -> bytes:
    return b"".join(event.audio or b"" for event in events if event.type == "chunk")


def words_of(events: list[WebsocketResponse]) -> list[tuple[str, float]]:
    timed = [e.word_timestamps for e in events if e.type == "timestamps" and e.word_timestamps is not None]
    return [pair for words in timed for pair in zip(words.words, words.start, strict=True)]


async def test_speaks_a_context_in_pieces_with_the_times_of_its_words() -> None:
    simulator = CartesiaSimulator(Script())
    async with Stage(simulator) as stage, client_of(stage) as client, client.tts.websocket_connect() as socket:
        context = socket.context("turn-1")
        await say(context, "Good morning, ", "how are you?")
        await finish(context)
        events = await all_of(context)
    first, second = spoken("Good morning,", PCMU_8K), spoken("how are you?", PCMU_8K)
    assert audio_of(events) == first + second
    assert [word for word, _ in words_of(events)] == ["Good", "morning,", "how", "are", "you?"]
    assert words_of(events)[2][1] == pytest.approx(len(first) / 8000)
    assert events[-1].type == "done"
    assert simulator.journal.problems == []


async def test_contexts_speak_side_by_side_each_in_its_own_law() -> None:
    script = Script(pace=20)
    stage = Stage(CartesiaSimulator(script))
    async with stage, client_of(stage) as client, client.tts.websocket_connect() as socket:
        one, two = socket.context("one"), socket.context("two")
        await say(one, "This is the first of both.")
        await say(two, "And the second.", wanted=PCMA)
        await finish(one)
        await finish(two, PCMA)
        heard_two, heard_one = await asyncio.gather(all_of(two), all_of(one))
    assert audio_of(heard_one) == spoken("This is the first of both.", PCMU_8K)
    assert audio_of(heard_two) == spoken("And the second.", PCMA_8K)


async def test_a_cancelled_context_ends_without_done_and_late_audio_is_nobodys() -> None:
    script = Script(pace=4, faults=(Fault(do="late_audio", on="interrupted"),))
    simulator = CartesiaSimulator(script)
    async with Stage(simulator) as stage, client_of(stage) as client, client.tts.websocket_connect() as socket:
        context = socket.context("long")
        await say(context, "A very long sentence that nobody wants to hear to its end. ", "And one more.")
        async with asyncio.timeout(10):
            async for event in context.receive():
                if event.type == "chunk":
                    break
        await context.cancel()
        other = socket.context("next")
        await say(other, "Yes?")
        await finish(other)
        events = await all_of(other)
    assert audio_of(events) == spoken("Yes?", PCMU_8K)
    assert simulator.journal.problems == []


async def test_a_flush_is_answered() -> None:
    stage = Stage(CartesiaSimulator(Script()))
    async with stage, client_of(stage) as client, client.tts.websocket_connect() as socket:
        context = socket.context("turn-1")
        await say(context, "One moment.")
        await context.send(
            transcript="",
            model_id="sonic-3.5",
            voice={"id": VOICE},
            output_format=PCMU,
            flush=True,
            add_timestamps=True,
            max_buffer_delay_ms=0,
        )
        await finish(context)
        events = await all_of(context)
    assert [event.flush_id for event in events if event.type == "flush_done"] == [1]


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("model_id", "sonic-2", "model_not_found"),
        ("voice", {"id": ""}, "voice_not_found"),
        ("max_buffer_delay_ms", 6000, None),
        ("output_format", {"container": "raw", "encoding": "mp3", "sample_rate": 8000}, None),
        ("context_id", "what a name!", None),
        ("transcript", " ", None),
    ],
)
async def test_what_the_service_refuses_is_refused(field: str, value: object, code: str | None) -> None:
    simulator = CartesiaSimulator(Script())
    request = {"context_id": "c", "model_id": "sonic-3.5", "transcript": "Hi.", "voice": VOICE, "output_format": PCMU}
    async with Stage(simulator) as stage, client_of(stage) as client, client.tts.websocket_connect() as socket:
        await socket.send(request | {field: value})  # type: ignore[arg-type]
        event = await socket.recv()
    assert event.type == "error"
    assert event.error_code == code
    assert len(simulator.journal.problems) == 1


async def test_unknown_and_finished_contexts_cannot_be_cancelled() -> None:
    simulator = CartesiaSimulator(Script())
    async with Stage(simulator) as stage, client_of(stage) as client, client.tts.websocket_connect() as socket:
        await socket.send({"context_id": "nobody", "cancel": True})
        event = await socket.recv()
    assert event.type == "error"
    assert event.error_code == "context_not_found"


async def test_too_many_contexts_are_limited() -> None:
    simulator = CartesiaSimulator(Script(pace=1), concurrency=1)
    async with Stage(simulator) as stage, client_of(stage) as client, client.tts.websocket_connect() as socket:
        one, two = socket.context("one"), socket.context("two")
        await say(one, "I am the only one who speaks.")
        await say(two, "Me too.")
        events = await all_of(two)
    assert events[0].type == "error"
    assert events[0].error_code == "concurrency_limited"
    assert events[0].status_code == 429


async def test_an_idle_websocket_is_closed() -> None:
    simulator = CartesiaSimulator(Script(), idle_s=0.1)
    async with Stage(simulator) as stage, client_of(stage) as client, client.tts.websocket_connect() as socket:
        async with asyncio.timeout(10):
            assert [event async for event in socket] == []
    assert simulator.journal.problems == []


async def test_whole_texts_go_by_http_too() -> None:
    async with Stage(CartesiaSimulator(Script())) as stage, client_of(stage) as client:
        response = await client.tts.generate(
            model_id="sonic-3.5", transcript="Hello.", voice={"id": VOICE}, output_format=PCMU
        )
        assert await response.read() == spoken("Hello.", PCMU_8K)
        with pytest.raises(cartesia.NotFoundError):
            await client.tts.generate(model_id="sonic-2", transcript="Hi.", voice=VOICE, output_format=PCMU)


async def test_without_a_key_nobody_is_let_in() -> None:
    async with Stage(CartesiaSimulator(Script())) as stage, client_of(stage) as client:
        with pytest.raises(cartesia.AuthenticationError):
            await client.tts.generate(
                model_id="sonic-3.5",
                transcript="Hi.",
                voice=VOICE,
                output_format=PCMU,
                extra_headers={"Authorization": Omit()},
            )


# ── the recogniser ───────────────────────────────────────────────────────────────────────────────────────

SPEECH = tone(400, 900, -15, Encoding.PCMU)
SILENCE = b"\xff" * 8000


async def turns_of(stage: Stage, *pieces: bytes, encoding: STTEncoding = "pcm_mulaw") -> AsyncIterator[tuple[str, str]]:
    """What the client hears of the caller's audio, to the end of the session."""
    async with client_of(stage) as client:
        listening = client.stt.auto_finalize.websocket(
            model="ink-2",
            encoding=encoding,
            sample_rate=8000,
            keyterm=["Ulm"],
        )
        async with listening as socket:
            for piece in pieces:
                await socket.send_raw(piece)
            await socket.send({"type": "close"})
            async with asyncio.timeout(10):
                async for event in socket:
                    yield event.type, getattr(event, "transcript", "")


async def test_hears_turns_word_by_word() -> None:
    simulator = CartesiaSimulator(Script(turns=(Turn(hears="is it open now"),)))
    async with Stage(simulator) as stage:
        events = [event async for event in turns_of(stage, SILENCE[:1600], SPEECH, SILENCE)]
    assert events[0] == ("connected", "")
    assert events[1] == ("turn.start", "")
    assert ("turn.update", "is it") in events
    assert events[-2:] == [("turn.eager_end", "is it open now"), ("turn.end", "is it open now")]
    assert bytes(simulator.journal.audio_of[1]) == SILENCE[:1600] + SPEECH + SILENCE
    assert "keyterm=Ulm" in simulator.journal.received[0].path


async def test_a_turn_that_goes_on_is_resumed() -> None:
    pause = SILENCE[:2800]
    async with Stage(CartesiaSimulator(Script(turns=(Turn(hears="well then"),)))) as stage:
        events = [event async for event in turns_of(stage, SPEECH, pause, SPEECH, SILENCE)]
    kinds = [kind for kind, _ in events if kind != "turn.update"]
    assert kinds == ["connected", "turn.start", "turn.eager_end", "turn.resume", "turn.eager_end", "turn.end"]


async def test_a_law_is_understood_as_well() -> None:
    speech = tone(400, 900, -15, Encoding.PCMA)
    async with Stage(CartesiaSimulator(Script(turns=(Turn(hears="hello"),)))) as stage:
        events = [event async for event in turns_of(stage, speech, b"\xd5" * 8000, encoding="pcm_alaw")]
    assert events[-1] == ("turn.end", "hello")
