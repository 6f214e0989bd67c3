"""A conversation through a cascade of HTTP servers, over real sockets, as the call layer would hold it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from tests.bridge.provider_talk import Talk, talk, until

from offhook.audio.convert import converter
from offhook.bridge.cascade.provider import pipeline
from offhook.bridge.codec import (
    AudioDone,
    Begin,
    BridgeFault,
    Digits,
    Interrupt,
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
    UsageReported,
    Utterance,
)
from offhook.model.audio import L16_16K, PCMA_8K, PCMU_8K, AudioFormat, Encoding
from offhook.simulators.script import Fault, Script, ScriptedTool, Turn
from offhook.simulators.self_hosted import SelfHostedSimulator
from offhook.simulators.voice import spoken

L16_24K = AudioFormat(encoding=Encoding.L16, sample_rate_hz=24000)

OPTIONS: Mapping[str, Any] = {"llm_model": "sim-chat", "stt_model": "sim-whisper", "tts_voice": "x", "tts_model": "v"}

TOOLS = tuple(ToolSpec(name=name, description=name, parameters="{}") for name in ("weather", "traffic", "end_call"))

STORY = "Once there was a ship that sailed to the end of the sea. It came back with a song that nobody knew. "


@asynccontextmanager
async def cascade(
    *turns: Turn, faults: tuple[Fault, ...] = (), simulator: SelfHostedSimulator | None = None, **more: Any
) -> AsyncIterator[Talk]:
    made = simulator or SelfHostedSimulator(Script(turns=turns, faults=faults))
    options = {**OPTIONS, **more.pop("options", {})}
    async with talk(pipeline, made, name="pipeline", path="/v1", tools=TOOLS, options=options, **more) as opened:
        yield opened


def messages_of(one: Talk) -> Sequence[Mapping[str, Any]]:
    """Of the last chat completion."""
    texts = [m.data for m in one.journal.received if isinstance(m.data, str) and '"messages"' in m.data]
    asked = msgspec.json.decode(texts[-1], type=dict[str, Any])
    return list(asked["messages"])


def heard_as(text: str, audio_format: AudioFormat, source: AudioFormat = L16_24K) -> bytes:
    convert = converter(source, audio_format)
    audio = spoken(text, source)
    return convert(audio) if convert is not None else audio


@pytest.mark.parametrize("audio_format", [PCMU_8K, PCMA_8K, L16_16K])
async def test_a_turn_is_heard_understood_and_answered(audio_format: AudioFormat) -> None:
    async with cascade(Turn(hears="what time is it", says="It is noon."), audio_format=audio_format) as one:
        one.say_something()
        item = await one.hears("It is noon.")
        await one.listener.until(lambda: bool(one.listener.of(ResponseDone)))
        assert one.listener.heard() == ["what time is it"]
        assert one.listener.audio[item] == heard_as("It is noon.", audio_format)
        assert [type(e) for e in one.listener.events if not isinstance(e, TranscriptDelta | UsageReported)][1:] == [
            SpeechStarted,
            SpeechStopped,
            ResponseStarted,
            AudioDone,
            ResponseDone,
        ]
        units = {event.units for event in one.listener.of(UsageReported)}
        assert units == {"seconds", "characters", "input_tokens", "output_tokens"}
        assert one.journal.problems == []


async def test_the_greeting_is_said_as_it_is() -> None:
    async with cascade(agent={"greeting": "Welcome to **ACME** & Co."}) as one:
        one.connection.send(Begin())
        item = await one.hears("Welcome to **ACME** & Co.")
        assert one.listener.audio[item] == heard_as("Welcome to **ACME** & Co.", PCMU_8K)


async def test_without_a_greeting_the_model_finds_one() -> None:
    async with cascade() as one:
        one.connection.send(Begin())
        await one.hears("Hello.")


async def test_who_takes_over_does_not_greet_and_knows_what_was_said() -> None:
    history = [Utterance(speaker="agent", text="Welcome."), Utterance(speaker="caller", text="Hi, I am Ada.")]
    async with cascade(history=history, greets=False, agent={"greeting": "Welcome."}) as one:
        one.connection.send(Begin())
        one.connection.send(TextInput(role="system", text="Go on where the talk was.", respond=True))
        await one.hears("You wrote: Go on where the talk was.")
        assert [m["content"] for m in messages_of(one)][1:3] == ["Welcome.", "Hi, I am Ada."]


async def test_an_answer_on_trial_waits_for_the_end_of_the_turn() -> None:
    async with cascade(Turn(hears="what time is it", says="It is noon.")) as one:
        one.speak()
        one.be_silent(320)
        await one.sent('"stream":true')
        await until(lambda: any("It is noon." in str(m.data) for m in one.journal.received if "speech" in m.path))
        assert one.listener.audio == {}
        one.be_silent(400)
        await one.hears("It is noon.")
        assert len([m for m in one.journal.received if "completions" in m.path]) == 1


async def test_a_caller_who_goes_on_voids_the_trial() -> None:
    async with cascade(Turn(hears="what time is it in Ulm", says="It is noon.")) as one:
        one.speak()
        one.be_silent(320)
        await one.sent('"stream":true')
        one.say_something()
        await one.hears("It is noon.")
        assert one.listener.heard() == ["what time is it in Ulm"]
        assert len(one.listener.audio) == 1
        assert [m["role"] for m in messages_of(one)] == ["system", "user"]


async def test_an_interruption_leaves_what_was_heard() -> None:
    async with cascade(Turn(hears="a story", says=STORY), Turn(hears="stop", says="I stopped.")) as one:
        one.say_something()
        item = await one.hears(STORY.strip())
        one.speak()
        await one.listener.until(lambda: len(one.listener.of(SpeechStarted)) == 2)
        one.connection.send(Interrupt(item=item, played_ms=4500))
        one.be_silent()
        await one.hears("I stopped.")
        said = [m["content"] for m in messages_of(one) if m["role"] == "assistant"]
        assert said == ["Once there was a ship that sailed to the end of the sea. It came back with"]


async def test_nothing_is_cut_or_answered_until_the_call_says_so() -> None:
    async with cascade(Turn(hears="a story", says=STORY), Turn(hears="mm-hm", says="Never said.")) as one:
        one.say_something()
        item = await one.hears(STORY.strip())
        one.say_something()
        await one.listener.until(lambda: "mm-hm" in one.listener.heard())
        one.be_silent(4000)
        assert (
            one.listener.audio[item] == b"".join(heard_as(text.strip(), PCMU_8K) for text in STORY.split("sea. ")[0:0])
            or len(one.listener.audio) == 1
        )
        assert "Never said." not in " ".join(one.listener.said())
        assert [m["role"] for m in messages_of(one)] == ["system", "user"]


async def test_a_judgement_that_comes_after_the_words_is_answered() -> None:
    async with cascade(Turn(hears="a story", says=STORY), Turn(hears="wait, stop", says="I stopped.")) as one:
        one.say_something()
        item = await one.hears(STORY.strip())
        one.say_something()
        await one.listener.until(lambda: "wait, stop" in one.listener.heard())
        one.connection.send(Interrupt(item=item, played_ms=1000))
        await one.hears("I stopped.")


async def test_tools_are_called_side_by_side() -> None:
    tools = (ScriptedTool(name="weather", arguments={"city": "Ulm"}), ScriptedTool(name="traffic"))
    async with cascade(Turn(hears="both", tools=tools, says="{weather} and {traffic}.")) as one:
        one.say_something()
        await one.listener.until(lambda: len(one.listener.of(ToolCall)) == 2)
        first, second = one.listener.of(ToolCall)
        assert (first.name, first.arguments, second.name) == ("weather", '{"city":"Ulm"}', "traffic")
        one.connection.send(ToolResult(tool_call_id=second.tool_call_id, output="no jam"))
        one.connection.send(ToolResult(tool_call_id=first.tool_call_id, output="Sun"))
        await one.hears("Sun and no jam.")
        assert one.journal.problems == []


async def test_a_caller_who_goes_on_takes_the_call_back() -> None:
    turns = (
        Turn(hears="weather", tools=(ScriptedTool(name="weather"),), says="{weather}"),
        Turn(hears="never mind", says="Fine."),
    )
    async with cascade(*turns) as one:
        one.say_something()
        await one.listener.until(lambda: len(one.listener.of(ToolCall)) == 1)
        call = one.listener.of(ToolCall)[0]
        one.say_something()
        await one.hears("Fine.")
        assert [c.tool_call_id for c in one.listener.of(ToolCallCancelled)] == [call.tool_call_id]
        one.connection.send(ToolResult(tool_call_id=call.tool_call_id, output="Sun"))
        one.connection.send(TextInput(role="user", text="and now", respond=True))
        await one.hears("You wrote: and now")
        assert one.journal.problems == []


async def test_goodbye_is_said_before_the_call_ends() -> None:
    async with cascade(Turn(hears="bye", says="Goodbye.", ends_call=True)) as one:
        one.say_something()
        await one.listener.until(lambda: bool(one.listener.of(ToolCall)))
        names = one.listener.names()
        assert names.index("AudioDone") < names.index("ToolCall")
        assert one.listener.of(ToolCall)[0].name == "end_call"


async def test_what_is_told_and_pressed_is_known() -> None:
    async with cascade(Turn(hears="who am I", says="Ada.")) as one:
        one.connection.send(TextInput(role="system", text="The caller is Ada."))
        one.connection.send(Digits(digits="5"))
        one.say_something()
        await one.hears("Ada.")
        told = [m["content"] for m in messages_of(one)]
        assert told[1:] == ["The caller is Ada.", "[The caller pressed 5]\nwho am I"]
        one.connection.send(TextInput(role="user", text="Say your name.", respond=True))
        await one.hears("You wrote: Say your name.")


async def test_say_is_verbatim() -> None:
    async with cascade() as one:
        one.connection.send(Say(text="Are you *still* there?"))
        item = await one.hears("Are you *still* there?")
        assert one.listener.audio[item] == heard_as("Are you *still* there?", PCMU_8K)


@pytest.mark.parametrize("rate_hz", [16000, 22050, 24000])
async def test_the_rate_of_the_voice_is_found_out(rate_hz: Any) -> None:
    source = AudioFormat(encoding=Encoding.L16, sample_rate_hz=rate_hz)
    simulator = SelfHostedSimulator(Script(), rate_hz=rate_hz)
    async with cascade(simulator=simulator, options={"tts_model": f"v{rate_hz}"}) as one:
        one.connection.send(Say(text="Hello there."))
        item = await one.hears("Hello there.")
        assert one.listener.audio[item] == heard_as("Hello there.", PCMU_8K, source)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(on="turn", do="drop"),
        Fault(on="turn", do="garbage"),
        Fault(on="turn", do="error"),
        Fault(on="turn", do="refuse", code=503),
        Fault(on="turn", do="unknown"),
        Fault(on="greeting", do="drop"),
        Fault(on="greeting", do="error"),
    ],
    ids=lambda fault: f"{fault.on}-{fault.do}",
)
async def test_one_failure_of_a_part_is_not_noticed(fault: Fault) -> None:
    async with cascade(Turn(hears="what time is it", says="It is noon."), faults=(fault,)) as one:
        one.connection.send(Say(text="Hello there."))
        await one.hears("Hello there.")
        one.be_silent(2000)
        one.say_something()
        await one.hears("It is noon.")
        assert {fault.verdict for fault in one.listener.of(BridgeFault)} <= {"retry"}


@pytest.mark.parametrize(
    "fault",
    [
        Fault(on="turn", do="drop", times=9),
        Fault(on="turn", do="refuse", code=401),
        Fault(on="greeting", do="error", times=9),
        Fault(on="audio", do="drop"),
    ],
    ids=lambda fault: f"{fault.on}-{fault.do}",
)
async def test_a_part_that_keeps_failing_takes_the_agent_with_it(fault: Fault) -> None:
    async with cascade(Turn(hears="what time is it", says="It is noon."), faults=(fault,)) as one:
        if fault.on == "greeting":
            one.connection.send(Say(text="Hello there."))
        one.say_something()
        await one.listener.until(lambda: any(f.verdict == "fall_over" for f in one.listener.of(BridgeFault)))
        assert one.listener.of(BridgeFault)[-1].verdict == "fall_over"


async def test_a_voice_that_sends_no_samples_is_not_played() -> None:
    async with cascade(options={"tts_extra": {"response_format": "mp3"}}) as one:
        one.connection.send(Say(text="Hello there."))
        await one.listener.until(lambda: bool(one.listener.of(BridgeFault)))
        assert one.listener.audio == {}


async def test_a_voice_that_sends_a_wav_file_all_the_same_is() -> None:
    async with cascade(options={"tts_extra": {"response_format": "wav"}, "tts_sample_rate": 8000}) as one:
        one.connection.send(Say(text="Hello there."))
        item = await one.hears("Hello there.")
        assert one.listener.audio[item] == heard_as("Hello there.", PCMU_8K)


async def test_transcripts_may_come_word_by_word() -> None:
    async with cascade(Turn(hears="what time is it", says="It is noon."), options={"stt_stream": True}) as one:
        one.say_something()
        await one.hears("It is noon.")
        words = [d.text for d in one.listener.of(TranscriptDelta) if d.speaker == "caller" and not d.final]
        assert "".join(words).strip() == "what time is it"
        assert len(words) == 4
