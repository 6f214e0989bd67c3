"""What the codec of ElevenLabs makes of messages, one by one: no socket, no clock."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.bridge.provider_talk import Output, frames_of
from tests.bridge.recording_listener import RecordingListener

from offhook.bridge.codec import (
    AudioDone,
    Begin,
    BridgeEvent,
    BridgeFault,
    BridgeRequest,
    EndOfInput,
    Interrupt,
    Interrupted,
    Ready,
    ResponseDone,
    ResponseStarted,
    ToolCall,
    TranscriptDelta,
    UpdateAgent,
    UsageReported,
    Utterance,
)
from offhook.bridge.elevenlabs_agent import MAX_HISTORY_CHARACTERS, ElevenlabsCodec, ElevenlabsOptions, provider
from offhook.bridge.elevenlabs_speech import DONE_AFTER_FRAMES, SETTLED_AFTER_FRAMES
from offhook.bridge.options import ProviderAccess
from offhook.bridge.outside import Outside
from offhook.bridge.provider_http import ProviderHttp
from offhook.bridge.wire import HttpAnswer
from offhook.model.audio import PCMU_8K
from offhook.model.errors import BridgeError, ConfigError
from offhook.model.records import Agent

ACCESS = ProviderAccess(api_key="k", base_url="https://example.com")


class Line:
    """A codec that is ready, and what comes of it."""

    def __init__(self, **formats: str) -> None:
        request = BridgeRequest(
            call_id="c",
            agent=Agent(agent_id="a", provider="elevenlabs"),
            input_format=PCMU_8K,
            output_format=PCMU_8K,
            listener=RecordingListener(),
        )
        self.codec = ElevenlabsCodec(request, ElevenlabsOptions(agent_id="agent_1"), ACCESS)
        self.out = Output()
        self.codec.opened(self.out)
        both = {"user_input_audio_format": "ulaw_8000", "agent_output_audio_format": "ulaw_8000", **formats}
        self.says("conversation_initiation_metadata", conversation_initiation_metadata_event=both)

    def says(self, kind: str, **payload: Any) -> list[BridgeEvent]:
        """The events that came of it."""
        return self.takes(json.dumps({"type": kind, **payload}).encode())

    def takes(self, message: bytes) -> list[BridgeEvent]:
        before = len(self.out.events)
        self.codec.receive(message, self.out, is_text=True)
        return self.out.events[before:]

    def sounds(self, event_id: int, audio: bytes = b"\x11" * 160, **more: Any) -> list[BridgeEvent]:
        return self.says(
            "audio", audio_event={"audio_base_64": b64encode(audio).decode(), "event_id": event_id, **more}
        )

    def answers(self, text: str, event_id: int) -> list[BridgeEvent]:
        return self.says("agent_response", agent_response_event={"agent_response": text, "event_id": event_id})

    def passes(self, frames: int) -> list[BridgeEvent]:
        before = len(self.out.events)
        for frame in frames_of(b"\xff" * 160 * frames, PCMU_8K):
            self.codec.audio(frame, self.out)
        return [event for event in self.out.events[before:] if not isinstance(event, UsageReported)]


def final(item: str, text: str) -> TranscriptDelta:
    return TranscriptDelta(speaker="agent", item=item, text=text, final=True)


def test_ready_comes_with_the_metadata_once() -> None:
    line = Line()
    assert line.out.events == [Ready()]
    assert line.says("conversation_initiation_metadata", conversation_initiation_metadata_event={}) == []


def test_the_callers_audio_is_one_short_message() -> None:
    line = Line()
    assert line.codec.audio(b"\xff" * 3, line.out) == b'{"user_audio_chunk":"////"}'


def test_time_is_counted_as_it_is_paid_for() -> None:
    line = Line()
    before = len(line.out.events)
    for _ in range(125):
        line.codec.audio(b"\xff" * 160, line.out)
    assert line.out.events[before:] == [UsageReported(units="seconds", amount=1.0)] * 2


def test_an_unknown_format_is_no_noise_but_a_fault() -> None:
    line = Line(agent_output_audio_format="mp3_44100")
    [fault] = line.out.events
    assert isinstance(fault, BridgeFault)
    assert "mp3_44100" in fault.problem
    assert fault.verdict == "fall_over"


@pytest.mark.parametrize("text_first", [True, False])
def test_text_and_audio_of_an_utterance_belong_together_whichever_comes_first(*, text_first: bool) -> None:
    line = Line()
    events = line.answers("Hello.", 1) + line.sounds(2) if text_first else line.sounds(1) + line.answers("Hello.", 2)
    assert events == [ResponseStarted(), final("utterance-1", "Hello.")]
    assert line.out.audio == {"utterance-1": b"\x11" * 160}


def test_an_utterance_is_over_after_a_second_without_audio_or_when_it_is_said_to_be() -> None:
    line = Line()
    line.sounds(1)
    assert line.passes(DONE_AFTER_FRAMES - 1) == []
    line.sounds(2)
    assert line.passes(DONE_AFTER_FRAMES) == [AudioDone(item="utterance-1"), ResponseDone()]
    assert line.sounds(3) == [ResponseStarted()]
    assert line.says("agent_response_complete") == [AudioDone(item="utterance-2"), ResponseDone()]
    assert line.says("agent_response_complete") == []
    assert line.passes(200) == []


def test_another_text_is_another_utterance() -> None:
    line = Line()
    line.answers("One.", 1)
    line.sounds(2)
    assert line.answers("Two.", 3) == [
        AudioDone(item="utterance-1"),
        ResponseDone(),
        ResponseStarted(),
        final("utterance-2", "Two."),
    ]


def test_after_a_word_of_the_callers_audio_is_the_answer_to_it_unless_it_is_the_rest_of_what_was_said() -> None:
    line = Line()
    line.sounds(1)
    line.says("user_transcript", user_transcription_event={"user_transcript": "mm-hm"})
    line.sounds(2)
    assert list(line.out.audio) == ["utterance-1"]
    line.passes(SETTLED_AFTER_FRAMES)
    line.says("user_transcript", user_transcription_event={"user_transcript": "and?"})
    line.sounds(3)
    assert list(line.out.audio) == ["utterance-1", "utterance-2"]


def test_an_interruption_drops_by_number_not_by_time() -> None:
    line = Line()
    line.sounds(4)
    assert line.says("interruption", interruption_event={"event_id": 5}) == [
        Interrupted(item="utterance-1"),
        ResponseDone(),
    ]
    assert line.sounds(5) == []
    assert line.answers("Late.", 5) == []
    assert line.sounds(6) == [ResponseStarted()]
    assert line.says("interruption", interruption_event={"event_id": 5}) == []
    assert list(line.out.audio) == ["utterance-1", "utterance-2"]


def test_words_that_change_are_put_right_by_the_final_text() -> None:
    line = Line()
    said = []
    for text in ("I want", "I want a", "Ivan Ter", "I want a boat"):
        said += line.says("tentative_user_transcript", tentative_user_transcription_event={"user_transcript": text})
    said += line.says("user_transcript", user_transcription_event={"user_transcript": " I want a boat. "})
    texts = [(delta.text, delta.final) for delta in said if isinstance(delta, TranscriptDelta)]
    assert texts == [("I want", False), (" a", False), (" boat", False), ("I want a boat.", True)]


def test_words_are_placed_in_the_utterance_by_their_characters() -> None:
    line = Line()
    line.sounds(1, b"\x11" * 800)
    chars = list("on  the go")
    alignment = {"chars": chars, "char_start_times_ms": [index * 10 for index in range(len(chars))]}
    words = [event for event in line.sounds(2, alignment=alignment) if isinstance(event, TranscriptDelta)]
    assert [(word.text, word.at_ms) for word in words] == [("on  ", 100), ("the ", 140), ("go", 180)]
    late = {"chars": ["!"], "char_start_times_ms": [900]}
    [word] = [event for event in line.sounds(3, alignment=late) if isinstance(event, TranscriptDelta)]
    assert word.at_ms == 900


def test_what_follows_a_word_of_the_callers_over_a_cut_utterance_is_heard() -> None:
    line = Line()
    line.sounds(1)
    line.codec.command(Interrupt(item="utterance-1", played_ms=20), line.out)
    assert line.sounds(2) == []
    done, _ = line.says("user_transcript", user_transcription_event={"user_transcript": "wait, stop"})
    assert done == ResponseDone()
    line.sounds(3)
    assert line.out.audio == {"utterance-1": b"\x11" * 160, "utterance-2": b"\x11" * 160}


def test_a_tool_call_is_told_once_with_its_arguments_as_they_came() -> None:
    line = Line()
    call = {"tool_name": "f", "tool_call_id": "t1", "parameters": {"ü": [1, None]}, "event_id": 3}
    [event] = line.says("client_tool_call", client_tool_call=call)
    assert isinstance(event, ToolCall)
    assert json.loads(event.arguments) == {"ü": [1, None]}
    assert line.says("client_tool_call", client_tool_call=call) == []


@pytest.mark.parametrize(
    ("payload", "verdict"),
    [
        ({"error_event": {"code": 1002, "error_type": "llm_error", "message": "m"}}, "fall_over"),
        ({"error_event": {"code": 1002, "error_type": "llm_timeout"}}, "retry"),
        ({"error_event": {"code": 1011}}, "retry"),
        ({"message": "quota exceeded"}, "fall_over"),
        ({}, "fall_over"),
        ({"error_event": {"code": 1000, "error_type": "max_duration_exceeded"}}, None),
    ],
)
def test_an_error_carries_its_verdict(payload: dict[str, Any], verdict: str | None) -> None:
    events = Line().says("error", **payload)
    assert [event.verdict for event in events if isinstance(event, BridgeFault)] == ([verdict] if verdict else [])


@pytest.mark.parametrize(
    ("code", "reason", "verdict"),
    [
        (1000, "", None),
        (1001, "", "retry"),
        (1006, "", "retry"),
        (1011, "", "retry"),
        (1002, "llm_timeout", "retry"),
        (1002, "llm_error", "fall_over"),
        (1008, "override_error", "fall_over"),
        (3000, "", "fall_over"),
    ],
)
def test_a_close_carries_its_verdict(code: int, reason: str, verdict: str | None) -> None:
    fault = Line().codec.closed(code, reason)
    assert (fault.verdict if fault else None) == verdict


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (HttpAnswer(status=401, body=b"{}"), "fall_over"),
        (HttpAnswer(status=429, body=b""), "fall_over"),
        (HttpAnswer(status=503, body=b"\xff"), "retry"),
        (HttpAnswer(status=200, body=b"no json"), "fall_over"),
        (HttpAnswer(status=200, body=b'{"signed_url":"https://example.com"}'), "fall_over"),
    ],
)
def test_an_answer_that_holds_no_signed_url_is_a_fault(answer: HttpAnswer, verdict: str) -> None:
    with pytest.raises(BridgeError) as refused:
        Line().codec.prepared(answer)
    assert refused.value.verdict == verdict


def test_no_key_shows_where_a_request_is_shown() -> None:
    asked = Line().codec.preparation()
    assert asked is not None
    assert ("xi-api-key", "k") in asked.headers
    assert asked.url.endswith("/v1/convai/conversation/get-signed-url?agent_id=agent_1")
    assert "k'" not in repr(asked)


def test_a_new_conversation_is_told_the_latest_of_what_was_said() -> None:
    line = Line()
    codec = line.codec.renewed(
        [Utterance(speaker="agent", text="word " * 5000), Utterance(speaker="agent", text="end")]
    )
    out = Output()
    codec.opened(out)
    metadata = {"type": "conversation_initiation_metadata", "conversation_initiation_metadata_event": {}}
    codec.receive(json.dumps(metadata).encode(), out, is_text=True)
    assert json.loads(out.sent[0])["conversation_config_override"] == {"agent": {"first_message": ""}}
    [told] = [json.loads(message) for message in out.sent[1:]]
    assert told["type"] == "contextual_update"
    assert told["text"].endswith("You: end")
    assert len(told["text"]) < MAX_HISTORY_CHARACTERS + 200


def test_what_means_nothing_here_says_nothing() -> None:
    line = Line()
    sent = len(line.out.sent)
    for command in (Begin(), EndOfInput()):
        line.codec.command(command, line.out)
    assert len(line.out.sent) == sent
    line.codec.command(UpdateAgent(agent=Agent(agent_id="b", provider="p", instructions="Be brief.")), line.out)
    assert json.loads(line.out.sent[-1]) == {"type": "contextual_update", "text": "From now on: Be brief."}


def test_options_are_checked() -> None:
    check = provider(Outside(http=ProviderHttp())).check
    check(Agent(agent_id="a", provider="elevenlabs", options={"agent_id": "agent_1"}))
    for options, key in (
        ({}, "options.agent_id"),
        ({"agent_id": "x", "vioce": "y"}, "options.vioce"),
        ({"agent_id": "x", "base_url": "nowhere"}, "options.base_url"),
        ({"agent_id": "x", "stability": "much"}, "options.stability"),
    ):
        with pytest.raises(ConfigError) as refused:
            check(Agent(agent_id="a", provider="elevenlabs", options=options))
        assert refused.value.key == key


KINDS = ("audio", "agent_response", "interruption", "ping", "client_tool_call", "error", "user_transcript", "x", None)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
PAYLOADS = (
    "audio_event",
    "agent_response_event",
    "interruption_event",
    "ping_event",
    "client_tool_call",
    "error_event",
)
FIELDS = ("event_id", "audio_base_64", "alignment", "chars", "tool_name", "tool_call_id", "parameters", "code")
SHAPES = st.dictionaries(
    st.sampled_from(PAYLOADS), ANYTHING | st.dictionaries(st.sampled_from(FIELDS), ANYTHING, max_size=5), max_size=4
)


@given(st.lists(st.binary(max_size=40) | st.tuples(st.sampled_from(KINDS), SHAPES), max_size=8))
def test_whatever_comes_nothing_is_raised(messages: list[bytes | tuple[str | None, dict[str, Any]]]) -> None:
    line = Line()
    for message in messages:
        if isinstance(message, bytes):
            line.takes(message)
        else:
            line.takes(json.dumps({"type": message[0], **message[1]}).encode())
        line.passes(3)


def test_what_nobody_knows_is_ignored_and_what_cannot_be_read_is_a_fault() -> None:
    line = Line()
    assert line.says("rich_content", anything=[1]) == []
    for broken in (b"", b"\xff\xfe", b'{"type":"audio"', b'{"type":"audio"}', b"[]", b"[" * 100_000):
        [fault] = line.takes(broken)
        assert isinstance(fault, BridgeFault)
        assert fault.verdict == "retry"
