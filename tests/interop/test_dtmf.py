"""Digits: by events through a bad network, by each way with real phones, and none in speech."""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.interop.baresip import Baresip
from tests.interop.cells import Cell
from tests.interop.dtmf_phone import STRING_DIGITS, Account, Plan, Way
from tests.interop.linphone import Linphone
from tests.interop.network import Network, impaired_network
from tests.interop.offhook_server import OffhookServer, Record, events, scripted
from tests.interop.program import Program
from tests.interop.sippers import SippResult, SippRun
from tests.interop.speech import RATE_HZ, Samples, flite_wav, read_wav, silence, tone, write_wav
from tests.interop.tools import needs_root
from tests.interop.trunks import Start
from tests.vectors.location import vectors

from offhook.audio.dtmf import ToneDetector, ToneHeard, ToneSender
from offhook.audio.g711 import encode
from offhook.model.audio import L16_8K, PCMU_8K

ROOT = Path(__file__).resolve().parents[2]
TEXT = " ".join(re.findall(r"[a-z]+", (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")))[:3000]
JITTER = {"delay_ms": 40, "jitter_ms": 30, "loss_percent": 5}
AT_ONCE = 4
"""Networks side by side: each has its own bursts."""

# ── through a bad network ────────────────────────────────────────────────────────────────────────────────


async def phone(namespace: str, host: str, remote_host: str, plan: Plan) -> Account:
    program = await Program.start(
        sys.executable, "-m", "tests.interop.dtmf_phone", host, remote_host, json.dumps(asdict(plan)),
        namespace=namespace, cwd=ROOT,
    )  # fmt: skip
    try:
        found = await program.says(r"^\{.*\}$", timeout_s=30 + plan.strings * STRING_DIGITS)
        return Account(**json.loads(found[0]))
    finally:
        await program.stop()


async def both_ways(network: Network, plan: Plan, other: Plan) -> list[tuple[str, str]]:
    """What was dialled and what was heard of it, string by string, in both directions."""
    client, server = await asyncio.gather(
        phone(network.client, network.client_host, network.server_host, plan),
        phone(network.server, network.server_host, network.client_host, other),
    )
    assert min(client.packets_lost, server.packets_lost) > 0  # the network was as bad as it should be
    return [*told(client, server), *told(server, client)]


def told(dialler: Account, listener: Account) -> list[tuple[str, str]]:
    starts = [at for at, _ in dialler.dialled] + [float("inf")]
    pairs = []
    for number, (start, string) in enumerate(dialler.dialled):
        heard = [digit for at, digit in listener.heard if start <= at < starts[number + 1]]
        pairs.append((string, "".join(heard)))
    assert sum(len(heard) for _, heard in pairs) == len(listener.heard)
    return pairs


async def through_a_bad_network(
    *, strings: int, duration_ms: int, burst: float, way: Way = "rfc4733", networks: int = 1
) -> list[tuple[str, str]]:
    """``strings`` in each direction, shared among the networks; tones in one: who sends some, hears none."""
    seed = random.randrange(2**16)
    print(f"seed {seed}")

    async def one(number: int) -> list[tuple[str, str]]:
        async with impaired_network(**JITTER, loss_burst=burst, seed=seed + number) as network:
            plan = Plan(seed=seed + number, strings=strings // networks, duration_ms=duration_ms, way=way)
            other = replace(plan, seed=seed + number + 1000, silent=way == "inband")
            return await both_ways(network, plan, other)

    parts = await asyncio.gather(*(one(number) for number in range(networks)))
    return [pair for part in parts for pair in part]


def exact(pairs: Sequence[tuple[str, str]]) -> int:
    """How many arrived as they were dialled; fails where a digit was doubled, invented or out of order."""
    for dialled, heard in pairs:
        rest = iter(dialled)
        assert all(digit in rest for digit in heard), f"{dialled} was heard as {heard}"
    arrived = sum(dialled == heard for dialled, heard in pairs)
    print(f"{arrived} of {len(pairs)} strings arrived exactly")
    return arrived


async def test_digits_of_100_ms_through_5_percent_loss_and_30_ms_jitter() -> None:
    pairs = await through_a_bad_network(strings=6, duration_ms=100, burst=1)
    assert exact(pairs) == len(pairs) == 12


async def test_digits_of_250_ms_through_bursts_of_loss() -> None:
    pairs = await through_a_bad_network(strings=4, duration_ms=250, burst=3)
    assert exact(pairs) >= len(pairs) - 1


@pytest.mark.soak
async def test_a_hundred_strings_each_way_through_5_percent_loss_and_30_ms_jitter() -> None:
    pairs = await through_a_bad_network(strings=100, duration_ms=100, burst=1, networks=AT_ONCE)
    assert exact(pairs) == len(pairs) == 200


@pytest.mark.soak
async def test_a_hundred_strings_each_way_through_bursts_of_loss() -> None:
    pairs = await through_a_bad_network(strings=100, duration_ms=250, burst=3, networks=AT_ONCE)
    assert len(pairs) == 200
    assert exact(pairs) >= 194


@pytest.mark.soak
async def test_tones_through_a_bad_network_are_lost_at_worst() -> None:
    pairs = await through_a_bad_network(strings=40, duration_ms=100, burst=1, way="inband", networks=AT_ONCE)
    assert len(pairs) == 40
    assert exact(pairs) >= 30


# ── theirs ───────────────────────────────────────────────────────────────────────────────────────────────

HOST = "127.0.0.1"
QUIET = scripted("200")
EVENTS = {"types": " 101", "allows": ", INFO"}
NO_EVENTS = {"types": "", "allows": ", INFO"}


def pressed(record: Record) -> str:
    """Every key that was told, as often as it was."""
    return "".join(event["digit"] for event in events(record, "DigitReceived"))


async def test_sipp_presses_keys_by_info(offhook: Start, sipp: Start, cell: Cell) -> None:
    cell.fills("SIPp", "DTMF")
    cell.note("INFO")
    server: OffhookServer = await offhook(agents=[QUIET])
    run: SippRun = await sipp("uac_info", to=(HOST, server.port), user="200", keys=EVENTS)
    (await run.result()).assert_all_went_well()
    record = await server.ended_call()
    assert pressed(record) == record["digits"] == "1#55"


async def test_keys_by_info_and_by_events_at_once_are_told_once(offhook: Start, sipp: Start, rtp_phone: Start) -> None:
    server: OffhookServer = await offhook(agents=[QUIET])
    line: Any = rtp_phone()
    run: SippRun = await sipp("uac_info", to=(HOST, server.port), user="200", audio_port=line.port, keys=EVENTS)
    await run.message("ACK", sent=True)
    await line.dial("1#55")
    (await run.result()).assert_all_went_well()
    assert pressed(await server.ended_call()) == "1#55"


@pytest.mark.parametrize("keys", ["159", "11#", "321"])
async def test_sipp_plays_its_captures(offhook: Start, sipp: Start, cell: Cell, keys: str) -> None:
    cell.fills("SIPp", "DTMF")
    cell.note("captures")
    needs_root()  # it writes raw packets
    names = {"#": "pound", "*": "star"}
    captures = [str(vectors("pcap", "sipp", f"dtmf_2833_{names.get(key, key)}.pcap")) for key in keys]
    played = dict(zip(("first", "second", "third"), captures, strict=True)) | {"gap": "1500"}
    server: OffhookServer = await offhook(agents=[QUIET])
    run: SippRun = await sipp("uac_plays_digits", to=(HOST, server.port), user="200", keys=EVENTS | played)
    (await run.result()).assert_all_went_well()
    assert pressed(await server.ended_call()) == keys


async def test_keys_as_tones_of_a_caller_without_events(
    offhook: Start, sipp: Start, rtp_phone: Start, cell: Cell
) -> None:
    cell.fills("SIPp", "DTMF")
    cell.note("in-band")
    server: OffhookServer = await offhook(agents=[QUIET])
    line: Any = rtp_phone()
    run: SippRun = await sipp(
        "uac_without_events", to=(HOST, server.port), user="200", audio_port=line.port, stay_ms=4000
    )
    await run.message("ACK", sent=True)
    await line.say(np.concatenate([silence(500), tones("1559#"), silence(500)]))
    (await run.result()).assert_all_went_well()
    assert pressed(await server.ended_call()) == "1559#"


@pytest.mark.parametrize(("ways", "keys"), [("INFO", "5"), ("events and INFO", "1#55")])
async def test_linphone_presses_keys_by_info(
    *, offhook: Start, linphone: Start, cell: Cell, tmp_path: Path, ways: str, keys: str
) -> None:
    """Its console stops to read SIP at the first key by INFO, so the others are never sent by that way."""
    cell.fills("linphone", "DTMF")
    cell.note(ways)
    server: OffhookServer = await offhook(agents=[QUIET])
    one: Linphone = await linphone(speaks=write_wav(tmp_path / "speech.wav", tone(900, 20_000)))
    await one.program.type("param sip use_info 1")
    await one.program.type(f"param sip use_rfc2833 {int(ways != 'INFO')}")
    await one.dial(server.uri("200"))
    await one.established()
    for key in keys:
        await one.send_digits(key)
        await asyncio.sleep(0.4)
    await one.hang_up()
    record = await server.ended_call()
    assert pressed(record) == keys
    assert "application/dtmf-relay" in await server.trace(record)


# ── ours ─────────────────────────────────────────────────────────────────────────────────────────────────

DIGITS = "1559#"
PRESSES = scripted(
    "200",
    steps=[
        {
            "on": "ready",
            "after_ms": 700,
            "do": [{"do": "use_tool", "name": "send_dtmf", "arguments": {"digits": DIGITS}}],
        }
    ],
)

# What the trunk is told, what the caller takes, and how the digits reach it.
WAYS: dict[str, tuple[str, str, dict[str, str], str]] = {
    "events where they were agreed": ("auto", "uac", {}, "events"),
    "INFO where it is allowed": ("auto", "uac_takes_info", NO_EVENTS | {"status": "200 OK", "number": "5"}, "INFO"),
    "tones where nothing else is": ("auto", "uac_without_events", {}, "tones"),
    "tones where INFO is refused": (
        "auto",
        "uac_takes_info",
        NO_EVENTS | {"status": "405 Method Not Allowed", "number": "1"},
        "tones",
    ),
    "INFO by choice": ("info", "uac_takes_info", EVENTS | {"status": "200 OK", "number": "5"}, "INFO"),
    "tones by choice": ("inband", "uac", {}, "tones"),
    "events by choice": ("rfc4733", "uac", {}, "events"),
}


@pytest.mark.parametrize("name", WAYS)
async def test_the_agent_presses_keys(offhook: Start, sipp: Start, rtp_phone: Start, name: str) -> None:
    method, scenario, keys, way = WAYS[name]
    server: OffhookServer = await offhook(agents=[PRESSES], trunks=[{"id": "line", "kind": "open", "dtmf": method}])
    line: Any = rtp_phone()
    run: SippRun = await sipp(
        scenario, to=(HOST, server.port), user="200", audio_port=line.port, stay_ms=3500, keys=keys
    )
    result = await run.result()
    result.assert_all_went_well()
    await server.ended_call()
    heard = {
        "events": line.digits(),
        "INFO": "".join(info_keys(result)),
        "tones": "".join(key.digit for key in keys_in(line.heard())),
    }
    if "405" in keys.get("status", ""):
        assert heard.pop("INFO") == DIGITS[:1]
    assert heard[way] == DIGITS
    assert "".join(heard.values()) == DIGITS


def info_keys(result: SippResult) -> list[str]:
    bodies = [message.text for message in result.messages if not message.sent and message.text.startswith("INFO ")]
    return [line[len("Signal=") :].strip() for body in bodies for line in body.splitlines() if "Signal=" in line]


@pytest.mark.parametrize("method", ["rfc4733", "info"])
async def test_baresip_is_told_the_agents_keys(
    offhook: Start, baresip: Start, cell: Cell, tmp_path: Path, method: str
) -> None:
    cell.fills("baresip", "DTMF")
    cell.note(f"ours by {method}")
    server: OffhookServer = await offhook(agents=[PRESSES], trunks=[{"id": "line", "kind": "open", "dtmf": method}])
    one: Baresip = await baresip(speaks=write_wav(tmp_path / "speech.wav", tone(900, 20_000)))
    await one.dial(server.uri("200"))
    await one.event("CALL_DTMF_END", number=len(DIGITS))
    await one.hang_up()
    await server.ended_call()
    assert "".join(str(event["param"]) for event in one.events if event.get("type") == "CALL_DTMF_START") == DIGITS


async def test_baresip_hears_the_agents_keys(offhook: Start, baresip: Start, cell: Cell, tmp_path: Path) -> None:
    cell.fills("baresip", "DTMF")
    cell.note("ours by tones")
    server: OffhookServer = await offhook(agents=[PRESSES], trunks=[{"id": "line", "kind": "open", "dtmf": "inband"}])
    one: Baresip = await baresip(speaks=write_wav(tmp_path / "speech.wav", tone(900, 20_000)))
    await one.dial(server.uri("200"))
    await one.event("CALL_ESTABLISHED")
    await asyncio.sleep(3.5)
    await one.hang_up()
    await one.event("CALL_CLOSED")
    await server.ended_call()
    assert "".join(key.digit for key in keys_in(one.heard())) == DIGITS


# ── speech ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("voice", ["slt", "rms", "kal", "awb"])
async def test_speech_is_no_key(voice: str, tmp_path: Path) -> None:
    """Minutes of each of flite's voices, at four pitches and paces."""
    spoken = read_wav(await flite_wav(tmp_path / "speech.wav", voice, TEXT))
    assert spoken.size > 120 * RATE_HZ
    for pace in (0.8, 1.0, 1.3, 1.6):
        wave = np.interp(np.arange(0, spoken.size - 1, pace), np.arange(spoken.size), spoken)
        assert keys_in(wave) == []


def tones(digits: str) -> Samples:
    sender = ToneSender(L16_8K)
    sender.queue(digits)
    audio = b""
    while (frame := sender.next_frame()) is not None:
        audio += frame
    return np.frombuffer(audio, "<i2").astype(np.float64)


def keys_in(wave: Samples) -> list[ToneHeard]:
    audio = encode(PCMU_8K.encoding, np.clip(np.rint(wave), -32768, 32767).astype("<i2").tobytes())
    detector = ToneDetector(PCMU_8K)
    frames = (audio[at : at + PCMU_8K.frame_bytes] for at in range(0, len(audio), PCMU_8K.frame_bytes))
    return [heard for frame in frames for heard in detector.take(frame)]
