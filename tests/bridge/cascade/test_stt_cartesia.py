"""Cartesia's recogniser: message by message, then on a real websocket with the simulator at its other end."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.bridge.cascade.part_talk import ear_at, talk_until_heard, utterance
from tests.bridge.cascade.recorded_parts import RecordedEar

from offhook.bridge.cascade.ports import EagerEnd, EndOfTurn, PartialText, PartSettings, Resumed, SpeechBegan
from offhook.bridge.cascade.stt_cartesia import (
    CARTESIA_STT,
    END_TIMEOUT_MS,
    MAX_KEYTERM_CHARACTERS,
    SLACK_MS,
    CartesiaRecogniser,
)
from offhook.bridge.codec import BridgeFault
from offhook.model.audio import FRAME_MS, L16_16K, PCMA_8K, PCMU_8K, AudioFormat
from offhook.simulators.cartesia import CartesiaSimulator
from offhook.simulators.script import Fault, Script, Turn


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


@pytest.mark.parametrize("fault", [Fault(do="close", code=1011), Fault(do="drop"), Fault(do="garbage")])
async def test_a_turn_in_which_the_websocket_breaks_is_not_lost(fault: Fault) -> None:
    simulator = CartesiaSimulator(Script(faults=(fault,), turns=(Turn(hears="hello"),)))
    async with ear_at(simulator, CARTESIA_STT) as (recogniser, heard):
        await talk_until_heard(recogniser, heard, utterance(), 1)
    assert [one.verdict for one in heard.of(BridgeFault)] == ["retry"]
    assert heard.turns() == ["hello"]
    assert simulator.journal.connections == 2
