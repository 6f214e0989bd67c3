"""Speech for the tests, and how to tell whether it was heard: flite speaks, cross-correlation listens."""

from __future__ import annotations

import asyncio
import math
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tests.interop.tools import needs

RATE_HZ = 8000
EDGE_MS = 200
"""Of the beginning and the end of an utterance: where a cut would show."""

SIMILAR = 0.8
"""Normalised correlation. G.711 and a client's decoder leave 0.98 and more; other speech reaches 0.5."""

SPEECH_LEVEL = 0.02
"""Share of an utterance's peak that is speech, no silence around it."""

FULL_SCALE = 32768
SILENT_DB = -120.0

Samples = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Found:
    """Where a part sounds most alike, and how much: 1 is the same, up to loudness."""

    at_ms: float
    similarity: float


async def flite_wav(path: Path, voice: str, text: str, *, before_ms: int = 0, after_ms: int = 0) -> Path:
    """``text`` spoken by flite's ``voice`` (slt, rms, kal) as 8 kHz mono 16-bit WAV, with silence around it."""
    needs("flite", "sox")
    raw = path.with_suffix(".flite.wav")
    await _run("flite", "-voice", voice, "-t", text, "-o", str(raw))
    pad = ["pad", f"{before_ms / 1000}", f"{after_ms / 1000}"]
    await _run("sox", str(raw), "-r", str(RATE_HZ), "-c", "1", "-b", "16", str(path), *pad)
    return path


async def channel(recording: Path, number: int, path: Path) -> Samples:
    """One channel of a recording, from 1, at 8 kHz."""
    needs("sox")
    rate = ("-r", str(RATE_HZ))
    await _run("sox", str(recording), "-e", "signed-integer", "-b", "16", *rate, str(path), "remix", str(number))
    return read_wav(path)


def read_wav(path: Path) -> Samples:
    """Samples of a mono 8 kHz 16-bit WAV. An unfinished file's wrong length field does no harm."""
    with wave.open(str(path), "rb") as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE_HZ, 1, 2), path
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float64)


def write_wav(path: Path, samples: Samples) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(np.clip(samples, -32768, 32767).astype("<i2").tobytes())
    return path


def silence(ms: float) -> Samples:
    return np.zeros(round(ms * RATE_HZ / 1000))


def tone(hz: float, ms: float, amplitude: float = 8000.0) -> Samples:
    return amplitude * np.sin(2 * np.pi * hz * np.arange(round(ms * RATE_HZ / 1000)) / RATE_HZ)


def tone_db(samples: Samples, hz: float) -> float:
    """How loud one tone is in it, in dB of full scale; -18 is a usual level, below -50 nobody hears it."""
    if not len(samples):
        return SILENT_DB
    turns = np.exp(-2j * np.pi * hz * np.arange(len(samples)) / RATE_HZ)
    amplitude = 2 * abs(np.mean(samples * np.hanning(len(samples)) * 2 * turns)) / FULL_SCALE
    return max(SILENT_DB, 20 * math.log10(amplitude + 1e-12))


def trimmed(utterance: Samples) -> Samples:
    """Without the silence before and after."""
    loud = np.flatnonzero(np.abs(utterance) > SPEECH_LEVEL * np.max(np.abs(utterance), initial=1.0))
    assert loud.size, "silence only"
    return utterance[loud[0] : loud[-1] + 1]


def find(part: Samples, heard: Samples) -> Found:
    """Where ``part`` is found best in ``heard``, by normalised cross-correlation."""
    if len(heard) < len(part):
        return Found(0.0, 0.0)
    size = 1 << (len(heard) + len(part) - 1).bit_length()
    spectrum = np.fft.rfft(heard, size) * np.conj(np.fft.rfft(part, size))
    products = np.fft.irfft(spectrum, size)[: len(heard) - len(part) + 1]
    energy = np.concatenate(([0.0], np.cumsum(heard**2)))
    norms = np.sqrt(np.maximum(energy[len(part) :] - energy[: -len(part)], 1.0) * np.sum(part**2))
    best = int(np.argmax(products / norms))
    return Found(best * 1000 / RATE_HZ, float(products[best] / norms[best]))


def assert_heard_in_full(utterance: Samples, heard: Samples, *, drift_ms: float = 20.0) -> float:
    """The first and last 200 ms of ``utterance`` are found in ``heard``, as far apart as they were spoken.

    ``drift_ms``: what a client's jitter buffer may add or take. Returns where it begins, in ms.
    """
    spoken = trimmed(utterance)
    edge = EDGE_MS * RATE_HZ // 1000
    first, last = find(spoken[:edge], heard), find(spoken[-edge:], heard)
    assert first.similarity >= SIMILAR, f"the beginning was not heard: {first}"
    assert last.similarity >= SIMILAR, f"the end was not heard: {last}"
    between_ms, spoken_ms = last.at_ms - first.at_ms, (len(spoken) - edge) * 1000 / RATE_HZ
    assert abs(between_ms - spoken_ms) <= drift_ms, f"{spoken_ms:.0f} ms were spoken, {between_ms:.0f} ms heard"
    return first.at_ms


async def _run(*argv: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, f"{argv}: {output.decode(errors='replace')}"
