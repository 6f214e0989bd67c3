"""Text to speech with espeak-ng. Runs only in the voice process: the library is GPL and not re-entrant.

Loaded through ctypes from the wheel ``espeakng-loader``; the C names and numbers are those of espeak-ng's
``speak_lib.h`` (version 1.52).
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterable
from dataclasses import dataclass

import espeakng_loader
import numpy as np

from offhook.audio.convert import converter
from offhook.audio.level import rms_of
from offhook.model.audio import AudioFormat, Encoding

VOICE = b"en-us+klatt4"
"""Of the wheel's voices the one a recogniser understands best over a telephone: 42 % of the words wrong, 81 % with
the plain voice (8 sentences, pocketsphinx, G.711)."""
WORDS_PER_MINUTE = 170
PITCH = 50
PITCH_RANGE = 50
LEVEL_DBM0 = -18.0
"""Active speech level: what a telephone network expects of a talker (ITU-T P.56, G.111)."""

MAX_TEXT_CHARACTERS = 4000
"""About five minutes of speech; the rest of a longer text is not spoken."""

MAX_DATA_PATH_BYTES = 159
"""espeak-ng keeps the path of its data in 160 bytes, cuts a longer one and finds nothing (tried with 1.52)."""

_FRAME = 441  # samples in 20 ms at espeak's 22,050 Hz
_ACTIVE = 0.1  # of the loudest frame's RMS: above it a frame counts as speech for the level

_AUDIO_OUTPUT_SYNCHRONOUS = 2
_INITIALIZE_DONT_EXIT = 0x8000
_POS_CHARACTER = 1
_CHARS_UTF8 = 1
_END_PAUSE = 0x1000
_EVENT_LIST_TERMINATED, _EVENT_WORD = 0, 1
_RATE, _PITCH, _RANGE = 1, 3, 4
_OK = 0


class VoiceError(Exception):
    """espeak-ng could not be set up or did not speak."""


class _Event(ctypes.Structure):
    """``espeak_EVENT``; ``text_position`` counts characters from 1, ``audio_position`` milliseconds."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


@dataclass(frozen=True, kw_only=True, slots=True)
class Speech:
    """``word_ms``: where each blank-separated word of the text begins in ``audio``, rising."""

    audio: bytes
    word_ms: tuple[int, ...]


class Voice:
    """One voice; synthesises a sentence in about 10 ms. Raises ``VoiceError``."""

    def __init__(self) -> None:
        data = espeakng_loader.get_data_path().encode()
        if len(data) > MAX_DATA_PATH_BYTES:
            limit = f"espeak-ng takes {MAX_DATA_PATH_BYTES} bytes of a path, and its data lies in {data.decode()}"
            raise VoiceError(f"{limit}: install offhook in a folder with a shorter path")
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        rate: int = self._library.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, 0, data, _INITIALIZE_DONT_EXIT)
        if rate != 22050:
            raise VoiceError(f"espeak_Initialize gave {rate} instead of a sample rate of 22,050 Hz")
        if self._library.espeak_SetVoiceByName(VOICE) != _OK:
            raise VoiceError(f"there is no voice {VOICE!r}")
        for parameter, value in ((_RATE, WORDS_PER_MINUTE), (_PITCH, PITCH), (_RANGE, PITCH_RANGE)):
            self._library.espeak_SetParameter(parameter, value, 0)
        self._pieces: list[bytes] = []
        self._words: list[tuple[int, int]] = []
        self._callback = _Callback(self._collect)  # espeak keeps the pointer: it must live as long
        self._library.espeak_SetSynthCallback(self._callback)

    def speak(self, text: str, audio_format: AudioFormat) -> Speech:
        """``text`` in ``audio_format`` at ``LEVEL_DBM0``."""
        words = [pronounced(word) for word in text[:MAX_TEXT_CHARACTERS].split()]
        self._pieces.clear()
        self._words.clear()
        encoded = " ".join(words).encode() + b"\0"
        flags = _CHARS_UTF8 | _END_PAUSE
        if self._library.espeak_Synth(encoded, len(encoded), 0, _POS_CHARACTER, 0, flags, None, None) != _OK:
            raise VoiceError("espeak_Synth failed")
        audio = _levelled(b"".join(self._pieces))
        convert = converter(AudioFormat(encoding=Encoding.L16, sample_rate_hz=22050), audio_format)
        return Speech(audio=convert(audio) if convert else audio, word_ms=word_positions(words, self._words))

    def _collect(self, samples: object, count: int, events: ctypes.Array[_Event]) -> int:
        if samples and count > 0:
            self._pieces.append(ctypes.string_at(samples, 2 * count))  # type: ignore[arg-type]
        index = 0
        while events[index].type != _EVENT_LIST_TERMINATED:
            if events[index].type == _EVENT_WORD:
                self._words.append((events[index].text_position - 1, events[index].audio_position))
            index += 1
        return 0


_CLOCK = re.compile(r"(\d{1,2}):0(\d)\b")


def pronounced(word: str) -> str:
    """How a written word is given to espeak: ``9:05`` is "nine oh five", not "nine zero five"."""
    return _CLOCK.sub(r"\1 oh \2", word)


def word_positions(words: Iterable[str], spoken: Iterable[tuple[int, int]]) -> tuple[int, ...]:
    """For each word its begin in ms, from espeak's (character, ms) pairs; an unspoken one shares the next's place.

    espeak names parts of words ("9", "47" of "9:47") and joins others; only the first sound at or after a
    word's first character counts.
    """
    events = sorted(spoken)
    positions: list[int] = []
    start = 0
    for word in words:
        after = [ms for character, ms in events if character >= start]
        last = positions[-1] if positions else 0
        positions.append(max(last, after[0] if after else last))
        start += len(word) + 1
    return tuple(positions)


def _levelled(l16: bytes) -> bytes:
    """The same speech with its active level (silence between words left out) at ``LEVEL_DBM0``."""
    samples = np.frombuffer(l16, dtype="<i2").astype(np.float32)
    frames = samples[: samples.size // _FRAME * _FRAME].reshape(-1, _FRAME)
    if not frames.size:
        return l16
    loudness = np.sqrt((frames**2).mean(axis=1))
    active = loudness[loudness > _ACTIVE * loudness.max()]
    if not active.size:
        return l16
    gain = rms_of(LEVEL_DBM0) / float(np.sqrt((active**2).mean()))
    levelled: bytes = np.clip(np.rint(samples * gain), -32768, 32767).astype("<i2").tobytes()
    return levelled
