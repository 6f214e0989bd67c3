"""The codec of Gemini Live without a network: what comes in, what goes out."""

from __future__ import annotations

import logging
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.bridge.provider_talk import Output, speech
from tests.bridge.recording_listener import RecordingListener

from offhook.bridge.codec import (
    AudioDone,
    Begin,
    BridgeFault,
    BridgeRequest,
    Digits,
    EndOfInput,
    Expiring,
    Interrupt,
    Interrupted,
    Ready,
    ResponseDone,
    ResponseStarted,
    ToolCall,
    ToolResult,
    TranscriptDelta,
    UsageReported,
    Utterance,
)
from offhook.bridge.gemini_live.caller_audio import SILENCE, audio_message
from offhook.bridge.gemini_live.codec import GeminiCodec
from offhook.bridge.gemini_live.options import session_options
from offhook.bridge.options import ProviderAccess
from offhook.model.audio import L16_16K, L16_24K
from offhook.model.errors import ConfigError
from offhook.model.records import Agent

ACCESS = ProviderAccess(api_key="key")
QUIET = bytes(L16_16K.frame_bytes)
LOUD = speech(L16_16K, 20)


def agent(options: Mapping[str, Any] | None = None, **fields: Any) -> Agent:
    return Agent(agent_id="a", provider="gemini", options=options or {}, by_operator=True, **fields)


def codec_for(
    options: Mapping[str, Any] | None = None, history: Sequence[Utterance] = (), **fields: Any
) -> tuple[GeminiCodec, Output]:
    who = agent(options, **fields)
    request = BridgeRequest(
        call_id="c",
        agent=who,
        input_format=L16_16K,
        output_format=L16_24K,
        listener=RecordingListener(),
        history=lambda: history,
    )
    return GeminiCodec(request, session_options(who, ACCESS)), Output()


def ready(options: Mapping[str, Any] | None = None, **fields: Any) -> tuple[GeminiCodec, Output]:
    codec, out = codec_for(options, **fields)
    codec.opened(out)
    tell(codec, out, setupComplete={})
    assert out.events == [Ready()]
    out.events.clear()
    return codec, out


def tell(codec: GeminiCodec, out: Output, **message: Any) -> None:
    codec.receive(msgspec.json.encode(message), out, is_text=False)


def content(codec: GeminiCodec, out: Output, **fields: Any) -> None:
    tell(codec, out, serverContent=fields)


def audio(l16: bytes = b"\1\2" * 480, mime_type: str = "audio/pcm;rate=24000") -> dict[str, Any]:
    data = b64encode(l16).decode()
    return {"role": "model", "parts": [{"inlineData": {"mimeType": mime_type, "data": data}}]}


def setup_of(out: Output) -> dict[str, Any]:
    message: dict[str, Any] = msgspec.json.decode(out.sent[0])
    setup: dict[str, Any] = message["setup"]
    return setup


def texts(out: Output) -> list[str]:
    return [message.decode() for message in out.sent]


# ── setup ────────────────────────────────────────────────────────────────────────────────────────────────


def test_introduces_itself() -> None:
    codec, out = codec_for(instructions="Be kind.", language="en-US")
    codec.opened(out)
    assert setup_of(out) == {
        "model": "models/gemini-3.8-live",
        "generationConfig": {
            "responseModalities": ["AUDIO"],
            "speechConfig": {
                "voiceConfig": {"prebuiltVoiceConfig": {"voiceName": "Puck"}},
                "languageCode": "en-US",
            },
        },
        "realtimeInputConfig": {
            "automaticActivityDetection": {
                "startOfSpeechSensitivity": "START_SENSITIVITY_HIGH",
                "endOfSpeechSensitivity": "END_SENSITIVITY_LOW",
                "prefixPaddingMs": 20,
                "silenceDurationMs": 500,
            },
            "activityHandling": "START_OF_ACTIVITY_INTERRUPTS",
            "turnCoverage": "TURN_INCLUDES_ONLY_ACTIVITY",
        },
        "inputAudioTranscription": {},
        "outputAudioTranscription": {},
        "systemInstruction": {"role": "user", "parts": [{"text": "Be kind."}]},
        "sessionResumption": {},
        "contextWindowCompression": {"slidingWindow": {}},
    }


def test_history_is_told_before_it_is_ready() -> None:
    said = (Utterance(speaker="caller", text="I am Ann."), Utterance(speaker="agent", text="Hello."))
    codec, out = codec_for(history=said)
    codec.opened(out)
    assert setup_of(out)["historyConfig"] == {"initialHistoryInClientContent": True}
    tell(codec, out, setupComplete={})
    told = msgspec.json.decode(out.sent[1])["clientContent"]
    assert [(turn["role"], turn["parts"][0]["text"]) for turn in told["turns"]] == [
        ("user", "I am Ann."),
        ("model", "Hello."),
    ]
    assert told["turnComplete"] is True


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("", "wss://generativelanguage.googleapis.com/ws/google.ai.generativelanguage.v1beta.GenerativeService."),
        ("http://localhost:1", "ws://localhost:1/ws/google.ai.generativelanguage.v1beta.GenerativeService."),
        ("wss://proxy/gemini/", "wss://proxy/gemini/ws/google.ai.generativelanguage.v1beta.GenerativeService."),
    ],
)
def test_where_it_connects(base_url: str, url: str) -> None:
    codec, _ = codec_for({"base_url": base_url})
    target = codec.target()
    assert target.url == url + "BidiGenerateContent"
    assert target.headers == (("x-goog-api-key", "key"),)
    assert target.ping_s is None


def test_vertex_ai_needs_no_key() -> None:
    model = "projects/p/locations/l/publishers/google/models/gemini-3.8-live"
    url = "wss://l-aiplatform.googleapis.com/ws/google.cloud.aiplatform.v1beta1.LlmBidiService/BidiGenerateContent"
    options = {"base_url": url, "model": model, "headers": {"Authorization": "Bearer x"}}
    session = session_options(agent(options), ProviderAccess())
    assert (session.url, session.model, session.headers) == (url, model, (("Authorization", "Bearer x"),))


@pytest.mark.parametrize(
    ("model", "sent"),
    [
        ("models/gemini-2.0-flash-exp", "models/gemini-3.8-live"),
        ("gemini-3.1-flash-live-preview", "models/gemini-3.1-flash-live-preview"),
        ("models/gemini-3.8-live", "models/gemini-3.8-live"),
    ],
)
def test_models(model: str, sent: str) -> None:
    assert session_options(agent({"model": model}), ACCESS).model == sent


def test_a_retired_model_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            session_options(agent({"model": "gemini-2.0-flash-live-001"}), ACCESS)
    assert [record.getMessage() for record in caplog.records] == [
        "gemini: the model gemini-2.0-flash-live-001 is retired; using gemini-3.8-live"
    ]


@pytest.mark.parametrize(("voice", "sent"), [("", "Puck"), ("kore", "Kore"), ("nova", "Puck"), ("Newest", "Newest")])
def test_voices(voice: str, sent: str) -> None:
    assert session_options(agent(voice=voice), ACCESS).voice == sent


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"tune": 1}, "options.tune"),
        ({"silence_ms": "long"}, "options.silence_ms"),
        ({"base_url": "ftp://x"}, "options.base_url"),
        ({"affective_dialog": True}, "options.affective_dialog"),
        ({"proactive_audio": False}, "options.proactive_audio"),
        ({"thinking_level": "low"}, "options.thinking_level"),
        ({"model": "gemini-3.8-live-extended-thinking", "tool_behavior": "blocking"}, "options.tool_behavior"),
    ],
)
def test_options_it_cannot_work_with(options: Mapping[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        session_options(agent(options), ACCESS)
    assert caught.value.key == key


def test_a_missing_key_is_named() -> None:
    with pytest.raises(ConfigError, match="GEMINI_API_KEY"):
        session_options(agent(), ProviderAccess())


def test_a_model_that_thinks_gets_its_level() -> None:
    codec, out = codec_for({"model": "gemini-3.8-live-extended-thinking"})
    codec.opened(out)
    assert setup_of(out)["generationConfig"]["thinkingConfig"] == {"thinkingLevel": "LOW"}


# ── what it says ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_turn_from_bundles_with_late_words() -> None:
    codec, out = ready()
    content(codec, out, inputTranscription={"text": "Hi"})
    content(codec, out, modelTurn=audio(), outputTranscription={"text": "Good"})
    content(codec, out, generationComplete=True)
    content(codec, out, outputTranscription={"text": " day."})
    content(codec, out, turnComplete=True)
    item = next(iter(out.audio))
    caller = next(event.item for event in out.events if isinstance(event, TranscriptDelta))
    assert out.events == [
        TranscriptDelta(speaker="caller", item=caller, text="Hi", final=False),
        TranscriptDelta(speaker="caller", item=caller, text="Hi", final=True),
        ResponseStarted(),
        TranscriptDelta(speaker="agent", item=item, text="Good", final=False),
        AudioDone(item=item),
        ResponseDone(),
        TranscriptDelta(speaker="agent", item=item, text=" day.", final=False),
        TranscriptDelta(speaker="agent", item=item, text="Good day.", final=True),
    ]


def test_words_before_the_first_sound_belong_to_it() -> None:
    codec, out = ready()
    content(codec, out, outputTranscription={"text": "Good"})
    content(codec, out, modelTurn=audio())
    item = next(iter(out.audio))
    assert out.events == [ResponseStarted(), TranscriptDelta(speaker="agent", item=item, text="Good", final=False)]


def test_late_words_of_the_caller_are_told_when_the_turn_ends() -> None:
    """They are no speech over the agent."""
    codec, out = ready()
    content(codec, out, modelTurn=audio())
    content(codec, out, inputTranscription={"text": "late", "finished": True})
    assert not any(isinstance(event, TranscriptDelta) for event in out.events)
    content(codec, out, turnComplete=True)
    assert [event.text for event in out.events if isinstance(event, TranscriptDelta) and event.final] == ["late"]


def test_a_tool_parts_what_is_said_before_from_what_is_said_after() -> None:
    codec, out = ready()
    content(codec, out, modelTurn=audio())
    tell(codec, out, toolCall={"functionCalls": [{"id": "1", "name": "f", "args": {"a": 1}}, {"name": "g"}]})
    calls = [event for event in out.events if isinstance(event, ToolCall)]
    assert [(call.name, call.arguments) for call in calls] == [("f", '{"a":1}'), ("g", "{}")]
    kinds = [type(event) for event in out.events]
    assert kinds == [ResponseStarted, AudioDone, ToolCall, ToolCall, ResponseDone]
    codec.command(ToolResult(tool_call_id=calls[1].tool_call_id, output="", is_error=False), out)
    response = {"name": "g", "response": {"output": "Done; there is no output."}}
    assert msgspec.json.decode(out.sent[-1]) == {"toolResponse": {"functionResponses": [response]}}
    content(codec, out, modelTurn=audio())
    assert len(out.audio) == 2


def test_other_sample_rates_are_converted_and_other_media_are_not_played() -> None:
    codec, out = ready()
    second = (np.sin(np.arange(16000) / 5) * 8000).astype("<i2").tobytes()
    content(codec, out, modelTurn=audio(second, "audio/pcm; rate=16000"))
    assert sum(map(len, out.audio.values())) == 2 * 24000
    for mime_type in ("audio/mpeg", "image/png", "audio/pcm;rate=1", "audio/pcm;rate=999999", ""):
        content(codec, out, modelTurn=audio(second, mime_type))
    assert sum(map(len, out.audio.values())) == 2 * 24000


def test_audio_of_an_item_that_was_cut_is_dropped_until_the_turn_is_over() -> None:
    codec, out = ready()
    content(codec, out, modelTurn=audio())
    item = next(iter(out.audio))
    codec.command(Interrupt(item=item, played_ms=5), out)
    content(codec, out, modelTurn=audio())
    content(codec, out, interrupted=True)
    content(codec, out, modelTurn=audio())
    assert len(out.audio[item]) == 960
    content(codec, out, turnComplete=True)
    content(codec, out, modelTurn=audio())
    assert [len(one) for one in out.audio.values()] == [960, 960]
    assert not any(isinstance(event, Interrupted) for event in out.events)


def test_an_interruption_without_an_end_is_over_after_half_a_second() -> None:
    codec, out = ready({"barge_in": "provider"})
    content(codec, out, modelTurn=audio())
    content(codec, out, interrupted=True)
    assert Interrupted(item=next(iter(out.audio))) in out.events
    for _ in range(26):
        codec.audio(QUIET, out)
    content(codec, out, modelTurn=audio())
    assert len(out.audio) == 2


def test_usage_and_the_end_to_come() -> None:
    codec, out = ready()
    details = [{"modality": "AUDIO", "tokenCount": 7}, {"modality": "TEXT", "tokenCount": 3}]
    tell(codec, out, usageMetadata={"promptTokenCount": 10, "promptTokensDetails": details}, goAway={"timeLeft": "50s"})
    assert out.events == [
        UsageReported(units="input_tokens", amount=10),
        UsageReported(units="audio_input_tokens", amount=7),
        Expiring(seconds=50),
    ]


def test_the_last_handle_that_can_be_resumed_is_used_and_a_refused_one_is_not() -> None:
    codec, out = ready()
    tell(codec, out, sessionResumptionUpdate={"newHandle": "h1", "resumable": True})
    tell(codec, out, sessionResumptionUpdate={"newHandle": "", "resumable": False})
    resumed = codec.renewed(())
    resumed.opened(out := Output())
    assert setup_of(out)["sessionResumption"] == {"handle": "h1"}
    refusal = resumed.closed(1007, "Invalid handle")
    assert refusal is not None
    assert refusal.verdict == "retry"
    resumed.renewed(()).opened(out := Output())
    assert setup_of(out)["sessionResumption"] == {}


@pytest.mark.parametrize(
    ("code", "reason", "verdict"),
    [
        (1006, "", "retry"),
        (1011, "Internal error", "retry"),
        (1000, "", "retry"),
        (1008, "RESOURCE_EXHAUSTED: quota", "retry"),
        (1007, "Invalid argument", "fatal"),
        (1008, "models/x is not found", "fatal"),
    ],
)
def test_verdicts_of_close_codes(code: int, reason: str, verdict: str) -> None:
    codec, _ = ready()
    fault = codec.closed(code, reason)
    assert fault is not None
    assert fault.verdict == verdict


# ── the caller's audio ───────────────────────────────────────────────────────────────────────────────────


def test_a_frame_is_one_message() -> None:
    codec, out = ready()
    message = codec.audio(LOUD, out)
    assert message is not None
    blob = msgspec.json.decode(message)["realtimeInput"]["audio"]
    assert blob == {"mimeType": "audio/pcm;rate=16000", "data": b64encode(LOUD).decode()}


def heard(codec: GeminiCodec, out: Output, frame: bytes, times: int) -> list[bytes]:
    """What goes out, in order."""
    messages = []
    for _ in range(times):
        out.sent.clear()
        message = codec.audio(frame, out)
        messages += [*out.sent, message or b""]
    return messages


def test_silence_goes_out_while_the_agent_can_be_heard() -> None:
    codec, out = ready()
    content(codec, out, modelTurn=audio(bytes(L16_24K.frame_bytes) * 100), generationComplete=True)
    assert set(heard(codec, out, LOUD, 30)) == {SILENCE}
    assert set(heard(codec, out, QUIET, 70)) == {SILENCE}
    after = heard(codec, out, QUIET, 20)
    assert set(after) == {SILENCE}, "a word in the middle is not heard later either"
    assert heard(codec, out, LOUD, 1) == [audio_message(LOUD)]


def test_an_interruption_lets_out_what_was_held() -> None:
    codec, out = ready()
    content(codec, out, modelTurn=audio(bytes(L16_24K.frame_bytes) * 500), generationComplete=True)
    heard(codec, out, QUIET, 300)
    heard(codec, out, LOUD, 40)
    out.sent.clear()
    codec.command(Interrupt(item=next(iter(out.audio)), played_ms=6000), out)
    assert out.sent[-8:] == [audio_message(LOUD * 5)] * 8
    assert len(out.sent) == 30, "three seconds, in pieces of 100 ms"
    assert heard(codec, out, LOUD, 1) == [audio_message(LOUD)]


def test_the_end_of_input_and_keys() -> None:
    codec, out = ready()
    out.sent.clear()
    codec.command(EndOfInput(), out)
    codec.command(Digits(digits="12"), out)
    assert texts(out)[0] == '{"realtimeInput":{"audioStreamEnd":true}}'
    assert '[The caller pressed 12]"' in texts(out)[1]


def test_what_may_wait_waits_for_the_end_of_the_turn() -> None:
    codec, out = ready()
    content(codec, out, modelTurn=audio())
    out.sent.clear()
    codec.command(Digits(digits="1"), out)
    assert out.sent == []
    content(codec, out, generationComplete=True)
    content(codec, out, turnComplete=True)
    assert "pressed 1" in texts(out)[0]


def test_a_greeting_that_nobody_answers_is_a_fault() -> None:
    codec, out = ready(greeting="Hello.")
    codec.command(Begin(), out)
    for _ in range(201):
        codec.audio(QUIET, out)
    assert out.events == [BridgeFault(problem="did not answer what it was asked", verdict="retry")]
    nudges = [text for text in texts(out) if text == '{"realtimeInput":{"text":" "}}']
    assert len(nudges) == 1


# ── anything ─────────────────────────────────────────────────────────────────────────────────────────────

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
"""No schema at all."""


@given(message=st.binary(max_size=200), is_text=st.booleans())
def test_bytes_that_are_no_message_are_a_fault_and_no_more(message: bytes, is_text: bool) -> None:
    codec, out = ready()
    codec.receive(message, out, is_text=is_text)
    assert all(isinstance(event, BridgeFault) for event in out.events)


def test_json_without_end_is_a_fault() -> None:
    codec, out = ready()
    codec.receive(b'{"toolCall":' + b"[" * 100_000, out, is_text=True)
    codec.receive(b"[" * 100_000, out, is_text=True)
    [fault] = out.events
    assert isinstance(fault, BridgeFault)
    assert fault.verdict == "retry"


@given(fields=st.dictionaries(st.sampled_from(["serverContent", "toolCall", "goAway", "usageMetadata"]), JSON))
def test_fields_of_any_shape_raise_nothing(fields: dict[str, Any]) -> None:
    codec, out = ready()
    tell(codec, out, **fields)


@pytest.mark.parametrize(("barge_in", "hears"), [("judged", False), ("provider", True), ("never", True)])
def test_it_says_whether_it_hears_who_speaks_over_it(barge_in: str, hears: bool) -> None:
    codec, _ = codec_for({"barge_in": barge_in})
    assert codec.profile.hears_over_itself is hears
