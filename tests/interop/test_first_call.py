"""The first call, with real clients: heard in full, understood, and ended on both sides."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from tests.interop.baresip import Baresip
from tests.interop.callers import BaresipCaller, Caller, Client, LinphoneCaller, SippCaller, Transport
from tests.interop.cells import Cell
from tests.interop.linphone import Linphone
from tests.interop.offhook_server import OffhookServer, events, said
from tests.interop.rtp_phone import RtpPhone
from tests.interop.sippers import SippRun
from tests.interop.speech import (
    assert_heard_in_full,
    channel,
    flite_wav,
    read_wav,
    silence,
    tone,
    write_wav,
)

BOTH_ENDED_S = 1.0
"""From the moment one side hangs up to the moment the other has ended the call."""

CLIENT_DRIFT_MS = {"sipp": 1.0, "baresip": 20.0, "linphone": 60.0}
"""What a client's own jitter buffer may add or take: an ``RtpPhone`` (with SIPp) places frames by timestamp."""

GREETING_HZ = (500, 800, 650, 1100, 950, 700, 1250, 600)
"""100 ms each: no 200 ms of it sound like any other."""

# An agent for each kind of call; ``provider`` scripted needs no recognition and no voice.
TONES = {
    "id": "tones",
    "provider": "scripted",
    "options": {
        "script": json.dumps(
            {
                "steps": [
                    {"on": "ready", "do": [{"do": "speak", "tone_hz": hz, "ms": 100} for hz in GREETING_HZ]},
                    {"on": "digit", "digit": "5", "do": [{"do": "speak", "text": "five", "ms": 200}]},
                ]
            }
        )
    },
}
BRIEF = {"id": "brief", "provider": "scripted", "options": {"script": json.dumps({"hang_up_after_ms": 1500})}}
SLOW = {"id": "slow", "provider": "scripted", "options": {"script": json.dumps({"open_after_ms": 20_000})}}

VOICES = ("slt", "rms", "kal")
GREETING_MS = 8000
"""When the callers speak: the demo agent has greeted by then."""

ANSWER_MS = 5000
"""From the end of a question: it is recognised, and "It is 9:05 PM." spoken, by then."""

Offhook = Callable[..., Awaitable[OffhookServer]]
Callers = Callable[..., Awaitable[Caller]]

clients = pytest.mark.parametrize("client", get_args(Client))
PEER = {"sipp": "SIPp", "baresip": "baresip", "linphone": "linphone"}
transports = pytest.mark.parametrize("transport", get_args(Transport))


@pytest.fixture
def caller(
    sipp: Callable[..., Awaitable[SippRun]],
    baresip: Callable[..., Awaitable[Baresip]],
    linphone: Callable[..., Awaitable[Linphone]],
    rtp_phone: Callable[..., RtpPhone],
    tmp_path: Path,
) -> Callers:
    """``await caller(client, transport, stay_s=…, speaks=WAV, sipp_scenario=…)``: see ``Caller``."""

    async def start(
        client: Client,
        transport: Transport,
        *,
        stay_s: float = 0.0,
        speaks: Path | None = None,
        sipp_scenario: str = "uac",
    ) -> Caller:
        wav = speaks or write_wav(tmp_path / "silence.wav", silence(30_000))
        match client:
            case "sipp":
                return SippCaller(sipp, rtp_phone(), transport, speaks=speaks, scenario=sipp_scenario, stay_s=stay_s)
            case "baresip":
                return BaresipCaller(await baresip(speaks=wav, transport=transport), transport, stay_s)
            case "linphone":
                return LinphoneCaller(await linphone(speaks=wav, transport=transport), transport, stay_s)

    return start


# ── heard ────────────────────────────────────────────────────────────────────────────────────────────────


@clients
@transports
async def test_the_greeting_is_heard_in_full(
    offhook: Offhook, caller: Callers, cell: Cell, client: Client, transport: Transport
) -> None:
    cell.fills(PEER[client], "inbound call")
    cell.note(transport.upper(), "IPv4")
    server = await offhook(agents=[TONES])
    one = await caller(client, transport, stay_s=2.5)
    await one.dial(server, "tones")
    await one.established()
    await one.hang_up()
    await one.closed()
    greeting = np.concatenate([tone(hz, 100) for hz in GREETING_HZ])
    assert_heard_in_full(greeting, one.heard(), drift_ms=CLIENT_DRIFT_MS[client])


@pytest.mark.parametrize("client", ["sipp", "baresip"])  # linphone stretches speech in its jitter buffer; see above
async def test_the_demo_agents_greeting_is_heard_as_it_was_recorded(
    offhook: Offhook, caller: Callers, client: Client, tmp_path: Path
) -> None:
    server = await offhook()
    one = await caller(client, "udp", stay_s=8)
    await one.dial(server, "anybody")
    await one.established()
    await one.hang_up()
    await one.closed()
    record = await server.ended_call()
    [turn] = [turn for turn in record["transcript"] if turn["speaker"] == "agent"]
    assert len(turn["text"].split()) > 3
    assert not turn["interrupted"]
    spoken = await channel(server.recordings.parent / record["recording"], 2, tmp_path / "agent.wav")
    assert_heard_in_full(spoken, one.heard(), drift_ms=CLIENT_DRIFT_MS[client])


# ── understood ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def questions(tmp_path: Path) -> Path:
    """ "what time is it" in each of flite's voices, one after the other, after the greeting."""
    spoken = [silence(GREETING_MS)]
    for voice in VOICES:
        wav = await flite_wav(tmp_path / f"{voice}.wav", voice, "what time is it", after_ms=ANSWER_MS)
        spoken.append(read_wav(wav))
    return write_wav(tmp_path / "questions.wav", np.concatenate([*spoken, silence(20_000)]))


@clients
@transports
async def test_what_time_is_it_is_answered_with_the_time(
    offhook: Offhook, caller: Callers, client: Client, transport: Transport, questions: Path
) -> None:
    server = await offhook()
    stay_s = (GREETING_MS + len(VOICES) * (1000 + ANSWER_MS)) / 1000
    one = await caller(client, transport, stay_s=stay_s, speaks=questions)
    await one.dial(server, "demo")
    await one.established()
    await one.hang_up()
    await one.closed()
    record = await server.ended_call()
    turns = [(turn["speaker"], turn["text"].lower()) for turn in record["transcript"]]
    assert [speaker for speaker, _ in turns] == ["agent"] + ["caller", "agent"] * len(VOICES), turns
    asked_at = record["answered_at"] + GREETING_MS / 1000
    for voice, (_, heard), (_, answer) in zip(VOICES, turns[1::2], turns[2::2], strict=True):
        assert "time" in heard, (voice, turns)
        assert tells_the_time(answer, asked_at), (voice, turns)


@clients
@transports
async def test_digits_are_understood(
    offhook: Offhook, caller: Callers, cell: Cell, client: Client, transport: Transport
) -> None:
    cell.fills(PEER[client], "DTMF")
    cell.note(transport.upper(), "IPv4")
    server = await offhook(agents=[TONES])
    one = await caller(client, transport, stay_s=3)
    await one.dial(server, "tones")
    await one.established()
    await one.send_digits("159")
    await one.hang_up()
    await one.closed()
    record = await server.ended_call()
    assert record["digits"] == "159"
    assert [event["digit"] for event in events(record, "DigitReceived")] == ["1", "5", "9"]
    assert said(record, "agent")[-1] == "five"


# ── ended ────────────────────────────────────────────────────────────────────────────────────────────────


@clients
@transports
async def test_the_caller_hangs_up_and_both_end(
    offhook: Offhook, caller: Callers, cell: Cell, client: Client, transport: Transport
) -> None:
    cell.fills(PEER[client], "hangs up")
    cell.note(transport.upper(), "IPv4")
    server = await offhook(agents=[TONES])
    one = await caller(client, transport, stay_s=1)
    await one.dial(server, "tones")
    await one.established()
    hung_up_at = await one.hang_up()
    assert await one.closed() - hung_up_at < BOTH_ENDED_S
    record = await server.ended_call()
    assert -0.1 < record["ended_at"] - hung_up_at < BOTH_ENDED_S
    assert (record["ended_by"], record["cause"]) == ("caller", "hangup")


@clients
@transports
async def test_the_agent_hangs_up_and_both_end(
    offhook: Offhook, caller: Callers, cell: Cell, client: Client, transport: Transport
) -> None:
    cell.fills(PEER[client], "is hung up on")
    cell.note(transport.upper(), "IPv4")
    server = await offhook(agents=[BRIEF])
    one = await caller(client, transport, sipp_scenario="uac_waits_for_bye")
    await one.dial(server, "brief")
    await one.established()
    closed_at = await one.closed()
    record = await server.ended_call()
    assert abs(closed_at - record["ended_at"]) < BOTH_ENDED_S
    assert (record["ended_by"], record["cause"]) == ("agent", "hangup")
    assert 1000 <= record["duration_ms"] <= 3000


@clients
@transports
async def test_a_call_cancelled_while_it_rings_ends_on_both_sides(
    offhook: Offhook, caller: Callers, cell: Cell, client: Client, transport: Transport
) -> None:
    cell.fills(PEER[client], "CANCEL")
    cell.note(transport.upper(), "IPv4")
    server = await offhook(agents=[SLOW])
    one = await caller(client, transport, stay_s=0.5, sipp_scenario="uac_cancel")
    await one.dial(server, "slow")
    await one.ringing()
    cancelled_at = await one.hang_up()
    assert await one.closed() - cancelled_at < BOTH_ENDED_S
    record = await server.ended_call()
    assert -0.1 < record["ended_at"] - cancelled_at < BOTH_ENDED_S
    assert (record["ended_by"], record["cause"], record["answered_at"]) == ("caller", "cancelled", None)


# ── also ─────────────────────────────────────────────────────────────────────────────────────────────────


@transports
async def test_an_invite_without_an_offer_gets_ours(
    offhook: Offhook, sipp: Callable[..., Awaitable[SippRun]], rtp_phone: Callable[..., RtpPhone], transport: Transport
) -> None:
    server = await offhook(agents=[TONES])
    media = rtp_phone()
    run = await sipp(
        "uac_late_offer",
        to=(server.host, server.port),
        user="tones",
        transport=transport,
        audio_port=media.port,
        stay_ms=2500,
    )
    (await run.result()).assert_all_went_well()
    greeting = np.concatenate([tone(hz, 100) for hz in GREETING_HZ])
    assert_heard_in_full(greeting, media.heard(), drift_ms=CLIENT_DRIFT_MS["sipp"])


async def test_linphone_as_installed_is_heard_though_its_sdp_names_an_ipv6_address(
    offhook: Offhook, linphone: Callable[..., Awaitable[Linphone]], tmp_path: Path
) -> None:
    """It calls over IPv4 and writes ``c=IN IP6``: its audio is found by where its packets come from."""
    server = await offhook(agents=[TONES])
    client = await linphone(speaks=write_wav(tmp_path / "silence.wav", silence(30_000)), ipv6=True)
    one = LinphoneCaller(client, "udp", 2.5)
    await one.dial(server, "tones")
    await one.established()
    await one.hang_up()
    await one.closed()
    (report,) = events(await server.ended_call(), "MediaReported")
    assert report["packets_received"] > 50
    greeting = np.concatenate([tone(hz, 100) for hz in GREETING_HZ])
    assert_heard_in_full(greeting, one.heard(), drift_ms=CLIENT_DRIFT_MS["linphone"])


async def test_ctrl_c_ends_a_call_politely(offhook: Offhook, caller: Callers) -> None:
    server = await offhook(agents=[TONES])
    one = await caller("baresip", "udp")
    await one.dial(server, "tones")
    await one.established()
    server.program.interrupt()
    await one.closed(timeout_s=2)
    assert await server.program.ends(5) == 0
    record = await server.ended_call()
    assert (record["ended_by"], record["cause"]) == ("system", "shutdown")


def tells_the_time(text: str, asked_at: float) -> bool:
    """Whether ``text`` names the local time at which it was asked, or up to two minutes later: "9:05 pm", "12 am"."""
    told = re.search(r"\b(\d{1,2})(?::(\d{2}))? (am|pm)\b", text)
    if told is None:
        return False
    minutes = 60 * (int(told[1]) % 12) + int(told[2] or 0) + (720 if told[3] == "pm" else 0)
    asked = time.localtime(asked_at)
    return (minutes - 60 * asked.tm_hour - asked.tm_min) % 1440 <= 2
