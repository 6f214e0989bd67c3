"""What the API can do with a call beyond SIP4AI's document: words, keys, a pause and a transfer, heard for real."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from tests.interop.callees import Callee
from tests.interop.offhook_server import events, scripted
from tests.interop.program import POLL_S
from tests.interop.rtp_phone import RtpPhone
from tests.interop.sip4ai_server import Sip4ai
from tests.interop.speech import tone
from tests.interop.test_sip4ai_policy import COSTLY, REFERRED_TO, written
from tests.interop.transfers import CALLER_HZ, HEARD_DB, TARGET_HZ, loudest_db
from tests.interop.trunks import Start

TALKS_HZ, SAYS_HZ = 500, 440
"""``scripted`` says what it is asked to say at 440 Hz."""

QUIET = scripted("quiet", greeting_tone_hz=TALKS_HZ, greeting_ms=400)


def config(line: Callee, **more: Any) -> dict[str, Any]:
    return {"agents": [QUIET], "trunks": [line.gateway(region="DE")], **more}


async def hears(phone: RtpPhone, hz: float, *, loud: bool = True, timeout_s: float = 5.0) -> None:
    """Wait until the tone is there, or until it is gone, in the last 300 ms."""
    for _ in range(round(timeout_s / POLL_S)):
        now = time.monotonic()
        lately = phone.heard_between(now - 0.3, now)
        if len(lately) and (loudest_db(lately, hz) > HEARD_DB) == loud:
            return
        await asyncio.sleep(POLL_S)
    raise AssertionError(f"{hz} Hz is {'not ' if loud else 'still '}heard after {timeout_s:g} s")


async def done(server: Sip4ai, call_id: str, command: str, **body: Any) -> None:
    reply = await server.ask("POST", f"/api/calls/{call_id}/{command}", body)
    assert reply.status in {200, 202}, reply
    assert reply.document == {"success": True, "call_id": call_id}, reply


async def test_words_keys_and_a_pause(sip4ai: Start, callee: Start, rtp_phone: Callable[..., RtpPhone]) -> None:
    phone = rtp_phone()
    line: Callee = await callee(audio_port=phone.port)
    server: Sip4ai = await sip4ai(config(line))
    call_id = await server.places("+493010200", agent_id="quiet", machines={"detect": False})
    await hears(phone, TALKS_HZ)
    await hears(phone, TALKS_HZ, loud=False)
    await done(server, call_id, "say", text="One moment, please.")
    await hears(phone, SAYS_HZ)
    await hears(phone, SAYS_HZ, loud=False)
    await done(server, call_id, "dtmf", digits="12#A")
    for _ in range(200):
        if phone.digits() == "12#A":
            break
        await asyncio.sleep(POLL_S)
    assert phone.digits() == "12#A"
    held = time.monotonic()
    await done(server, call_id, "hold", hold=True)
    await asyncio.sleep(1.0)
    await done(server, call_id, "say", text="Nobody hears this.")
    assert max(abs(phone.heard_between(held + 0.3, time.monotonic()))) > 300, "no hold audio"
    assert loudest_db(phone.heard_between(held + 0.3, time.monotonic()), SAYS_HZ) < HEARD_DB
    await done(server, call_id, "hold", hold=False)
    await asyncio.sleep(2.0)
    await done(server, call_id, "say", text="Here I am again.")
    await hears(phone, SAYS_HZ)
    for command, wrong in (("dtmf", {"digits": "x"}), ("say", {"text": ""}), ("hold", {}), ("transfer", {})):
        refused = await server.ask("POST", f"/api/calls/{call_id}/{command}", wrong)
        assert refused.status in {400, 422}, (command, refused)
    await server.ask("DELETE", f"/api/calls/{call_id}")
    await server.over(call_id)
    late_commands: dict[str, dict[str, Any]] = {"dtmf": {"digits": "1"}, "hold": {"hold": True}}
    for command, body in late_commands.items():
        late = await server.ask("POST", f"/api/calls/{call_id}/{command}", body)
        assert late.status == 400, (command, late)
    await server.interrupted()


async def test_a_transfer_by_the_api(sip4ai: Start, callee: Start, rtp_phone: Callable[..., RtpPhone]) -> None:
    """To a desk, which hears the callee; one that costs is 403 and leaves the call as it was."""
    here, there = rtp_phone(), rtp_phone()
    line: Callee = await callee(audio_port=here.port)
    desk: Callee = await callee(audio_port=there.port)
    there.begin_to_say(tone(TARGET_HZ, 60_000))
    server: Sip4ai = await sip4ai(config(line))
    call_id = await server.places("+493020200", agent_id="quiet", machines={"detect": False})
    await hears(here, TALKS_HZ)
    for target in {**COSTLY, **REFERRED_TO}.values():
        if target == REFERRED_TO["unlisted"]:
            continue
        wanted = {"target": written(target, desk), "mode": "bridge"}
        refused = await server.ask("POST", f"/api/calls/{call_id}/transfer", wanted)
        assert refused.status in {403, 422}, (target, refused)
        assert refused.document["field"] == "target", refused
    await done(server, call_id, "say", text="I am still here.")
    await hears(here, SAYS_HZ)
    await hears(here, SAYS_HZ, loud=False)
    assert not desk.got("INVITE")
    assert len(line.got("INVITE")) == 1
    await done(server, call_id, "transfer", target=f"sip:desk200@127.0.0.1:{desk.port}", mode="bridge")
    await hears(here, TARGET_HZ)
    here.begin_to_say(tone(CALLER_HZ, 60_000))
    await hears(there, CALLER_HZ)
    await server.ask("DELETE", f"/api/calls/{call_id}")
    call = await server.over(call_id)
    assert call["status"] == "completed"
    (ended,) = [one for one in events(server.record(call_id), "TransferEnded") if one["outcome"] == "connected"]
    assert ended["mode"] == "bridge"
    assert len(desk.got("BYE")) == len(line.got("BYE")) == 1
