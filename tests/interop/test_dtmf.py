"""Digits: by events through a bad network, by each way with real phones, and none in speech."""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from tests.interop.dtmf_phone import STRING_DIGITS, Account, Plan, Way
from tests.interop.network import Network, impaired_network
from tests.interop.program import Program
from tests.interop.speech import RATE_HZ, Samples, flite_wav, read_wav

from offhook.audio.dtmf import ToneDetector, ToneHeard
from offhook.audio.g711 import encode
from offhook.model.audio import PCMU_8K

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
    """``strings`` in each direction, shared among the networks."""
    seed = random.randrange(2**16)
    print(f"seed {seed}")

    async def one(number: int) -> list[tuple[str, str]]:
        async with impaired_network(**JITTER, loss_burst=burst, seed=seed + number) as network:
            plans = (
                Plan(seed=seed + number + side, strings=strings // networks, duration_ms=duration_ms, way=way)
                for side in (1000, 2000)
            )
            return await both_ways(network, *plans)

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
    assert exact(pairs) >= 60


# ── speech ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("voice", ["slt", "rms", "kal", "awb"])
async def test_speech_is_no_key(voice: str, tmp_path: Path) -> None:
    """Minutes of each of flite's voices, at four pitches and paces."""
    spoken = read_wav(await flite_wav(tmp_path / "speech.wav", voice, TEXT))
    assert spoken.size > 120 * RATE_HZ
    for pace in (0.8, 1.0, 1.3, 1.6):
        wave = np.interp(np.arange(0, spoken.size - 1, pace), np.arange(spoken.size), spoken)
        assert keys_in(wave) == []


def keys_in(wave: Samples) -> list[ToneHeard]:
    audio = encode(PCMU_8K.encoding, np.clip(np.rint(wave), -32768, 32767).astype("<i2").tobytes())
    detector = ToneDetector(PCMU_8K)
    frames = (audio[at : at + PCMU_8K.frame_bytes] for at in range(0, len(audio), PCMU_8K.frame_bytes))
    return [heard for frame in frames for heard in detector.take(frame)]
