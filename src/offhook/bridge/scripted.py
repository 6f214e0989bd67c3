"""A provider without an AI: it plays a script. For tests and benchmarks.

The script is JSON text in ``agent.options["script"]``; see ``Script``. Examples::

    {"greeting_tone_hz": 1000, "greeting_ms": 500}
    {"echo": true}
    {"steps": [{"on": "digit", "digit": "5", "do": [{"do": "speak", "text": "five", "ms": 300}]},
               {"on": "speech_stopped", "after_ms": 200, "do": [{"do": "end_call"}]}]}

The caller's frames are its only clock: a delay of 200 ms is ten frames, so a run repeats exactly and a
call costs no timer. Tones are rendered once per process and sent in chunks of any length.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import count
from typing import Annotated, Literal, assert_never

import msgspec

from offhook.audio.tones import tone
from offhook.audio.vad import VoiceActivityDetector
from offhook.bridge.codec import (
    AudioDone,
    Begin,
    BridgeEvent,
    BridgeFault,
    BridgeInput,
    BridgeProfile,
    BridgeRequest,
    Digits,
    EndOfInput,
    Interrupt,
    Interrupted,
    InterruptionJudged,
    Ready,
    ResponseDone,
    ResponseStarted,
    Say,
    SpeechStarted,
    SpeechStopped,
    TextInput,
    ToolCall,
    ToolResult,
    TranscriptDelta,
    UpdateAgent,
)
from offhook.model.audio import FRAME_MS, L16_16K, PCMA_8K, PCMU_8K, AudioFormat
from offhook.model.errors import BridgeError, Verdict

SCRIPT_OPTION = "script"
"""The key of ``agent.options`` that holds the script."""

MS_PER_CHARACTER = 60
"""``Say`` lasts as long as a person would need: about 16 characters a second."""

MAX_RECEIVED = 1000
"""Commands kept for a test to look at; a benchmark call must not grow without end."""

ECHO_ITEM = "echo"

Milliseconds = Annotated[int, msgspec.Meta(ge=FRAME_MS, le=600_000)]
"""Length of a tone: at least a frame, at most ten minutes, which is 4.8 MB of G.711 rendered."""

DelayMs = Annotated[int, msgspec.Meta(ge=0, le=86_400_000)]

PROFILE = BridgeProfile(
    provider="scripted",
    input_formats=(PCMU_8K, PCMA_8K, L16_16K),
    output_formats=(PCMU_8K, PCMA_8K, L16_16K),
    exact_say=True,
    raw_line=True,
)

Trigger = Literal["ready", "digit", "text", "speech_started", "speech_stopped", "interrupted", "tool_result"]


class _Data(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="do"):
    """What every part of a script is: frozen, and strict about names."""


# ── the script, as data ──────────────────────────────────────────────────────────────────────────────────


class Speak(_Data, frozen=True, tag="speak"):
    """One utterance of the agent: a tone, and the words it stands for. ``repeat``: until interrupted."""

    text: str = ""
    tone_hz: float = 440.0
    ms: Milliseconds = 1000
    level_db: float = -18.0
    repeat: bool = False


class Hear(_Data, frozen=True, tag="hear"):
    """Pretend that the caller said ``text``."""

    text: str


class SpeechState(_Data, frozen=True, tag="speech"):
    """Pretend that the caller's voice began or ended. Only real speech (``vad``) triggers steps."""

    started: bool


class Judge(_Data, frozen=True, tag="judge"):
    genuine: bool


class EndCall(_Data, frozen=True, tag="end_call"):
    """Ask for the end of the call, as an agent does: by a tool call."""


class UseTool(_Data, frozen=True, tag="use_tool"):
    """Call a tool of the call, ``transfer_call`` for instance."""

    name: str
    arguments: dict[str, str] = {}


class Fail(_Data, frozen=True, tag="fail"):
    problem: str = "scripted fault"
    verdict: Verdict = "fatal"


Action = Speak | Hear | SpeechState | Judge | EndCall | UseTool | Fail


@dataclass(frozen=True, kw_only=True, slots=True)
class _Repeat:
    """The next period of an endless item."""

    item: str
    audio: bytes
    ms: int


class Step(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When ``on`` happens, ``after_ms`` later, ``do`` these.

    ``digit`` narrows ``on: digit`` to one key, ``output`` narrows ``on: tool_result`` to those that hold this text.
    """

    do: tuple[Action, ...]
    on: Trigger = "ready"
    digit: str = ""
    output: str = ""
    after_ms: DelayMs = 0


class Script(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything the provider will do. The fields before ``steps`` are shorthand for common steps."""

    greeting_tone_hz: float = 0.0
    greeting_ms: Milliseconds = 1000
    greeting_text: str = ""
    greeting_repeats: bool = False
    hang_up_after_ms: DelayMs = 0
    echo: bool = False
    """Every frame of the caller goes back at once, as one endless item ``echo``."""
    vad: bool = False
    """Report the caller's speech by voice activity detection."""
    judges_interruption: bool = False
    doubted: bool = False
    """The call judges by its own ear what is said of the caller, as it does with an AI."""
    gives_up: bool = False
    """With ``vad``: it gives up what it is saying as soon as it hears the caller, and tells nothing else of him."""
    open_after_ms: DelayMs = 0
    open_fault: str = ""
    """``open`` raises with this sentence."""
    open_verdict: Verdict = "fatal"
    steps: tuple[Step, ...] = ()

    def all_steps(self) -> tuple[Step, ...]:
        """``steps`` with the shorthand written out before them."""
        greeting = Speak(
            text=self.greeting_text,
            tone_hz=self.greeting_tone_hz,
            ms=self.greeting_ms,
            repeat=self.greeting_repeats,
        )
        shorthand: list[Step] = []
        if self.greeting_tone_hz:
            shorthand.append(Step(do=(greeting,)))
        if self.hang_up_after_ms:
            shorthand.append(Step(do=(EndCall(),), after_ms=self.hang_up_after_ms))
        return (*shorthand, *self.steps)


@lru_cache(maxsize=64)
def parse_script(text: str) -> Script:
    """JSON text to ``Script``. Raises ``BridgeError`` naming the field that cannot be used."""
    try:
        return msgspec.json.decode(text or "{}", type=Script)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise BridgeError("scripted", f"agent.options[{SCRIPT_OPTION!r}]: {error}", "fatal") from error


@lru_cache(maxsize=64)
def _tone(hz: float, ms: int, level_db: float, audio_format: AudioFormat) -> bytes:
    return tone(hz, ms, level_db, audio_format.encoding, sample_rate_hz=audio_format.sample_rate_hz)


# ── the connection ───────────────────────────────────────────────────────────────────────────────────────


def open_scripted(request: BridgeRequest) -> ScriptedConnection:
    """Raises ``BridgeError`` when the script cannot be read."""
    return ScriptedConnection(request, parse_script(request.agent.options.get(SCRIPT_OPTION, "")))


class ScriptedConnection:
    """One call's run of a script. ``received`` holds the commands that came, for tests."""

    def __init__(self, request: BridgeRequest, script: Script) -> None:
        self.received: list[BridgeInput] = []
        self.profile = replace(
            PROFILE,
            judges_interruption=script.judges_interruption,
            raw_line=not script.doubted,
            speech_events=not script.gives_up,
        )
        self._speaking = ""
        self._script = script
        self._steps = script.all_steps()
        self._request = request
        self._listener = request.listener
        self._format = request.output_format
        self._vad = VoiceActivityDetector(request.input_format.encoding) if script.vad else None
        self._frames = 0
        self._due: list[tuple[int, int, Action | _Repeat]] = []
        self._order = count()
        self._items = count(1)
        self._calls = count(1)
        self._interrupted: set[str] = set()
        self._closed = False

    async def open(self) -> None:
        if self._script.open_after_ms:
            await asyncio.sleep(self._script.open_after_ms / 1000)
        if self._script.open_fault:
            raise BridgeError("scripted", self._script.open_fault, self._script.open_verdict)
        if self._script.echo and self._request.input_format != self._request.output_format:
            raise BridgeError("scripted", "echo needs one format both ways", "fatal")
        self._emit(Ready())
        self._happened("ready")

    def send_audio(self, frame: bytes) -> None:
        self._frames += 1
        if self._script.echo and not self._closed:
            self._listener.audio_out(ECHO_ITEM, frame)
        if self._vad is not None:
            self._watch(self._vad, frame)
        if self._due and self._due[0][0] <= self._frames:
            self._run_due()

    def send(self, command: BridgeInput) -> None:
        if len(self.received) < MAX_RECEIVED:
            self.received.append(command)
        match command:
            case Digits(digits=digits):
                for digit in digits:
                    self._happened("digit", digit=digit)
            case TextInput(respond=True):
                self._happened("text")
            case Say(text=text):
                self._speak(Speak(text=text, ms=max(1, len(text)) * MS_PER_CHARACTER))
            case Interrupt(item=item):
                self._interrupted.add(item)
                self._happened("interrupted")
            case ToolResult(output=output):
                self._happened("tool_result", output=output)
            case Begin() | TextInput() | UpdateAgent() | EndOfInput():
                pass
            case _:
                assert_never(command)

    async def close(self) -> None:
        self._closed = True
        self._due.clear()

    # ── steps and their clock ────────────────────────────────────────────────────────────────────────────

    def _happened(self, trigger: Trigger, *, digit: str = "", output: str = "") -> None:
        for step in self._steps:
            if step.on == trigger and step.digit in ("", digit) and step.output in output:
                self._schedule(step.after_ms, step.do)

    def _schedule(self, after_ms: int, actions: tuple[Action | _Repeat, ...]) -> None:
        due = self._frames + after_ms // FRAME_MS
        for action in actions:
            if after_ms:
                heapq.heappush(self._due, (due, next(self._order), action))
            else:
                self._act(action)

    def _run_due(self) -> None:
        while self._due and self._due[0][0] <= self._frames:
            self._act(heapq.heappop(self._due)[2])

    def _watch(self, vad: VoiceActivityDetector, frame: bytes) -> None:
        change = vad.feed(frame)
        if change == "started":
            self._emit(SpeechStarted() if not self._script.gives_up else Interrupted(item=self._give_up()))
            self._happened("speech_started")
        elif change == "stopped":
            if not self._script.gives_up:
                self._emit(SpeechStopped())
            self._happened("speech_stopped")

    def _give_up(self) -> str:
        self._interrupted.add(self._speaking)
        return self._speaking

    # ── actions ──────────────────────────────────────────────────────────────────────────────────────────

    def _act(self, action: Action | _Repeat) -> None:
        match action:
            case Speak():
                self._speak(action)
            case _Repeat():
                self._repeat(action)
            case Hear(text=text):
                item = f"caller-{next(self._items)}"
                self._emit(TranscriptDelta(speaker="caller", item=item, text=text, final=True))
            case SpeechState(started=True):
                self._emit(SpeechStarted())
            case SpeechState():
                self._emit(SpeechStopped())
            case Judge(genuine=genuine):
                self._emit(InterruptionJudged(genuine=genuine))
            case EndCall():
                self._use_tool("end_call", {})
            case UseTool(name=name, arguments=arguments):
                self._use_tool(name, arguments)
            case Fail(problem=problem, verdict=verdict):
                self._emit(BridgeFault(problem=problem, verdict=verdict))
            case _:
                assert_never(action)

    def _use_tool(self, name: str, arguments: Mapping[str, str]) -> None:
        text = msgspec.json.encode(arguments).decode()
        self._emit(ToolCall(tool_call_id=f"call-{next(self._calls)}", name=name, arguments=text))

    def _speak(self, speak: Speak) -> None:
        item = self._speaking = f"agent-{next(self._items)}"
        audio = _tone(speak.tone_hz, speak.ms, speak.level_db, self._format)
        self._emit(ResponseStarted())
        self._audio(item, audio)
        self._transcribe(item, speak)
        if speak.repeat:
            self._repeat(_Repeat(item=item, audio=audio, ms=speak.ms))
        else:
            self._emit(AudioDone(item=item))
            self._emit(ResponseDone())

    def _repeat(self, repeat: _Repeat) -> None:
        """One period ahead of the clock, so that playout never runs dry."""
        if repeat.item not in self._interrupted:
            self._audio(repeat.item, repeat.audio)
            self._schedule(repeat.ms, (repeat,))

    def _transcribe(self, item: str, speak: Speak) -> None:
        """The words spread evenly over the audio, then the whole text."""
        words = speak.text.split()
        for index, word in enumerate(words):
            at_ms = index * speak.ms // len(words)
            text = f" {word}" if index else word
            self._emit(TranscriptDelta(speaker="agent", item=item, text=text, final=False, at_ms=at_ms))
        if words:
            self._emit(TranscriptDelta(speaker="agent", item=item, text=speak.text, final=True))

    def _audio(self, item: str, audio: bytes) -> None:
        if not self._closed:
            self._listener.audio_out(item, audio)

    def _emit(self, event: BridgeEvent) -> None:
        if not self._closed:
            self._listener.bridge_event(event)
