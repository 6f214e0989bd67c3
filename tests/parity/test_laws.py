"""Both G.711 laws on every provider: what one side says is what the other hears, from the first packet on."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from tests.interop.speech import Samples, assert_heard_in_full, find
from tests.parity.behaviours import WAITS
from tests.parity.columns import COLUMNS
from tests.parity.page import LAWS, keep
from tests.parity.world import Scene, speech, world

from offhook.audio import g711
from offhook.audio.convert import converter
from offhook.model.audio import L16_8K, PCMA_8K, PCMU_8K, AudioFormat
from offhook.simulators.voice import spoken

LINES = {"PCMU": PCMU_8K, "PCMA": PCMA_8K}

SAYS = "It is noon by my watch."

ALIKE = 0.97
"""Of what was resampled."""

LATE_MS = 400
"""So much of what was said may still be on its way to the provider, in a process that does everything by itself."""


@pytest.mark.interop
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("provider", COLUMNS)
async def test_each_side_hears_what_the_other_said(provider: str, law: str, tmp_path: Path) -> None:
    """Byte for byte where the provider takes the law, or what it takes is only looked up in a table."""
    keep(provider, law, {law: False})
    line = LINES[law]
    other = COLUMNS[provider].converted.get(line.encoding, line)
    scene = Scene(script={"turns": [{"hears": "what time is it", "says": SAYS}]}, agent=WAITS)
    async with (
        world(COLUMNS[provider], {"laws": scene}, tmp_path) as there,
        there.call("laws", line.encoding, first_words=speech()) as talk,
    ):
        await talk.hears(SAYS)
        await talk.caller.hears_silence(300)
        heard, given = b"".join(talk.caller.phone.payloads), talk.given()
        up_ms = (time.monotonic() - talk.caller.answered_at) * 1000
        await talk.hangs_up()
    said = g711.encode(line.encoding, speech().astype("<i2").tobytes())
    if other.sample_rate_hz == line.sample_rate_hz:
        assert _as(line, other, spoken(SAYS, other)) in heard
        assert _as(other, line, said) in given
    else:
        assert find(_samples(L16_8K, spoken(SAYS, L16_8K)), _samples(line, heard)).similarity > ALIKE
        assert_heard_in_full(speech(), _samples(other, given))
    if provider != "pipeline":  # its servers are given utterances, not a stream
        assert up_ms - LATE_MS < len(given) / other.bytes_per_ms < up_ms + LATE_MS
    keep(provider, law, {law: True})


def _as(wanted: AudioFormat, source: AudioFormat, audio: bytes) -> bytes:
    convert = converter(source, wanted)
    return audio if convert is None else convert(audio)


def _samples(source: AudioFormat, audio: bytes) -> Samples:
    return np.frombuffer(_as(L16_8K, source, audio), "<i2").astype(np.float64)
