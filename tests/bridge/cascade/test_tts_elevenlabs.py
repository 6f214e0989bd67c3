"""ElevenLabs' voice: message by message, then on a real websocket with the simulator at its other end."""

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

from offhook.bridge.cascade.ports import PartSettings
from offhook.bridge.cascade.tts_elevenlabs import ELEVENLABS_TTS, MAX_OPEN, ElevenLabsVoice
from offhook.bridge.codec import BridgeFault
from offhook.model.audio import L16_16K, PCMA_8K, PCMU_8K, AudioFormat
from offhook.simulators.elevenlabs_tts import ElevenLabsTtsSimulator
from offhook.simulators.script import Fault, Script
from offhook.simulators.voice import spoken

VOICE = "JBFqnCBsd6RMkjVDRZzb"


def settings(base_url: str = ELEVENLABS_TTS.url, voice: str = VOICE, **more: Any) -> PartSettings:
    return PartSettings(base_url=base_url, api_key="k", voice=voice, **more)


# ── message by message ───────────────────────────────────────────────────────────────────────────────────


class Talk:
    """A codec whose other end is the test."""

    def __init__(self, **more: Any) -> None:
        self.codec = ElevenLabsVoice(settings(**more), PCMU_8K)
        self.out = RecordedVoice()
        self.codec.opened(self.out)

    def say(self, context: str, *texts: str) -> None:
        self.codec.begin(context, self.out)
        for text in texts:
            self.codec.say(context, text, self.out)

    def hear(
        self, context: str = "offhook-1", audio: bytes = b"", chars: str = "", step_ms: int = 10, **more: Any
    ) -> None:
        times = [index * step_ms for index in range(len(chars))]
        alignment = {"chars": list(chars), "charStartTimesMs": times, "charDurationsMs": [step_ms] * len(chars)}
        message = {"audio": b64encode(audio).decode(), "contextId": context, "alignment": alignment, **more}
        self.codec.receive(msgspec.json.encode(message), self.out, is_text=True)


@pytest.mark.parametrize(
    ("audio_format", "name"), [(PCMU_8K, "ulaw_8000"), (PCMA_8K, "alaw_8000"), (L16_16K, "pcm_16000")]
)
def test_the_handshake_asks_for_the_format_of_the_call(audio_format: AudioFormat, name: str) -> None:
    wanted = settings(voice="a/b", language="de-AT", extra={"apply_text_normalization": "off", "voice_settings": {}})
    target = ElevenLabsVoice(wanted, audio_format).target()
    assert target.url == (
        "wss://api.elevenlabs.io/v1/text-to-speech/a%2Fb/multi-stream-input?model_id=eleven_flash_v2_5"
        f"&output_format={name}&auto_mode=true&sync_alignment=true&inactivity_timeout=180&language_code=de"
        "&apply_text_normalization=off"
    )
    assert target.headers == (("xi-api-key", "k"),)


def test_a_context_is_opened_with_how_it_speaks_and_closed_when_all_was_said() -> None:
    talk = Talk(speed=0.1, extra={"voice_settings": {"stability": 0.4}})
    talk.say("a", "Hello, ", "there.")
    talk.codec.finish("a", talk.out)
    assert talk.out.sent == [
        {"text": " ", "voice_settings": {"speed": 0.7, "stability": 0.4}, "context_id": "offhook-1"},
        {"text": "Hello, ", "context_id": "offhook-1"},
        {"text": "there. ", "context_id": "offhook-1"},
        {"flush": True, "context_id": "offhook-1"},
        {"close_context": True, "context_id": "offhook-1"},
    ]


def test_a_context_of_no_text_is_never_opened() -> None:
    talk = Talk()
    talk.say("a", " ")
    talk.codec.finish("a", talk.out)
    talk.codec.begin("b", talk.out)
    talk.codec.cancel("b", talk.out)
    assert talk.out.sent == []
    assert talk.out.done() == ["a"]


def test_audio_goes_to_the_context_that_is_named() -> None:
    talk = Talk()
    talk.say("a", "One.")
    talk.say("b", "Two.")
    talk.hear("offhook-2", b"22")
    talk.hear("offhook-1", b"1")
    talk.hear("nobody", b"0")
    talk.hear("offhook-2", isFinal=True)
    assert talk.out.audio == {"a": b"1", "b": b"22"}
    assert talk.out.done() == ["b"]


def test_words_are_placed_by_their_first_character_across_pieces() -> None:
    talk = Talk()
    talk.say("a", "Good morning to you.")
    talk.hear(audio=bytes(800), chars="Good mor")
    talk.hear(audio=bytes(800), chars="ning to ")
    talk.hear(audio=bytes(800), chars="you.")
    assert talk.out.words("a") == [("Good", 0), ("morning", 50), ("to", 150)]
    talk.hear(isFinal=True)
    assert talk.out.words("a")[3:] == [("you.", 200)]


def test_a_context_that_is_cut_off_is_closed_once_and_no_more_heard_of() -> None:
    talk = Talk()
    talk.say("a", "A long story.")
    talk.hear(audio=b"1")
    talk.codec.cancel("a", talk.out)
    talk.codec.cancel("a", talk.out)
    talk.hear(audio=b"2", chars="A ")
    talk.hear(isFinal=True)
    assert talk.out.sent[2:] == [{"close_context": True, "context_id": "offhook-1"}]
    assert talk.out.audio == {"a": b"1"}
    assert talk.out.events == []


def test_a_context_that_is_closed_already_is_not_closed_when_it_is_cut_off() -> None:
    talk = Talk()
    talk.say("a", "A long story.")
    talk.codec.finish("a", talk.out)
    sent = len(talk.out.sent)
    talk.codec.cancel("a", talk.out)
    assert len(talk.out.sent) == sent


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        ("max_active_conversations", "retry"),
        ("system_busy", "retry"),
        ("quota_exceeded", "fall_over"),
        ("invalid_api_key", "fall_over"),
        ("voice_id_does_not_exist", "fall_over"),
    ],
)
def test_errors_have_a_verdict(error: str, verdict: str) -> None:
    talk = Talk()
    talk.say("a", "Hello.")
    talk.hear(error=error, message="No", code=1008)
    (fault,) = talk.out.of(BridgeFault)
    assert fault.verdict == verdict
    assert error in fault.problem


def test_only_a_websocket_that_has_something_to_say_may_not_be_closed() -> None:
    talk = Talk()
    assert talk.codec.closed(1008, "timeout") is None
    talk.say("a", "Hello.")
    fault = talk.codec.closed(1011, "")
    assert fault is not None
    assert fault.verdict == "retry"


@pytest.mark.parametrize("message", [b"{", b"[]", b"null", b"\xff\xfe", b'{"audio":1}', b'{"audio":"%"}', b"[" * 5000])
def test_a_broken_message_is_a_fault_to_be_tried_again(message: bytes) -> None:
    talk = Talk()
    talk.codec.receive(message, talk.out, is_text=True)
    assert [fault.verdict for fault in talk.out.of(BridgeFault)] == ["retry"]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
ALIGNMENTS = st.fixed_dictionaries(
    {"chars": st.lists(st.text(max_size=2)), "charStartTimesMs": st.lists(st.floats(allow_nan=False))}
)
FIELDS = st.sampled_from(["contextId", "audio", "isFinal", "error", "alignment", "code", "message"])


@given(st.lists(st.binary(max_size=60) | st.dictionaries(FIELDS, VALUES | ALIGNMENTS, max_size=5), max_size=8))
def test_whatever_comes_nothing_is_raised(messages: list[bytes | dict[str, Any]]) -> None:
    talk = Talk()
    talk.say("a", "Hello. ")
    for message in messages:
        raw = message if isinstance(message, bytes) else msgspec.json.encode({"contextId": "offhook-1"} | message)
        talk.codec.receive(raw, talk.out, is_text=True)
    talk.codec.finish("a", talk.out)
    talk.codec.cancel("a", talk.out)


# ── on a websocket, with the simulator at its other end ──────────────────────────────────────────────────


async def test_many_are_cut_off_and_there_is_room_for_the_next() -> None:
    simulator = ElevenLabsTtsSimulator(Script(pace=50))
    async with voice_at(simulator, ELEVENLABS_TTS) as (voice, heard):
        for index in range(12):
            voice.begin(f"c{index}")
            voice.say(f"c{index}", "A very long story that will be cut off in its first sentence. ")
            await heard.until(lambda index=index: f"c{index}" in heard.audio)  # type: ignore[misc]
            voice.cancel(f"c{index}")
        say(voice, "last", "Yes?")
        await heard.until(lambda: heard.done() == ["last"])
    assert heard.audio["last"] == spoken("Yes?", PCMU_8K)


def test_what_finds_no_place_waits_until_one_is_told_to_be_free() -> None:
    talk = Talk()
    for index in range(MAX_OPEN):
        talk.say(f"c{index}", "A long story.")
        talk.codec.cancel(f"c{index}", talk.out)
    sent = len(talk.out.sent)
    talk.say("next", "Yes?")
    talk.codec.finish("next", talk.out)
    assert len(talk.out.sent) == sent
    talk.hear("offhook-2", isFinal=True)
    assert [message.get("text") for message in talk.out.sent[sent:]] == [" ", "Yes? ", None, None]
    assert talk.out.done() == []


async def test_an_idle_websocket_is_dialled_again_when_there_is_something_to_say() -> None:
    simulator = ElevenLabsTtsSimulator(Script(), inactivity_s=0.0005)
    async with voice_at(simulator, ELEVENLABS_TTS) as (voice, heard):
        await asyncio.sleep(0.2)  # their clock: nothing else tells that the websocket was closed
        assert heard.of(BridgeFault) == []
        say(voice, "a", "Hello.")
        await heard.until(lambda: heard.done() == ["a"])
    assert heard.audio["a"] == spoken("Hello.", PCMU_8K)
    assert simulator.journal.connections == 2


async def test_an_empty_account_falls_over() -> None:
    simulator = ElevenLabsTtsSimulator(Script(faults=(Fault(do="error", text="quota_exceeded"),)))
    async with voice_at(simulator, ELEVENLABS_TTS) as (voice, heard):
        say(voice, "a", "Good morning.")
        await heard.until(lambda: bool(heard.of(BridgeFault)))
    assert [fault.verdict for fault in heard.of(BridgeFault)] == ["fall_over"]
