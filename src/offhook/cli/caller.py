"""The caller of ``offhook call``: a BridgeConnection that speaks its lines when the far end is quiet.

The frames it hears are its clock (20 ms each). A line waits until the far end has finished speaking, or has been
silent for a while; after the last line it listens to the answer and hangs up.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count

from offhook.audio.vad import VoiceActivityDetector
from offhook.bridge.codec import (
    AudioDone,
    BridgeConnection,
    BridgeInput,
    BridgeProfile,
    BridgeRequest,
    Ready,
    SpeechStarted,
    SpeechStopped,
    ToolCall,
    TranscriptDelta,
)
from offhook.model.audio import FRAME_MS, PCMA_8K, PCMU_8K, AudioFormat

QUIET_MS = 900
"""Silence of the far end that counts as "it has finished": longer than a pause between two sentences."""

NOTHING_HEARD_MS = 5000
"""A far end that says nothing for so long is waiting for us."""

DIGIT_MS = 260
"""One digit on the wire with its pause (RFC 4733 sender of ``media``), to know when the last one is out."""

PREROLL_FRAMES = 15
MAX_HEARD_FRAMES = 30_000 // FRAME_MS
"""Speech given to the recogniser in one piece: 30 s; beyond that only the latest counts."""

PROFILE = BridgeProfile(
    provider="caller", input_formats=(PCMU_8K, PCMA_8K), output_formats=(PCMU_8K,), speech_events=True, raw_line=True
)


@dataclass(frozen=True, kw_only=True, slots=True)
class SpokenLine:
    """Audio in PCMU, and the words it stands for."""

    text: str
    audio: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class PressedDigits:
    digits: str


Line = SpokenLine | PressedDigits
Recognise = Callable[[bytes, AudioFormat], Awaitable[str]]


class CallerScript:
    """Implements ``BridgeConnection`` for one outbound call."""

    profile = PROFILE

    def __init__(self, request: BridgeRequest, lines: Sequence[Line], recognise: Recognise | None) -> None:
        self._listener = request.listener
        self._format = request.input_format
        self._lines = deque(lines)
        self._had_lines = bool(lines)
        self._recognise = recognise
        self._vad = VoiceActivityDetector(request.input_format.encoding, hangover_ms=QUIET_MS)
        self._far_speaking = False
        self._silent_ms = 0
        self._own_ms = 0
        self._answer_due = True
        self._done = False
        self._heard: deque[bytes] = deque(maxlen=MAX_HEARD_FRAMES)
        self._preroll: deque[bytes] = deque(maxlen=PREROLL_FRAMES)
        self._items = count(1)
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        self._listener.bridge_event(Ready())

    def send_audio(self, frame: bytes) -> None:
        self._listen(frame)
        if self._own_ms > 0:
            self._own_ms -= FRAME_MS
            return
        if self._far_speaking or self._done:
            return
        self._silent_ms += FRAME_MS
        if not self._answer_due or self._silent_ms >= NOTHING_HEARD_MS:
            self._next_line()

    def send(self, command: BridgeInput) -> None:
        """A caller with a script is told nothing."""

    async def close(self) -> None:
        self._done = True
        if self._far_speaking:
            self._transcribe()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # ── the far end ──────────────────────────────────────────────────────────────────────────────────────

    def _listen(self, frame: bytes) -> None:
        change = self._vad.feed(frame)
        (self._heard if self._far_speaking else self._preroll).append(frame)
        if change == "started":
            self._far_speaking = True
            self._heard.extend(self._preroll)
            self._preroll.clear()
            self._listener.bridge_event(SpeechStarted())
        elif change == "stopped":
            self._far_speaking = False
            self._answer_due = False
            self._silent_ms = 0
            self._listener.bridge_event(SpeechStopped())
            self._transcribe()

    def _transcribe(self) -> None:
        audio = b"".join(self._heard)
        self._heard.clear()
        if self._recognise is not None and audio:
            task = asyncio.get_running_loop().create_task(self._report_words(self._recognise, audio))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _report_words(self, recognise: Recognise, audio: bytes) -> None:
        text = await recognise(audio, self._format)
        if text:
            self._listener.bridge_event(TranscriptDelta(speaker="caller", item="", text=text, final=True))

    # ── our side ─────────────────────────────────────────────────────────────────────────────────────────

    def _next_line(self) -> None:
        self._silent_ms = 0
        if not self._lines:
            self._finish()
            return
        line = self._lines.popleft()
        self._answer_due = True
        if isinstance(line, SpokenLine):
            self._speak(line)
        else:
            self._own_ms = DIGIT_MS * len(line.digits)
            self._call_tool("send_dtmf", {"digits": line.digits})

    def _speak(self, line: SpokenLine) -> None:
        item = f"line-{next(self._items)}"
        self._own_ms = len(line.audio) // PCMU_8K.bytes_per_ms
        self._listener.audio_out(item, line.audio)
        self._listener.bridge_event(TranscriptDelta(speaker="agent", item=item, text=line.text, final=True))
        self._listener.bridge_event(AudioDone(item=item))

    def _finish(self) -> None:
        """All said and answered: hang up. A caller without lines only listens."""
        if self._had_lines:
            self._done = True
            self._call_tool("end_call", {})

    def _call_tool(self, name: str, arguments: dict[str, str]) -> None:
        self._listener.bridge_event(ToolCall(tool_call_id=name, name=name, arguments=json.dumps(arguments)))


class CallerBridges:
    """The one provider of ``offhook call``; implements the call's ``Bridges``."""

    judge = None

    def __init__(self, lines: Sequence[Line], recognise: Recognise | None) -> None:
        self._lines = lines
        self._recognise = recognise

    def profile(self, name: str) -> BridgeProfile:
        return replace(PROFILE, provider=name)

    def open_bridge(self, request: BridgeRequest) -> BridgeConnection:
        return CallerScript(request, self._lines, self._recognise)
