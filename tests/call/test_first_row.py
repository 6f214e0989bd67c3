"""Nothing rings, and no INVITE of ours leaves, before the call's first fact is on disk."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.call.exchange import Doorman
from tests.call.phones import SILENT, RawPeer, TestPhone, phone, scripted, sdp

from offhook.call import first_row
from offhook.call.inbox import HangUp
from offhook.model.call_events import CallAnswered, CallArrived, CallEnded, CallRefused, CallRinging, WayTaken
from offhook.model.records import TransferDestination
from offhook.sip.events import Address

GOODBYE = HangUp(by="agent", cause="cancelled")
AGENT = scripted("agent", greeting_tone_hz=800, greeting_ms=100)

QUIET_S = 0.15
"""A call on loopback is answered in a tenth of this."""

MOST_ROUNDS = 5


@contextmanager
def invited(callee: TestPhone, *, user: str = "demo") -> Iterator[RawPeer]:
    """A peer that sent its INVITE."""
    peer = RawPeer()
    peer.send(callee.address, peer.invite(callee.address, sdp=sdp(port=peer.address.port), user=user))
    try:
        yield peer
    finally:
        peer.close()


async def hears_nothing(peer: RawPeer) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(QUIET_S):
            raise AssertionError(await peer.receive())


def cancel(peer: RawPeer, target: Address) -> str:
    text = peer.invite(target).replace("INVITE", "CANCEL")
    return text.replace(f"Contact: <sip:raw@{peer.address.host}:{peer.address.port}>\n", "")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_row, "KEPT_DEADLINE_S", 0.05)


# ── calls that come in ───────────────────────────────────────────────────────────────────────────────────


async def test_a_call_that_comes_in_rings_when_it_is_on_disk() -> None:
    """Its agent is ready long before: the call is answered in the same moment."""
    async with phone(AGENT) as callee:
        let_go = callee.facts.hold_back()
        with invited(callee) as peer:
            assert (await peer.receive()).startswith("SIP/2.0 100")
            await hears_nothing(peer)
            assert callee.only_call.phase == "resolving"
            let_go.set()
            assert (await peer.receive()).startswith("SIP/2.0 180")
            assert (await peer.receive()).startswith("SIP/2.0 200")


async def test_a_call_whose_agent_is_slow_rings_at_once() -> None:
    async with phone(scripted(open_after_ms=5000)) as callee:
        with invited(callee) as peer:
            assert (await peer.receive()).startswith("SIP/2.0 100")
            assert (await peer.receive()).startswith("SIP/2.0 180")
            await hears_nothing(peer)


async def test_a_refusal_waits_for_nothing() -> None:
    async with phone() as callee:
        callee.facts.hold_back()
        with invited(callee, user="nobody") as peer:
            assert (await peer.final_response()).startswith("SIP/2.0 404")
        await callee.quiet()


async def test_a_provider_that_fails_while_we_wait_refuses_the_call() -> None:
    async with phone(scripted(open_fault="no such key")) as callee:
        callee.facts.hold_back()
        with invited(callee) as peer:
            assert (await peer.final_response()).startswith("SIP/2.0 480")
        assert (await callee.ended()).phase == "resolving"
        await callee.quiet()


async def test_a_caller_who_gives_up_while_we_wait_is_recorded() -> None:
    async with phone(AGENT) as callee:
        let_go = callee.facts.hold_back()
        with invited(callee) as peer:
            await callee.facts.until(CallArrived)
            peer.send(callee.address, cancel(peer, callee.address))
            ended = await callee.ended()
            assert (ended.by, ended.cause, ended.phase, ended.sip_code) == ("caller", "cancelled", "resolving", 487)
            assert "SIP/2.0 487" in {(await peer.final_response())[:11] for _ in range(2)}
        let_go.set()
        await callee.quiet()
        assert callee.facts.names() == ["CallArrived", "CallEnded"]


async def test_a_server_that_stops_while_a_call_waits_refuses_it() -> None:
    async with phone(AGENT) as callee:
        callee.facts.hold_back()
        with invited(callee) as peer:
            await callee.facts.until(CallArrived)
            await callee.phone.manager.close()
            assert (await peer.final_response()).startswith("SIP/2.0 480")
        assert (await callee.ended()).cause == "shutdown"


@pytest.mark.usefixtures("impatient")
async def test_a_call_that_cannot_be_kept_is_refused_and_explained() -> None:
    async with phone(AGENT) as callee:
        callee.facts.hold_back()
        with invited(callee) as peer:
            refusal = await peer.final_response()
            assert refusal.startswith("SIP/2.0 503")
            assert "Retry-After: 5" in refusal
        ended = await callee.ended()
        assert (ended.by, ended.cause, ended.phase, ended.sip_code) == ("system", "refused", "resolving", 503)
        (refused,) = callee.facts.of(CallRefused)
        assert refused.evidence == "the call was not on disk within 0.05 s"
        assert "database" in refused.fix
        await callee.quiet()


async def test_a_store_that_breaks_refuses_the_call(caplog: pytest.LogCaptureFixture) -> None:
    async def broken() -> None:
        raise RuntimeError("disk I/O error")

    async with phone(AGENT) as callee:
        callee.facts.disk = broken
        with invited(callee) as peer:
            assert (await peer.final_response()).startswith("SIP/2.0 503")
        await callee.quiet()
        assert callee.facts.of(CallRefused)[0].evidence == "the store failed: RuntimeError"
    assert "could not be kept" in caplog.text
    caplog.clear()


# ── calls of ours ────────────────────────────────────────────────────────────────────────────────────────


async def test_a_call_of_ours_leaves_when_it_is_on_disk() -> None:
    async with phone() as caller, Doorman((486,)) as door:
        let_go = caller.facts.hold_back()
        call = caller.call(door.address)
        await asyncio.sleep(QUIET_S)
        assert door.received == []
        let_go.set()
        await caller.over(call)
        assert door.received == ["INVITE", "ACK"]


async def test_a_call_of_ours_that_is_given_up_before_never_leaves() -> None:
    async with phone() as caller:
        peer = RawPeer()
        let_go = caller.facts.hold_back()
        call = caller.call(peer.address)
        await caller.facts.until(CallArrived)
        call.deliver(GOODBYE)
        await caller.over(call)
        let_go.set()
        await hears_nothing(peer)
        peer.close()
        assert caller.facts.names() == ["CallArrived", "CallEnded"]
        await caller.quiet()


@pytest.mark.usefixtures("impatient")
async def test_a_call_of_ours_that_cannot_be_kept_never_leaves() -> None:
    async with phone() as caller:
        peer = RawPeer()
        caller.facts.hold_back()
        await caller.over(caller.call(peer.address))
        await hears_nothing(peer)
        peer.close()
        ended = await caller.ended()
        assert (ended.by, ended.cause, ended.sip_code) == ("system", "refused", 503)
        assert caller.facts.of(CallRefused)[0].status == 503
        await caller.quiet()


async def test_a_second_party_is_called_without_another_wait() -> None:
    """The call is on disk already; its transfer's leg is a part of it."""
    async with phone(SILENT) as callee, phone() as caller, Doorman((200,)) as door:
        call = caller.call(callee)
        await caller.facts.until(CallAnswered)
        caller.facts.hold_back()
        target = f"sip:door@{door.address.host}:{door.address.port}"
        caller.phone.manager.transfer(call.call_id, TransferDestination(name="", target=target, mode="bridge"))
        await door.until("ACK")
        caller.hang_up(call)
        await caller.over(call)
        await caller.quiet()


# ── at random ────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_caller_may_give_up_at_every_moment_of_the_wait() -> None:
    """Both sides' disks are slow, and callers impatient: none is heard of too early, each ends once, nothing stays."""
    moments = random.Random(2052)
    calls, rounds = 40, 0
    whole = {"resolving", "ringing", "up"}

    async def disk() -> None:
        await asyncio.sleep(moments.uniform(0, 0.12))

    agent = scripted(greeting_tone_hz=800, greeting_ms=100, open_after_ms=200)
    async with phone(agent, max_calls=calls) as callee, phone(max_calls=calls) as caller:
        callee.facts.disk = caller.facts.disk = disk

        async def one(delay_s: float) -> None:
            call = caller.call(callee)
            await asyncio.wait({asyncio.create_task(caller.over(call))}, timeout=delay_s)
            call.deliver(GOODBYE)
            await caller.over(call)

        # Again where a busy machine was too slow for one of the phases to be met, and with more patience.
        while (phases := {ended.phase for ended in callee.facts.of(CallEnded)}) != whole and rounds < MOST_ROUNDS:
            rounds += 1
            await asyncio.gather(*(one(moments.uniform(0, 0.4 * rounds)) for _ in range(calls)))
            await caller.quiet()
            await callee.quiet()
        assert phases == whole, "the moments were not spread over the whole wait"
        assert len(caller.facts.of(CallEnded)) == rounds * calls
        assert len(callee.facts.of(CallEnded)) == len(callee.facts.of(CallArrived))
        assert (caller.facts.too_early, callee.facts.too_early) == ([], [])
        assert callee.facts.of(CallRinging)
        assert len(caller.facts.of(WayTaken)) < rounds * calls
        assert (caller.facts.legs, callee.facts.legs) == ({}, {})
