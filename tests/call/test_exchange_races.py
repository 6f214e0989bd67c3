"""What a clumsy or hostile network does to a call whose people change: nothing breaks, and it is told how it ended."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from tests.call.exchange import (
    AGENT_HZ,
    BRIEFER,
    CALLER,
    OPEN,
    SLOW_TARGET,
    USE,
    WILLING,
    Doorman,
    calling,
    dying,
    hears_no_more,
    hears_only,
    humming,
    outcome,
    target_phone,
    transferring,
)
from tests.call.phones import NARROW, SILENT, RawPeer, phone, scripted, sdp
from tests.call.transferee import Accept, Bye, Pause, Pbx, Step, Tell

from offhook.call import redirection
from offhook.call.inbox import Hold
from offhook.call.negotiation import Negotiation
from offhook.call.session import CallSession
from offhook.model.audio import Encoding
from offhook.model.call_events import (
    CallAnswered,
    CallEnded,
    DigitReceived,
    HoldChanged,
    LegAnswered,
    LegDialled,
    LegEnded,
    PartyReplaced,
    TransferEnded,
    TransferMode,
    TransferStarted,
)
from offhook.model.records import Agent, TransferDestination
from offhook.model.trunks import CallRules, OpenTrunk

HUMMING = humming("agent", AGENT_HZ)
TAKING = scripted("taking", steps=[{"after_ms": 100, "do": [{"do": "use_tool", "name": "accept_transfer"}]}])
REPLACES = "Supported: replaces\nAllow: INVITE, ACK, BYE, CANCEL, REFER, NOTIFY\n"


# ── the operator ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("mode", ["attended", "bridge", "warm"])
async def test_a_target_that_hangs_up_in_the_moment_it_answers(mode: TransferMode) -> None:
    async with (
        Doorman([200], hangs_up=True) as door,
        phone(transferring(door, mode), trunks=(OPEN,)) as server,
        phone(trunks=(WILLING,)) as caller,
        calling(caller, server),
    ):
        assert (await outcome(server)).outcome == ("refused" if mode == "warm" else "connected")
        if mode != "warm":
            assert (await server.ended()).by == "operator"
    assert len(server.facts.of(TransferEnded)) == len(server.facts.of(LegEnded)) == 1


async def test_a_caller_is_not_joined_with_an_operator_who_left() -> None:
    """The caller's side refuses to take the call to the operator over, who has not waited for that."""
    async with (
        Doorman([200]) as door,
        phone(transferring(door, "attended"), trunks=(OPEN,)) as server,
        Pbx(Pause(0.5), Accept(status=603)) as pbx,
    ):
        await pbx.call(server.address, REPLACES)
        await pbx.until("REFER")
        door.request("BYE")
        assert (await outcome(server)).outcome == "refused"
        assert not server.facts.of(CallEnded)
        pbx.request("BYE")
        await server.quiet()


@pytest.mark.parametrize(("briefer", "result"), [(BRIEFER, "refused"), (TAKING, "connected")])
async def test_an_operator_whose_audio_never_comes_is_let_go(briefer: Agent, result: str) -> None:
    """In a briefing he has declined by that; in a talk of three the others go on, and another may be called."""
    async with (
        Doorman([200, 486]) as door,
        phone(SILENT, trunks=(OPEN,), media_timeout_s=1.0) as server,
        phone(trunks=(OPEN,)) as caller,
        calling(caller, server),
    ):
        agent = transferring(door, "warm", briefing_agent=briefer, after_briefing="three_way")
        call = server.only_call
        server.phone.manager.transfer(call.call_id, agent.destinations[0])
        await server.facts.until(LegEnded)
        assert (await outcome(server)).outcome == result
        assert call.wiring is not None
        assert (call.wiring.seating.stage, call.wiring.seating.operator) == ("talking", None)
        server.phone.manager.transfer(call.call_id, agent.destinations[0])
        assert (await server.facts.until(TransferEnded, 2)).outcome == "busy"


async def test_an_operator_is_not_kept_waiting_for_a_briefer_that_died() -> None:
    async with (
        target_phone() as target,
        phone(transferring(target, "warm", briefing_agent=dying(BRIEFER)), trunks=(OPEN,)) as server,
        phone(trunks=(OPEN,)) as caller,
        calling(caller, server) as call,
    ):
        assert (await outcome(server)).outcome == "connected"
        await hears_only(call, {"target"})


async def test_what_an_operator_plays_before_he_answers_is_heard_in_its_codec() -> None:
    loud = OpenTrunk(trunk_id="loud", rules=CallRules(early_media=True))
    async with (
        phone(humming("target", 1300, rings_ms=4000), trunks=(loud,)) as target,
        phone(transferring(target, "bridge"), trunks=(OPEN,)) as server,
        phone(trunks=(NARROW,)) as caller,
        calling(caller, server, trunk=NARROW) as call,
    ):
        await server.facts.until(LegDialled)
        await asyncio.sleep(0.5)
        await hears_only(call, {"ringing"})
        await server.facts.until(LegAnswered)
        await hears_only(call, {"target"})
    await target.quiet()


async def test_more_keys_than_can_be_sent_break_nothing() -> None:
    async with (
        target_phone() as target,
        phone(transferring(target, "bridge"), trunks=(OPEN,)) as server,
        phone(trunks=(OPEN,)) as caller,
        calling(caller, server) as call,
    ):
        await outcome(server)
        assert call.leg is not None
        for _ in range(160):
            call.leg.send_info("application/dtmf-relay", b"Signal=5\r\nDuration=100\r\n")
            await asyncio.sleep(0.002)
        await server.facts.until(DigitReceived, 150)
        await hears_only(call, {"target"})
        assert not server.facts.of(CallEnded)


# ── the caller ───────────────────────────────────────────────────────────────────────────────────────────


async def test_every_transfer_of_a_call_has_its_own_time() -> None:
    """The second one is asked for after the first failed; the caller's side hangs up and tells no more."""
    twice = [{"after_ms": 100, "do": [USE]}, {"on": "tool_result", "output": "busy", "do": [USE]}]
    agent = replace(
        scripted("twice", steps=twice),
        destinations=(TransferDestination(name="sales", target="sip:sales@127.0.0.1:9", mode="blind"),),
    )
    async with (
        phone(agent, trunks=(OPEN,)) as server,
        Pbx(Accept(), Tell(486, last=True), again=(Accept(), Bye())) as pbx,
    ):
        await pbx.call(server.address)
        assert (await server.facts.until(TransferEnded, 2)).outcome == "abandoned"
        await server.quiet()
    assert [ended.outcome for ended in server.facts.of(TransferEnded)] == ["busy", "abandoned"]


async def test_who_was_put_on_hold_is_transferred_all_the_same() -> None:
    async with (
        target_phone() as target,
        phone(SILENT, trunks=(OPEN,)) as server,
        phone(trunks=(OPEN,)) as caller,
        calling(caller, server) as call,
    ):
        to_target = transferring(target, "bridge").destinations[0]
        server.phone.manager.hold(server.only_call.call_id, wanted=True)
        assert (await caller.facts.until(HoldChanged)).held
        server.phone.manager.transfer(server.only_call.call_id, to_target)
        server.phone.manager.hold(server.only_call.call_id, wanted=False)  # not now
        assert (await outcome(server)).outcome == "connected"
        assert not (await caller.facts.until(HoldChanged, 2)).held
        await hears_only(call, {"target"})
        await hears_only(target.only_call, {"caller"})


async def test_a_hold_that_is_over_at_once_leaves_nobody_on_hold() -> None:
    async with (
        phone(HUMMING, trunks=(OPEN,)) as server,
        phone(trunks=(OPEN,)) as caller,
        calling(caller, server) as call,
    ):
        for wanted in (True, False):
            server.only_call.deliver(Hold(wanted=wanted))
        assert not (await caller.facts.until(HoldChanged, 2)).held
        await hears_only(call, {"agent"})
        await hears_only(server.only_call, {"caller"})


# ── sessions that change meanwhile ───────────────────────────────────────────────────────────────────────


def speak(call: CallSession, codec: Encoding) -> None:
    """The call's phone wants another codec from now on."""
    leg = call.leg
    assert leg is not None
    leg.negotiation = Negotiation(replace(leg.negotiation.capabilities, codecs=(codec,)))
    leg.reinvite()


@pytest.mark.parametrize("party", ["caller", "target"])
@pytest.mark.parametrize("three", [False, True])
async def test_who_talk_through_us_may_change_codec_and_hold(party: str, three: bool) -> None:
    after = "three_way" if three else "hand_over"
    mode: TransferMode = "warm" if three else "bridge"
    heard_by_caller = {"target", "agent"} if three else {"target"}
    heard_by_target = {"caller", "agent"} if three else {"caller"}
    async with (
        target_phone() as target,
        phone(transferring(target, mode, briefing_agent=TAKING, after_briefing=after), trunks=(OPEN,)) as server,
        phone(trunks=(OPEN,)) as caller,
        calling(caller, server) as call,
    ):
        await outcome(server)
        await hears_only(target.only_call, heard_by_target)
        side = call if party == "caller" else target.only_call
        for codec in (Encoding.PCMU, Encoding.G722):
            speak(side, codec)
            await hears_only(call, heard_by_caller)
            await hears_only(target.only_call, heard_by_target)
        side.deliver(Hold(wanted=True))
        assert (await server.facts.until(HoldChanged)).held
        other = target.only_call if party == "caller" else call
        await hears_no_more(other, party)
        side.deliver(Hold(wanted=False))
        assert not (await server.facts.until(HoldChanged, 2)).held
        await hears_only(call, heard_by_caller)
        await hears_only(target.only_call, heard_by_target)


@pytest.mark.parametrize("mode", ["attended", "bridge", "warm"])
async def test_a_caller_who_holds_while_his_target_rings_hears_it_when_he_is_back(mode: TransferMode) -> None:
    async with (
        target_phone(SLOW_TARGET) as target,
        phone(transferring(target, mode, briefing_agent=TAKING), trunks=(OPEN,)) as server,
        phone(trunks=(OPEN,)) as caller,
        calling(caller, server, trunk=OPEN) as call,
    ):
        await server.facts.until(LegDialled)
        call.deliver(Hold(wanted=True))
        await server.facts.until(HoldChanged)
        speak(call, Encoding.PCMU)
        assert (await outcome(server)).outcome == "connected"
        call.deliver(Hold(wanted=False))
        await server.facts.until(HoldChanged, 2)
        await hears_only(call, {"target"})
        await hears_only(target.only_call, {"caller"})


async def test_an_operator_who_changes_codec_is_briefed_on() -> None:
    async with (
        target_phone() as target,
        phone(transferring(target, "warm", briefing_agent=BRIEFER), trunks=(OPEN,)) as server,
        phone(trunks=(OPEN,)) as caller,
        calling(caller, server) as call,
    ):
        await server.facts.until(LegAnswered)
        await hears_only(target.only_call, {"briefer"})
        speak(target.only_call, Encoding.PCMU)
        speak(call, Encoding.PCMA)
        await hears_only(target.only_call, {"briefer"})
        leg = target.only_call.leg
        assert leg is not None
        leg.media.send_dtmf("1")
        await hears_only(call, {"target"})
        await hears_only(target.only_call, {"caller"})


# ── others come, and send us on ──────────────────────────────────────────────────────────────────────────


def refer_to(uri: str) -> str:
    return f"Refer-To: <{uri}>\n"


@pytest.mark.parametrize("answers", [True, False])
async def test_who_sends_us_on_may_hang_up_before_we_are_there(answers: bool) -> None:
    async with (
        target_phone() as target,
        Doorman([486]) as door,
        phone(HUMMING, trunks=(WILLING,)) as server,
        Pbx() as pbx,
    ):
        await pbx.call(server.address)
        there = target.address if answers else door.address
        pbx.request("REFER", refer_to(f"sip:target@{there.host}:{there.port}"))
        await pbx.until("NOTIFY")
        pbx.request("BYE")
        if answers:
            await server.facts.until(PartyReplaced)
            await hears_only(target.only_call, {"agent"})
            target.hang_up(target.only_call)
        assert (await server.ended()).by == "caller"
        await server.quiet()


async def test_who_sent_us_on_is_not_hung_up_on_before_he_has_heard_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A BYE that overtakes our NOTIFY makes it come out of order: he would never hear that we got there."""
    monkeypatch.setattr(redirection, "GOODBYE_S", 0.1)
    async with target_phone() as target, phone(HUMMING, trunks=(WILLING,)) as server, Pbx() as pbx:
        pbx.mute = "NOTIFY"
        await pbx.call(server.address)
        pbx.request("REFER", refer_to(f"sip:target@{target.address.host}:{target.address.port}"))
        await server.facts.until(PartyReplaced)
        await pbx.until("NOTIFY", 2)
        assert "BYE" not in pbx.asked
        pbx.mute = ""
        await pbx.until("BYE")
        assert pbx.told == [100, 200]
        target.hang_up(target.only_call)
        await server.quiet()


async def test_what_the_old_party_says_does_not_move_the_new_one() -> None:
    async with target_phone() as target, phone(HUMMING, trunks=(WILLING,)) as server, Pbx() as pbx:
        await pbx.call(server.address)
        pbx.request("REFER", refer_to(f"sip:target@{target.address.host}:{target.address.port}"))
        await server.facts.until(PartyReplaced)
        pbx.request("INVITE", body=sdp(port=45454), content_type="application/sdp")
        await hears_only(target.only_call, {"agent"})
        leg = server.only_call.leg
        assert leg is not None
        assert leg.media.remote is not None
        assert leg.media.remote[1] != 45454
        target.hang_up(target.only_call)
        await server.quiet()


async def test_two_who_want_the_same_seat() -> None:
    """The first is answered and never acknowledges; the second is asked to try again, and a cancelled one is none."""
    async with phone(HUMMING, trunks=(WILLING,)) as server, Pbx() as pbx:
        await pbx.call(server.address)
        call_id, to_tag, from_tag = pbx.dialog
        replaces = f"Replaces: {call_id};to-tag={to_tag};from-tag={from_tag}\n"
        first, second, third = RawPeer(), RawPeer(), RawPeer()
        first.send(server.address, first.invite(server.address, sdp=sdp(), extra=replaces))
        assert (await first.final_response()).startswith("SIP/2.0 200 ")
        second.send(server.address, second.invite(server.address, sdp=sdp(), extra=replaces))
        assert (await second.final_response()).startswith("SIP/2.0 491 ")
        invite = third.invite(server.address, sdp=sdp(), extra=replaces)
        third.send(server.address, invite)
        third.send(server.address, cancel_of(invite))
        finals = [await third.final_response(), await third.final_response()]
        assert {status for text in finals if "1 INVITE" in text for status in text.split()[1:2]} <= {"487", "491"}
        assert not server.facts.of(CallEnded)
        assert server.only_call.phase == "up"
        pbx.request("BYE")
        assert (await server.ended()).cause == "hangup"
        for peer in (first, second, third):
            peer.close()


def cancel_of(invite: str) -> str:
    lines = invite.split("\n\n", maxsplit=1)[0].split("\n")
    kept = [line for line in lines[1:] if line.startswith(("Via:", "From:", "To:", "Call-ID:", "Max-Forwards:"))]
    return "\n".join([lines[0].replace("INVITE", "CANCEL"), *kept, "CSeq: 1 CANCEL", "Content-Length: 0", "", ""])


async def test_an_answer_in_the_ack_is_followed_in_a_call_of_ours() -> None:
    """Switches resume a held call by a re-INVITE without offer; ours goes in the 200, and theirs in the ACK."""
    async with Doorman([200]) as door, phone(trunks=(OPEN,)) as caller:
        call = caller.call(door.address, CALLER)
        await caller.facts.until(CallAnswered)
        door.request("INVITE")
        assert "m=audio" in await door.response()
        door.request("ACK", sdp(port=40_404))
        assert call.leg is not None
        async with asyncio.timeout(5):
            while call.leg.media.remote is None or call.leg.media.remote[1] != 40_404:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        caller.hang_up(call)
        await caller.quiet()
    assert not caller.facts.of(TransferStarted)


# ── the end, in every stage ──────────────────────────────────────────────────────────────────────────────

STAGES: dict[str, tuple[TransferMode, list[int], list[Step], str]] = {
    "referring": ("blind", [], [], "REFER"),
    "referred": ("blind", [], [Accept(), Tell(180)], "NOTIFY"),
    "parting": ("blind", [], [Accept(), Bye()], "BYE"),
    "ringing": ("bridge", [], [], "INVITE"),
    "replacing": ("attended", [200], [], "REFER"),
    "briefing": ("warm", [200], [], "ACK"),
    "handed over": ("bridge", [200], [], "ACK"),
}
"""What brings a transfer into the stage: mode, the target's answers, the caller's steps; and the message of it."""


@pytest.mark.parametrize("by", ["shutdown", "duration_limit"])
@pytest.mark.parametrize("stage", STAGES)
async def test_whatever_stage_a_transfer_is_in_the_call_ends_at_once(stage: str, by: str) -> None:
    mode, answers, steps, message = STAGES[stage]
    async with Doorman(answers) as door, Pbx(*steps) as pbx:
        agent = transferring(door, mode, no_answer_s=20)
        limit_s = 1 if by == "duration_limit" else 60
        async with phone(replace(agent, max_call_s=limit_s), trunks=(OPEN,)) as server:
            await pbx.call(server.address, REPLACES)
            await (
                door.until(message) if message in ("INVITE", "ACK") else pbx.until(message, answered=message != "REFER")
            )
            await asyncio.sleep(0.1)
            began = asyncio.get_running_loop().time()
            if by == "shutdown":
                await server.phone.manager.close()
            assert (await server.ended()).cause == by
            assert asyncio.get_running_loop().time() - began < 2.5
            if stage != "parting":
                await pbx.until("BYE")
            if stage == "ringing":
                await door.until("CANCEL")
            elif answers:
                await door.until("BYE")
            await server.quiet()
        (ended,) = server.facts.of(TransferEnded)
        assert ended.outcome == ("connected" if stage == "handed over" else "abandoned")
        assert len(server.facts.of(LegDialled)) == len(server.facts.of(LegEnded))
