"""A caller on a phone line: speaks 20 ms frames into a connection at the pace of a real line."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable
from functools import lru_cache
from importlib import resources
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory

import pytest

from offhook.audio.convert import converter
from offhook.audio.g711 import silence
from offhook.audio.wav import read_wav
from offhook.bridge.codec import BridgeConnection
from offhook.model.audio import PCMU_8K, AudioFormat

FRAME_S = 0.02


def wav_audio(data: bytes, audio_format: AudioFormat = PCMU_8K) -> bytes:
    found, audio = read_wav(data)
    convert = converter(found, audio_format)
    return convert(audio) if convert else audio


def shipped(name: str, audio_format: AudioFormat = PCMU_8K) -> bytes:
    """A self-check question of the package: ``what_time_is_it`` or ``goodbye``, flite's slt."""
    file = resources.files("offhook.cli") / "selfcheck" / f"{name}.wav"
    return wav_audio(file.read_bytes(), audio_format)


@lru_cache(maxsize=256)
def flite(voice: str, text: str, audio_format: AudioFormat = PCMU_8K) -> bytes:
    """``text`` spoken by a flite voice; skips the test where flite is not installed."""
    if which("flite") is None:
        pytest.skip("flite is not installed (Debian package flite)")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        subprocess.run(["flite", "-voice", voice, "-t", text, "-o", str(path)], check=True)
        return wav_audio(path.read_bytes(), audio_format)


class Caller:
    """Speaks, is silent, and keeps the line's time; ``played`` is told each frame's time."""

    def __init__(self, connection: BridgeConnection, audio_format: AudioFormat = PCMU_8K) -> None:
        self._connection = connection
        self._silence = silence(audio_format) * audio_format.frame_bytes
        self._bytes = audio_format.frame_bytes
        self._due = 0.0

    async def say(self, audio: bytes) -> None:
        for at in range(0, len(audio), self._bytes):
            await self._send(audio[at : at + self._bytes].ljust(self._bytes, self._silence[:1]))

    async def silent(self, ms: int) -> None:
        for _ in range(ms // 20):
            await self._send(self._silence)

    async def silent_until(self, condition: Callable[[], bool], longest_ms: int = 8000) -> None:
        """Keeps the line open until ``condition``; fails the test when it does not come."""
        for _ in range(longest_ms // 20):
            if condition():
                return
            await self._send(self._silence)
        pytest.fail("the agent did not do it in time")

    async def _send(self, frame: bytes) -> None:
        now = asyncio.get_running_loop().time()
        self._due = max(self._due + FRAME_S, now - 5 * FRAME_S)
        await asyncio.sleep(max(0.0, self._due - now))
        self._connection.send_audio(frame)
