"""What callers hear who wait, or whose call rings: frames ready to be sent, in the format of any leg."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from itertools import cycle
from pathlib import Path
from typing import Protocol

from offhook.audio.convert import converted, converter
from offhook.audio.melody import RATE_HZ, melody
from offhook.audio.tones import ringing_tone
from offhook.audio.wav import WavError, read_wav
from offhook.model.audio import FRAME_MS, L16_16K, PCMA_8K, PCMU_8K, AudioFormat
from offhook.model.records import is_fetched

MELODY = ""
"""The name of the one that is always there."""

RINGING_TONE = "ringing tone"
"""Of early media; no path of a file is called so."""

MAX_HOLD_BYTES = 32 * 1024 * 1024
"""Half an hour of G.711; it is kept in memory, three times over."""

MAX_FETCHED_S = 120
"""Of a sound that somebody's server has, its beginning: no tool runs for longer, so nobody hears it twice."""

MOST_FETCHED = 16
"""Sounds of that kind in memory, 7 MB each; the one that was fetched first makes room for another."""

PACE_FRAMES = 8
PACE_S = 0.0005
"""Rests of a thread that converts: see ``store.directory.PACE_ROWS``."""

_FORMATS = (PCMU_8K, PCMA_8K, L16_16K)

Frames = Mapping[AudioFormat, tuple[bytes, ...]]
"""A sound, ready for a leg of any format."""


class Relay(Protocol):
    """Takes a frame to be sent next: a media session."""

    def relay(self, frame: bytes) -> None: ...


class HoldAudio:
    """By name, which is the path of a WAV file as the agent's ``hold_audio`` has it, or the URL of one. An unknown name
    is the melody.

    ``on_wanted`` is told the URL of each sound that a call may need; whoever fetches it gives it to ``keep``.
    """

    def __init__(self) -> None:
        self.on_wanted: Callable[[str], None] = lambda url: None
        self._frames: dict[str, Frames] = {}
        self._fetched: dict[str, Frames] = {}
        self._add(MELODY, AudioFormat(encoding=L16_16K.encoding, sample_rate_hz=RATE_HZ), melody())
        self._add(RINGING_TONE, L16_16K, ringing_tone())

    def add(self, name: str, content: bytes) -> None:
        """What a WAV file holds. Raises ``WavError`` where it cannot be played."""
        audio_format, audio = read_wav(content)
        if len(audio) < audio_format.frame_bytes:
            raise WavError(f"shorter than {FRAME_MS} ms")
        self._add(name, audio_format, audio)

    def _add(self, name: str, source: AudioFormat, audio: bytes) -> None:
        frames: dict[AudioFormat, tuple[bytes, ...]] = {}
        for target in _FORMATS:
            frames[target] = tuple(_split(converted(audio, source, target), target))
        self._frames[name] = frames

    def want(self, name: str) -> None:
        """A call begins in which this may be played."""
        if is_fetched(name):
            self.on_wanted(name)

    def keep(self, url: str, frames: Frames) -> None:
        """What a URL led to; in place of what it led to before."""
        self._fetched.pop(url, None)
        self._fetched[url] = frames
        if len(self._fetched) > MOST_FETCHED:
            del self._fetched[next(iter(self._fetched))]

    def has(self, url: str) -> bool:
        return url in self._fetched

    def audio(self, name: str, audio_format: AudioFormat) -> bytes:
        """All of it, once; b"" where there is none of the name."""
        return b"".join(self._found(name).get(audio_format, ()))

    def player(self, name: str, audio_format: AudioFormat, leg: Relay) -> Player:
        frames = self._found(name).get(audio_format) or self._frames[MELODY][audio_format]
        return Player(frames, leg)

    def _found(self, name: str) -> Frames:
        return (self._fetched if is_fetched(name) else self._frames).get(name, {})


class Player:
    """Plays to one leg, again and again; ``feed`` is a sink of that very leg, whose frames are the clock."""

    def __init__(self, frames: tuple[bytes, ...], leg: Relay) -> None:
        self._frames = cycle(frames)
        self._leg = leg

    def feed(self, _heard: bytes) -> None:
        self._leg.relay(next(self._frames))


def _split(audio: bytes, audio_format: AudioFormat) -> Iterator[bytes]:
    """Whole frames; what is left over is not played."""
    size = audio_format.frame_bytes
    whole = len(audio) - len(audio) % size
    return (audio[at : at + size] for at in range(0, whole, size))


def fetched_frames(content: bytes) -> Frames:
    """What a WAV file holds, ``MAX_FETCHED_S`` at most. For a thread beside the event loop: it rests again and again.

    Raises ``WavError``.
    """
    source, audio = read_wav(content)
    frames = list(_split(audio[: MAX_FETCHED_S * 1000 // FRAME_MS * source.frame_bytes], source))
    if not frames:
        raise WavError(f"shorter than {FRAME_MS} ms")
    return {target: tuple(_split(_converted(frames, source, target), target)) for target in _FORMATS}


def _converted(frames: list[bytes], source: AudioFormat, target: AudioFormat) -> bytes:
    convert = converter(source, target)
    if convert is None:
        return b"".join(frames)
    done = bytearray()
    for number, frame in enumerate(frames, start=1):
        done += convert(frame)
        if number % PACE_FRAMES == 0:
            time.sleep(PACE_S)
    return bytes(done)


def read_hold_audio(path: Path) -> bytes:
    """What a file holds. Raises ``WavError`` where it cannot be read or is too long."""
    try:
        content = path.expanduser().read_bytes()
    except OSError as error:
        raise WavError(f"cannot be read ({error.strerror})") from None
    if len(content) > MAX_HOLD_BYTES:
        raise WavError(f"larger than {MAX_HOLD_BYTES} bytes")
    return content
