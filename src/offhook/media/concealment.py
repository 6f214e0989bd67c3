"""Loss concealment: what is played in place of a frame that did not come (after G.711 Appendix I).

The last pitch periods are repeated in phase, at full level for 10 ms, fading over the next 50 into comfort
noise; the first frame that comes again is cross-faded in. numpy runs on lost frames only.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offhook.audio.g711 import decode, encode
from offhook.audio.level import rms_of
from offhook.model.audio import FRAME_MS, AudioFormat

FULL_LEVEL_MS = 10
FADED_MS = 60
"""Appendix I.2.5: speech is hardly stationary longer; repeating it further sounds like a machine."""

ENDING_FASTER = 3
"""A stream that has nothing more to play has mostly ended: its last sound must not be drawn out."""

COMFORT_DBM0 = -58.0
"""The noise a faded concealment ends in: audible as a line that is alive, not as a sound."""

_HISTORY_FRAMES = 3
_SHORTEST_PERIOD_MS = 5  # 200 Hz; shorter pitches fit in several times
_LONGEST_PERIOD_MS = 20
_TEMPLATE_MS = 20  # the end of the history a period is searched with
_CROSS_FADE_MS = 5

_Samples = NDArray[np.float32]

_NOISE: _Samples = np.random.default_rng(1).normal(0, rms_of(COMFORT_DBM0), 8000).astype(np.float32)


class Concealer:
    """Follows the frames of one stream, G.711 or L16; every call gives one whole frame."""

    def __init__(self, audio_format: AudioFormat) -> None:
        self._encoding = audio_format.encoding
        self._width = audio_format.bytes_per_sample
        self._per_ms = audio_format.sample_rate_hz // 1000
        self._frame = self._per_ms * FRAME_MS
        self._cross_fade = self._per_ms * _CROSS_FADE_MS
        self._seam_bytes = self._cross_fade * self._width
        self._history: deque[bytes] = deque(maxlen=_HISTORY_FRAMES)
        self._period: _Samples | None = None
        self._made = 0  # samples since the last good one
        self._age = 0  # the same, as the fading counts them
        self._noise_at = 0
        self.concealed_frames = 0

    def good(self, frame: bytes) -> bytes:
        """A frame that came; after a loss its beginning is blended with the repetition."""
        self._history.append(frame)
        if not self._made:
            return frame
        return self._blend(self._synthesize(self._cross_fade), frame)

    def lost(self, *, ending: bool = False) -> bytes:
        """A frame in place of one that is missing; ``ending``: the stream may be over, fade within 20 ms."""
        self.concealed_frames += not ending or self._age < FADED_MS * self._per_ms
        return self._code(self._synthesize(self._frame, ENDING_FASTER if ending else 1))

    def complete(self, beginning: bytes) -> bytes:
        """A frame of which only the beginning came."""
        beginning = self.good(beginning)
        self._end_loss()
        self.concealed_frames += 1
        return beginning + self._code(self._synthesize(self._frame - len(beginning) // self._width))

    def splice(self, left_out: bytes, frame: bytes) -> bytes:
        """A frame that follows another than it should: begin as the one left out would have begun."""
        self._history.append(frame)
        self._end_loss()
        return self._blend(self._decode(left_out[: self._seam_bytes]), frame)

    def forget(self) -> None:
        """The stream paused: what comes next does not continue what was."""
        self._history.clear()
        self._end_loss()

    def _end_loss(self) -> None:
        self._made = self._age = 0
        self._period = None

    def _blend(self, fading: _Samples, frame: bytes) -> bytes:
        self._end_loss()
        beginning = self._decode(frame[: self._seam_bytes])
        fade_in = ((np.arange(beginning.size, dtype=np.float32) + 0.5) / self._cross_fade).astype(np.float32)
        return self._code(fading[: beginning.size] * (1 - fade_in) + beginning * fade_in) + frame[self._seam_bytes :]

    def _synthesize(self, count: int, aging: int = 1) -> _Samples:
        if self._period is None:
            self._period = self._last_period()
        places = np.arange(self._made, self._made + count)
        ages_ms = (self._age + aging * np.arange(count)) / self._per_ms
        gain = np.clip((FADED_MS - ages_ms) / (FADED_MS - FULL_LEVEL_MS), 0, 1)
        self._made += count
        self._age += count * aging
        noise = np.take(_NOISE, np.arange(self._noise_at, self._noise_at + count), mode="wrap")
        self._noise_at = (self._noise_at + count) % _NOISE.size
        repeated = self._period[places % self._period.size]
        made: _Samples = (repeated * gain + noise * (1 - gain)).astype(np.float32)
        return made

    def _last_period(self) -> _Samples:
        history = self._decode(b"".join(self._history))
        wanted = (_TEMPLATE_MS + _LONGEST_PERIOD_MS) * self._per_ms
        if history.size < wanted:
            history = np.concatenate([np.zeros(wanted - history.size, dtype=np.float32), history])
        length = _best_period(history[-wanted:], self._per_ms)
        period = history[-length:].copy()
        # Appendix I.2.4: the seam is smoothed with what came before the period.
        seam = length // 4
        fade = (np.arange(seam, dtype=np.float32) + 1) / (seam + 1)
        period[-seam:] = period[-seam:] * (1 - fade) + history[-length - seam : -length] * fade
        return period

    def _decode(self, frame: bytes) -> _Samples:
        return np.frombuffer(decode(self._encoding, frame), dtype="<i2").astype(np.float32)

    def _code(self, samples: NDArray[Any]) -> bytes:
        return encode(self._encoding, np.clip(samples, -32768, 32767).astype("<i2").tobytes())


def _best_period(samples: _Samples, per_ms: int) -> int:
    """The lag at which the last ``_TEMPLATE_MS`` resemble what came before them most."""
    longest, length = _LONGEST_PERIOD_MS * per_ms, _TEMPLATE_MS * per_ms
    template = samples[-length:]
    # Entry k compares the template with the stretch that lies (longest - k) samples before it.
    likeness = np.correlate(samples[: -_SHORTEST_PERIOD_MS * per_ms], template, "valid")
    squares = np.concatenate([np.zeros(1, dtype=np.float32), np.cumsum(samples * samples)])
    energy = squares[length : length + likeness.size] - squares[: likeness.size]
    score = likeness / np.sqrt(np.maximum(energy, 1.0))
    return longest - int(np.argmax(score))
