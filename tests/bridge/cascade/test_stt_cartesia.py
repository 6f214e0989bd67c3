"""Cartesia's recogniser: message by message, then on a real websocket with the simulator at its other end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.bridge.cascade.recorded_parts import RecordedEar

from offhook.audio.tones import tone
from offhook.bridge.cascade.ports import EagerEnd, EndOfTurn, PartialText, PartSettings, Resumed, SpeechBegan
from offhook.bridge.cascade.socket_recogniser import SocketRecogniser
from offhook.bridge.cascade.stt_cartesia import (
    CARTESIA_STT,
    END_TIMEOUT_MS,
    MAX_KEYTERM_CHARACTERS,
    SLACK_MS,
    CartesiaRecogniser,
)
from offhook.bridge.codec import BridgeFault
from offhook.model.audio import FRAME_MS, L16_16K, PCMA_8K, PCMU_8K, AudioFormat, Encoding
from offhook.model.errors import BridgeError
from offhook.simulators.cartesia import CartesiaSimulator
from offhook.simulators.script import Fault, Script, Turn
from offhook.simulators.stage import Stage


def settings(base_url: str = CARTESIA_STT.url, **more: Any) -> PartSettings:
    return PartSettings(base_url=base_url, api_key="k", **more)


# ── message by message ───────────────────────────────────────────────────────────────────────────────────


class Talk:
    """A codec whose other end is the test."""

    def __init__(self) -> None:
        self.codec = CartesiaRecogniser(settings(), PCMU_8K)
        self.out = RecordedEar()
        self.codec.opened(self.out)

    def hear(self, *kinds: str, transcript: str = "", **more: Any) -> None:
        for kind in kinds:
            message = {"type": kind, "request_id": "r", "transcript": transcript, **more}
            self.codec.receive(msgspec.json.encode(message), self.out, is_text=True)


@pytest.mark.parametrize(
    ("audio_format", "encoding", "rate"),
    [(PCMU_8K, "pcm_mulaw", "8000"), (PCMA_8K, "pcm_alaw", "8000"), (L16_16K, "pcm_s16le", "16000")],
)
def test_the_handshake_says_what_audio_comes(audio_format: AudioFormat, encoding: str, rate: str) -> None:
    wanted = settings(keywords=("Ulm", "Acme Inc"), extra={"turn_end_timeout_ms": 3000})
    target = CartesiaRecogniser(wanted, audio_format).target()
    assert target.url.startswith("wss://api.cartesia.ai/stt/turns/websocket?")
    assert parse_qsl(urlsplit(target.url).query) == [
        ("model", "ink-2"),
        ("encoding", encoding),
        ("sample_rate", rate),
        ("keyterm", "Ulm"),
        ("keyterm", "Acme Inc"),
        ("turn_end_timeout_ms", "3000"),
    ]
    assert dict(target.headers) == {"Authorization": "Bearer k", "Cartesia-Version": "2026-08-14"}


def test_more_terms_than_they_take_are_left_out() -> None:
    words = tuple("x" * 50 for _ in range(200))
    target = CartesiaRecogniser(settings(keywords=words), PCMU_8K).target()
    assert target.url.count("keyterm=") == MAX_KEYTERM_CHARACTERS // 50


def test_a_turn_from_its_beginning_to_its_end() -> None:
    talk = Talk()
    assert talk.codec.audio(b"\xff" * 160, talk.out) == b"\xff" * 160
    talk.hear("connected", "turn.start")
    talk.hear("turn.update", transcript="is it")
    talk.hear("turn.eager_end", transcript="is it open")
    talk.hear("turn.resume")
    talk.hear("turn.end", transcript="is it open now")
    assert talk.out.events == [
        SpeechBegan(),
        PartialText(text="is it"),
        EagerEnd(text="is it open"),
        Resumed(),
        EndOfTurn(text="is it open now"),
    ]


def test_repetitions_and_what_belongs_to_no_turn_are_nothing() -> None:
    talk = Talk()
    talk.hear("turn.update", "turn.eager_end", "turn.resume", "turn.end", "turn.mood", transcript="late")
    talk.hear("turn.start", "turn.start", "turn.resume")
    talk.hear("turn.end", "turn.end", transcript="once")
    assert talk.out.names() == ["SpeechBegan", "EndOfTurn"]


def test_a_turn_of_which_nothing_more_is_told_is_a_fault() -> None:
    talk = Talk()
    silent = (END_TIMEOUT_MS + SLACK_MS) // FRAME_MS
    for _ in range(2 * silent):
        talk.codec.audio(b"\xff" * 160, talk.out)
    talk.hear("turn.start")
    for _ in range(silent):
        talk.codec.audio(b"\xff" * 160, talk.out)
    assert talk.out.names() == ["SpeechBegan"]
    talk.codec.audio(b"\xff" * 160, talk.out)
    assert [fault.verdict for fault in talk.out.of(BridgeFault)] == ["retry"]


@pytest.mark.parametrize(
    ("status", "verdict"), [(400, "fall_over"), (401, "fall_over"), (402, "fall_over"), (429, "retry"), (500, "retry")]
)
def test_errors_have_a_verdict(status: int, verdict: str) -> None:
    talk = Talk()
    talk.hear("error", status_code=status, title="No", message="Nothing left", error_code=None)
    (fault,) = talk.out.of(BridgeFault)
    assert fault.verdict == verdict
    assert "Nothing left" in fault.problem
    assert talk.codec.refused(status, b"").verdict == verdict


@pytest.mark.parametrize("message", [b"{", b"[]", b"null", b"\xff\xfe", b'{"type":1}', b"[" * 5000])
def test_a_broken_message_is_a_fault_to_be_tried_again(message: bytes) -> None:
    talk = Talk()
    talk.codec.receive(message, talk.out, is_text=True)
    assert [fault.verdict for fault in talk.out.of(BridgeFault)] == ["retry"]


VALUES = st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.integers(), max_size=3)
KINDS = st.sampled_from(["turn.start", "turn.update", "turn.eager_end", "turn.resume", "turn.end", "error"])


@given(st.lists(st.binary(max_size=60) | st.fixed_dictionaries({"type": KINDS | VALUES, "transcript": VALUES})))
def test_whatever_comes_nothing_is_raised_and_each_turn_ends_once(messages: list[bytes | dict[str, Any]]) -> None:
    talk = Talk()
    for message in messages:
        talk.codec.receive(
            message if isinstance(message, bytes) else msgspec.json.encode(message), talk.out, is_text=True
        )
    began, ended = len(talk.out.of(SpeechBegan)), len(talk.out.of(EndOfTurn))
    assert began - 1 <= ended <= began


# ── on a websocket, with the simulator at its other end ──────────────────────────────────────────────────

SILENCE = {PCMU_8K: b"\xff" * 160, PCMA_8K: b"\xd5" * 160}


@asynccontextmanager
async def ear_at(
    simulator: CartesiaSimulator, audio_format: AudioFormat = PCMU_8K
) -> AsyncIterator[tuple[SocketRecogniser, RecordedEar]]:
    """An open recogniser and what it tells."""
    heard = RecordedEar()
    async with Stage(simulator) as stage:
        recogniser = SocketRecogniser(
            lambda: CartesiaRecogniser(settings(stage.url), audio_format),
            heard.stt_event,
            input_format=audio_format,
            codec_format=audio_format,
        )
        try:
            await recogniser.open()
            yield recogniser, heard
        finally:
            await recogniser.close()


def utterance(audio_format: AudioFormat = PCMU_8K, ms: int = 800) -> bytes:
    return tone(400, ms, -15, audio_format.encoding) + SILENCE[audio_format] * 40


def feed(recogniser: SocketRecogniser, audio: bytes) -> None:
    for at in range(0, len(audio), 160):
        recogniser.feed(audio[at : at + 160])


@pytest.mark.parametrize("audio_format", [PCMU_8K, PCMA_8K])
async def test_every_frame_arrives_and_turns_come_back(audio_format: AudioFormat) -> None:
    simulator = CartesiaSimulator(Script(turns=(Turn(hears="is it open"), Turn(hears="thank you"))))
    audio = utterance(audio_format)
    async with ear_at(simulator, audio_format) as (recogniser, heard):
        feed(recogniser, audio)
        await heard.until(lambda: len(heard.turns()) == 1)
        feed(recogniser, audio)
        await heard.until(lambda: len(heard.turns()) == 2)
    assert heard.turns() == ["is it open", "thank you"]
    assert heard.partials()[:2] == ["is", "is it"]
    assert bytes(simulator.journal.audio_of[1]) == audio * 2
    assert simulator.journal.problems == []


async def test_who_goes_on_after_a_pause_is_resumed() -> None:
    audio = tone(400, 600, -15, Encoding.PCMU) + SILENCE[PCMU_8K] * 18 + utterance()
    async with ear_at(CartesiaSimulator(Script(turns=(Turn(hears="well then"),)))) as (recogniser, heard):
        feed(recogniser, audio)
        await heard.until(lambda: heard.turns() == ["well then"])
    kinds = [name for name in heard.names() if name != "PartialText"]
    assert kinds == ["SpeechBegan", "EagerEnd", "Resumed", "EagerEnd", "EndOfTurn"]


@pytest.mark.parametrize("fault", [Fault(do="close", code=1011), Fault(do="drop"), Fault(do="garbage")])
async def test_a_websocket_that_breaks_is_followed_by_another(fault: Fault) -> None:
    simulator = CartesiaSimulator(Script(faults=(fault,), turns=(Turn(hears="hello"),)))
    async with ear_at(simulator) as (recogniser, heard):
        feed(recogniser, utterance())
        async with asyncio.timeout(20):
            while not heard.turns():
                recogniser.feed(SILENCE[PCMU_8K])  # the line goes on, a little faster than it would
                await asyncio.sleep(0.005)
    assert [one.verdict for one in heard.of(BridgeFault)] == ["retry"]
    assert heard.turns() == ["hello"]
    assert simulator.journal.connections == 2


async def test_a_refused_key_is_told_at_once() -> None:
    fault = Fault(do="refuse", on="connect", code=401, text="unauthorized")
    with pytest.raises(BridgeError, match="unauthorized") as told:
        async with ear_at(CartesiaSimulator(Script(faults=(fault,)))):
            pass
    assert told.value.verdict == "fall_over"
