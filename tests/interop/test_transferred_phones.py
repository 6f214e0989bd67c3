"""Transfers of, to and by real phones: baresip, linphone and baresip-python, each with habits of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.interop.baresip import Baresip
from tests.interop.cells import Cell
from tests.interop.linphone import Linphone
from tests.interop.offhook_server import OffhookServer, Record, events
from tests.interop.rtp_phone import RtpPhone
from tests.interop.sippers import SippRun
from tests.interop.speech import Samples, read_wav, silence, tone, write_wav
from tests.interop.tools import free_sip_port
from tests.interop.transfers import ANSWER_HZ, BACK_HZ, CALLER_HZ, CALLER_MS, HEARD_DB, TARGET_HZ, agent, loudest_db
from tests.interop.trunks import Start, python_phone

TALK_S = 1.5
UNHURRIED_MS = 1200
"""From the answer to the transfer: baresip names what it records by the second, and linphone takes time to start."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Phones:
    """How the three are started."""

    baresip: Start
    linphone: Start
    folder: Path

    def speech(self, hz: float) -> Path:
        return write_wav(self.folder / f"{hz}.wav", tone(hz, 30_000))

    def speech_after(self, silent_ms: int, hz: float) -> Path:
        """A tone of ``CALLER_MS``, with silence before and after it."""
        return write_wav(
            self.folder / "once.wav", np.concatenate([silence(silent_ms), tone(hz, CALLER_MS), silence(20_000)])
        )

    async def is_called(self, peer: str, hz: float) -> tuple[str, Awaitable[Samples]]:
        """Let it wait for a call, and for the one that replaces it: its URI, and what it hears of the second."""
        if peer == "linphone":
            console: Linphone = await self.linphone(speaks=self.speech(hz), loopback=True)
            return console.uri, asyncio.create_task(self._replaced(console))
        port = free_sip_port()
        wanted = {"domain": f"127.0.0.1:{port}", "config": f"sip_listen 127.0.0.1:{port}\n", "plan": "be_target"}
        told = asyncio.create_task(self._python(hz, wanted))
        await asyncio.sleep(1.5)  # its listening socket cannot be awaited from here
        return f"sip:python@127.0.0.1:{port}", told

    async def _replaced(self, console: Linphone) -> Samples:
        await console.established(20)
        await console.record("there.wav")
        await console.established(20, number=2)
        await asyncio.sleep(TALK_S)
        await console.hang_up()
        await console.closed(number=2)
        return console.heard("there.wav")

    async def _python(self, hz: float, wanted: Mapping[str, Any]) -> Samples:
        heard = self.folder / f"heard-{hz}.wav"
        await python_phone(self.folder, tone_hz=hz, heard=str(heard), **wanted)
        return read_wav(heard)

    async def is_transferred(self, peer: str, uri: str, hz: float, *, hangs_up: bool) -> Samples:
        """Let it call ``uri``, and whoever it is referred to; what it hears there."""
        if peer == "baresip-python":
            wanted = {"domain": uri.partition("@")[2].partition(";")[0], "dial": uri, "plan": "be_transferred"}
            return await self._python(hz, wanted)
        if peer == "baresip":
            phone: Baresip = await self.baresip(speaks=self.speech(hz))
            await phone.dial(uri)
            await phone.event("CALL_CLOSED", 20, number=2)
            return phone.heard(2)
        console: Linphone = await self.linphone(speaks=self.speech(hz), loopback=True)
        await console.dial(uri)
        await console.established()
        await console.record("there.wav")
        await console.established(20, number=2)
        if hangs_up:
            await asyncio.sleep(TALK_S)
            await console.hang_up()
        await console.closed(20, number=2)
        return console.heard("there.wav")


@pytest.fixture
def phones(baresip: Start, linphone: Start, tmp_path: Path) -> Phones:
    return Phones(baresip=baresip, linphone=linphone, folder=tmp_path)


def assert_transferred(record: Record, mode: str) -> None:
    (ended,) = events(record, "TransferEnded")
    assert (ended["outcome"], ended["mode"]) == ("connected", mode)
    assert (record["ended_by"], record["cause"]) == ("agent", "transferred")
    assert len(events(record, "LegDialled")) == len(events(record, "LegEnded"))


@pytest.mark.parametrize("peer", ["baresip", "linphone", "baresip-python"])
async def test_a_phone_that_is_referred_talks_to_the_target(
    *, offhook: Start, sipp: Start, rtp_phone: Callable[..., RtpPhone], phones: Phones, cell: Cell, peer: str
) -> None:
    cell.fills(peer, "is transferred: blind")
    cell.note("UDP", "IPv4")
    far = rtp_phone()
    far.begin_to_say(tone(TARGET_HZ, 30_000))
    answering: SippRun = await sipp("uas_bye", audio_port=far.port, stay_ms=round(1000 * TALK_S))
    wanted = {"name": "sales", "target": f"sip:sales@127.0.0.1:{answering.port}", "mode": "blind"}
    server: OffhookServer = await offhook(agents=[agent(wanted, after_ms=UNHURRIED_MS)])
    heard = await phones.is_transferred(peer, server.uri("200"), CALLER_HZ, hangs_up=False)
    (await answering.result()).assert_all_went_well()
    assert_transferred(await server.ended_call(), "blind")
    assert loudest_db(heard, TARGET_HZ) > HEARD_DB
    assert loudest_db(far.heard(), CALLER_HZ) > HEARD_DB
    assert max(loudest_db(heard, hz) for hz in (BACK_HZ, ANSWER_HZ)) < HEARD_DB


@pytest.mark.parametrize(("peer", "target"), [("linphone", "baresip-python"), ("baresip-python", "linphone")])
async def test_a_phone_takes_over_the_call_that_we_made_to_the_target(
    *, offhook: Start, phones: Phones, cell: Cell, peer: str, target: str
) -> None:
    """Attended: REFER with Replaces. The target lets go of our leg before the caller's side tells how it went."""
    cell.fills(peer, "is transferred: attended")
    cell.fills(target, "is the target: attended")
    cell.note("UDP", "IPv4")
    uri, target_hears = await phones.is_called(target, TARGET_HZ)
    wanted = {"name": "sales", "target": uri, "mode": "attended"}
    server: OffhookServer = await offhook(agents=[agent(wanted, after_ms=UNHURRIED_MS)])
    hangs_up = peer == "linphone"
    caller_hears = await phones.is_transferred(peer, server.uri("200"), CALLER_HZ, hangs_up=hangs_up)
    assert_transferred(await server.ended_call(), "attended")
    assert loudest_db(caller_hears, TARGET_HZ) > HEARD_DB
    assert loudest_db(await target_hears, CALLER_HZ) > HEARD_DB


async def test_a_phone_without_replaces_is_bridged_instead(
    *, offhook: Start, sipp: Start, rtp_phone: Callable[..., RtpPhone], baresip: Start, phones: Phones, cell: Cell
) -> None:
    """baresip 1.0 does not say that it knows Replaces, and would call the target anew: it is not asked."""
    cell.fills("baresip", "is transferred: bridge")
    cell.note("UDP", "IPv4")
    far = rtp_phone()
    far.begin_to_say(tone(TARGET_HZ, 30_000))
    answering: SippRun = await sipp("uas_bye", audio_port=far.port, stay_ms=round(1000 * TALK_S))
    wanted = {"name": "sales", "target": f"sip:sales@127.0.0.1:{answering.port}", "mode": "attended"}
    server: OffhookServer = await offhook(agents=[agent(wanted)])
    phone: Baresip = await baresip(speaks=phones.speech(CALLER_HZ))
    await phone.dial(server.uri("200"))
    await phone.event("CALL_CLOSED")
    (await answering.result()).assert_all_went_well()
    record = await server.ended_call()
    (ended,) = events(record, "TransferEnded")
    assert (ended["outcome"], ended["mode"]) == ("connected", "bridge")
    assert loudest_db(phone.heard(), TARGET_HZ) > HEARD_DB
    assert loudest_db(far.heard(), CALLER_HZ) > HEARD_DB


@pytest.mark.parametrize("peer", ["baresip", "linphone"])
async def test_a_phone_that_finds_the_target_busy_has_the_agent_back(
    *, offhook: Start, sipp: Start, baresip: Start, linphone: Start, phones: Phones, cell: Cell, peer: str
) -> None:
    """linphone holds our leg while it calls, tells of the end with "active", and resumes only then."""
    cell.fills(peer, "is transferred: blind")
    cell.note("UDP", "IPv4")
    refusing: SippRun = await sipp("uas_refuses", stay_ms=300, keys={"outcome": "486 Busy Here"})
    wanted = {"name": "sales", "target": f"sip:sales@127.0.0.1:{refusing.port}", "mode": "blind"}
    server: OffhookServer = await offhook(agents=[agent(wanted, after_ms=UNHURRIED_MS)])
    speech = phones.speech_after(UNHURRIED_MS + 900, CALLER_HZ)
    phone = await (baresip(speaks=speech) if peer == "baresip" else linphone(speaks=speech, loopback=True))
    await phone.dial(server.uri("200"))
    await asyncio.sleep(UNHURRIED_MS / 1000 + 5)  # linphone begins its file anew when it resumes
    await phone.hang_up()
    (await refusing.result()).assert_all_went_well()
    record = await server.ended_call()
    (ended,) = events(record, "TransferEnded")
    assert (ended["outcome"], ended["mode"], ended["sip_code"]) == ("busy", "blind", 486)
    assert (record["ended_by"], record["cause"]) == ("caller", "hangup")
    await phone.event("CALL_CLOSED", number=2) if peer == "baresip" else await phone.closed()
    assert loudest_db(phone.heard(), BACK_HZ) > HEARD_DB
    assert loudest_db(phone.heard(), ANSWER_HZ) > HEARD_DB
