"""A call that was answered by one process goes on in another: re-INVITE, audio, BYE."""

from __future__ import annotations

import random

import msgspec
import pytest
from tests.call.phones import Ear, phone, scripted

from offhook.call.inbox import HangUp
from offhook.call.resumption import CallSnapshot
from offhook.call.session import CallSession
from offhook.model.call_events import CallAnswered, CallEnded, TurnSpoken

GREETER = scripted("greeter", greeting_tone_hz=1000, greeting_ms=300, greeting_text="hello")
GOODBYE = HangUp(by="agent", cause="hangup")
SEED = 2543


def through_json(snapshot: CallSnapshot) -> CallSnapshot:
    return msgspec.json.decode(msgspec.json.encode(snapshot), type=CallSnapshot)


def ear_on(call: CallSession) -> Ear:
    """Hears what the call's leg sends us from now on."""
    assert call.leg is not None
    ear = Ear()
    call.leg.media.connect(ear)
    return ear


@pytest.mark.parametrize("frames", [random.Random(SEED + n).randrange(1, 30) for n in range(2)])
@pytest.mark.parametrize("who_ends_it", ["survivor", "peer"])
@pytest.mark.parametrize("taken", ["callee", "caller"])
async def test_an_answered_call_is_taken_over(frames: int, who_ends_it: str, taken: str) -> None:
    """The owner dies without a word at a random moment; a fresh phone takes its call over."""
    async with phone(GREETER) as peer, phone(GREETER) as survivor:
        async with phone(GREETER) as dying:
            call = peer.call(dying) if taken == "callee" else dying.call(peer, GREETER)
            for side in (peer, dying):
                await side.facts.until(CallAnswered)
            await ear_on(peer.only_call).frames(frames)
            snapshot = dying.phone.manager.snapshot(dying.only_call.call_id)
            assert snapshot is not None
            await dying.drop_dead()
            restored = survivor.phone.manager.restore(through_json(snapshot))
            await survivor.facts.until(TurnSpoken)
            await ear_on(restored).frames(10)
            ending = restored if who_ends_it == "survivor" else peer.only_call
            ending.deliver(GOODBYE)
            await survivor.over(restored)
            assert (await peer.ended()).cause == "hangup"
            assert (await survivor.ended()).cause == "hangup"
            await peer.quiet()
            await survivor.quiet()
        assert survivor.facts.of(CallEnded)[0].by == ("agent" if who_ends_it == "survivor" else "caller")
        assert survivor.facts.events[0].seq == snapshot.seq + 1
        assert restored.call_id == snapshot.call_id
        assert call.call_id


async def test_only_an_answered_call_has_a_snapshot() -> None:
    async with phone(scripted(open_after_ms=3000)) as callee, phone() as caller:
        call = caller.call(callee)
        assert caller.phone.manager.snapshot(call.call_id) is None
        assert caller.phone.manager.snapshot("unknown") is None
        call.deliver(GOODBYE)
        await caller.over(call)
