"""Deepgram's voice: message by message."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.bridge.cascade.recorded_parts import RecordedVoice

from offhook.bridge.cascade.ports import PartSettings
from offhook.bridge.cascade.tts_deepgram import DEEPGRAM_TTS, FLUSHED_CHARACTERS, MAX_TEXT_CHARACTERS, DeepgramVoice
from offhook.bridge.codec import BridgeFault
from offhook.model.audio import L16_16K, PCMU_8K


def settings(base_url: str = DEEPGRAM_TTS.url, **more: Any) -> PartSettings:
    return PartSettings(base_url=base_url, api_key="k", **more)


# ── message by message ───────────────────────────────────────────────────────────────────────────────────


class Talk:
    """A codec whose other end is the test."""

    def __init__(self) -> None:
        self.codec = DeepgramVoice(settings(), PCMU_8K)
        self.out = RecordedVoice()
        self.codec.opened(self.out)

    def say(self, context: str, *texts: str) -> None:
        self.codec.begin(context, self.out)
        for text in texts:
            self.codec.say(context, text, self.out)

    def hear(self, *messages: str | bytes) -> None:
        for message in messages:
            if isinstance(message, bytes):
                self.codec.receive(message, self.out, is_text=False)
            else:
                self.codec.receive(msgspec.json.encode({"type": message}), self.out, is_text=True)

    def sent(self) -> list[str]:
        return [message.get("text", message["type"]) for message in self.out.sent]


@pytest.mark.parametrize(
    ("more", "model"),
    [
        ({}, "aura-2-thalia-en"),
        ({"voice": "aura-2-apollo-en"}, "aura-2-apollo-en"),
        ({"voice": "aura-2-thalia-en", "model": "aura-2-apollo-en"}, "aura-2-apollo-en"),
    ],
)
def test_a_voice_is_a_model(more: dict[str, str], model: str) -> None:
    target = DeepgramVoice(settings(speed=9.0, **more), L16_16K).target()
    assert target.url.startswith("wss://api.deepgram.com/v1/speak?")
    assert dict(parse_qsl(urlsplit(target.url).query)) == {
        "model": model,
        "encoding": "linear16",
        "sample_rate": "16000",
        "container": "none",
        "speed": "1.5",
    }
    assert dict(target.headers) == {"Authorization": "Token k"}


def test_the_first_piece_is_flushed_and_the_end_is() -> None:
    talk = Talk()
    talk.say("a", "Good day. ", "How are ", "you? ")
    talk.codec.finish("a", talk.out)
    talk.codec.finish("a", talk.out)
    assert talk.sent() == ["Good day. ", "Flush", "How are ", "you? ", "Flush"]
    talk.hear(b"1", "Flushed")
    assert talk.out.done() == []
    talk.hear(b"2", "Flushed", "Flushed", b"3")
    assert talk.out.done() == ["a"]
    assert talk.out.audio == {"a": b"12"}


def test_a_long_answer_is_flushed_on_the_way() -> None:
    talk = Talk()
    talk.say("a", "Well. ", "x" * FLUSHED_CHARACTERS, "y")
    assert talk.sent().count("Flush") == 2


def test_a_text_too_long_for_a_message_goes_in_several() -> None:
    talk = Talk()
    talk.say("a", "x" * (2 * MAX_TEXT_CHARACTERS + 1))
    assert [len(message["text"]) for message in talk.out.sent if message["type"] == "Speak"] == [2000, 2000, 1]


def test_an_utterance_without_words_is_done_at_once() -> None:
    talk = Talk()
    talk.say("a", " ")
    talk.codec.finish("a", talk.out)
    assert (talk.sent(), talk.out.done()) == ([], ["a"])


def test_what_was_cut_off_is_not_heard_until_it_is_cleared_and_the_next_one_is() -> None:
    talk = Talk()
    talk.say("a", "One. ")
    talk.hear(b"1")
    talk.codec.cancel("a", talk.out)
    talk.codec.cancel("a", talk.out)
    talk.say("b", "Two. ")
    talk.hear(b"old", "Flushed", "Cleared", b"2", "Flushed")
    talk.codec.finish("b", talk.out)
    assert talk.sent() == ["One. ", "Flush", "Clear", "Two. ", "Flush"]
    assert talk.out.audio == {"a": b"1", "b": b"2"}
    assert talk.out.done() == ["b"]


def test_nothing_is_cleared_where_nothing_was_sent() -> None:
    talk = Talk()
    talk.say("a")
    for context in ("a", "a", "unknown", ""):
        talk.codec.cancel(context, talk.out)
    assert talk.sent() == []


@pytest.mark.parametrize(
    "message",
    [
        {"type": "Warning", "code": "EXCEEDED", "description": "No more Flush messages."},
        {"type": "Error", "code": "DATA-0001", "description": "Why."},
    ],
)
def test_what_ends_an_utterance_is_tried_on_another_websocket(message: dict[str, str]) -> None:
    talk = Talk()
    talk.codec.receive(msgspec.json.encode(message), talk.out, is_text=True)
    assert [fault.verdict for fault in talk.out.of(BridgeFault)] == ["retry"]


def test_only_a_voice_that_was_speaking_has_failed_when_it_is_closed() -> None:
    talk = Talk()
    assert talk.codec.closed(1000, "") is None
    talk.say("a", "One.")
    fault = talk.codec.closed(1011, "why")
    assert fault is not None
    assert fault.verdict == "retry"


@given(st.lists(st.binary(max_size=60) | st.sampled_from(["Flushed", "Cleared", "Metadata", "Warning", "x"])))
def test_whatever_comes_nothing_is_raised_and_an_utterance_is_done_once(messages: list[bytes | str]) -> None:
    talk = Talk()
    talk.say("a", "One.")
    talk.codec.finish("a", talk.out)
    for message in messages:
        talk.hear(message)
        if isinstance(message, bytes):
            talk.codec.receive(message, talk.out, is_text=True)
    assert len(talk.out.done()) <= 1
