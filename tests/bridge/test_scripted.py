from __future__ import annotations

import json
from typing import Any

import pytest
from tests.bridge.recording_listener import RecordingListener, request_for

from offhook.bridge.codec import (
    AudioDone,
    BridgeFault,
    Digits,
    Interrupt,
    InterruptionJudged,
    Ready,
    ResponseDone,
    ResponseStarted,
    Say,
    SpeechStarted,
    SpeechStopped,
    TextInput,
    ToolCall,
    ToolResult,
    TranscriptDelta,
)
from offhook.bridge.scripted import ScriptedConnection, open_scripted
from offhook.model.audio import L16_16K, PCMA_8K, PCMU_8K, Encoding
from offhook.model.errors import BridgeError

SILENT_FRAME = b"\xff" * 160


def connect(listener: RecordingListener, **script: Any) -> ScriptedConnection:
    return open_scripted(request_for(listener, script=json.dumps(script)))


def hear_silence(connection: ScriptedConnection, ms: int) -> None:
    for _ in range(ms // 20):
        connection.send_audio(SILENT_FRAME)


async def test_an_empty_script_is_silent() -> None:
    listener = RecordingListener()
    connection = open_scripted(request_for(listener))
    await connection.open()
    hear_silence(connection, 1000)
    assert listener.events == [Ready()]
    assert listener.audio == {}


async def test_greets_with_a_tone_of_the_asked_length() -> None:
    listener = RecordingListener()
    await connect(listener, greeting_tone_hz=1000, greeting_ms=500).open()
    assert listener.events == [Ready(), ResponseStarted(), AudioDone(item="agent-1"), ResponseDone()]
    assert len(listener.audio["agent-1"]) == 500 * PCMU_8K.bytes_per_ms


async def test_two_runs_of_a_script_are_equal() -> None:
    runs = []
    for _ in range(2):
        listener = RecordingListener()
        connection = connect(listener, greeting_tone_hz=700, greeting_text="one two", hang_up_after_ms=200)
        await connection.open()
        hear_silence(connection, 400)
        runs.append((listener.events, listener.audio))
    assert runs[0] == runs[1]


async def test_words_are_placed_over_the_audio() -> None:
    listener = RecordingListener()
    speak = {"do": "speak", "text": "a b c d", "ms": 800}
    await connect(listener, steps=[{"do": [speak]}]).open()
    deltas = [(d.text, d.at_ms, d.final) for d in listener.of(TranscriptDelta)]
    assert deltas == [
        ("a", 0, False), (" b", 200, False), (" c", 400, False), (" d", 600, False), ("a b c d", None, True),
    ]  # fmt: skip


async def test_echo_gives_each_frame_back_at_once() -> None:
    listener = RecordingListener()
    connection = connect(listener, echo=True)
    await connection.open()
    for value in (1, 2, 3):
        connection.send_audio(bytes([value]) * 160)
    assert listener.audio["echo"] == b"\x01" * 160 + b"\x02" * 160 + b"\x03" * 160


async def test_echo_refuses_two_formats() -> None:
    listener = RecordingListener()
    request = request_for(listener, script='{"echo": true}')
    other = type(request)(
        call_id="c1", agent=request.agent, input_format=PCMU_8K, output_format=PCMA_8K, listener=listener
    )
    with pytest.raises(BridgeError, match="one format both ways"):
        await open_scripted(other).open()


async def test_a_repeating_greeting_stays_one_period_ahead_until_interrupted() -> None:
    listener = RecordingListener()
    connection = connect(listener, greeting_tone_hz=1000, greeting_ms=400, greeting_repeats=True)
    await connection.open()
    period = 400 * PCMU_8K.bytes_per_ms
    assert len(listener.audio["agent-1"]) == 2 * period
    hear_silence(connection, 2000)
    assert len(listener.audio["agent-1"]) == 7 * period
    connection.send(Interrupt(item="agent-1", played_ms=2000))
    hear_silence(connection, 2000)
    assert len(listener.audio["agent-1"]) == 7 * period


async def test_a_step_waits_for_its_delay_to_the_frame() -> None:
    listener = RecordingListener()
    connection = connect(listener, hang_up_after_ms=200)
    await connection.open()
    hear_silence(connection, 180)
    assert listener.of(ToolCall) == []
    hear_silence(connection, 20)
    assert listener.of(ToolCall) == [ToolCall(tool_call_id="call-1", name="end_call", arguments="{}")]


async def test_each_digit_triggers_its_own_step() -> None:
    listener = RecordingListener()
    five = {"on": "digit", "digit": "5", "do": [{"do": "hear", "text": "five"}]}
    every = {"on": "digit", "do": [{"do": "hear", "text": "some"}]}
    connection = connect(listener, steps=[five, every])
    await connection.open()
    connection.send(Digits(digits="15"))
    assert listener.heard() == ["some", "five", "some"]


async def test_text_is_answered_only_when_asked_to_respond() -> None:
    listener = RecordingListener()
    connection = connect(listener, steps=[{"on": "text", "do": [{"do": "hear", "text": "asked"}]}])
    await connection.open()
    connection.send(TextInput(role="user", text="x"))
    assert listener.heard() == []
    connection.send(TextInput(role="user", text="x", respond=True))
    assert listener.heard() == ["asked"]


async def test_say_lasts_sixty_ms_a_character_and_carries_its_words() -> None:
    listener = RecordingListener()
    connection = connect(listener)
    await connection.open()
    connection.send(Say(text="good day"))
    assert len(listener.audio["agent-1"]) == 8 * 60 * 8
    assert listener.said() == ["good day"]


async def test_detected_speech_drives_steps() -> None:
    listener = RecordingListener()
    answer = {"on": "speech_stopped", "do": [{"do": "speak", "ms": 100}]}
    connection = connect(listener, vad=True, steps=[answer])
    await connection.open()
    hear_silence(connection, 400)
    for _ in range(25):
        connection.send_audio(b"\x20\xa0" * 80)
    assert listener.of(SpeechStarted) == [SpeechStarted()]
    hear_silence(connection, 2000)
    assert listener.of(SpeechStopped) == [SpeechStopped()]
    assert list(listener.audio) == ["agent-1"]


async def test_scripted_speech_judgement_and_fault_are_reported_in_order() -> None:
    listener = RecordingListener()
    actions: list[dict[str, Any]] = [
        {"do": "speech", "started": True},
        {"do": "judge", "genuine": False},
        {"do": "speech", "started": False},
        {"do": "fail", "problem": "gone", "verdict": "retry"},
    ]
    connection = connect(listener, judges_interruption=True, steps=[{"do": actions}])
    assert connection.profile.judges_interruption
    await connection.open()
    assert listener.events == [
        Ready(),
        SpeechStarted(),
        InterruptionJudged(genuine=False),
        SpeechStopped(),
        BridgeFault(problem="gone", verdict="retry"),
    ]


async def test_a_tool_is_used_and_its_result_drives_the_step_that_waits_for_it() -> None:
    listener = RecordingListener()
    connection = connect(
        listener,
        steps=[
            {"do": [{"do": "use_tool", "name": "transfer_call", "arguments": {"destination": "sales"}}]},
            {"on": "tool_result", "output": "busy", "do": [{"do": "hear", "text": "engaged"}]},
            {"on": "tool_result", "output": "no answer", "do": [{"do": "hear", "text": "nobody there"}]},
        ],
    )
    await connection.open()
    used = ToolCall(tool_call_id="call-1", name="transfer_call", arguments='{"destination":"sales"}')
    assert listener.of(ToolCall) == [used]
    connection.send(ToolResult(tool_call_id="call-1", output="sales is busy"))
    assert [delta.text for delta in listener.of(TranscriptDelta)] == ["engaged"]


async def test_open_fails_on_demand() -> None:
    connection = connect(RecordingListener(), open_fault="no licence", open_verdict="fall_over")
    with pytest.raises(BridgeError, match="no licence") as raised:
        await connection.open()
    assert raised.value.verdict == "fall_over"


@pytest.mark.parametrize("script", ["{", '{"greting_ms": 5}', '{"steps": [{"do": [{"do": "dance"}]}]}'])
def test_a_script_that_cannot_be_read_is_refused(script: str) -> None:
    with pytest.raises(BridgeError, match=r"agent\.options\['script'\]"):
        open_scripted(request_for(RecordingListener(), script=script))


async def test_nothing_comes_after_close() -> None:
    listener = RecordingListener()
    connection = connect(listener, echo=True, hang_up_after_ms=100)
    await connection.open()
    await connection.close()
    await connection.close()
    hear_silence(connection, 1000)
    connection.send(Say(text="late"))
    assert listener.events == [Ready()]
    assert listener.audio == {}


async def test_tones_are_rendered_in_the_agreed_encoding() -> None:
    spoken = {}
    for audio_format in (PCMU_8K, PCMA_8K, L16_16K):
        listener = RecordingListener()
        script = json.dumps({"greeting_tone_hz": 1000})
        await open_scripted(request_for(listener, audio_format=audio_format, script=script)).open()
        spoken[audio_format.encoding] = listener.audio["agent-1"]
    assert spoken[Encoding.PCMU] != spoken[Encoding.PCMA]
    assert [len(spoken[each]) for each in (Encoding.PCMU, Encoding.PCMA, Encoding.L16)] == [8000, 8000, 32_000]
