"""Signals with known properties, and a look at those that come back. Levels are dBm0, samples are L16."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.vectors.location import vectors

from offhook.audio.convert import converter
from offhook.audio.g711 import encode
from offhook.audio.level import rms_of
from offhook.audio.wav import read_wav
from offhook.model.audio import L16_8K, Encoding

Samples = NDArray[np.float64]


def l16(samples: Samples | list[int]) -> bytes:
    return bytes(np.clip(np.rint(np.asarray(samples)), -32768, 32767).astype("<i2"))


def samples_of(audio: bytes) -> Samples:
    return np.frombuffer(audio, dtype="<i2").astype(np.float64)


def sine(hz: float, ms: int, rate_hz: int, *, amplitude: float = 10_000) -> bytes:
    return l16(amplitude * np.sin(2 * np.pi * hz * np.arange(rate_hz * ms // 1000) / rate_hz))


def level_at(hz: float, audio: bytes, rate_hz: int) -> float:
    """Amplitude of one frequency, with a window that keeps neighbours out."""
    samples = samples_of(audio)
    window = np.blackman(samples.size)
    turning = np.exp(-2j * np.pi * hz * np.arange(samples.size) / rate_hz)
    return float(2 * abs((samples * window * turning).sum()) / window.sum())


def decibels(ratio: float) -> float:
    return float(20 * np.log10(max(ratio, 1e-9)))


def frames_of(audio: bytes, size: int = 160) -> Iterator[bytes]:
    return (audio[at : at + size] for at in range(0, len(audio) - size + 1, size))


def white_noise(level_dbm0: float, ms: int, encoding: Encoding = Encoding.PCMU, *, seed: int = 1) -> bytes:
    return encode(encoding, l16(np.random.default_rng(seed).normal(0, rms_of(level_dbm0), 8 * ms)))


def low_noise(level_dbm0: float, ms: int, encoding: Encoding = Encoding.PCMU, *, seed: int = 1) -> bytes:
    """Noise as of a car or a fan: falling 6 dB an octave from 150 Hz."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).normal(0, 1, 8 * ms))
    frequencies = np.fft.rfftfreq(8 * ms, 1 / 8000)
    shaped = np.fft.irfft(spectrum / np.maximum(frequencies, 150.0) * (frequencies > 60), 8 * ms)
    return encode(encoding, l16(shaped * rms_of(level_dbm0) / np.sqrt(np.mean(shaped**2))))


def spoken(text: str, folder: Path, *, voice: str = "slt", level_dbm0: float = -20.0) -> Samples:
    """8 kHz speech of flite at this level of its RMS; skips the test where flite is not installed."""
    flite = shutil.which("flite")
    if flite is None:
        pytest.skip("flite is not installed (Debian package flite)")
    path = folder / "speech.wav"
    subprocess.run([flite, "-voice", voice, "-t", text, "-o", str(path)], check=True, timeout=30)
    audio_format, audio = read_wav(path.read_bytes())
    to_8k = converter(audio_format, L16_8K)
    samples = samples_of(to_8k(audio) if to_8k else audio)
    return samples * rms_of(level_dbm0) / float(np.sqrt(np.mean(samples**2)))


def voice(seed: int, ms: int = 4000, level_dbm0: float = -16.0) -> Samples:
    """Syllables of a buzz and a hiss through formants of their own: no speech, but as hard to tell from another."""
    chance = np.random.default_rng(seed)
    syllables: list[Samples] = []
    while sum(one.size for one in syllables) < 8 * ms:
        count = int(chance.integers(1200, 2600))
        low, high = chance.uniform(90, 220, 2)
        phase = np.cumsum(np.linspace(low, high, count)) / 8000
        source = np.where(np.diff(np.floor(phase), prepend=0.0) > 0, 30.0, 0.0) + chance.normal(0, 1, count)
        for hz in chance.uniform((250, 900, 2000), (800, 1900, 3200)):
            decay = np.exp(-np.arange(80) / 20) * np.cos(2 * np.pi * hz * np.arange(80) / 8000)
            source = 0.3 * source + np.convolve(source, decay)[:count]
        syllables += [source * np.hanning(count), np.zeros(int(chance.integers(200, 900)))]
    samples = np.concatenate(syllables)[: 8 * ms]
    return samples * rms_of(level_dbm0) / float(np.sqrt(np.mean(samples**2)))


def captured_speech() -> bytes:
    """PCMA speech from SIPp's capture: the RTP payloads of a little-endian pcap file, in their order."""
    data = vectors("pcap", "sipp", "g711a.pcap").read_bytes()
    payloads, at = [], 24
    while at + 16 <= len(data):
        (captured,) = struct.unpack_from("<I", data, at + 8)
        packet = data[at + 16 : at + 16 + captured]
        payloads.append(packet[14 + 20 + 8 + 12 :])  # Ethernet, IPv4, UDP, RTP without extensions
        at += 16 + captured
    return b"".join(payloads)
