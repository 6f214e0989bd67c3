"""Calls hung up at every moment by either side, many at once, where everything that is left over can be seen."""

from __future__ import annotations

import asyncio
import random

import pytest
from tests.call.phones import NOTHING_LEFT, TestPhone, phone, scripted

from offhook.call.inbox import HangUp, InboxFact, SipFact
from offhook.model.call_events import CallArrived, CallEnded
from offhook.sip.events import AnswerReceived

SLOW = scripted("slow", open_after_ms=60)
STEP_S = 0.01
MOMENTS = 16
"""Up to 160 ms: before the first packet left, while it rings, around the answer, well after it."""

GIVE_UP = HangUp(by="agent", cause="cancelled")
TRANSACTIONS_RUN_OUT_S = 64.0


async def hang_up_at_every_moment(callee: TestPhone, caller: TestPhone, *, at_once: int, rng: random.Random) -> None:
    """``at_once`` calls for each moment, ended there by one of the two sides."""

    async def one_call(after_s: float) -> None:
        call = caller.call(callee)
        await asyncio.sleep(after_s)  # the moment is what is tested
        theirs = tuple(callee.phone.manager.calls.values())
        rng.choice([call, call, *theirs]).deliver(GIVE_UP)
        call.deliver(GIVE_UP)
        await caller.over(call)

    for moment in range(MOMENTS):
        await asyncio.gather(*(one_call((moment + rng.random()) * STEP_S) for _ in range(at_once)))


async def assert_all_over(one: TestPhone) -> None:
    """Every call that came has ended once, and holds nothing any more."""
    await one.quiet()
    arrived = [event.call_id for event in one.facts.events if isinstance(event.fact, CallArrived)]
    ended = [event.call_id for event in one.facts.events if isinstance(event.fact, CallEnded)]
    assert sorted(arrived) == sorted(ended)
    assert {fact.cause for fact in one.facts.of(CallEnded)} <= {"cancelled", "hangup", "refused"}


@pytest.mark.parametrize("seed", [1, 2])
async def test_calls_hung_up_at_every_moment_leave_no_task(seed: int) -> None:
    before = asyncio.all_tasks()
    async with phone(SLOW) as callee, phone() as caller:
        await hang_up_at_every_moment(callee, caller, at_once=2, rng=random.Random(seed))
        await assert_all_over(caller)
        await assert_all_over(callee)
        assert len(caller.facts.of(CallEnded)) == 2 * MOMENTS
        assert asyncio.all_tasks() == before


async def test_hanging_up_while_the_answer_waits_to_be_heard_leaves_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """The core has acknowledged the 200 already: a CANCEL comes too late, only BYE ends it."""
    async with phone(SLOW) as callee, phone() as caller:
        call = caller.call(callee)
        deliver = call.deliver

        def hang_up_first(fact: InboxFact) -> None:
            if isinstance(fact, SipFact) and isinstance(fact.event, AnswerReceived):
                deliver(GIVE_UP)
            deliver(fact)

        monkeypatch.setattr(call, "deliver", hang_up_first)
        await caller.over(call)
        await assert_all_over(caller)
        await assert_all_over(callee)
    assert [fact.by for fact in callee.facts.of(CallEnded)] == ["caller"]


@pytest.mark.soak
async def test_ten_callers_at_once_hang_up_at_every_moment() -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    before = asyncio.all_tasks()
    async with phone(SLOW, max_calls=200) as callee, phone(max_calls=200) as caller:
        await hang_up_at_every_moment(callee, caller, at_once=6, rng=random.Random(seed))
        await assert_all_over(caller)
        await assert_all_over(callee)
        assert asyncio.all_tasks() == before
        await asyncio.sleep(TRANSACTIONS_RUN_OUT_S)
        for one in (caller, callee):
            assert one.left_over == NOTHING_LEFT
            assert set(one.phone.endpoint.user_agent.counts().values()) == {0}
