"""All calls of a phone: when new ones are taken and when not, and how the last of them end."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace

import pytest
from tests.call.phones import PATIENCE_S, SILENT, RawPeer, TestPhone, phone, sdp
from tests.call.registrar import Registrar

from offhook.call.account_limits import AccountUsage, LimitsNow
from offhook.call.clearance import Clearance, DialRules
from offhook.call.destination_policy import DestinationPolicy
from offhook.call.dialling import PlaceCall
from offhook.model.call_events import CallAnswered, CallArrived, CallEnded, CallEvent, CallRefused, HoldChanged
from offhook.model.errors import ResourceExhaustedError
from offhook.model.records import AccountLimits, TransferDestination
from offhook.model.trunks import GatewayTrunk, RegisterTrunk
from offhook.sip.uri import SipUri

ARRIVED = CallArrived(direction="outbound", from_uri="", to_uri="", sip_call_id="", transport="UDP", remote_address="")

HERE = GatewayTrunk(trunk_id="here", peers=("127.0.0.1",))
ELSEWHERE = GatewayTrunk(trunk_id="elsewhere", peers=("192.0.2.1",))


async def asked(callee: TestPhone, method: str) -> str:
    """What a new request gets: the first line of the final response, and ``Retry-After`` where it has one."""
    peer = RawPeer()
    text = peer.invite(callee.address, sdp=sdp() if method == "INVITE" else "")
    peer.send(callee.address, text if method == "INVITE" else text.replace("INVITE", method))
    answer = (await peer.final_response()).split("\r\n")
    peer.close()
    return "; ".join([answer[0], *(line for line in answer if line.startswith("Retry-After"))])


async def up(caller: TestPhone, callee: TestPhone, number: int = 1) -> None:
    """So many more calls between the two."""
    before = [len(one.facts.of(CallAnswered)) for one in (caller, callee)]
    for _ in range(number):
        caller.call(callee)
    await caller.facts.until(CallAnswered, before[0] + number)
    await callee.facts.until(CallAnswered, before[1] + number)


# ── what hinders ─────────────────────────────────────────────────────────────────────────────────────────


async def test_new_calls_are_refused_as_long_as_anything_hinders(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "offhook.calls")
    async with phone(SILENT, max_calls=1) as callee, phone(SILENT) as caller:
        manager = callee.phone.manager
        await up(caller, callee)
        assert manager.hindrances == {"max_calls"}
        for _ in range(2):
            manager.hinder("store", True)
        caller.hang_up(caller.only_call)
        await callee.quiet()
        assert manager.hindrances == {"store"}
        assert await asked(callee, "INVITE") == "SIP/2.0 503 Service Unavailable; Retry-After: 5"
        assert await asked(callee, "OPTIONS") == "SIP/2.0 503 Service Unavailable; Retry-After: 5"
        for _ in range(2):
            manager.hinder("store", False)
        assert manager.hindrances == frozenset()
        assert await asked(callee, "OPTIONS") == "SIP/2.0 200 OK"
        await up(caller, callee)
        told = [record.message for record in caplog.records if record.name == "offhook.calls"]
    refused = "new calls are refused with 503: "
    expected = [f"{refused}max_calls", f"{refused}max_calls, store", f"{refused}store", "new calls are taken again"]
    assert told == [*expected, f"{refused}max_calls"]


async def test_no_call_is_placed_while_something_hinders_and_nothing_is_told_of_it() -> None:
    async with phone(SILENT) as caller:
        caller.phone.manager.hinder("store", True)
        with pytest.raises(ResourceExhaustedError, match="no new call is placed: store"):
            caller.phone.manager.place(PlaceCall(target=SipUri.parse("sip:a@127.0.0.1:9"), agent=SILENT))
        assert caller.facts.events == []


# ── draining ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_calls_run_out_and_no_new_one_comes() -> None:
    async with phone(SILENT) as callee, phone(SILENT) as caller:
        await up(caller, callee, 3)
        draining = asyncio.create_task(callee.phone.drain(PATIENCE_S))
        await asyncio.sleep(0)
        assert callee.phone.manager.hindrances == {"draining"}
        assert "503" in await asked(callee, "INVITE")
        assert "503" in await asked(callee, "OPTIONS")
        assert len(callee.facts.of(CallArrived)) == 3
        for call in tuple(caller.phone.manager.calls.values()):
            assert not draining.done()
            caller.hang_up(call)
        await draining
        assert [(one.cause, one.by) for one in callee.facts.of(CallEnded)] == [("hangup", "caller")] * 3
        assert callee.phone.manager.hindrances == {"draining"}


async def test_registrations_are_taken_back_at_once_and_not_made_again() -> None:
    async with Registrar() as pbx:
        extension = RegisterTrunk(
            trunk_id="pbx", server="127.0.0.1", port=pbx.address.port, username="200", password="secret"
        )
        async with phone(SILENT, trunks=(extension, HERE)) as callee, phone(SILENT) as caller:
            callee.phone.trunks.start()
            await pbx.registered("200")
            await up(caller, callee)
            draining = asyncio.create_task(callee.phone.drain(PATIENCE_S))
            await pbx.until(lambda: not pbx.contacts)
            call = caller.only_call
            assert call.phase == "up"
            caller.hang_up(call)
            await draining
        assert pbx.bindings() == ["200", "-200"]


async def test_draining_ends_when_it_is_time_and_the_calls_with_a_reason() -> None:
    async with phone(SILENT) as callee:
        peer = RawPeer()
        peer.send(callee.address, peer.invite(callee.address, sdp=sdp()))
        peer.send(callee.address, peer.ack(await peer.final_response(), callee.address))
        await callee.facts.until(CallAnswered)
        await callee.phone.drain(0.01)
        assert len(callee.phone.manager.calls) == 1
        closing = asyncio.create_task(callee.phone.manager.close())
        while not (bye := await peer.receive()).startswith("BYE"):
            pass
        assert '\r\nReason: SIP;cause=503;text="the server stops"\r\n' in bye
        kept = [line for line in bye.split("\r\n") if line.startswith(("Via", "From", "To", "Call-ID", "CSeq"))]
        peer.send(callee.address, "\n".join(["SIP/2.0 200 OK", *kept, "Content-Length: 0", "", ""]))
        await closing
        peer.close()
        ended = await callee.ended()
        assert (ended.by, ended.cause, ended.phase) == ("system", "shutdown", "up")


# ── trunks that change ───────────────────────────────────────────────────────────────────────────────────


async def test_a_call_outlives_its_trunk_and_nobody_else_comes_by_it() -> None:
    async with phone(SILENT, trunks=(HERE,)) as callee, phone(SILENT) as caller:
        await up(caller, callee)
        callee.phone.trunks.update([ELSEWHERE])
        peer = RawPeer()
        peer.send(callee.address, peer.invite(callee.address, sdp=sdp()))
        async with asyncio.timeout(PATIENCE_S):
            while not callee.phone.manager.rejections.counts["source that no trunk knows"]:  # noqa: ASYNC110 the core has no event for it
                await asyncio.sleep(0.01)
        peer.close()
        call = caller.only_call
        caller.phone.manager.hold(call.call_id, True)
        assert (await callee.facts.until(HoldChanged)).held
        caller.hang_up(call)
        await callee.ended()
        assert callee.facts.of(CallArrived)[0].trunk_id == "here"
        callee.phone.trunks.update([HERE])
        await up(caller, callee)


# ── what an account may use ──────────────────────────────────────────────────────────────────────────────


def limited(**limits: AccountLimits) -> tuple[AccountUsage, LimitsNow]:
    usage = AccountUsage(limits, price_of=lambda trunk_id: 0.0)
    return usage, LimitsNow(usage, time.time)


async def test_a_caller_of_an_account_at_its_limit_is_refused_with_480_and_others_are_not() -> None:
    usage, limits = limited(default=AccountLimits(max_calls=1))
    async with phone(SILENT, limits=limits) as callee, phone(SILENT) as caller:
        callee.facts.watch(usage.note)
        await up(caller, callee)
        assert await asked(callee, "INVITE") == "SIP/2.0 480 Temporarily Unavailable"
        refused = await callee.facts.until(CallRefused)
        assert (refused.status, refused.rule) == (480, "a limit of the account")
        assert refused.evidence == "account 'default' is at its max_calls: 1 of 1"
        ended = await callee.ended()
        assert (ended.cause, ended.sip_code, ended.by) == ("refused", 480, "system")
        assert callee.phone.manager.hindrances == frozenset()
        usage.use({})
        await up(caller, callee)


async def test_a_call_that_an_account_may_not_place_is_told_and_leaves_no_trace_on_the_wire() -> None:
    usage, limits = limited(acme=AccountLimits(max_calls=1))
    async with Registrar() as pbx, phone(SILENT, limits=limits) as caller:
        caller.facts.watch(usage.note)
        usage.note(
            CallEvent(call_id="other", leg_id="", seq=1, at=time.time(), fact=replace(ARRIVED, account_id="acme"))
        )
        target = SipUri.parse(f"sip:a@127.0.0.1:{pbx.address.port}")
        for account_id in ("acme", "default"):
            caller.phone.manager.place(PlaceCall(target=target, agent=SILENT, account_id=account_id))
        assert (await caller.facts.until(CallRefused)).rule == "a limit of the account"
        await caller.ended(2)
        assert [one.sip_code for one in caller.facts.of(CallEnded)] == [480, 486]
        assert pbx.methods().count("INVITE") == 1


# ── what is asked of a running call ──────────────────────────────────────────────────────────────────────


async def test_keys_are_pressed_in_a_call_that_is_up() -> None:
    async with phone(SILENT) as callee, phone(SILENT) as caller:
        manager = caller.phone.manager
        kept = caller.facts.hold_back()
        call = caller.call(callee)
        assert manager.press(call.call_id, "1") == "not_up"
        kept.set()
        await caller.facts.until(CallAnswered)
        await callee.facts.until(CallAnswered)
        assert manager.press(call.call_id, "42#") == "sent"
        assert await callee.digits(3) == "42#"
        caller.hang_up(call)
        await caller.ended()
        assert manager.press(call.call_id, "1") == "over"


async def test_more_keys_than_can_be_sent_are_not_taken() -> None:
    async with phone(SILENT) as callee, phone(SILENT) as caller:
        await up(caller, callee)
        call_id = caller.only_call.call_id
        pressed = [caller.phone.manager.press(call_id, "1" * 64) for _ in range(20)]
        assert pressed[0] == "sent"
        assert pressed[-1] == "not_taken"


async def test_who_may_not_be_called_gets_no_caller_and_the_call_has_it_on_record() -> None:
    clearance = Clearance(DialRules(policy=DestinationPolicy(deny=("+4930",))))
    async with phone(SILENT) as callee, phone(SILENT, clearance=clearance) as caller:
        await up(caller, callee)
        manager, call_id = caller.phone.manager, caller.only_call.call_id
        refused = manager.refuse_transfer(call_id, TransferDestination(name="", target="tel:+49-30-123456"))
        assert refused is not None
        assert "+4930" in refused.evidence
        told = await caller.facts.until(CallRefused)
        assert (told.status, told.rule) == (403, refused.rule)
        assert manager.refuse_transfer(call_id, TransferDestination(name="", target="+491701234567")) is None
        assert caller.only_call.phase == "up"


async def test_it_is_known_whether_a_transfer_is_under_way_and_whom_the_agent_knows() -> None:
    async with phone(SILENT) as callee, phone(SILENT) as caller, phone(SILENT) as operator:
        target = f"sip:bob@127.0.0.1:{operator.address.port}"
        bob = TransferDestination(name="bob", target=target, mode="bridge")
        call = caller.call(callee, replace(SILENT, destinations=(bob,)))
        await caller.facts.until(CallAnswered)
        manager = caller.phone.manager
        assert manager.destination(call.call_id, "bob") == bob
        assert manager.destination(call.call_id, "eve") is None
        assert not manager.is_transferring(call.call_id)
        assert manager.transfer(call.call_id, bob)
        await operator.facts.until(CallAnswered)
        assert manager.is_transferring(call.call_id)
        assert not manager.is_transferring("nobody")
