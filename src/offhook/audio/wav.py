"""WAV files as values: bytes in, samples out, and back (Microsoft RIFF, 1991, and its G.711 tags, 1994).

Reads 8- and 16-bit PCM, A-law and µ-law, of several channels too (the first is taken), and files whose
sizes were never filled in, as a writer leaves them that was killed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple, get_args

import numpy as np

from offhook.model.audio import AudioFormat, Encoding, SampleRate
from offhook.model.errors import OffhookError

MAX_WAV_BYTES = 256 * 1024 * 1024
"""Nine hours of G.711 in one channel; above it lies a mistake."""

_MAX_CHUNKS = 256  # a real file has 2 to 10
_MAX_CHANNELS = 8

_PCM, _PCMA, _PCMU, _EXTENSIBLE = 0x0001, 0x0006, 0x0007, 0xFFFE  # mmreg.h: WAVE_FORMAT_*
_TAGS = {Encoding.L16: _PCM, Encoding.PCMA: _PCMA, Encoding.PCMU: _PCMU}
_ENCODINGS = {(_PCM, 16): Encoding.L16, (_PCM, 8): Encoding.L16, (_PCMA, 8): Encoding.PCMA, (_PCMU, 8): Encoding.PCMU}
_SAMPLE_RATES: dict[int, SampleRate] = {rate: rate for rate in get_args(SampleRate)}


class WavError(OffhookError):
    """A file that is no WAV or a kind of it we do not read; the message says what was found."""


class _Chunk(NamedTuple):
    name: bytes
    body: bytes


class _Layout(NamedTuple):
    """What a ``fmt `` chunk says."""

    tag: int
    channels: int
    rate_hz: int
    bits: int


def read_wav(data: bytes) -> tuple[AudioFormat, bytes]:
    """The format and the samples of the first channel; 8-bit PCM comes as L16. Raises ``WavError``."""
    if len(data) > MAX_WAV_BYTES:
        raise WavError(f"larger than {MAX_WAV_BYTES} bytes")
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise WavError(f"not a WAV file: it begins with {data[:12]!r}")
    layout: _Layout | None = None
    for chunk in _chunks(data):
        if chunk.name == b"fmt ":
            layout = _layout(chunk.body)
        elif chunk.name == b"data":
            if layout is None:
                raise WavError("samples come before their format")
            return _audio_format(layout), _first_channel(layout, chunk.body)
    raise WavError("no samples in it")


def write_wav(audio_format: AudioFormat, audio: bytes) -> bytes:
    """A WAV file of one channel."""
    width = audio_format.bytes_per_sample
    rate = audio_format.sample_rate_hz
    layout = struct.pack("<HHIIHH", _TAGS[audio_format.encoding], 1, rate, rate * width, width, 8 * width)
    chunks = _chunk(b"fmt ", layout)
    if audio_format.encoding is not Encoding.L16:
        # Everything but PCM carries the size of its extension and a count of samples.
        chunks = _chunk(b"fmt ", layout + b"\0\0") + _chunk(b"fact", struct.pack("<I", len(audio)))
    chunks += _chunk(b"data", audio)
    return _chunk(b"RIFF", b"WAVE" + chunks)


def _chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)  # chunks begin at even offsets


def _chunks(data: bytes) -> Iterator[_Chunk]:
    """The chunks of the file; a size that reaches beyond its end means: up to the end."""
    at = 12
    stated_end = 8 + int.from_bytes(data[4:8], "little")
    for _ in range(_MAX_CHUNKS):
        header = data[at : at + 8]
        if len(header) < 8:
            return
        size = int.from_bytes(header[4:], "little")
        if size == 0 and stated_end <= at + 8:
            size = len(data)  # never filled in, like the file's own
        yield _Chunk(header[:4], data[at + 8 : at + 8 + size])
        at += 8 + size + size % 2
    raise WavError(f"more than {_MAX_CHUNKS} chunks")


def _layout(body: bytes) -> _Layout:
    if len(body) < 16:
        raise WavError("its format is cut off")
    tag, channels, rate_hz, _, _, bits = struct.unpack_from("<HHIIHH", body)
    if tag == _EXTENSIBLE and len(body) >= 26:
        tag = int.from_bytes(body[24:26], "little")  # the first two bytes of the sub-format's GUID
    if (tag, bits) not in _ENCODINGS:
        raise WavError(f"{bits}-bit samples of kind {tag:#06x}; 8- and 16-bit PCM, A-law and µ-law are read")
    if not 1 <= channels <= _MAX_CHANNELS:
        raise WavError(f"{channels} channels; 1 to {_MAX_CHANNELS} are read")
    return _Layout(tag, channels, rate_hz, bits)


def _audio_format(layout: _Layout) -> AudioFormat:
    rate = _SAMPLE_RATES.get(layout.rate_hz)
    if rate is None:
        rates = ", ".join(str(rate) for rate in _SAMPLE_RATES)
        raise WavError(f"sample rate {layout.rate_hz} Hz; {rates} are read")
    return AudioFormat(encoding=_ENCODINGS[layout.tag, layout.bits], sample_rate_hz=rate)


def _first_channel(layout: _Layout, body: bytes) -> bytes:
    whole = len(body) - len(body) % (layout.channels * layout.bits // 8)
    samples = np.frombuffer(body[:whole], dtype="<i2" if layout.bits == 16 else np.uint8)[:: layout.channels]
    if (layout.tag, layout.bits) == (_PCM, 8):  # 8-bit PCM is unsigned, 16-bit signed
        samples = ((samples.astype(np.int16) - 128) << 8).astype("<i2")
    return samples.tobytes()
