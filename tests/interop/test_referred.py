"""Phones that transfer us, or others to us: REFER as the trunk's rule says, and INVITE with Replaces."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.interop.baresip import Baresip
from tests.interop.cells import Cell
from tests.interop.linphone import Linphone
from tests.interop.offhook_server import OffhookServer, events, scripted
from tests.interop.rtp_phone import RtpPhone
from tests.interop.sippers import SippRun
from tests.interop.speech import silence, tone, write_wav
from tests.interop.transfers import CALLER_HZ, HEARD_DB, TARGET_HZ, loudest_db
from tests.interop.trunks import Start, python_phone

AGENT_HZ = 500
AGENT = scripted("200", greeting_tone_hz=AGENT_HZ, greeting_ms=1000, greeting_repeats=True)
OBEDIENT = {"id": "anybody", "kind": "open", "refer": "accept"}
TALK_MS = 1500

peers = pytest.mark.parametrize("peer", ["baresip", "linphone", "baresip-python"])
Transfers = Callable[[str, str, str], Any]


@pytest.fixture
def transfers(baresip: Start, linphone: Start, tmp_path: Path) -> Transfers:
    """``await transfers(peer, uri, target)``: it calls ``uri`` and sends it on to ``target``; then its call ends."""

    async def run(peer: str, uri: str, target: str) -> None:
        speech = write_wav(tmp_path / "speech.wav", silence(30_000))
        if peer == "baresip":
            phone: Baresip = await baresip(speaks=speech)
            await phone.dial(uri)
            await phone.event("CALL_ESTABLISHED")
            await phone.transfer(target)
            await phone.event("CALL_CLOSED" if "accept" in target else "TRANSFER_FAILED")
        elif peer == "linphone":
            console: Linphone = await linphone(speaks=speech)
            await console.dial(uri)
            await console.established()
            await console.transfer(target)
            if "accept" not in target:
                await asyncio.sleep(1)
                await console.hang_up()
            await console.closed()
        else:
            told = await python_phone(
                tmp_path, domain=uri.partition("@")[2].partition(";")[0], dial=uri, plan="transfer", target=target
            )
            assert ("603" in told["problem"]) == ("accept" not in target)

    return run


@peers
async def test_whoever_transfers_us_is_refused_unless_the_trunk_says_otherwise(
    offhook: Start, transfers: Transfers, cell: Cell, peer: str
) -> None:
    cell.fills(peer, "may not transfer us")
    cell.note("UDP", "IPv4")
    server: OffhookServer = await offhook(agents=[AGENT])
    await transfers(peer, server.uri("200"), "sip:refused@127.0.0.1:9")
    record = await server.ended_call()
    assert (record["ended_by"], record["cause"]) == ("caller", "hangup")
    (refused,) = events(record, "CallRefused")
    assert (refused["status"], refused["rule"]) == (603, "REFER from outside")
    assert "sip:refused@127.0.0.1:9" in refused["evidence"]
    assert '"refer": "accept"' in refused["fix"]
    assert not events(record, "LegDialled")


@peers
async def test_whoever_may_transfer_us_leaves_the_agent_with_the_target(
    *, offhook: Start, sipp: Start, rtp_phone: Callable[..., RtpPhone], transfers: Transfers, cell: Cell, peer: str
) -> None:
    cell.fills(peer, "transfers us")
    cell.note("UDP", "IPv4")
    far = rtp_phone()
    far.begin_to_say(tone(TARGET_HZ, 20_000))
    answering: SippRun = await sipp("uas_bye", audio_port=far.port, stay_ms=TALK_MS)
    server: OffhookServer = await offhook(agents=[AGENT], trunks=[OBEDIENT])
    await transfers(peer, server.uri("200"), f"sip:accepted@127.0.0.1:{answering.port}")
    (await answering.result()).assert_all_went_well()
    record = await server.ended_call()
    (replaced,) = events(record, "PartyReplaced")
    assert replaced["by"] == "refer"
    assert str(answering.port) in replaced["remote_uri"]
    assert record["cause"] == "hangup"
    assert loudest_db(far.heard(), AGENT_HZ) > HEARD_DB


async def test_a_phone_that_another_one_transfers_to_us_takes_its_place(
    offhook: Start, linphone: Start, cell: Cell, tmp_path: Path
) -> None:
    """baresip-python talks with linphone, consults us, and connects the two: INVITE with Replaces (RFC 3891)."""
    cell.fills("linphone", "replaces a caller")
    cell.note("UDP", "IPv4")
    speech = write_wav(tmp_path / "speech.wav", tone(CALLER_HZ, 30_000))
    console: Linphone = await linphone(speaks=speech, loopback=True)
    server: OffhookServer = await offhook(agents=[AGENT])
    transferring = asyncio.create_task(
        python_phone(
            tmp_path,
            domain=f"127.0.0.1:{server.port}",
            dial=console.uri,
            target=server.uri("200"),
            plan="transfer_attended",
        )
    )
    await console.established()
    await console.record("agent.wav")
    assert (await transferring)["problem"] == ""
    await console.established(number=2)
    await asyncio.sleep(TALK_MS / 1000)
    await console.hang_up()
    record = await server.ended_call()
    (replaced,) = events(record, "PartyReplaced")
    assert replaced["by"] == "replaces"
    assert "linphone" in replaced["remote_uri"]
    assert (record["ended_by"], record["cause"]) == ("caller", "hangup")
    await console.closed(number=2)
    assert loudest_db(console.heard("agent.wav"), AGENT_HZ) > HEARD_DB
