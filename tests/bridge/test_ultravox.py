"""The codec of Ultravox against its simulator, over real sockets."""

from __future__ import annotations

import json
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from tests.bridge.provider_talk import Talk, talk, until

from offhook.bridge.codec import (
    AudioDone,
    BridgeFault,
    Digits,
    Interrupt,
    Interrupted,
    Ready,
    ResponseDone,
    Say,
    SpeechStarted,
    SpeechStopped,
    TextInput,
    ToolCall,
    ToolResult,
    ToolSpec,
    TranscriptDelta,
    Utterance,
)
from offhook.bridge.ultravox import provider
from offhook.model.audio import L16_8K, L16_16K, AudioFormat
from offhook.model.errors import BridgeError
from offhook.simulators.script import Fault, Script, ScriptedTool, Turn
from offhook.simulators.ultravox import UltravoxSimulator
from offhook.simulators.voice import spoken

LONG = "This is a very long story about a ship that went to sea and never came home again."

WAITS = {"first_speaker": "caller"}


def speaking_to(simulator: UltravoxSimulator, **more: Any) -> AbstractAsyncContextManager[Talk]:
    more.setdefault("audio_format", L16_8K)
    more.setdefault("agent", WAITS)
    return talk(provider, simulator, name="ultravox", **more)


def created(talking: Talk, number: int = 0) -> dict[str, Any]:
    """The body that a call was made with."""
    posts = [m.data for m in talking.journal.received if m.path.startswith("POST ")]
    body: dict[str, Any] = json.loads(posts[number])
    return body


async def test_greets_with_the_configured_words() -> None:
    simulator = UltravoxSimulator(Script())
    async with speaking_to(simulator, agent={"greeting": "Welcome.", "interruptible": False}) as talking:
        await talking.hears_all("Welcome.", spoken("Welcome.", L16_8K))
        talking.be_silent(1000)
        await talking.listener.until(lambda: bool(talking.listener.of(AudioDone)))
        assert talking.listener.of(ResponseDone)
    assert created(talking)["firstSpeakerSettings"] == {"agent": {"uninterruptible": True, "text": "Welcome."}}
    assert simulator.journal.problems == []


async def test_makes_the_call_as_it_is_configured() -> None:
    simulator = UltravoxSimulator(Script(), api_key="key")
    options = {
        "temperature": 0.4,
        "max_duration_s": 600,
        "recording": True,
        "selected_tools": ["hangUp"],
        "vad_settings": {"turn_endpoint_delay_s": 0.5},
    }
    agent = {**WAITS, "instructions": "Be kind.", "voice": "Mark", "language": "de"}
    schema = {"type": "object", "properties": {"city": {"type": "string"}, "day": {"type": "integer"}}}
    tool = ToolSpec(name="weather", description="Tells it.", parameters=json.dumps({**schema, "required": ["city"]}))
    async with speaking_to(simulator, options=options, agent=agent, tools=(tool,)) as talking:
        pass
    assert created(talking) == {
        "systemPrompt": "Be kind.",
        "model": "ultravox-v0.7",
        "voice": "Mark",
        "languageHint": "de",
        "temperature": 0.4,
        "maxDuration": "600s",
        "recordingEnabled": True,
        "metadata": {"offhook_call_id": "call-1"},
        "firstSpeakerSettings": {"user": {}},
        "vadSettings": {"turnEndpointDelay": "0.5s", "minimumInterruptionDuration": "0.48s"},
        "medium": {
            "serverWebSocket": {
                "inputSampleRate": 8000,
                "outputSampleRate": 8000,
                "clientBufferSizeMs": 30000,
                "dataMessages": {
                    "callStarted": True,
                    "state": True,
                    "transcript": True,
                    "userStartedSpeaking": True,
                    "userStoppedSpeaking": True,
                },
            }
        },
        "selectedTools": [
            {"toolName": "hangUp"},
            {
                "temporaryTool": {
                    "modelToolName": "weather",
                    "description": "Tells it.",
                    "timeout": "21s",
                    "client": {},
                    "dynamicParameters": [
                        {
                            "name": name,
                            "location": "PARAMETER_LOCATION_BODY",
                            "schema": {"type": kind},
                            "required": name == "city",
                        }
                        for name, kind in (("city", "string"), ("day", "integer"))
                    ],
                }
            },
        ],
    }
    assert simulator.journal.problems == []


async def test_an_agent_made_there_keeps_its_conduct_and_learns_the_instructions() -> None:
    simulator = UltravoxSimulator(Script())
    options = {"agent_id": "a/b", "template_context": {"name": "Ann"}}
    async with speaking_to(simulator, options=options, agent={**WAITS, "instructions": "Be kind."}) as talking:
        told = json.loads(await talking.sent("Be kind."))
    assert told == {"type": "user_text_message", "text": "<instruction>Be kind.</instruction>", "urgency": "later"}
    assert talking.journal.received[0].path == "POST /api/agents/a%2Fb/calls"
    assert created(talking)["templateContext"] == {"name": "Ann"}
    assert "model" not in created(talking)
    assert simulator.journal.problems == []


@pytest.mark.parametrize("audio_format", [L16_8K, L16_16K], ids=["8k", "16k"])
async def test_linear_audio_passes_both_ways_untouched(audio_format: AudioFormat) -> None:
    simulator = UltravoxSimulator(Script(turns=(Turn(hears="what time is it", says="It is noon."),)))
    async with speaking_to(simulator, audio_format=audio_format) as talking:
        talking.say_something()
        await talking.hears_all("It is noon.", spoken("It is noon.", audio_format))
        assert talking.listener.heard() == ["what time is it"]
        assert talking.listener.of(SpeechStarted)
        assert talking.listener.of(SpeechStopped)
    assert bytes(simulator.journal.audio_of[1]) == talking.spoken
    assert simulator.journal.problems == []


async def test_the_words_come_with_their_sounds() -> None:
    simulator = UltravoxSimulator(Script(turns=(Turn(says=LONG),)))
    async with speaking_to(simulator) as talking:
        talking.say_something()
        item = await talking.hears(LONG)
        deltas = [d for d in talking.listener.of(TranscriptDelta) if d.item == item and not d.final]
    assert "".join(delta.text for delta in deltas) == LONG
    assert len(deltas) > 5


async def test_cleared_audio_is_given_up_and_late_audio_is_not_heard() -> None:
    turns = (Turn(hears="a story", says=LONG), Turn(hears="wait", says="I stopped."))
    simulator = UltravoxSimulator(Script(turns=turns, faults=(Fault(do="late_audio", on="interrupted"),)))
    async with speaking_to(simulator) as talking:
        talking.say_something()
        story = await talking.hears_all(LONG, spoken(LONG, L16_8K))
        talking.speak(1000)
        await talking.listener.until(lambda: bool(talking.listener.of(Interrupted)))
        talking.be_silent()
        answer = await talking.hears_all("I stopped.", spoken("I stopped.", L16_8K))
    assert talking.listener.of(Interrupted) == [Interrupted(item=story)]
    assert answer != story
    assert talking.listener.audio[story] == spoken(LONG, L16_8K)


async def test_a_backchannel_interrupts_nothing() -> None:
    turns = (Turn(hears="a story", says=LONG), Turn(hears="mm-hm"))
    simulator = UltravoxSimulator(Script(turns=turns))
    async with speaking_to(simulator) as talking:
        talking.say_something()
        await talking.hears_all(LONG, spoken(LONG, L16_8K))
        talking.speak(240)
        talking.be_silent()
        await talking.listener.until(lambda: "mm-hm" in talking.listener.heard())
        assert talking.listener.of(Interrupted) == []
        talking.speak(1000)
        await talking.listener.until(lambda: bool(talking.listener.of(Interrupted)))


async def test_what_the_call_cut_is_not_heard_on() -> None:
    simulator = UltravoxSimulator(Script(pace=8.0, turns=(Turn(hears="a story", says=LONG),)))
    async with speaking_to(simulator) as talking:
        talking.say_something()
        await talking.listener.until(lambda: bool(talking.listener.audio))
        [story] = talking.listener.audio
        talking.connection.send(Interrupt(item=story, played_ms=40))
        heard = len(talking.listener.audio[story])
        await talking.hears(LONG)
        assert len(talking.listener.audio[story]) == heard < len(spoken(LONG, L16_8K))
        talking.be_silent(6000)
        await talking.listener.until(lambda: bool(talking.listener.of(ResponseDone)))
        assert talking.listener.of(AudioDone) == []


TWO = Turn(
    hears="both",
    tools=(ScriptedTool(name="weather", arguments={"city": "Ulm"}), ScriptedTool(name="traffic")),
    says="{weather}, {traffic}",
)


async def test_tools_are_called_and_answered_once_in_any_order() -> None:
    simulator = UltravoxSimulator(Script(turns=(TWO,)))
    async with speaking_to(simulator) as talking:
        talking.say_something()
        await talking.listener.until(lambda: len(talking.listener.of(ToolCall)) == 2)
        weather, traffic = talking.listener.of(ToolCall)
        assert (weather.name, json.loads(weather.arguments)) == ("weather", {"city": "Ulm"})
        send = talking.connection.send
        send(ToolResult(tool_call_id=traffic.tool_call_id, output="closed", is_error=True))
        send(ToolResult(tool_call_id=weather.tool_call_id, output="sunny"))
        send(ToolResult(tool_call_id=weather.tool_call_id, output="again"))
        send(ToolResult(tool_call_id="nobody", output="?"))
        await talking.hears("sunny, closed")
        assert json.loads(await talking.sent("closed")) == {
            "type": "client_tool_result",
            "invocationId": traffic.tool_call_id,
            "responseType": "tool-response",
            "errorType": "implementation-error",
            "errorMessage": "closed",
        }
    assert simulator.journal.problems == []


async def test_what_is_told_it_knows_what_is_asked_it_answers_and_what_is_said_it_says() -> None:
    simulator = UltravoxSimulator(Script(turns=(Turn(hears="parrot", says="Polly is here."),)))
    async with speaking_to(simulator) as talking:
        send = talking.connection.send
        send(TextInput(role="system", text="She is premium."))
        assert json.loads(await talking.sent("premium"))["urgency"] == "later"
        send(Digits(digits="5"))
        assert json.loads(await talking.sent("pressed 5"))["urgency"] == "later"
        send(TextInput(role="user", text="Ask for the parrot.", respond=True))
        await talking.hears("Polly is here.")
        send(Say(text="The code is four two."))
        talking.be_silent(3000)
        await talking.hears_all("The code is four two.", spoken("The code is four two.", L16_8K))
        send(Say(text="Hello there.", exact=False))
        assert json.loads(await talking.sent("Hello there."))["type"] == "user_text_message"
        assert talking.listener.heard() == []
    assert simulator.journal.problems == []


async def test_the_agent_hangs_up() -> None:
    simulator = UltravoxSimulator(Script(turns=(Turn(hears="bye", says="Goodbye then.", ends_call=True),)))
    async with speaking_to(simulator) as talking:
        talking.say_something()
        await talking.hears_all("Goodbye then.", spoken("Goodbye then.", L16_8K))
        talking.be_silent(2000)
        await talking.listener.until(lambda: bool(talking.listener.of(ToolCall)))
        assert talking.listener.of(ToolCall)[-1].name == "end_call"
        assert talking.listener.of(BridgeFault) == []


SAID = (Utterance(speaker="agent", text="First."), Utterance(speaker="caller", text="and two?"))


@pytest.mark.parametrize("fault", [Fault(do="drop"), Fault(do="close", code=1011), Fault(do="garbage")])
async def test_a_broken_call_goes_on_in_another_that_knows_its_history(fault: Fault) -> None:
    turns = (Turn(hears="one", says="First."), Turn(hears="two", says="Second."))
    simulator = UltravoxSimulator(Script(turns=turns, faults=(fault,)))
    async with speaking_to(simulator, history=SAID) as talking:
        talking.say_something()
        await talking.listener.until(lambda: len(talking.listener.of(Ready)) == 2)
        assert json.loads(await talking.sent("The caller said last: and two?"))["urgency"] == "soon"
        await talking.hears("Second.")
        assert [fault.verdict for fault in talking.listener.of(BridgeFault)] == ["retry"]
    posts = [message.path for message in simulator.journal.received if message.path.startswith("POST")]
    assert posts[0] == "POST /api/calls"
    assert posts[1].startswith("POST /api/calls?priorCallId=")
    assert created(talking, 1)["firstSpeakerSettings"] == {"user": {}}
    assert simulator.journal.problems == []


@pytest.mark.parametrize(
    ("fault", "verdict"),
    [
        (Fault(do="close", code=1008, text="no"), "fall_over"),
        (Fault(do="close", code=4000), "fall_over"),
        (Fault(do="error"), "retry"),
        (Fault(do="close", code=1001), "retry"),
    ],
)
async def test_a_fault_carries_its_verdict(fault: Fault, verdict: str) -> None:
    simulator = UltravoxSimulator(Script(faults=(fault,)))
    async with speaking_to(simulator) as talking:
        talking.say_something()
        await talking.listener.until(lambda: bool(talking.listener.of(BridgeFault)))
        assert talking.listener.of(BridgeFault)[0].verdict == verdict


@pytest.mark.parametrize("kind", ["unknown", "duplicate", "burst", "trickle"])
async def test_odd_ways_to_say_it_change_nothing(kind: Any) -> None:
    simulator = UltravoxSimulator(Script(turns=(Turn(says=LONG),), faults=(Fault(do=kind),)))
    async with speaking_to(simulator) as talking:
        talking.say_something()
        await talking.hears_all(LONG, spoken(LONG, L16_8K))
        assert talking.listener.of(BridgeFault) == []


async def test_what_cannot_be_made_or_joined_opens_nothing() -> None:
    with pytest.raises(BridgeError, match="ULTRAVOX_API_KEY"):
        async with speaking_to(UltravoxSimulator(Script(), api_key="another")):
            pass
    with pytest.raises(BridgeError, match="temperature") as refused:
        async with speaking_to(UltravoxSimulator(Script()), options={"temperature": 7.0}):
            pass
    assert refused.value.verdict == "fall_over"
    busy = UltravoxSimulator(Script(faults=(Fault(do="refuse", on="connect", code=403, times=9),)))
    with pytest.raises(BridgeError, match="does not let this key in"):
        async with speaking_to(busy):
            pass


async def test_who_takes_over_does_not_greet_but_goes_on() -> None:
    simulator = UltravoxSimulator(Script())
    async with speaking_to(simulator, agent={"greeting": "Welcome."}, greets=False) as talking:
        talking.connection.send(TextInput(role="system", text="You take over.", respond=True))
        await talking.hears("You wrote: <instruction>You take over.</instruction>")
    assert created(talking)["firstSpeakerSettings"] == {"user": {}}


async def test_audio_comes_ahead_of_the_time_it_takes() -> None:
    """Without a buffer of the client's, it would come no faster than the caller's audio goes."""
    simulator = UltravoxSimulator(Script(turns=(Turn(says=LONG),)))
    async with speaking_to(simulator) as talking:
        talking.say_something()
        await until(lambda: sum(map(len, talking.listener.audio.values())) == len(spoken(LONG, L16_8K)))
