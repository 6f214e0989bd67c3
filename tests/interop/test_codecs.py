"""G.722 and Opus with real phones, both ways: tones that no telephone band carries, at either ear."""

from __future__ import annotations

import asyncio
import json
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.audio.signals import decibels, level_at
from tests.interop.baresip import Baresip
from tests.interop.cells import Cell
from tests.interop.linphone import Linphone
from tests.interop.offhook_server import OffhookServer, Record, scripted
from tests.interop.program import Program
from tests.interop.trunks import Start, assert_heard_both_ways

from offhook.audio.opus import opus_problem

HOST = "127.0.0.1"
OURS_HZ, THEIRS_HZ = 5000, 6000
"""Above what G.711 carries at all."""
CALLERS_HZ = 900
"""``offhook call`` speaks in the band of a telephone."""
HEARD_DB = -35.0
"""Of full scale; they are sent at -13 (ours) and -18 (theirs). What is not there is below -60."""
TALK_S = 2.0
SILENCE_S = 18.0
"""A phone's file must not end before its call, and ``offhook call`` speaks when the far end is silent."""

CODECS = [
    "G722",
    pytest.param("opus", marks=pytest.mark.skipif(opus_problem() is not None, reason=str(opus_problem()))),
]
ROW = {"G722": "G.722", "opus": "Opus"}
SPEAKS = scripted("200", steps=[{"on": "ready", "do": [{"do": "speak", "tone_hz": OURS_HZ, "ms": 8000}]}])


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    return write_wideband(tmp_path / "speech.wav", THEIRS_HZ)


def trunk(codec: str, **more: Any) -> dict[str, Any]:
    return {"id": "wide", "codecs": [codec], **more}


@pytest.mark.parametrize("codec", CODECS)
async def test_baresip_calls_us(offhook: Start, baresip: Start, cell: Cell, speech: Path, codec: str) -> None:
    cell.fills("baresip", ROW[codec])
    cell.note("in")
    server: OffhookServer = await offhook(agents=[SPEAKS], trunks=[trunk(codec, kind="open")])
    phone: Baresip = await baresip(speaks=speech, codec=codec)
    await phone.dial(server.uri("200"))
    await phone.event("CALL_ESTABLISHED")
    await asyncio.sleep(TALK_S)
    await phone.hang_up()
    assert_wideband(await server.ended_call(), codec)
    assert tone_db(phone.recording(), OURS_HZ) > HEARD_DB
    assert tone_db(recording(server), THEIRS_HZ) > HEARD_DB


@pytest.mark.parametrize("codec", CODECS)
async def test_we_call_baresip(baresip: Start, cell: Cell, speech: Path, tmp_path: Path, codec: str) -> None:
    cell.fills("baresip", ROW[codec])
    cell.note("out")
    phone: Baresip = await baresip(speaks=speech, codec=codec)
    report = await offhook_calls(tmp_path, phone.uri, codec)
    await phone.event("CALL_CLOSED")
    assert report["codec"] == codec
    assert tone_db(phone.recording(), CALLERS_HZ) > HEARD_DB
    assert tone_db(tmp_path / "saved.wav", THEIRS_HZ) > HEARD_DB


@pytest.mark.parametrize("codec", CODECS)
async def test_linphone_calls_us(offhook: Start, linphone: Start, cell: Cell, speech: Path, codec: str) -> None:
    cell.fills("linphone", ROW[codec])
    cell.note("in")
    server: OffhookServer = await offhook(agents=[SPEAKS], trunks=[trunk(codec, kind="open")])
    phone: Linphone = await linphone(speaks=speech, codec=codec)
    await phone.dial(server.uri("200"))
    await phone.established()
    await asyncio.sleep(TALK_S)
    await phone.hang_up()
    await phone.closed()
    assert_wideband(await server.ended_call(), codec)
    assert tone_db(phone.recording(), OURS_HZ) > HEARD_DB
    assert tone_db(recording(server), THEIRS_HZ) > HEARD_DB


@pytest.mark.parametrize("codec", CODECS)
async def test_we_call_linphone(linphone: Start, cell: Cell, speech: Path, tmp_path: Path, codec: str) -> None:
    cell.fills("linphone", ROW[codec])
    cell.note("out")
    phone: Linphone = await linphone(speaks=speech, codec=codec)
    report = await offhook_calls(tmp_path, phone.uri, codec)
    await phone.closed()
    assert report["codec"] == codec
    assert tone_db(phone.recording(), CALLERS_HZ) > HEARD_DB
    assert tone_db(tmp_path / "saved.wav", THEIRS_HZ) > HEARD_DB


# ── what they share ──────────────────────────────────────────────────────────────────────────────────────


async def offhook_calls(where: Path, uri: str, codec: str) -> dict[str, Any]:
    """``offhook call`` by a trunk with this codec alone; what it hears is on the left of saved.wav."""
    (where / "caller.json").write_text(json.dumps({"trunks": [trunk(codec, kind="gateway", targets=[uri])]}))
    ours = write_wideband(where / "ours.wav", CALLERS_HZ)
    program = await Program.start(
        *(sys.executable, "-m", "offhook", "call", uri, "--trunk", "wide", "--config", str(where / "caller.json")),
        *("--host", HOST, "--json", "--no-transcript", "--play", str(ours), "--save", str(where / "saved.wav")),
        *("--max-duration", "9"),
        cwd=where,
    )
    async with program.stopped_on_failure():
        await program.ends(30)
    report: dict[str, Any] = json.loads("\n".join(line for line in program.output.splitlines() if line))
    return report


def assert_wideband(record: Record, codec: str) -> None:
    assert record["codec"] == codec
    assert_heard_both_ways(record)


def recording(server: OffhookServer) -> Path:
    [path] = server.recordings.glob("*.wav")
    return path


def write_wideband(path: Path, hz: float) -> Path:
    """A tone and silence after it, at 16 kHz."""
    tone = 4000 * np.sin(2 * np.pi * hz * np.arange(round(TALK_S * 16_000)) / 16_000)
    samples = np.concatenate([tone, np.zeros(round(SILENCE_S * 16_000))])
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(samples.astype("<i2").tobytes())
    return path


def tone_db(path: Path, hz: float) -> float:
    """How loud a tone is in the half second of a WAV file's first channel that has most of it, in dB of full scale."""
    with wave.open(str(path), "rb") as file:
        rate, channels = file.getframerate(), file.getnchannels()
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")[::channels]
    assert rate > 2 * hz, f"{rate} Hz carry no {hz} Hz"
    halves = [samples[at : at + rate // 2] for at in range(0, samples.size - rate // 2, rate // 4)]
    return max(decibels(level_at(hz, half.tobytes(), rate) / 32768) for half in halves)
