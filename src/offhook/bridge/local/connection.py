"""One call's conversation with the local agent: who has the floor, what was understood, what is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import datetime
from itertools import count
from typing import Protocol, assert_never

import msgspec

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
from offhook.bridge.local import rules
from offhook.bridge.local.judging import SURELY_A_TURN_MS, Verdict, interrupts, judge
from offhook.bridge.local.listening import Change, Listening
from offhook.bridge.local.messages import Synthesised
from offhook.bridge.local.phrases import Vocabulary, is_command
from offhook.bridge.local.rules import Memory, Reply, ToolUse
from offhook.bridge.local.worker_pool import WorkerError
from offhook.model.audio import FRAME_MS, PCMA_8K, PCMU_8K, AudioFormat

PROFILE = BridgeProfile(
    provider="local",
    input_formats=(PCMU_8K, PCMA_8K),
    output_formats=(PCMU_8K, PCMA_8K),
    exact_say=True,
    judges_interruption=True,
)

PLAYOUT_MARGIN_MS = 500
"""The agent may still be heard so long after its audio should be over: queues of the call and of the phone."""

MORE_DIGITS_MS = 1200
"""Keys pressed within this time of one another are read back together."""
MAX_DIGITS = 32
LAST_DIGIT = "#"

_LAST = ("end_call", "accept_transfer", "decline_transfer")
"""Tools after which the agent has nothing more to say."""

Clock = Callable[[], datetime]


class EarAndVoice(Protocol):
    """``LocalEngine``, as far as a conversation needs it. Both raise ``WorkerError``."""

    async def understand(
        self, audio: bytes, audio_format: AudioFormat, vocabulary: Vocabulary, names: tuple[str, ...]
    ) -> str | None: ...

    async def synthesise(self, text: str, audio_format: AudioFormat) -> Synthesised: ...


class LocalConnection:
    """The caller's frames are its clock: 20 ms each. ``now`` is asked only for what the agent says."""

    profile = PROFILE

    def __init__(self, request: BridgeRequest, engine: EarAndVoice, now: Clock = datetime.now) -> None:
        self._request = request
        self._agent = request.agent
        self._listener = request.listener
        self._engine = engine
        self._now = now
        self._listening = Listening(request.input_format.encoding)
        self._memory = Memory()
        self._clock_ms = 0
        self._closed = False
        self._tasks: set[asyncio.Task[None]] = set()
        # the agent's voice
        self._items = count(1)
        self._item = ""
        self._spoken: tuple[tuple[int, str], ...] = ()
        self._audible_until_ms = 0
        self._response: asyncio.Task[None] | None = None
        self._farewell = False
        # handing the caller over
        self._transfers = count(1)
        self._transfer = ""  # the tool call whose result is awaited
        self._aside = False  # caller and operator talk, the agent listens
        # the caller's utterance
        self._recognition: asyncio.Task[None] | None = None
        self._recognised = False
        self._text: str | None = None
        self._over_agent = False
        self._genuine: bool | None = None  # the verdict, once it was given
        self._started_ms = 0
        # keys
        self._digits = ""
        self._digits_due_ms = 0

    async def open(self) -> None:
        self._emit(Ready())
        self._respond(Reply(text=self._agent.greeting or rules.DEFAULT_GREETING))

    def send_audio(self, frame: bytes) -> None:
        if self._closed:
            return
        self._clock_ms += FRAME_MS
        change = self._listening.feed(frame)
        if change is not None:
            self._on_change(change)
        elif self._undecided and self._listening.speech_ms >= SURELY_A_TURN_MS:
            self._judge(genuine=self._may_interrupt)
        if self._digits and self._clock_ms >= self._digits_due_ms:
            self._read_digits_back()

    def send(self, command: BridgeInput) -> None:
        match command:
            case Say(text=text):
                self._respond(Reply(text=text))
            case TextInput(role="system", text=text, respond=True, plainly=plainly):
                self._be_told(plainly or text, failed=False)
            case TextInput(text=text, respond=True):
                self._answer(text)
            case Digits(digits=digits):
                self._on_digits(digits)
            case Interrupt():
                self._on_interrupt(command)
            case UpdateAgent(agent=agent):
                self._agent = agent
            case ToolResult(tool_call_id=self._transfer, output=output, is_error=failed):
                self._on_transferred(output, failed)
            case Begin() | TextInput() | ToolResult() | EndOfInput():
                pass
            case _:
                assert_never(command)

    async def close(self) -> None:
        self._closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ── the caller speaks ────────────────────────────────────────────────────────────────────────────────

    def _on_change(self, change: Change) -> None:
        match change:
            case "started":
                self._speech_started()
            case "paused":
                self._recognise()
            case "resumed":
                self._forget_recognition()
            case "ended":
                self._emit(SpeechStopped())
                if self._recognition is None:
                    self._recognise()
                elif self._recognised:
                    self._conclude()
            case _:
                assert_never(change)

    def _speech_started(self) -> None:
        self._forget_recognition()
        self._over_agent = self._clock_ms < self._audible_until_ms
        self._genuine = None
        self._started_ms = self._clock_ms
        self._emit(SpeechStarted())

    def _recognise(self) -> None:
        self._forget_recognition()
        self._recognition = self._spawn(self._recognition_of(self._listening.utterance()))

    async def _recognition_of(self, audio: bytes) -> None:
        try:
            listened_for = self._vocabulary, self._names
            self._text = await self._engine.understand(audio, self._request.input_format, *listened_for)
        except WorkerError:
            self._text = ""
        self._recognised = True
        self._on_recognised()

    def _forget_recognition(self) -> None:
        if self._recognition is not None:
            self._recognition.cancel()
        self._recognition = None
        self._recognised = False
        self._text = None

    def _on_recognised(self) -> None:
        """The words are known: at the end of the turn, or on trial in a pause."""
        if not self._listening.speaking:
            self._conclude()
        elif is_command(self._text or "", self._vocabulary) or (self._over_agent and not self._is_turn()):
            self._listening.settle()
            self._emit(SpeechStopped())
            self._conclude()
        elif self._over_agent and self._undecided:
            self._judge(genuine=True)

    @property
    def _undecided(self) -> bool:
        return self._listening.speaking and self._genuine is None

    @property
    def _may_interrupt(self) -> bool:
        return self._agent.interruptible or not self._over_agent

    def _is_turn(self) -> bool:
        if self._genuine is not None:
            return self._genuine
        speech_ms = self._listening.speech_ms
        chosen = rules.is_choice(self._text or "", self._memory, self._names)
        if self._over_agent:
            return self._agent.interruptible and (chosen or interrupts(self._text, speech_ms))
        return chosen or self._is_decision() or judge(self._text, speech_ms) is Verdict.TURN

    def _is_decision(self) -> bool:
        return self._agent.briefs and rules.decision(self._text or "") is not None

    def _conclude(self) -> None:
        """The utterance is over and recognised: judge it, write it down, answer it."""
        text = self._text or ""
        genuine = self._is_turn()
        if self._genuine is None:
            self._judge(genuine=genuine)
        self._recognition = None
        if text and (genuine or judge(text, 0) is not Verdict.NOISE):
            item = f"caller-{next(self._items)}"
            self._emit(TranscriptDelta(speaker="caller", item=item, text=text, final=True))
        if genuine:
            self._answer(text)

    def _judge(self, *, genuine: bool) -> None:
        """Exactly one verdict follows each ``SpeechStarted``."""
        self._genuine = genuine
        if self._over_agent:
            paused_ms = self._clock_ms - self._started_ms
            self._audible_until_ms = 0 if genuine else self._audible_until_ms + paused_ms
        self._emit(InterruptionJudged(genuine=genuine))

    # ── the agent answers ────────────────────────────────────────────────────────────────────────────────

    def _answer(self, utterance: str) -> None:
        if self._transfer or self._aside:
            return
        if self._agent.briefs:
            reply, self._memory = rules.reply_to_operator(utterance, self._agent.greeting, self._memory)
        else:
            reply, self._memory = rules.reply(utterance, self._now(), self._memory, self._names)
        self._respond(reply)

    def _respond(self, reply: Reply) -> None:
        if self._farewell or self._closed:
            return
        if self._response is not None:
            self._response.cancel()
        self._farewell = reply.tool is not None and reply.tool.name in _LAST
        if reply.text:
            self._emit(ResponseStarted())
            self._response = self._spawn(self._speak(reply))
        elif reply.tool is not None:
            self._use(reply.tool)

    async def _speak(self, reply: Reply) -> None:
        try:
            speech = await self._engine.synthesise(reply.text, self._request.output_format)
            self._deliver(reply.text, speech)
        except WorkerError as error:
            self._emit(BridgeFault(problem=str(error), verdict="retry"))
        finally:
            self._response = None
            self._emit(ResponseDone())
        if reply.tool is not None:
            self._use(reply.tool)

    def _deliver(self, text: str, speech: Synthesised) -> None:
        item = self._item = f"agent-{next(self._items)}"
        self._spoken = tuple(zip(speech.word_ms, text.split(), strict=False))
        self._memory = replace(self._memory, last_said=text)
        length_ms = len(speech.audio) // self._request.output_format.bytes_per_ms
        begins_ms = max(self._clock_ms, self._audible_until_ms - PLAYOUT_MARGIN_MS)
        self._audible_until_ms = begins_ms + length_ms + PLAYOUT_MARGIN_MS
        self._listener.audio_out(item, speech.audio)
        for index, (at_ms, word) in enumerate(self._spoken):
            delta = f" {word}" if index else word
            self._emit(TranscriptDelta(speaker="agent", item=item, text=delta, final=False, at_ms=at_ms))
        self._emit(TranscriptDelta(speaker="agent", item=item, text=text, final=True))
        self._emit(AudioDone(item=item))

    def _on_interrupt(self, interrupt: Interrupt) -> None:
        """Remember only what was heard."""
        if interrupt.item == self._item:
            heard = " ".join(word for at_ms, word in self._spoken if at_ms < interrupt.played_ms)
            self._memory = replace(self._memory, last_said=heard)
            self._audible_until_ms = 0

    # ── handing the caller over ──────────────────────────────────────────────────────────────────────────

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(destination.name for destination in self._agent.destinations if destination.name)

    @property
    def _vocabulary(self) -> Vocabulary:
        if self._agent.briefs:
            return Vocabulary.DECIDING
        return Vocabulary.ASKING if self._names else Vocabulary.COMMON

    def _use(self, tool: ToolUse) -> None:
        if tool.name == "transfer_call":
            self._transfer = f"transfer-{next(self._transfers)}"
            arguments = msgspec.json.encode({"destination": tool.destination}).decode()
            self._emit(ToolCall(tool_call_id=self._transfer, name=tool.name, arguments=arguments))
        else:
            tool_call_id = "goodbye" if tool.name == "end_call" else tool.name
            self._emit(ToolCall(tool_call_id=tool_call_id, name=tool.name, arguments="{}"))

    def _on_transferred(self, outcome: str, failed: bool) -> None:
        """The caller is back with the agent, or has somebody else to talk to."""
        self._transfer = ""
        self._aside = not failed
        if failed:
            self._be_told(outcome, failed=True)

    def _be_told(self, text: str, *, failed: bool) -> None:
        """The call tells what became of a transfer."""
        reply = rules.told(text, failed=failed)
        self._aside = not reply.text
        self._respond(reply)

    # ── keys ─────────────────────────────────────────────────────────────────────────────────────────────

    def _on_digits(self, digits: str) -> None:
        """Keys silence the agent, and whatever the line heard of them is no speech."""
        if self._farewell:
            return
        self._digits = (self._digits + digits)[:MAX_DIGITS]
        self._digits_due_ms = self._clock_ms + MORE_DIGITS_MS
        self._drop_utterance()
        if self._response is not None:
            self._response.cancel()
        if self._clock_ms < self._audible_until_ms:
            self._audible_until_ms = 0
            self._emit(Interrupted(item=self._item))
        if LAST_DIGIT in digits:
            self._read_digits_back()

    def _drop_utterance(self) -> None:
        undecided = self._genuine is None and self._recognition is not None
        self._forget_recognition()
        if self._listening.speaking:
            undecided = self._genuine is None
            self._listening.settle()
            self._emit(SpeechStopped())
        if undecided:
            self._judge(genuine=False)

    def _read_digits_back(self) -> None:
        digits, self._digits = self._digits, ""
        if not self._transfer and not self._aside:
            self._respond(rules.pressed(digits))

    # ── plumbing ─────────────────────────────────────────────────────────────────────────────────────────

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _emit(self, event: BridgeEvent) -> None:
        if not self._closed:
            self._listener.bridge_event(event)
