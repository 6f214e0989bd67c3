"""G.711: PCMU (µ-law) and PCMA (A-law) to and from linear samples, by tables computed here from the laws.

Linear samples (``L16``) are signed 16-bit little-endian, left-justified as ITU-T G.191 has them: µ-law
uses their upper 14 bits, A-law their upper 13. A negative sample is coded by its ones' complement, so
that 0 and -1 carry different signs, as G.711 tables 1a-2b do.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from offhook.model.audio import AudioFormat, Encoding

_SEGMENTS = 8
_STEPS = 16  # quantization intervals in one segment
_HALF_RANGE = 1 << 15  # non-negative values of a 16-bit sample
_PCMU_BIAS = 33  # G.711 table 2a: makes every µ-law segment start at a power of two
_PCMA_TOGGLE = 0x55  # G.711 §3.2: even bits are inverted on the line


# ── the two laws: for segment and step, the upper bound and the output value of a positive 16-bit sample ──


def _pcmu_interval(segment: int, step: int) -> tuple[int, int]:
    """G.711 table 2a, in 14-bit values: decision value x(n+1) and output value y(n), times 4."""
    upper = ((step + 17) << (segment + 1)) - _PCMU_BIAS
    output = ((2 * step + 33) << segment) - _PCMU_BIAS
    return upper * 4, output * 4


def _pcma_interval(segment: int, step: int) -> tuple[int, int]:
    """G.711 table 1a, in 13-bit values: decision value x(n+1) and output value y(n), times 8."""
    exponent = max(segment, 1) - 1  # the two lowest segments have the same step
    base = _STEPS if segment else 0
    return (base + step + 1) * 2 * 8 << exponent, (2 * (base + step) + 1) * 8 << exponent


def _pcmu_code(segment: int, step: int) -> int:
    return 0xFF ^ (segment << 4 | step)


def _pcma_code(segment: int, step: int) -> int:
    return (0x80 | segment << 4 | step) ^ _PCMA_TOGGLE


def _tables(
    interval: Callable[[int, int], tuple[int, int]], code_of: Callable[[int, int], int]
) -> tuple[NDArray[np.uint8], NDArray[np.int16]]:
    """``encode[sample as uint16]`` and ``decode[code]`` of one law."""
    positive = bytearray()
    decode = np.zeros(256, dtype="<i2")
    for segment in range(_SEGMENTS):
        for step in range(_STEPS):
            upper, output = interval(segment, step)
            code = code_of(segment, step)
            positive += bytes([code]) * (upper - len(positive))
            decode[code] = output
            decode[code ^ 0x80] = -output
    positive += positive[-1:] * (_HALF_RANGE - len(positive))  # above the last decision value: clipped
    half = np.frombuffer(bytes(positive), dtype=np.uint8)
    return np.concatenate([half, half[::-1] ^ 0x80]), decode


_ENCODE: dict[Encoding, NDArray[np.uint8]] = {}
_DECODE: dict[Encoding, NDArray[np.int16]] = {}
_ENCODE[Encoding.PCMU], _DECODE[Encoding.PCMU] = _tables(_pcmu_interval, _pcmu_code)
_ENCODE[Encoding.PCMA], _DECODE[Encoding.PCMA] = _tables(_pcma_interval, _pcma_code)

_EVERY_CODE = bytes(range(256))


# ── what the engine uses ─────────────────────────────────────────────────────────────────────────────────


def decode(encoding: Encoding, data: bytes) -> bytes:
    """Coded samples to L16, twice as many bytes. L16 comes back as it is."""
    if encoding is Encoding.L16:
        return data
    return _DECODE[encoding].take(np.frombuffer(data, dtype=np.uint8)).tobytes()


def encode(encoding: Encoding, l16: bytes) -> bytes:
    """L16 to coded samples, half as many bytes. Raises ``ValueError`` for half a sample."""
    if encoding is Encoding.L16:
        return l16
    return _ENCODE[encoding].take(np.frombuffer(l16, dtype="<u2")).tobytes()


PCMU_TO_PCMA = encode(Encoding.PCMA, decode(Encoding.PCMU, _EVERY_CODE))
"""For ``bytes.translate``: the A-law code nearest to each µ-law code."""

PCMA_TO_PCMU = encode(Encoding.PCMU, decode(Encoding.PCMA, _EVERY_CODE))
"""For ``bytes.translate``: the µ-law code nearest to each A-law code."""

SILENCE = {Encoding.PCMU: b"\xff", Encoding.PCMA: b"\xd5", Encoding.L16: b"\x00"}
"""The byte of digital silence: the smallest positive value of each law."""


def silence(audio_format: AudioFormat) -> bytes:
    """One 20 ms frame of digital silence."""
    return SILENCE[audio_format.encoding] * audio_format.frame_bytes
