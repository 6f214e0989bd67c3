"""The codec of ElevenLabs Agents against its simulator, over real sockets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from tests.bridge.provider_talk import Talk, talk, until

from offhook.audio.convert import converter
from offhook.bridge.codec import (
    AudioDone,
    BridgeFault,
    Digits,
    Interrupt,
    Interrupted,
    Ready,
    ResponseDone,
    Say,
    TextInput,
    ToolCall,
    ToolResult,
    TranscriptDelta,
    Utterance,
)
from offhook.bridge.elevenlabs_agent import provider
from offhook.model.audio import L16_16K, PCMA_8K, PCMU_8K, AudioFormat, Encoding
from offhook.model.errors import BridgeError
from offhook.simulators.elevenlabs_agent import ElevenlabsSimulator
from offhook.simulators.elevenlabs_workspace import TELEPHONE_AGENT, merged
from offhook.simulators.script import Fault, Script, ScriptedTool, Turn
from offhook.simulators.voice import spoken

LONG = "This is a very long story about a ship that went to sea and never came home again."


def speaking_to(simulator: ElevenlabsSimulator, **more: Any) -> AbstractAsyncContextManager[Talk]:
    more.setdefault("options", {"agent_id": "agent_1"})
    return talk(provider, simulator, name="elevenlabs", **more)


def agent_with(**conversation_config: Any) -> Mapping[str, Any]:
    return merged(TELEPHONE_AGENT, {"conversation_config": conversation_config})


def introduction_of(talking: Talk) -> dict[str, Any]:
    texts = [message.data for message in talking.journal.received if message.connection == 1]
    first: dict[str, Any] = json.loads(texts[0])
    return first


async def test_greets_with_the_configured_words_and_overrides_nothing_else() -> None:
    simulator = ElevenlabsSimulator(Script())
    async with speaking_to(simulator, agent={"greeting": "Welcome."}) as talking:
        await talking.hears_all("Welcome.", spoken("Welcome.", PCMU_8K))
        await talking.listener.until(lambda: bool(talking.listener.of(AudioDone)))
    assert introduction_of(talking)["conversation_config_override"] == {"agent": {"first_message": "Welcome."}}
    assert simulator.journal.problems == []


async def test_overrides_what_is_configured() -> None:
    simulator = ElevenlabsSimulator(Script())
    options = {
        "agent_id": "agent_1",
        "model": "gemini-2.5-flash",
        "stability": 0.0,
        "max_duration_s": 600,
        "dynamic_variables": {"name": "Ann", "age": 7},
        "custom_llm_extra_body": {"max_tokens": 10},
        "user_id": "u",
        "keywords": ["Acme"],
    }
    agent = {"instructions": "Be kind.", "voice": "v1", "language": "de", "first_speaker": "caller"}
    async with speaking_to(simulator, options=options, agent=agent) as talking:
        pass
    said = introduction_of(talking)
    assert said["conversation_config_override"] == {
        "agent": {
            "prompt": {"prompt": "Be kind.", "llm": "gemini-2.5-flash"},
            "language": "de",
            "first_message": "",
        },
        "tts": {"voice_id": "v1", "stability": 0.0},
        "asr": {"keywords": ["Acme"]},
        "conversation": {"max_duration_seconds": 600},
    }
    assert said["dynamic_variables"] == {"offhook_call_id": "call-1", "name": "Ann", "age": 7}
    assert said["custom_llm_extra_body"] == {"max_tokens": 10}
    assert said["user_id"] == "u"


async def test_a_private_agent_is_reached_by_a_signed_url_and_a_public_one_without_a_key() -> None:
    private = merged(TELEPHONE_AGENT, {"platform_settings": {"auth": {"enable_auth": True}}})
    simulator = ElevenlabsSimulator(Script(), agent=private, api_key="key")
    async with speaking_to(simulator) as talking:
        assert "conversation_signature=" in talking.journal.received[-1].path
    with pytest.raises(BridgeError, match="ELEVENLABS_API_KEY"):
        async with speaking_to(simulator, api_key="wrong"):
            pass
    with pytest.raises(BridgeError, match="not public"):
        async with speaking_to(simulator, api_key=""):
            pass
    async with speaking_to(ElevenlabsSimulator(Script(), api_key="key"), api_key="") as talking:
        assert talking.journal.problems == []


async def test_pcmu_passes_both_ways_untouched() -> None:
    simulator = ElevenlabsSimulator(Script(greets=False, turns=(Turn(hears="what time is it", says="It is noon."),)))
    async with speaking_to(simulator) as talking:
        talking.say_something()
        await talking.hears_all("It is noon.", spoken("It is noon.", PCMU_8K))
        assert talking.listener.heard() == ["what time is it"]
        interim = [d.text for d in talking.listener.of(TranscriptDelta) if d.speaker == "caller" and not d.final]
        assert "what time is it".startswith("".join(interim))
        assert interim
    assert bytes(simulator.journal.audio_of[1]) == talking.spoken
    assert simulator.journal.problems == []


FORMATS = ["pcm_8000", "pcm_16000", "pcm_22050", "pcm_24000", "pcm_44100", "pcm_48000", "ulaw_8000"]


@pytest.mark.parametrize("ours", [PCMU_8K, PCMA_8K, L16_16K], ids=["PCMU", "PCMA", "L16"])
@pytest.mark.parametrize("theirs", FORMATS)
async def test_obeys_the_formats_of_the_metadata(theirs: str, ours: AudioFormat) -> None:
    config = agent_with(asr={"user_input_audio_format": theirs}, tts={"agent_output_audio_format": theirs})
    simulator = ElevenlabsSimulator(Script(greets=False, turns=(Turn(says="It is noon."),)), agent=config)
    rate = int(theirs.rpartition("_")[2])
    kind = Encoding.PCMU if theirs == "ulaw_8000" else Encoding.L16
    wire = AudioFormat(encoding=kind, sample_rate_hz=rate)  # type: ignore[arg-type]  # parametrized
    async with speaking_to(simulator, audio_format=ours) as talking:
        talking.say_something()
        item = await talking.hears("It is noon.")
        await talking.listener.until(lambda: bool(talking.listener.of(AudioDone)))
        convert = converter(wire, ours)
        said = spoken("It is noon.", wire)
        assert abs(len(talking.listener.audio[item]) - len(convert(said) if convert else said)) <= 4
    inward = converter(ours, wire)
    expected = inward(talking.spoken) if inward else talking.spoken
    heard = bytes(simulator.journal.audio_of[1])
    assert heard == expected[: len(heard)]
    assert len(expected) - len(heard) <= 4


async def test_an_interruption_gives_up_what_is_numbered_up_to_it_and_late_audio_is_not_heard() -> None:
    faults = (Fault(do="late_audio", on="interrupted"),)
    turns = (Turn(hears="a story", says=LONG), Turn(hears="wait", says="I stopped."))
    simulator = ElevenlabsSimulator(Script(greets=False, turns=turns, faults=faults))
    async with speaking_to(simulator) as talking:
        talking.say_something()
        story = await talking.hears_all(LONG, spoken(LONG, PCMU_8K))
        talking.speak()
        await talking.listener.until(lambda: bool(talking.listener.of(Interrupted)))
        talking.be_silent()
        answer = await talking.hears_all("I stopped.", spoken("I stopped.", PCMU_8K))
    assert talking.listener.of(Interrupted) == [Interrupted(item=story)]
    assert answer != story
    assert talking.listener.audio[story] == spoken(LONG, PCMU_8K)


async def test_a_backchannel_does_not_interrupt_a_prepared_agent() -> None:
    turns = (Turn(hears="a story", says=LONG), Turn(hears="Mm-hm.", says=""), Turn(hears="wait", says="I stopped."))
    simulator = ElevenlabsSimulator(Script(greets=False, turns=turns))
    async with speaking_to(simulator) as talking:
        talking.say_something()
        await talking.hears_all(LONG, spoken(LONG, PCMU_8K))
        talking.say_something()
        await talking.listener.until(lambda: "Mm-hm." in talking.listener.heard())
        assert talking.listener.of(Interrupted) == []
        talking.say_something()
        await talking.hears("I stopped.")
        assert len(talking.listener.of(Interrupted)) == 1


async def test_what_the_call_cut_is_not_heard_on() -> None:
    simulator = ElevenlabsSimulator(Script(greets=False, pace=8.0, turns=(Turn(hears="a story", says=LONG),)))
    async with speaking_to(simulator) as talking:
        talking.say_something()
        story = await talking.hears(LONG)
        await talking.listener.until(lambda: story in talking.listener.audio)
        talking.connection.send(Interrupt(item=story, played_ms=40))
        heard = len(talking.listener.audio[story])
        await talking.listener.until(lambda: bool(talking.listener.of(ResponseDone)))
        assert len(talking.listener.audio[story]) == heard < len(spoken(LONG, PCMU_8K))
        assert talking.listener.of(AudioDone) == []


async def test_words_carry_the_times_of_their_sounds() -> None:
    simulator = ElevenlabsSimulator(Script(greets=False, turns=(Turn(says="One two three."),)))
    async with speaking_to(simulator) as talking:
        talking.say_something()
        await talking.listener.until(lambda: bool(talking.listener.of(AudioDone)))
        words = [d for d in talking.listener.of(TranscriptDelta) if d.speaker == "agent" and not d.final]
    assert "".join(word.text for word in words) == "One two three."
    times = [word.at_ms or 0 for word in words]
    assert times == sorted(times)
    assert times[0] == 0
    assert any(abs(at_ms - 4 * 60) <= 60 for at_ms in times)


TWO = Turn(
    hears="both",
    tools=(ScriptedTool(name="weather", arguments={"city": "Ulm"}), ScriptedTool(name="traffic")),
    says="{weather}, {traffic}",
)


async def test_tools_are_called_by_name_and_answered_once_in_any_order() -> None:
    simulator = ElevenlabsSimulator(Script(greets=False, turns=(TWO,)))
    async with speaking_to(simulator) as talking:
        talking.say_something()
        await talking.listener.until(lambda: len(talking.listener.of(ToolCall)) == 2)
        weather, traffic = talking.listener.of(ToolCall)
        assert (weather.name, json.loads(weather.arguments)) == ("weather", {"city": "Ulm"})
        talking.connection.send(ToolResult(tool_call_id=traffic.tool_call_id, output="all free"))
        talking.connection.send(ToolResult(tool_call_id=weather.tool_call_id, output="sunny", is_error=True))
        talking.connection.send(ToolResult(tool_call_id=weather.tool_call_id, output="again"))
        talking.connection.send(ToolResult(tool_call_id="nobody", output="?"))
        await talking.hears("sunny, all free")
    assert simulator.journal.problems == []


async def test_what_is_told_it_knows_and_what_is_asked_it_answers() -> None:
    simulator = ElevenlabsSimulator(Script(greets=False, turns=(Turn(hears="parrot", says="Polly is here."),)))
    async with speaking_to(simulator) as talking:
        send = talking.connection.send
        send(TextInput(role="system", text="She is premium."))
        assert json.loads(await talking.sent("premium")) == {"type": "contextual_update", "text": "She is premium."}
        send(TextInput(role="user", text="Never mind."))
        assert json.loads(await talking.sent("Never mind"))["type"] == "contextual_update"
        send(Digits(digits="5"))
        assert json.loads(await talking.sent("pressed 5"))["type"] == "contextual_update"
        send(TextInput(role="user", text="Ask for the parrot.", respond=True))
        await talking.hears("Polly is here.")
        send(TextInput(role="system", text="Go on.", respond=True))
        await talking.hears("You wrote: <instruction>Go on.</instruction>")
        send(Say(text="Four two."))
        await talking.hears("Four two.")
        send(Say(text="Welcome back.", exact=False))
        assert json.loads(await talking.sent("Welcome back."))["type"] == "user_message"
    assert simulator.journal.problems == []


async def test_the_agent_hangs_up() -> None:
    turn = Turn(hears="goodbye", says="Goodbye then.", ends_call=True)
    simulator = ElevenlabsSimulator(Script(greets=False, turns=(turn,)))
    async with speaking_to(simulator) as talking:
        talking.say_something()
        await talking.hears_all("Goodbye then.", spoken("Goodbye then.", PCMU_8K))
        await talking.listener.until(lambda: bool(talking.listener.of(ToolCall)))
        assert talking.listener.of(ToolCall)[-1].name == "end_call"
        assert talking.listener.of(BridgeFault) == []


async def test_pings_are_answered_at_once() -> None:
    simulator = ElevenlabsSimulator(Script(), ping_s=0.01)
    async with speaking_to(simulator) as talking:
        await talking.sent('"pong"')
        await until(lambda: sum('"pong"' in str(m.data) for m in simulator.journal.received) > 3)
    assert simulator.journal.problems == []


SAID = (Utterance(speaker="agent", text="First."), Utterance(speaker="caller", text="and two?"))


@pytest.mark.parametrize("fault", [Fault(do="drop"), Fault(do="close", code=1011), Fault(do="garbage")])
async def test_a_broken_conversation_goes_on_in_another_that_knows_what_was_said(fault: Fault) -> None:
    turns = (Turn(hears="one", says="First."), Turn(hears="two", says="Second."))
    simulator = ElevenlabsSimulator(Script(greets=False, turns=turns, faults=(fault,)))
    async with speaking_to(simulator, history=SAID) as talking:
        talking.say_something()
        await talking.listener.until(lambda: len(talking.listener.of(Ready)) == 2)
        assert "You: First.\\nCaller: and two?" in await talking.sent("made anew")
        await talking.hears("Second.")
        assert [fault.verdict for fault in talking.listener.of(BridgeFault)] == ["retry"]
    assert simulator.journal.connections == 2
    assert '"first_message":""' in str(next(m.data for m in simulator.journal.received if m.connection == 2))


@pytest.mark.parametrize(
    ("fault", "verdict", "problem"),
    [
        (Fault(do="error", text="safety_violation"), "fall_over", "safety_violation"),
        (Fault(do="error", text="missing_dynamic_variable"), "fall_over", "missing_dynamic_variable"),
        (Fault(do="close", code=1008, text="no"), "fall_over", "1008: no"),
        (Fault(do="error", text="llm_timeout"), "retry", "llm_timeout"),
        (Fault(do="error"), "retry", "unknown_websocket_crash"),
        (Fault(do="close", code=1012), "retry", "1012"),
    ],
)
async def test_a_fault_carries_its_verdict(fault: Fault, verdict: str, problem: str) -> None:
    simulator = ElevenlabsSimulator(Script(greets=False, faults=(fault,)))
    async with speaking_to(simulator) as talking:
        talking.say_something()
        await talking.listener.until(lambda: bool(talking.listener.of(BridgeFault)))
        [first, *_] = talking.listener.of(BridgeFault)
        assert first.verdict == verdict
        assert problem in first.problem


@pytest.mark.parametrize("kind", ["unknown", "duplicate", "burst", "trickle"])
async def test_odd_ways_to_say_it_change_nothing(kind: Any) -> None:
    simulator = ElevenlabsSimulator(Script(greets=False, turns=(Turn(says=LONG),), faults=(Fault(do=kind),)))
    async with speaking_to(simulator) as talking:
        talking.say_something()
        await talking.hears_all(LONG, spoken(LONG, PCMU_8K))
        assert talking.listener.of(BridgeFault) == []


async def test_an_override_that_is_not_allowed_says_how_to_allow_it() -> None:
    forbids = merged(
        TELEPHONE_AGENT, {"platform_settings": {"overrides": {"conversation_config_override": {"agent": {}}}}}
    )
    forbids["platform_settings"]["overrides"]["conversation_config_override"] = {}
    simulator = ElevenlabsSimulator(Script(), agent=forbids)
    with pytest.raises(BridgeError, match="offhook elevenlabs prepare agent_1"):
        async with speaking_to(simulator, agent={"greeting": "Hi."}):
            pass


async def test_a_refused_handshake_and_one_that_ends_before_it_began_open_nothing() -> None:
    busy = ElevenlabsSimulator(Script(faults=(Fault(do="refuse", on="connect", code=429),)))
    with pytest.raises(BridgeError, match="no more conversations") as refused:
        async with speaking_to(busy):
            pass
    assert refused.value.verdict == "fall_over"
    gone = ElevenlabsSimulator(Script(faults=(Fault(do="close", on="setup", code=1000),)))
    with pytest.raises(BridgeError, match="before it began"):
        async with speaking_to(gone):
            pass


async def test_who_takes_over_does_not_greet() -> None:
    simulator = ElevenlabsSimulator(Script())
    async with speaking_to(simulator, agent={"greeting": "Welcome."}, greets=False) as talking:
        talking.connection.send(TextInput(role="system", text="You take over.", respond=True))
        await talking.hears("You wrote: <instruction>You take over.</instruction>")
    assert introduction_of(talking)["conversation_config_override"] == {"agent": {"first_message": ""}}
