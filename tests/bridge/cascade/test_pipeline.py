"""The order of things in a cascade: what is held, cut, cancelled and remembered."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.bridge.cascade.toy_parts import MS_PER_CHARACTER, ToyCascade

from offhook.bridge.cascade.ports import EagerEnd, EndOfTurn, PartialText, Resumed, SpeechBegan, ToolUse
from offhook.bridge.codec import (
    AudioDone,
    Begin,
    BridgeFault,
    Interrupt,
    ResponseDone,
    ResponseStarted,
    Say,
    SpeechStopped,
    TextInput,
    ToolCall,
    ToolCallCancelled,
    ToolResult,
    TranscriptDelta,
    UpdateAgent,
)
from offhook.model.errors import BridgeError
from offhook.model.records import Agent

STORY = "Once upon a time there was a ship that sailed away."

WEATHER = ToolUse(tool_call_id="t1", name="weather", arguments="{}")


@pytest.fixture
async def cascade() -> AsyncIterator[ToyCascade]:
    toy = ToyCascade(greeting="Welcome.")
    await toy.connection.open()
    yield toy
    await toy.connection.close()


async def told_a_story(cascade: ToyCascade) -> str:
    """The agent is in the middle of it, for the caller."""
    cascade.answers(STORY)
    cascade.caller_says("a story")
    await cascade.settle()
    cascade.pass_time(1000)
    return next(iter(cascade.listener.audio))


async def test_nothing_of_a_trial_reaches_the_call(cascade: ToyCascade) -> None:
    cascade.answers("It is ", "noon.", WEATHER)
    cascade.hear(SpeechBegan(), EagerEnd(text="what time"))
    await cascade.settle()
    assert cascade.voice.said
    assert cascade.listener.audio == {}
    assert cascade.listener.of(ResponseStarted) == []
    cascade.hear(EndOfTurn(text="What time?"))
    names = [name for name in cascade.listener.names() if name not in ("UsageReported", "TranscriptDelta")]
    assert names[-4:] == ["ResponseStarted", "AudioDone", "ToolCall", "ResponseDone"]
    assert cascade.listener.said() == ["It is noon."]


async def test_a_trial_that_is_void_leaves_no_trace(cascade: ToyCascade) -> None:
    cascade.answers("It is noon.")
    cascade.model.gate.clear()
    cascade.hear(SpeechBegan(), EagerEnd(text="what time"))
    await cascade.settle()
    cascade.hear(Resumed())
    await cascade.settle()
    assert cascade.model.aborted == 1
    cascade.model.gate.set()
    cascade.hear(EndOfTurn(text="what time is it in Ulm"))
    await cascade.settle()
    assert [m["content"] for m in cascade.model.asked[-1]][1:] == ["what time is it in Ulm"]
    assert cascade.listener.said() == ["I see."]


async def test_a_trial_that_fails_matters_when_it_was_wanted(cascade: ToyCascade) -> None:
    cascade.answers(BridgeError("model", "gone", "fall_over"))
    cascade.hear(SpeechBegan(), EagerEnd(text="what time"))
    await cascade.settle()
    assert cascade.listener.of(BridgeFault) == []
    cascade.hear(EndOfTurn(text="what time"))
    assert cascade.listener.heard() == ["what time"]
    assert [fault.verdict for fault in cascade.listener.of(BridgeFault)] == ["fall_over"]


async def test_an_interruption_cuts_model_and_voice_and_keeps_what_was_heard(cascade: ToyCascade) -> None:
    cascade.voice.at_once = False
    cascade.answers("Once upon a time there was a ship. ", "And then it sailed ", "away.")
    cascade.caller_says("a story")
    await cascade.settle()
    (item,) = cascade.voice.said
    cascade.voice.speak(item, "Once upon a time there was a ship. ")
    cascade.pass_time(600)
    cascade.hear(SpeechBegan())
    cascade.connection.send(Interrupt(item=item, played_ms=11 * MS_PER_CHARACTER))
    assert cascade.voice.cancelled == [item]
    cascade.voice.speak(item, "And then")
    cascade.hear(EndOfTurn(text="stop"))
    await cascade.settle()
    assert [m["content"] for m in cascade.model.asked[-1]][1:] == ["a story", "Once upon a", "stop"]
    assert next(iter(cascade.listener.audio)) == item
    assert len(cascade.listener.audio[item]) == len("Once upon a time there was a ship. ") * MS_PER_CHARACTER * 8
    assert len(cascade.listener.of(ResponseDone)) == 1


async def test_what_was_said_over_the_agent_waits_for_the_calls_judgement(cascade: ToyCascade) -> None:
    item = await told_a_story(cascade)
    cascade.caller_says("stop it please")
    await cascade.settle()
    assert len(cascade.model.asked) == 1
    cascade.connection.send(Interrupt(item=item, played_ms=1000))
    await cascade.settle()
    assert cascade.model.asked[-1][-1]["content"] == "stop it please"


async def test_what_the_call_did_not_judge_a_turn_is_forgotten(cascade: ToyCascade) -> None:
    await told_a_story(cascade)
    cascade.caller_says("interesting")
    cascade.pass_time(10_000)
    cascade.caller_says("who are you")
    await cascade.settle()
    assert len(cascade.model.asked) == 2
    assert [m["content"] for m in cascade.model.asked[-1]][1:] == ["a story", STORY, "who are you"]


async def test_several_utterances_are_cut_one_by_one_and_the_answer_stays() -> None:
    cascade = ToyCascade()
    await cascade.connection.open()
    first = await told_a_story(cascade)
    cascade.connection.send(Say(text="One moment please, I am looking."))
    second = list(cascade.listener.audio)[1]
    cascade.caller_says("stop it please")
    cascade.connection.send(Interrupt(item=first, played_ms=1000))
    cascade.connection.send(Interrupt(item=second, played_ms=0))
    await cascade.settle()
    assert cascade.listener.said()[-1] == "I see."
    assert "One moment" not in str(cascade.model.asked[-1])
    await cascade.connection.close()


async def test_a_trial_survives_that_the_agent_is_cut(cascade: ToyCascade) -> None:
    """The call played longer than was reckoned here."""
    item = await told_a_story(cascade)
    cascade.pass_time(5000)
    cascade.hear(SpeechBegan(), EagerEnd(text="stop it please"))
    await cascade.settle()
    cascade.pass_time(100)
    cascade.connection.send(Interrupt(item=item, played_ms=2000))
    cascade.hear(EndOfTurn(text="Stop it, please."))
    await cascade.settle()
    assert cascade.listener.said()[-1] == "I see."
    assert len(cascade.model.asked) == 2


async def test_more_words_before_the_answer_was_heard_are_answered_together(cascade: ToyCascade) -> None:
    cascade.model.gate.clear()
    cascade.caller_says("a coffee")
    await cascade.settle()
    cascade.caller_says("and a tea")
    cascade.model.gate.set()
    await cascade.settle()
    assert [m["content"] for m in cascade.model.asked[-1]][1:] == ["a coffee\nand a tea"]
    assert len(cascade.listener.audio) == 1
    assert len(cascade.listener.of(ResponseStarted)) == len(cascade.listener.of(ResponseDone)) == 2


async def test_a_cough_before_the_answer_does_not_cost_it(cascade: ToyCascade) -> None:
    cascade.model.gate.clear()
    cascade.caller_says("a coffee")
    await cascade.settle()
    cascade.hear(SpeechBegan())
    cascade.model.gate.set()
    await cascade.settle()
    assert cascade.listener.audio == {}
    cascade.hear(EndOfTurn(text=""))
    assert cascade.listener.said() == ["I see."]


async def test_a_result_that_comes_while_the_caller_speaks_waits(cascade: ToyCascade) -> None:
    cascade.answers(WEATHER)
    cascade.caller_says("weather")
    await cascade.settle()
    cascade.answers("It is sunny.")
    cascade.hear(SpeechBegan())
    cascade.connection.send(ToolResult(tool_call_id="t1", output="sun"))
    await cascade.settle()
    assert cascade.listener.audio == {}
    cascade.hear(EndOfTurn(text="uh"))
    await cascade.settle()
    assert cascade.listener.said() == ["It is sunny."]
    assert cascade.roles() == ["system", "user", "assistant", "tool"]


async def test_tools_of_an_answer_that_was_cut_are_cancelled(cascade: ToyCascade) -> None:
    cascade.voice.at_once = False
    cascade.answers("One moment, I look. ", WEATHER)
    cascade.caller_says("weather")
    await cascade.settle()
    (item,) = cascade.voice.said
    assert [call.tool_call_id for call in cascade.listener.of(ToolCall)] == ["t1"]
    cascade.voice.speak(item, "One moment, I look. ")
    cascade.pass_time(200)
    cascade.hear(SpeechBegan())
    cascade.connection.send(Interrupt(item=item, played_ms=200))
    assert [call.tool_call_id for call in cascade.listener.of(ToolCallCancelled)] == ["t1"]
    cascade.connection.send(ToolResult(tool_call_id="t1", output="sun"))
    await cascade.settle()
    assert len(cascade.model.asked) == 1


async def test_the_call_ends_when_goodbye_is_with_it(cascade: ToyCascade) -> None:
    cascade.voice.at_once = False
    cascade.answers("Goodbye.", ToolUse(tool_call_id="t1", name="end_call", arguments="{}"))
    cascade.caller_says("that is all")
    await cascade.settle()
    assert cascade.listener.of(ToolCall) == []
    (item,) = cascade.voice.said
    cascade.voice.speak(item, "Goodbye.")
    cascade.voice.end(item)
    names = cascade.listener.names()
    assert names.index("AudioDone") < names.index("ToolCall")


async def test_what_is_told_while_an_answer_is_made_is_answered_after_it(cascade: ToyCascade) -> None:
    cascade.model.gate.clear()
    cascade.caller_says("hello")
    await cascade.settle()
    cascade.connection.send(TextInput(role="system", text="It rains.", respond=True))
    cascade.model.gate.set()
    await cascade.settle()
    assert len(cascade.model.asked) == 2
    assert cascade.roles()[-2:] in (["system", "assistant"], ["assistant", "system"])


async def test_partial_words_are_deltas(cascade: ToyCascade) -> None:
    cascade.hear(SpeechBegan(), PartialText(text="what"), PartialText(text="what time"), PartialText(text="watt"))
    cascade.hear(EndOfTurn(text="What time?"))
    deltas = [d for d in cascade.listener.of(TranscriptDelta) if d.speaker == "caller"]
    assert [(d.text, d.final) for d in deltas] == [("what", False), (" time", False), ("What time?", True)]
    assert len({d.item for d in deltas}) == 1


async def test_words_of_the_agent_have_their_places(cascade: ToyCascade) -> None:
    cascade.connection.send(Begin())
    deltas = [(d.text, d.at_ms) for d in cascade.listener.of(TranscriptDelta)]
    assert deltas == [("Welcome.", 0), ("Welcome.", None)]
    assert len(cascade.listener.of(AudioDone)) == 1


async def test_an_agent_that_waits_does_not_greet() -> None:
    cascade = ToyCascade(greeting="Welcome.", first_speaker="caller")
    await cascade.connection.open()
    cascade.connection.send(Begin())
    assert cascade.voice.said == {}
    await cascade.connection.close()


async def test_other_instructions_change_only_the_first_message(cascade: ToyCascade) -> None:
    cascade.connection.send(UpdateAgent(agent=Agent(agent_id="b", provider="toy", instructions="Be brief.")))
    cascade.caller_says("hello")
    await cascade.settle()
    assert cascade.model.asked[-1][0]["content"].startswith("Be brief.")


async def test_a_part_that_is_gone_takes_the_agent_with_it(cascade: ToyCascade) -> None:
    cascade.hear(SpeechBegan(), PartialText(text="what time"))
    cascade.hear(BridgeFault(problem="gone", verdict="fall_over"))
    assert cascade.listener.heard() == ["what time"]
    assert cascade.listener.names()[-1] == "BridgeFault"
    cascade.hear(EndOfTurn(text="what time"))
    cascade.connection.send(Say(text="Hello?"))
    await cascade.settle()
    assert cascade.listener.names()[-1] == "BridgeFault"
    assert cascade.listener.of(SpeechStopped) == []


async def test_a_second_try_is_told_only_between_utterances(cascade: ToyCascade) -> None:
    """The call takes a lost connection for the end of what it has the beginning of."""
    cascade.voice.at_once = False
    cascade.connection.send(Say(text="Hello there."))
    (item,) = cascade.voice.said
    cascade.voice.speak(item, "Hello")
    cascade.hear(BridgeFault(problem="lost", verdict="retry"))
    assert cascade.listener.of(BridgeFault) == []
    cascade.voice.end(item)
    cascade.hear(BridgeFault(problem="lost", verdict="retry"))
    assert len(cascade.listener.of(BridgeFault)) == 1


async def test_nothing_is_told_after_the_end(cascade: ToyCascade) -> None:
    cascade.voice.at_once = False
    cascade.connection.send(Say(text="Hello there."))
    (item,) = cascade.voice.said
    await cascade.connection.close()
    before = len(cascade.listener.events)
    cascade.voice.speak(item, "Hello there.")
    cascade.caller_says("hello")
    assert len(cascade.listener.events) == before
    assert cascade.listener.audio == {}
