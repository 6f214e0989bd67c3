"""What every provider has to do on the phone: a scene for the simulator, and a call that looks whether it did."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.parity.caller import until
from tests.parity.world import Column, Scene, Talk

from offhook.simulators.voice import MS_PER_CHARACTER, length_ms

LONG = "This is a long story about a ship that sailed from one end of the sea to the other and never came home. " * 2
"""Twelve seconds."""

WAITS: Mapping[str, Any] = {"first_speaker": "caller"}
"""Agents that wait to be spoken to."""

Check = Callable[[Talk, Column], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    name: str
    scene: Scene
    check: Check


BEHAVIOURS: dict[str, Behaviour] = {}


def behaviour(name: str, *, agent: Mapping[str, Any] = WAITS, **script: Any) -> Callable[[Check], Check]:
    def keep(check: Check) -> Check:
        key = name.lower().replace(" ", "_").replace("-", "_")
        BEHAVIOURS[key] = Behaviour(name=name, scene=Scene(script=script, agent=agent), check=check)
        return check

    return keep


def said(record: Mapping[str, Any], speaker: str) -> list[str]:
    return [turn["text"] for turn in record["transcript"] if turn["speaker"] == speaker]


def facts(record: Mapping[str, Any], kind: str) -> list[Mapping[str, Any]]:
    return [event for event in record["events"] if event["type"] == kind]


@behaviour("greeting", agent={"greeting": "Welcome to the parity line."})
async def greeting(talk: Talk, _: Column) -> None:
    await talk.hears("Welcome to the parity line.")
    await talk.caller.hears_silence(300)
    record = await talk.hangs_up()
    assert said(record, "agent") == ["Welcome to the parity line."]


@behaviour("transcripts", turns=[{"hears": "what time is it", "says": "It is noon."}])
async def transcripts(talk: Talk, _: Column) -> None:
    await talk.says_something()
    await talk.hears("It is noon.")
    await talk.caller.hears_silence(300)
    record = await talk.hangs_up()
    assert said(record, "caller") == ["what time is it"]
    assert said(record, "agent") == ["It is noon."]


TELLS_STORY = [{"hears": "tell me a story", "says": LONG}, {"hears": "wait, stop", "says": "I stopped."}]


async def interrupt_the_story(talk: Talk) -> tuple[Mapping[str, Any], int]:
    """The record, and how many milliseconds of the story were heard."""
    await talk.says_something()
    await talk.hears(LONG)
    await talk.says_something()
    await talk.caller.hears_silence(200, within_s=1.5)
    heard_ms = talk.caller.heard_sound_ms()
    await talk.hears("I stopped.")
    await talk.caller.hears_silence(300)
    more_ms = talk.caller.heard_sound_ms() - heard_ms - length_ms("I stopped.")
    assert abs(more_ms) <= 100, f"{more_ms} ms more than the answer"
    return await talk.hangs_up(), heard_ms


@behaviour("barge-in", turns=TELLS_STORY, faults=[{"on": "interrupted", "do": "late_audio"}])
async def barge_in(talk: Talk, _: Column) -> None:
    record, heard_ms = await interrupt_the_story(talk)
    story = next(turn for turn in record["transcript"] if turn["speaker"] == "agent")
    assert story["interrupted"]
    assert heard_ms < 0.8 * len(LONG) * MS_PER_CHARACTER
    assert said(record, "agent")[-1] == "I stopped."


@behaviour("truncation", turns=TELLS_STORY)
async def truncation(talk: Talk, _: Column) -> None:
    """The provider knows how much was heard: in milliseconds, or because the rest of the text is never told again."""
    heard_ms = (await interrupt_the_story(talk))[1]
    told = [int(ms) for text in talk.messages() for ms in re.findall(r'"audio_end_ms": ?(\d+)', text)]
    if told:
        assert abs(told[0] - heard_ms) <= 60, (told, heard_ms)
    else:
        last = talk.messages_with('"messages"')[-1]
        words = next(one["content"] for one in json.loads(last)["messages"] if one["role"] == "assistant")
        assert words
        assert LONG.startswith(words.rstrip(" .…-")[:20])
        assert len(words) < 0.8 * len(LONG)


def with_tools(*names: str) -> Mapping[str, Any]:
    return {**WAITS, "tools": list(names)}


@behaviour(
    "tool call",
    agent=with_tools("weather"),
    turns=[{"hears": "weather", "tools": [{"name": "weather", "arguments": {"city": "Ulm"}}], "says": "{weather}"}],
)
async def tool_call(talk: Talk, _: Column) -> None:
    await talk.says_something()
    await talk.told("sunny and warm")
    await talk.caller.hears_anything(3)
    await talk.caller.hears_silence(300)
    record = await talk.hangs_up()
    assert json.loads(facts(record, "ToolCalled")[0]["arguments"]) == {"city": "Ulm"}
    assert not facts(record, "ToolReturned")[0]["is_error"]
    assert "sunny and warm" in said(record, "agent")[-1]


@behaviour(
    "parallel tools",
    agent=with_tools("weather", "traffic"),
    turns=[{"hears": "both", "tools": [{"name": "weather"}, {"name": "traffic"}], "says": "{weather}, {traffic}"}],
)
async def parallel_tools(talk: Talk, _: Column) -> None:
    await talk.says_something()
    await talk.caller.hears_anything(5)
    await talk.caller.hears_silence(300)
    record = await talk.hangs_up()
    assert len(facts(record, "ToolReturned")) == 2
    [answer] = said(record, "agent")
    assert "sunny and warm" in answer
    assert "all roads are free" in answer


@behaviour(
    "cancelled tool",
    agent=with_tools("slow"),
    turns=[
        {"hears": "slow", "tools": [{"name": "slow", "cancel": True}], "says": "{slow}"},
        {"hears": "never mind", "says": "Never mind then."},
    ],
)
async def cancelled_tool(talk: Talk, column: Column) -> None:
    """Where the provider can take a tool call back, no result is told; elsewhere it is, and the caller is answered."""
    await talk.says_something()
    await asyncio.sleep(0.3)
    await talk.says_something()
    if column.takes_tools_back:
        await talk.hears("Never mind then.")
        await asyncio.sleep(4)
        assert not talk.was_told("too late")
    else:
        await talk.caller.hears_anything(8)
        await talk.told("too late")
        await asyncio.sleep(1)
        await talk.caller.hears_silence(300)
    answers = said(await talk.hangs_up(), "agent")
    assert any("Never mind then." in answer or "too late" in answer for answer in answers), answers


@behaviour("inject system")
async def inject_system(talk: Talk, _: Column) -> None:
    await talk.command("inject", {"message": "The caller is a premium member."})
    await talk.says_something()
    await talk.told("premium member")
    await talk.hangs_up()


@behaviour("inject user", turns=[{"hears": "parrot", "says": "Polly is here."}])
async def inject_user(talk: Talk, _: Column) -> None:
    await talk.command("inject", {"message": "Ask for the parrot.", "role": "user"})
    await talk.hears("Polly is here.")
    await talk.hangs_up()


@behaviour("say")
async def say(talk: Talk, _: Column) -> None:
    await talk.command("say", {"text": "The code is four two."})
    await talk.caller.hears_anything(5)
    await talk.caller.hears_silence(500)
    record = await talk.hangs_up()
    assert "The code is four two." in said(record, "agent"), said(record, "agent")


@behaviour("DTMF")
async def dtmf(talk: Talk, _: Column) -> None:
    await talk.caller.phone.dial("5")
    await talk.says_something()
    await talk.told("pressed 5")
    record = await talk.hangs_up()
    assert record["digits"] == "5"


@behaviour(
    "resume",
    turns=[{"hears": "one", "says": "First."}, {"hears": "two", "says": "Second."}],
    faults=[{"on": "turn", "turn": 2, "do": "drop"}],
)
async def resume(talk: Talk, _: Column) -> None:
    """The connection breaks as the second answer begins; the talk goes on in another one."""
    await talk.says_something()
    await talk.hears("First.")
    await talk.caller.hears_silence(300)
    await talk.says_something()
    await until(lambda: talk.connections() > 1, 3, "no second connection")
    await asyncio.sleep(0.5)
    await talk.says_something()
    await talk.caller.hears_anything(3)
    record = await talk.hangs_up()
    assert {fact["verdict"] for fact in facts(record, "ProviderFailed")} == {"retry"}


TAKES_OVER = {
    "provider": "scripted",
    "options": {
        "script": json.dumps({"steps": [{"on": "text", "do": [{"do": "speak", "tone_hz": 2000, "text": "I go on."}]}]})
    },
}


@behaviour(
    "failover",
    agent={**WAITS, "fallbacks": [TAKES_OVER]},
    turns=[{"hears": "one", "says": "First."}],
    faults=[
        {"on": "turn", "turn": 2, "do": "drop"},
        {"on": "connect", "do": "refuse", "code": 503, "spares": 1, "times": 1000},
    ],
)
async def failover(talk: Talk, _: Column) -> None:
    await talk.says_something()
    await talk.hears("First.")
    await talk.caller.hears_silence(200)
    await talk.says_something()
    await talk.caller.hears_anything(2.5)
    await talk.caller.hears_tone(2000)
    record = await talk.hangs_up()
    assert facts(record, "ProviderFailed")[-1]["verdict"] == "fall_over"
    assert [fact["by"] for fact in facts(record, "ProviderReplaced")] == ["scripted"]
    assert record["provider"] == "scripted"


@behaviour("usage", turns=[{"hears": "one", "says": "First."}])
async def usage(talk: Talk, _: Column) -> None:
    await talk.says_something()
    await talk.hears("First.")
    await talk.caller.hears_silence(300)
    record = await talk.hangs_up()
    assert record["usage"]


@behaviour("end by agent", turns=[{"hears": "goodbye", "says": "Goodbye then.", "ends_call": True}])
async def end_by_agent(talk: Talk, _: Column) -> None:
    await talk.says_something()
    await talk.hears("Goodbye then.")
    await asyncio.wait_for(talk.caller.hung_up.wait(), 10)
    record = await talk.ended()
    assert (record["ended_by"], record["cause"]) == ("agent", "hangup")
    assert said(record, "agent") == ["Goodbye then."]


@behaviour("end by caller", turns=[{"hears": "tell me a story", "says": LONG}])
async def end_by_caller(talk: Talk, _: Column) -> None:
    await talk.says_something()
    await talk.hears(LONG)
    await asyncio.sleep(1.5)
    record = await talk.hangs_up()
    assert (record["ended_by"], record["cause"]) == ("caller", "hangup")
    assert len(said(record, "agent")[-1]) < len(LONG)
