"""When did the remote party last speak? A test cheap enough for every packet, for measuring turn latency.

It decides alone, without the attack and hangover of ``audio.vad``: what matters here is when speech ended.
"""

from __future__ import annotations

from offhook.audio.level import LOUDNESS, loudness_of
from offhook.model.audio import Encoding

LEAST_DBM0 = -36.0
"""Sound below is never speech, be the line ever so quiet."""

QUIET_DBM0 = -45.0
"""Frames below are left out or repeated unheard: the level between words on a telephone line."""

MARGIN_DB = 6.0
"""Above the noise of the line: the weak ends of words are kept, noise hardly ever reaches it."""

_BLOCK_PACKETS = 25
_BLOCKS = 4
"""The noise is the quietest packet of the last two seconds; speech has gaps within that time."""

_EVERY = 3
"""Every third sample is weighed: 0.4 µs a packet instead of 0.9, and noise of the line is taken for speech
once in a thousand packets. With every fifth it would be once in ten."""

_NOTHING = float("inf")


class SpeechLevel:
    """Follows one inbound stream of G.711 packets of any length.

    Packets are collected, and judged half a second at a time or when somebody asks: in a row, with the
    code still in the processor's cache, they cost less than one by one between the work of other calls.
    """

    def __init__(self, encoding: Encoding) -> None:
        self._table = LOUDNESS[encoding]
        self._least = loudness_of(LEAST_DBM0)
        self._factor = 10 ** (MARGIN_DB / 40)  # loudness is the root of amplitude
        self._quiet = self._least / self._factor  # what a line is taken for until it was heard
        self._minima = [self._quiet] * _BLOCKS
        self._packets = 0
        self._threshold = self._least
        self._waiting: list[tuple[bytes, float]] = []
        self._last_speech_at = 0.0

    def take(self, payload: bytes, arrival_s: float) -> None:
        """Collect one packet."""
        self._waiting.append((payload, arrival_s))
        if len(self._waiting) >= _BLOCK_PACKETS:
            self._judge_waiting()

    @property
    def last_speech_at(self) -> float:
        """Arrival of the last packet that carried speech; 0.0 before the first."""
        self._judge_waiting()
        return self._last_speech_at

    def sounds(self, payload: bytes) -> bool:
        """Judge one packet, and learn the noise from it."""
        weighed = payload[::_EVERY]
        if not weighed:
            return False
        loudness = sum(weighed.translate(self._table)) / len(weighed)
        self._packets += 1
        if 0 < loudness < self._minima[-1] or self._packets == _BLOCK_PACKETS:
            self._learn(loudness)
        return loudness > self._threshold

    def _judge_waiting(self) -> None:
        for payload, arrival_s in self._waiting:
            if self.sounds(payload):
                self._last_speech_at = arrival_s
        self._waiting.clear()

    def _learn(self, loudness: float) -> None:
        if loudness > 0:  # digital silence is a muted sender, not the noise of the line
            self._minima[-1] = min(self._minima[-1], loudness)
        if self._packets == _BLOCK_PACKETS:
            self._packets = 0
            heard = self._minima[-1] != _NOTHING
            self._minima = [*self._minima[1:-1], self._minima[-1] if heard else self._quiet, _NOTHING]
        self._threshold = max(self._least, min(self._minima) * self._factor)
