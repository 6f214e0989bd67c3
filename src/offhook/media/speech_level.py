"""Does this packet carry speech? A test cheap enough for every packet, for measuring turn latency.

It decides alone, without the attack and hangover of ``audio.vad``: what matters here is when speech ended.
"""

from __future__ import annotations

from offhook.audio.level import LOUDNESS, loudness_of
from offhook.model.audio import Encoding

LEAST_DBM0 = -36.0
"""Sound below is never speech, be the line ever so quiet."""

MARGIN_DB = 6.0
"""Above the noise of the line: the weak ends of words are kept, noise hardly ever reaches it."""

_BLOCK_PACKETS = 25
_BLOCKS = 4
_NOTHING = float("inf")
"""The noise is the quietest packet of the last two seconds; speech has gaps within that time."""


class SpeechLevel:
    """Follows one inbound stream of G.711 packets of any length."""

    def __init__(self, encoding: Encoding) -> None:
        self._table = LOUDNESS[encoding]
        self._least = loudness_of(LEAST_DBM0)
        self._factor = 10 ** (MARGIN_DB / 40)  # loudness is the root of amplitude
        self._quiet = self._least / self._factor  # what a line is taken for until it was heard
        self._minima = [self._quiet] * _BLOCKS
        self._packets = 0
        self._threshold = self._least

    def sounds(self, payload: bytes) -> bool:
        """Judge one packet, and learn the noise from it."""
        if not payload:
            return False
        loudness = sum(payload.translate(self._table)) / len(payload)
        self._packets += 1
        if 0 < loudness < self._minima[-1] or self._packets == _BLOCK_PACKETS:
            self._learn(loudness)
        return loudness > self._threshold

    def _learn(self, loudness: float) -> None:
        if loudness > 0:  # digital silence is a muted sender, not the noise of the line
            self._minima[-1] = min(self._minima[-1], loudness)
        if self._packets == _BLOCK_PACKETS:
            self._packets = 0
            heard = self._minima[-1] != _NOTHING
            self._minima = [*self._minima[1:-1], self._minima[-1] if heard else self._quiet, _NOTHING]
        self._threshold = max(self._least, min(self._minima) * self._factor)
