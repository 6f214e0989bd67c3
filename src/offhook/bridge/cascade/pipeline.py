"""One call's conversation through a cascade: the caller's turns in, the agent's utterances out.

``turn`` decides whose turn it is, ``History`` is what the model knows; this carries out. The call judges interruptions:
while the agent is audible nothing is cut here until ``Interrupt`` comes, and what was said over it is not answered.
An answer begins to be made when the caller has probably finished, and is given to the call when that is certain.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from itertools import count
from typing import assert_never

from offhook.bridge.cascade import turn
from offhook.bridge.cascade.chunker import Chunker, sentences
from offhook.bridge.cascade.history import History
from offhook.bridge.cascade.ports import (
    EagerEnd,
    EndOfTurn,
    LanguageModel,
    PartialText,
    Recogniser,
    Resumed,
    SpeechBegan,
    SttEvent,
    TextPiece,
    ToolUse,
    TtsListener,
    Voice,
)
from offhook.bridge.cascade.speaking import Speaking
from offhook.bridge.cascade.spoken import Spoken
from offhook.bridge.codec import (
    Begin,
    BridgeEvent,
    BridgeFault,
    BridgeInput,
    BridgeProfile,
    BridgeRequest,
    Digits,
    EndOfInput,
    Interrupt,
    Ready,
    Say,
    SpeechStarted,
    SpeechStopped,
    TextInput,
    ToolCall,
    ToolCallCancelled,
    ToolResult,
    TranscriptDelta,
    UpdateAgent,
    UsageReported,
)
from offhook.bridge.told import pressed
from offhook.model.errors import BridgeError, Verdict
from offhook.model.records import Agent

JUDGED_WITHIN_MS = 2500
"""The call judges what is said over the agent when it has the words, or a second and a half later without."""

SPOKEN_STYLE = (
    "You speak with the caller on the phone: your text is read out by a voice. "
    "Answer in short spoken sentences, without markdown, lists or emoji."
)

BEGIN_NOW = "[The call has begun. Greet the caller.]"

LAST_TOOLS = frozenset({"end_call", "transfer_call", "accept_transfer", "decline_transfer", "complete_task"})
"""They end or leave the talk: called when all that was said before them is with the call."""

_log = logging.getLogger("offhook.bridge")


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """How the parts of one conversation are made; ``names`` of their vendors, for the log."""

    recogniser: Callable[[Callable[[SttEvent], None]], Recogniser]
    model: LanguageModel
    voice: Callable[[TtsListener], Voice]
    names: str = ""


class PipelineConnection:
    """Implements ``BridgeConnection``. The caller's frames are its clock."""

    def __init__(self, request: BridgeRequest, profile: BridgeProfile, parts: Parts) -> None:
        self.profile = profile
        self._request = request
        self._listener = request.listener
        self._model = parts.model
        self._names = parts.names
        self._recogniser = parts.recogniser(self._take_stt)
        self._history = History(system_of(request.agent))
        self._speaking = Speaking(
            parts.voice,
            request.listener,
            self._history,
            output_format=request.output_format,
            settled=self._settled,
            failed=self._take_fault,
        )
        self._turn = turn.TurnState()
        self._answer: Spoken | None = None
        self._again = False
        self._caller_items = count(1)
        self._caller_item = ""
        self._caller_text = ""
        self._began_ms = 0
        self._counted_ms = 0
        self._judged_by_ms = 0
        self._is_open = False
        self._closed = False

    # ── BridgeConnection ─────────────────────────────────────────────────────────────────────────────────

    async def open(self) -> None:
        self._history.recall(self._request.history())
        parts = [self._recogniser.open(), self._speaking.voice.open(), self._model.open()]
        opening = [asyncio.ensure_future(part) for part in parts]
        try:
            await asyncio.gather(*opening)
        except BridgeError as error:
            await _cancelled(opening)
            await self.close()
            verdict: Verdict = "fall_over" if error.verdict == "retry" else error.verdict
            problem = f"{error.provider} ({self._names}): {error.problem}"
            raise BridgeError(self.profile.provider, problem, verdict) from error
        except asyncio.CancelledError:
            await _cancelled(opening)
            raise
        self._is_open = True
        self._emit(Ready())

    def send_audio(self, frame: bytes) -> None:
        if self._closed:
            return
        self._speaking.tick()
        self._recogniser.feed(frame)
        if self._turn.withheld and self._speaking.clock_ms >= self._judged_by_ms:
            self._decide(turn.JudgementOver(interruptible=self._request.agent.interruptible))

    def send(self, command: BridgeInput) -> None:
        if self._closed:
            return
        match command:
            case Begin():
                self._begin()
            case Say(text=text):
                self._say(text)
            case TextInput() | Digits() | UpdateAgent():
                self._be_told(command)
            case Interrupt():
                self._on_interrupt(command)
            case ToolResult(tool_call_id=tool_call_id, output=output):
                if self._history.result(tool_call_id, output):
                    self._respond()
            case EndOfInput():
                pass
            case _:
                assert_never(command)

    async def close(self) -> None:
        self._closed = self._speaking.silenced = True
        await _cancelled([spoken.making for spoken in self._speaking.unfinished if spoken.making is not None])
        await asyncio.gather(self._recogniser.close(), self._speaking.voice.close(), return_exceptions=True)

    # ── commands ─────────────────────────────────────────────────────────────────────────────────────────

    def _begin(self) -> None:
        agent = self._request.agent
        if not self._request.greets or agent.first_speaker == "caller":
            return
        if agent.greeting:
            self._say(agent.greeting)
        else:
            self._history.caller_said(BEGIN_NOW)
            self._respond()

    def _be_told(self, told: TextInput | Digits | UpdateAgent) -> None:
        match told:
            case TextInput(role="system", text=text):
                self._history.told(text)
            case TextInput(text=text):
                self._history.caller_said(text)
            case Digits(digits=digits):
                self._history.caller_said(pressed(digits))
            case UpdateAgent(agent=agent):
                self._history.instruct(system_of(agent))
            case _:
                assert_never(told)
        if isinstance(told, TextInput) and told.respond:
            self._respond()

    def _say(self, text: str) -> None:
        spoken = self._speaking.begin()
        self._speaking.say(spoken, sentences(text))
        self._speaking.finish(spoken)

    def _on_interrupt(self, interrupt: Interrupt) -> None:
        """Remember only what was heard; stop making what was going to be said.

        The call names each utterance that was queued; an answer that began since is not meant, nor one on trial: that
        is to the very words the caller interrupts with.
        """
        answer = self._answer
        if answer is not None and (answer.item == interrupt.item or _is_older(answer, self._speaking.clock_ms)):
            self._give_up(answer)
        spoken = self._speaking.find(interrupt.item)
        if spoken is not None:
            self._speaking.drop(spoken, heard=spoken.utterance.heard(interrupt.played_ms))
        self._speaking.was_cut()
        self._decide(turn.AgentCut())

    # ── the caller ───────────────────────────────────────────────────────────────────────────────────────

    def _take_stt(self, event: SttEvent) -> None:
        if self._closed:
            return
        match event:
            case SpeechBegan():
                self._caller_began()
            case PartialText(text=text):
                self._show_partial(text)
            case EagerEnd(text=text):
                self._show_partial(text)
                self._decide(turn.CallerPaused(text=text))
            case Resumed():
                self._decide(turn.CallerResumed())
            case EndOfTurn(text=text):
                self._caller_ended(text)
            case UsageReported():
                self._emit(event)
            case BridgeFault():
                self._take_fault("speech recognition", event)
            case _:
                assert_never(event)

    def _caller_began(self) -> None:
        self._caller_item = f"caller-{next(self._caller_items)}"
        self._caller_text = ""
        self._began_ms = self._speaking.clock_ms
        self._emit(SpeechStarted())
        unheard = self._answer is not None and not self._answer.given
        self._decide(turn.CallerBegan(overlap=self._speaking.overlap(), unheard=unheard))

    def _caller_ended(self, text: str) -> None:
        self._emit(SpeechStopped())
        self._report_seconds()
        now_ms = self._speaking.clock_ms
        if self._turn.overlap == "over" and not self._turn.cut and self._request.agent.interruptible:
            self._speaking.was_paused(now_ms - self._began_ms)
            self._judged_by_ms = now_ms + JUDGED_WITHIN_MS
        else:
            self._judged_by_ms = self._speaking.audible_until_ms
        if text.strip():
            self._tell_final(text)
        self._decide(turn.CallerEnded(text=text))

    def _tell_final(self, text: str) -> None:
        self._emit(TranscriptDelta(speaker="caller", item=self._caller_item, text=text.strip(), final=True))

    def _show_partial(self, text: str) -> None:
        """Deltas are joined as they are: a correction of earlier words is seen in the final text only."""
        if text.startswith(self._caller_text) and text != self._caller_text:
            delta = text[len(self._caller_text) :]
            self._caller_text = text
            self._emit(TranscriptDelta(speaker="caller", item=self._caller_item, text=delta, final=False))

    def _report_seconds(self) -> None:
        """Recognisers are paid for the whole call's sound."""
        now_ms = self._speaking.clock_ms
        self._emit(UsageReported(units="seconds", amount=(now_ms - self._counted_ms) / 1000))
        self._counted_ms = now_ms

    # ── turns ────────────────────────────────────────────────────────────────────────────────────────────

    def _decide(self, fact: turn.TurnFact) -> None:
        self._turn, commands = turn.decide(self._turn, fact)
        for command in commands:
            match command:
                case turn.TurnOrder():
                    self._order(command)
                case turn.TryAnswer(text=text):
                    self._make_answer(to=text)
                case turn.Answer(text=text):
                    self._cancel_tools()
                    self._history.caller_said(text)
                    self._make_answer()
                case _:
                    assert_never(command)

    def _order(self, order: turn.TurnOrder) -> None:
        answer = self._answer
        if answer is None:
            return
        match order:
            case turn.TurnOrder.HOLD:
                answer.held = True
            case turn.TurnOrder.RELEASE:
                self._release(answer)
            case turn.TurnOrder.DROP:
                self._give_up(answer)
            case _:
                assert_never(order)

    # ── the agent's answer ───────────────────────────────────────────────────────────────────────────────

    def _respond(self) -> None:
        """Answer what was said and told so far, after what is being answered already."""
        if self._answer is not None:
            self._again = True
        else:
            self._make_answer()
            self._decide(turn.AnswerBegan())

    def _make_answer(self, *, to: str = "") -> None:
        """``to``: on trial, to these words that may not be the last."""
        if self._answer is not None:
            self._give_up(self._answer)
        answer = self._answer = self._speaking.begin(to=to, held=bool(to))
        answer.making = asyncio.get_running_loop().create_task(self._think(answer))

    async def _think(self, answer: Spoken) -> None:
        chunker = Chunker()
        try:
            messages = self._history.encoded(also=answer.to)
            async with aclosing(self._model.stream(messages, self._request.tools)) as events:
                async for event in events:
                    match event:
                        case TextPiece(text=text):
                            self._speaking.say(answer, chunker.feed(text))
                        case ToolUse():
                            answer.uses.append(event)
                        case UsageReported():
                            self._emit(event)
                        case BridgeFault():
                            self._take_fault("language model", event)
                        case _:
                            assert_never(event)
        except BridgeError as error:
            answer.fault = BridgeFault(problem=error.problem, verdict=error.verdict)
            if not answer.held:
                self._take_fault("language model", answer.fault)
            return
        self._speaking.say(answer, chunker.finish())
        answer.making = None
        answer.text_done = True
        self._call_tools(answer)
        self._speaking.finish(answer)

    def _release(self, answer: Spoken) -> None:
        if answer.to:
            self._cancel_tools()
            self._history.caller_said(answer.to)
            answer.to = ""
        if answer.fault is not None:
            self._take_fault("language model", answer.fault)
            return
        self._speaking.release(answer)
        self._call_tools(answer)
        self._speaking.settle(answer)

    def _give_up(self, answer: Spoken) -> None:
        self._answer = None
        self._again = False
        self._speaking.drop(answer)
        if answer.called:
            self._cancel_tools()

    def _settled(self, spoken: Spoken) -> None:
        """All of it is with the call: now the tools that end the talk, then whatever is to be answered next."""
        self._tell_calls(spoken, last=True)
        if spoken is self._answer:
            self._answer = None
            if self._again:
                self._again = False
                self._respond()

    # ── tools ────────────────────────────────────────────────────────────────────────────────────────────

    def _call_tools(self, answer: Spoken) -> None:
        """Those that do not end the talk, at once; never of an answer on trial."""
        if answer.called or answer.held or answer.over or not answer.uses or not answer.text_done:
            return
        answer.called = True
        self._history.called(answer.item, answer.uses)
        self._tell_calls(answer, last=False)

    def _tell_calls(self, answer: Spoken, *, last: bool) -> None:
        for use in answer.uses:
            if (use.name in LAST_TOOLS) is last:
                self._emit(ToolCall(tool_call_id=use.tool_call_id, name=use.name, arguments=use.arguments))

    def _cancel_tools(self) -> None:
        for tool_call_id in self._history.cancel_calls():
            self._emit(ToolCallCancelled(tool_call_id=tool_call_id))

    # ── plumbing ─────────────────────────────────────────────────────────────────────────────────────────

    def _take_fault(self, part: str, fault: BridgeFault) -> None:
        """A part that gave up takes the agent with it. One that tries once more is recorded, as long as the call does
        not take that for the end of what it was given the beginning of, or for the end of the opening.
        """
        if self._closed:
            return
        told = BridgeFault(problem=f"{part} ({self._names}): {fault.problem}", verdict=fault.verdict)
        _log.warning("call %s: %s", self._request.call_id, told.problem)
        if fault.verdict != "retry":
            if self._turn.speaking and self._caller_text.strip():
                self._tell_final(self._caller_text)  # whoever takes over shall know what was said
            self._emit(told)
            self._closed = self._speaking.silenced = True
        elif self._is_open and not self._speaking.midway:
            self._emit(told)

    def _emit(self, event: BridgeEvent) -> None:
        if not self._closed:
            self._listener.bridge_event(event)


def system_of(agent: Agent) -> str:
    """What the model is told first."""
    language = f"Speak {agent.language}." if agent.language else ""
    return "\n\n".join(part for part in (agent.instructions, SPOKEN_STYLE, language) if part)


def _is_older(answer: Spoken, now_ms: int) -> bool:
    return not answer.to and answer.began_ms < now_ms


async def _cancelled(tasks: list[asyncio.Future[None]] | list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
