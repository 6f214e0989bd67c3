"""What a party offers by UPDATE, while it rings and afterwards: answered, and heard."""

from __future__ import annotations

import time

import pytest
from tests.call.exchange import AGENT_HZ, CALLER, hears
from tests.call.phones import TestPhone, phone, scripted

from offhook.call.dialling import PlaceCall
from offhook.call.session import CallSession
from offhook.model.audio import Encoding
from offhook.model.call_events import AgentJoined, CallAnswered, CallRinging, HoldChanged
from offhook.model.trunks import CallRules, OpenTrunk
from offhook.sip.uri import SipUri

LATE = scripted("late", open_after_ms=2500, greeting_tone_hz=AGENT_HZ, greeting_ms=100, greeting_repeats=True)
LOUD = OpenTrunk(trunk_id="loud", rules=CallRules(codecs=(Encoding.PCMU, Encoding.PCMA), early_media=True))


async def ringing(caller: TestPhone, callee: TestPhone) -> tuple[CallSession, CallSession]:
    """A call that rings with media agreed on, and acknowledged, already."""
    target = SipUri.parse(f"sip:demo@{callee.address.host}:{callee.address.port}")
    call = caller.phone.manager.place(PlaceCall(target=target, agent=CALLER, trunk=LOUD))
    assert (await caller.facts.until(CallRinging)).status == 183
    assert await hears(call) == {"ringing"}
    return call, callee.only_call


async def over(caller: TestPhone, callee: TestPhone, call: CallSession) -> None:
    caller.hang_up(call)
    await caller.quiet()
    await callee.quiet()


def update(sender: TestPhone, call: CallSession, *, payload_type: int, direction: str = "sendrecv") -> None:
    """Offer the session anew, with one codec."""
    leg = call.leg
    assert leg is not None
    name = {0: "PCMU", 8: "PCMA"}[payload_type]
    offer = (
        "v=0\r\no=- 7 99 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
        f"m=audio {leg.media.local_port} RTP/AVP {payload_type}\r\n"
        f"a=rtpmap:{payload_type} {name}/8000\r\na={direction}\r\n"
    )
    sender.phone.endpoint.user_agent.update(leg.usage_id, time.monotonic(), offer=offer.encode())
    sender.phone.endpoint.flush()


async def test_a_party_holds_and_resumes_by_update() -> None:
    async with phone(LATE, trunks=(LOUD,)) as callee, phone() as caller:
        call, called = await ringing(caller, callee)
        await caller.facts.until(AgentJoined)
        await callee.facts.until(AgentJoined)
        update(caller, call, payload_type=0, direction="sendonly")
        assert (await callee.facts.until(HoldChanged)).held
        update(caller, call, payload_type=0)
        assert not (await callee.facts.until(HoldChanged, 2)).held
        assert await hears(called) == {"caller"}
        await over(caller, callee, call)


@pytest.mark.parametrize("by_caller", [True, False])
async def test_a_codec_changed_while_it_rings_is_the_one_that_is_spoken(by_caller: bool) -> None:
    async with phone(LATE, trunks=(LOUD,)) as callee, phone() as caller:
        call, called = await ringing(caller, callee)
        if by_caller:
            update(caller, call, payload_type=8)
        else:
            update(callee, called, payload_type=8)
        await caller.facts.until(CallAnswered)
        answering = callee if by_caller else caller
        assert answering.facts.of(CallAnswered)[0].codec == "PCMA"
        assert await hears(call) == {"agent"}
        assert await hears(called) == {"caller"}
        await over(caller, callee, call)
