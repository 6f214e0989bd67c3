"""OpenAI's recogniser: message by message."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.bridge.cascade.recorded_parts import RecordedEar

from offhook.bridge.cascade.ports import EndOfTurn, PartialText, PartSettings, SpeechBegan
from offhook.bridge.cascade.stt_openai import LATE_FRAMES, MAX_ITEMS, OPENAI_STT, OpenAIRecogniser
from offhook.bridge.codec import BridgeFault, UsageReported
from offhook.model.audio import L16_24K, PCMA_8K, PCMU_8K, AudioFormat

TRANSCRIPTION = "conversation.item.input_audio_transcription."


def settings(base_url: str = OPENAI_STT.url, **more: Any) -> PartSettings:
    return PartSettings(base_url=base_url, api_key="k", **more)


# ── message by message ───────────────────────────────────────────────────────────────────────────────────


class Talk:
    """A codec whose other end is the test."""

    def __init__(self, audio_format: AudioFormat = PCMU_8K, *, introduced: bool = True, **more: Any) -> None:
        self.codec = OpenAIRecogniser(settings(**more), audio_format)
        self.out = RecordedEar()
        self.codec.opened(self.out)
        if introduced:
            self.hear("session.updated", session={"type": "transcription"})

    def hear(self, kind: str, item: str = "", **more: Any) -> None:
        message = {"type": kind, "event_id": "e", **({"item_id": item} if item else {}), **more}
        self.codec.receive(msgspec.json.encode(message), self.out, is_text=True)

    def start(self, item: str) -> None:
        self.hear("input_audio_buffer.speech_started", item, audio_start_ms=0)

    def stop(self, item: str) -> None:
        self.hear("input_audio_buffer.speech_stopped", item, audio_end_ms=900)
        self.hear("input_audio_buffer.committed", item, previous_item_id=None)

    def complete(self, item: str, text: str, **more: Any) -> None:
        self.hear(f"{TRANSCRIPTION}completed", item, content_index=0, transcript=text, **more)

    def spoken(self) -> list[Any]:
        return [event for event in self.out.events if not isinstance(event, UsageReported)]


@pytest.mark.parametrize(
    ("audio_format", "described"),
    [
        (PCMU_8K, {"type": "audio/pcmu"}),
        (PCMA_8K, {"type": "audio/pcma"}),
        (L16_24K, {"type": "audio/pcm", "rate": 24000}),
    ],
)
def test_the_session_is_introduced_in_the_format_of_the_call(audio_format: AudioFormat, described: Any) -> None:
    talk = Talk(audio_format, introduced=False, language="de-DE", keywords=("Ulm",), extra={"noise_reduction": None})
    target = talk.codec.target()
    assert target.url == "wss://api.openai.com/v1/realtime?intent=transcription"
    assert target.headers == (("Authorization", "Bearer k"),)
    (update,) = talk.out.sent
    assert update["type"] == "session.update"
    assert update["session"]["type"] == "transcription"
    heard = update["session"]["audio"]["input"]
    assert heard["format"] == described
    assert heard["transcription"] == {"model": "gpt-live-transcribe", "language": "de", "keywords": ["Ulm"]}
    assert heard["turn_detection"]["type"] == "server_vad"
    assert heard["noise_reduction"] is None


def test_models_that_take_no_keywords_get_a_prompt() -> None:
    talk = Talk(model="gpt-realtime-whisper", keywords=("Ulm", "Acme"))
    assert talk.out.sent[0]["session"]["audio"]["input"]["transcription"]["prompt"] == "Ulm, Acme"


def test_no_audio_before_the_session_is_ours() -> None:
    talk = Talk(introduced=False)
    assert not talk.codec.takes_audio
    talk.hear("session.created", session={})
    assert not talk.codec.takes_audio
    talk.hear("session.updated", session={})
    assert talk.codec.takes_audio
    message = talk.codec.audio(b"\xff\x7f\x00", talk.out)
    assert message == b'{"type":"input_audio_buffer.append","audio":"/38A"}'


def test_an_utterance_is_told_as_it_is_understood() -> None:
    talk = Talk()
    talk.start("i1")
    talk.hear(f"{TRANSCRIPTION}delta", "i1", content_index=0, delta="is it")
    talk.stop("i1")
    talk.hear(f"{TRANSCRIPTION}delta", "i1", content_index=0, delta=" open")
    usage = {"type": "tokens", "input_tokens": 12, "output_tokens": 3, "total_tokens": 15}
    talk.complete("i1", "Is it open?", usage=usage)
    assert talk.spoken() == [
        SpeechBegan(),
        PartialText(text="is it"),
        PartialText(text="is it open"),
        EndOfTurn(text="Is it open?"),
    ]
    assert talk.out.of(UsageReported) == [
        UsageReported(units="input_tokens", amount=12),
        UsageReported(units="output_tokens", amount=3),
    ]


def test_who_goes_on_before_the_text_came_is_in_the_same_turn() -> None:
    talk = Talk()
    talk.start("i1")
    talk.stop("i1")
    talk.start("i2")
    talk.complete("i1", "Well,")
    talk.stop("i2")
    talk.complete("i2", "is it open?")
    talk.complete("i2", "is it open?")
    assert talk.spoken() == [SpeechBegan(), EndOfTurn(text="Well, is it open?")]


def test_items_are_put_together_as_they_were_spoken_not_as_they_came() -> None:
    talk = Talk()
    for item in ("i1", "i2"):
        talk.start(item)
        talk.stop(item)
    talk.complete("i2", "is it open?")
    talk.complete("i1", "Well,")
    assert talk.out.turns() == ["Well, is it open?"]


def test_an_utterance_that_was_not_understood_ends_with_what_came_of_it() -> None:
    talk = Talk()
    talk.start("i1")
    talk.hear(f"{TRANSCRIPTION}delta", "i1", delta="hm")
    talk.stop("i1")
    talk.hear(f"{TRANSCRIPTION}failed", "i1", error={"code": "audio_unintelligible", "message": "?"})
    assert talk.out.turns() == ["hm"]


def test_a_text_that_does_not_come_is_not_waited_for_for_ever() -> None:
    talk = Talk()
    talk.start("i1")
    talk.hear(f"{TRANSCRIPTION}delta", "i1", delta="hello")
    for _ in range(2 * LATE_FRAMES):
        talk.codec.audio(b"\xff" * 160, talk.out)
    assert talk.out.turns() == []
    talk.stop("i1")
    for _ in range(LATE_FRAMES):
        talk.codec.audio(b"\xff" * 160, talk.out)
    assert talk.out.turns() == ["hello"]
    talk.complete("i1", "Hello?")
    assert talk.out.turns() == ["hello"]


def test_a_turn_has_an_end_however_often_the_caller_pauses() -> None:
    talk = Talk()
    for index in range(MAX_ITEMS + 1):
        talk.start(f"i{index}")
        talk.stop(f"i{index}")
    assert len(talk.out.turns()) == 1
    assert len(talk.out.of(SpeechBegan)) == 2


@pytest.mark.parametrize(
    ("error", "introduced", "verdict"),
    [
        ({"type": "invalid_request_error", "code": "unknown_parameter"}, False, "fall_over"),
        ({"type": "invalid_request_error", "code": "unknown_parameter"}, True, None),
        ({"type": "invalid_request_error", "code": "session_expired"}, True, "retry"),
        ({"type": "server_error", "code": None}, True, "retry"),
        ({"type": "insufficient_quota", "code": "insufficient_quota"}, True, "fall_over"),
        ({}, False, "fall_over"),
    ],
)
def test_errors_have_a_verdict(error: dict[str, Any], introduced: bool, verdict: str | None) -> None:
    talk = Talk(introduced=introduced)
    talk.hear("error", error={"message": "No", **error})
    assert [fault.verdict for fault in talk.out.of(BridgeFault)] == ([verdict] if verdict else [])


@pytest.mark.parametrize("message", [b"{", b"[]", b"null", b"\xff\xfe", b'{"type":1}', b"[" * 5000])
def test_a_broken_message_is_a_fault_to_be_tried_again(message: bytes) -> None:
    talk = Talk()
    talk.codec.receive(message, talk.out, is_text=True)
    assert [fault.verdict for fault in talk.out.of(BridgeFault)] == ["retry"]


VALUES = st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.integers(), max_size=3)
KINDS = st.sampled_from(
    [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        f"{TRANSCRIPTION}delta",
        f"{TRANSCRIPTION}completed",
        f"{TRANSCRIPTION}failed",
        "error",
    ]
)
ITEMS = st.sampled_from(["i1", "i2", "i3"])
EVENTS = st.fixed_dictionaries({"type": KINDS}, optional={"item_id": ITEMS | VALUES, "delta": VALUES, "error": VALUES})


@given(st.lists(st.binary(max_size=60) | EVENTS, max_size=30))
def test_whatever_comes_nothing_is_raised_and_each_turn_ends_once(messages: list[bytes | dict[str, Any]]) -> None:
    talk = Talk()
    for message in messages:
        raw = message if isinstance(message, bytes) else msgspec.json.encode(message)
        talk.codec.receive(raw, talk.out, is_text=True)
    began, ended = len(talk.out.of(SpeechBegan)), len(talk.out.of(EndOfTurn))
    assert began - 1 <= ended <= began
