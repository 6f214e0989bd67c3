"""The codec of Deepgram's Voice Agent against its simulator, over real sockets."""

from __future__ import annotations

import json
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from tests.bridge.provider_talk import Talk, talk, until

from offhook.bridge import connection as pump
from offhook.bridge.codec import (
    AudioDone,
    BridgeFault,
    Digits,
    Interrupt,
    Interrupted,
    ResponseDone,
    ResponseStarted,
    Say,
    SpeechStarted,
    SpeechStopped,
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
from offhook.bridge.deepgram_agent import provider
from offhook.model.audio import L16_16K, PCMA_8K, PCMU_8K, AudioFormat
from offhook.model.errors import BridgeError
from offhook.model.records import Agent
from offhook.simulators.deepgram import DeepgramSimulator
from offhook.simulators.script import Fault, Script, ScriptedTool, Turn
from offhook.simulators.voice import spoken

LONG = "This is a very long story about a ship. It went to sea one day. It never came home again."

WEATHER = ToolSpec(name="weather", description="Tells the weather.", parameters='{"type": "object"}')
TRAFFIC = ToolSpec(name="traffic", description="", parameters="{}")
END_CALL = ToolSpec(name="end_call", description="Hangs up.", parameters='{"type": "object", "default": null}')


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pump, "RETRY_S", (0.01, 0.02))


def speaking_to(simulator: DeepgramSimulator, **more: Any) -> AbstractAsyncContextManager[Talk]:
    """The caller speaks first, where nothing else is said."""
    more.setdefault("agent", {"first_speaker": "caller"})
    return talk(provider, simulator, name="deepgram", **more)


def deepgram(*turns: Turn, **more: Any) -> DeepgramSimulator:
    return DeepgramSimulator(Script(turns=turns, **more))


def settings_of(talking: Talk, connection: int = 1) -> dict[str, Any]:
    texts = [one.data for one in talking.journal.received if one.connection == connection and one.data]
    first: dict[str, Any] = json.loads(texts[0])
    assert first["type"] == "Settings"
    return first


def messages(talking: Talk, kind: str) -> list[dict[str, Any]]:
    texts = [one.data for one in talking.journal.received if isinstance(one.data, str)]
    return [json.loads(text) for text in texts if f'"type":"{kind}"' in text]


# ── greeting and audio ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("audio_format", [PCMU_8K, PCMA_8K, L16_16K])
async def test_greets_with_the_configured_words_in_the_format_of_the_call(audio_format: AudioFormat) -> None:
    simulator = deepgram()
    async with speaking_to(simulator, agent={"greeting": "Welcome."}, audio_format=audio_format) as talking:
        item = await talking.hears_all("Welcome.", spoken("Welcome.", audio_format))
        await talking.listener.until(lambda: bool(talking.listener.of(ResponseDone)))
        assert talking.listener.of(AudioDone) == [AudioDone(item=item)]
        assert len(talking.listener.of(ResponseStarted)) == 1
    assert simulator.journal.problems == []


@pytest.mark.parametrize("audio_format", [PCMU_8K, PCMA_8K])
async def test_what_the_caller_says_arrives_byte_for_byte_and_is_answered(audio_format: AudioFormat) -> None:
    simulator = deepgram(Turn(hears="what time is it", says="It is noon."))
    async with speaking_to(simulator, audio_format=audio_format) as talking:
        talking.say_something()
        await talking.hears_all("It is noon.", spoken("It is noon.", audio_format))
        await until(lambda: bytes(simulator.journal.audio_of[1]) == talking.spoken)
        assert talking.listener.heard() == ["what time is it"]
        assert talking.listener.names()[:4] == ["Ready", "SpeechStarted", "SpeechStopped", "TranscriptDelta"]
    assert simulator.journal.problems == []


async def test_an_agent_without_a_greeting_is_asked_for_one() -> None:
    simulator = deepgram(Turn(hears="come on the line", says="Good day."))
    async with speaking_to(simulator, agent={"instructions": "Be kind."}) as talking:
        await talking.hears("Good day.")
        assert "greeting" not in settings_of(talking)["agent"]
        assert talking.listener.heard() == [], "what we wrote is not what the caller said"


async def test_an_agent_that_waits_to_be_spoken_to_says_nothing() -> None:
    simulator = deepgram(Turn(says="Yes?"))
    async with speaking_to(simulator, agent={"greeting": "Hello.", "first_speaker": "caller"}) as talking:
        talking.say_something()
        await talking.hears("Yes?")
        assert talking.listener.said() == ["Yes?"]


async def test_each_sentence_is_told_as_its_sound_begins() -> None:
    async with speaking_to(deepgram(Turn(says=LONG))) as talking:
        talking.say_something()
        await talking.hears(LONG)
        pieces = [d.text for d in talking.listener.of(TranscriptDelta) if d.speaker == "agent" and not d.final]
    assert pieces == [
        "This is a very long story about a ship.",
        " It went to sea one day.",
        " It never came home again.",
    ]


async def test_time_is_reported_as_it_is_paid() -> None:
    async with speaking_to(deepgram(Turn(says="Yes."))) as talking:
        talking.say_something()
        await talking.listener.until(lambda: bool(talking.listener.of(UsageReported)))
        [used] = talking.listener.of(UsageReported)
    assert used == UsageReported(units="seconds", amount=used.amount)
    assert 1.0 <= used.amount <= 1.5


# ── interruption ─────────────────────────────────────────────────────────────────────────────────────────


async def test_the_caller_interrupts_what_is_being_said() -> None:
    simulator = deepgram(Turn(says=LONG), Turn(hears="wait", says="I stopped."), pace=3)
    async with speaking_to(simulator) as talking:
        talking.say_something()
        await talking.listener.until(lambda: bool(talking.listener.audio))
        item = next(iter(talking.listener.audio))
        talking.speak()
        await talking.listener.until(lambda: bool(talking.listener.of(Interrupted)))
        assert talking.listener.of(Interrupted) == [Interrupted(item=item)]
        assert talking.listener.names().index("Interrupted") > talking.listener.names().index("SpeechStarted")
        assert AudioDone(item=item) not in talking.listener.events, "what still comes belongs to it"
        talking.be_silent()
        other = await talking.hears("I stopped.")
        assert other != item
        assert AudioDone(item=item) in talking.listener.events
        assert len(talking.listener.of(SpeechStopped)) == 2
    assert simulator.journal.problems == []


async def test_late_sound_of_what_was_interrupted_is_not_a_new_utterance() -> None:
    simulator = deepgram(
        Turn(says=LONG), Turn(hears="wait", says="I stopped."), faults=(Fault(on="interrupted", do="late_audio"),)
    )
    async with speaking_to(simulator) as talking:
        talking.say_something()
        await talking.hears_all(LONG, spoken(LONG, PCMU_8K))
        await talking.listener.until(lambda: bool(talking.listener.of(ResponseDone)))
        talking.say_something()
        await talking.hears_all("I stopped.", spoken("I stopped.", PCMU_8K))
        assert len(talking.listener.audio) == 2


async def test_what_the_call_has_cut_is_not_passed_on() -> None:
    simulator = deepgram(Turn(says=LONG), pace=5)
    async with speaking_to(simulator) as talking:
        talking.say_something()
        await talking.listener.until(lambda: bool(talking.listener.audio))
        [item] = talking.listener.audio
        talking.connection.send(Interrupt(item=item, played_ms=100))
        heard = len(talking.listener.audio[item])
        await talking.listener.until(lambda: bool(talking.listener.of(AudioDone)))
        assert len(talking.listener.audio[item]) == heard


# ── functions ────────────────────────────────────────────────────────────────────────────────────────────


async def test_functions_are_called_together_and_each_is_answered() -> None:
    tools = (ScriptedTool(name="weather", arguments={"city": "Ulm"}), ScriptedTool(name="traffic"))
    simulator = deepgram(Turn(tools=tools, says="{weather}, {traffic}"))
    async with speaking_to(simulator, tools=(WEATHER, TRAFFIC)) as talking:
        talking.say_something()
        await talking.listener.until(lambda: len(talking.listener.of(ToolCall)) == 2)
        first, second = talking.listener.of(ToolCall)
        assert (first.name, json.loads(first.arguments), second.name) == ("weather", {"city": "Ulm"}, "traffic")
        talking.connection.send(ToolResult(tool_call_id=second.tool_call_id, output="free"))
        talking.connection.send(ToolResult(tool_call_id=first.tool_call_id, output="sunny"))
        await talking.hears("sunny, free")
    assert simulator.journal.problems == []
    functions = settings_of(talking)["agent"]["think"]["functions"]
    assert [function["name"] for function in functions] == ["weather", "traffic"]
    assert functions[1]["parameters"] == {"type": "object", "properties": {}}


async def test_a_function_that_was_taken_back_is_not_answered() -> None:
    turns = Turn(tools=(ScriptedTool(name="weather", cancel=True),), says="{weather}"), Turn(says="Never mind.")
    simulator = deepgram(*turns)
    async with speaking_to(simulator, tools=(WEATHER,)) as talking:
        talking.say_something()
        await talking.listener.until(lambda: bool(talking.listener.of(ToolCall)))
        [call] = talking.listener.of(ToolCall)
        talking.say_something()
        await talking.hears("Never mind.")
        assert talking.listener.of(ToolCallCancelled) == [ToolCallCancelled(tool_call_id=call.tool_call_id)]
        talking.connection.send(ToolResult(tool_call_id=call.tool_call_id, output="too late"))
        talking.connection.send(ToolResult(tool_call_id="nobody's", output="too late"))
        talking.connection.send(Say(text="Done."))
        await talking.hears("Done.")
    assert messages(talking, "FunctionCallResponse") == []
    assert simulator.journal.problems == []


async def test_the_agent_ends_the_call_by_its_function() -> None:
    simulator = deepgram(Turn(says="Goodbye.", ends_call=True))
    async with speaking_to(simulator, tools=(END_CALL,)) as talking:
        talking.say_something()
        await talking.listener.until(lambda: bool(talking.listener.of(ToolCall)))
        assert talking.listener.said() == ["Goodbye."]
        assert talking.listener.of(ToolCall)[0].name == "end_call"
    assert simulator.journal.problems == []


# ── what the agent is told ───────────────────────────────────────────────────────────────────────────────


async def test_what_it_is_told_is_added_to_the_prompt_which_is_sent_whole() -> None:
    simulator = deepgram()
    async with speaking_to(simulator, agent={"instructions": "Be kind.", "first_speaker": "caller"}) as talking:
        talking.connection.send(TextInput(role="system", text="The caller is a premium member."))
        talking.connection.send(Digits(digits="5"))
        talking.connection.send(TextInput(role="user", text="Order 17."))
        await talking.sent("Order 17.")
    prompts = [message["prompt"] for message in messages(talking, "UpdatePrompt")]
    assert len(prompts) == 3
    assert prompts[-1] == (
        "Be kind.\n\nSince the call began:\n- The caller is a premium member.\n"
        "- The caller pressed 5 on the keypad.\n- The caller wrote: Order 17."
    )
    assert simulator.journal.problems == []


async def test_what_is_written_with_a_turn_is_answered_and_is_not_the_callers_speech() -> None:
    simulator = deepgram(Turn(hears="parrot", says="Polly is here."), Turn(hears="take over", says="I go on."))
    async with speaking_to(simulator) as talking:
        talking.connection.send(TextInput(role="user", text="Ask for the parrot.", respond=True))
        await talking.hears("Polly is here.")
        talking.connection.send(TextInput(role="system", text="You take over.", respond=True))
        await talking.hears("I go on.")
        assert talking.listener.heard() == []
    assert "You take over." in messages(talking, "UpdatePrompt")[0]["prompt"]


async def test_what_is_written_while_somebody_speaks_waits_for_the_end() -> None:
    simulator = deepgram(Turn(says=LONG), Turn(hears="parrot", says="Polly."), pace=20)
    async with speaking_to(simulator) as talking:
        talking.say_something()
        await talking.listener.until(lambda: bool(talking.listener.audio))
        talking.connection.send(TextInput(role="user", text="Ask for the parrot.", respond=True))
        await talking.hears("Polly.")
        assert len(messages(talking, "InjectUserMessage")) == 2, "it was refused once"


async def test_says_what_it_is_told_word_for_word() -> None:
    simulator = deepgram(Turn(says=LONG), pace=20)
    async with speaking_to(simulator) as talking:
        talking.connection.send(Say(text="The code is 42."))
        await talking.hears_all("The code is 42.", spoken("The code is 42.", PCMU_8K))
        talking.say_something()
        await talking.listener.until(lambda: len(talking.listener.audio) == 2)
        talking.connection.send(Say(text="And goodbye."))
        await talking.hears_all("And goodbye.", spoken("And goodbye.", PCMU_8K))
        assert LONG in talking.listener.said(), "it is not broken off"
    assert [message["behavior"] for message in messages(talking, "InjectAgentMessage")] == ["interrupt", "queue"]


async def test_another_agent_has_another_voice_and_prompt() -> None:
    simulator = deepgram()
    async with speaking_to(simulator) as talking:
        talking.connection.send(UpdateAgent(agent=Agent(agent_id="b", provider="deepgram", instructions="Be brief.")))
        changed = Agent(agent_id="b", provider="deepgram", instructions="Be brief.", voice="aura-2-apollo-en")
        talking.connection.send(UpdateAgent(agent=changed))
        await talking.sent("aura-2-apollo-en")
    assert len(messages(talking, "UpdateSpeak")) == 1
    assert {message["prompt"] for message in messages(talking, "UpdatePrompt")} == {"Be brief."}
    assert simulator.journal.problems == []


# ── what goes wrong ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("fault", "verdict"),
    [
        (Fault(on="connect", do="refuse", code=401, times=9), "fatal"),
        (Fault(on="connect", do="refuse", code=429, times=9), "fall_over"),
        (Fault(on="connect", do="refuse", code=503, times=9), "fall_over"),
        (Fault(on="setup", do="error", text="INVALID_SETTINGS"), "fatal"),
        (Fault(on="setup", do="drop", times=9), "fall_over"),
        (Fault(on="setup", do="close", code=1008), "fall_over"),
    ],
)
async def test_what_cannot_be_opened_says_what_to_do(fault: Fault, verdict: str) -> None:
    with pytest.raises(BridgeError) as caught:
        async with speaking_to(deepgram(faults=(fault,))):
            pass
    assert caught.value.verdict == verdict


@pytest.mark.parametrize(
    "fault",
    [
        Fault(on="turn", turn=1, do="drop"),
        Fault(on="turn", turn=1, do="close", code=1011),
        Fault(on="turn", turn=1, do="error", text="SERVER_GOING_AWAY"),
        Fault(on="turn", turn=1, do="garbage"),
    ],
)
async def test_another_session_answers_what_the_first_one_left_unanswered(fault: Fault) -> None:
    simulator = deepgram(Turn(hears="one", says="First."), faults=(fault,))
    history: list[Utterance] = []
    async with speaking_to(simulator, history=history) as talking:
        talking.connection.send(TextInput(role="system", text="It is Monday."))
        history += [Utterance(speaker="agent", text="Hello."), Utterance(speaker="caller", text="one")]
        talking.say_something()
        await talking.hears("First.")
        assert [each.verdict for each in talking.listener.of(BridgeFault)] == ["retry"]
    renewed = settings_of(talking, 2)["agent"]
    assert renewed["context"]["messages"] == [{"type": "History", "role": "assistant", "content": "Hello."}]
    assert "It is Monday." in renewed["think"]["prompt"]
    assert "greeting" not in renewed
    assert simulator.journal.problems == []


async def test_who_thinks_for_deepgram_has_failed() -> None:
    simulator = deepgram(faults=(Fault(on="turn", do="error", text="FAILED_TO_THINK"),))
    async with speaking_to(simulator) as talking:
        talking.say_something()
        await talking.listener.until(lambda: bool(talking.listener.of(BridgeFault)))
        [fault] = talking.listener.of(BridgeFault)
    assert fault == BridgeFault(problem="FAILED_TO_THINK: It was scripted.", verdict="fall_over")


async def test_an_answer_that_never_comes_is_a_fault() -> None:
    simulator = deepgram(faults=(Fault(on="turn", turn=1, do="stall"),))
    async with speaking_to(simulator) as talking:
        talking.say_something()
        await talking.listener.until(lambda: bool(talking.listener.heard()))
        talking.be_silent(20_000)
        await talking.listener.until(lambda: bool(talking.listener.of(BridgeFault)))
        [fault] = talking.listener.of(BridgeFault)
    assert (fault.verdict, "no answer" in fault.problem) == ("retry", True)


@pytest.mark.parametrize("do", ["unknown", "duplicate", "burst", "trickle"])
async def test_oddities_change_nothing(do: Any) -> None:
    simulator = deepgram(Turn(says="Yes."), faults=(Fault(on="turn", do=do), Fault(on="audio", do="unknown")))
    async with speaking_to(simulator) as talking:
        talking.say_something()
        await talking.hears("Yes.")
        await talking.listener.until(lambda: bool(talking.listener.of(ResponseDone)))
        assert b"".join(talking.listener.audio.values()) == spoken("Yes.", PCMU_8K)
        assert talking.listener.of(BridgeFault) == []
        assert len(talking.listener.of(SpeechStarted)) == 1
