"""Transfers in every way and to every end: who hears whom afterwards, by tones; what the record says; who is left.

Each party has a tone of its own. The agent has two: one that it says when it is told how the transfer ended, and one
with which it answers whoever speaks then. So what the caller hears tells whether the agent hears him, too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pytest
from tests.interop.baresip import Baresip
from tests.interop.cells import Cell
from tests.interop.linphone import Linphone
from tests.interop.offhook_server import OffhookServer, Record, events, scripted
from tests.interop.rtp_phone import RtpPhone
from tests.interop.sippers import SippRun
from tests.interop.speech import RATE_HZ, Samples, read_wav, silence, tone, tone_db, write_wav
from tests.interop.tools import free_port, free_sip_port
from tests.interop.trunks import Start, python_phone

Mode = Literal["blind", "attended", "bridge"]
Situation = Literal["connected", "busy", "no answer", "declined", "unreachable", "caller hangs up", "target hangs up"]
Hearing = frozenset[tuple[str, str]]
"""Who hears whom."""

GREETING_HZ, BACK_HZ, ANSWER_HZ, CALLER_HZ, TARGET_HZ = 400, 700, 1100, 1900, 1500
HEARD_DB = -30
WINDOW = RATE_HZ // 10
GREETING_MS = 400
BACK_MS, CALLER_MS = 500, 400
SPEAKS_AFTER_S = 0.7
"""From the first that is heard after the transfer: the agent has said its part by then."""

STAY_MS = 3000
"""From the outcome until the caller hangs up: the agent speaks, the caller speaks, half a second passes, it answers."""

NO_ANSWER_S = 1.0
TALK_S = 1.5
UNHURRIED_MS = 1200
"""From the answer to the transfer: baresip names what it records by the second, and linphone takes time to start."""

SETTLED_S = 0.1
"""After the outcome: packets that were under way."""

ALONE: Hearing = frozenset()
BACK: Hearing = frozenset({("caller", "agent"), ("agent", "caller")})
TOGETHER: Hearing = frozenset({("caller", "target"), ("target", "caller")})

OUTCOMES: Mapping[Situation, str] = {
    "connected": "connected",
    "busy": "busy",
    "no answer": "no_answer",
    "declined": "refused",
    "unreachable": "failed",
    "caller hangs up": "abandoned",
    "target hangs up": "no_answer",
}
CODES: Mapping[Situation, str] = {
    "connected": "200 OK",
    "busy": "486 Busy Here",
    "no answer": "408 Request Timeout",
    "declined": "603 Decline",
    "unreachable": "503 Service Unavailable",
    "target hangs up": "487 Request Terminated",
}
"""What a caller's side tells that was referred, and what a target answers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Role:
    """A scenario of SIPp for one party. ``stay_ms`` is its pause, ``outcome`` its key of that name."""

    scenario: str
    stay_ms: int = STAY_MS
    outcome: str = ""

    @property
    def options(self) -> dict[str, Any]:
        return {"stay_ms": self.stay_ms, "keys": {"outcome": self.outcome} if self.outcome else None}


@dataclass(slots=True)
class Transfer:
    """One that was played to its end."""

    server: OffhookServer
    record: Record
    caller: RtpPhone
    target: RtpPhone
    runs: Mapping[str, SippRun]

    @property
    def outcome(self) -> Record:
        """The one fact that ends the one transfer."""
        (_started,) = events(self.record, "TransferStarted")
        (ended,) = events(self.record, "TransferEnded")
        return ended

    def hearing(self) -> Hearing:
        """Who heard whom after its end."""
        now = time.monotonic()
        ended = now - time.time() + self.outcome["at"] + SETTLED_S
        caller, target = (phone.heard_between(ended, now) for phone in (self.caller, self.target))
        found = {
            ("caller", "agent"): max(loudest_db(caller, hz) for hz in (GREETING_HZ, BACK_HZ)),
            ("agent", "caller"): loudest_db(caller, ANSWER_HZ),
            ("caller", "target"): loudest_db(caller, TARGET_HZ),
            ("target", "caller"): loudest_db(target, CALLER_HZ),
            ("target", "agent"): max(loudest_db(target, hz) for hz in (GREETING_HZ, BACK_HZ, ANSWER_HZ)),
        }
        return frozenset(pair for pair, level_db in found.items() if level_db > HEARD_DB)


def loudest_db(heard: Samples, hz: float) -> float:
    """How loud a tone was where it was loudest, in windows of 100 ms."""
    windows = np.array_split(heard, max(1, len(heard) // WINDOW))
    return max(tone_db(window, hz) for window in windows)


def agent(destination: Mapping[str, Any], *, after_ms: int = 200) -> dict[str, Any]:
    """Greets, transfers its caller, and when it is told the outcome says so and answers who speaks."""
    steps = [
        {"on": "ready", "do": [{"do": "speak", "tone_hz": GREETING_HZ, "ms": GREETING_MS}]},
        {
            "on": "ready",
            "after_ms": after_ms,
            "do": [{"do": "use_tool", "name": "transfer_call", "arguments": {"destination": "sales"}}],
        },
        {"on": "tool_result", "do": [{"do": "speak", "tone_hz": BACK_HZ, "ms": BACK_MS}]},
        {"on": "speech_stopped", "do": [{"do": "speak", "tone_hz": ANSWER_HZ, "ms": 400}]},
    ]
    return scripted("200", vad=True, steps=steps) | {"destinations": [destination]}


Play = Callable[..., Awaitable[Transfer]]


@pytest.fixture
def play(offhook: Start, sipp: Start, rtp_phone: Callable[..., RtpPhone]) -> Play:
    """``await play(mode, caller=Role, target=Role, **destination)``; target None: nobody is there."""

    async def run(mode: str, *, caller: Role, target: Role | None, **destination: Any) -> Transfer:
        phone, far = rtp_phone(), rtp_phone()
        runs: dict[str, SippRun] = {}
        uri = f"sip:sales@127.0.0.1:{free_port('tcp')};transport=tcp"
        if target is not None:
            runs["target"] = await sipp(target.scenario, audio_port=far.port, **target.options)
            uri = f"sip:sales@127.0.0.1:{runs['target'].port}"
        wanted = {"name": "sales", "target": uri, "mode": mode, "no_answer_s": NO_ANSWER_S} | destination
        server: OffhookServer = await offhook(agents=[agent(wanted)])
        to = (server.host, server.port)
        runs["caller"] = await sipp(caller.scenario, to=to, user="200", audio_port=phone.port, **caller.options)
        far.begin_to_say(tone(TARGET_HZ, 30_000))
        await somebody_else_speaks(phone, runs["caller"])
        await asyncio.sleep(SPEAKS_AFTER_S)
        phone.begin_to_say(tone(CALLER_HZ, CALLER_MS))
        for each in runs.values():
            (await each.result()).assert_all_went_well()
        return Transfer(server=server, record=await server.ended_call(), caller=phone, target=far, runs=runs)

    return run


async def somebody_else_speaks(phone: RtpPhone, run: SippRun) -> None:
    """Wait until the caller hears the agent that is back, or the target; or until he has hung up."""
    while run.program.running:
        now = time.monotonic()
        lately = phone.heard_between(now - 0.2, now)
        if max(loudest_db(lately, BACK_HZ), loudest_db(lately, TARGET_HZ)) > HEARD_DB:
            return
        await asyncio.sleep(0.02)


# ── the matrix ───────────────────────────────────────────────────────────────────────────────────────────


def referred(situation: Situation) -> Role:
    """The caller's side, that is asked to call the target, and tells how it went."""
    match situation:
        case "connected":
            return Role(scenario="transferee_connected", stay_ms=700, outcome=CODES[situation])
        case "caller hangs up":
            return Role(scenario="transferee_leaves", stay_ms=500)
        case _:
            return Role(scenario="transferee_fails", outcome=CODES[situation])


def called(mode: Mode, situation: Situation) -> Role | None:
    """The target, that we call."""
    match situation:
        case "connected":
            return Role(scenario="uas_bye" if mode == "attended" else "uas", stay_ms=300)
        case "no answer" | "caller hangs up":
            return Role(scenario="uas_never_answers")
        case "unreachable":
            return None
        case _:
            return Role(scenario="uas_refuses", stay_ms=200, outcome=CODES[situation])


def calling(mode: Mode, situation: Situation) -> Role:
    """The caller, as long as it is not referred."""
    if mode == "attended" and situation == "connected":
        return referred(situation)
    return Role(scenario="uac", stay_ms=GREETING_MS + (500 if situation == "caller hangs up" else STAY_MS + 1200))


def left_with(mode: Mode, situation: Situation) -> Hearing:
    if situation == "connected":
        return TOGETHER if mode == "bridge" else ALONE  # referred, they talk without us
    return ALONE if situation == "caller hangs up" else BACK


@pytest.mark.parametrize("situation", get_args(Situation))
@pytest.mark.parametrize("mode", get_args(Mode))
async def test_a_transfer_ends_in_a_known_state(play: Play, cell: Cell, mode: Mode, situation: Situation) -> None:
    if situation == "connected":
        cell.fills("SIPp", f"is transferred: {mode}")
        cell.note("UDP", "IPv4")
    caller = referred(situation) if mode == "blind" else calling(mode, situation)
    target = None if mode == "blind" else called(mode, situation)
    one = await play(mode, caller=caller, target=target)
    assert one.outcome["outcome"] == OUTCOMES[situation]
    assert one.outcome["mode"] == mode
    assert one.hearing() == left_with(mode, situation)
    referred_away = situation == "connected" and mode != "bridge"
    assert (one.record["ended_by"], one.record["cause"]) == (
        ("agent", "transferred") if referred_away else ("caller", "hangup")
    )


# ── real phones ──────────────────────────────────────────────────────────────────────────────────────────


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
    refusing: SippRun = await sipp("uas_refuses", stay_ms=300, keys={"outcome": CODES["busy"]})
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
