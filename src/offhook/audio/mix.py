"""Several voices into one: sums of frames, and sums of streams that tick together.

A mix for each listener, of all sources but his own (N-1): he must not hear himself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from offhook.audio.convert import converter
from offhook.audio.g711 import decode, encode
from offhook.model.audio import AudioFormat, Encoding


def mix(encoding: Encoding, frames: Sequence[bytes]) -> bytes:
    """The sum of frames in one format, limited to what a sample holds; a shorter frame ends in silence.

    One frame is passed on as the bytes it is. Raises ``ValueError`` for none at all, and for half a sample.
    """
    if len(frames) == 1:
        return frames[0]
    voices = [np.frombuffer(decode(encoding, frame), dtype="<i2") for frame in frames]
    total: NDArray[np.int32] = np.zeros(max(voice.size for voice in voices), dtype=np.int32)
    for voice in voices:
        total[: voice.size] += voice
    return encode(encoding, total.clip(-32768, 32767).astype("<i2").tobytes())


class _Source:
    """One voice on its way into a mixer; calling it gives the mixer a frame."""

    def __init__(self, source_format: AudioFormat, target: AudioFormat, arrived: Callable[[_Source], None]) -> None:
        self._convert = converter(source_format, target)
        self._arrived = arrived
        self.next_frame = b""

    def __call__(self, frame: bytes) -> None:
        self.next_frame = self._convert(frame) if self._convert is not None else frame
        self._arrived(self)


class Mixer:
    """Streams of any format, one frame each a tick, into one stream; ``sink`` gets one frame a tick.

    A round is complete when each source that took part in the one before, or is new, has given its frame. One that
    gives its second frame closes the round as well: who is missing then was silent and is not waited for until it
    speaks again. So nobody holds up the others for more than one tick, ever, and at most one frame a source is held.
    """

    def __init__(self, sink: Callable[[bytes], None], target: AudioFormat) -> None:
        self._sink = sink
        self._target = target
        self._expected: set[_Source] = set()
        self._round: dict[_Source, bytes] = {}

    def source(self, source_format: AudioFormat) -> Callable[[bytes], None]:
        """A new voice: to be called with each of its frames, and given to ``remove`` when it leaves."""
        source = _Source(source_format, self._target, self._take)
        self._expected.add(source)
        return source

    def remove(self, source: Callable[[bytes], None]) -> None:
        """The voice leaves; the others are no longer kept waiting for it. Idempotent."""
        left = [known for known in self._expected if known is source]
        self._expected.difference_update(left)
        if left and self._round and self._expected <= self._round.keys():
            self._close()

    def _take(self, source: _Source) -> None:
        if source in self._round:
            self._expected &= self._round.keys()
            self._close()
        self._round[source] = source.next_frame
        self._expected.add(source)
        if self._expected <= self._round.keys():
            self._close()

    def _close(self) -> None:
        frames = list(self._round.values())
        self._round.clear()
        self._sink(mix(self._target.encoding, frames))
