"""Recordings: stereo WAV, left the remote party as heard, right what it was sent.

A file has the format its leg had when it began: G.711, 16 KB a second, or L16 at 16 kHz, 64 KB.

The loop only appends bytes; one thread writes for all calls, a second of audio at a time. The sizes in
the header are brought up to date with every batch, so the file is valid whenever the process dies.
"""

from __future__ import annotations

import asyncio
import os
import struct
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue
from typing import assert_never

import numpy as np

from offhook.audio.convert import Converter, converter
from offhook.model.audio import FRAME_MS, AudioFormat, Encoding

BATCH_FRAMES = 50
"""One second: what is lost at most when the machine, not only the process, dies."""

MAX_WAITING_BATCHES = 30
"""Seconds of one recording the thread may be behind; a disk that hangs costs audio, not memory."""

_CHANNELS = 2
_FORMAT_TAGS = {Encoding.L16: 1, Encoding.PCMA: 6, Encoding.PCMU: 7}  # mmreg.h: WAVE_FORMAT_PCM, _ALAW, _MULAW
_SAMPLE_TYPES = {1: "u1", 2: "<i2"}  # numpy's names, by bytes
_HEADER = struct.Struct("<4sI4s 4sIHHIIHHH 4sII 4sI")


def wav_header(audio_format: AudioFormat, samples: int) -> bytes:
    """A stereo WAV header for ``samples`` per channel; of the same size in every format."""
    rate_hz, frame_bytes = audio_format.sample_rate_hz, _CHANNELS * audio_format.bytes_per_sample
    data_bytes = samples * frame_bytes
    return _HEADER.pack(
        b"RIFF",
        _HEADER.size - 8 + data_bytes,
        b"WAVE",
        b"fmt ",
        18,
        _FORMAT_TAGS[audio_format.encoding],
        _CHANNELS,
        rate_hz,
        rate_hz * frame_bytes,
        frame_bytes,
        8 * audio_format.bytes_per_sample,
        0,  # size of the extension: none
        b"fact",  # required of every format but PCM
        4,
        samples,
        b"data",
        data_bytes,
    )


class Recorder:
    """One recording; made by ``RecordingWriter.open``. ``write`` is a tap of a media session.

    ``problem`` says why nothing more is written (a full disk, a missing permission); None while all is well.
    """

    def __init__(
        self,
        path: Path,
        audio_format: AudioFormat,
        queue: SimpleQueue[_Order],
        on_problem: Callable[[Path, str], None] | None,
    ) -> None:
        self.path = path
        self.format = audio_format
        self.problem: str | None = None
        self.dropped_ms = 0
        self._queue = queue
        self._on_problem = on_problem
        self._left, self._right = bytearray(), bytearray()
        self._frames = 0
        self._ordered = 0  # batches given to the thread; counted on the loop
        self._done = 0  # and written; counted in the thread
        self._convert: tuple[Converter, Converter] | None = None
        self._closed = False
        self._written: Future[None] = Future()
        self._file: int | None = None  # of the thread
        self._samples = 0

    @property
    def duration_ms(self) -> int:
        return self._frames * FRAME_MS

    def write(self, heard: bytes, sent: bytes) -> None:
        """Append one frame of each side."""
        if self._convert is not None:
            heard, sent = self._convert[0](heard), self._convert[1](sent)
        self._left += heard
        self._right += sent
        self._frames += 1
        if self._frames % BATCH_FRAMES == 0:
            self._hand_over()

    def follow(self, audio_format: AudioFormat) -> None:
        """The leg changed its codec: what is written from now on is converted into the file's."""
        left, right = converter(audio_format, self.format), converter(audio_format, self.format)
        self._convert = (left, right) if left is not None and right is not None else None

    def close(self) -> int:
        """No more audio comes; the duration in ms. Idempotent. ``written`` waits for the disk."""
        if not self._closed:
            self._closed = True
            self._hand_over()
            self._queue.put((self, None))
        return self.duration_ms

    async def written(self) -> None:
        """After ``close``: returns when the file is complete, or was given up."""
        await asyncio.wrap_future(self._written)

    def _hand_over(self) -> None:
        left, right = self._left, self._right
        self._left, self._right = bytearray(), bytearray()
        if not left:
            return
        if self._ordered - self._done >= MAX_WAITING_BATCHES:
            self.dropped_ms += len(left) // self.format.bytes_per_ms
            return
        self._ordered += 1
        self._queue.put((self, (left, right)))

    # ── in the writer's thread ───────────────────────────────────────────────────────────────────────────

    def append(self, left: bytearray, right: bytearray) -> None:
        """Write one batch, samples before sizes: the header never claims what is not there."""
        try:
            if self.problem is not None:
                return
            width = self.format.bytes_per_sample
            channels = [np.frombuffer(channel, dtype=_SAMPLE_TYPES[width]) for channel in (left, right)]
            file = self._open()
            _write_all(file, np.column_stack(channels).tobytes(), _HEADER.size + self._samples * _CHANNELS * width)
            self._samples += len(left) // width
            _write_all(file, wav_header(self.format, self._samples), 0)
        except OSError as error:
            self._fail(error)
        finally:
            self._done += 1

    def complete(self) -> None:
        """Close the file; one without audio is written as well, empty."""
        try:
            if self.problem is None and not self._samples:
                _write_all(self._open(), wav_header(self.format, 0), 0)
        except OSError as error:
            self._fail(error)
        self._release()
        if not self._written.done():
            self._written.set_result(None)

    def _open(self) -> int:
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        return self._file

    def _fail(self, error: OSError) -> None:
        self.problem = f"{error.strerror or error} ({self.path})"
        self._release()
        if self._on_problem is not None:
            self._on_problem(self.path, self.problem)

    def _release(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            os.close(file)


_Order = tuple[Recorder, tuple[bytearray, bytearray] | None] | None
"""A batch of a recording, the end of one (None), or the end of all."""


class RecordingWriter:
    """The thread that writes all recordings of a process.

    ``on_problem(path, problem)`` is called in that thread when a recording is given up.
    """

    def __init__(self, *, on_problem: Callable[[Path, str], None] | None = None) -> None:
        self._on_problem = on_problem
        self._queue: SimpleQueue[_Order] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="recordings", daemon=True)
        self._thread.start()

    def open(self, path: Path, audio_format: AudioFormat) -> Recorder:
        """A recording in this format. Touches no disk here, so it never fails here."""
        return Recorder(path, audio_format, self._queue, self._on_problem)

    def close(self, *, within_s: float = 5.0) -> None:
        """Write what was handed over and end the thread; waits no longer than ``within_s``."""
        self._queue.put(None)
        self._thread.join(within_s)

    def _run(self) -> None:
        while (order := self._queue.get()) is not None:
            recorder, batch = order
            match batch:
                case None:
                    recorder.complete()
                case (left, right):
                    recorder.append(left, right)
                case _:
                    assert_never(batch)


def _write_all(file: int, data: bytes | bytearray, offset: int) -> None:
    """``pwrite`` may write less than asked, as it does on a disk that fills up."""
    view = memoryview(data)
    while view:
        count = os.pwrite(file, view, offset)
        view, offset = view[count:], offset + count
