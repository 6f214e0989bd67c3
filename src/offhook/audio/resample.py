"""Sample rate conversion by a short polyphase FIR: 1.25 ms of delay at 8 kHz, nothing held back.

The filter is a Kaiser-windowed sinc just under the lower rate's Nyquist frequency. At 8 kHz it is flat to
3 kHz, 0.7 dB down at 3.4 kHz, and 61 dB down from 4.6 kHz on: what would fold below 3.4 kHz, where a
telephone hears it, is gone. Output n of a conversion by L/M looks at the inputs up to floor(n M / L) and
leaves as soon as that one is in: 20 ms in give 20 ms out.
"""

from __future__ import annotations

from functools import lru_cache
from math import gcd
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from offhook.model.audio import FRAME_MS

TAPS_AT_LOWER_RATE = 20
"""Length of the filter in samples of the lower rate; half of it is the delay."""

_CUTOFF = 0.96  # of the lower Nyquist frequency, where the response is 6 dB down
_KAISER_BETA = 5.75
_PLANS_KEPT = 64
"""A plan has 60 to 120 KB; every call at one pair of rates and in 20 ms pieces shares one."""


@lru_cache(maxsize=16)
def _phases(up: int, down: int) -> NDArray[np.float32]:
    """The filter cut into ``up`` phases; row p serves outputs that fall p/up after an input, oldest tap first."""
    taps = -(-TAPS_AT_LOWER_RATE * max(up, down) // up)
    length = taps * up
    positions = np.arange(length) - (length - 1) / 2
    prototype = np.sinc(positions * _CUTOFF / max(up, down)) * np.kaiser(length, _KAISER_BETA)
    phases = prototype.reshape(taps, up).T
    # Each phase passes a constant unchanged; otherwise the phases beat at a fraction of the rate.
    phases /= phases.sum(axis=1, keepdims=True)
    return np.ascontiguousarray(phases[:, ::-1], dtype=np.float32)


class _Plan(NamedTuple):
    """For one piece of input: which samples, and with which taps, make each output due; both outputs x taps."""

    samples: NDArray[np.intp]
    taps: NDArray[np.float32]


@lru_cache(maxsize=_PLANS_KEPT)
def _plan(up: int, down: int, position: int, arrived: int) -> _Plan:
    phases = _phases(up, down)
    due = max(0, -(-(arrived * up - position) // down))
    points = position + down * np.arange(due)
    samples = (points // up)[:, np.newaxis] + np.arange(phases.shape[1])
    return _Plan(samples=samples, taps=phases[points % up])


class Resampler:
    """Streaming conversion of L16 between two rates; its state is the tail of what went in.

    Input may come in pieces of any size, half samples too. After N inputs, ceil(N to_hz / from_hz) outputs
    have come, always.
    """

    def __init__(self, from_hz: int, to_hz: int) -> None:
        common = gcd(from_hz, to_hz)
        self._up = to_hz // common
        self._down = from_hz // common
        self._frame_bytes = 2 * from_hz * FRAME_MS // 1000
        self._tail = np.zeros(_phases(self._up, self._down).shape[1] - 1, dtype=np.float32)
        self._half_sample = b""
        self._position = 0  # of the next output after the next input, in 1/up of an input sample

    def __call__(self, l16: bytes) -> bytes:
        """What is ready of the result; ``b""`` when nothing is."""
        data = self._half_sample + l16
        whole = len(data) & ~1
        self._half_sample = data[whole:]
        step = self._frame_bytes
        return b"".join(self._convert(data[at : min(at + step, whole)]) for at in range(0, whole, step))

    def _convert(self, piece: bytes) -> bytes:
        arrived = len(piece) // 2
        samples = np.concatenate([self._tail, np.frombuffer(piece, dtype="<i2")], dtype=np.float32)
        output = self._each_nth(samples, arrived) if self._up == 1 else self._planned(samples, arrived)
        self._position += self._down * len(output) - self._up * arrived
        self._tail = samples[arrived:]
        return np.rint(output).clip(-32768, 32767).astype("<i2").tobytes()

    def _planned(self, samples: NDArray[np.float32], arrived: int) -> NDArray[np.float32]:
        plan = _plan(self._up, self._down, self._position, arrived)
        output: NDArray[np.float32] = np.einsum("ij,ij->i", samples.take(plan.samples), plan.taps)
        return output

    def _each_nth(self, samples: NDArray[np.float32], arrived: int) -> NDArray[np.float32]:
        """One phase for all outputs: they look at the samples where they are, at half the cost."""
        taps = _phases(1, self._down)[0]
        due = max(0, -(-(arrived - self._position) // self._down))
        step = samples.itemsize
        windows: NDArray[np.float32] = np.ndarray(
            (due, taps.size), np.float32, samples, step * self._position if due else 0, (step * self._down, step)
        )
        output: NDArray[np.float32] = np.einsum("ij,j->i", windows, taps)
        return output
