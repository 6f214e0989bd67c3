"""Questions to real servers: whole calls on loopback whose agent, or whose tool, somebody else's server knows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from standardwebhooks import Webhook
from tests.call.phones import phone, scripted
from tests.delivery.receivers import OPEN, Receiver, receiver

from offhook.call import arrival
from offhook.call.ports import AgentForCall, AgentNamed, NoAnswer, ToolOutput, ToolUse
from offhook.delivery.outbound_http import OutboundHttp
from offhook.delivery.questions import HttpQuestions
from offhook.model.call_events import AgentJoined, CallArrived, CallEnded, CallRefused, ToolReturned, TurnSpoken
from offhook.model.records import Agent, Number, Tool, TransferDestination
from offhook.model.trunks import OpenTrunk
from offhook.store.directory import AccountDirectory, DirectoryState
from offhook.store.rights import Rights

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OWN = scripted("own", greeting_tone_hz=500, greeting_ms=100)
NAMED = scripted("named", greeting_tone_hz=500, greeting_ms=100, hang_up_after_ms=40)
BRIEFER = replace(scripted("briefer"), destinations=(TransferDestination(name="x", target="sip:x@x.example"),))
WEATHER = Tool(tool_id="weather", name="weather", url="https://weather.example/")
ACME = AccountDirectory(
    account_id="acme",
    agents={"named": NAMED, "briefer": BRIEFER},
    tools={"weather": WEATHER},
    trunks={"theirs": OpenTrunk(trunk_id="theirs")},
)
STATE = DirectoryState(
    accounts={"acme": ACME, "other": AccountDirectory(account_id="other", agents={"secret": OWN})},
    shared_trunks=frozenset({"shared"}),
)
ARRIVED = CallArrived(
    direction="inbound",
    from_uri="sip:anna@a.example",
    to_uri="sip:demo@b.example",
    sip_call_id="x",
    transport="UDP",
    remote_address="192.0.2.1:5060",
    account_id="acme",
)


@asynccontextmanager
async def server(answer: object = None, status: int = 200) -> AsyncIterator[tuple[Receiver, HttpQuestions]]:
    """Says ``answer`` to every question; and who asks it."""
    async with receiver() as there, OutboundHttp(OPEN) as http:
        there.answer = saying(answer, status)
        yield there, HttpQuestions(http, lambda: STATE, allow=Rights().check_agent)


def saying(answer: object, status: int = 200) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def say(request: web.Request) -> web.StreamResponse:
        text = answer if isinstance(answer, str) else json.dumps(answer)
        return web.Response(text=text, status=status)

    return say


async def never(request: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


def question(there: Receiver, secret: str = "") -> AgentForCall:
    return AgentForCall(account_id="acme", call_id="c1", url=there.url("/who"), arrived=ARRIVED, secret=secret)


def use(there: Receiver, **tool: Any) -> ToolUse:
    made = replace(WEATHER, **{"url": there.url("/weather?unit=c"), **tool})
    return ToolUse(
        account_id="acme", call_id="c1", agent_id="own", tool=made, tool_call_id="t1", arguments='{"city": "Ulm"}'
    )


def asked_number(there: Receiver, agent_id: str = "") -> tuple[Number, ...]:
    return (Number(user="asked", agent_id=agent_id, ask_url=there.url(), ask_secret=SECRET, account_id="acme"),)


# ── who answers ──────────────────────────────────────────────────────────────────────────────────────────


async def test_the_caller_hears_the_agent_that_the_server_named() -> None:
    async with server({"agent_id": "named"}) as (there, questions):
        numbers = asked_number(there, "own")
        async with phone(OWN, questions=questions, numbers=numbers) as callee, phone() as caller:
            call = caller.call(callee, user="asked")
            await caller.over(call)
            assert (await callee.ended()).cause == "hangup"
            await callee.quiet()
    assert [joined.agent_id for joined in callee.facts.of(AgentJoined)] == ["named"]
    told = json.loads(there.bodies[0])
    assert (told["type"], told["call_id"]) == ("call.incoming", callee.facts.events[0].call_id)
    assert told["to"] == callee.facts.of(CallArrived)[0].to_uri
    Webhook(SECRET).verify(there.bodies[0], dict(there.seen[0].headers))


async def test_an_agent_described_for_one_call_answers_it() -> None:
    described = {"provider": "scripted", "record": False, "options": dict(NAMED.options)}
    async with (
        server({"agent": described}) as (there, questions),
        phone(OWN, questions=questions, numbers=asked_number(there)) as callee,
        phone() as caller,
    ):
        await caller.over(caller.call(callee, user="asked"))
        await callee.ended()
        await callee.quiet()
    assert [joined.agent_id for joined in callee.facts.of(AgentJoined)] == ["transient"]


async def test_an_agent_may_not_be_described_to_take_the_key_of_this_server_elsewhere() -> None:
    described = {"provider": "scripted", "options": {"base_url": "https://mine.example"}}
    async with server({"agent": described}) as (there, questions):
        question = AgentForCall(account_id="acme", call_id="c1", url=there.url(), arrived=ARRIVED)
        answer = await questions.agent_for_call(question, 5.0)
    assert isinstance(answer, NoAnswer)
    assert "agent.options.base_url" in answer.reason


async def test_a_call_that_the_server_declines_is_refused_with_its_status() -> None:
    async with (
        server({"decline": {"status": 603, "reason": "closed"}}) as (there, questions),
        phone(OWN, questions=questions, numbers=asked_number(there)) as callee,
        phone() as caller,
    ):
        await caller.over(caller.call(callee, user="asked"))
        assert (await callee.ended()).sip_code == 603
        await callee.quiet()
    assert callee.facts.of(CallRefused)[0].evidence.endswith(": 603 closed")
    assert caller.facts.of(CallEnded)[0].sip_code == 603


async def test_while_the_server_is_slow_the_numbers_own_agent_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrival, "WHO_ANSWERS_S", 0.1)
    async with server() as (there, questions):
        there.answer = never
        numbers = asked_number(there, "own")
        async with phone(NAMED, OWN, questions=questions, numbers=numbers) as callee, phone() as caller:
            call = caller.call(callee, NAMED, user="asked")
            await callee.facts.until(AgentJoined)
            await caller.over(call)
    assert [joined.agent_id for joined in callee.facts.of(AgentJoined)] == ["own"]


async def test_a_call_that_nobody_answers_says_what_was_wrong_with_the_answer() -> None:
    async with (
        server({"agent_id": "secret"}) as (there, questions),
        phone(OWN, questions=questions, numbers=asked_number(there)) as callee,
        phone() as caller,
    ):
        await caller.over(caller.call(callee, user="asked"))
        assert (await callee.ended()).sip_code == 480
        await callee.quiet()
    assert "there is no agent 'secret'" in callee.facts.of(CallRefused)[0].evidence


@pytest.mark.parametrize(
    ("agent", "reason"),
    [
        ({"tools": ["forecast"]}, "agent.tools[0]: there is no tool 'forecast'. Use one of: weather"),
        (
            {"destinations": [{"name": "a", "target": "tel:+1", "trunk": "foreign"}]},
            "agent.destinations[0].trunk: there is no trunk 'foreign'",
        ),
        (
            {"destinations": [{"name": "a", "target": "tel:+1", "briefing_agent": "secret"}]},
            "agent.destinations[0].briefing_agent: there is no agent 'secret'",
        ),
        ({"destinations": [{"name": "a", "target": "sip:"}]}, "agent.destinations[0].target: "),
    ],
)
async def test_an_agent_is_made_of_what_its_account_has(agent: dict[str, Any], reason: str) -> None:
    async with server({"agent": agent}) as (there, questions):
        answer = await questions.agent_for_call(question(there), 3.0)
    assert isinstance(answer, NoAnswer)
    assert reason in answer.reason


async def test_a_described_agent_has_its_accounts_tools_trunks_and_briefers() -> None:
    agent = {
        "tools": ["weather"],
        "destinations": [
            {"name": "a", "target": "tel:+1", "trunk": "shared"},
            {"name": "b", "target": "tel:+1", "trunk": "theirs", "briefing_agent": "briefer"},
        ],
    }
    async with server({"agent": agent}) as (there, questions):
        answer = await questions.agent_for_call(question(there), 3.0)
    assert isinstance(answer, AgentNamed)
    assert answer.agent.tools == (WEATHER,)
    first, second = answer.agent.destinations
    assert (first.trunk_id, first.briefing_agent) == ("shared", None)
    assert (second.trunk_id, second.briefing_agent) == ("theirs", replace(BRIEFER, destinations=()))


async def test_what_cannot_be_asked_is_no_answer() -> None:
    async with server({"agent_id": "named"}) as (there, questions):
        unsigned = await questions.agent_for_call(question(there), 3.0)
        assert isinstance(unsigned, AgentNamed)
        assert "webhook-signature" not in there.seen[0].headers
        bad_secret = await questions.agent_for_call(question(there, secret="hunter2"), 3.0)
        inside = await questions.agent_for_call(replace(question(there), url="http://10.0.0.1/"), 3.0)
    assert bad_secret == NoAnswer(reason="the question cannot be signed: ask_secret: this is no webhook secret")
    assert isinstance(inside, NoAnswer)
    assert "private address" in inside.reason
    assert len(there.seen) == 1


# ── tools ────────────────────────────────────────────────────────────────────────────────────────────────


def using(tool: Tool, says_on: str) -> Agent:
    """Uses the tool at once, says something when its result holds ``says_on``, and hangs up."""
    steps = [
        {"on": "ready", "do": [{"do": "use_tool", "name": tool.name, "arguments": {"city": "Ulm"}}]},
        {
            "on": "tool_result",
            "output": says_on,
            "do": [{"do": "speak", "text": f"heard {says_on}", "ms": 100}, {"do": "end_call"}],
        },
    ]
    return replace(scripted("using", steps=steps), tools=(tool,))


async def test_an_agent_says_what_its_tools_server_said() -> None:
    async with server({"sky": "sunny"}) as (there, questions):
        tool = replace(WEATHER, url=there.url("/weather"), secret=SECRET, headers=(("Authorization", "Bearer 7"),))
        async with phone(using(tool, "sunny"), questions=questions) as callee, phone() as caller:
            await caller.over(caller.call(callee))
            await callee.ended()
            await callee.quiet()
    assert [one.output for one in callee.facts.of(ToolReturned)] == ['{"sky": "sunny"}']
    assert [turn.text for turn in callee.facts.of(TurnSpoken)] == ["heard sunny"]
    assert json.loads(there.bodies[0]) == {
        "call_id": callee.facts.events[0].call_id,
        "agent_id": "using",
        "tool": "weather",
        "tool_call_id": "call-1",
        "arguments": {"city": "Ulm"},
    }
    assert there.seen[0].headers["Authorization"] == "Bearer 7"
    Webhook(SECRET).verify(there.bodies[0], dict(there.seen[0].headers))


async def test_a_tool_is_got_with_a_signature_of_nothing() -> None:
    async with server("warm") as (there, questions):
        output = await questions.use_tool(use(there, method="GET", secret=SECRET), 5.0)
    assert output == ToolOutput(output="warm")
    assert (there.seen[0].method, there.seen[0].path_qs) == ("GET", "/weather?unit=c&city=Ulm")
    assert there.seen[0].headers["webhook-signature"].startswith("v1,")


@pytest.mark.parametrize(
    ("tool", "reason"),
    [
        ({"url": "http://169.254.169.254/"}, "credentials"),
        ({"headers": (("Host", "elsewhere"),)}, "the header Host is set by offhook itself"),
        ({"secret": "x"}, "the question cannot be signed: secret: "),
    ],
)
async def test_a_tool_that_cannot_be_asked_gives_no_result(tool: dict[str, Any], reason: str) -> None:
    async with server("warm") as (there, questions):
        answer = await questions.use_tool(use(there, **tool), 5.0)
    assert isinstance(answer, NoAnswer)
    assert reason in answer.reason
    assert there.seen == []


async def test_a_tool_that_is_late_or_talks_without_end_gives_no_result() -> None:
    async with server("x" * 300_000) as (there, questions):
        endless = await questions.use_tool(use(there), 5.0)
        there.answer = never
        late = await questions.use_tool(use(there), 0.05)
    assert isinstance(endless, NoAnswer)
    assert isinstance(late, NoAnswer)
    assert "answers with more than 262144 bytes" in endless.reason
    assert "gave no complete answer within 0.05 s" in late.reason


async def test_an_error_of_the_server_is_told_as_one() -> None:
    async with server("no such city", status=404) as (there, questions):
        output = await questions.use_tool(use(there), 5.0)
    assert output == ToolOutput(output="weather answered 404: no such city", is_error=True)
