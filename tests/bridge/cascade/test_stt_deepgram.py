"""Deepgram's recognisers: message by message, then on a real websocket with the simulator at its other end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.bridge.cascade.part_talk import ear_at, feed, utterance
from tests.bridge.cascade.recorded_parts import RecordedEar

from offhook.bridge.cascade.ports import EagerEnd, EndOfTurn, PartialText, PartSettings, Resumed, SpeechBegan
from offhook.bridge.cascade.stt_deepgram import DEEPGRAM_STT, NO_WORDS_FRAMES
from offhook.bridge.codec import BridgeFault
from offhook.model.audio import L16_16K, PCMA_8K, PCMU_8K, AudioFormat
from offhook.simulators.deepgram import DeepgramSimulator
from offhook.simulators.script import Fault, Script, Turn

SILENCE = {PCMU_8K: b"\xff" * 160, PCMA_8K: b"\xd5" * 160}

FLUX, NOVA = "flux-general-en", "nova-3"


def settings(base_url: str = DEEPGRAM_STT.url, **more: Any) -> PartSettings:
    return PartSettings(base_url=base_url, api_key="k", **more)


# ── message by message ───────────────────────────────────────────────────────────────────────────────────


class Talk:
    """A codec whose other end is the test."""

    def __init__(self, model: str) -> None:
        self.codec = DEEPGRAM_STT.make(settings(model=model), PCMU_8K)
        self.out = RecordedEar()
        self.codec.opened(self.out)

    def hear(self, kind: str, **more: Any) -> Talk:
        self.codec.receive(msgspec.json.encode({"type": kind, **more}), self.out, is_text=True)
        return self

    def turn(self, event: str, transcript: str = "") -> Talk:
        return self.hear("TurnInfo", event=event, transcript=transcript, words=[], turn_index=0)

    def results(self, transcript: str, *, final: bool = False, speech_final: bool = False) -> Talk:
        channel = {"alternatives": [{"transcript": transcript, "confidence": 0.9, "words": []}]}
        return self.hear("Results", is_final=final, speech_final=speech_final, channel=channel)


def parameters(**more: Any) -> tuple[str, list[tuple[str, str]]]:
    audio_format: AudioFormat = more.pop("audio_format", PCMU_8K)
    parts = urlsplit(DEEPGRAM_STT.make(settings(**more), audio_format).target().url)
    return f"{parts.scheme}://{parts.netloc}{parts.path}", parse_qsl(parts.query)


def test_flux_is_told_what_audio_comes_and_what_to_expect() -> None:
    url, query = parameters(keywords=("Ulm", "Acme Inc"), extra={"eot_threshold": 0.8, "eager_eot_threshold": None})
    assert url == "wss://api.deepgram.com/v2/listen"
    assert query == [
        ("model", "flux-general-en"),
        ("encoding", "mulaw"),
        ("sample_rate", "8000"),
        ("keyterm", "Ulm"),
        ("keyterm", "Acme Inc"),
        ("eot_threshold", "0.8"),
    ]


def test_flux_of_many_languages_is_told_which() -> None:
    assert {("model", "flux-general-multi"), ("language_hint", "de")} <= set(parameters(language="de")[1])
    assert not [name for name, _ in parameters(language="en-US")[1] if name == "language_hint"]


def test_older_models_are_asked_for_pauses() -> None:
    url, query = parameters(model=NOVA, language="de", keywords=("Ulm",), audio_format=L16_16K)
    assert url == "wss://api.deepgram.com/v1/listen"
    assert dict(query) == {
        "model": "nova-3",
        "encoding": "linear16",
        "sample_rate": "16000",
        "channels": "1",
        "interim_results": "true",
        "smart_format": "true",
        "vad_events": "true",
        "endpointing": "300",
        "utterance_end_ms": "1000",
        "language": "de",
        "keyterm": "Ulm",
    }
    assert ("keywords", "Ulm") in parameters(model="nova-2", keywords=("Ulm",))[1]


def test_the_key_goes_in_a_header() -> None:
    target = DEEPGRAM_STT.make(settings(headers={"X-A": "b"}), PCMU_8K).target()
    assert dict(target.headers) == {"Authorization": "Token k", "X-A": "b"}


def test_a_turn_of_flux() -> None:
    talk = Talk(FLUX).hear("Connected", request_id="r")
    talk.turn("Update").turn("StartOfTurn", "is").turn("Update", "is it").turn("EagerEndOfTurn", "is it open")
    talk.turn("TurnResumed", "is it open").turn("EagerEndOfTurn", "is it open now").turn("EndOfTurn", "is it open now")
    assert talk.out.events == [
        SpeechBegan(),
        PartialText(text="is"),
        PartialText(text="is it"),
        EagerEnd(text="is it open"),
        Resumed(),
        EagerEnd(text="is it open now"),
        EndOfTurn(text="is it open now"),
    ]


def test_flux_gets_eighty_milliseconds_in_a_message() -> None:
    talk = Talk(FLUX)
    frames = [bytes([index]) * 160 for index in range(8)]
    sent = [talk.codec.audio(frame, talk.out) for frame in frames]
    assert sent == [None, None, None, b"".join(frames[:4]), None, None, None, b"".join(frames[4:])]


def test_a_turn_of_nova_is_what_became_final_up_to_a_pause() -> None:
    talk = Talk(NOVA).hear("SpeechStarted", timestamp=0.1)
    talk.results("is").results("is it", final=True).results("").results("open").results(
        "open now", final=True, speech_final=True
    )
    talk.hear("UtteranceEnd", last_word_end=1.0).hear("Metadata")
    assert talk.out.events == [
        SpeechBegan(),
        PartialText(text="is"),
        PartialText(text="is it"),
        PartialText(text="is it open"),
        PartialText(text="is it open now"),
        EndOfTurn(text="is it open now"),
    ]


def test_the_end_of_an_utterance_ends_a_turn_in_noise() -> None:
    talk = Talk(NOVA).results("is it", final=True).results("open").hear("UtteranceEnd")
    assert talk.out.names() == ["SpeechBegan", "PartialText", "PartialText", "EndOfTurn"]
    assert talk.out.turns() == ["is it open"]


def test_nova_hears_a_cough_and_it_is_over() -> None:
    talk = Talk(NOVA).hear("SpeechStarted").results("", final=True, speech_final=True).hear("UtteranceEnd")
    for _ in range(NO_WORDS_FRAMES - 1):
        assert talk.codec.audio(SILENCE[PCMU_8K], talk.out) == SILENCE[PCMU_8K]
    assert talk.out.turns() == []
    talk.codec.audio(SILENCE[PCMU_8K], talk.out)
    assert talk.out.turns() == [""]


@pytest.mark.parametrize(
    ("message", "verdict"),
    [
        ({"code": "INTERNAL_SERVER_ERROR", "description": "Why."}, "retry"),
        ({"code": "UNPARSABLE_CLIENT_MESSAGE", "description": "Why."}, "fall_over"),
        ({"variant": "SchemaError", "description": "Why."}, "fall_over"),
        ({}, "retry"),
    ],
)
@pytest.mark.parametrize("model", [FLUX, NOVA])
def test_every_error_has_a_verdict(model: str, message: dict[str, str], verdict: str) -> None:
    [fault] = Talk(model).hear("Error", **message).out.of(BridgeFault)
    assert fault.verdict == verdict
    assert message.get("description", "") in fault.problem


VALUES = st.none() | st.booleans() | st.integers() | st.text(max_size=9) | st.lists(st.integers(), max_size=3)
EVENTS = st.sampled_from(["StartOfTurn", "Update", "EagerEndOfTurn", "TurnResumed", "EndOfTurn"])
KINDS = st.sampled_from(["TurnInfo", "Results", "SpeechStarted", "UtteranceEnd", "Connected", "Error"])
CHANNELS = st.fixed_dictionaries({"alternatives": st.lists(st.fixed_dictionaries({"transcript": VALUES}), max_size=2)})


@pytest.mark.parametrize("model", [FLUX, NOVA])
@given(
    messages=st.lists(
        st.binary(max_size=60)
        | st.fixed_dictionaries(
            {"type": KINDS | VALUES},
            optional={
                "event": EVENTS | VALUES,
                "transcript": VALUES,
                "is_final": VALUES,
                "speech_final": VALUES,
                "channel": CHANNELS | VALUES,
            },
        ),
        max_size=12,
    )
)
def test_whatever_comes_nothing_is_raised_and_each_turn_ends_once(
    model: str, messages: Sequence[bytes | dict[str, Any]]
) -> None:
    talk = Talk(model)
    for message in messages:
        data = message if isinstance(message, bytes) else msgspec.json.encode(message)
        talk.codec.receive(data, talk.out, is_text=True)
    began, ended = len(talk.out.of(SpeechBegan)), len(talk.out.of(EndOfTurn))
    assert began - 1 <= ended <= began


# ── on a websocket, with the simulator at its other end ──────────────────────────────────────────────────


@pytest.mark.parametrize("fault", [Fault(do="error"), Fault(do="drop"), Fault(do="garbage")])
async def test_what_breaks_is_told(fault: Fault) -> None:
    simulator = DeepgramSimulator(Script(faults=(fault,), turns=(Turn(hears="hello"),)))
    async with ear_at(simulator, DEEPGRAM_STT, model=FLUX) as (recogniser, heard):
        feed(recogniser, utterance())
        await heard.until(lambda: bool(heard.of(BridgeFault)))
    assert heard.of(BridgeFault)[0].verdict == "retry"
