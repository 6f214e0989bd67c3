"""The codec of Gemini Live against its simulator, over real sockets."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec
import pytest
from tests.bridge.provider_talk import Talk, frames_of, speech, talk, until
from tests.bridge.recording_listener import PATIENCE_S

from offhook.audio.tones import tone
from offhook.bridge import connection
from offhook.bridge.codec import (
    AudioDone,
    Begin,
    BridgeFault,
    Digits,
    Expiring,
    Interrupt,
    Interrupted,
    Ready,
    ResponseDone,
    ResponseStarted,
    Say,
    TextInput,
    ToolCall,
    ToolCallCancelled,
    ToolResult,
    ToolSpec,
    TranscriptDelta,
    UpdateAgent,
    UsageReported,
    Utterance,
)
from offhook.bridge.gemini_live import codec, provider
from offhook.model.audio import L16_16K, L16_24K
from offhook.model.errors import BridgeError
from offhook.model.records import Agent
from offhook.simulators.gemini_live import GeminiSimulator
from offhook.simulators.script import Fault, FaultKind, FaultMoment, Script, ScriptedTool, Turn
from offhook.simulators.voice import spoken

STORY = "This is a long story about a ship that sailed from one end of the sea to the other."
WEATHER = ToolSpec(
    name="weather",
    description="Tells the weather.",
    parameters='{"$schema": "x", "type": "object", "properties": {"city": {"type": "string"}}}',
)
TRAFFIC = ToolSpec(name="traffic", description="", parameters="{}")
END_CALL = ToolSpec(name="end_call", description="", parameters="{}")


HURRY = 10.0


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "RETRY_S", (0.01, 0.02))


def speaking_to(simulator: GeminiSimulator, **more: Any) -> AbstractAsyncContextManager[Talk]:
    simulator.playback_speed = HURRY
    return talk(provider, simulator, name="gemini", audio_format=L16_16K, output_format=L16_24K, **more)


def playing(*turns: Turn, faults: tuple[Fault, ...] = (), **more: Any) -> Script:
    return Script(turns=turns, faults=faults, **more)


def setups_of(simulator: GeminiSimulator) -> list[dict[str, Any]]:
    messages = [msgspec.json.decode(received.data) for received in simulator.journal.received]
    return [message["setup"] for message in messages if "setup" in message]


def loudest(audio: bytes) -> int:
    return max(abs(int.from_bytes(audio[at : at + 2], "little", signed=True)) for at in range(0, len(audio), 2))


# ── the caller and the agent ─────────────────────────────────────────────────────────────────────────────


async def test_greets_with_the_words_it_is_given() -> None:
    simulator = GeminiSimulator(Script())
    async with speaking_to(simulator, agent={"greeting": "Welcome."}) as talking:
        talking.connection.send(Begin())
        await talking.hears_all("Welcome.", spoken("Welcome.", L16_24K))
        names = [name for name in talking.listener.names() if name not in ("TranscriptDelta", "UsageReported")]
    assert names == ["Ready", "ResponseStarted", "AudioDone", "ResponseDone"]
    assert simulator.journal.problems == []


async def test_greets_nobody_where_the_caller_speaks_first() -> None:
    simulator = GeminiSimulator(playing(Turn(hears="hello", says="Yes?")))
    async with speaking_to(simulator, agent={"greeting": "Welcome.", "first_speaker": "caller"}) as talking:
        talking.connection.send(Begin())
        talking.say_something()
        await talking.hears("Yes?")
    assert talking.listener.said() == ["Yes?"]


async def test_finds_a_greeting_of_its_own() -> None:
    simulator = GeminiSimulator(Script())
    async with speaking_to(simulator) as talking:
        talking.connection.send(Begin())
        await talking.hears("Hello.")


async def test_nudges_a_model_that_waits_for_input() -> None:
    """Its audio goes by; what it waits for is text."""
    simulator = GeminiSimulator(Script(), needs_input=True)
    async with speaking_to(simulator, agent={"greeting": "Welcome."}) as talking:
        talking.connection.send(Begin())
        talking.be_silent(20)
        await talking.hears("Welcome.")


async def test_what_the_caller_says_arrives_to_the_byte_and_is_answered() -> None:
    simulator = GeminiSimulator(playing(Turn(hears="what time is it", says="It is noon.")))
    async with speaking_to(simulator) as talking:
        talking.say_something()
        await talking.hears_all("It is noon.", spoken("It is noon.", L16_24K))
        await until(lambda: len(simulator.journal.audio_of[1]) == len(talking.spoken))
        assert bytes(simulator.journal.audio_of[1]) == talking.spoken
    assert talking.listener.heard() == ["what time is it"]
    heard = [d.text for d in talking.listener.of(TranscriptDelta) if d.speaker == "caller" and not d.final]
    assert heard == ["what", " time", " is", " it"]
    assert simulator.journal.problems == []


async def test_usage_is_told() -> None:
    simulator = GeminiSimulator(playing(Turn(says="It is noon.")))
    async with speaking_to(simulator) as talking:
        talking.say_something()
        await talking.listener.until(lambda: len(talking.listener.of(UsageReported)) >= 4)
    used = {usage.units: usage.amount for usage in talking.listener.of(UsageReported)}
    assert used == {"input_tokens": 300, "output_tokens": 11, "audio_input_tokens": 100, "audio_output_tokens": 11}


# ── who has the floor ────────────────────────────────────────────────────────────────────────────────────


async def tells_story(talking: Talk) -> str:
    """The item, all of whose audio has come and which is being played."""
    talking.say_something()
    story = spoken(STORY, L16_24K)
    await talking.listener.until(lambda: any(len(audio) == len(story) for audio in talking.listener.audio.values()))
    await talking.listener.until(lambda: bool(talking.listener.of(ResponseDone)))
    return next(item for item, audio in talking.listener.audio.items() if len(audio) == len(story))


async def test_a_backchannel_does_not_reach_the_model() -> None:
    simulator = GeminiSimulator(playing(Turn(says=STORY), Turn(hears="mm-hm", says="Wrong.")))
    async with speaking_to(simulator) as talking:
        await tells_story(talking)
        before = len(talking.spoken)
        talking.speak(400)
        talking.be_silent(1000)
        await until(lambda: len(simulator.journal.audio_of[1]) == len(talking.spoken))
        assert loudest(bytes(simulator.journal.audio_of[1][before:])) == 0
    assert not talking.listener.of(Interrupted)
    assert len(talking.listener.of(ResponseStarted)) == 1


async def test_a_caller_who_means_it_is_heard_from_the_first_word_on() -> None:
    simulator = GeminiSimulator(playing(Turn(says=STORY), Turn(hears="wait, stop", says="I stopped.")))
    async with speaking_to(simulator) as talking:
        item = await tells_story(talking)
        before = len(simulator.journal.audio_of[1])
        talking.be_silent(500)
        talking.speak(900)
        talking.connection.send(Interrupt(item=item, played_ms=900))
        talking.say_something()
        await talking.hears_all("I stopped.", spoken("I stopped.", L16_24K))
        got = bytes(simulator.journal.audio_of[1][before:])
    assert talking.listener.heard()[1:] == ["wait, stop"]
    said = speech(L16_16K, 900)
    assert said in got
    assert simulator.journal.problems == []


async def test_late_audio_of_what_was_interrupted_is_not_heard() -> None:
    faults = (Fault(on="interrupted", do="late_audio"),)
    simulator = GeminiSimulator(playing(Turn(says=STORY), Turn(says="I stopped."), faults=faults))
    async with speaking_to(simulator) as talking:
        item = await tells_story(talking)
        talking.speak(900)
        talking.connection.send(Interrupt(item=item, played_ms=900))
        talking.say_something()
        await talking.hears("I stopped.")
    assert sorted(len(audio) for audio in talking.listener.audio.values()) == sorted(
        len(spoken(text, L16_24K)) for text in (STORY, "I stopped.")
    )


async def test_an_answer_a_little_early_is_heard_when_the_agent_has_finished() -> None:
    simulator = GeminiSimulator(playing(Turn(says="Do you agree?"), Turn(hears="yes", says="Good.")))
    async with speaking_to(simulator) as talking:
        talking.say_something()
        await talking.listener.until(lambda: bool(talking.listener.of(ResponseDone)))
        talking.be_silent(300)
        talking.speak(400)
        talking.be_silent(1000)
        await talking.hears("Good.")
    assert talking.listener.heard()[-1] == "yes"


async def test_a_weak_echo_is_not_taken_for_an_answer() -> None:
    simulator = GeminiSimulator(playing(Turn(says="Do you agree?")))
    async with speaking_to(simulator) as talking:
        talking.say_something()
        await talking.listener.until(lambda: bool(talking.listener.of(ResponseDone)))
        before = len(talking.spoken)
        for frame in frames_of(tone(440, 800, -38, L16_16K.encoding, sample_rate_hz=16000), L16_16K):
            talking.connection.send_audio(frame)
        talking.be_silent(1000)
        await until(lambda: len(simulator.journal.audio_of[1]) >= before + 1800 * L16_16K.bytes_per_ms)
        assert loudest(bytes(simulator.journal.audio_of[1][before:])) == 0


async def test_the_provider_interrupts_where_the_user_wants_it() -> None:
    simulator = GeminiSimulator(playing(Turn(says=STORY), Turn(hears="wait", says="I stopped.")))
    async with speaking_to(simulator, options={"barge_in": "provider"}) as talking:
        item = await tells_story(talking)
        talking.say_something()
        await talking.hears("I stopped.")
    assert talking.listener.of(Interrupted) == [Interrupted(item=item)]


async def test_nothing_interrupts_where_the_user_wants_it() -> None:
    simulator = GeminiSimulator(playing(Turn(says="Listen to this."), Turn(hears="wait", says="Now you.")))
    async with speaking_to(simulator, options={"barge_in": "never"}) as talking:
        talking.say_something()
        talking.say_something()
        await talking.hears("Now you.")
    assert talking.listener.said() == ["Listen to this.", "Now you."]
    assert not talking.listener.of(Interrupted)


# ── tools ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_tool_is_declared_called_and_answered() -> None:
    turn = Turn(hears="weather", tools=(ScriptedTool(name="weather", arguments={"city": "Ulm"}),), says="{weather}!")
    simulator = GeminiSimulator(playing(turn))
    async with speaking_to(simulator, tools=(WEATHER,)) as talking:
        talking.say_something()
        await talking.listener.until(lambda: bool(talking.listener.of(ToolCall)))
        [call] = talking.listener.of(ToolCall)
        assert (call.name, msgspec.json.decode(call.arguments)) == ("weather", {"city": "Ulm"})
        talking.connection.send(ToolResult(tool_call_id=call.tool_call_id, output="sunny"))
        await talking.hears("sunny!")
    [declared] = setups_of(simulator)[0]["tools"][0]["functionDeclarations"]
    assert declared == {
        "name": "weather",
        "description": "Tells the weather.",
        "behavior": "BLOCKING",
        "parametersJsonSchema": {"type": "object", "properties": {"city": {"type": "string"}}},
    }
    assert simulator.journal.problems == []


@pytest.mark.parametrize("names_calls", [True, False])
async def test_tools_side_by_side_with_ids_and_without(names_calls: bool) -> None:
    tools = (ScriptedTool(name="weather"), ScriptedTool(name="traffic"))
    simulator = GeminiSimulator(playing(Turn(tools=tools, says="{weather}, {traffic}")), names_calls=names_calls)
    async with speaking_to(simulator, tools=(WEATHER, TRAFFIC)) as talking:
        talking.say_something()
        await talking.listener.until(lambda: len(talking.listener.of(ToolCall)) == 2)
        weather, traffic = talking.listener.of(ToolCall)
        assert weather.tool_call_id != traffic.tool_call_id
        talking.connection.send(ToolResult(tool_call_id=traffic.tool_call_id, output="jam", is_error=True))
        talking.connection.send(ToolResult(tool_call_id=weather.tool_call_id, output="rain"))
        await talking.hears("rain, jam")
    assert simulator.journal.problems == []


async def test_a_call_that_was_taken_back_is_not_answered() -> None:
    slow = Turn(tools=(ScriptedTool(name="weather", cancel=True),), says="Never.")
    simulator = GeminiSimulator(playing(slow, Turn(hears="never mind", says="As you like.")))
    async with speaking_to(simulator, tools=(WEATHER,)) as talking:
        talking.say_something()
        await talking.listener.until(lambda: bool(talking.listener.of(ToolCall)))
        talking.say_something()
        await talking.listener.until(lambda: bool(talking.listener.of(ToolCallCancelled)))
        key = talking.listener.of(ToolCall)[0].tool_call_id
        assert talking.listener.of(ToolCallCancelled) == [ToolCallCancelled(tool_call_id=key)]
        talking.connection.send(ToolResult(tool_call_id=key, output="too late"))
        await talking.hears("As you like.")
    assert simulator.journal.problems == []


async def test_the_agent_ends_the_call_by_a_tool() -> None:
    simulator = GeminiSimulator(playing(Turn(says="Goodbye.", ends_call=True)))
    async with speaking_to(simulator, tools=(END_CALL,)) as talking:
        talking.say_something()
        await talking.listener.until(lambda: bool(talking.listener.of(ToolCall)))
        names = talking.listener.names()
    assert names.index("AudioDone") < names.index("ToolCall")
    assert talking.listener.of(ToolCall)[0].name == "end_call"


# ── what is written to it ────────────────────────────────────────────────────────────────────────────────


async def test_a_note_for_the_model_is_an_instruction_and_interrupts_nothing() -> None:
    simulator = GeminiSimulator(playing(Turn(says=STORY)))
    async with speaking_to(simulator, agent={"instructions": "Be kind."}) as talking:
        await tells_story(talking)
        talking.connection.send(TextInput(role="system", text="The caller is a member."))
        update = msgspec.json.decode(await talking.sent("contextUpdate"))
    [part] = update["contextUpdate"]["systemInstruction"]["parts"]
    assert part["text"] == "Be kind.\n\nAdded during the call: The caller is a member."
    assert not talking.listener.of(Interrupted)
    assert simulator.journal.problems == []


async def test_a_note_for_an_older_model_waits_until_it_has_finished() -> None:
    simulator = GeminiSimulator(playing(Turn(says="Listen to this.")))
    async with speaking_to(simulator, options={"model": "gemini-3.1-flash-live-preview"}) as talking:
        talking.say_something()
        await talking.listener.until(lambda: bool(talking.listener.of(ResponseStarted)))
        talking.connection.send(TextInput(role="system", text="The caller is a member."))
        await talking.hears("Listen to this.")
        note = msgspec.json.decode(await talking.sent("[system: The caller is a member.]"))
    assert note["clientContent"]["turnComplete"] is False
    assert simulator.journal.problems == []


async def test_an_order_of_the_system_is_answered() -> None:
    simulator = GeminiSimulator(playing(Turn(hears="go on", says="I go on.")))
    async with speaking_to(simulator, greets=False) as talking:
        talking.connection.send(Begin())
        talking.connection.send(TextInput(role="system", text="You go on for a colleague.", respond=True))
        await talking.hears("I go on.")


async def test_text_of_the_user_is_answered_where_it_is_to_be() -> None:
    simulator = GeminiSimulator(playing(Turn(hears="parrot", says="Polly is here.")))
    async with speaking_to(simulator) as talking:
        talking.connection.send(TextInput(role="user", text="My name is Ann."))
        talking.connection.send(TextInput(role="user", text="Ask for the parrot.", respond=True))
        await talking.hears("Polly is here.")
    assert simulator.conversations[0].told == ["My name is Ann.", "Ask for the parrot."]


async def test_keys_are_told_and_not_answered() -> None:
    simulator = GeminiSimulator(playing(Turn(hears="hello", says="Yes.")))
    async with speaking_to(simulator) as talking:
        talking.connection.send(Digits(digits="5"))
        message = msgspec.json.decode(await talking.sent("[The caller pressed 5]"))
        talking.say_something()
        await talking.hears("Yes.")
    assert message["clientContent"]["turnComplete"] is False
    assert talking.listener.said() == ["Yes."]


async def test_says_what_it_is_told_to() -> None:
    simulator = GeminiSimulator(Script())
    async with speaking_to(simulator) as talking:
        talking.connection.send(Say(text="The code is four two."))
        await talking.hears("The code is four two.")


async def test_another_agent_takes_over() -> None:
    simulator = GeminiSimulator(Script())
    async with speaking_to(simulator) as talking:
        talking.connection.send(UpdateAgent(agent=Agent(agent_id="b", provider="gemini", instructions="Be stern.")))
        await talking.sent("Be stern.")


# ── from one connection to the next ──────────────────────────────────────────────────────────────────────

SAID = (Utterance(speaker="caller", text="I am Ann."), Utterance(speaker="agent", text="Hello Ann."))


async def test_a_broken_connection_is_resumed() -> None:
    turns = (Turn(says="First."), Turn(says="Lost."), Turn(says="Third."))
    simulator = GeminiSimulator(playing(*turns, faults=(Fault(on="turn", turn=2, do="drop"),)))
    async with speaking_to(simulator, history=SAID) as talking:
        talking.say_something()
        await talking.hears("First.")
        talking.be_silent(1000)
        talking.say_something()
        await talking.listener.until(lambda: len(talking.listener.of(Ready)) == 2)
        talking.say_something()
        await talking.hears("Third.")
    assert [fault.verdict for fault in talking.listener.of(BridgeFault)] == ["retry"]
    first, second = setups_of(simulator)
    assert first["sessionResumption"] == {}
    assert first["historyConfig"] == {"initialHistoryInClientContent": True}
    assert second["sessionResumption"]["handle"].startswith("handle-1-")
    assert "historyConfig" not in second
    assert simulator.journal.problems == []
    assert len(set(talking.listener.audio)) == 2


async def test_a_session_that_is_forgotten_is_begun_anew_with_what_was_said() -> None:
    simulator = GeminiSimulator(playing(Turn(says="First."), faults=(Fault(on="turn", turn=2, do="drop"),)))
    async with speaking_to(simulator, history=SAID) as talking:
        talking.say_something()
        await talking.hears("First.")
        talking.be_silent(1000)
        simulator.forgets = True
        talking.say_something()
        await talking.listener.until(lambda: len(talking.listener.of(Ready)) == 2)
        talking.say_something()
        await talking.listener.until(lambda: talking.listener.said() == ["First.", "First."])
    assert simulator.journal.connections == 3
    assert simulator.conversations[1].told == ["I am Ann.", "Hello Ann."]
    assert len(talking.listener.audio) == 2


async def test_a_connection_that_will_be_closed_is_replaced_in_time() -> None:
    faults = (Fault(on="after", ms=30_000, do="error", text="goAway"),)
    simulator = GeminiSimulator(playing(Turn(says="First."), Turn(says="Second.")))
    async with speaking_to(simulator) as talking:
        talking.say_something()
        await talking.hears("First.")
        talking.be_silent(1000)
        session = simulator.conversations[0].session
        assert session is not None
        await session.carry_out(faults[0])
        await talking.listener.until(lambda: bool(talking.listener.of(Expiring)))
        await talking.listener.until(lambda: len(talking.listener.of(Ready)) == 2)
        talking.say_something()
        await talking.hears("Second.")
    assert talking.listener.of(Expiring) == [Expiring(seconds=30)]
    assert not talking.listener.of(BridgeFault)
    assert simulator.journal.problems == []


async def test_a_greeting_that_broke_off_is_gone_on_with() -> None:
    simulator = GeminiSimulator(Script(faults=(Fault(on="greeting", do="close", code=1011),)))
    async with speaking_to(simulator, agent={"greeting": STORY}) as talking:
        talking.connection.send(Begin())
        await talking.listener.until(lambda: len(talking.listener.of(Ready)) == 2)
        await talking.sent("The line broke off")
        await talking.listener.until(lambda: len(talking.listener.audio) == 2)
        assert len(talking.listener.of(AudioDone)) >= 1


async def test_a_greeting_that_never_began_is_asked_for_again() -> None:
    simulator = GeminiSimulator(Script(), needs_input=True)
    async with speaking_to(simulator, agent={"greeting": "Welcome."}) as talking:
        talking.connection.send(Begin())
        await talking.sent("Welcome.")
        session = simulator.conversations[0].session
        assert session is not None
        await session.carry_out(Fault(do="drop"))
        await talking.listener.until(lambda: len(talking.listener.of(Ready)) == 2)
        talking.be_silent(20)
        await talking.hears("Welcome.")


async def test_a_result_for_a_call_of_a_forgotten_session_is_told_in_words() -> None:
    turn = Turn(tools=(ScriptedTool(name="weather"),), says="{weather}!")
    simulator = GeminiSimulator(playing(turn, faults=(Fault(on="tool", do="drop"),)), forgets=True)
    async with speaking_to(simulator, tools=(WEATHER,)) as talking:
        talking.say_something()
        await talking.listener.until(lambda: len(talking.listener.of(Ready)) == 2)
        [call] = talking.listener.of(ToolCall)
        talking.connection.send(ToolResult(tool_call_id=call.tool_call_id, output="sunny"))
        await talking.sent("[weather returned: sunny]")
        await talking.listener.until(lambda: bool(talking.listener.audio))


async def test_a_call_of_a_resumed_session_is_answered() -> None:
    turn = Turn(tools=(ScriptedTool(name="weather"),), says="{weather}!")
    simulator = GeminiSimulator(playing(turn, faults=(Fault(on="tool", do="drop"),)))
    async with speaking_to(simulator, tools=(WEATHER,)) as talking:
        talking.say_something()
        await talking.listener.until(lambda: len(talking.listener.of(Ready)) == 2)
        [call] = talking.listener.of(ToolCall)
        talking.connection.send(ToolResult(tool_call_id=call.tool_call_id, output="sunny"))
        await talking.hears("sunny!")
    assert simulator.journal.problems == []


# ── faults ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("status", "verdict"), [(400, "fatal"), (403, "fatal"), (404, "fatal"), (429, "fall_over"), (503, "fall_over")]
)
async def test_a_refused_handshake_has_its_verdict(status: int, verdict: str) -> None:
    simulator = GeminiSimulator(Script(faults=(Fault(on="connect", do="refuse", code=status, times=9),)))
    with pytest.raises(BridgeError) as caught:
        async with speaking_to(simulator):
            pass
    assert caught.value.verdict == verdict


async def test_a_model_nobody_knows_is_fatal() -> None:
    simulator = GeminiSimulator(Script())
    with pytest.raises(BridgeError, match="gemini-9 is not found") as caught:
        async with speaking_to(simulator, options={"model": "gemini-9"}):
            pass
    assert caught.value.verdict == "fatal"


MISHAPS: list[tuple[FaultMoment, FaultKind, int]] = [
    ("connect", "drop", 0),
    ("setup", "close", 1011),
    ("setup", "drop", 0),
    ("setup", "garbage", 0),
    ("turn", "close", 1011),
    ("turn", "close", 1001),
    ("turn", "drop", 0),
    ("turn", "garbage", 0),
    ("turn", "unknown", 0),
    ("turn", "duplicate", 0),
    ("audio", "close", 1011),
    ("audio", "drop", 0),
    ("audio", "garbage", 0),
    ("audio", "unknown", 0),
    ("audio", "burst", 0),
    ("audio", "trickle", 0),
    ("audio", "duplicate", 0),
    ("after", "error", 1011),
]


@pytest.mark.parametrize(("moment", "kind", "code"), MISHAPS)
async def test_the_talk_goes_on_whatever_goes_wrong(
    moment: FaultMoment, kind: FaultKind, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller's frames, which are the codec's clock, come many times faster here than the other side answers."""
    monkeypatch.setattr(codec, "ANSWER_FRAMES", 10**6)
    monkeypatch.setattr(codec, "STALL_FRAMES", 10**6)
    fault = Fault(on=moment, do=kind, code=code, text="RESOURCE_EXHAUSTED" if kind == "error" else "")
    simulator = GeminiSimulator(Script(otherwise=Turn(says="I am here."), faults=(fault,)))
    async with speaking_to(simulator) as talking:
        async with asyncio.timeout(PATIENCE_S):
            while "I am here." not in talking.listener.said():  # who gets no answer asks again
                talking.say_something()
                await asyncio.sleep(0.1)
                talking.be_silent(1500)
    assert {fault.verdict for fault in talking.listener.of(BridgeFault)} <= {"retry"}


async def test_an_answer_that_stalls_is_a_fault_in_two_seconds_of_the_caller() -> None:
    simulator = GeminiSimulator(playing(Turn(says=STORY), faults=(Fault(on="audio", do="stall"),)))
    async with speaking_to(simulator) as talking:
        talking.say_something()
        await talking.listener.until(lambda: bool(talking.listener.audio))
        talking.be_silent(9000)
        await talking.listener.until(lambda: bool(talking.listener.of(BridgeFault)))
    [fault] = talking.listener.of(BridgeFault)
    assert (fault.verdict, fault.problem) == ("retry", "fell silent in the middle of an answer")


async def test_the_key_goes_in_a_header_and_in_no_url() -> None:
    simulator = GeminiSimulator(Script())
    async with speaking_to(simulator, api_key="a-secret") as talking:
        pass
    assert "a-secret" not in simulator.journal.received[0].path
    assert simulator.journal.received[0].path.endswith("v1beta.GenerativeService.BidiGenerateContent")
    assert talking.listener.of(Ready)
