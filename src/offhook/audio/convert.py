"""From one audio format to another, as a stream."""

from __future__ import annotations

from collections.abc import Callable

from offhook.audio.g711 import PCMA_TO_PCMU, PCMU_TO_PCMA, decode, encode
from offhook.audio.resample import Resampler
from offhook.model.audio import AudioFormat, Encoding

Converter = Callable[[bytes], bytes]
"""Takes a piece of the stream, any length, and returns what is ready of the result; never raises."""

_TRANSLATION = {
    (Encoding.PCMU, Encoding.PCMA): PCMU_TO_PCMA,
    (Encoding.PCMA, Encoding.PCMU): PCMA_TO_PCMU,
}


def converter(source: AudioFormat, target: AudioFormat) -> Converter | None:
    """A fresh conversion with its own state; None when the bytes may pass as they are."""
    if source == target:
        return None
    if source.sample_rate_hz != target.sample_rate_hz:
        return _Resampling(source, target)
    table = _TRANSLATION.get((source.encoding, target.encoding))
    if table is not None:
        return _translation(table)
    return _Recoding(source.encoding, target.encoding)


def converted(audio: bytes, source: AudioFormat, target: AudioFormat) -> bytes:
    """A whole recording, or an utterance, at once."""
    convert = converter(source, target)
    return audio if convert is None else convert(audio)


def _translation(table: bytes) -> Converter:
    return lambda audio: audio.translate(table)


class _Recoding:
    """Between L16 and G.711 at one rate; keeps half a sample for the next piece."""

    def __init__(self, source: Encoding, target: Encoding) -> None:
        self._source = source
        self._target = target
        self._half_sample = b""

    def __call__(self, audio: bytes) -> bytes:
        l16 = self._half_sample + decode(self._source, audio)
        whole = len(l16) & ~1
        self._half_sample = l16[whole:]
        return encode(self._target, l16[:whole])


class _Resampling:
    def __init__(self, source: AudioFormat, target: AudioFormat) -> None:
        self._source = source.encoding
        self._target = target.encoding
        self._resampler = Resampler(source.sample_rate_hz, target.sample_rate_hz)

    def __call__(self, audio: bytes) -> bytes:
        return encode(self._target, self._resampler(decode(self._source, audio)))
