"""Whole calls between two phones on loopback: what each side heard, and what each side recorded."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from tests.call.phones import NOTHING_LEFT, Ear, RawPeer, phone, scripted, sdp

from offhook.call.inbox import HangUp
from offhook.model.audio import Encoding
from offhook.model.call_events import (
    AgentJoined,
    CallAnswered,
    CallEnded,
    CallRefused,
    CallRinging,
    DigitReceived,
    MediaReported,
    ProviderFailed,
    RecordingWritten,
    TurnSpoken,
)
from offhook.model.records import Agent

GREETER = scripted("greeter", greeting_tone_hz=1000, greeting_ms=400, greeting_text="hello there")
CALLS_TO_JUDGE = 8

GOODBYE = HangUp(by="agent", cause="hangup")


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
async def test_an_ordinary_call_from_ringing_to_bye(tcp: bool) -> None:
    async with phone(GREETER) as callee, phone() as caller:
        call = caller.call(callee, tcp=tcp)
        await callee.facts.until(TurnSpoken)
        call.deliver(GOODBYE)
        await caller.over(call)
        ended = await callee.ended()
    assert callee.facts.names() == [
        "CallArrived",
        "CallRinging",
        "CallAnswered",
        "AgentJoined",
        "TurnSpoken",
        "AgentLeft",
        "MediaReported",
        "CallEnded",
    ]
    assert [event.seq for event in callee.facts.events] == list(range(1, 9))
    assert (ended.by, ended.phase, ended.cause) == ("caller", "up", "hangup")
    assert caller.facts.of(CallEnded)[0].by == "agent"
    turn = callee.facts.of(TurnSpoken)[0]
    assert (turn.speaker, turn.text, turn.interrupted) == ("agent", "hello there", False)


async def test_the_greeting_is_heard_from_its_first_sample_to_its_last() -> None:
    """Judged by the first call that no other program holds up: what comes late is lost, or stretched."""
    async with phone(GREETER) as callee, phone() as caller:
        for number in range(1, CALLS_TO_JUDGE + 1):
            ear = Ear()
            call = caller.call(callee)
            await caller.facts.until(CallAnswered, number)
            assert call.leg is not None
            call.leg.media.connect(ear)
            heard = await ear.frames(40)
            call.deliver(GOODBYE)
            await caller.over(call)
            sound = heard.strip(b"\xff\x7f")  # both zeros of PCMU
            if abs(len(sound) - 400 * 8) <= 8 * 20:
                return
    raise AssertionError(f"{len(sound)} samples were heard of {400 * 8}")


async def test_the_agent_hangs_up_after_its_last_word() -> None:
    agent = scripted(greeting_tone_hz=440, greeting_ms=300, greeting_text="bye", hang_up_after_ms=20)
    async with phone(agent) as callee, phone() as caller:
        call = caller.call(callee)
        await caller.over(call)
        ended = await callee.ended()
    assert (ended.by, ended.cause) == ("agent", "hangup")
    assert [turn.interrupted for turn in callee.facts.of(TurnSpoken)] == [False]
    assert caller.facts.of(CallEnded)[0].by == "caller"


async def test_the_far_end_answering_in_pcma_is_understood() -> None:
    async with phone(GREETER) as callee, phone() as caller:
        peer = RawPeer()
        peer.send(callee.address, peer.invite(callee.address, sdp=sdp(payloads="8 101")))
        answer = await peer.final_response()
        peer.close()
        assert answer.startswith("SIP/2.0 200")
        assert "m=audio" in answer
        assert " 8 101" in answer
        assert callee.facts.of(CallAnswered)[0].codec == Encoding.PCMA.value
        assert caller.left_over == NOTHING_LEFT


async def test_digits_arrive_once_each_and_in_order() -> None:
    presser = scripted("presser", steps=[{"on": "ready", "after_ms": 100, "do": []}])
    async with phone(GREETER) as callee, phone() as caller:
        call = caller.call(callee, presser)
        await caller.facts.until(CallAnswered)
        assert call.leg is not None
        call.leg.media.send_dtmf("123#*0")
        await callee.facts.until(DigitReceived, 6)
        call.deliver(GOODBYE)
        await caller.over(call)
    assert "".join(fact.digit for fact in callee.facts.of(DigitReceived)) == "123#*0"


def samples_of(recorded: RecordingWritten) -> tuple[bytes, bytes]:
    """What the caller said and what it heard, as G.711."""
    document = Path(recorded.path).read_bytes()
    audio = document[document.index(b"data") + 8 :]
    return audio[0::2], audio[1::2]


async def test_a_recording_that_the_disk_refuses_is_not_called_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("where a folder should be")
    agent = scripted(greeting_tone_hz=440, greeting_ms=100, hang_up_after_ms=20, record=True)
    async with phone(agent, folder=tmp_path / "file") as callee, phone() as caller:
        await caller.over(caller.call(callee))
        ended = await callee.ended()
    assert (ended.by, ended.cause) == ("agent", "hangup")
    assert callee.facts.of(RecordingWritten) == []


async def test_a_recorded_call_is_on_disk_with_both_sides(tmp_path: Path) -> None:
    agent = scripted(greeting_tone_hz=1000, greeting_ms=400, record=True)
    async with phone(agent, folder=tmp_path) as callee, phone() as caller:
        call = caller.call(callee, scripted(greeting_tone_hz=500, greeting_ms=400, hang_up_after_ms=600))
        await caller.over(call)
        await callee.ended()
    (recorded,) = callee.facts.of(RecordingWritten)
    left, right = samples_of(recorded)
    assert len(left) // 8 == recorded.duration_ms
    assert len(left.strip(b"\xff\x7f")) > 300 * 8
    assert len(right.strip(b"\xff\x7f")) > 300 * 8


# ── refusals, each explained ─────────────────────────────────────────────────────────────────────────────


async def test_an_unknown_number_is_refused_with_404_and_told_how_to_mend() -> None:
    async with phone() as callee, phone() as caller:
        await caller.over(caller.call(callee, user="nobody"))
        await callee.ended()
    (refused,) = callee.facts.of(CallRefused)
    assert refused.status == 404
    assert "'nobody'" in refused.evidence
    assert "config.json" in refused.fix
    assert caller.facts.of(CallEnded)[0].sip_code == 404
    await callee.quiet()
    await caller.quiet()


async def test_no_common_codec_is_refused_with_488_and_a_warning() -> None:
    async with phone(GREETER) as callee:
        peer = RawPeer()
        peer.send(callee.address, peer.invite(callee.address, sdp=sdp(payloads="18")))
        answer = await peer.final_response()
        peer.close()
        await callee.ended()
        assert answer.startswith("SIP/2.0 488")
        assert "Warning: 305" in answer
        assert callee.facts.of(CallRefused)[0].status == 488
        assert callee.ports.in_use == 0


async def test_unreadable_sdp_is_refused_and_explained() -> None:
    async with phone(GREETER) as callee:
        peer = RawPeer()
        peer.send(callee.address, peer.invite(callee.address, sdp="v=0\nm=audio nonsense\n"))
        answer = await peer.final_response()
        peer.close()
        await callee.ended()
        assert answer.startswith("SIP/2.0 488")
        assert "Warning: 399" in answer


async def test_a_full_phone_says_503_with_retry_after() -> None:
    async with phone(GREETER, max_calls=1) as callee, phone() as caller:
        first = caller.call(callee)
        await caller.facts.until(CallAnswered)
        second = caller.call(callee)
        await caller.over(second)
        assert caller.facts.of(CallEnded)[0].sip_code == 503
        first.deliver(GOODBYE)
        await caller.over(first)


async def test_a_callee_that_is_not_there_is_unreachable() -> None:
    async with phone() as caller:
        peer = RawPeer()
        peer.close()
        call = caller.call(peer.address)
        call.deliver(HangUp(by="agent", cause="cancelled"))
        await caller.over(call)
    assert caller.facts.of(CallEnded)[0].cause in {"cancelled", "unreachable"}


# ── hanging up at every moment ───────────────────────────────────────────────────────────────────────────


async def test_cancel_while_ringing_ends_both_sides() -> None:
    slow = scripted("slow", open_after_ms=5000)
    async with phone(slow) as callee, phone() as caller:
        call = caller.call(callee)
        await caller.facts.until(CallRinging)
        call.deliver(HangUp(by="agent", cause="cancelled"))
        await caller.over(call)
        ended = await callee.ended()
        assert (ended.by, ended.phase, ended.cause, ended.sip_code) == ("caller", "ringing", "cancelled", 487)
        assert callee.facts.of(AgentJoined) == []
        await callee.quiet()


async def test_a_caller_who_hangs_up_at_any_moment_leaves_nothing_behind() -> None:
    moments = random.Random(4711)
    agent = scripted(greeting_tone_hz=800, greeting_ms=200, open_after_ms=40)
    async with phone(agent) as callee, phone() as caller:

        async def one(delay_s: float) -> None:
            call = caller.call(callee)
            await asyncio.wait({asyncio.create_task(caller.over(call))}, timeout=delay_s)
            call.deliver(GOODBYE)
            await caller.over(call)

        await asyncio.gather(*(one(moments.uniform(0, 0.15)) for _ in range(40)))
        await callee.quiet()
        await caller.quiet()
    assert len(caller.facts.of(CallEnded)) == 40


async def test_ten_calls_at_once_each_hear_their_own_greeting() -> None:
    async with phone(GREETER) as callee, phone() as caller:
        calls = [caller.call(callee) for _ in range(10)]
        await callee.facts.until(TurnSpoken, 10)
        for call in calls:
            call.deliver(GOODBYE)
        for call in calls:
            await caller.over(call)
        await callee.ended(10)
    assert len({event.call_id for event in callee.facts.events}) == 10
    assert [report.packets_lost for report in callee.facts.of(MediaReported)] == [0] * 10


async def test_a_phone_that_closes_says_goodbye_to_everybody() -> None:
    async with phone() as caller:
        async with phone(GREETER) as callee:
            for _ in range(3):
                caller.call(callee)
            await callee.facts.until(CallAnswered, 3)
        assert [ended.cause for ended in callee.facts.of(CallEnded)] == ["shutdown"] * 3
        await caller.ended(3)
        assert [ended.by for ended in caller.facts.of(CallEnded)] == ["caller"] * 3


# ── providers that fail ──────────────────────────────────────────────────────────────────────────────────


async def test_a_provider_that_does_not_open_refuses_the_call() -> None:
    async with phone(scripted(open_fault="no such key")) as callee, phone() as caller:
        await caller.over(caller.call(callee))
        ended = await callee.ended()
    assert (ended.cause, ended.sip_code) == ("provider_failed", 480)
    assert "no such key" in (ended.provider_fault or "")
    assert caller.facts.of(CallEnded)[0].sip_code == 480


async def test_a_provider_that_dies_in_the_call_ends_it_and_is_named() -> None:
    dying = scripted(steps=[{"on": "ready", "after_ms": 200, "do": [{"do": "fail", "problem": "socket closed"}]}])
    async with phone(dying) as callee, phone() as caller:
        await caller.over(caller.call(callee))
        ended = await callee.ended()
    assert (ended.by, ended.cause, ended.provider_fault) == ("system", "provider_failed", "socket closed")
    assert callee.facts.of(ProviderFailed)[0].problem == "socket closed"


async def test_silence_on_the_wire_ends_the_call_as_media_timeout() -> None:
    async with phone(GREETER, media_timeout_s=0.3) as callee:
        peer = RawPeer()
        peer.send(callee.address, peer.invite(callee.address, sdp=sdp(port=peer.address.port)))
        answer = await peer.final_response()
        assert answer.startswith("SIP/2.0 200")
        ended = await callee.ended()
        peer.close()
    assert (ended.by, ended.cause) == ("system", "media_timeout")


# ── barge-in ─────────────────────────────────────────────────────────────────────────────────────────────


def interrupted_agent(*, genuine: bool) -> Agent:
    return scripted(
        "talker",
        judges_interruption=True,
        steps=[
            {"on": "ready", "do": [{"do": "speak", "text": "one two three four five", "ms": 1000}]},
            {"on": "ready", "after_ms": 300, "do": [{"do": "speech", "started": True}]},
            {"on": "ready", "after_ms": 500, "do": [{"do": "speech", "started": False}]},
            {"on": "ready", "after_ms": 600, "do": [{"do": "judge", "genuine": genuine}]},
        ],
    )


async def test_a_backchannel_only_pauses_the_agent() -> None:
    talker = interrupted_agent(genuine=False)
    async with phone(talker) as callee, phone() as caller:
        call = caller.call(callee)
        turn = await callee.facts.until(TurnSpoken)
        call.deliver(GOODBYE)
        await caller.over(call)
    assert (turn.text, turn.interrupted) == ("one two three four five", False)
    assert turn.ended_ms - turn.started_ms >= 1000 + 200


async def test_a_genuine_interruption_cuts_the_agent_and_the_transcript() -> None:
    talker = interrupted_agent(genuine=True)
    async with phone(talker) as callee, phone() as caller:
        call = caller.call(callee)
        turn = await callee.facts.until(TurnSpoken)
        call.deliver(GOODBYE)
        await caller.over(call)
    assert turn.interrupted
    assert turn.text in {"one", "one two"}


# ── offers that come late, and again ─────────────────────────────────────────────────────────────────────


async def test_an_invite_without_an_offer_gets_ours_and_answers_in_the_ack() -> None:
    async with phone(GREETER) as callee:
        peer = RawPeer()
        peer.send(callee.address, peer.invite(callee.address))
        answer = await peer.final_response()
        assert "m=audio" in answer
        peer.send(callee.address, peer.ack(answer, callee.address, sdp=sdp(payloads="8 101", port=peer.address.port)))
        turn = await callee.facts.until(TurnSpoken)
        peer.close()
        assert turn.text == "hello there"
        leg = callee.only_call.leg
        assert leg is not None
        assert leg.format.encoding is Encoding.PCMA


async def test_a_late_answer_that_fits_nothing_ends_the_call_explained() -> None:
    async with phone(GREETER) as callee:
        peer = RawPeer()
        peer.send(callee.address, peer.invite(callee.address))
        answer = await peer.final_response()
        peer.send(callee.address, peer.ack(answer, callee.address, sdp=sdp(payloads="18")))
        ended = await callee.ended()
        peer.close()
        assert (ended.cause, ended.sip_code) == ("refused", 488)
        assert callee.facts.of(CallRefused)[0].rule.startswith("RFC 3264")
