"""A provider without an AI: it plays one WAV file to whoever is there, then hangs up. It listens to nothing.

The path is ``agent.options["file"]``, which only config.json and ``AUDIO_FILE`` may name. The caller's frames are its
only clock: audio is handed over a second at a time, two seconds ahead of what is heard.
"""

from __future__ import annotations

import asyncio
import stat
from functools import lru_cache
from pathlib import Path
from typing import assert_never

from offhook.audio.convert import converted
from offhook.audio.wav import WavError, read_wav
from offhook.bridge.codec import (
    AudioDone,
    Begin,
    BridgeEvent,
    BridgeInput,
    BridgeProfile,
    BridgeRequest,
    Digits,
    EndOfInput,
    Interrupt,
    Provider,
    Ready,
    ResponseDone,
    ResponseStarted,
    Say,
    TextInput,
    ToolCall,
    ToolResult,
    TranscriptDelta,
    UpdateAgent,
)
from offhook.model.audio import FRAME_MS, L16_16K, PCMA_8K, PCMU_8K, AudioFormat
from offhook.model.errors import BridgeError, ConfigError
from offhook.model.records import Agent

FILE_OPTION = "file"
"""The key of ``agent.options`` that holds the path."""

MAX_FILE_BYTES = 64 * 1024 * 1024
"""Two hours of G.711, ten minutes at 48 kHz; it is kept in memory as it is sent, which is at most as much."""

MAX_LOADED = 6
"""Files kept ready, each format counted by itself: two files in the three that legs speak."""

PIECE_MS = 1000
AHEAD_PIECES = 2
"""Handed over before they are heard: the clock is the caller's line, and may jump a little."""

ITEM = "file"

PROFILE = BridgeProfile(
    provider="audio_file",
    input_formats=(PCMU_8K, PCMA_8K, L16_16K),
    output_formats=(PCMU_8K, PCMA_8K, L16_16K),
    raw_line=True,
    digits=False,
)


def check_audio_file(agent: Agent) -> None:
    """Raises ``ConfigError`` where there is no such file, or none that can be played. Reads it, if it changed."""
    _load(_file_of(agent), PCMU_8K)


def open_audio_file(request: BridgeRequest) -> AudioFileConnection:
    """Raises ``ConfigError``."""
    return AudioFileConnection(request, _file_of(request.agent))


AUDIO_FILE = Provider(factory=open_audio_file, profile=PROFILE, check=check_audio_file)


class AudioFileConnection:
    """One call's playing of the file."""

    profile = PROFILE

    def __init__(self, request: BridgeRequest, file: Path) -> None:
        self._listener = request.listener
        self._format = request.output_format
        self._file = file
        self._audio = b""
        self._given_bytes = 0
        self._frames = 0
        self._playing = False
        self._over = False

    async def open(self) -> None:
        try:
            self._audio = await asyncio.to_thread(_load, self._file, self._format)
        except ConfigError as error:
            raise BridgeError("audio_file", str(error), "fatal") from error
        self._emit(Ready())

    def send_audio(self, frame: bytes) -> None:
        if not self._playing:
            return
        self._frames += 1
        if self._frames % (PIECE_MS // FRAME_MS) == 0:
            self._give_piece()

    def send(self, command: BridgeInput) -> None:
        match command:
            case Begin() | TextInput(respond=True):  # the latter to one who takes another provider's place
                self._play()
            case TextInput() | Say() | Digits() | Interrupt() | ToolResult() | UpdateAgent() | EndOfInput():
                pass
            case _:
                assert_never(command)

    async def close(self) -> None:
        self._over = True
        self._playing = False

    def _play(self) -> None:
        """Once: who asks again hears on."""
        if self._playing or self._over:
            return
        self._playing = True
        self._emit(ResponseStarted())
        self._emit(TranscriptDelta(speaker="agent", item=ITEM, text=f"[{self._file.name}]", final=True))
        for _ in range(AHEAD_PIECES):
            self._give_piece()

    def _give_piece(self) -> None:
        if self._over:
            return
        end = self._given_bytes + PIECE_MS * self._format.bytes_per_ms
        self._listener.audio_out(ITEM, self._audio[self._given_bytes : end])
        self._given_bytes = end
        if end >= len(self._audio):
            self._finish()

    def _finish(self) -> None:
        """The call ends once what was handed over was heard: a tool call waits for that."""
        self._emit(AudioDone(item=ITEM))
        self._emit(ResponseDone())
        self._emit(ToolCall(tool_call_id="end_call", name="end_call", arguments="{}"))
        self._playing = False
        self._over = True

    def _emit(self, event: BridgeEvent) -> None:
        if not self._over:
            self._listener.bridge_event(event)


# ── the file ─────────────────────────────────────────────────────────────────────────────────────────────


def _file_of(agent: Agent) -> Path:
    """Raises ``ConfigError`` for options that name none, and for an agent of a tenant: files are the operator's."""
    if not agent.by_operator:
        raise ConfigError("provider", "'audio_file' plays a file of the server", "Only config.json may have it")
    for name in agent.options:
        if name != FILE_OPTION:
            raise ConfigError(f"options.{name}", "is not known", f"Known is: {FILE_OPTION}")
    named = agent.options.get(FILE_OPTION)
    if not isinstance(named, str) or not named:
        raise _unplayable("is missing")
    return Path(named).expanduser()


def _load(file: Path, audio_format: AudioFormat) -> bytes:
    """The file's audio in that format. Blocks; raises ``ConfigError``."""
    try:
        found = file.stat()
        if not stat.S_ISREG(found.st_mode):
            raise _unplayable(f"{file} is no file")
        if found.st_size > MAX_FILE_BYTES:
            raise _unplayable(f"{file} is larger than {MAX_FILE_BYTES} bytes")
        return _converted(file, found.st_mtime_ns, audio_format)
    except OSError as error:
        raise _unplayable(f"{file} cannot be read ({error.strerror})") from None
    except WavError as error:
        raise _unplayable(f"{file}: {error}") from None


@lru_cache(maxsize=MAX_LOADED)
def _converted(file: Path, changed_ns: int, audio_format: AudioFormat) -> bytes:
    """``changed_ns``: a file that changed is read anew. Raises ``OSError`` or ``WavError``."""
    found, audio = read_wav(file.read_bytes())
    if len(audio) < found.frame_bytes:
        raise WavError(f"shorter than {FRAME_MS} ms")
    return converted(audio, found, audio_format)


def _unplayable(problem: str) -> ConfigError:
    fix = "Name a WAV file of 8 or 16 bit, in options.file or in the environment as AUDIO_FILE"
    return ConfigError(f"options.{FILE_OPTION}", problem, fix)
