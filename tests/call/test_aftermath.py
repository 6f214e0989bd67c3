"""What a process that died left behind: every party gets its BYE, every call its one end."""

from __future__ import annotations

import asyncio
import time
from contextlib import closing
from dataclasses import replace

import msgspec
import pytest
from tests.call.exchange import OPEN, TARGET, Doorman, target_phone, transferring
from tests.call.phones import NARROW, RawPeer, TestPhone, phone, scripted, sdp
from tests.call.test_saved_legs import until_saved

from offhook.call import aftermath
from offhook.call.saved_legs import LegSnapshot
from offhook.model.call_events import CallAnswered, CallEnded, TransferEnded, TurnSpoken
from offhook.model.records import UnfinishedCall
from offhook.model.trunks import OpenTrunk

GREETER = scripted("greeter", greeting_tone_hz=1000, greeting_ms=100, greeting_text="hello")
DEAR = OpenTrunk(trunk_id="dear", rules=replace(NARROW.rules, price_per_min=6.0))


def left_by(dead: TestPhone) -> list[UnfinishedCall]:
    """What the store knows of its calls: their facts so far, and their saved legs."""
    left = []
    for call_id in dict.fromkeys(event.call_id for event in dead.facts.events):
        events = [event for event in dead.facts.events if event.call_id == call_id]
        answered = [event.at for event in events if isinstance(event.fact, CallAnswered)]
        left.append(
            UnfinishedCall(
                call_id=call_id,
                account_id="default",
                last_seq=events[-1].seq,
                last_at=events[-1].at,
                phase="up" if answered else "ringing",
                answered_at=answered[0] if answered else None,
                legs=dead.facts.legs_of(call_id),
            )
        )
    return left


async def settled(survivor: TestPhone, *lost: UnfinishedCall) -> list[CallEnded]:
    """What became of the calls; nothing of them is left in the survivor."""
    await survivor.phone.manager.end_lost(lost)
    await survivor.quiet()
    assert survivor.facts.names() == ["CallEnded"] * len(lost)
    return survivor.facts.of(CallEnded)


@pytest.mark.parametrize("dies", ["callee", "caller"])
@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
async def test_whoever_still_waits_gets_a_bye_and_the_call_its_end(dies: str, tcp: bool) -> None:
    async with phone(GREETER) as peer, phone(GREETER) as survivor:
        async with phone(GREETER, teardown_s=0.05) as dying:
            (peer if dies == "callee" else dying).call(dying if dies == "callee" else peer, GREETER, tcp=tcp)
            for side in (peer, dying):
                await side.facts.until(TurnSpoken)
            (lost,) = left_by(dying)
            await dying.drop_dead()
            (ended,) = await settled(survivor, lost)
        peer_ended = await peer.ended()
        await peer.quiet()
    assert (ended.by, ended.cause, ended.phase) == ("system", "server_lost", "up")
    assert ended.duration_ms == round((lost.last_at - (lost.answered_at or 0)) * 1000)
    assert (survivor.facts.events[0].call_id, survivor.facts.events[0].seq) == (lost.call_id, lost.last_seq + 1)
    assert [saved for _, saved in survivor.facts.saves] == [None]
    assert peer_ended.cause == "hangup"


async def test_the_bye_comes_far_above_what_was_saved_and_says_why() -> None:
    async with Doorman((200,)) as door, phone() as survivor:
        async with phone(teardown_s=0.05) as dying:
            call = dying.call(door.address)
            await dying.facts.until(CallAnswered)
            await door.until("ACK")
            (lost,) = left_by(dying)
            saved = msgspec.json.decode(lost.legs["leg-1"], type=LegSnapshot)
            await dying.drop_dead()
            await settled(survivor, lost)
            await door.until("BYE")
        bye = door.messages[-1]
        assert f"CSeq: {saved.dialog['dialog']['local_cseq'] + 101} BYE" in bye
        assert 'Reason: SIP;cause=503;text="the server failed"' in bye
        assert call.call_id == lost.call_id


async def test_a_party_whose_name_is_not_utf_8_gets_a_bye_with_the_same_octets() -> None:
    """Illegal and common: older telephones write Latin-1."""
    name = b'"Jos\xe9 \xff" '.decode("utf-8", "surrogateescape")
    with closing(RawPeer()) as raw_peer:
        async with phone() as survivor:
            async with phone(GREETER, teardown_s=0.05) as dying:
                invite = raw_peer.invite(dying.address, sdp=sdp()).replace("From: ", f"From: {name}")
                raw_peer.send(dying.address, invite)
                raw_peer.send(dying.address, raw_peer.ack(await raw_peer.final_response(), dying.address))
                await until_saved(dying.facts, 2)  # the ACK came: else the BYE waits for it
                (lost,) = left_by(dying)
                await dying.drop_dead()
            end = asyncio.create_task(survivor.phone.manager.end_lost([lost]))
            while not (bye := await raw_peer.receive()).startswith("BYE "):
                pass
            raw_peer.send(survivor.address, raw_peer.ok(bye))
            await end
    assert f"\r\nTo: {name}<sip:raw@" in bye


async def test_both_parties_of_a_bridged_call_are_hung_up() -> None:
    async with target_phone(TARGET) as target, phone(GREETER) as caller, phone() as survivor:
        async with phone(transferring(target, "bridge"), trunks=(OPEN,), teardown_s=0.05) as dying:
            caller.call(dying, GREETER, trunk=OPEN)
            await dying.facts.until(TransferEnded)
            await target.facts.until(CallAnswered)
            (lost,) = left_by(dying)
            assert len(lost.legs) == 2
            await drop_dead(dying)
            await settled(survivor, lost)
        for party in (target, caller):
            assert (await party.ended()).cause == "hangup"
            await party.quiet()


async def drop_dead(dying: TestPhone) -> None:
    for call in dying.phone.manager.calls.values():
        for leg in call.legs.values():
            leg.media.close()
    await dying.drop_dead()


async def test_who_hung_up_meanwhile_answers_481_and_costs_no_time() -> None:
    async with phone(GREETER) as survivor, phone(GREETER) as peer:
        async with phone(GREETER, teardown_s=0.05) as dying:
            call = peer.call(dying)
            await dying.facts.until(TurnSpoken)
            await peer.facts.until(CallAnswered)
            (lost,) = left_by(dying)
            await dying.drop_dead()
        peer.hang_up(call)
        await peer.over(call)
        began_at = time.monotonic()
        await settled(survivor, lost)
        assert time.monotonic() - began_at < aftermath.ANSWERS_S / 2


async def test_who_is_not_there_is_waited_for_but_not_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aftermath, "ANSWERS_S", 0.2)
    async with phone() as survivor:
        async with Doorman((200,)) as door, phone(teardown_s=0.05) as dying:
            dying.call(door.address)
            await dying.facts.until(CallAnswered)
            (lost,) = left_by(dying)
            await dying.drop_dead()
        many = [replace(lost, call_id=f"lost-{number}") for number in range(20)]
        async with asyncio.timeout(3):
            await survivor.phone.manager.end_lost(many)
        assert len(survivor.facts.of(CallEnded)) == 20


async def test_a_call_that_was_never_answered_only_gets_its_end() -> None:
    lost = UnfinishedCall(call_id="c", account_id="acme", last_seq=2, last_at=time.time(), phase="ringing")
    async with phone() as survivor:
        (ended,) = await settled(survivor, lost)
    assert (ended.phase, ended.cause, ended.duration_ms, ended.spend) == ("ringing", "server_lost", 0, 0.0)


async def test_a_leg_that_was_left_over_by_a_call_with_an_end_gives_it_no_other() -> None:
    async with phone(GREETER) as peer, phone() as survivor:
        async with phone(GREETER, teardown_s=0.05) as dying:
            peer.call(dying)
            await dying.facts.until(TurnSpoken)
            await peer.facts.until(CallAnswered)
            (lost,) = left_by(dying)
            await dying.drop_dead()
            await survivor.phone.manager.end_lost([replace(lost, phase="ended")])
        assert (await peer.ended()).cause == "hangup"
        assert (survivor.facts.names(), survivor.facts.saves) == ([], [("leg-1", None)])


async def test_a_call_that_lives_here_is_not_lost() -> None:
    async with phone(GREETER) as callee, phone() as caller:
        call = caller.call(callee)
        await callee.facts.until(TurnSpoken)
        await caller.facts.until(CallAnswered)
        await callee.phone.manager.end_lost(left_by(callee))
        assert callee.only_call.phase == "up"
        caller.hang_up(call)
        await caller.over(call)
        assert [ended.cause for ended in callee.facts.of(CallEnded)] in ([], ["hangup"])


@pytest.mark.parametrize("broken", [b"", b"{", b"[]", b'{"direction": "inbound"}', b"\xff\xfe"])
async def test_what_was_saved_badly_is_logged_and_the_call_ends(
    broken: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    lost = UnfinishedCall(
        call_id="c", account_id="a", last_seq=9, last_at=2.0, phase="up", answered_at=1.0, legs={"leg-1": broken}
    )
    async with phone() as survivor:
        (ended,) = await settled(survivor, lost)
    assert ended.duration_ms == 1000
    assert "leg leg-1 of call c cannot be hung up" in caplog.text


async def test_a_dialog_that_was_saved_badly_is_logged_and_the_call_ends(caplog: pytest.LogCaptureFixture) -> None:
    saved = LegSnapshot(
        direction="inbound",
        dialog={"version": 7},
        transport="UDP",
        remote_host="127.0.0.1",
        remote_port=9,
        session_id=1,
        version=1,
    )
    legs = {"leg-1": msgspec.json.encode(saved)}
    lost = UnfinishedCall(call_id="c", account_id="a", last_seq=9, last_at=2.0, phase="up", answered_at=1.0, legs=legs)
    async with phone() as survivor:
        await settled(survivor, lost)
    assert "no BYE to 127.0.0.1:9: not a snapshot of a usage" in caplog.text


# ── what calls cost ──────────────────────────────────────────────────────────────────────────────────────


async def test_a_call_of_ours_costs_its_trunks_price_and_one_that_came_costs_nothing() -> None:
    async with phone(GREETER, trunks=(OPEN,)) as callee, phone(trunks=(DEAR,)) as caller:
        call = caller.call(callee, trunk=DEAR)
        await callee.facts.until(TurnSpoken)
        await caller.facts.until(CallAnswered)
        leg = call.leg
        caller.hang_up(call)
        await caller.over(call)
        ended = await caller.ended()
        assert (await callee.ended()).spend == 0
    assert leg is not None
    assert ended.spend == pytest.approx(((leg.over_at or 0) - (leg.answered_at or 0)) / 60 * 6.0)
    assert ended.spend > 0


async def test_a_lost_call_costs_what_it_lasted_as_far_as_is_known() -> None:
    async with phone(GREETER) as peer, phone(trunks=(DEAR,)) as survivor:
        async with phone(trunks=(DEAR,), teardown_s=0.05) as dying:
            dying.call(peer, trunk=DEAR)
            await peer.facts.until(TurnSpoken)
            await dying.facts.until(CallAnswered)
            (lost,) = left_by(dying)
            await dying.drop_dead()
            saved = msgspec.json.decode(lost.legs["leg-1"], type=LegSnapshot)
            (ended,) = await settled(survivor, replace(lost, last_at=saved.answered_at + 90))
        await peer.ended()
    assert ended.spend == pytest.approx(9.0)
