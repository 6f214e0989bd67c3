"""The agent's side of a conversation with OpenAI Realtime: responses, what they say, the tools they call. Pure.

Holds together whose turn it is (``turns``), what is asked for (``asking``), what came (``replies``) and what is kept
back (``holding``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from offhook.bridge.codec import (
    AudioDone,
    BridgeFault,
    Interrupted,
    ResponseDone,
    ResponseStarted,
    SpeechStarted,
    SpeechStopped,
    ToolCall,
    ToolCallCancelled,
    ToolResult,
    TranscriptDelta,
)
from offhook.bridge.openai_realtime import session as words
from offhook.bridge.openai_realtime.asking import RATE_LIMIT_WAIT_MS, Asking, Wish
from offhook.bridge.openai_realtime.events import AudioDelta, ErrorDetails, Event, Response
from offhook.bridge.openai_realtime.holding import Held
from offhook.bridge.openai_realtime.replies import Replies, Reply
from offhook.bridge.openai_realtime.turns import Turns
from offhook.bridge.openai_realtime.verdicts import is_conflict, of_error
from offhook.bridge.wire import CodecOutput
from offhook.model.audio import FRAME_MS

MAX_CALLS = 64
"""Tools that run at once; a model calls a few."""

HOLD_MS = 3000
"""A doubtful answer is kept back for: the call decides within two seconds of the caller's last sound."""

STALL_MS = 6000
"""Of silence where an answer was begun, asked for, or is due: models that think begin within two seconds."""


class OpenCall(NamedTuple):
    """A tool was called, and its result has not come."""

    name: str
    arguments: str
    response_id: str = ""


class Responses:
    """``answers_itself``: the server begins an answer to each turn of the caller. ``say_exactly``: the instructions of
    a response that is to say this.
    """

    def __init__(
        self,
        *,
        bytes_per_ms: int,
        answers_itself: bool,
        interruptible: bool,
        calls: Mapping[str, OpenCall],
        say_exactly: Callable[[str], str],
    ) -> None:
        self.calls = dict(calls)
        self._bytes_per_ms = bytes_per_ms
        self._answers_itself = answers_itself
        self._say_exactly = say_exactly
        self._turns = Turns(interruptible=interruptible)
        self._asking = Asking()
        self._replies = Replies()
        self._held: Held | None = None
        self._heard_of_ms = 0

    @property
    def now_ms(self) -> int:
        return self._turns.now_ms

    @property
    def busy(self) -> bool:
        """An answer is under way, or owed."""
        return self._replies.running is not None or self._asking.pending or self._turns.answer_expected

    def tick(self, out: CodecOutput) -> None:
        """20 ms have passed."""
        self._turns.now_ms += FRAME_MS
        if self._held is not None:
            self._judge(self._held, out)
        if self._turns.answer_overdue:
            self._turns.answered()
            self._asking.want(Wish())
        if self._asking.waiting:
            self._ask(out)
        if self._turns.now_ms - self._heard_of_ms > STALL_MS:
            self._look_for_stall(out)

    def server_lives(self) -> None:
        """It said something."""
        self._heard_of_ms = self._turns.now_ms

    def _look_for_stall(self, out: CodecOutput) -> None:
        self._heard_of_ms = self._turns.now_ms
        waits = self._asking.asked is not None or self._turns.answer_expected or self._replies.running is not None
        if waits and not self.calls and not self._turns.caller_speaks:
            problem = f"said nothing for {STALL_MS // 1000} s where an answer was due"
            out.bridge_event(BridgeFault(problem=problem, verdict="retry"))

    # ── what the call wants ──────────────────────────────────────────────────────────────────────────────

    def interrupt(self, item_id: str, played_ms: int, out: CodecOutput) -> None:
        item = self._replies.item(item_id)
        if item is None or item.cut:
            return
        item.cut = True
        running = self._replies.running
        if running is not None and item.response_id == running.response_id:
            self._cancel(running, out)
        received_ms = item.received_bytes // self._bytes_per_ms
        if not item.done or played_ms < received_ms:
            out.send(words.truncation(item_id, min(played_ms, received_ms)))
        if self._turns.agent_cut():
            self.want(Wish(), out)

    @staticmethod
    def _cancel(reply: Reply, out: CodecOutput) -> None:
        if not reply.cancelled:
            reply.cancelled = True
            out.send(words.cancellation(reply.response_id))

    def take_result(self, result: ToolResult, out: CodecOutput) -> None:
        call = self.calls.pop(result.tool_call_id, None)
        if call is None:
            return
        out.send(words.result_item(result.tool_call_id, result.output))
        if all(other.response_id != call.response_id for other in self.calls.values()):
            self.want(Wish(), out)

    # ── responses ────────────────────────────────────────────────────────────────────────────────────────

    def want(self, wish: Wish, out: CodecOutput) -> None:
        self._asking.want(wish)
        self._ask(out)

    def _ask(self, out: CodecOutput) -> None:
        if self._replies.running is not None:
            return
        wish = self._asking.next(self._turns.now_ms, caller_speaks=self._turns.caller_speaks)
        if wish is None:
            return
        response: dict[str, object] = {"metadata": {"ask": wish.event_id}}
        if wish.instructions:
            response["instructions"] = wish.instructions
            self._turns.agent_begins()
        out.send(words.encoded({"type": "response.create", "event_id": wish.event_id, "response": response}))

    def created(self, response: Response, out: CodecOutput) -> None:
        wish = self._asking.created((response.metadata or {}).get("ask"))
        self._replies.running = Reply(response.id, wish=wish)
        if wish is None and self._turns.answer_doubtful:
            if self._held is not None:
                self._drop(self._held, out)
            until_ms = self._turns.now_ms + HOLD_MS
            self._held = Held(response_id=response.id, until_ms=until_ms, out=out)
        if wish is None or not wish.instructions:
            self._turns.answered()
        self._output_of(response.id, out).bridge_event(ResponseStarted())

    def done(self, response: Response, out: CodecOutput) -> None:
        reply, self._replies.running = self._replies.running or Reply(response.id), None
        told = self._output_of(reply.response_id, out)
        self._close_items(reply, response, told)
        if response.status == "cancelled":
            self._take_calls_back(reply, told)
        if not reply.muted:
            told.bridge_event(ResponseDone())
        if response.status == "failed":
            self._failed(reply, response, out)
        elif response.status != "cancelled":
            self._ask_again_if_written(reply, response)
        if self._turns.answer_due():
            self._asking.want(Wish())
        self._ask(out)

    def _close_items(self, reply: Reply, response: Response, out: CodecOutput) -> None:
        """What was begun and will not be ended; and what nobody ever heard is forgotten."""
        by_server = response.status == "cancelled" and not reply.cancelled
        for item_id in reply.item_ids:
            item = self._replies.item(item_id)
            if item is None or item.cut:
                continue
            if by_server:
                item.cut = True
                out.bridge_event(Interrupted(item=item_id))
            elif reply.muted or (reply.cancelled and not item.received_bytes):
                item.cut = True
                out.send(words.deletion(item_id))
            elif not item.done:
                item.done = True
                out.bridge_event(AudioDone(item=item_id))

    def _take_calls_back(self, reply: Reply, out: CodecOutput) -> None:
        for call_id in reply.call_ids:
            if self.calls.pop(call_id, None) is not None:
                out.bridge_event(ToolCallCancelled(tool_call_id=call_id))

    def _failed(self, reply: Reply, response: Response, out: CodecOutput) -> None:
        details = response.status_details
        error = details.error if details is not None else None
        fault = of_error(error)
        limited = error is not None and error.code == "rate_limit_exceeded"
        not_before_ms = self._turns.now_ms + RATE_LIMIT_WAIT_MS if limited else 0
        if fault.verdict == "fatal":
            out.bridge_event(fault)
        elif not self._asking.try_again(reply.wish or Wish(), not_before_ms=not_before_ms):
            out.bridge_event(BridgeFault(problem=fault.problem, verdict="fall_over"))

    def _ask_again_if_written(self, reply: Reply, response: Response) -> None:
        """Rarely the model writes instead of speaking: it is asked to say that, once."""
        parts = [part for item in response.output or () if item.type == "message" for part in item.content or ()]
        texts = [part.text for part in parts if part.text and part.type in ("output_text", "text")]
        again = reply.wish is not None and reply.wish.tries > 0
        if texts and not reply.has_sound and not reply.cancelled and not again:
            self._asking.want(Wish(instructions=self._say_exactly(" ".join(texts)), tries=1))

    # ── doubtful answers ─────────────────────────────────────────────────────────────────────────────────

    def _output_of(self, response_id: str, out: CodecOutput) -> CodecOutput:
        held = self._held
        return held if held is not None and held.response_id == response_id else out

    def _judge(self, held: Held, out: CodecOutput) -> None:
        """Once a frame. The call, which is told nothing of it, cuts the agent or does not."""
        if self._turns.proved:
            self._held = None
            self._turns.agent_said(held.release(out) // self._bytes_per_ms)
        elif not self._turns.agent_audible or self._turns.now_ms > held.until_ms or held.is_full:
            self._drop(held, out)

    def _drop(self, held: Held, out: CodecOutput) -> None:
        """It was only an "mm-hm": what the model answered to it is forgotten."""
        self._held = None
        running = self._replies.running
        if running is not None and running.response_id == held.response_id:
            self._cancel(running, out)
            running.muted = True
        for item_id in held.item_ids:
            self._replies.begun(item_id, held.response_id).cut = True
            out.send(words.deletion(item_id))
        for call_id in held.call_ids:
            self.calls.pop(call_id, None)
        self._turns.called_off()

    # ── what comes ───────────────────────────────────────────────────────────────────────────────────────

    def sound(self, delta: AudioDelta, out: CodecOutput) -> None:
        item = self._replies.begun(delta.item_id, delta.response_id)
        running = self._replies.running
        if running is not None:
            running.has_sound = True
        if not self._replies.counts(item):
            return
        item.received_bytes += len(delta.delta)
        told = self._output_of(item.response_id, out)
        if told is out:
            self._turns.agent_said(len(delta.delta) // self._bytes_per_ms)
        told.audio_out(delta.item_id, delta.delta)

    def item_added(self, item_id: str, kind: str, response_id: str) -> None:
        if kind == "message":
            self._replies.begun(item_id, response_id)
        held = self._held
        if held is not None and response_id == held.response_id and not held.is_full:
            held.item_ids.append(item_id)

    def agent_words(self, item_id: str, text: str, *, final: bool, out: CodecOutput) -> None:
        item = self._replies.item(item_id)
        if self._replies.counts(item):
            told = self._output_of(item.response_id if item is not None else "", out)
            told.bridge_event(TranscriptDelta(speaker="agent", item=item_id, text=text, final=final))

    def audio_done(self, item_id: str, out: CodecOutput) -> None:
        item = self._replies.item(item_id)
        if item is not None and not item.done and self._replies.counts(item):
            item.done = True
            self._output_of(item.response_id, out).bridge_event(AudioDone(item=item_id))

    def called(self, event: Event, out: CodecOutput) -> None:
        item, running = event.item, self._replies.running
        assert item is not None
        call_id, name = item.call_id or item.id, item.name or ""
        if item.status == "incomplete" or (running is not None and running.cancelled):
            return
        if call_id in self.calls or len(self.calls) >= MAX_CALLS:
            return
        response_id = event.response_id or (running.response_id if running is not None else "")
        self.calls[call_id] = OpenCall(name, item.arguments or "{}", response_id)
        told = self._output_of(event.response_id or "", out)
        if running is not None:
            running.call_ids.append(call_id)
        if isinstance(told, Held):
            told.call_ids.append(call_id)
        told.bridge_event(ToolCall(tool_call_id=call_id, name=name, arguments=item.arguments or "{}"))

    # ── the caller's turns ───────────────────────────────────────────────────────────────────────────────

    def speech_started(self, out: CodecOutput) -> None:
        """An answer that nobody has heard anything of yet is called off: the caller has not finished."""
        running = self._replies.running
        wish = running.wish if running is not None else self._asking.asked
        self._turns.caller_began(agent_begins=wish is not None and bool(wish.instructions))
        if running is not None and running.wish is None and not (running.has_sound or running.call_ids):
            self._cancel(running, out)
        out.bridge_event(SpeechStarted())

    def speech_stopped(self, out: CodecOutput) -> None:
        self._turns.caller_ended()
        out.bridge_event(SpeechStopped())

    def committed(self, out: CodecOutput) -> None:
        running = self._replies.running
        self._turns.committed(will_be_answered=self._answers_itself and running is None)
        if running is None and self._turns.answer_due():
            self.want(Wish(), out)

    def refused(self, error: ErrorDetails) -> None:
        """Perhaps of a response that was asked for."""
        self._asking.refused(error.event_id, busy=is_conflict(error))
