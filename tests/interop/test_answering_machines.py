"""Forty generated answers, spoken by flite: who picked up, by the watch itself, and over whole calls."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from tests.answers import Answer, Answers, Samples, on_the_line
from tests.audio.signals import spoken
from tests.call.pickups import PlayedPickup

from offhook.audio.g711 import decode
from offhook.bridge.local.engine import available
from offhook.call.ports import Spotter
from offhook.model.audio import AudioFormat, Encoding

LEAST_RIGHT = 36
LATEST_MS = 4000
LEVELS_DBM0 = (-16.0, -20.0, -26.0)

pytestmark = pytest.mark.interop


def answers(folder: Path) -> list[Answer]:
    levels = iter(LEVELS_DBM0 * 20)

    def speak(voice: str, text: str) -> Samples:
        samples = spoken(text, folder, voice=voice, level_dbm0=next(levels))
        loud = np.flatnonzero(np.abs(samples) > 100)
        return samples[loud[0] : loud[-1] + 1]

    return list(Answers(speak))


@lru_cache(maxsize=1)
def spotter() -> Spotter:
    """The recogniser, in this process."""
    missing = available()
    if missing is not None:
        pytest.skip(missing)
    from offhook.bridge.local.recogniser import Recogniser  # noqa: PLC0415  only where it is installed

    recogniser = Recogniser()

    async def spot(audio: bytes, audio_format: AudioFormat) -> tuple[str, ...]:
        return recogniser.spot(decode(audio_format.encoding, audio))

    return spot


def judge(answer: Answer, spot: Spotter | None, seed: int) -> tuple[str, int, str]:
    """The last verdict in time, how long after the decisive sound it came, and its evidence."""
    call = PlayedPickup(spotter=spot, encoding=(Encoding.PCMU, Encoding.PCMA)[seed % 2])
    if answer.early is not None:
        call.early(on_the_line(answer.early, seed))
    if answer.answered.size:
        call.answered(on_the_line(answer.answered, seed))
    call.close()
    in_time = [(at - answer.decided_ms, judged) for at, judged in call.judged if at <= answer.decided_ms + LATEST_MS]
    if not in_time:
        return "nobody", LATEST_MS, ""
    delay, judged = in_time[-1]
    return judged.by, delay, judged.evidence


@pytest.mark.parametrize(("understands", "least"), [(True, LEAST_RIGHT), (False, 28)], ids=["words", "without words"])
def test_who_picked_up_is_known_within_four_seconds(understands: bool, least: int, tmp_path: Path) -> None:
    spot = spotter() if understands else None
    confusion: Counter[tuple[str, str]] = Counter()
    forty = answers(tmp_path)
    for seed, answer in enumerate(forty):
        found, delay, evidence = judge(answer, spot, seed)
        confusion[answer.truth, found] += 1
        mark = "  " if found == answer.truth else "✗ "
        print(f"{mark}{answer.name:46} {answer.truth:9} {found:9} {delay:6} ms  {evidence}")
    right = sum(count for (truth, found), count in confusion.items() if truth == found)
    print(f"{right} of {len(forty)} right: {dict(confusion)}")
    assert len(forty) == 40
    assert right >= least
