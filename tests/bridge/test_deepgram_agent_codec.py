"""The codec of Deepgram's Voice Agent alone: messages in, messages and events out; frames are its clock."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.bridge.provider_talk import Output, speech
from tests.bridge.recording_listener import RecordingListener

from offhook.audio.g711 import silence
from offhook.audio.tones import tone
from offhook.bridge.codec import (
    AudioDone,
    Begin,
    BridgeEvent,
    BridgeFault,
    BridgeInput,
    BridgeRequest,
    Digits,
    EndOfInput,
    Expiring,
    Interrupt,
    Interrupted,
    Ready,
    ResponseDone,
    ResponseStarted,
    Say,
    SpeechStarted,
    SpeechStopped,
    TextInput,
    ToolCall,
    ToolCallCancelled,
    ToolResult,
    TranscriptDelta,
    UsageReported,
    Utterance,
)
from offhook.bridge.deepgram_agent import (
    ANSWER_LOST,
    LINGER_FRAMES,
    MAX_OPEN_CALLS,
    MAX_WARNINGS,
    SESSION_FRAMES,
    SILENT_FRAMES,
    WORDS_LOST,
    DeepgramAgentCodec,
)
from offhook.bridge.deepgram_settings import DeepgramOptions
from offhook.bridge.deepgram_watch import ANSWER_FRAMES, STALL_FRAMES
from offhook.bridge.deepgram_written import MAX_REPEATS, REPEAT_FRAMES
from offhook.bridge.options import ProviderAccess
from offhook.model.audio import FRAME_MS, PCMU_8K, Encoding
from offhook.model.records import Agent

QUIET = silence(PCMU_8K)
LOUD = speech(PCMU_8K, FRAME_MS)
FAINT = tone(200, FRAME_MS, -45, Encoding.PCMU)
"""The line between words."""


class Session(Output):
    """A codec and all that came of it."""

    def __init__(self, codec: DeepgramAgentCodec | None = None, **agent: Any) -> None:
        super().__init__()
        self.codec = codec or codec_of(**agent)
        self.codec.opened(self)

    def gets(self, *messages: dict[str, Any] | bytes) -> Sequence[BridgeEvent]:
        """The events of just these."""
        before = len(self.events)
        for message in messages:
            if isinstance(message, bytes):
                self.codec.receive(message, self, is_text=False)
            else:
                self.codec.receive(json.dumps(message).encode(), self, is_text=True)
        return self.events[before:]

    def does(self, *commands: BridgeInput) -> None:
        for command in commands:
            self.codec.command(command, self)

    def waits(self, frames: int, frame: bytes = QUIET) -> Sequence[BridgeEvent]:
        before = len(self.events)
        for _ in range(frames):
            assert self.codec.audio(frame, self) is frame
        return self.events[before:]

    def messages(self) -> list[dict[str, Any]]:
        return [json.loads(message) for message in self.sent]


def codec_of(*, history: Sequence[Utterance] = (), greets: bool = True, **agent: Any) -> DeepgramAgentCodec:
    agent.setdefault("first_speaker", "caller")
    request = BridgeRequest(
        call_id="c",
        agent=Agent(agent_id="a", provider="deepgram", by_operator=True, **agent),
        input_format=PCMU_8K,
        output_format=PCMU_8K,
        listener=RecordingListener(),
        history=lambda: history,
        greets=greets,
    )
    return DeepgramAgentCodec(request, DeepgramOptions(), ProviderAccess(api_key="k", base_url="wss://agent.example"))


def message(kind: str, **rest: Any) -> dict[str, Any]:
    return {"type": kind, **rest}


def agent_says(content: str) -> dict[str, Any]:
    return message("ConversationText", role="assistant", content=content)


def caller_says(content: str) -> dict[str, Any]:
    return message("ConversationText", role="user", content=content)


def calls(*names: str) -> dict[str, Any]:
    functions = [{"id": name, "name": name, "arguments": "{}", "client_side": True} for name in names]
    return message("FunctionCallRequest", functions=functions)


STARTED, DONE = message("UserStartedSpeaking"), message("AgentAudioDone")


@pytest.fixture
def talk() -> Session:
    session = Session()
    session.gets(message("Welcome", request_id="r"), message("SettingsApplied"))
    session.events.clear()
    session.sent.clear()
    return session


# ── opening ──────────────────────────────────────────────────────────────────────────────────────────────


def test_the_server_speaks_first_and_settings_go_out_once() -> None:
    session = Session(greeting="Hello.", first_speaker="agent")
    assert session.sent == []
    session.gets(message("Welcome"), message("Welcome"))
    assert [each["type"] for each in session.messages()] == ["Settings"]
    assert session.gets(message("SettingsApplied"), message("SettingsApplied")) == [Ready()]


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("wss://agent.deepgram.com", "wss://agent.deepgram.com/v1/agent/converse"),
        ("http://127.0.0.1:1", "ws://127.0.0.1:1/v1/agent/converse"),
        ("https://host/their/path", "wss://host/their/path"),
    ],
)
def test_where_it_connects_to(base_url: str, url: str) -> None:
    request = BridgeRequest(
        call_id="c",
        agent=Agent(agent_id="a", provider="deepgram"),
        input_format=PCMU_8K,
        output_format=PCMU_8K,
        listener=RecordingListener(),
    )
    options = DeepgramOptions(headers={"X-Project": "p"})
    target = DeepgramAgentCodec(request, options, ProviderAccess(api_key="k", base_url=base_url)).target()
    assert target.url == url
    assert dict(target.headers) == {"Authorization": "Token k", "X-Project": "p"}
    assert "k" not in repr(target).replace("WebsocketTarget", "")


def test_one_that_takes_over_greets_nobody_and_knows_what_was_said() -> None:
    said = [Utterance(speaker="agent", text="Hello."), Utterance(speaker="caller", text="Hi.")]
    session = Session(greeting="Welcome.", first_speaker="agent", greets=False, history=said)
    session.gets(message("Welcome"), message("SettingsApplied"))
    [settings] = session.messages()
    assert "greeting" not in settings["agent"]
    assert [each["content"] for each in settings["agent"]["context"]["messages"]] == ["Hello.", "Hi."]


def test_a_greeting_that_was_not_heard_is_said_by_the_next_session() -> None:
    codec = codec_of(greeting="Welcome.", first_speaker="agent").renewed([])
    session = Session(codec)
    session.gets(message("Welcome"))
    assert session.messages()[0]["agent"]["greeting"] == "Welcome."


# ── an utterance of the agent ────────────────────────────────────────────────────────────────────────────


def test_words_and_sound_are_one_item_until_it_is_done(talk: Session) -> None:
    events = talk.gets(agent_says("One."), message("AgentStartedSpeaking"), b"a" * 7, agent_says("Two."), b"b", DONE)
    item = "agent-1-1"
    assert events == [
        ResponseStarted(),
        TranscriptDelta(speaker="agent", item=item, text="One.", final=False),
        TranscriptDelta(speaker="agent", item=item, text=" Two.", final=False),
        TranscriptDelta(speaker="agent", item=item, text="One. Two.", final=True),
        AudioDone(item=item),
        ResponseDone(),
    ]
    assert talk.audio == {item: b"aaaaaaab"}


def test_sound_without_words_is_an_item_too(talk: Session) -> None:
    assert talk.gets(b"a", DONE) == [ResponseStarted(), AudioDone(item="agent-1-1"), ResponseDone()]


def test_an_item_whose_end_is_lost_ends(talk: Session) -> None:
    talk.gets(agent_says("One."), b"a")
    assert ResponseDone() not in talk.waits(SILENT_FRAMES - 1)
    assert ResponseDone() in talk.waits(1)
    assert UsageReported(units="seconds", amount=SILENT_FRAMES * FRAME_MS / 1000) in talk.events


def test_an_interruption_gives_up_the_item_and_what_comes_late_belongs_to_it(talk: Session) -> None:
    talk.gets(agent_says("One."), b"a")
    assert talk.gets(STARTED) == [
        SpeechStarted(),
        TranscriptDelta(speaker="agent", item="agent-1-1", text="One.", final=True),
        Interrupted(item="agent-1-1"),
    ]
    assert talk.gets(b"late") == []
    assert talk.audio == {"agent-1-1": b"alate"}
    assert talk.waits(LINGER_FRAMES)[:2] == [AudioDone(item="agent-1-1"), ResponseDone()]
    talk.gets(b"later")
    assert talk.audio == {"agent-1-1": b"alate"}


def test_the_answer_to_an_interruption_is_another_item(talk: Session) -> None:
    talk.gets(agent_says("One."), b"a", STARTED, caller_says("Stop."), b"sound before its words", agent_says("Yes."))
    assert talk.audio == {"agent-1-1": b"a", "agent-1-3": b"sound before its words"}
    names = [type(event).__name__ for event in talk.events if not isinstance(event, TranscriptDelta)]
    assert names == [
        "ResponseStarted",
        "SpeechStarted",
        "Interrupted",
        "SpeechStopped",
        "AudioDone",
        "ResponseDone",
        "ResponseStarted",
    ]


def test_what_the_call_has_cut_stays_silent_until_it_is_done_whatever_is_said_of_it(talk: Session) -> None:
    talk.gets(agent_says("One."), b"a")
    talk.does(Interrupt(item="agent-1-1", played_ms=20), Interrupt(item="unknown", played_ms=20))
    talk.gets(b"b", agent_says("Two."), b"c", DONE, agent_says("Next."), b"d")
    assert talk.audio == {"agent-1-1": b"a", "agent-1-2": b"d"}


def test_what_is_said_over_an_item_that_was_cut_is_heard(talk: Session) -> None:
    talk.gets(agent_says("One."), b"a")
    talk.does(Interrupt(item="agent-1-1", played_ms=20), Say(text="Goodbye."))
    talk.gets(b"old", agent_says("Goodbye."), b"bye", DONE)
    assert talk.audio == {"agent-1-1": b"a", "agent-1-2": b"bye"}
    assert talk.messages()[-1]["behavior"] == "interrupt"


# ── the caller ───────────────────────────────────────────────────────────────────────────────────────────


def test_the_callers_words_end_his_speech(talk: Session) -> None:
    assert talk.gets(STARTED, STARTED, caller_says("Hello.")) == [
        SpeechStarted(),
        SpeechStopped(),
        TranscriptDelta(speaker="caller", item="caller-1-1", text="Hello.", final=True),
    ]


def test_history_is_not_told_twice(talk: Session) -> None:
    assert talk.gets(message("History", role="user", content="Hello.")) == []


def test_a_caller_who_speaks_long_is_not_taken_for_lost(talk: Session) -> None:
    talk.gets(STARTED)
    for _ in range(2 * STALL_FRAMES // 25):  # words of 400 ms: a voice has gaps
        talk.waits(20, LOUD)
        talk.waits(5, FAINT)
    assert talk.sent == []


def test_words_that_never_come_end_the_turn_and_twice_the_session(talk: Session) -> None:
    talk.gets(STARTED)
    assert talk.waits(STALL_FRAMES) == [SpeechStopped()]
    assert talk.messages() == [{"type": "ForceEndTurn"}]
    talk.gets(STARTED)
    assert talk.waits(STALL_FRAMES)[-1] == BridgeFault(problem=WORDS_LOST, verdict="retry")


def test_words_in_between_excuse_a_cough(talk: Session) -> None:
    talk.gets(STARTED)
    talk.waits(STALL_FRAMES)
    talk.gets(STARTED, caller_says("Hello."), agent_says("Hi."), DONE, STARTED)
    assert talk.waits(STALL_FRAMES) == [SpeechStopped()]


@pytest.mark.parametrize(
    "sign", [agent_says("Hi."), b"a", calls("f"), message("AgentThinking", content=""), STARTED], ids=str
)
def test_an_answer_is_waited_for_until_there_is_a_sign_of_it(talk: Session, sign: Any) -> None:
    talk.gets(caller_says("Hello."))
    talk.waits(ANSWER_FRAMES - 1)
    talk.gets(sign)
    assert not [event for event in talk.waits(1) if isinstance(event, BridgeFault)]


@pytest.mark.parametrize("last", [caller_says("Hello."), calls("f")])
def test_an_answer_that_never_comes_is_a_fault(talk: Session, last: dict[str, Any]) -> None:
    talk.gets(last)
    talk.does(ToolResult(tool_call_id="f", output="1"))
    assert talk.waits(ANSWER_FRAMES) == [BridgeFault(problem=ANSWER_LOST, verdict="retry")]
    assert talk.waits(ANSWER_FRAMES) == []


def test_the_end_of_a_session_is_announced_once(talk: Session) -> None:
    assert Expiring(seconds=540.0) not in talk.waits(SESSION_FRAMES - 1)
    assert talk.waits(2) == [Expiring(seconds=540.0)]


# ── functions ────────────────────────────────────────────────────────────────────────────────────────────


def test_what_deepgram_calls_itself_is_not_called_here(talk: Session) -> None:
    function = {"id": "1", "name": "f", "arguments": "{}", "client_side": False}
    assert talk.gets(message("FunctionCallRequest", functions=[function])) == []


def test_a_signature_of_thought_goes_back_with_the_result(talk: Session) -> None:
    function = {"id": "1", "name": "f", "arguments": '{"a": 1}', "client_side": True, "thought_signature": "s"}
    [call] = talk.gets(message("FunctionCallRequest", functions=[function]))
    assert call == ToolCall(tool_call_id="1", name="f", arguments='{"a": 1}')
    talk.does(ToolResult(tool_call_id="1", output="ok"), ToolResult(tool_call_id="1", output="again"))
    assert talk.messages() == [
        {"type": "FunctionCallResponse", "id": "1", "name": "f", "content": "ok", "thought_signature": "s"}
    ]


def test_only_what_was_called_can_be_taken_back(talk: Session) -> None:
    talk.gets(calls("f", "g"))
    cancelled = message("FunctionCallCancelled", functions=[{"id": "f", "name": "f"}, {"id": "x", "name": "x"}])
    assert talk.gets(cancelled) == [ToolCallCancelled(tool_call_id="f")]
    talk.does(ToolResult(tool_call_id="f", output="late"))
    assert talk.sent == []


def test_a_model_that_calls_without_end_is_stopped(talk: Session) -> None:
    for number in range(3):
        talk.gets(calls(*(f"{number}-{index}" for index in range(MAX_OPEN_CALLS))))
    assert len(talk.events) == MAX_OPEN_CALLS


# ── refusals and faults ──────────────────────────────────────────────────────────────────────────────────


def test_a_refused_text_is_sent_again_a_few_times(talk: Session) -> None:
    talk.does(TextInput(role="user", text="Order 17.", respond=True))
    for _ in range(2 * MAX_REPEATS):
        talk.gets(message("InjectionRefused", message="Somebody is speaking."))
        talk.waits(REPEAT_FRAMES)
    assert len(talk.sent) == 1 + MAX_REPEATS
    assert not [event for event in talk.events if isinstance(event, BridgeFault)]


def test_every_text_has_its_own_tries(talk: Session) -> None:
    for _ in range(2 * MAX_REPEATS):
        talk.does(TextInput(role="user", text="Order 17.", respond=True))
        talk.gets(message("InjectionRefused", message="Somebody is speaking."))
        talk.waits(REPEAT_FRAMES)
    assert len(talk.sent) == 4 * MAX_REPEATS


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        ("UNPARSABLE_CLIENT_MESSAGE", "fatal"),
        ("INVALID_SETTINGS", "fatal"),
        ("NON_EXISTENT_FUNCTION_CALLED", "fatal"),
        ("FAILED_TO_THINK", "fall_over"),
        ("FAILED_TO_SPEAK", "fall_over"),
        ("CLIENT_MESSAGE_TIMEOUT", "retry"),
        ("INTERNAL_SERVER_ERROR", "retry"),
        ("SOMETHING_NEW", "retry"),
    ],
)
def test_every_error_has_a_verdict(talk: Session, code: str, verdict: Any) -> None:
    assert talk.gets(message("Error", code=code, description="Why.")) == [
        BridgeFault(problem=f"{code}: Why.", verdict=verdict)
    ]


@pytest.mark.parametrize(
    ("status", "verdict"), [(400, "fatal"), (401, "fatal"), (402, "fall_over"), (429, "fall_over"), (503, "retry")]
)
def test_every_refused_handshake_has_a_verdict(talk: Session, status: int, verdict: str) -> None:
    assert talk.codec.refused(status, b'{"err_code": "X"}\xff').verdict == verdict


@pytest.mark.parametrize(("code", "verdict"), [(1000, "retry"), (1006, "retry"), (1011, "retry"), (1008, "fall_over")])
def test_every_close_has_a_verdict_and_none_is_a_hang_up(talk: Session, code: int, verdict: str) -> None:
    fault = talk.codec.closed(code, "why")
    assert fault is not None
    assert fault.verdict == verdict


def test_warnings_are_logged_as_many_as_a_reader_can_bear(talk: Session, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(3 * MAX_WARNINGS):
            assert talk.gets(message("Warning", code="PROMPT_TOO_LONG", description="It was cut.")) == []
    assert len(caplog.records) == MAX_WARNINGS
    assert "PROMPT_TOO_LONG: It was cut." in caplog.text


# ── anything ─────────────────────────────────────────────────────────────────────────────────────────────

KINDS = (
    *("Welcome", "SettingsApplied", "ConversationText", "UserStartedSpeaking", "AgentThinking", "AgentStartedSpeaking"),
    *("AgentAudioDone", "FunctionCallRequest", "FunctionCallCancelled", "InjectionRefused", "Warning", "Error"),
    *("History", "PromptUpdated", "Whatever"),
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)

SERVER_MESSAGES = st.fixed_dictionaries(
    {"type": st.sampled_from(KINDS)},
    optional={
        "role": st.sampled_from(["user", "assistant", 1, None]),
        "content": st.text(max_size=10) | JSON,
        "functions": st.lists(
            st.fixed_dictionaries({"id": st.sampled_from("ab"), "name": st.text(max_size=3)}) | JSON, max_size=3
        ),
        "code": JSON,
    },
)

COMMANDS = st.sampled_from(
    [
        Begin(),
        EndOfInput(),
        Digits(digits="1"),
        Say(text="Hello."),
        TextInput(role="system", text="x", respond=True),
        Interrupt(item="agent-1-1", played_ms=20),
        ToolResult(tool_call_id="a", output="1"),
    ]
)


@given(
    st.lists(
        SERVER_MESSAGES
        | JSON
        | st.binary(max_size=20)
        | COMMANDS
        | st.integers(min_value=1, max_value=ANSWER_FRAMES).map(lambda frames: ("frames", frames)),
        max_size=12,
    )
)
def test_whatever_comes_nothing_is_raised_and_every_item_ends_once(script: list[Any]) -> None:
    session = Session()
    for step in script:
        if isinstance(step, tuple):
            session.waits(step[1])
        elif isinstance(step, (bytes, dict)):
            session.gets(step)
        elif isinstance(step, (Begin, EndOfInput, Digits, Say, TextInput, Interrupt, ToolResult)):
            session.does(step)
        else:
            session.codec.receive(json.dumps(step).encode(), session, is_text=True)
    session.gets(DONE)
    started = sum(isinstance(event, ResponseStarted) for event in session.events)
    ended = [event.item for event in session.events if isinstance(event, AudioDone)]
    assert started == len(ended) == len(set(ended))


@given(st.binary(max_size=200))
def test_bytes_that_are_no_json_are_a_fault(garbage: bytes) -> None:
    session = Session()
    session.codec.receive(b"\xff" + garbage, session, is_text=True)
    assert [type(event) for event in session.events] == [BridgeFault]
