"""What is saved of a call's answered legs: as they change, without keys, until they are over."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import json
from collections.abc import Iterator
from typing import Any

import msgspec
from tests.call.exchange import OPEN, TARGET, Doorman, calling, outcome, target_phone, transferring
from tests.call.phones import PATIENCE_S, Facts, TestPhone, phone, scripted

from offhook.call.inbox import Hold
from offhook.call.saved_legs import NUMBERS_BETWEEN, LegSnapshot, _differs
from offhook.model.call_events import CallAnswered, CallEnded, CallRinging, HoldChanged, TurnSpoken
from offhook.model.trunks import CallRules, OpenTrunk

GREETER = scripted("greeter", greeting_tone_hz=1000, greeting_ms=100, greeting_text="hello")
SECURE = OpenTrunk(trunk_id="secure", rules=CallRules(srtp="required", srtp_without_tls=True))

MOST_BYTES = 2000


def read(saved: bytes) -> LegSnapshot:
    return msgspec.json.decode(saved, type=LegSnapshot)


def texts(value: Any) -> Iterator[str]:
    """Every text in what was saved, and what is hidden in it as base64."""
    match value:
        case dict():
            for one in value.values():
                yield from texts(one)
        case list():
            for one in value:
                yield from texts(one)
        case str():
            yield value
            with contextlib.suppress(binascii.Error):
                yield base64.b64decode(value, validate=True).decode("latin-1")


async def until_saved(facts: Facts, number: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while len(facts.saves) < number:  # noqa: ASYNC110 the sink has no event for it
            await asyncio.sleep(0.005)


async def up(caller: TestPhone, callee: TestPhone) -> None:
    await callee.facts.until(TurnSpoken)
    await caller.facts.until(CallAnswered)


async def test_an_answered_leg_is_saved_on_both_sides_until_it_is_over() -> None:
    async with phone(GREETER) as callee, phone() as caller:
        call = caller.call(callee)
        await up(caller, callee)
        for side in (caller, callee):
            ((leg_id, saved),) = side.facts.legs_of(side.only_call.call_id).items()
            assert leg_id == "leg-1"
            assert len(saved) <= MOST_BYTES
            assert read(saved).dialog["state"] == "CONFIRMED"
            assert read(saved).answered_at > 0
        assert read(saved).direction == "inbound"
        caller.hang_up(call)
        await caller.over(call)
        await callee.ended()
        await callee.quiet()
    for side in (caller, callee):
        assert side.facts.legs == {}
        assert [leg_id for leg_id, saved in side.facts.saves if saved is None] == ["leg-1"]


async def test_the_last_of_a_leg_is_told_before_the_end_of_its_call() -> None:
    async with phone(GREETER) as callee, phone() as caller:
        left: list[int] = []
        callee.facts.watch(lambda event: left.append(len(callee.facts.legs)) if is_end(event.fact) else None)
        call = caller.call(callee)
        await up(caller, callee)
        caller.hang_up(call)
        await callee.ended()
    assert left == [0]


def is_end(fact: object) -> bool:
    return isinstance(fact, CallEnded)


async def test_a_call_that_is_not_answered_saves_nothing() -> None:
    async with phone(scripted(open_after_ms=3000)) as callee, phone() as caller:
        call = caller.call(callee)
        await caller.facts.until(CallRinging)
        caller.hang_up(call)
        await caller.over(call)
        await callee.ended()
    assert (caller.facts.saves, callee.facts.saves) == ([], [])


async def test_a_leg_is_saved_anew_when_its_session_changes() -> None:
    async with phone(GREETER) as callee, phone() as caller:
        call = caller.call(callee)
        await up(caller, callee)
        before = [read(side.facts.legs_of(side.only_call.call_id)["leg-1"]) for side in (caller, callee)]
        call.deliver(Hold(wanted=True))
        await callee.facts.until(HoldChanged)
        await until_saved(caller.facts, 2)
        after = [read(side.facts.legs_of(side.only_call.call_id)["leg-1"]) for side in (caller, callee)]
        assert after[0].version == before[0].version + 1
        assert after[1].version == before[1].version + 1
        caller.hang_up(call)
        await caller.over(call)


async def test_the_second_party_of_a_transfer_is_saved_too() -> None:
    async with target_phone(TARGET) as target, phone() as caller:
        async with phone(transferring(target, "bridge"), trunks=(OPEN,)) as server, calling(caller, server):
            await outcome(server)
            await target.facts.until(CallAnswered)
            legs = server.facts.legs_of(server.only_call.call_id)
            assert set(legs) == {"leg-1", "leg-2"}
            assert [read(saved).direction for _, saved in sorted(legs.items())] == ["inbound", "outbound"]
        assert server.facts.legs == {}


async def test_no_key_is_ever_written_down() -> None:
    """Not in the session description, not in our 200, and not as base64."""
    async with phone(GREETER, trunks=(SECURE,)) as callee, phone(trunks=(SECURE,)) as caller:
        caller.call(callee, trunk=SECURE)
        await up(caller, callee)
        for side in (caller, callee):
            saved = [saved for _, saved in side.facts.saves if saved is not None]
            assert saved
            assert all(read(one).secure for one in saved)
            snapshot = side.phone.manager.snapshot(side.only_call.call_id)
            saved.append(msgspec.json.encode(snapshot))
            found = "\n".join(text for one in saved for text in texts(json.loads(one))).lower()
            assert "call-id: " in found, "nothing was looked at"
            assert not any(word in found for word in ("inline:", "a=crypto"))


async def test_requests_in_a_row_are_saved_now_and_then() -> None:
    """A call that presses keys by INFO does not write to the disk at each of them."""
    async with phone(GREETER) as callee, phone() as caller:
        call = caller.call(callee)
        await up(caller, callee)
        saved = read(caller.facts.legs_of(call.call_id)["leg-1"])
        caller.hang_up(call)
        await caller.over(call)

    def later(local: int, remote: int = 0) -> LegSnapshot:
        dialog = saved.dialog["dialog"]
        moved = {**dialog, "local_cseq": dialog["local_cseq"] + local, "remote_cseq": remote}
        return msgspec.structs.replace(saved, dialog={**saved.dialog, "dialog": moved})

    assert _differs(None, saved)
    assert not _differs(saved, saved)
    assert not _differs(saved, later(NUMBERS_BETWEEN - 1, remote=700))
    assert _differs(saved, later(NUMBERS_BETWEEN))
    assert _differs(saved, msgspec.structs.replace(saved, remote_port=1))


async def test_a_leg_that_was_refused_is_not_saved() -> None:
    async with phone() as caller, Doorman((486,)) as door:
        await caller.over(caller.call(door.address))
    assert caller.facts.saves == []
