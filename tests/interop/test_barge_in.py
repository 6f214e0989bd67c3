"""Speaking over the agent, as a person on the phone does: a hum lets it go on, "stop" silences it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest
from tests.interop.callers import SippCaller
from tests.interop.offhook_server import OffhookServer, Record, events
from tests.interop.rtp_phone import RtpPhone
from tests.interop.sippers import SippRun
from tests.interop.speech import Samples, channel, flite_wav

SPEAKS_AFTER_MS = 2500
"""In the middle of the demo agent's greeting, which lasts about six seconds."""

STAY_S = 11.0
FALLS_SILENT_MS = 60 + 60 + 100
"""Of the decision 60; the detector needs up to 60 ms of speech; a caller's jitter buffer and frame are the rest."""

FRAME_MS = 20
TRAILING_SILENCE_MS = 500
"""What the voice adds after a sentence."""

GREETING = "Hello, this is the offhook demo agent. Ask me for the time or the date, or say help."

Offhook = Callable[..., Awaitable[OffhookServer]]
SpeaksOver = Callable[[str, str], Awaitable[tuple[Record, Samples, Samples]]]


@pytest.fixture
def speaks_over(
    offhook: Offhook,
    sipp: Callable[..., Awaitable[SippRun]],
    rtp_phone: Callable[..., RtpPhone],
    tmp_path: Path,
) -> SpeaksOver:
    """``await speaks_over(voice, text)``: the record, what the caller said, what it heard (both as recorded)."""

    async def run(voice: str, text: str) -> tuple[Record, Samples, Samples]:
        speech = await flite_wav(tmp_path / "over.wav", voice, text, before_ms=SPEAKS_AFTER_MS, after_ms=20_000)
        server = await offhook()
        one = SippCaller(sipp, rtp_phone(), "udp", speaks=speech, scenario="uac", stay_s=STAY_S)
        await one.dial(server, "demo")
        await one.established()
        await one.hang_up()
        await one.closed()
        record = await server.ended_call()
        recording = server.recordings.parent / record["recording"]
        said = await channel(recording, 1, tmp_path / "caller.wav")
        return record, said, one.heard()

    return run


def greeting_of(record: Record) -> Record:
    """The agent's first turn (a hum is noted before it, for it ended before it)."""
    return next(turn for turn in record["transcript"] if turn["speaker"] == "agent")


@pytest.mark.parametrize("voice", ["slt", "rms", "kal"])
async def test_mm_hm_over_the_agent_lets_it_finish_its_sentence(speaks_over: SpeaksOver, voice: str) -> None:
    record, _, heard = await speaks_over(voice, "mm-hm")
    turn = greeting_of(record)
    assert (turn["text"], turn["interrupted"]) == (GREETING, False)
    (resumed,) = events(record, "InterruptionResumed")
    assert resumed["paused_ms"] > 0
    loud = np.flatnonzero(np.abs(heard) > 200) / 8
    spoken_ms = turn["ended_ms"] - turn["started_ms"]
    assert loud[-1] - loud[0] >= spoken_ms - TRAILING_SILENCE_MS
    pauses = np.diff(loud)
    assert pauses.max() >= resumed["paused_ms"] - FRAME_MS


@pytest.mark.parametrize("voice", ["slt", "rms"])
@pytest.mark.parametrize("text", ["stop", "wait, stop please"])
async def test_stop_silences_the_agent_and_the_transcript_keeps_what_was_heard(
    speaks_over: SpeaksOver, voice: str, text: str
) -> None:
    record, said, heard = await speaks_over(voice, text)
    turn = greeting_of(record)
    assert turn["interrupted"] is True
    assert GREETING.startswith(turn["text"])
    assert len(turn["text"]) < len(GREETING) / 1.5
    begins_ms = np.flatnonzero(np.abs(said) > 500)[0] / 8
    sounding = np.flatnonzero(np.abs(heard[: int((begins_ms + 1500) * 8)]) > 200)
    assert sounding[-1] / 8 <= begins_ms + FALLS_SILENT_MS
