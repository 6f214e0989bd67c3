"""Cartesia's voice: message by message, then on a real websocket with the simulator at its other end."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.bridge.cascade.part_talk import say, voice_at
from tests.bridge.cascade.recorded_parts import RecordedVoice

from offhook.bridge.cascade.ports import ContextFailed, PartSettings
from offhook.bridge.cascade.tts_cartesia import API_VERSION, CARTESIA_TTS, CartesiaVoice
from offhook.bridge.codec import BridgeFault
from offhook.model.audio import L16_16K, PCMA_8K, PCMU_8K, AudioFormat
from offhook.model.errors import BridgeError
from offhook.simulators.cartesia import CartesiaSimulator
from offhook.simulators.script import Fault, Script
from offhook.simulators.voice import spoken

VOICE = "a0e99841-438c-4a64-b679-ae501e7d6091"


def settings(base_url: str = CARTESIA_TTS.url, **more: Any) -> PartSettings:
    return PartSettings(base_url=base_url, api_key="k", voice=VOICE, **more)


# ── message by message ───────────────────────────────────────────────────────────────────────────────────


class Talk:
    """A codec whose other end is the test."""

    def __init__(self, audio_format: AudioFormat = PCMU_8K, **more: Any) -> None:
        self.codec = CartesiaVoice(settings(**more), audio_format)
        self.out = RecordedVoice()
        self.codec.opened(self.out)

    def say(self, context: str, *texts: str) -> None:
        self.codec.begin(context, self.out)
        for text in texts:
            self.codec.say(context, text, self.out)

    def hear(self, **event: Any) -> None:
        if isinstance(event.get("data"), bytes):
            event["data"] = b64encode(event["data"]).decode()
        self.codec.receive(msgspec.json.encode(event), self.out, is_text=True)

    @property
    def wire_id(self) -> str:
        """Of the last message that was sent."""
        return str(self.out.sent[-1]["context_id"])


def test_the_handshake_names_the_version_of_the_api() -> None:
    target = CartesiaVoice(settings(headers={"X-Trace": "1"}), PCMU_8K).target()
    assert target.url == "wss://api.cartesia.ai/tts/websocket"
    assert dict(target.headers) == {"Authorization": "Bearer k", "Cartesia-Version": API_VERSION, "X-Trace": "1"}


def test_every_message_of_a_context_is_the_same_but_for_its_text() -> None:
    talk = Talk(language="en-GB", speed=9.0, extra={"pronunciation_dict_id": "d1"})
    talk.say("a", "Hello, ", "there.")
    talk.codec.finish("a", talk.out)
    assert [(m.pop("transcript"), m.pop("continue")) for m in talk.out.sent] == [
        ("Hello, ", True),
        ("there.", True),
        ("", False),
    ]
    assert talk.out.sent[0] == talk.out.sent[1] == talk.out.sent[2]
    assert talk.out.sent[0] == {
        "context_id": "offhook-1",
        "model_id": "sonic-3.5",
        "voice": {"mode": "id", "id": VOICE},
        "output_format": {"container": "raw", "encoding": "pcm_mulaw", "sample_rate": 8000},
        "language": "en",
        "max_buffer_delay_ms": 0,
        "add_timestamps": True,
        "generation_config": {"speed": 1.5},
        "pronunciation_dict_id": "d1",
    }


@pytest.mark.parametrize(
    ("audio_format", "encoding", "rate_hz"),
    [(PCMU_8K, "pcm_mulaw", 8000), (PCMA_8K, "pcm_alaw", 8000), (L16_16K, "pcm_s16le", 16000)],
)
def test_speaks_in_the_format_of_the_call(audio_format: AudioFormat, encoding: str, rate_hz: int) -> None:
    talk = Talk(audio_format)
    talk.say("a", "Hello.")
    assert talk.out.sent[0]["output_format"] == {"container": "raw", "encoding": encoding, "sample_rate": rate_hz}


def test_audio_goes_to_the_context_that_is_named_whatever_the_order() -> None:
    talk = Talk()
    talk.say("a", "One.")
    one = talk.wire_id
    talk.say("b", "Two.")
    two = talk.wire_id
    talk.hear(type="chunk", context_id=two, data=b"22", done=False, status_code=206)
    talk.hear(type="chunk", context_id=one, data=b"1", done=False, status_code=206)
    talk.hear(type="chunk", context_id="nobody", data=b"0", done=False, status_code=206)
    assert talk.out.audio == {"a": b"1", "b": b"22"}


def test_nothing_of_a_cancelled_context_is_heard_and_it_is_cancelled_once() -> None:
    talk = Talk()
    talk.say("a", "A long story. ")
    wire_id = talk.wire_id
    talk.hear(type="chunk", context_id=wire_id, data=b"1")
    talk.codec.cancel("a", talk.out)
    talk.codec.cancel("a", talk.out)
    talk.hear(type="chunk", context_id=wire_id, data=b"2")
    talk.hear(type="timestamps", context_id=wire_id, word_timestamps={"words": ["A"], "start": [0], "end": [1]})
    talk.hear(type="done", context_id=wire_id, done=True)
    talk.hear(type="error", context_id=wire_id, status_code=400, title="gone")
    assert [message for message in talk.out.sent if "cancel" in message] == [{"context_id": wire_id, "cancel": True}]
    assert talk.out.audio == {"a": b"1"}
    assert talk.out.events == []


def test_contexts_that_are_done_or_were_never_opened_are_not_cancelled() -> None:
    talk = Talk()
    talk.say("a", "One.")
    talk.codec.finish("a", talk.out)
    talk.hear(type="chunk", context_id=talk.wire_id, data=b"1")
    talk.hear(type="done", context_id=talk.wire_id, done=True)
    talk.codec.cancel("a", talk.out)
    talk.codec.begin("b", talk.out)
    talk.codec.cancel("b", talk.out)
    assert not [message for message in talk.out.sent if "cancel" in message]


def test_an_utterance_of_nothing_but_dots_is_done_at_once() -> None:
    talk = Talk()
    talk.say("a", " … ")
    talk.codec.finish("a", talk.out)
    assert talk.out.sent == []
    assert talk.out.done() == ["a"]


def test_words_are_placed_in_milliseconds() -> None:
    talk = Talk()
    talk.say("a", "Good morning.")
    words = {"words": ["Good", "morning.", "x"], "start": [0.0, 0.4215, 1e300], "end": [0.4, 0.9, 1.0]}
    talk.hear(type="timestamps", context_id=talk.wire_id, word_timestamps=words)
    assert talk.out.words("a") == [("Good", 0), ("morning.", 422)]


def test_what_their_second_ended_goes_on_in_another_context_of_theirs() -> None:
    talk = Talk()
    talk.say("a", "One moment. ")
    first = talk.wire_id
    talk.hear(type="chunk", context_id=first, data=bytes(800))
    talk.hear(type="done", context_id=first, done=True)
    assert talk.out.done() == []
    talk.codec.say("a", "Here it is.", talk.out)
    second = talk.wire_id
    assert second != first
    assert talk.out.sent[-1]["transcript"] == "Here it is."
    talk.hear(type="chunk", context_id=second, data=bytes(8))
    talk.hear(type="timestamps", context_id=second, word_timestamps={"words": ["Here"], "start": [0.05], "end": [0.2]})
    talk.codec.finish("a", talk.out)
    talk.hear(type="done", context_id=second, done=True)
    assert talk.out.words("a") == [("Here", 150)]
    assert talk.out.done() == ["a"]


@pytest.mark.parametrize("end", [{"type": "done", "done": True}, {"type": "error", "status_code": 400}])
def test_text_that_fell_into_the_gap_is_sent_again(end: dict[str, Any]) -> None:
    talk = Talk()
    talk.say("a", "One moment. ")
    first = talk.wire_id
    talk.hear(type="chunk", context_id=first, data=b"1")
    talk.codec.say("a", "Here it is.", talk.out)
    talk.codec.finish("a", talk.out)
    talk.hear(context_id=first, **end)
    last = talk.out.sent[-1]
    assert last["context_id"] != first
    assert (last["transcript"], last["continue"]) == ("Here it is.", False)
    talk.hear(type="chunk", context_id=last["context_id"], data=b"2")
    talk.hear(type="done", context_id=last["context_id"], done=True)
    assert talk.out.audio == {"a": b"12"}
    assert talk.out.done() == ["a"]


def test_text_that_nothing_can_be_made_of_is_sent_again_once() -> None:
    talk = Talk()
    talk.say("a", "Hm")
    talk.codec.finish("a", talk.out)
    for _ in range(2):
        talk.hear(type="done", context_id=talk.wire_id, done=True)
    assert [message["transcript"] for message in talk.out.sent] == ["Hm", "", "Hm"]
    assert talk.out.done() == ["a"]


@pytest.mark.parametrize(
    ("status", "verdict"), [(429, "retry"), (500, "retry"), (503, "retry"), (400, "fall_over"), (422, "fall_over")]
)
def test_an_error_of_a_context_fails_that_context(status: int, verdict: str) -> None:
    talk = Talk()
    talk.say("a", "Hello.")
    talk.hear(type="error", context_id=talk.wire_id, status_code=status, error_code="concurrency_limited", message="No")
    (failed,) = talk.out.of(ContextFailed)
    assert (failed.context, failed.fault.verdict) == ("a", verdict)
    assert "concurrency_limited" in failed.fault.problem
    talk.say("a", "Hello.")
    assert talk.wire_id == "offhook-2"


@pytest.mark.parametrize(("status", "verdict"), [(401, "fall_over"), (402, "fall_over"), (404, "fall_over")])
def test_an_error_of_the_account_or_the_voice_ends_it_all(status: int, verdict: str) -> None:
    talk = Talk()
    talk.say("a", "Hello.")
    talk.hear(type="error", context_id=talk.wire_id, status_code=status, title="No", message="Nothing left")
    (fault,) = talk.out.of(BridgeFault)
    assert fault.verdict == verdict
    assert "Nothing left" in fault.problem


def test_an_idle_websocket_may_be_closed_one_that_speaks_may_not() -> None:
    talk = Talk()
    assert talk.codec.closed(1000, "idle") is None
    assert talk.codec.closed(1006, "") is None
    talk.say("a", "Hello.")
    fault = talk.codec.closed(1011, "")
    assert fault is not None
    assert fault.verdict == "retry"
    refused = talk.codec.closed(1008, "policy")
    assert refused is not None
    assert refused.verdict == "fall_over"


@pytest.mark.parametrize(("status", "verdict"), [(401, "fall_over"), (429, "retry"), (503, "retry")])
def test_a_refused_handshake(status: int, verdict: str) -> None:
    assert Talk().codec.refused(status, b'{"title":"No"}').verdict == verdict


@pytest.mark.parametrize("message", [b"{", b"[]", b"null", b"\xff\xfe", b'{"type":1}', b'{"data":"%"}', b"[" * 5000])
def test_a_broken_message_is_a_fault_to_be_tried_again(message: bytes) -> None:
    talk = Talk()
    talk.codec.receive(message, talk.out, is_text=True)
    assert [fault.verdict for fault in talk.out.of(BridgeFault)] == ["retry"]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELDS = st.sampled_from(["type", "context_id", "data", "word_timestamps", "status_code", "message", "title"])
KINDS = st.sampled_from(["chunk", "timestamps", "done", "error", "flush_done", "weather"])


@given(st.lists(st.binary(max_size=60) | st.dictionaries(FIELDS, VALUES | KINDS, max_size=5), max_size=8))
def test_whatever_comes_nothing_is_raised(messages: list[bytes | dict[str, Any]]) -> None:
    talk = Talk()
    talk.say("a", "Hello. ")
    for message in messages:
        raw = message if isinstance(message, bytes) else msgspec.json.encode({"context_id": "offhook-1"} | message)
        talk.codec.receive(raw, talk.out, is_text=True)
    talk.codec.finish("a", talk.out)
    talk.codec.cancel("a", talk.out)


def test_models_of_old_have_a_successor() -> None:
    assert {CARTESIA_TTS.renamed[name] for name in ("sonic-2", "turbo", "sonic-turbo", "sonic")} == {"sonic-3.5"}


# ── on a websocket, with the simulator at its other end ──────────────────────────────────────────────────


async def test_an_idle_websocket_is_dialled_again_when_there_is_something_to_say() -> None:
    simulator = CartesiaSimulator(Script(), idle_s=0.05)
    async with voice_at(simulator, CARTESIA_TTS) as (voice, heard):
        say(voice, "a", "First.")
        await heard.until(lambda: heard.done() == ["a"])
        await asyncio.sleep(0.15)  # their clock: nothing else tells that the websocket was closed
        say(voice, "b", "Second.")
        await heard.until(lambda: heard.done() == ["a", "b"])
    assert heard.audio["b"] == spoken("Second.", PCMU_8K)
    assert simulator.journal.connections == 2
    assert heard.of(BridgeFault) == []


async def test_text_that_comes_late_is_spoken_all_the_same() -> None:
    simulator = CartesiaSimulator(Script())
    async with voice_at(simulator, CARTESIA_TTS) as (voice, heard):
        voice.begin("a")
        voice.say("a", "One moment. ")
        await heard.until(lambda: "a" in heard.audio)
        await asyncio.sleep(1.2)  # their second
        voice.say("a", "Here it is.")
        voice.finish("a")
        await heard.until(lambda: heard.done() == ["a"])
    assert heard.audio["a"] == spoken("One moment.", PCMU_8K) + spoken("Here it is.", PCMU_8K)
    assert simulator.journal.problems == []


async def test_too_much_at_once_is_tried_again() -> None:
    script = Script(faults=(Fault(do="error", text="concurrency_limited"),))
    async with voice_at(CartesiaSimulator(script), CARTESIA_TTS) as (voice, heard):
        say(voice, "a", "Good morning.")
        await heard.until(lambda: heard.done() == ["a"])
    assert heard.audio["a"] == spoken("Good morning.", PCMU_8K)


@pytest.mark.parametrize("code", ["quota_exceeded", "voice_not_found"])
async def test_an_empty_account_falls_over(code: str) -> None:
    script = Script(faults=(Fault(do="error", text=code),))
    async with voice_at(CartesiaSimulator(script), CARTESIA_TTS) as (voice, heard):
        say(voice, "a", "Good morning.")
        await heard.until(lambda: bool(heard.of(BridgeFault)))
    assert [fault.verdict for fault in heard.of(BridgeFault)] == ["fall_over"]


@pytest.mark.parametrize(("status", "verdict"), [(401, "fall_over"), (402, "fall_over")])
async def test_a_refused_key_is_told_at_once(status: int, verdict: str) -> None:
    simulator = CartesiaSimulator(Script(faults=(Fault(do="refuse", on="connect", code=status, text="unauthorized"),)))
    with pytest.raises(BridgeError, match="unauthorized") as told:
        async with voice_at(simulator, CARTESIA_TTS):
            pass
    assert told.value.verdict == verdict
