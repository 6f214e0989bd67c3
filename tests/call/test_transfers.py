"""Transfers between whole phones on loopback: who hears whom afterwards, what is recorded, and that nothing is left."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from tests.call.exchange import (
    BRIEFER,
    CALLER,
    OPEN,
    SLOW_TARGET,
    WILLING,
    Doorman,
    at_once,
    calling,
    dying,
    hears,
    hears_only,
    outcome,
    target_phone,
    transferring,
)
from tests.call.phones import NARROW, TestPhone, phone

from offhook.model.call_events import (
    AgentLeft,
    CallAnswered,
    CallEnded,
    LegAnswered,
    LegDialled,
    LegEnded,
    PartyReplaced,
    ProviderFailed,
    ToolCalled,
    ToolReturned,
    TransferEnded,
    TransferMode,
    TransferStarted,
)

OURSELVES: tuple[TransferMode, ...] = ("attended", "bridge", "warm")
"""The modes in which we call the target."""

MODES: tuple[TransferMode, ...] = ("blind", *OURSELVES)


async def only_call_of(target: TestPhone) -> set[str]:
    return await hears(target.only_call)


@pytest.mark.parametrize("mode", ["blind", "attended"])
async def test_by_refer_the_caller_talks_with_the_target_without_us(mode: TransferMode) -> None:
    async with (
        target_phone() as target,
        phone(transferring(target, mode), trunks=(OPEN,)) as server,
        phone(trunks=(WILLING,)) as caller,
        calling(caller, server) as call,
    ):
        ended = await outcome(server)
        assert (ended.mode, ended.outcome) == (mode, "connected")
        await server.quiet()
        assert server.facts.of(CallEnded)[0].cause == "transferred"
        await hears_only(call, {"target"})
        (with_caller,) = (one for one in target.phone.manager.calls.values() if one.phase == "up")
        await hears_only(with_caller, {"caller"})
    assert [fact.by for fact in caller.facts.of(PartyReplaced)] == ["refer"]


async def test_by_bridge_caller_and_target_hear_each_other_and_the_agent_is_gone() -> None:
    async with (
        target_phone() as target,
        phone(transferring(target, "bridge"), trunks=(OPEN,)) as server,
        phone(trunks=(OPEN,)) as caller,
        calling(caller, server) as call,
    ):
        ended = await outcome(server)
        assert (ended.mode, ended.outcome) == ("bridge", "connected")
        await hears_only(call, {"target"})
        await hears_only(target.only_call, {"caller"})
        assert server.facts.of(AgentLeft)[0].reason == "handed over"
    assert server.facts.of(CallEnded)[0].by == "caller"


async def test_a_function_of_the_agents_own_transfers_and_a_second_one_meanwhile_does_not() -> None:
    """Both are called without arguments, in one turn of the model."""
    call_sales = {"do": "use_tool", "name": "call_sales"}
    async with target_phone() as target:
        agent = transferring(target, "bridge", function="call_sales")
        script = {**json.loads(agent.options["script"])}
        script["steps"] = [{"after_ms": 100, "do": [call_sales, call_sales]}]
        agent = replace(agent, options={"script": json.dumps(script)})
        async with (
            phone(agent, trunks=(OPEN,)) as server,
            phone(trunks=(OPEN,)) as caller,
            calling(caller, server) as call,
        ):
            ended = await outcome(server)
            await hears_only(call, {"target"})
    first, second = server.facts.of(ToolCalled)
    assert (first.tool, first.own, ended.outcome) == ("call_sales", True, "connected")
    assert ended.tool_call_id == first.tool_call_id
    (refused,) = server.facts.of(ToolReturned)
    assert (refused.tool, refused.output, refused.is_error) == ("call_sales", "a transfer is under way", True)
    assert refused.tool_call_id == second.tool_call_id


async def test_parties_of_different_codecs_hear_each_other_through_us() -> None:
    async with (
        target_phone() as target,
        phone(transferring(target, "bridge"), trunks=(OPEN,)) as server,
        phone(trunks=(NARROW,)) as caller,
        calling(caller, server, trunk=NARROW) as call,
    ):
        await outcome(server)
        assert [fact.codec for fact in server.facts.of(CallAnswered)] == ["PCMU"]
        assert [fact.codec for fact in server.facts.of(LegAnswered)] == ["G722"]
        await hears_only(call, {"target"})
        await hears_only(target.only_call, {"caller"})


async def test_an_agent_may_ask_before_the_call_is_up() -> None:
    """A model may call its tool in the very turn that it begins with."""
    async with (
        target_phone() as target,
        phone(at_once(transferring(target, "bridge")), trunks=(OPEN,)) as server,
        phone(trunks=(OPEN,)) as caller,
        calling(caller, server) as call,
    ):
        assert (await outcome(server)).outcome == "connected"
        await hears_only(call, {"target"})


async def test_a_provider_that_dies_meanwhile_does_not_take_the_caller_along() -> None:
    async with (
        target_phone(SLOW_TARGET) as target,
        phone(dying(transferring(target, "bridge")), trunks=(OPEN,)) as server,
        phone(trunks=(OPEN,)) as caller,
        calling(caller, server) as call,
    ):
        assert (await outcome(server)).outcome == "connected"
        await hears_only(call, {"target"})
        assert server.facts.of(ProviderFailed)


async def test_a_provider_that_died_meanwhile_cannot_take_the_caller_back() -> None:
    async with (
        Doorman() as door,
        phone(dying(transferring(door, "bridge", no_answer_s=1.0)), trunks=(OPEN,)) as server,
        phone(trunks=(OPEN,)) as caller,
        calling(caller, server),
    ):
        assert (await outcome(server)).outcome == "no_answer"
        assert (await server.ended()).cause == "provider_failed"


async def test_a_side_that_refuses_refer_is_bridged_instead() -> None:
    async with (
        target_phone() as target,
        phone(transferring(target, "blind"), trunks=(OPEN,)) as server,
        phone(trunks=(OPEN,)) as caller,
        calling(caller, server) as call,
    ):
        ended = await outcome(server)
        assert (ended.mode, ended.outcome) == ("bridge", "connected")
        await hears_only(call, {"target"})


async def test_without_fallback_a_refused_refer_is_the_outcome() -> None:
    async with (
        target_phone() as target,
        phone(transferring(target, "blind", fallback=False), trunks=(OPEN,)) as server,
        phone(trunks=(OPEN,)) as caller,
        calling(caller, server) as call,
    ):
        ended = await outcome(server)
        assert (ended.mode, ended.outcome, ended.sip_code) == ("blind", "refused", 603)
        await hears_only(call, {"agent"})


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("status", "result"), [(486, "busy"), (603, "refused"), (404, "failed"), (480, "no_answer"), (503, "failed")]
)
async def test_when_nobody_takes_the_caller_he_is_back_with_the_agent(
    mode: TransferMode, status: int, result: str
) -> None:
    async with (
        Doorman([status]) as door,
        phone(transferring(door, mode), trunks=(OPEN,)) as server,
        phone(trunks=(WILLING,)) as caller,
        calling(caller, server) as call,
    ):
        ended = await outcome(server)
        assert (ended.mode, ended.outcome, ended.sip_code) == (mode, result, status)
        await hears_only(call, {"agent"})
        await hears_only(server.only_call, {"caller"})
    assert len(server.facts.of(TransferEnded)) == len(server.facts.of(TransferStarted)) == 1


@pytest.mark.parametrize("mode", OURSELVES)
async def test_who_does_not_answer_in_time_is_given_up(mode: TransferMode) -> None:
    async with (
        Doorman() as door,
        phone(transferring(door, mode, no_answer_s=0.3), trunks=(OPEN,)) as server,
        phone(trunks=(WILLING,)) as caller,
        calling(caller, server) as call,
    ):
        assert (await outcome(server)).outcome == "no_answer"
        await door.until("CANCEL")
        await hears_only(call, {"agent"})


@pytest.mark.parametrize("mode", OURSELVES)
async def test_a_target_that_is_not_there_is_told(mode: TransferMode) -> None:
    async with (
        phone(transferring("sip:nobody@127.0.0.1:9", mode), trunks=(OPEN,)) as server,
        phone(trunks=(WILLING,)) as caller,
        calling(caller, server) as call,
    ):
        assert (await outcome(server)).outcome == "failed"
        await hears_only(call, {"agent"})


@pytest.mark.parametrize("mode", MODES)
async def test_a_caller_who_hangs_up_meanwhile_leaves_nobody_behind(mode: TransferMode) -> None:
    async with (
        Doorman() as door,
        phone(transferring(door, mode), trunks=(OPEN,)) as server,
        phone(trunks=(WILLING,)) as caller,
        calling(caller, server) as call,
    ):
        await door.until("INVITE")
        caller.hang_up(call)
        assert (await outcome(server)).outcome == "abandoned"
        await door.until("CANCEL")
        await server.quiet()
    assert len(server.facts.of(LegEnded)) == len(server.facts.of(LegDialled))
    assert server.facts.of(CallEnded)[0].by == "caller"


async def test_a_target_that_hangs_up_ends_a_bridged_call() -> None:
    async with (
        target_phone() as target,
        phone(transferring(target, "bridge"), trunks=(OPEN,)) as server,
        phone(trunks=(OPEN,)) as caller,
        calling(caller, server),
    ):
        await outcome(server)
        target.hang_up(target.only_call)
        ended = await server.ended()
        assert (ended.by, ended.cause) == ("operator", "hangup")
        await caller.ended()


async def test_digits_of_the_caller_reach_the_operator() -> None:
    async with (
        target_phone() as target,
        phone(transferring(target, "bridge"), trunks=(OPEN,)) as server,
        phone(trunks=(OPEN,)) as caller,
        calling(caller, server) as call,
    ):
        await outcome(server)
        assert call.leg is not None
        call.leg.media.send_dtmf("42")
        assert await target.digits(2) == "42"


# ── warm ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("key", "result"), [("1", "connected"), ("2", "refused")])
async def test_the_operator_is_briefed_unheard_and_decides(key: str, result: str) -> None:
    async with (
        target_phone() as target,
        phone(transferring(target, "warm", briefing_agent=BRIEFER), trunks=(OPEN,)) as server,
        phone(trunks=(OPEN,)) as caller,
        calling(caller, server) as call,
    ):
        await server.facts.until(LegAnswered)
        await hears_only(target.only_call, {"briefer"})
        assert "briefer" not in await hears(call)
        leg = target.only_call.leg
        assert leg is not None
        leg.media.send_dtmf(key)
        assert (await outcome(server)).outcome == result
        if result == "connected":
            await hears_only(call, {"target"})
            await hears_only(target.only_call, {"caller"})
        else:
            await hears_only(call, {"agent"})
            await target.ended()


async def test_an_operator_who_hangs_up_does_not_take_the_call() -> None:
    async with (
        target_phone() as target,
        phone(transferring(target, "warm", briefing_agent=BRIEFER), trunks=(OPEN,)) as server,
        phone(trunks=(OPEN,)) as caller,
        calling(caller, server) as call,
    ):
        await server.facts.until(LegAnswered)
        target.hang_up(target.only_call)
        assert (await outcome(server)).outcome == "refused"
        await hears_only(call, {"agent"})


async def test_three_talk_until_the_operator_leaves() -> None:
    async with (
        target_phone() as target,
        phone(
            transferring(target, "warm", briefing_agent=BRIEFER, after_briefing="three_way"), trunks=(OPEN,)
        ) as server,
        phone(trunks=(OPEN,)) as caller,
        calling(caller, server) as call,
    ):
        await server.facts.until(LegAnswered)
        await only_call_of(target)
        leg = target.only_call.leg
        assert leg is not None
        leg.media.send_dtmf("1")
        assert (await outcome(server)).outcome == "connected"
        await hears_only(call, {"agent", "target"})
        await hears_only(target.only_call, {"agent", "caller"})
        target.hang_up(target.only_call)
        await server.facts.until(LegEnded)
        await hears_only(call, {"agent"})


# ── REFER from outside ───────────────────────────────────────────────────────────────────────────────────


async def test_a_refer_from_outside_is_refused_and_explained_unless_the_trunk_takes_it() -> None:
    """The caller's phone is the one referred here: its trunk refuses, and says so."""
    async with (
        target_phone() as target,
        phone(transferring(target, "blind", fallback=False), trunks=(OPEN,)) as server,
        phone(CALLER, trunks=(OPEN,)) as caller,
        calling(caller, server),
    ):
        await outcome(server)
        (told,) = [fact for fact in caller.facts.events if type(fact.fact).__name__ == "CallRefused"]
        assert "refer" in str(told.fact)
        assert "accept" in str(told.fact)
