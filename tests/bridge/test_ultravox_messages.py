"""What the codec of Ultravox makes of messages, one by one: no socket, no clock."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.bridge.provider_talk import Output
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
    SpeechStarted,
    SpeechStopped,
    ToolCall,
    ToolSpec,
    TranscriptDelta,
    UpdateAgent,
    UsageReported,
)
from offhook.bridge.options import ProviderAccess
from offhook.bridge.outside import Outside
from offhook.bridge.provider_http import ProviderHttp
from offhook.bridge.ultravox import UltravoxCodec, UltravoxOptions, provider
from offhook.bridge.wire import HttpAnswer
from offhook.model.audio import L16_8K
from offhook.model.errors import BridgeError, ConfigError
from offhook.model.records import Agent

ACCESS = ProviderAccess(api_key="k", base_url="https://example.com")

SOUND = b"\x01\x00" * 160


class Line:
    """A codec that is ready, and what comes of it."""

    def __init__(self, tools: tuple[ToolSpec, ...] = (), **agent: Any) -> None:
        request = BridgeRequest(
            call_id="c",
            agent=Agent(agent_id="a", provider="ultravox", **agent),
            input_format=L16_8K,
            output_format=L16_8K,
            listener=RecordingListener(),
            tools=tools,
        )
        self.codec = UltravoxCodec(request, UltravoxOptions(), ACCESS)
        self.out = Output()
        self.says("call_started", callId="c1")

    def says(self, kind: str, **message: Any) -> list[BridgeEvent]:
        """The events that came of it."""
        return self.takes(json.dumps({"type": kind, **message}).encode())

    def takes(self, message: bytes, *, is_text: bool = True) -> list[BridgeEvent]:
        before = len(self.out.events)
        self.codec.receive(message, self.out, is_text=is_text)
        return self.out.events[before:]

    def sounds(self, audio: bytes = SOUND) -> list[BridgeEvent]:
        return self.takes(audio, is_text=False)

    def speaks(self, ordinal: int, **words: Any) -> list[BridgeEvent]:
        return self.says("transcript", role="agent", medium="voice", ordinal=ordinal, **{"final": False, **words})

    def is_in(self, state: str) -> list[BridgeEvent]:
        return self.says("state", state=state)


def words(item: str, text: str, *, final: bool = False) -> TranscriptDelta:
    return TranscriptDelta(speaker="agent", item=item, text=text, final=final)


@pytest.mark.parametrize("first", [b"\x00\x00", b'{"type":"state","state":"idle"}', b'{"type":"whatever"}'])
def test_ready_comes_once_with_whatever_comes_first(first: bytes) -> None:
    line = Line()
    assert line.out.events == [Ready()]
    codec, out = line.codec.renewed([]), Output()
    codec.receive(first, out, is_text=first[:1] == b"{")
    assert out.events[0] == Ready()
    assert line.is_in("idle") == []


def test_an_utterance_is_what_sounds_until_the_state_changes() -> None:
    line = Line()
    assert line.is_in("speaking") == []
    assert line.sounds() == [ResponseStarted()]
    assert line.sounds() == []
    assert line.is_in("listening") == [AudioDone(item="utterance-1"), ResponseDone()]
    assert line.is_in("idle") == []
    line.sounds()
    assert line.out.audio == {"utterance-1": SOUND * 2, "utterance-2": SOUND}


def test_words_are_pieces_whether_they_come_as_pieces_or_as_all_so_far() -> None:
    line = Line()
    assert line.speaks(3, delta="It is") == [ResponseStarted(), words("utterance-1", "It is")]
    line.sounds()
    assert line.speaks(3, delta=" noon") == [words("utterance-1", " noon")]
    assert line.speaks(3, text="It is noon now") == [words("utterance-1", " now")]
    assert line.speaks(3, text="It was noon") == []
    assert line.is_in("listening") == [AudioDone(item="utterance-1"), ResponseDone()]
    assert line.speaks(3, text="It is noon.", final=True) == [words("utterance-1", "It is noon.", final=True)]
    assert line.speaks(4, delta="", final=True)[-1] == words("utterance-2", "", final=True)


def test_another_number_is_another_utterance() -> None:
    line = Line()
    line.speaks(1, delta="One.")
    line.sounds()
    assert line.speaks(2, delta="Two.") == [
        AudioDone(item="utterance-1"),
        ResponseDone(),
        ResponseStarted(),
        words("utterance-2", "Two."),
    ]


@pytest.mark.parametrize("again", ["speaking", "thinking", "words"])
def test_cleared_audio_is_given_up_and_nothing_sounds_until_it_speaks_again(again: str) -> None:
    line = Line()
    line.speaks(1, delta="One.")
    line.sounds()
    assert line.says("playback_clear_buffer") == [Interrupted(item="utterance-1"), ResponseDone()]
    assert line.is_in("listening") == []
    assert line.sounds() == []
    assert line.speaks(1, text="One", final=True) == [words("utterance-1", "One", final=True)]
    assert line.sounds() == []
    if again == "words":
        line.speaks(2, delta="Two.")
    else:
        line.is_in(again)
    line.sounds()
    assert list(line.out.audio) == ["utterance-1", "utterance-2"]


def test_half_a_sample_waits_for_its_other_half_and_never_for_another_utterance() -> None:
    line = Line()
    line.sounds(b"\x01\x02\x03")
    line.sounds(b"\x04\x05")
    assert line.out.audio == {"utterance-1": b"\x01\x02\x03\x04"}
    line.is_in("listening")
    line.sounds(b"\x06\x07")
    assert line.out.audio["utterance-2"] == b"\x06\x07"


def test_what_the_call_cut_sounds_no_more() -> None:
    line = Line()
    line.sounds()
    line.codec.command(Interrupt(item="utterance-1", played_ms=20), line.out)
    assert line.sounds() == []
    assert line.out.audio == {"utterance-1": SOUND}
    assert line.is_in("listening") == [ResponseDone()]


@pytest.mark.parametrize("kind", ["user_started_speaking", "userStartedSpeaking", "UserStartedSpeaking"])
def test_the_callers_speech_is_known_however_it_is_spelled(kind: str) -> None:
    line = Line()
    assert line.says(kind) == [SpeechStarted()]
    assert line.says(kind.replace("tarted", "topped")) == [SpeechStopped()]


def test_the_caller_said_what_was_spoken_and_is_final() -> None:
    line = Line()
    heard = {"role": "user", "ordinal": 7}
    assert line.says("transcript", **heard, medium="voice", text=" Hi. ", final=True) == [
        TranscriptDelta(speaker="caller", item="caller-7", text="Hi.", final=True)
    ]
    assert line.says("transcript", **heard, medium="text", text="[The caller pressed 5]", final=True) == []
    assert line.says("transcript", **heard, medium="voice", text="H", final=False) == []


def test_a_tool_is_called_once_and_ends_what_was_being_said() -> None:
    line = Line()
    line.sounds()
    call = {"toolName": "f", "invocationId": "i", "parameters": {"a": [1]}}
    done, over, called = line.says("client_tool_invocation", **call)
    assert (done, over) == (AudioDone(item="utterance-1"), ResponseDone())
    assert called == ToolCall(tool_call_id="i", name="f", arguments='{"a": [1]}')
    assert line.says("client_tool_invocation", **call) == []


@pytest.mark.parametrize(
    ("status", "verdict"), [(400, "fall_over"), (401, "fall_over"), (402, "fall_over"), (429, "retry"), (502, "retry")]
)
def test_a_call_that_was_not_made_carries_its_verdict(status: int, verdict: str) -> None:
    with pytest.raises(BridgeError, match="oh") as refused:
        Line().codec.prepared(HttpAnswer(status=status, body=b"oh"))
    assert refused.value.verdict == verdict


@pytest.mark.parametrize("body", [b"", b"[]", b'{"callId":"x"}', b'{"joinUrl":"https://example.com"}', b"\xff"])
def test_a_call_that_cannot_be_joined_is_no_call(body: bytes) -> None:
    with pytest.raises(BridgeError, match="cannot be joined"):
        Line().codec.prepared(HttpAnswer(status=201, body=body))


@pytest.mark.parametrize(
    ("url", "joined"), [("wss://x/y", "wss://x/y?apiVersion=1"), ("ws://x?a=1", "ws://x?a=1&apiVersion=1")]
)
def test_a_call_is_joined_with_the_version_of_its_protocol(url: str, joined: str) -> None:
    codec = Line().codec
    codec.prepared(HttpAnswer(status=201, body=json.dumps({"joinUrl": url, "callId": "c1"}).encode()))
    assert codec.target().url == joined
    again = codec.renewed([]).preparation()
    assert again is not None
    assert again.url == "https://example.com/api/calls?priorCallId=c1"


@pytest.mark.parametrize(
    ("code", "verdict"), [(1000, None), (1001, "retry"), (1006, "retry"), (1011, "retry"), (1008, "fall_over")]
)
def test_a_close_carries_its_verdict(code: int, verdict: str | None) -> None:
    fault = Line().codec.closed(code, "")
    assert (fault.verdict if fault else None) == verdict


@pytest.mark.parametrize(("seconds", "wanted"), [(0, "3600s"), (5, "10s"), (90, "90s"), (9000, "3600s")])
def test_a_call_lasts_as_long_as_it_may_there(seconds: int, wanted: str) -> None:
    asked = Line(max_call_s=seconds).codec.preparation()
    assert asked is not None
    assert json.loads(asked.body)["maxDuration"] == wanted
    assert "k'" not in repr(asked)


def test_a_tool_is_given_a_second_more_than_it_takes_here_but_no_more_than_it_may_there() -> None:
    tools = tuple(ToolSpec(name=f"f{s}", description="", parameters="{}", timeout_s=s) for s in (0.5, 20.0, 90.0))
    asked = Line(tools=tools).codec.preparation()
    assert asked is not None
    made = [tool["temporaryTool"] for tool in json.loads(asked.body)["selectedTools"]]
    assert [tool["timeout"] for tool in made] == ["2s", "21s", "40s"]
    assert made[0]["dynamicParameters"] == []


def test_what_means_nothing_here_says_nothing() -> None:
    line = Line()
    for command in (Begin(), EndOfInput()):
        line.codec.command(command, line.out)
    assert line.out.sent == []
    line.codec.command(UpdateAgent(agent=Agent(agent_id="b", provider="p", instructions="Be brief.")), line.out)
    assert "From now on: Be brief." in json.loads(line.out.sent[0])["text"]


def test_options_are_checked() -> None:
    check = provider(Outside(http=ProviderHttp(), accesses={"ultravox": ProviderAccess(api_key="k")})).check
    check(Agent(agent_id="a", provider="ultravox"))
    for options, key in (
        ({"vad_settings": {"minimum": 1}}, "options.vad_settings.minimum"),
        ({"vioce": "y"}, "options.vioce"),
        ({"max_duration_s": "long"}, "options.max_duration_s"),
    ):
        with pytest.raises(ConfigError) as refused:
            check(Agent(agent_id="a", provider="ultravox", options=options))
        assert refused.value.key == key
    with pytest.raises(ConfigError, match="ULTRAVOX_API_KEY"):
        provider(Outside(http=ProviderHttp())).check(Agent(agent_id="a", provider="ultravox"))


KINDS = (
    "state",
    "transcript",
    "client_tool_invocation",
    "playback_clear_buffer",
    "user_started_speaking",
    "x",
    "",
    None,
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ("state", "role", "ordinal", "text", "delta", "final", "toolName", "invocationId", "parameters", "medium")
VALUES = ANYTHING | st.sampled_from(["agent", "user", "speaking", "listening"])


@given(
    st.lists(
        st.binary(max_size=40)
        | st.tuples(st.sampled_from(KINDS), st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=6)),
        max_size=10,
    )
)
def test_whatever_comes_nothing_is_raised(messages: list[bytes | tuple[str | None, dict[str, Any]]]) -> None:
    line = Line()
    for message in messages:
        if isinstance(message, bytes):
            line.takes(message)
            line.sounds(message)
        else:
            line.takes(json.dumps({"type": message[0], **message[1]}).encode())


def test_time_is_counted_as_it_is_paid_for() -> None:
    line = Line()
    before = len(line.out.events)
    for _ in range(125):
        line.codec.audio(b"\xff" * 160, line.out)
    assert line.out.events[before:] == [UsageReported(units="seconds", amount=1.0)] * 2


def test_what_nobody_knows_is_ignored_and_what_cannot_be_read_is_a_fault() -> None:
    line = Line()
    assert line.says("call_event", anything=[1]) == []
    for broken in (b"", b"\xff\xfe", b'{"type":"state"', b'{"type":"state"}', b"[]", b"[" * 100_000):
        [fault] = line.takes(broken)
        assert isinstance(fault, BridgeFault)
        assert fault.verdict == "retry"
