"""Tools that somebody else's server runs: whole calls with scripted agents that use them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from tests.call.answerers import Server
from tests.call.phones import phone, scripted

from offhook.bridge.codec import ToolCallCancelled
from offhook.call import tool_desk, tool_runs
from offhook.call.inbox import AgentFact
from offhook.call.ports import NoAnswer, ToolOutput
from offhook.model.call_events import CallEnded, ToolCalled, ToolReturned, TurnSpoken
from offhook.model.records import Agent, Tool

WEATHER = Tool(
    tool_id="t1",
    name="weather",
    url="https://weather.example/now",
    parameters='{"type": "object", "properties": {"city": {}}, "required": ["city"]}',
    timeout_s=7.0,
)
STOCK = Tool(tool_id="t2", name="stock", url="https://stock.example/")
SLOW = Tool(tool_id="t3", name="slow", url="https://slow.example/")


def using(
    *uses: tuple[str, dict[str, str]], says_on: str = "", tools: tuple[Tool, ...] = (WEATHER, STOCK, SLOW)
) -> Agent:
    """An agent that uses these tools at once, says something when a result holds ``says_on``, and hangs up."""
    steps: list[dict[str, Any]] = [
        {"on": "ready", "do": [{"do": "use_tool", "name": name, "arguments": given} for name, given in uses]},
        {
            "on": "tool_result",
            "output": says_on,
            "do": [{"do": "speak", "text": f"heard {says_on}", "ms": 100}, {"do": "end_call"}],
        },
    ]
    return replace(scripted("using", steps=steps), tools=tools)


async def told(agent: Agent, server: Server) -> tuple[list[ToolReturned], list[str]]:
    """What the record says of its tools, and what the agent said, in one call."""
    async with phone(agent, questions=server) as callee, phone() as caller:
        await caller.over(caller.call(callee))
        await callee.ended()
        await callee.quiet()
        assert [called.tool_call_id for called in callee.facts.of(ToolCalled)][:1] == ["call-1"]
    return callee.facts.of(ToolReturned), [turn.text for turn in callee.facts.of(TurnSpoken)]


async def test_the_model_hears_what_the_server_said() -> None:
    server = Server(tools={"weather": lambda arguments: ToolOutput(output=f"sunny {arguments}")})
    returned, said = await told(using(("weather", {"city": "Ulm"}), says_on="sunny"), server)
    (one,) = returned
    assert (one.tool, one.output, one.is_error, one.tool_call_id) == (
        "weather",
        'sunny {"city":"Ulm"}',
        False,
        "call-1",
    )
    assert one.took_ms >= 0
    assert said == ["heard sunny"]
    (use,) = server.uses
    assert (use.account_id, use.agent_id, use.tool, use.arguments) == ("default", "using", WEATHER, '{"city":"Ulm"}')
    assert server.deadlines == [7.0]


@pytest.mark.parametrize(
    ("answer", "output"),
    [
        (ToolOutput(output="no such city", is_error=True), "no such city"),
        (NoAnswer(reason="503 from weather.example"), "weather gave no result: 503 from weather.example"),
    ],
)
async def test_the_model_hears_what_went_wrong(answer: ToolOutput | NoAnswer, output: str) -> None:
    server = Server(tools={"weather": lambda _: answer})
    returned, said = await told(using(("weather", {"city": "Ulm"}), says_on=output[:9]), server)
    assert [(one.output, one.is_error) for one in returned] == [(output, True)]
    assert said == [f"heard {output[:9]}"]


async def test_a_server_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("offhook.call.asking.GRACE_S", 0.0)
    server = Server()
    agent = using(("slow", {}), says_on="no result", tools=(replace(SLOW, timeout_s=0.05),))
    returned, said = await told(agent, server)
    assert [one.output for one in returned] == ["slow gave no result: no answer within 0.05 s"]
    assert said == ["heard no result"]
    assert server.cancelled == ["slow"]


async def test_two_tools_run_at_the_same_time() -> None:
    both = asyncio.Barrier(2)

    class Meeting(Server):
        async def use_tool(self, question: Any, deadline_s: float) -> ToolOutput | NoAnswer:
            await both.wait()
            return await super().use_tool(question, deadline_s)

    server = Meeting(
        tools={"weather": lambda _: ToolOutput(output="sunny"), "stock": lambda _: ToolOutput(output="seven")}
    )
    returned, _ = await told(using(("weather", {"city": "Ulm"}), ("stock", {}), says_on="seven"), server)
    assert {(one.tool_call_id, one.output) for one in returned} == {("call-1", "sunny"), ("call-2", "seven")}


async def test_what_cannot_be_asked_is_told_and_not_asked() -> None:
    server = Server()
    returned, said = await told(using(("weather", {}), says_on='"city" is a required'), server)
    (one,) = returned
    assert (one.is_error, one.output) == (True, 'arguments of weather: "city" is a required property')
    assert (said, server.uses) == (['heard "city" is a required'], [])


async def test_more_than_a_few_at_once_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool_runs, "MOST_AT_ONCE", 2)
    server = Server()
    _, said = await told(using(*(("slow", {}),) * 3, says_on="wait for a result"), server)
    assert said == ["heard wait for a result"]
    assert [use.tool_call_id for use in server.uses] == ["call-1", "call-2"]
    assert server.cancelled == ["slow", "slow"]


async def test_an_output_of_any_length_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool_runs, "MOST_OUTPUT", 10)
    server = Server(tools={"stock": lambda _: ToolOutput(output="0123456789abc")})
    returned, _ = await told(using(("stock", {}), says_on="3 characters more"), server)
    assert returned[0].output == "0123456789 … (3 characters more)"


async def test_a_caller_who_hangs_up_leaves_no_tool_running() -> None:
    server = Server()
    async with phone(using(("slow", {}), ("slow", {})), questions=server) as callee, phone() as caller:
        call = caller.call(callee)
        await callee.facts.until(ToolCalled, 2)
        caller.hang_up(call)
        await callee.ended()
        await callee.quiet()
        assert server.cancelled == ["slow", "slow"]
        assert callee.facts.of(ToolReturned) == []
        assert isinstance(callee.facts.events[-1].fact, CallEnded)


async def test_what_the_model_gives_up_is_not_told() -> None:
    server = Server()
    async with phone(using(("slow", {})), questions=server) as callee, phone() as caller:
        call = caller.call(callee)
        await server.asked.wait()
        callee.only_call.deliver(AgentFact(event=ToolCallCancelled(tool_call_id="call-1")))
        async with asyncio.timeout(5):
            while not server.cancelled:  # noqa: ASYNC110 nobody is told of it
                await asyncio.sleep(0.01)
        caller.hang_up(call)
        await caller.over(call)
        await callee.quiet()
        assert callee.facts.of(ToolReturned) == []


async def test_a_model_that_runs_wild_is_told_so_and_fills_no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five calls, of which one says too much and two are too many."""
    monkeypatch.setattr(tool_desk, "MOST_CALLS", 3)
    monkeypatch.setattr(tool_desk, "MOST_CHARACTERS", 1000)
    many = [("weather", {"city": city}) for city in ("Rome", "x" * 2000, "Oslo", "Bonn", "Kyiv")]
    agent = using(*many, says_on="called already")
    server = Server(tools={"weather": lambda _: ToolOutput(output="sunny")})
    async with phone(agent, questions=server) as callee, phone() as caller:
        await caller.over(caller.call(callee))
        await callee.ended()
        await callee.quiet()
        called = [fact.arguments for fact in callee.facts.of(ToolCalled)]
    assert [text for text in called if "city" in text] == ['{"city":"Rome"}', '{"city":"Oslo"}']
