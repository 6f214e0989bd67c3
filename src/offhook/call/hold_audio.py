"""What callers hear who wait, or whose call rings: frames ready to be sent, in the format of any leg."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path
from typing import Protocol

from offhook.audio.convert import converter
from offhook.audio.melody import RATE_HZ, melody
from offhook.audio.tones import ringing_tone
from offhook.audio.wav import WavError, read_wav
from offhook.model.audio import FRAME_MS, L16_16K, PCMA_8K, PCMU_8K, AudioFormat

MELODY = ""
"""The name of the one that is always there."""

RINGING_TONE = "ringing tone"
"""Of early media; no path of a file is called so."""

MAX_HOLD_BYTES = 32 * 1024 * 1024
"""Half an hour of G.711; it is kept in memory, three times over."""

_FORMATS = (PCMU_8K, PCMA_8K, L16_16K)


class Relay(Protocol):
    """Takes a frame to be sent next: a media session."""

    def relay(self, frame: bytes) -> None: ...


class HoldAudio:
    """By name, which is the path of a WAV file as the agent's ``hold_audio`` has it. An unknown name is the melody."""

    def __init__(self) -> None:
        self._frames: dict[tuple[str, AudioFormat], tuple[bytes, ...]] = {}
        self._add(MELODY, AudioFormat(encoding=L16_16K.encoding, sample_rate_hz=RATE_HZ), melody())
        self._add(RINGING_TONE, L16_16K, ringing_tone())

    def add(self, name: str, content: bytes) -> None:
        """What a WAV file holds. Raises ``WavError`` where it cannot be played."""
        audio_format, audio = read_wav(content)
        if len(audio) < audio_format.frame_bytes:
            raise WavError(f"shorter than {FRAME_MS} ms")
        self._add(name, audio_format, audio)

    def _add(self, name: str, source: AudioFormat, audio: bytes) -> None:
        for target in _FORMATS:
            convert = converter(source, target)
            converted = convert(audio) if convert is not None else audio
            size = target.frame_bytes
            whole = len(converted) - len(converted) % size
            self._frames[name, target] = tuple(converted[at : at + size] for at in range(0, whole, size))

    def audio(self, name: str, audio_format: AudioFormat) -> bytes:
        """All of it, once; b"" where there is none of the name."""
        return b"".join(self._frames.get((name, audio_format), ()))

    def player(self, name: str, audio_format: AudioFormat, leg: Relay) -> Player:
        frames = self._frames.get((name, audio_format)) or self._frames[MELODY, audio_format]
        return Player(frames, leg)


class Player:
    """Plays to one leg, again and again; ``feed`` is a sink of that very leg, whose frames are the clock."""

    def __init__(self, frames: tuple[bytes, ...], leg: Relay) -> None:
        self._frames = cycle(frames)
        self._leg = leg

    def feed(self, _heard: bytes) -> None:
        self._leg.relay(next(self._frames))


def read_hold_audio(path: Path) -> bytes:
    """What a file holds. Raises ``WavError`` where it cannot be read or is too long."""
    try:
        content = path.expanduser().read_bytes()
    except OSError as error:
        raise WavError(f"cannot be read ({error.strerror})") from None
    if len(content) > MAX_HOLD_BYTES:
        raise WavError(f"larger than {MAX_HOLD_BYTES} bytes")
    return content
