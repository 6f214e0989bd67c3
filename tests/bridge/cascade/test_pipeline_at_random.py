"""Whatever happens in whatever order, the next thing the caller says is answered, and the next it is told."""

from __future__ import annotations

import asyncio
import json

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.bridge.cascade.toy_parts import ToyCascade

from offhook.bridge.cascade.ports import EagerEnd, EndOfTurn, PartialText, Resumed, SpeechBegan, SttEvent, ToolUse
from offhook.bridge.codec import (
    Begin,
    BridgeInput,
    Digits,
    Interrupt,
    ResponseDone,
    ResponseStarted,
    Say,
    TextInput,
    ToolResult,
)
from offhook.simulators.chat_script import chat_turn
from offhook.simulators.script import Script

TEXTS = st.sampled_from(["", "uh", "yeah", "a coffee", "a coffee please", "stop"])
ITEMS = st.integers(1, 6).map(lambda number: f"agent-{number}")


@st.composite
def caller_turns(draw: st.DrawFn) -> list[SttEvent]:
    """As recognisers tell them: one end for each begin."""
    middle = st.lists(
        st.one_of(st.builds(PartialText, text=TEXTS), st.builds(EagerEnd, text=TEXTS), st.just(Resumed())), max_size=4
    )
    return [SpeechBegan(), *draw(middle), EndOfTurn(text=draw(TEXTS))]


COMMANDS = st.one_of(
    st.just(Begin()),
    st.builds(Say, text=st.just("One moment please, I am looking.")),
    st.builds(TextInput, role=st.sampled_from(["system", "user"]), text=st.just("News."), respond=st.booleans()),
    st.builds(Digits, digits=st.just("5")),
    st.builds(Interrupt, item=ITEMS, played_ms=st.integers(0, 3000)),
    st.builds(ToolResult, tool_call_id=st.sampled_from(["t1", "t2"]), output=st.just("sun")),
)

ANSWERS = st.sampled_from(["text", "tool", "both"])
Step = list[SttEvent] | BridgeInput | int | str

STEPS = st.lists(
    st.one_of(caller_turns(), COMMANDS, st.integers(0, 4).map(lambda n: n * 500), st.just("think"), st.just("wait")),
    max_size=12,
)


async def play(steps: list[Step], answers: list[str]) -> ToyCascade:
    cascade = ToyCascade(greeting="Welcome.")
    for index, kind in enumerate(answers):
        use = ToolUse(tool_call_id=f"t{index}", name="weather", arguments="{}")
        cascade.answers(*(["Let me look. "] if kind != "tool" else []), *([use] if kind != "text" else []))
    await cascade.connection.open()
    for step in steps:
        match step:
            case list():
                for event in step:
                    cascade.hear(event)
                    await asyncio.sleep(0)
            case int():
                cascade.pass_time(step)
            case "think":
                cascade.model.gate.set()
                await cascade.settle()
            case "wait":
                cascade.model.gate.clear()
            case str():
                pass
            case _:
                cascade.connection.send(step)
    cascade.model.gate.set()
    await cascade.settle()
    return cascade


@settings(max_examples=80, deadline=None)
@given(STEPS, st.lists(ANSWERS, max_size=4))
def test_the_next_question_is_answered(steps: list[Step], answers: list[str]) -> None:
    async def conversation() -> None:
        cascade = await play(steps, answers)
        cascade.pass_time(60_000)
        cascade.model.answers.clear()
        cascade.caller_says("and one last question")
        await cascade.settle()
        assert cascade.model.asked[-1][-1]["content"].endswith("and one last question")
        assert cascade.listener.said()[-1] == "I see."
        asked = len(cascade.model.asked)
        cascade.connection.send(TextInput(role="system", text="Say goodbye.", respond=True))
        await cascade.settle()
        assert len(cascade.model.asked) == asked + 1
        assert len(cascade.listener.of(ResponseStarted)) == len(cascade.listener.of(ResponseDone))
        for messages in cascade.model.asked:
            chat_turn(Script(), json.loads(json.dumps({"model": "m", "messages": messages})))
        await cascade.connection.close()

    asyncio.run(conversation())
