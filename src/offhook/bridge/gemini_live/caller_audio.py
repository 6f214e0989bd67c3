"""What the model hears of the caller while it speaks: silence, until it is settled that the caller means it.

Gemini's own detection stops the model at the first sound ("mm-hm", an echo of the model's own voice), and what it
stops cannot be taken up again; with its ``NO_INTERRUPTION`` nothing says that what is spoken over the model is ever
answered. So (``barge_in`` "judged") the codec holds the caller's audio back while the agent can be heard, and digital
silence goes in its place. When the call interrupts the agent, what was held goes out at once, and Gemini's detection
finds a caller who spoke: it stops the model, and answers. When the agent has finished, the last second goes out, if
there was speech in it: an answer that came a little early. A "mm-hm" in the middle is never heard.

Pure: a frame is 20 ms of time. When the agent can be heard follows from how much of it there was.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections import deque

import numpy as np

from offhook.audio.level import rms_of
from offhook.model.audio import FRAME_MS, L16_16K, L16_24K

HELD_FRAMES = 3000 // FRAME_MS
"""Judging takes a second at most; what the caller said has to be there from its beginning."""

EARLY_FRAMES = 1000 // FRAME_MS
"""Who answers this long before the end of a question means the question."""

ECHO_FRAMES = 300 // FRAME_MS
"""The agent's voice comes back so late, by way of our jitter buffer and a mobile network."""

SPEECH_DBM0 = -32.0
"""Of a frame: an echo 20 dB down is weaker, speech into a telephone is stronger (as in ``audio.vad``)."""

LEAST_SPEECH_FRAMES = 3
"""60 ms: a click is shorter."""

PIECE_FRAMES = 5
"""100 ms in one message: what the vendor recommends at most."""

_PREFIX = b'{"realtimeInput":{"audio":{"mimeType":"audio/pcm;rate=16000","data":"'
_SUFFIX = b'"}}}'


def audio_message(l16: bytes) -> bytes:
    """BidiGenerateContentRealtimeInput.audio: L16 at 16 kHz."""
    return _PREFIX + b2a_base64(l16, newline=False) + _SUFFIX


SILENCE = audio_message(bytes(L16_16K.frame_bytes))


class CallerAudio:
    """``holds`` False: all is passed as it comes (``barge_in`` "provider" and "never")."""

    def __init__(self, *, holds: bool) -> None:
        self._holds = holds
        self._held: deque[bytes] = deque(maxlen=HELD_FRAMES)
        self._audible_until = -float(ECHO_FRAMES)
        self.frames = 0
        """That came so far: the codec's clock."""

    @property
    def agent_audible(self) -> bool:
        return self.frames < self._audible_until

    @property
    def silent_frames(self) -> float:
        """Since the agent's audio ran out; 0 while it can be heard."""
        return max(0.0, self.frames - self._audible_until)

    def agent_spoke(self, audio_bytes: int) -> None:
        """So much of its audio, in ``L16_24K``, is played after what there was before."""
        self._audible_until = max(self._audible_until, self.frames) + audio_bytes / L16_24K.frame_bytes

    def agent_stopped(self) -> None:
        self._audible_until = min(self._audible_until, self.frames)

    def pass_on(self, frame: bytes) -> bytes:
        """The message for 20 ms of the caller."""
        self.frames += 1
        if self._holds and self.frames <= self._audible_until + ECHO_FRAMES:
            self._held.append(frame)
            return SILENCE
        return audio_message(frame)

    def due(self) -> list[bytes]:
        """Messages to be sent before that of the next frame: the agent has finished, or will with it."""
        if not self._held or self.frames + 1 <= self._audible_until + ECHO_FRAMES:
            return []
        last = list(self._held)[-(EARLY_FRAMES + ECHO_FRAMES) :]
        self._held.clear()
        return _pieces(last) if _has_speech(last) else []

    def release(self) -> list[bytes]:
        """The agent was cut off: all that was held, in messages."""
        held = list(self._held)
        self._held.clear()
        # The echo of what was cut off is still on its way; it is weak beside the caller, who speaks.
        self._audible_until = min(self._audible_until, self.frames - ECHO_FRAMES)
        return _pieces(held)


def _pieces(frames: list[bytes]) -> list[bytes]:
    return [audio_message(b"".join(frames[at : at + PIECE_FRAMES])) for at in range(0, len(frames), PIECE_FRAMES)]


def _has_speech(frames: list[bytes]) -> bool:
    whole = [frame for frame in frames if len(frame) == L16_16K.frame_bytes]
    samples = np.frombuffer(b"".join(whole), dtype="<i2").reshape(len(whole), -1).astype(np.float32)
    power = np.einsum("ij,ij->i", samples, samples) / max(1, samples.shape[1])
    return int(np.count_nonzero(power > rms_of(SPEECH_DBM0) ** 2)) >= LEAST_SPEECH_FRAMES
