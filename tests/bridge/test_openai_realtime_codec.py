"""OpenAI Realtime's codec message by message: what comes in, what goes out."""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.bridge.openai_bench import ACCESS, Bench, Recorded, codec_of
from tests.bridge.recording_listener import RecordingListener, request_for

from offhook.bridge.codec import (
    AudioDone,
    Begin,
    BridgeFault,
    BridgeRequest,
    Digits,
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
    ToolResult,
    ToolSpec,
    TranscriptDelta,
    UpdateAgent,
    UsageReported,
    Utterance,
)
from offhook.bridge.openai_realtime.asking import MAX_RETRIES, Asking, Wish
from offhook.bridge.openai_realtime.codec import OpenAiCodec
from offhook.bridge.openai_realtime.events import GA_NAMES
from offhook.bridge.openai_realtime.options import setup_of
from offhook.bridge.openai_realtime.responses import MAX_CALLS, STALL_MS
from offhook.bridge.openai_realtime.turns import BACKCHANNEL_MS, OVERDUE_MS, Turns
from offhook.bridge.options import ProviderAccess
from offhook.model.audio import L16_24K, PCMU_8K
from offhook.model.errors import Verdict
from offhook.model.records import Agent
from offhook.simulators.openai_session import first_session, updated

# ── opening ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "session",
    [
        {},
        {"audio": {"input": {"format": {"type": "audio/pcmu"}}, "output": {"format": {"type": "audio/pcmu"}}}},
        {"input_audio_format": "g711_ulaw", "output_audio_format": "g711_ulaw"},
        {"audio": {"input": None, "output": []}},
    ],
)
def test_a_session_in_the_agreed_format_is_ready(session: dict[str, Any]) -> None:
    bench = Bench(ready=False)
    bench.says("session.created", session={"audio": {"input": {"format": {"type": "audio/pcm"}}}})
    bench.says("session.updated", session=session)
    bench.says("session.updated", session=session)
    assert bench.out.events == [Ready()]


@pytest.mark.parametrize(
    "session",
    [
        {"audio": {"input": {"format": {"type": "audio/pcm", "rate": 24000}}}},
        {"audio": {"output": {"format": {"type": "audio/pcma"}}}},
        {"input_audio_format": "pcm16"},
    ],
)
def test_a_session_in_another_format_is_noise(session: dict[str, Any]) -> None:
    bench = Bench(ready=False)
    bench.says("session.updated", session=session)
    (fault,) = bench.out.events
    assert isinstance(fault, BridgeFault)
    assert fault.verdict == "fatal"
    assert "instead of PCMU" in fault.problem


def test_an_error_before_the_session_is_there_is_fatal_and_says_why() -> None:
    bench = Bench(ready=False)
    bench.says("error", error={"code": "unknown_parameter", "message": "Unknown parameter: 'session.speed'."})
    problem = "refused the session: unknown_parameter: Unknown parameter: 'session.speed'."
    assert bench.out.events == [BridgeFault(problem=problem, verdict="fatal")]


def test_audio_is_one_message_as_the_service_has_it() -> None:
    message = codec_of().audio(b"\x00\xff" * 80, Recorded())
    assert message is not None
    assert json.loads(message) == {
        "type": "input_audio_buffer.append", "audio": b64encode(b"\x00\xff" * 80).decode(),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("gpt-realtime-2.1", {"reasoning_effort": "low", "parallel_tool_calls": False, "speed": 1.2}),
        ("gpt-realtime-1.5", {"parallel_tool_calls": True, "noise_reduction": "near_field"}),
        ("gpt-realtime", {"turn_detection": "semantic_vad", "max_output_tokens": "inf"}),
        ("", {"turn_detection": None, "keywords": ["Acme"], "voice": "onyx"}),
    ],
)
def test_the_vendor_takes_the_session(model: str, options: dict[str, Any]) -> None:
    tool = ToolSpec(name="weather", description="", parameters="")
    codec = codec_of(tools=[tool], agent={"instructions": "Be kind."}, model=model, **options)
    out = Recorded()
    codec.opened(out)
    asked = out.sent[0]["session"]
    assert asked["truncation"] == {"type": "retention_ratio", "retention_ratio": 0.8}
    model = parse_qs(urlsplit(codec.target().url).query)["model"][0]
    session = updated(first_session("s", model, transcription=False), asked, has_spoken=False)
    assert session["audio"]["output"]["format"] == {"type": "audio/pcmu"}


# ── servers that speak like it ───────────────────────────────────────────────────────────────────────────


def test_the_names_of_before_mean_the_same() -> None:
    runs = []
    old = {new: name for name, new in GA_NAMES.items()}
    for names in ({}, old):
        bench = Bench()
        place = {"response_id": "r1", "item_id": "i1"}
        events: list[tuple[str, dict[str, Any]]] = [
            ("response.created", {"response": {"id": "r1"}}),
            ("response.output_item.added", {"response_id": "r1", "item": {"id": "i1", "type": "message"}}),
            ("response.output_audio_transcript.delta", {**place, "delta": "Hel"}),
            ("response.output_audio.delta", {**place, "delta": "AAAA"}),
            ("response.output_audio.done", place),
            ("response.output_audio_transcript.done", {**place, "transcript": "Hello."}),
            ("response.done", {"response": {"id": "r1", "status": "completed"}}),
        ]
        for kind, fields in events:
            bench.says(names.get(kind, kind), **fields)
        runs.append((bench.out.events, bench.out.audio))
    assert runs[0] == runs[1]
    assert runs[0][1] == [("i1", b"\x00\x00\x00")]
    assert runs[0][0][-2:] == [TranscriptDelta(speaker="agent", item="i1", text="Hello.", final=True), ResponseDone()]


def test_the_type_of_an_event_may_stand_anywhere() -> None:
    bench = Bench()
    bench.says("response.created", response={"id": "r1"})
    audio = b64encode(bytes(800)).decode()
    sound = {"response_id": "r1", "item_id": "i1", "delta": audio, "type": "response.output_audio.delta"}
    bench.codec.receive(json.dumps(sound).encode(), bench.out, is_text=True)
    assert bench.out.audio == [("i1", bytes(800))]


def test_the_session_of_before_is_flat() -> None:
    bench = Bench(ready=False, agent={"instructions": "Be kind."}, protocol="beta", max_output_tokens=100)
    bench.codec.command(UpdateAgent(agent=Agent(agent_id="a", provider="openai", instructions="New.")), bench.out)
    update, change = bench.out.sent
    assert change["session"] == {"instructions": "New."}
    session = update["session"]
    assert session["input_audio_format"] == session["output_audio_format"] == "g711_ulaw"
    assert session["modalities"] == ["audio", "text"]
    assert session["input_audio_transcription"] == {"model": "gpt-live-transcribe"}
    assert session["max_response_output_tokens"] == 100
    assert "type" not in session
    assert "audio" not in session
    assert ("OpenAI-Beta", "realtime=v1") in bench.codec.target().headers


def test_a_server_that_tells_little_is_understood() -> None:
    """No ids of responses, no metadata, no word of what was begun."""
    bench = Bench(agent={"greeting": "Hello."})
    bench.codec.command(Begin(), bench.out)
    bench.says("response.created", response={})
    bench.says("response.audio.delta", item_id="i1", delta="AAAA")
    bench.says("response.done", response={})
    bench.codec.command(Say(text="Bye."), bench.out)
    assert bench.out.events == [ResponseStarted(), AudioDone(item="i1"), ResponseDone()]
    assert bench.kinds() == ["response.create", "response.create"]


# ── responses ────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_written_instead_of_spoken_is_asked_for_once() -> None:
    bench = Bench(agent={"instructions": "Be kind."})
    for response in ("r1", "r2"):
        bench.says(
            "response.created", response={"id": response, "metadata": {"ask": "ask_1"} if response == "r2" else None}
        )
        item = {"id": "i1", "type": "message", "content": [{"type": "output_text", "text": "It is noon."}]}
        bench.says("response.done", response={"id": response, "status": "completed", "output": [item]})
    (asked,) = bench.out.sent
    assert asked["response"]["instructions"] == 'Be kind.\n\nSay exactly: "It is noon."'


def test_a_response_asked_for_in_vain_is_asked_for_again_when_the_other_is_done() -> None:
    bench = Bench()
    bench.codec.command(Say(text="One moment."), bench.out)
    bench.says("response.created", response={"id": "r1", "metadata": None})
    # The service names the event, because it answers each by itself.
    bench.says("error", error={"code": "conversation_already_has_active_response", "event_id": "ask_1"})
    assert bench.kinds() == ["response.create"]
    bench.says("response.done", response={"id": "r1", "status": "completed"})
    assert [event["event_id"] for event in bench.out.sent] == ["ask_1", "ask_2"]


def test_results_that_came_late_are_answered_by_whatever_response_comes() -> None:
    bench = Bench()
    bench.says("response.created", response={"id": "r1"})
    call = {"id": "f1", "type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"}
    bench.says("response.output_item.done", response_id="r1", item={**call, "status": "completed"})
    bench.says("response.done", response={"id": "r1", "status": "completed"})
    bench.says("input_audio_buffer.speech_started", item_id="u1")
    bench.codec.command(ToolResult(tool_call_id="c1", output="sunny"), bench.out)
    assert bench.kinds() == ["conversation.item.create"]
    bench.says("input_audio_buffer.speech_stopped", item_id="u1")
    bench.says("input_audio_buffer.committed", item_id="u1")
    bench.says("response.created", response={"id": "r2", "metadata": None})
    bench.says("response.done", response={"id": "r2", "status": "completed"})
    bench.hears(100)
    assert bench.kinds() == ["conversation.item.create"]


def test_a_call_that_the_cut_response_did_not_finish_is_none() -> None:
    bench = Bench()
    bench.speaks(done=False)
    bench.codec.command(Interrupt(item="i1", played_ms=300), bench.out)
    call = {"id": "f1", "type": "function_call", "call_id": "c1", "name": "weather", "status": "incomplete"}
    bench.says("response.output_item.done", response_id="r1", item=call)
    bench.says("response.output_item.done", response_id="r1", item={**call, "status": "completed"})
    assert not [event for event in bench.out.events if isinstance(event, ToolCall)]


def test_an_item_begun_but_never_heard_of_a_cut_response_is_deleted() -> None:
    bench = Bench()
    bench.speaks(done=False)
    bench.codec.command(Interrupt(item="i1", played_ms=300), bench.out)
    bench.says("response.output_item.added", response_id="r1", item={"id": "i2", "type": "message"})
    bench.sound(200, "r1", "i2")
    details = {"type": "cancelled", "reason": "client_cancelled"}
    bench.says("response.done", response={"id": "r1", "status": "cancelled", "status_details": details})
    assert bench.out.sent[-1] == {"type": "conversation.item.delete", "item_id": "i2"}
    assert [item for item, _ in bench.out.audio] == ["i1"]
    assert AudioDone(item="i1") not in bench.out.events
    assert Interrupted(item="i1") not in bench.out.events


def test_of_an_item_that_was_wholly_heard_nothing_is_cut() -> None:
    bench = Bench()
    bench.speaks(ms=1000)
    bench.codec.command(Interrupt(item="i1", played_ms=1000), bench.out)
    assert bench.out.sent == []


def test_a_response_that_fails_with_a_full_account_is_fatal() -> None:
    bench = Bench()
    bench.says("response.created", response={"id": "r1"})
    error = {"type": "insufficient_quota", "code": "insufficient_quota", "message": "You exceeded your quota."}
    details = {"type": "failed", "error": error}
    bench.says("response.done", response={"id": "r1", "status": "failed", "status_details": details})
    assert bench.out.events[-1] == BridgeFault(problem="insufficient_quota: You exceeded your quota.", verdict="fatal")


@pytest.mark.parametrize("status", ["incomplete", "completed", None, "new"])
def test_a_response_that_ends_otherwise_is_done(status: str | None) -> None:
    bench = Bench()
    bench.speaks(done=False)
    bench.says("response.done", response={"id": "r1", "status": status})
    assert bench.names() == ["ResponseStarted", "AudioDone", "ResponseDone"]


# ── turns ────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_said_over_the_agent_at_length_is_answered_though_he_was_not_cut() -> None:
    bench = Bench()
    bench.speaks(ms=10_000)
    bench.caller_turn(BACKCHANNEL_MS + 100)
    bench.speaks("r2", "i2")
    assert [item for item, _ in bench.out.audio] == ["i1", "i2"]


@pytest.mark.parametrize(("left_ms", "answered"), [(800, True), (3000, False)])
def test_a_word_at_the_end_of_what_the_agent_says_is_answered(left_ms: int, answered: bool) -> None:
    """The agent is not cut: it ends, ``left_ms`` after the caller's "yes"."""
    bench = Bench()
    bench.speaks(ms=4000)
    bench.hears(4000 + 150 - 400 - left_ms)
    bench.caller_turn(400)
    bench.speaks("r2", "i2")
    assert [item for item, _ in bench.out.audio] == ["i1"]
    bench.hears(left_ms + 20)
    assert [item for item, _ in bench.out.audio] == (["i1", "i2"] if answered else ["i1"])
    assert bench.names().count("ResponseDone") == 1 + answered
    assert bench.kinds() == ([] if answered else ["conversation.item.delete"])


@pytest.mark.parametrize("moment", ["before", "asked", "created", "heard"])
def test_a_greeting_is_the_answer_to_a_hello(moment: str) -> None:
    """Who picks up says "Hello?"; he is greeted, and not answered again."""
    bench = Bench(agent={"greeting": "Hello, this is Acme, how can I help you?"})
    for step in ("before", "asked", "created", "heard"):
        if step == "asked":
            bench.codec.command(Begin(), bench.out)
        elif step == "created":
            bench.says("response.created", response={"id": "r1", "metadata": {"ask": "ask_1"}})
        elif step == "heard":
            bench.sound(4000)
        if step == moment:
            bench.says("input_audio_buffer.speech_started", item_id="u1")
    bench.hears(600)
    bench.says("input_audio_buffer.speech_stopped", item_id="u1")
    bench.says("input_audio_buffer.committed", item_id="u1")
    bench.says("response.done", response={"id": "r1", "status": "completed"})
    bench.hears(6000)
    assert bench.kinds() == ["response.create"]


def test_the_call_may_be_faster_than_the_servers_ear() -> None:
    bench = Bench()
    bench.speaks(ms=10_000)
    bench.codec.command(Interrupt(item="i1", played_ms=500), bench.out)
    bench.hears(200)
    bench.caller_turn()
    bench.speaks("r2", "i2")
    assert [item for item, _ in bench.out.audio] == ["i1", "i2"]
    assert bench.kinds() == ["conversation.item.truncate"]


def test_a_tool_called_by_an_answer_nobody_wanted_is_not_run() -> None:
    bench = Bench()
    bench.speaks(ms=10_000)
    bench.caller_turn()
    bench.says("response.created", response={"id": "r2"})
    bench.says("response.output_item.added", response_id="r2", item={"id": "f1", "type": "function_call"})
    call = {"id": "f1", "type": "function_call", "call_id": "c1", "name": "end_call", "status": "completed"}
    bench.says("response.output_item.done", response_id="r2", item=call)
    bench.says("response.done", response={"id": "r2", "status": "completed"})
    bench.hears(4000)
    assert not [event for event in bench.out.events if isinstance(event, ToolCall)]
    assert bench.out.sent == [{"type": "conversation.item.delete", "item_id": "f1"}]


def test_a_doubtful_answer_gives_way_to_another() -> None:
    bench = Bench()
    bench.speaks(ms=10_000)
    for response in ("r2", "r3"):
        bench.caller_turn()
        bench.speaks(response, f"i-{response}")
    bench.codec.command(Interrupt(item="i1", played_ms=3000), bench.out)
    bench.hears(20)
    assert [item for item, _ in bench.out.audio] == ["i1", "i-r3"]
    assert {"type": "conversation.item.delete", "item_id": "i-r2"} in bench.out.sent


def test_turns_that_the_options_leave_unanswered_are_answered_at_our_request() -> None:
    bench = Bench(turn_detection={"create_response": False})
    bench.caller_turn()
    assert bench.kinds() == ["response.create"]


def test_an_answer_that_does_not_come_is_asked_for_and_then_the_session_begins_anew() -> None:
    bench = Bench()
    bench.caller_turn()
    bench.hears(OVERDUE_MS)
    assert bench.out.sent == []
    bench.hears(20)
    assert bench.kinds() == ["response.create"]
    bench.hears(STALL_MS)
    faults = [event for event in bench.out.events if isinstance(event, BridgeFault)]
    assert faults == [BridgeFault(problem="said nothing for 6 s where an answer was due", verdict="retry")]
    renewed = bench.codec.renewed([])
    out = Recorded()
    renewed.receive(b'{"type":"session.updated"}', out, is_text=True)
    assert out.sent[-1]["type"] == "response.create"


@pytest.mark.parametrize("busy", ["nothing", "tool", "caller"])
def test_silence_with_a_reason_is_no_stall(busy: str) -> None:
    bench = Bench()
    bench.speaks(done=busy == "nothing")
    if busy == "tool":
        call = {"id": "f1", "type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"}
        bench.says("response.output_item.done", response_id="r1", item=call)
    if busy == "caller":
        bench.says("input_audio_buffer.speech_started", item_id="u1")
    bench.hears(30_000)
    assert not [event for event in bench.out.events if isinstance(event, BridgeFault)]


def test_speech_is_reported() -> None:
    bench = Bench()
    bench.caller_turn()
    assert bench.out.events == [SpeechStarted(), SpeechStopped()]


def test_turns_answer_once() -> None:
    turns = Turns(interruptible=True)
    turns.agent_said(5000)
    turns.caller_began()
    turns.now_ms += 300
    turns.committed(will_be_answered=False)
    assert not turns.answer_due()
    assert turns.agent_cut()
    assert not turns.agent_cut()
    assert not turns.answer_due()


def test_asking_gives_up() -> None:
    asking = Asking()
    wish = Wish(instructions="Say it.")
    assert [asking.try_again(wish) for _ in range(MAX_RETRIES + 1)] == [True] * MAX_RETRIES + [False]


# ── what is said of us ───────────────────────────────────────────────────────────────────────────────────


def test_keys_are_in_no_repr() -> None:
    codec = codec_of(access=ProviderAccess(api_key="secret-key"))
    assert "secret-key" not in repr(codec.target())


def test_the_words_of_the_seed_stand_in_for_the_agents() -> None:
    bench = Bench(ready=False, greeting="Hello.", instructions="Be kind.")
    assert bench.out.sent[0]["session"]["instructions"] == "Be kind."
    bench.codec.command(Begin(), bench.out)
    told = 'Be kind.\n\nStart the call now. Say exactly: "Hello."'
    assert bench.out.sent[1]["response"]["instructions"] == told


# ── ends ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("code", "reason", "verdict"),
    [
        (1000, "", "retry"),
        (1001, "Your session hit the maximum duration of 60 minutes.", "retry"),
        (1006, "", "retry"),
        (1011, "keepalive ping timeout", "retry"),
        (1008, "policy", "fatal"),
        (3000, "invalid_request_error.invalid_api_key", "fatal"),
        (4000, "", "retry"),
    ],
)
def test_closes(code: int, reason: str, verdict: Verdict) -> None:
    fault = codec_of().closed(code, reason)
    assert fault is not None
    assert fault.verdict == verdict


def test_history_is_bounded_and_ends_with_what_was_said_last() -> None:
    bench = Bench()
    history = [Utterance(speaker="caller", text=f"{number} " + "x" * 1000) for number in range(300)]
    renewed = bench.codec.renewed(history)
    out = Recorded()
    renewed.opened(out)
    renewed.receive(b'{"type":"session.updated"}', out, is_text=True)
    texts = [event["item"]["content"][0]["text"] for event in out.sent[1:]]
    assert len(texts) == 49
    assert texts[-1].startswith("299 ")
    assert out.events == [Ready()]


# ── whatever comes ───────────────────────────────────────────────────────────────────────────────────────

KINDS = st.sampled_from(
    [
        "error", "session.updated", "session.created", "response.created", "response.done", "rate_limits.updated",
        "response.output_item.added", "response.output_item.done", "response.output_audio.delta",
        "response.output_audio.done", "response.output_audio_transcript.delta", "response.audio.delta",
        "response.output_audio_transcript.done", "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped", "input_audio_buffer.committed", "conversation.item.truncated",
        "conversation.item.input_audio_transcription.delta",
        "conversation.item.input_audio_transcription.completed", "something.new",
    ]
)  # fmt: skip
IDS = st.sampled_from(["a", "b", "", None, 7])
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
ITEM = st.fixed_dictionaries(
    {},
    optional={
        "id": IDS, "type": st.sampled_from(["message", "function_call", "x"]), "call_id": IDS,
        "name": st.text(max_size=3), "arguments": ANYTHING,
        "status": st.sampled_from(["completed", "incomplete"]), "content": ANYTHING,
    },
)  # fmt: skip
RESPONSE = st.fixed_dictionaries(
    {},
    optional={
        "id": IDS, "status": st.sampled_from(["completed", "cancelled", "failed", "incomplete"]),
        "output": st.lists(ITEM, max_size=2) | ANYTHING, "metadata": st.just({"ask": "ask_1"}) | ANYTHING,
        "usage": ANYTHING, "status_details": ANYTHING,
    },
)  # fmt: skip
EVENTS = st.fixed_dictionaries(
    {"type": KINDS},
    optional={
        "item_id": IDS, "response_id": IDS, "delta": st.sampled_from(["AAAA", "x", ""]) | ANYTHING,
        "transcript": ANYTHING, "item": ITEM | ANYTHING, "response": RESPONSE | ANYTHING, "error": ANYTHING,
        "session": ANYTHING, "usage": ANYTHING,
    },
)  # fmt: skip
COMMANDS = st.sampled_from(
    [
        Begin(), Say(text="x"), Digits(digits="1"), Interrupt(item="a", played_ms=10), Interrupt(item="b", played_ms=0),
        ToolResult(tool_call_id="a", output="o"), TextInput(role="user", text="t", respond=True),
    ]
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(st.lists(EVENTS | COMMANDS | st.binary(max_size=20) | ANYTHING | st.just("frame"), max_size=30), st.booleans())
def test_nothing_that_comes_raises_or_grows_without_bound(steps: list[Any], ready: bool) -> None:
    bench = Bench(ready=ready)
    for step in steps:
        if step == "frame":
            bench.hears(600)
        elif isinstance(step, bytes):
            bench.codec.receive(step, bench.out, is_text=True)
        elif isinstance(step, Begin | Say | Digits | Interrupt | ToolResult | TextInput):
            bench.codec.command(step, bench.out)
        else:
            bench.codec.receive(json.dumps(step).encode(), bench.out, is_text=True)
    assert len(bench.out.sent) <= 3 + 5 * len(steps)
    bench.codec.closed(1006, "")
    bench.codec.renewed([Utterance(speaker="agent", text="x")]).opened(bench.out)


def test_a_flood_of_items_and_calls_is_bounded() -> None:
    bench = Bench()
    bench.says("response.created", response={"id": "r1"})
    for number in range(1000):
        bench.sound(20, "r1", f"i{number}")
        call = {"id": f"f{number}", "type": "function_call", "call_id": f"c{number}", "name": "x"}
        bench.says("response.output_item.done", response_id="r1", item=call)
    assert len([event for event in bench.out.events if isinstance(event, ToolCall)]) == MAX_CALLS
    for number in range(1000):
        bench.codec.command(Say(text=str(number)), bench.out)
    assert bench.kinds() == []


@pytest.mark.parametrize("message", [b"", b"{", b"[1]", b"\xff\xfe", b'{"type":"response.done","response":7}'])
def test_what_cannot_be_read_begins_anew(message: bytes) -> None:
    bench = Bench()
    bench.codec.receive(message, bench.out, is_text=True)
    (fault,) = bench.out.events
    assert isinstance(fault, BridgeFault)
    assert fault.verdict == "retry"


@pytest.mark.parametrize("message", [b'{"type":"new","item_id":7}', b'{"type":"new"}', b'{"type":"x","delta":[]}'])
def test_what_is_not_known_is_ignored(message: bytes) -> None:
    bench = Bench()
    bench.codec.receive(message, bench.out, is_text=True)
    assert bench.out.events == []


def test_usage_of_any_shape() -> None:
    bench = Bench()
    bench.says("response.created", response={"id": "r1"})
    usage = {"input_tokens": 5, "output_tokens": 0, "input_token_details": {"cached_tokens": 3}, "new": {}}
    bench.says("response.done", response={"id": "r1", "usage": usage})
    assert [event for event in bench.out.events if isinstance(event, UsageReported)] == [
        UsageReported(units="input_tokens", amount=5), UsageReported(units="cached_input_tokens", amount=3),
    ]  # fmt: skip


def test_wideband_legs_are_given_24_kilohertz() -> None:
    who = Agent(agent_id="a1", provider="openai")
    request = replace(request_for(RecordingListener()), agent=who, input_format=L16_24K, output_format=PCMU_8K)
    out = Recorded()
    OpenAiCodec(request, setup_of(who, ACCESS)).opened(out)
    audio = out.sent[0]["session"]["audio"]
    assert audio["input"]["format"] == {"type": "audio/pcm", "rate": 24000}
    assert audio["output"]["format"] == {"type": "audio/pcmu"}
    assert isinstance(request, BridgeRequest)
