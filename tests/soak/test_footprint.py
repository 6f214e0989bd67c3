"""What a finished call leaves behind until its transactions run out (RFC 3261: 32 s): responses to repeat, no more."""

from __future__ import annotations

import gc

from tests.call.phones import RawPeer, phone, scripted, sdp

from offhook.call.inbox import HangUp
from offhook.model.call_events import CallAnswered
from offhook.sip.message import Request


async def test_a_finished_call_keeps_no_request() -> None:
    """A thousand calls in half a minute would keep 15 MB of them."""
    gc.collect()
    before = sum(isinstance(item, Request) for item in gc.get_objects())
    async with phone(scripted("agent")) as callee:
        peer = RawPeer()
        invite = peer.invite(callee.address, sdp=sdp())
        peer.send(callee.address, invite)
        answer = await peer.final_response()
        to = next(line for line in answer.split("\r\n") if line.startswith("To:"))
        for method, number in (("ACK", 1), ("BYE", 2)):
            head = invite.partition("Content-Type")[0].replace("INVITE sip", f"{method} sip")
            lines = [to if line.startswith("To:") else line for line in head.split("\n")]
            text = "\n".join(lines).replace("CSeq: 1 INVITE", f"CSeq: {number} {method}").replace("-demo", f"-{number}")
            peer.send(callee.address, f"{text}Content-Length: 0\n\n")
        assert "BYE" in await peer.final_response()
        await callee.quiet()
        peer.close()
        assert callee.phone.endpoint.user_agent.counts()["transactions"] == 2
        gc.collect()
        assert sum(isinstance(item, Request) for item in gc.get_objects()) == before


async def test_a_call_there_is_no_room_for_leaves_no_trace() -> None:
    """RFC 3261 §8.2.7: the same 503 for every copy, nothing kept, nothing repeated: a flood costs a response each."""
    async with phone(scripted("agent"), max_calls=1) as callee, phone() as caller:
        call = caller.call(callee)
        await caller.facts.until(CallAnswered)
        agent = callee.phone.endpoint.user_agent
        before = agent.counts()
        peer = RawPeer()
        invite = peer.invite(callee.address, sdp=sdp())
        refusals = []
        for _ in range(2):
            peer.send(callee.address, invite)
            refusals.append(await peer.receive())
        peer.close()
        assert refusals[0] == refusals[1]
        assert refusals[0].startswith("SIP/2.0 503")
        assert "Retry-After: 5" in refusals[0]
        assert agent.counts() == before
        call.deliver(HangUp(by="agent", cause="hangup"))
        await caller.over(call)
