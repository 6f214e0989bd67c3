"""What happens to a running call: hold from either side, texts, digits by INFO, a codec that changes."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path

import pytest
from tests.call.exchange import AGENT_HZ, CALLER, RINGING_HZ, hears, hears_only, humming, purity
from tests.call.phones import NARROW, Ear, RawPeer, TestPhone, phone, scripted, sdp

from offhook.audio.wav import read_wav
from offhook.call.dialling import PlaceCall
from offhook.call.inbox import Hold
from offhook.call.session import CallSession
from offhook.model.audio import PCMA_8K, AudioFormat, Encoding
from offhook.model.call_events import (
    AgentJoined,
    CallAnswered,
    CallArrived,
    CallRinging,
    DigitReceived,
    HoldChanged,
    RecordingWritten,
    SipMessageReceived,
)
from offhook.model.records import Agent
from offhook.model.trunks import CallRules, DtmfMethod, OpenTrunk, ReliableProvisional
from offhook.sip.uri import SipUri

HUMMING = humming("agent", AGENT_HZ)


async def talking(
    caller: TestPhone, callee: TestPhone, agent: Agent = CALLER, rules: CallRules = NARROW.rules
) -> CallSession:
    target = SipUri.parse(f"sip:demo@{callee.address.host}:{callee.address.port}")
    trunk = OpenTrunk(trunk_id="", rules=rules)
    call = caller.phone.manager.place(PlaceCall(target=target, agent=agent, trunk=trunk))
    await caller.facts.until(AgentJoined)
    await callee.facts.until(AgentJoined)
    return call


async def over(caller: TestPhone, callee: TestPhone, call: CallSession) -> None:
    caller.hang_up(call)
    await caller.quiet()
    await callee.quiet()


async def test_who_is_put_on_hold_hears_music_and_the_agent_there_falls_silent() -> None:
    async with phone(HUMMING) as callee, phone() as caller:
        call = await talking(caller, callee)
        await hears_only(call, {"agent"})
        caller.phone.manager.hold(call.call_id, wanted=True)
        assert (await callee.facts.until(HoldChanged)).held
        await hears_only(call, set())
        assert "caller" not in await hears(callee.only_call)
        caller.phone.manager.hold(call.call_id, wanted=False)
        assert not (await callee.facts.until(HoldChanged, 2)).held
        await hears_only(call, {"agent"})
        await hears_only(callee.only_call, {"caller"})
        await over(caller, callee, call)


async def test_who_is_put_on_hold_before_his_ack_came_waits_as_soon_as_it_is_there() -> None:
    """RFC 3261 §14.1: no re-INVITE while the INVITE's transaction is in progress."""
    with closing(RawPeer()) as peer:
        async with phone(HUMMING, teardown_s=0.05) as callee:
            peer.send(callee.address, peer.invite(callee.address, sdp=sdp(port=peer.address.port + 1)))
            answer = await peer.final_response()
            callee.phone.manager.hold(callee.only_call.call_id, wanted=True)
            peer.send(callee.address, peer.ack(answer, callee.address))
            while not (reinvite := await peer.receive()).startswith("INVITE "):
                pass
            assert "a=sendonly" in reinvite
            peer.send(callee.address, peer.ok(reinvite))


async def test_both_may_hold_at_the_same_time() -> None:
    async with phone(HUMMING) as callee, phone() as caller:
        call = await talking(caller, callee)
        for one in (call, callee.only_call):
            one.deliver(Hold(wanted=True))
        await asyncio.sleep(0.3)
        for one in (call, callee.only_call):
            one.deliver(Hold(wanted=False))
        async with asyncio.timeout(15):
            while await hears(call) != {"agent"} or await hears(callee.only_call) != {"caller"}:
                pass
        await over(caller, callee, call)


async def test_a_text_reaches_the_agent_of_the_other_side() -> None:
    texting = scripted(
        "texting",
        steps=[{"after_ms": 100, "do": [{"do": "use_tool", "name": "send_text", "arguments": {"text": "hi"}}]}],
    )
    answering = scripted(
        "answering", steps=[{"on": "text", "do": [{"do": "speak", "tone_hz": AGENT_HZ, "repeat": True}]}]
    )
    async with phone(answering) as callee, phone() as caller:
        call = await talking(caller, callee, texting)
        received = await callee.facts.until(SipMessageReceived)
        assert (received.method, received.text) == ("MESSAGE", "hi")
        await hears_only(call, {"agent"})
        await over(caller, callee, call)


@pytest.mark.parametrize("way", ["rfc4733", "info"])
async def test_digits_go_by_the_way_the_trunk_says_and_arrive_once(way: DtmfMethod) -> None:
    pressing = scripted(
        "pressing",
        steps=[{"after_ms": 200, "do": [{"do": "use_tool", "name": "send_dtmf", "arguments": {"digits": "1120#"}}]}],
    )
    rules = CallRules(codecs=(Encoding.PCMU,), dtmf=way)
    async with phone(HUMMING) as callee, phone() as caller:
        call = await talking(caller, callee, pressing, rules)
        assert await callee.digits(5) == "1120#"
        await over(caller, callee, call)
    assert len(callee.facts.of(DigitReceived)) == 5


@pytest.mark.parametrize("codec", [Encoding.G722, Encoding.PCMA, Encoding.PCMU])
async def test_the_first_codec_that_both_have_is_spoken(codec: Encoding) -> None:
    async with phone(HUMMING) as callee, phone() as caller:
        call = await talking(caller, callee, rules=CallRules(codecs=(codec, Encoding.PCMU)))
        assert callee.facts.of(CallAnswered)[0].codec == codec.value
        await hears_only(call, {"agent"})
        await hears_only(callee.only_call, {"caller"})
        await over(caller, callee, call)


@pytest.mark.parametrize("reliable", ["off", "supported"])
async def test_a_trunk_may_want_its_callers_to_hear_us_ring(reliable: ReliableProvisional) -> None:
    rules = CallRules(codecs=(Encoding.PCMU,), early_media=True, reliable_provisional=reliable)
    late = scripted("late", open_after_ms=1500, greeting_tone_hz=AGENT_HZ, greeting_ms=100, greeting_repeats=True)
    async with phone(late, trunks=(OpenTrunk(trunk_id="loud", rules=rules),)) as callee, phone() as caller:
        target = SipUri.parse(f"sip:demo@{callee.address.host}:{callee.address.port}")
        call = caller.phone.manager.place(PlaceCall(target=target, agent=CALLER))
        assert (await caller.facts.until(CallRinging)).status == 183
        await hears_only(call, {"ringing"})
        await caller.facts.until(CallAnswered)
        await hears_only(call, {"agent"})
        await hears_only(callee.only_call, {"caller"})
        await over(caller, callee, call)


async def test_headers_of_an_application_arrive_and_others_do_not() -> None:
    sent = (("X-Ticket", "7"), ("Diversion", "<sip:200@pbx.example>"))
    rules = CallRules(headers=(("X-Account", "acme"),))
    async with phone(HUMMING) as callee, phone() as caller:
        target = SipUri.parse(f"sip:demo@{callee.address.host}:{callee.address.port}")
        trunk = OpenTrunk(trunk_id="", rules=rules)
        call = caller.phone.manager.place(PlaceCall(target=target, agent=CALLER, trunk=trunk, headers=sent))
        assert (await callee.facts.until(CallArrived)).headers == (("X-Account", "acme"), *sent)
        await caller.facts.until(CallAnswered)
        await over(caller, callee, call)


@pytest.mark.parametrize("codec", [Encoding.PCMU, Encoding.PCMA, Encoding.G722])
async def test_what_an_agent_says_before_the_codec_is_known_is_heard_as_it_was_meant(codec: Encoding) -> None:
    early = scripted("early", greeting_tone_hz=AGENT_HZ, greeting_ms=600)
    late = scripted("late", open_after_ms=300)
    rules = CallRules(codecs=(codec,))
    async with phone(late, trunks=(OpenTrunk(trunk_id="one", rules=rules),)) as callee, phone() as caller:
        target = SipUri.parse(f"sip:demo@{callee.address.host}:{callee.address.port}")
        call = caller.phone.manager.place(PlaceCall(target=target, agent=early))
        await callee.facts.until(CallAnswered)
        ear = Ear()
        leg = callee.only_call.leg
        assert leg is not None
        leg.media.connect(ear)
        heard = await ear.frames(40)
        assert purity(heard, leg.media.format, AGENT_HZ) > 0.9
        await over(caller, callee, call)


def left_channel(recorded: RecordingWritten) -> tuple[AudioFormat, bytes]:
    return read_wav(Path(recorded.path).read_bytes())


async def test_what_the_called_side_plays_before_it_answers_is_recorded(tmp_path: Path) -> None:
    rules = CallRules(codecs=(Encoding.PCMA,), early_media=True)
    late = scripted("late", open_after_ms=900)
    recording = scripted("recording", record=True, greeting_tone_hz=AGENT_HZ, greeting_ms=100)
    async with (
        phone(late, trunks=(OpenTrunk(trunk_id="loud", rules=rules),)) as callee,
        phone(folder=tmp_path) as caller,
    ):
        target = SipUri.parse(f"sip:demo@{callee.address.host}:{callee.address.port}")
        call = caller.phone.manager.place(PlaceCall(target=target, agent=recording))
        await caller.facts.until(CallAnswered)
        await over(caller, callee, call)
        recorded = await caller.facts.until(RecordingWritten)
    audio_format, heard = left_channel(recorded)
    assert audio_format == PCMA_8K
    assert recorded.duration_ms > 800
    assert purity(heard[: 600 * audio_format.bytes_per_ms], audio_format, RINGING_HZ) > 0.9
