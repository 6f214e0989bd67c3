"""Calls across address translators: heard both ways, and nobody else is heard or served."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from tests.interop.kamailio import Kamailio
from tests.interop.offhook_server import OffhookServer, Record, events
from tests.interop.rtp_phone import RtpPhone
from tests.interop.sippers import SippRun
from tests.interop.speech import RATE_HZ, Samples, assert_heard_in_full, channel, tone
from tests.interop.translator import (
    INSIDE,
    NEIGHBOUR,
    OUTSIDE,
    PUBLIC,
    STRANGER,
    Intruder,
    forget_after,
    phone_in,
    translated_network,
)

AGENT_HZ = (500, 800, 650, 1100, 950, 700, 1250, 600)
CALLER_HZ = (1200, 700, 1050, 550, 850, 1300, 750, 1000)
STRANGER_HZ = 2300
NOTE_MS = 100
"""Of the melodies: no 200 ms of one sound like others of it."""

QUIET_DB = -40.0
"""A tone this far below another is not there."""

SPEAKS = {"on": "digit", "digit": "5", "do": [{"do": "speak", "tone_hz": hz, "ms": NOTE_MS} for hz in AGENT_HZ]}
AGENT = {
    "id": "tones",
    "provider": "scripted",
    "record": True,
    "options": {"script": json.dumps({"steps": [SPEAKS]})},
}

Offhook = Callable[..., Awaitable[OffhookServer]]
Sipp = Callable[..., Awaitable[SippRun]]


@asynccontextmanager
async def phone(namespace: str, host: str) -> AsyncIterator[RtpPhone]:
    one = phone_in(namespace, host)
    try:
        yield one
    finally:
        await one.close()


def melody(notes: tuple[int, ...]) -> Samples:
    return np.concatenate([tone(hz, NOTE_MS) for hz in notes])


def media_address(message: str) -> tuple[str, int]:
    lines = message.splitlines()
    host = next(line.split()[-1] for line in lines if line.startswith("c="))
    return host, int(next(line.split()[1] for line in lines if line.startswith("m=audio")))


def contact_host(message: str) -> str:
    line = next(line for line in message.splitlines() if line.startswith("Contact:"))
    return line.partition("@")[2].partition(":")[0]


async def converse(one: RtpPhone, run: SippRun) -> str:
    """The caller sings and dials 5, the agent sings; returns our 200. The phone sends where SDP says."""
    answer = (await run.message("SIP/2.0 200", sent=False)).text
    one.remote = media_address(answer)
    await asyncio.sleep(0.3)
    await one.say(melody(CALLER_HZ))
    await one.dial("5")
    (await run.result()).assert_all_went_well()
    return answer


async def assert_both_were_heard(one: RtpPhone, server: OffhookServer, folder: Path) -> tuple[Record, Samples]:
    """The record, and what offhook heard of the caller."""
    record = await server.ended_call()
    heard = await channel(server.recordings.parent / record["recording"], 1, folder / "caller.wav")
    assert_heard_in_full(melody(CALLER_HZ), heard)
    assert_heard_in_full(melody(AGENT_HZ), one.heard())
    assert [event["digit"] for event in events(record, "DigitReceived")] == ["5"]
    return record, heard


def level_db(samples: Samples, hz: float) -> float:
    """How loud a tone is in its loudest 100 ms, against full scale."""
    length = RATE_HZ // 10
    wave = np.exp(-2j * np.pi * hz * np.arange(length) / RATE_HZ) * np.hanning(length)
    pieces = [samples[at : at + length] for at in range(0, len(samples) - length, length // 2)]
    return float(20 * np.log10(max(abs(np.dot(piece, wave)) for piece in pieces) / (32768 * length / 4) + 1e-9))


# ── the caller behind a translator ───────────────────────────────────────────────────────────────────────


@pytest.mark.cell("SIPp", "behind NAT")
async def test_a_caller_behind_a_port_remapping_translator(offhook: Offhook, sipp: Sipp, tmp_path: Path) -> None:
    """Its Via, Contact and SDP all name an address that leads nowhere."""
    async with translated_network("port_remapping") as network, phone(network.inside, INSIDE) as one:
        server = await offhook(agents=[AGENT], namespace=network.outside, host=OUTSIDE)
        run = await sipp(
            "uac",
            to=(OUTSIDE, 5060),
            user="tones",
            stay_ms=6000,
            host=INSIDE,
            namespace=network.inside,
            audio_port=one.port,
        )
        await converse(one, run)
        record, _ = await assert_both_were_heard(one, server, tmp_path)
        (moved,) = events(record, "MediaPathChanged")
        assert moved["remote_address"].startswith(f"{PUBLIC}:")


async def test_our_bye_reaches_a_caller_behind_a_port_remapping_translator(offhook: Offhook, sipp: Sipp) -> None:
    brief = {"id": "brief", "provider": "scripted", "options": {"script": json.dumps({"hang_up_after_ms": 500})}}
    async with translated_network("port_remapping") as network:
        server = await offhook(agents=[brief], namespace=network.outside, host=OUTSIDE)
        run = await sipp("uac_waits_for_bye", to=(OUTSIDE, 5060), user="brief", host=INSIDE, namespace=network.inside)
        (await run.result()).assert_all_went_well()
        assert (await server.ended_call())["ended_by"] == "agent"


# ── offhook behind a translator ──────────────────────────────────────────────────────────────────────────


async def test_offhook_behind_one_to_one_nat_serves_public_and_private_callers(
    offhook: Offhook, sipp: Sipp, tmp_path: Path
) -> None:
    async with translated_network("one_to_one") as network:
        server = await offhook(
            agents=[AGENT], namespace=network.inside, host=INSIDE, sip={"advertised_address": PUBLIC}
        )
        for namespace, host, to in ((network.outside, OUTSIDE, PUBLIC), (network.neighbour, NEIGHBOUR, INSIDE)):
            async with phone(namespace, host) as one:
                run = await sipp(
                    "uac",
                    to=(to, 5060),
                    user="tones",
                    stay_ms=6000,
                    host=host,
                    namespace=namespace,
                    audio_port=one.port,
                )
                answer = await converse(one, run)
                assert (contact_host(answer), media_address(answer)[0]) == (to, to)
                assert one.sources == {media_address(answer)}
                assert_heard_in_full(melody(AGENT_HZ), one.heard())
        for record in await server.ended_calls(2):
            heard = await channel(server.recordings.parent / record["recording"], 1, tmp_path / "caller.wav")
            assert_heard_in_full(melody(CALLER_HZ), heard)
            assert [event["digit"] for event in events(record, "DigitReceived")] == ["5"]


IDLE_S = 25
"""What the translator remembers; RFC 4787 REQ-5 allows no less than 120 s, many stop at 30."""


@pytest.mark.cell("Kamailio", "behind NAT")
@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_registration_is_kept_through_a_port_remapping_translator_that_forgets(
    offhook: Offhook, sipp: Sipp, kamailio: Callable[..., Awaitable[Kamailio]], tmp_path: Path, transport: str
) -> None:
    """Kamailio fixes nobody's Contact: it must be told the address it sees, and the way back must stay open.

    A datagram or a ping in time keeps it open; where that came too late, it is registered anew under its new port.
    """
    trunk = {"id": "pbx", "kind": "register", "server": OUTSIDE, "port": 5060, "transport": transport}
    async with translated_network("port_remapping") as network, phone(network.outside, OUTSIDE) as one:
        await forget_after(network, IDLE_S)
        registrar = await kamailio(host=OUTSIDE, namespace=network.outside)
        server = await offhook(
            agents=[AGENT], namespace=network.inside, host=INSIDE, trunks=[trunk | {"username": "tones"}]
        )
        await server.program.says("trunk pbx: .*online")
        source, contact = await registrar.registered("tones", contact=rf"{re.escape(PUBLIC)}:\d+")
        assert source.startswith(f"{PUBLIC}:")
        assert contact == source != f"{PUBLIC}:5060"
        await asyncio.sleep(IDLE_S + 15)
        run = await sipp(
            "uac",
            to=(OUTSIDE, 5060),
            user="tones",
            stay_ms=6000,
            host=OUTSIDE,
            namespace=network.outside,
            audio_port=one.port,
        )
        answer = (await run.message("SIP/2.0 200", sent=False)).text
        assert media_address(answer)[0] == PUBLIC
        await asyncio.sleep(0.3)
        await one.say(melody(CALLER_HZ))
        await one.dial("5")
        (await run.result()).assert_all_went_well()
        await assert_both_were_heard(one, server, tmp_path)


# ── strangers ────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_intruder_is_neither_heard_nor_served(offhook: Offhook, sipp: Sipp, tmp_path: Path) -> None:
    """It sprays the whole RTP range with good packets before, during and after a caller behind NAT is learned."""
    low, high = 20_000, 20_007
    async with translated_network("port_remapping") as network, contextlib.AsyncExitStack() as cleanup:
        one = await cleanup.enter_async_context(phone(network.inside, INSIDE))
        server = await offhook(
            agents=[AGENT], namespace=network.outside, host=OUTSIDE, rtp={"port_min": low, "port_max": high}
        )
        sound = tone(STRANGER_HZ, 1000)
        intruder = Intruder(network.stranger, STRANGER, OUTSIDE, range(low, high + 1), sound)
        cleanup.push_async_callback(intruder.close)
        run = await sipp(
            "uac",
            to=(OUTSIDE, 5060),
            user="tones",
            stay_ms=7000,
            host=INSIDE,
            namespace=network.inside,
            audio_port=one.port,
        )
        await run.message("SIP/2.0 200", sent=False)
        await asyncio.sleep(1)  # learning time, in which the intruder is the only one to send
        await converse(one, run)
        record, heard = await assert_both_were_heard(one, server, tmp_path)
        assert intruder.sent > 1000
        assert intruder.received == 0
        assert level_db(heard, CALLER_HZ[0]) > -20
        assert level_db(heard, STRANGER_HZ) < level_db(heard, CALLER_HZ[0]) + QUIET_DB
        assert [event["remote_address"].split(":")[0] for event in events(record, "MediaPathChanged")] == [PUBLIC]
