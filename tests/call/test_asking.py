"""A number whose server says who answers: whole calls on loopback."""

from __future__ import annotations

import asyncio

import pytest
from tests.call.answerers import Server
from tests.call.phones import TestPhone, phone, scripted

from offhook.call import arrival, asking
from offhook.call.asking import NobodyToAsk, by_deadline
from offhook.call.inbox import HangUp
from offhook.call.ports import AgentForCall, AgentNamed, CallDeclined, NoAnswer
from offhook.model.call_events import AgentJoined, CallArrived, CallEnded, CallRefused
from offhook.model.records import Number

OWN = scripted("own", greeting_tone_hz=500, greeting_ms=100)
NAMED = scripted("named", greeting_tone_hz=500, greeting_ms=100, hang_up_after_ms=40)
CLOSED = CallDeclined(status=486, reason="closed")
URL = "https://crm.example/who"


def asked_number(agent_id: str = "") -> tuple[Number, ...]:
    return (Number(user="asked", agent_id=agent_id, ask_url=URL, ask_secret="whsec_1", account_id="acme"),)


async def outcome(caller: TestPhone, callee: TestPhone) -> CallEnded:
    """Of a call to the number; the callee's side."""
    call = caller.call(callee, user="asked")
    await caller.over(call)
    ended = await callee.ended()
    await callee.quiet()
    return ended


async def test_the_agent_that_is_named_answers_and_the_server_knew_what_it_was_asked() -> None:
    server = Server(AgentNamed(agent=NAMED))
    async with phone(OWN, questions=server, numbers=asked_number("own")) as callee, phone() as caller:
        assert (await outcome(caller, callee)).cause == "hangup"
    assert [joined.agent_id for joined in callee.facts.of(AgentJoined)] == ["named"]
    (question,) = server.calls
    assert (question.account_id, question.url, question.secret) == ("acme", URL, "whsec_1")
    assert question.arrived == callee.facts.of(CallArrived)[0]
    assert question.arrived.account_id == "acme"
    assert question.call_id == callee.facts.events[0].call_id
    assert server.deadlines == [3.0]


async def test_a_call_that_is_declined_never_rings() -> None:
    async with phone(OWN, questions=Server(CLOSED), numbers=asked_number("own")) as callee, phone() as caller:
        ended = await outcome(caller, callee)
    assert (ended.cause, ended.sip_code, ended.phase) == ("refused", 486, "resolving")
    assert callee.facts.names() == ["CallArrived", "CallRefused", "CallEnded"]
    assert callee.facts.of(CallRefused)[0].evidence == f"{URL}: 486 closed"
    assert caller.facts.of(CallEnded)[0].sip_code == 486


@pytest.mark.parametrize("answer", [NoAnswer(reason="refused"), ValueError("a bug"), None], ids=["no", "bug", "late"])
async def test_without_an_answer_the_numbers_own_agent_speaks(
    answer: NoAnswer | Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrival, "WHO_ANSWERS_S", 0.05)
    monkeypatch.setattr(asking, "GRACE_S", 0.0)
    async with (
        phone() as caller,
        phone(NAMED, OWN, questions=Server(answer), numbers=asked_number("own")) as callee,
    ):
        call = caller.call(callee, NAMED, user="asked")
        await callee.facts.until(AgentJoined)
        await caller.over(call)
    assert callee.facts.of(AgentJoined)[0].agent_id == "own"


async def test_without_an_answer_and_an_agent_the_call_is_refused_and_explained() -> None:
    async with phone(OWN, numbers=asked_number()) as callee, phone() as caller:
        ended = await outcome(caller, callee)
    assert (ended.cause, ended.sip_code) == ("refused", 480)
    assert callee.facts.of(CallRefused)[0].evidence == f"{URL}: this process asks no other servers"


async def test_a_caller_may_give_up_while_the_server_thinks() -> None:
    server = Server(None)
    async with phone(OWN, questions=server, numbers=asked_number("own")) as callee, phone() as caller:
        call = caller.call(callee, user="asked")
        await server.asked.wait()
        call.deliver(HangUp(by="agent", cause="cancelled"))
        await caller.over(call)
        ended = await callee.ended()
        await callee.quiet()
    assert (ended.cause, ended.phase) == ("cancelled", "resolving")
    assert callee.facts.of(AgentJoined) == []


async def test_a_call_that_is_not_on_disk_does_not_ring_though_its_agent_is_known() -> None:
    server = Server(AgentNamed(agent=NAMED))
    async with phone(OWN, questions=server, numbers=asked_number()) as callee, phone() as caller:
        let_go = callee.facts.hold_back()
        call = caller.call(callee, user="asked")
        await server.asked.wait()
        await asyncio.sleep(0.05)
        assert callee.facts.names() == ["CallArrived"]
        let_go.set()
        await caller.over(call)
        await callee.quiet()
        assert callee.facts.too_early == []


async def test_nobody_to_ask_says_so() -> None:
    arrived = CallArrived(
        direction="inbound", from_uri="", to_uri="", sip_call_id="", transport="UDP", remote_address=""
    )
    question = AgentForCall(account_id="a", call_id="c", url=URL, arrived=arrived)
    answer = await by_deadline(NobodyToAsk().agent_for_call(question, 1.0), 1.0)
    assert answer == NoAnswer(reason="this process asks no other servers")
