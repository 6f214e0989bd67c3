"""Is what is heard on a line the echo of what was sent on it?

A hybrid, or a loudspeaker beside a microphone, gives back what was said: quieter, 0 to 500 ms later, smeared over
milliseconds. Where it lies is found by correlating a quarter of a second of what was heard with all that was sent
before; a short filter then says what the echo has to be, and what is left over is somebody else.

Measured with three voices of flite, echoes of -12 and -20 dB at 25 to 480 ms, clean and smeared over 10 ms: 60 ms at
most pass before an echo is known, 140 ms of 14 s where it has to be learnt better; 89 % or more of the frames of
somebody who speaks into the echo are told as such, and none of 4,695 of somebody who speaks over an agent without echo
is taken for one. A quiet frame costs 2 µs, one that sounds 13 µs, a search 0.4 ms.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from offhook.audio.g711 import SILENCE, decode, encode, silence
from offhook.audio.level import LOUDNESS, loudness_of, rms_of
from offhook.model.audio import FRAME_MS, AudioFormat, Encoding

Signal = NDArray[np.float64]

FRAME = 160
"""Samples in 20 ms: all of it works at 8 kHz."""

LONGEST_DELAY_MS = 500
"""Half a second: two networks, two jitter buffers and a mobile; beyond it a caller hears himself and hangs up."""

WINDOW_FRAMES = 12
"""240 ms are compared: in 160 ms another voice may look 70 % alike by chance, in 240 ms 41 %."""

LEAST_SOUND_FRAMES = 4
"""Of the window: less sound tells too little."""

TAPS = 64
"""8 ms: the longest hybrid is little longer (ITU-T G.165: 4 to 6 ms)."""
_TAPS_BEFORE = 10
"""Of them before the strongest: the first sound of a smeared echo may be a weak one."""

_SURE = ((10, 0.6), (6, 0.75), (LEAST_SOUND_FRAMES, 0.85))
"""(frames with sound, so much of their energy explained is an echo): the less there is, the more is alike by chance."""

_SURE_OF_THE_SAME = 0.85
"""Of a window that lies on the path known already, though that does not explain it: it may be learnt better, but as
likely somebody speaks into the echo."""

QUIET_DBM0 = -50.0
"""Below it nothing is there that anybody would take for speech."""
_OVER_NOISE_DB = 6.0
_BLOCK_FRAMES = 25
_BLOCKS = 4
"""The noise of the line is the quietest frame of two seconds; speech has gaps within that time."""

MOST_LEFT_OVER = 0.25
LEAST_LEFT_OVER = 0.06
"""What the filter may leave of a frame (6 and 12 dB), else somebody speaks; the better it fits, the less."""
_WORSE_THAN_LEARNT = 4.0
"""A frame may fit so much worse than the quarter of a second that the filter was learnt from."""

_SEARCH_EVERY_FRAMES = 4
_SEARCHES = 4
_SEARCH_SELDOM_FRAMES = 25
"""A search takes 0.4 ms: four times every 80 ms of unexplained sound, then more seldom, for it is no echo."""

LATELY_FRAMES = 50
_HEARD_FRAMES = LATELY_FRAMES + WINDOW_FRAMES
"""A second back: so late providers tell that somebody spoke."""
_DELAY_FRAMES = LONGEST_DELAY_MS // FRAME_MS + 1
_MOST_APART = 8
_SENT_FRAMES = _HEARD_FRAMES + _DELAY_FRAMES + _MOST_APART

_STOPPED_FRAMES = 5
"""What is heard comes as the network brings it, what is sent goes evenly: both are counted, for the echo lies so many
frames back whenever they come. After 100 ms of only one of them the count begins anew."""

_PRE_EMPHASIS = 0.9
"""Makes speech whiter: a vowel of 100 Hz looks like any other vowel of 100 Hz."""
_FFT = 6144  # 2^11 times 3: holds the window and the delay
_REGULAR = 1e-3
_FORGET = 0.7
"""What was learnt before counts so much when the same path is learnt anew."""


class Heard(Enum):
    """What 20 ms of a line are."""

    NOTHING = "nothing"
    ECHO = "echo"
    SOUND = "sound"


@dataclass(frozen=True, slots=True)
class _Path:
    """``lag``: samples from what the newest tap weighs to its echo; ``taps``: as ``np.convolve`` wants them.

    ``auto``, ``cross``: the correlations that they come from, of all windows of this path.
    """

    lag: int
    taps: Signal
    left_over: float
    auto: Signal
    cross: Signal


class _Reader:
    """Brings frames of one format to ``FRAME`` bytes of G.711, which are cheap to keep and to weigh."""

    def __init__(self, audio_format: AudioFormat) -> None:
        linear = audio_format.encoding is Encoding.L16
        self._step = audio_format.sample_rate_hz // 8000 if linear else 0
        self.encoding = Encoding.PCMU if linear else audio_format.encoding
        self.silent_frame = silence(audio_format)
        self.quiet = SILENCE[self.encoding] * FRAME

    def coded(self, frame: bytes) -> bytes:
        """What lies above 4 kHz folds over, in the sound and in its echo alike."""
        if self._step:
            frame = encode(self.encoding, np.frombuffer(frame, dtype="<i2")[:: self._step].tobytes())
        return frame if len(frame) == FRAME else frame[:FRAME].ljust(FRAME, self.quiet[:1])

    def samples(self, coded: bytearray) -> Signal:
        return np.frombuffer(decode(self.encoding, bytes(coded)), dtype="<i2").astype(np.float64)


class EchoDetector:
    """Follows one leg: ``heard`` and ``sent`` 50 times a second each; hardly more than a copy while nothing is sent.

    ``heard_in``: the format of what is heard: G.711, or L16 at a multiple of 8 kHz. What is sent may be in another.
    """

    def __init__(self, heard_in: AudioFormat, sent_in: AudioFormat | None = None) -> None:
        self._ear = _Reader(heard_in)
        self._table = LOUDNESS[self._ear.encoding]
        self._heard = bytearray(self._ear.quiet * _HEARD_FRAMES)
        self._judged = [Heard.NOTHING] * _HEARD_FRAMES
        self._least = loudness_of(QUIET_DBM0) * FRAME
        self._limit = self._least
        self._minima = [self._least] * _BLOCKS
        self._frames_in_block = 0
        self._unexplained = 0
        self._searches = 0
        self._ahead = 0  # frames sent, less those heard
        self._sent_alone, self._heard_alone = _STOPPED_FRAMES + 1, 0  # on end
        self._path: _Path | None = None
        self.sends_in(heard_in if sent_in is None else sent_in)

    def sends_in(self, audio_format: AudioFormat) -> None:
        """From here on; what was sent before is forgotten, where the echo lies is not."""
        self._mouth = _Reader(audio_format)
        self._sent = bytearray(self._mouth.quiet * _SENT_FRAMES)
        self._silent_frames = _SENT_FRAMES

    @property
    def may_echo(self) -> bool:
        """Something was sent so shortly ago that its echo may come."""
        return self._silent_frames <= _DELAY_FRAMES

    @property
    def delay_ms(self) -> float | None:
        """Of the echo, once there was one."""
        return None if self._path is None else (self._path.lag + _TAPS_BEFORE) / 8

    @property
    def encoding(self) -> Encoding:
        """Of ``newest``."""
        return self._ear.encoding

    @property
    def newest(self) -> bytes:
        """The frame last heard as 160 bytes of G.711; silence where it was an echo."""
        return self._ear.quiet if self._judged[-1] is Heard.ECHO else bytes(self._heard[-FRAME:])

    @property
    def recent(self) -> list[Heard]:
        """The last second, and a little more, the newest frame last."""
        return self._judged.copy()

    def sent(self, frame: bytes) -> None:
        """20 ms of what left."""
        self._sent_alone += 1
        self._ahead = 0 if self._heard_alone > _STOPPED_FRAMES else self._ahead + 1
        self._heard_alone = 0
        if frame != self._mouth.silent_frame:
            self._silent_frames = 0
            self._sent += self._mouth.coded(frame)
        elif self._silent_frames < _SENT_FRAMES:
            self._silent_frames += 1
            self._sent += self._mouth.quiet
        else:
            return
        del self._sent[:FRAME]

    def heard(self, frame: bytes) -> Heard:
        """What this frame of 20 ms is."""
        self._heard_alone += 1
        apart = self._sent_alone > _STOPPED_FRAMES or abs(self._ahead) >= _MOST_APART
        self._ahead = -1 if apart else self._ahead - 1
        self._sent_alone = 0
        frame = self._ear.coded(frame)
        loudness = sum(frame.translate(self._table))
        self._heard += frame
        del self._heard[:FRAME]
        self._follow_noise(loudness)
        del self._judged[0]
        self._judged.append(Heard.NOTHING if loudness <= self._limit else Heard.SOUND)
        if self._judged[-1] is Heard.SOUND and self.may_echo:
            self._judged[-1] = self._judge()
        return self._judged[-1]

    def lately(self, frames: int = LATELY_FRAMES) -> Heard:
        """What was on the line in the last ``frames``, a second at most; a new search tells where it is in doubt."""
        judged = self._judged[-min(frames, LATELY_FRAMES) :]
        if judged.count(Heard.SOUND) >= _FEW_FRAMES:
            newest = len(self._judged) - 1 - self._judged[::-1].index(Heard.SOUND)
            if not (self.may_echo and self._search(newest + 1)):
                return Heard.SOUND
            return Heard.ECHO
        return Heard.ECHO if Heard.ECHO in judged else Heard.NOTHING

    # ── one frame ────────────────────────────────────────────────────────────────────────────────────────

    def _follow_noise(self, loudness: int) -> None:
        # Digital silence is no noise of the line: a lost packet, a muted sender.
        if not loudness:
            return
        self._minima[-1] = min(self._minima[-1], loudness)
        self._frames_in_block += 1
        if self._frames_in_block == _BLOCK_FRAMES:
            self._frames_in_block = 0
            self._limit = max(self._least, min(self._minima) * _OVER_NOISE)
            self._minima = [*self._minima[1:], float("inf")]

    def _judge(self) -> Heard:
        if self._path is not None and self._explains(self._path):
            self._unexplained = self._searches = 0
            return Heard.ECHO
        self._unexplained += 1
        if self._unexplained < (_SEARCH_EVERY_FRAMES if self._searches < _SEARCHES else _SEARCH_SELDOM_FRAMES):
            return Heard.SOUND
        self._unexplained = 0
        self._searches += 1
        return Heard.ECHO if self._search(_HEARD_FRAMES) else Heard.SOUND

    def _explains(self, path: _Path) -> bool:
        """The newest frame is the echo of what was sent on ``path``."""
        heard = self._ear.samples(self._heard[-FRAME:])
        end = len(self._sent) - self._ahead * FRAME - path.lag
        if end > len(self._sent):
            return False
        sent = self._mouth.samples(self._sent[end - FRAME - TAPS + 1 : end])
        left = heard - np.convolve(sent, path.taps, "valid")
        limit = min(MOST_LEFT_OVER, max(LEAST_LEFT_OVER, _WORSE_THAN_LEARNT * path.left_over))
        return float(left @ left) <= max(limit * float(heard @ heard), _QUIET_ENERGY)

    # ── where the echo is ────────────────────────────────────────────────────────────────────────────────

    def _search(self, end_frame: int) -> bool:
        """Is the window that ends there an echo? What it teaches is kept."""
        begin_frame = end_frame - WINDOW_FRAMES
        sounding = WINDOW_FRAMES - self._judged[begin_frame:end_frame].count(Heard.NOTHING)
        if sounding < LEAST_SOUND_FRAMES:
            return False
        heard = self._ear.samples(self._heard[begin_frame * FRAME : end_frame * FRAME])
        # The newest frame heard cannot hold what was not yet sent: one frame less is compared.
        end = len(self._sent) - (_HEARD_FRAMES - end_frame + self._ahead + 1) * FRAME
        if end > len(self._sent):
            return False
        sent = self._mouth.samples(self._sent[end - (WINDOW_FRAMES + _DELAY_FRAMES - 1) * FRAME : end])
        sure = next(share for frames, share in _SURE if sounding >= frames)
        found = _learn(heard, sent, self._path, sure)
        if found is None:
            return False
        self._path = found
        for index in range(begin_frame, end_frame):
            if self._judged[index] is Heard.SOUND:
                self._judged[index] = Heard.ECHO
        return True


_FEW_FRAMES = 3
"""60 ms of sound in a second may be somebody; less is a click."""
_OVER_NOISE = 10 ** (_OVER_NOISE_DB / 40)  # loudness is the root of amplitude
_QUIET_ENERGY = FRAME * rms_of(QUIET_DBM0) ** 2


def _learn(heard: Signal, sent: Signal, known: _Path | None, sure: float) -> _Path | None:
    """The path on which ``sent`` becomes ``heard``; None where it is none. ``sent`` ends a frame earlier."""
    flat_heard, flat_sent = _whitened(heard), _whitened(sent)
    spectrum = np.fft.rfft(flat_sent, _FFT)
    cross = np.fft.irfft(spectrum * np.conj(np.fft.rfft(flat_heard, _FFT)), _FFT)
    count = len(flat_sent) - len(flat_heard) + 1
    strongest = _strongest(cross[:count], flat_sent, len(flat_heard))
    first = min(max(0, strongest - TAPS + 1 + _TAPS_BEFORE), count - TAPS)
    newest = len(sent) - len(heard) + FRAME - TAPS + 1
    same = known is not None and 0 <= strongest - (newest - known.lag) < TAPS
    if known is not None and same:
        first = newest - known.lag
        sure = max(sure, _SURE_OF_THE_SAME)
    piece = flat_sent[first : first + TAPS - 1 + len(flat_heard)]
    power = np.abs(np.fft.rfft(piece, _FFT)) ** 2
    auto, towards = np.fft.irfft(power, _FFT)[:TAPS], cross[first : first + TAPS].copy()
    if known is not None and same:
        auto, towards = auto + _FORGET * known.auto, towards + _FORGET * known.cross
    taps = _solve(auto, towards)
    if _left_over(flat_heard, piece, taps) > 1 - sure:
        return None
    plain = sent[first : first + TAPS - 1 + len(heard)]
    return _Path(newest - first, taps[::-1], _left_over(heard, plain, taps), auto, towards)


def _whitened(signal: Signal) -> Signal:
    return signal[1:] - _PRE_EMPHASIS * signal[:-1]


def _strongest(cross: Signal, sent: Signal, width: int) -> int:
    """Where ``sent`` is most alike, by normalised correlation; where little was sent nothing is."""
    energy = np.concatenate(([0.0], np.cumsum(sent**2)))
    energy = energy[width:] - energy[:-width]
    floor = 1e-3 * float(energy.max()) + 1.0
    return int(np.argmax(cross**2 / np.maximum(energy, floor)))


def _solve(auto: Signal, cross: Signal) -> Signal:
    """Wiener's filter; regular however few tones there are."""
    indices = np.abs(np.subtract.outer(np.arange(TAPS), np.arange(TAPS)))
    matrix = auto[indices]
    matrix[np.diag_indices(TAPS)] += _REGULAR * auto[0] + 1.0
    return np.asarray(np.linalg.solve(matrix, cross), dtype=np.float64)


def _left_over(heard: Signal, sent: Signal, taps: Signal) -> float:
    """The share of ``heard`` that the filtered ``sent`` does not explain."""
    left = heard - np.correlate(sent, taps, "valid")
    return float(left @ left) / max(1.0, float(heard @ heard))
