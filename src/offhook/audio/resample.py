"""Sample rate conversion by a short polyphase FIR: about 1 ms of delay, nothing held back.

The filter is a Kaiser-windowed sinc at the lower rate's Nyquist frequency. Output n of a conversion by
L/M looks at the inputs up to floor(n M / L) and leaves as soon as that one is in: 20 ms in give 20 ms out.
"""

from __future__ import annotations

from math import gcd

import numpy as np
from numpy.typing import NDArray

TAPS_AT_LOWER_RATE = 20
"""Length of the filter in samples of the lower rate: 1.25 ms of delay at 8 kHz, 0.4 ms at 24 kHz."""

_KAISER_BETA = 5.65  # 60 dB of stop band (Kaiser: 0.1102 (A - 8.7))


def _phases(up: int, down: int) -> NDArray[np.float32]:
    """The prototype filter cut into ``up`` phases; row p serves outputs that fall p/up after an input."""
    taps = -(-TAPS_AT_LOWER_RATE * max(up, down) // up)
    length = taps * up
    positions = np.arange(length) - (length - 1) / 2
    cutoff = 1 / max(up, down)
    prototype = np.sinc(positions * cutoff) * np.kaiser(length, _KAISER_BETA)
    phases = prototype.reshape(taps, up).T
    # Each phase passes a constant unchanged; otherwise the phases beat at a fraction of the rate.
    phases /= phases.sum(axis=1, keepdims=True)
    return np.ascontiguousarray(phases[:, ::-1], dtype=np.float32)


class Resampler:
    """Streaming conversion of L16 between two rates; its state is the tail of what went in.

    Input may come in pieces of any size, half samples too. After N inputs, ceil(N to_hz / from_hz) outputs
    have come, always.
    """

    def __init__(self, from_hz: int, to_hz: int) -> None:
        common = gcd(from_hz, to_hz)
        self._up = to_hz // common
        self._down = from_hz // common
        self._phases = _phases(self._up, self._down)
        self._tail = np.zeros(self._phases.shape[1] - 1, dtype=np.float32)
        self._half_sample = b""
        self._position = 0  # of the next output, in 1/up of an input sample after the tail's end

    def __call__(self, l16: bytes) -> bytes:
        data = self._half_sample + l16
        whole = len(data) & ~1
        self._half_sample = data[whole:]
        samples = np.concatenate([self._tail, np.frombuffer(data[:whole], dtype="<i2")])
        arrived = whole // 2
        due = max(0, -(-(arrived * self._up - self._position) // self._down))
        points = self._position + self._down * np.arange(due)
        self._position += self._down * due - arrived * self._up
        self._tail = samples[arrived:]
        return self._filter(samples, points)

    def _filter(self, samples: NDArray[np.float32], points: NDArray[np.int64]) -> bytes:
        if not points.size:
            return b""
        windows = np.lib.stride_tricks.sliding_window_view(samples, self._phases.shape[1])
        output = np.einsum("ij,ij->i", windows[points // self._up], self._phases[points % self._up])
        return bytes(np.clip(np.rint(output), -32768, 32767).astype("<i2"))
