"""OpenAI Realtime against its simulator, over real sockets."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest
from tests.bridge.openai_talk import WEATHER, kind_of, kinds, sent, talk, units

from offhook.bridge.codec import (
    AudioDone,
    Begin,
    Digits,
    EndOfInput,
    Interrupt,
    Interrupted,
    Ready,
    ResponseDone,
    ResponseStarted,
    Say,
    SpeechStarted,
    TextInput,
    ToolCall,
    ToolCallCancelled,
    ToolResult,
    TranscriptDelta,
    UpdateAgent,
    UsageReported,
)
from offhook.model.audio import L16_24K, PCMA_8K, PCMU_8K, AudioFormat
from offhook.model.errors import BridgeError
from offhook.model.records import Agent
from offhook.simulators.script import Fault, Script, ScriptedTool, Turn
from offhook.simulators.voice import spoken


@pytest.mark.parametrize("audio_format", [PCMU_8K, PCMA_8K, L16_24K], ids=["PCMU", "PCMA", "L16"])
async def test_greets_in_the_agreed_format_byte_for_byte(audio_format: AudioFormat) -> None:
    async with talk(audio_format=audio_format, agent={"greeting": "Hello, this is Ann."}) as t:
        t.connection.send(Begin())
        item = await t.hears_all("Hello, this is Ann.", spoken("Hello, this is Ann.", audio_format))
        await t.listener.until(lambda: "ResponseDone" in t.listener.names())
        kinds = Ready | ResponseStarted | AudioDone | ResponseDone
        assert [event for event in t.listener.events if isinstance(event, kinds)] == [
            Ready(), ResponseStarted(), AudioDone(item=item), ResponseDone(),
        ]  # fmt: skip
        assert t.journal.problems == []


async def test_hears_the_caller_byte_for_byte_and_answers() -> None:
    script = Script(turns=(Turn(hears="what time is it", says="It is noon."),))
    async with talk(script) as t:
        t.say_something()
        await t.hears_all("It is noon.", spoken("It is noon.", PCMU_8K))
        assert bytes(t.journal.audio_of[1]) == t.spoken
        assert t.listener.heard() == ["what time is it"]


# ── set-up ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_session_is_ours_before_any_audio() -> None:
    async with talk(agent={"instructions": "Be kind.", "voice": "cedar", "language": "de-DE"}, tools=(WEATHER,)) as t:
        t.be_silent(20)
        await t.sent('"input_audio_buffer.append"')
        kinds = [kind_of(message.data) for message in t.journal.received if message.data]
        assert kinds == ["session.update", "input_audio_buffer.append"]
        (update,) = sent(t, "session.update")
        assert update["session"] == {
            "type": "realtime",
            "output_modalities": ["audio"],
            "instructions": "Be kind.",
            "audio": {
                "input": {
                    "format": {"type": "audio/pcmu"},
                    "transcription": {"model": "gpt-live-transcribe", "language": "de"},
                    "turn_detection": {
                        "type": "server_vad",
                        "threshold": 0.5,
                        "prefix_padding_ms": 300,
                        "silence_duration_ms": 500,
                        "create_response": True,
                        "interrupt_response": False,
                    },
                },
                "output": {"format": {"type": "audio/pcmu"}, "voice": "cedar"},
            },
            "tools": [
                {
                    "type": "function",
                    "name": "weather",
                    "description": "What the weather is.",
                    "parameters": json.loads(WEATHER.parameters),
                }
            ],
            "tool_choice": "auto",
        }


ALL_OPTIONS: dict[str, Any] = {
    "model": "gpt-realtime-2.1-mini",
    "voice": "voice_123",
    "turn_detection": {"type": "semantic_vad", "eagerness": "high"},
    "transcription_model": "gpt-transcribe",
    "keywords": ["Acme"],
    "noise_reduction": "far_field",
    "speed": 1.1,
    "reasoning_effort": "low",
    "max_output_tokens": 4096,
    "parallel_tool_calls": True,
}


@pytest.mark.parametrize("options", [ALL_OPTIONS, {"transcription_model": "", "turn_detection": None}, {
    "turn_detection": {"type": "server_vad", "threshold": 0.7, "silence_duration_ms": 700, "idle_timeout_ms": 20000},
}])  # fmt: skip
async def test_every_option_is_taken_by_the_service(options: dict[str, Any]) -> None:
    async with talk(options=options) as t:
        assert t.journal.problems == []
        assert t.listener.names() == ["Ready"]


async def test_a_session_that_is_refused_is_fatal() -> None:
    script = Script(faults=(Fault(do="error", on="setup", text="unknown_parameter"),))
    with pytest.raises(BridgeError, match="refused the session: unknown_parameter") as caught:
        async with talk(script):
            pass
    assert caught.value.verdict == "fatal"


async def test_the_key_is_sent_as_the_service_wants_it() -> None:
    with pytest.raises(BridgeError, match="HTTP 401: invalid_api_key") as caught:
        async with talk(api_key=" "):
            pass
    assert caught.value.verdict == "fatal"


# ── the caller interrupts ────────────────────────────────────────────────────────────────────────────────

LONG = "This is a long story about a man who went to sea and was never seen again."


async def test_what_was_heard_is_all_the_model_remembers() -> None:
    async with talk(agent={"greeting": LONG}) as t:
        t.connection.send(Begin())
        item = await t.hears_all(LONG, spoken(LONG, PCMU_8K))
        await t.listener.until(lambda: "ResponseDone" in t.listener.names())
        t.connection.send(Interrupt(item=item, played_ms=480))
        t.connection.send(Interrupt(item=item, played_ms=480))
        t.connection.send(Interrupt(item="item_unknown", played_ms=480))
        await t.sent("conversation.item.truncate")
        t.connection.send(Digits(digits="1"))
        await t.sent("The caller pressed 1")
        (truncation,) = sent(t, "conversation.item.truncate")
        assert (truncation["item_id"], truncation["content_index"], truncation["audio_end_ms"]) == (item, 0, 480)
        assert sent(t, "response.cancel") == []
        assert t.journal.problems == []


async def test_of_what_nobody_heard_nothing_is_left() -> None:
    async with talk(agent={"greeting": LONG}) as t:
        t.connection.send(Begin())
        item = await t.hears(LONG)
        t.connection.send(Interrupt(item=item, played_ms=0))
        await t.sent("conversation.item.delete")
        assert sent(t, "conversation.item.truncate") == []


async def test_no_more_is_truncated_than_was_received() -> None:
    async with talk(Script(pace=1.0), agent={"greeting": LONG}) as t:
        t.connection.send(Begin())
        await t.listener.until(lambda: bool(t.listener.audio))
        (item,) = t.listener.audio
        t.connection.send(Interrupt(item=item, played_ms=60_000))
        await t.listener.until(lambda: "ResponseDone" in t.listener.names())
        (truncation,) = sent(t, "conversation.item.truncate")
        assert truncation["audio_end_ms"] == len(t.listener.audio[item]) // 8
        assert [event["response_id"] for event in sent(t, "response.cancel")] == ["resp_1_4"]
        assert t.journal.problems == []


async def test_a_caller_who_cuts_the_running_answer_is_answered() -> None:
    """The server could not begin an answer while another ran; so it is asked for one."""
    script = Script(pace=1.0, turns=(Turn(says=LONG), Turn(hears="wait, stop", says="I stop.")))
    async with talk(script) as t:
        t.say_something()
        await t.listener.until(lambda: bool(t.listener.audio))
        (item,) = t.listener.audio
        t.say_something()
        await t.listener.until(lambda: "wait, stop" in t.listener.heard())
        assert len(t.listener.of(ResponseStarted)) == 1
        t.connection.send(Interrupt(item=item, played_ms=100))
        await t.hears("I stop.")
        assert [kind for kind in kinds(t) if kind.startswith(("response", "conversation"))] == [
            "response.cancel", "conversation.item.truncate", "response.create",
        ]  # fmt: skip


async def test_a_caller_who_is_cut_for_early_is_answered_by_the_server() -> None:
    script = Script(pace=1.0, turns=(Turn(says=LONG), Turn(hears="wait, stop", says="I stop.")))
    async with talk(script) as t:
        t.say_something()
        await t.listener.until(lambda: bool(t.listener.audio))
        (item,) = t.listener.audio
        t.speak()
        await t.listener.until(lambda: len(t.listener.of(SpeechStarted)) == 2)
        t.connection.send(Interrupt(item=item, played_ms=100))
        await t.listener.until(lambda: "ResponseDone" in t.listener.names())
        t.be_silent()
        await t.hears("I stop.")
        assert sent(t, "response.create") == []
        assert t.journal.problems == []


async def test_what_does_not_cut_the_agent_is_not_answered() -> None:
    """The answer to a "mm-hm" is begun by the server, kept back, and forgotten."""
    script = Script(turns=(Turn(says=LONG), Turn(hears="mm-hm", says="Great."), Turn(says="Yes?")))
    async with talk(script) as t:
        t.say_something()
        item = await t.hears(LONG)
        t.speak(300)
        t.be_silent(700)
        await t.listener.until(lambda: "mm-hm" in t.listener.heard())
        t.be_silent(3100)
        deletion = json.loads(await t.sent("conversation.item.delete"))
        assert list(t.listener.audio) == [item]
        assert t.listener.said() == [LONG]
        assert deletion["item_id"] != item
        assert len(t.listener.of(ResponseStarted)) == len(t.listener.of(ResponseDone)) == 1
        t.be_silent(5000)
        t.say_something()
        await t.hears("Yes?")
        assert t.journal.problems == []


async def test_what_proves_to_be_a_turn_late_is_answered_with_what_was_kept_back() -> None:
    script = Script(turns=(Turn(says=LONG), Turn(hears="no", says="As you like.")))
    async with talk(script) as t:
        t.say_something()
        item = await t.hears(LONG)
        t.speak(300)
        t.be_silent(700)
        await t.listener.until(lambda: "no" in t.listener.heard())
        assert t.listener.said() == [LONG]
        t.connection.send(Interrupt(item=item, played_ms=1500))
        t.be_silent(20)
        await t.hears_all("As you like.", spoken("As you like.", PCMU_8K))
        assert len(t.listener.of(ResponseStarted)) == len(t.listener.of(ResponseDone)) == 2
        assert sent(t, "response.create") == []


async def test_what_proves_to_be_a_turn_very_late_is_answered_anew() -> None:
    script = Script(turns=(Turn(says=LONG * 2), Turn(hears="no", says="As you like.")), otherwise=Turn(says="Well."))
    async with talk(script) as t:
        t.say_something()
        item = await t.hears(LONG * 2)
        t.speak(300)
        t.be_silent(700)
        await t.listener.until(lambda: "no" in t.listener.heard())
        t.be_silent(3100)
        await t.sent("conversation.item.delete")
        t.connection.send(Interrupt(item=item, played_ms=1500))
        await t.hears("Well.")
        assert len(sent(t, "response.create")) == 1


async def test_an_agent_who_is_not_to_be_interrupted_answers_afterwards() -> None:
    script = Script(turns=(Turn(says=LONG), Turn(hears="hello", says="I am done.")))
    async with talk(script, agent={"interruptible": False}) as t:
        t.say_something()
        await t.hears(LONG)
        t.say_something()
        await t.hears("I am done.")


async def test_who_goes_on_before_anything_was_heard_is_answered_once() -> None:
    script = Script(turns=(Turn(hears="I would like", says="What?", pause_ms=2000), Turn(hears="a pizza", says="Yes.")))
    async with talk(script) as t:
        t.say_something()
        await t.listener.until(lambda: "ResponseStarted" in t.listener.names())
        t.speak()
        await t.sent("response.cancel")
        await t.listener.until(lambda: "ResponseDone" in t.listener.names())
        t.be_silent()
        await t.hears("Yes.")
        assert t.listener.said() == ["Yes."]


async def test_where_the_options_let_the_server_interrupt_it_does() -> None:
    script = Script(pace=1.0, turns=(Turn(says=LONG), Turn(hears="stop", says="I stop.")))
    detection = {"turn_detection": {"type": "server_vad", "interrupt_response": True}}
    async with talk(script, options=detection) as t:
        t.say_something()
        await t.listener.until(lambda: bool(t.listener.audio))
        (item,) = t.listener.audio
        t.speak()
        await t.listener.until(lambda: t.listener.of(Interrupted) == [Interrupted(item=item)])
        t.be_silent()
        await t.hears("I stop.")


async def test_late_sound_of_what_was_cut_is_dropped() -> None:
    script = Script(faults=(Fault(do="late_audio", on="interrupted"),))
    async with talk(script, agent={"greeting": LONG}) as t:
        t.connection.send(Begin())
        item = await t.hears_all(LONG, spoken(LONG, PCMU_8K))
        t.connection.send(Interrupt(item=item, played_ms=100))
        t.connection.send(Say(text="Next."))
        await t.hears("Next.")
        assert t.listener.audio[item] == spoken(LONG, PCMU_8K)


async def test_turns_may_be_ours_to_detect() -> None:
    script = Script(turns=(Turn(hears="hello there", says="Hello to you."),))
    async with talk(script, options={"turn_detection": None}) as t:
        t.be_silent(1000)
        t.say_something()
        await t.hears("Hello to you.")
        assert t.listener.heard() == ["hello there"]
        assert t.listener.names()[:3] == ["Ready", "SpeechStarted", "SpeechStopped"]
        heard = bytes(t.journal.audio_of[1])
        assert len(heard) < len(t.spoken) - 8 * 600
        assert heard in t.spoken
        assert t.journal.problems == []


SERVER_INTERRUPTS = {"turn_detection": {"interrupt_response": True}}


# ── tools ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_tool_is_called_and_its_result_spoken() -> None:
    tool = ScriptedTool(name="weather", arguments={"city": "Ulm"})
    async with talk(Script(turns=(Turn(tools=(tool,), says="It is {weather}."),)), tools=(WEATHER,)) as t:
        t.say_something()
        await t.listener.until(lambda: "ToolCall" in t.listener.names())
        (call,) = t.listener.of(ToolCall)
        assert (call.name, json.loads(call.arguments)) == ("weather", {"city": "Ulm"})
        t.connection.send(ToolResult(tool_call_id=call.tool_call_id, output="sunny"))
        await t.hears("It is sunny.")
        assert t.journal.problems == []


async def test_results_of_parallel_tools_are_answered_once() -> None:
    tools = tuple(ScriptedTool(name=name) for name in ("weather", "news", "traffic"))
    script = Script(turns=(Turn(tools=tools, says="{weather} {news} {traffic}."),))
    async with talk(script, tools=(WEATHER,)) as t:
        t.say_something()
        await t.listener.until(lambda: len(t.listener.of(ToolCall)) == 3)
        for call in reversed(t.listener.of(ToolCall)):
            t.connection.send(ToolResult(tool_call_id=call.tool_call_id, output=call.name.upper()))
        await t.hears("WEATHER NEWS TRAFFIC.")
        assert len(sent(t, "response.create")) == 1
        assert t.journal.problems == []


async def test_a_result_waits_for_the_end_of_the_response_that_asked() -> None:
    tool = ScriptedTool(name="weather", cancel=True)  # its response stays open until the result comes
    script = Script(turns=(Turn(tools=(tool,), says="{weather}."),))
    async with talk(script, tools=(WEATHER,), options=SERVER_INTERRUPTS) as t:
        t.say_something()
        await t.listener.until(lambda: "ToolCall" in t.listener.names())
        assert "ResponseDone" not in t.listener.names()
        t.connection.send(ToolResult(tool_call_id=t.listener.of(ToolCall)[0].tool_call_id, output="sunny"))
        await t.hears("sunny.")
        assert t.journal.problems == []


async def test_a_call_that_was_taken_back_is_not_answered() -> None:
    tool = ScriptedTool(name="weather", cancel=True)
    script = Script(turns=(Turn(tools=(tool,), says="{weather}."), Turn(hears="never mind", says="All right.")))
    async with talk(script, tools=(WEATHER,), options=SERVER_INTERRUPTS) as t:
        t.say_something()
        await t.listener.until(lambda: "ToolCall" in t.listener.names())
        (call,) = t.listener.of(ToolCall)
        t.speak()
        await t.listener.until(lambda: "ToolCallCancelled" in t.listener.names())
        assert t.listener.of(ToolCallCancelled) == [ToolCallCancelled(tool_call_id=call.tool_call_id)]
        t.connection.send(ToolResult(tool_call_id=call.tool_call_id, output="sunny"))
        t.connection.send(ToolResult(tool_call_id="unknown", output="sunny"))
        t.be_silent()
        await t.hears("All right.")
        assert "function_call_output" not in str([message.data for message in t.journal.received])


async def test_a_tool_runs_on_while_the_caller_speaks() -> None:
    tool = ScriptedTool(name="weather")
    script = Script(turns=(Turn(tools=(tool,), says="{weather}."), Turn(hears="quick", says="I am at it.")))
    async with talk(script, tools=(WEATHER,)) as t:
        t.say_something()
        await t.listener.until(lambda: "ToolCall" in t.listener.names())
        t.say_something()
        await t.hears("I am at it.")
        t.connection.send(ToolResult(tool_call_id=t.listener.of(ToolCall)[0].tool_call_id, output="sunny"))
        await t.hears("sunny.")
        assert "ToolCallCancelled" not in t.listener.names()


async def test_the_agent_ends_the_call_by_a_tool() -> None:
    async with talk(Script(turns=(Turn(says="Goodbye.", ends_call=True),))) as t:
        t.say_something()
        await t.hears("Goodbye.")
        await t.listener.until(lambda: "ResponseDone" in t.listener.names())
        assert [call.name for call in t.listener.of(ToolCall)] == ["end_call"]


# ── what is told in mid-call ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("role", ["system", "user"])
async def test_text_is_told_and_answered_where_asked(role: Literal["system", "user"]) -> None:
    async with talk(agent={"greeting": "Hello."}) as t:
        t.connection.send(Begin())
        await t.hears("Hello.")
        t.connection.send(TextInput(role=role, text="The line is bad."))
        t.connection.send(TextInput(role=role, text="Tell the caller.", respond=True))
        await t.hears("You wrote: The line is bad. Tell the caller.")
        items = [event["item"] for event in sent(t, "conversation.item.create")]
        assert items[0] == {
            "type": "message", "role": role, "content": [{"type": "input_text", "text": "The line is bad."}],
        }  # fmt: skip
        assert t.journal.problems == []


async def test_digits_are_told_and_not_answered() -> None:
    async with talk() as t:
        t.connection.send(Digits(digits="42#"))
        event = json.loads(await t.sent("pressed"))
        assert event["item"]["role"] == "user"
        assert event["item"]["content"][0]["text"] == "[The caller pressed 42#]"
        assert sent(t, "response.create") == []


async def test_what_is_to_be_said_waits_for_what_is_being_said() -> None:
    async with talk(Script(pace=8.0), agent={"greeting": "Hello, I am Ann.", "instructions": "Be kind."}) as t:
        t.connection.send(Begin())
        await t.listener.until(lambda: bool(t.listener.audio))
        t.connection.send(Say(text="Goodbye."))
        t.connection.send(Say(text="Really."))
        await t.hears("Really.")
        assert t.listener.said() == ["Hello, I am Ann.", "Goodbye.", "Really."]
        assert t.journal.problems == []
        instructions = [event["response"]["instructions"] for event in sent(t, "response.create")]
        assert instructions[1] == 'Be kind.\n\nSay exactly: "Goodbye."'


async def test_an_agent_that_waits_for_the_caller_does_not_greet() -> None:
    async with talk(agent={"first_speaker": "caller", "greeting": "Hello."}) as t:
        t.connection.send(Begin())
        t.say_something()
        await t.hears("I see.")
        assert t.listener.said() == ["I see."]


async def test_the_agent_may_be_told_to_be_another() -> None:
    async with talk() as t:
        t.connection.send(UpdateAgent(agent=Agent(agent_id="b", provider="openai", instructions="Be short.")))
        await t.sent("Be short.")
        t.connection.send(EndOfInput())
        t.connection.send(Say(text="Now."))
        await t.hears("Now.")
        assert t.journal.problems == []
        assert sent(t, "response.create")[0]["response"]["instructions"].startswith("Be short.")


async def test_usage_is_reported() -> None:
    async with talk(Script(turns=(Turn(says="Hello to you."),))) as t:
        t.say_something()
        await t.listener.until(lambda: "transcription_seconds" in units(t) and "output_tokens" in units(t))
        used = {event.units: event.amount for event in t.listener.of(UsageReported)}
        assert used["audio_input_tokens"] == used["input_tokens"] >= 10
        assert used["audio_output_tokens"] == len(spoken("Hello to you.", PCMU_8K)) // 8 // 50
        assert used["output_tokens"] == used["audio_output_tokens"] + 3
        assert used["transcription_seconds"] == pytest.approx(1.3, abs=0.3)


async def test_words_come_in_pieces_and_whole() -> None:
    async with talk(Script(turns=(Turn(hears="how are you", says="I am fine."),))) as t:
        t.say_something()
        await t.hears("I am fine.")
        await t.listener.until(lambda: bool(t.listener.heard()))
        for speaker, text in (("caller", "how are you"), ("agent", "I am fine.")):
            deltas = [d for d in t.listener.of(TranscriptDelta) if d.speaker == speaker]
            assert "".join(d.text for d in deltas if not d.final) == text
            assert [d.text for d in deltas if d.final] == [text]
            assert len({d.item for d in deltas}) == 1
            assert len(deltas) > 2
