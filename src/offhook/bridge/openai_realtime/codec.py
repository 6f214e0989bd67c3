"""OpenAI Realtime, generally available since 2025, and services that speak like it, Azure among them. Pure.

https://platform.openai.com/docs/guides/realtime-websocket; the names of events before the general availability are
understood as well. G.711 passes through untouched.

Interruption: the session is set up with ``interrupt_response`` false, so that a cough or the agent's own echo breaks
nothing off. The call decides; its ``Interrupt`` becomes ``response.cancel`` while the response still runs, and a
truncation of the item to what was heard. The server answers every turn by itself, where it can; see ``turns`` for those
it cannot, and for answers nobody wants. An agent's options may say otherwise, then the server's word counts as well.
"""

from __future__ import annotations

import logging
from binascii import b2a_base64
from collections.abc import Sequence
from typing import NamedTuple, assert_never

import msgspec

from offhook.bridge.codec import (
    AudioDone,
    Begin,
    BridgeFault,
    BridgeInput,
    BridgeProfile,
    BridgeRequest,
    Digits,
    EndOfInput,
    Expiring,
    Interrupt,
    Interrupted,
    Ready,
    ResponseDone,
    ResponseStarted,
    Say,
    SpeechStarted,
    SpeechStopped,
    TextInput,
    ToolCall,
    ToolCallCancelled,
    ToolResult,
    TranscriptDelta,
    UpdateAgent,
    Utterance,
)
from offhook.bridge.openai_realtime import session as words
from offhook.bridge.openai_realtime.asking import RATE_LIMIT_WAIT_MS, Asking, Wish
from offhook.bridge.openai_realtime.events import (
    Event,
    Response,
    format_of,
    ga_name,
    is_audio,
    read_audio,
    read_event,
    usage_of,
)
from offhook.bridge.openai_realtime.holding import Held
from offhook.bridge.openai_realtime.options import Setup
from offhook.bridge.openai_realtime.own_ears import OwnEars
from offhook.bridge.openai_realtime.replies import Replies, Reply
from offhook.bridge.openai_realtime.turns import Turns
from offhook.bridge.openai_realtime.verdicts import IGNORED, is_conflict, of_close, of_error, of_refusal
from offhook.bridge.wire import CodecOutput, HttpAnswer, HttpRequest, WebsocketTarget
from offhook.model.audio import FRAME_MS, L16_24K, PCMA_8K, PCMU_8K

PROFILE = BridgeProfile(
    provider="openai",
    input_formats=(PCMU_8K, PCMA_8K, L16_24K),
    output_formats=(PCMU_8K, PCMA_8K, L16_24K),
)

SESSION_MS = 60 * 60_000
NOTICE_MS = 5 * 60_000
"""A session ends after an hour; so long before that a gap in the talk is looked for."""

MAX_CALLS = 64

HOLD_MS = 3000
"""A doubtful answer is kept back for: the call decides within two seconds of the caller's last sound."""

MAX_LOGGED = 10
"""Errors of one session told in the log."""

GREET = "Start the call now: greet the caller in one short sentence."

GO_ON = (
    "The line was interrupted for a moment. Go on where you stopped, or answer what was said last; "
    "do not repeat yourself, and do not mention the interruption."
)

_log = logging.getLogger("offhook.bridge")

_APPEND = b'{"type":"input_audio_buffer.append","audio":"'


class OpenCall(NamedTuple):
    """A tool was called, and its result has not come."""

    name: str
    arguments: str


class OpenAiCodec:
    """Implements ``ProviderCodec``."""

    audio_is_binary = False

    def __init__(
        self,
        request: BridgeRequest,
        setup: Setup,
        *,
        history: Sequence[Utterance] = (),
        calls: dict[str, OpenCall] | None = None,
        goes_on: bool = False,
    ) -> None:
        self._request = request
        self._setup = setup
        self._beta = setup.options.protocol == "beta"
        self._history = history
        self._goes_on = goes_on
        self._instructions = request.agent.instructions
        self._bytes_per_ms = request.output_format.bytes_per_ms
        detection = words.detection_of(setup)
        self._answers_itself = bool(detection and detection["create_response"])
        self._ears = OwnEars(request.input_format) if detection is None else None
        self._turns = Turns(interruptible=request.agent.interruptible)
        self._ready = False
        self._told_expiry = False
        self._asking = Asking()
        self._replies = Replies()
        self._held: Held | None = None
        self._calls: dict[str, OpenCall] = dict(calls or {})
        self._logged = 0

    @property
    def profile(self) -> BridgeProfile:
        return PROFILE

    # ── opening ──────────────────────────────────────────────────────────────────────────────────────────

    def preparation(self) -> HttpRequest | None:
        return None

    def prepared(self, answer: HttpAnswer) -> None:
        pass

    def target(self) -> WebsocketTarget:
        return WebsocketTarget(url=self._setup.url, headers=self._setup.headers)

    def opened(self, out: CodecOutput) -> None:
        request = self._request
        formats = (request.input_format, request.output_format)
        out.send(words.session_update(self._setup, self._instructions, request.tools, formats))

    def _session_updated(self, event: Event, out: CodecOutput) -> None:
        """Whatever else is wrong with a session, audio in another format is noise."""
        if self._ready:
            return
        request = self._request
        for direction, wanted in (("input", request.input_format), ("output", request.output_format)):
            stated = format_of(event.session or {}, direction)
            if stated not in (None, words.GA_FORMATS[wanted]["type"], words.BETA_FORMATS[wanted]):
                problem = f"the session's {direction} is {stated} instead of {wanted.encoding.value}"
                out.bridge_event(BridgeFault(problem=problem, verdict="fatal"))
                return
        self._ready = True
        for item in words.history_items(self._history, beta=self._beta):
            out.send(item)
        for call_id, call in self._calls.items():
            out.send(words.call_item(call_id, call.name, call.arguments))
        out.bridge_event(Ready())
        if self._goes_on:
            self._want(Wish(instructions=self._with(GO_ON)), out)

    # ── the caller's audio, which is the clock too ───────────────────────────────────────────────────────

    def audio(self, frame: bytes, out: CodecOutput) -> bytes | None:
        turns = self._turns
        turns.now_ms += FRAME_MS
        if self._held is not None:
            self._judge(self._held, out)
        if self._asking.waiting:
            self._ask(out)
        if turns.now_ms >= SESSION_MS - NOTICE_MS and not self._told_expiry:
            self._told_expiry = True
            out.bridge_event(Expiring(seconds=NOTICE_MS / 1000))
        if self._ears is not None:
            self._listen(self._ears, frame, out)
            return None
        return _appended(frame)

    def _listen(self, ears: OwnEars, frame: bytes, out: CodecOutput) -> None:
        """Where the server detects no turns, it is given what the caller says and nothing else, and told the end."""
        change, frames = ears.hear(frame)
        for heard in frames:
            out.send(_appended(heard))
        if change == "started":
            self._speech_started(out)
        elif change == "stopped":
            self._turns.caller_ended()
            out.bridge_event(SpeechStopped())
            out.send(b'{"type":"input_audio_buffer.commit"}')

    # ── commands ─────────────────────────────────────────────────────────────────────────────────────────

    def command(self, command: BridgeInput, out: CodecOutput) -> None:
        match command:
            case Begin():
                self._begin(out)
            case TextInput(role=role, text=text, respond=respond):
                out.send(words.message_item(role, text, beta=self._beta))
                if respond:
                    self._want(Wish(), out)
            case Say(text=text):
                self._want(Wish(instructions=self._with(_exactly(text))), out)
            case Digits(digits=digits):
                out.send(words.message_item("user", f"[The caller pressed {digits}]", beta=self._beta))
            case Interrupt(item=item, played_ms=played_ms):
                self._interrupt(item, played_ms, out)
            case ToolResult():
                self._result(command, out)
            case UpdateAgent(agent=agent):
                self._instructions = agent.instructions
                update = {"type": "realtime", "instructions": agent.instructions}
                out.send(words.encoded({"type": "session.update", "session": update}))
            case EndOfInput():
                pass
            case _:
                assert_never(command)

    def _begin(self, out: CodecOutput) -> None:
        agent = self._request.agent
        if self._request.greets and agent.first_speaker == "agent":
            told = f"Start the call now. {_exactly(agent.greeting)}" if agent.greeting else GREET
            self._want(Wish(instructions=self._with(told)), out)

    def _with(self, told: str) -> str:
        """Instructions of a response replace the session's."""
        return f"{self._instructions}\n\n{told}".strip()

    def _interrupt(self, item_id: str, played_ms: int, out: CodecOutput) -> None:
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
            self._want(Wish(), out)

    @staticmethod
    def _cancel(reply: Reply, out: CodecOutput) -> None:
        if not reply.cancelled:
            reply.cancelled = True
            out.send(words.cancellation(reply.response_id))

    def _result(self, result: ToolResult, out: CodecOutput) -> None:
        if self._calls.pop(result.tool_call_id, None) is None:
            return
        out.send(words.result_item(result.tool_call_id, result.output))
        if not self._calls:
            self._want(Wish(), out)

    # ── responses ────────────────────────────────────────────────────────────────────────────────────────

    def _want(self, wish: Wish, out: CodecOutput) -> None:
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
        out.send(words.encoded({"type": "response.create", "event_id": wish.event_id, "response": response}))

    def _created(self, response: Response, out: CodecOutput) -> None:
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

    def _response_done(self, response: Response, out: CodecOutput) -> None:
        reply, self._replies.running = self._replies.running or Reply(response.id), None
        for usage in usage_of(response.usage):
            out.bridge_event(usage)
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
            if self._calls.pop(call_id, None) is not None:
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
            self._asking.want(Wish(instructions=self._with(_exactly(" ".join(texts))), tries=1))

    # ── doubtful answers ─────────────────────────────────────────────────────────────────────────────────

    def _output_of(self, response_id: str, out: CodecOutput) -> CodecOutput:
        held = self._held
        return held if held is not None and held.response_id == response_id else out

    def _judge(self, held: Held, out: CodecOutput) -> None:
        """Once a frame. The call, which is told nothing of it, cuts the agent or does not."""
        if self._turns.cut or not self._turns.agent_audible:
            self._held = None
            self._turns.agent_said(held.release(out) // self._bytes_per_ms)
        elif self._turns.now_ms > held.until_ms or held.is_full:
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
            self._calls.pop(call_id, None)
        self._turns.called_off()

    # ── what the provider says ───────────────────────────────────────────────────────────────────────────

    def receive(self, message: bytes, out: CodecOutput, *, is_text: bool) -> None:
        try:
            if is_audio(message):
                self._sound(message, out)
                return
            event = read_event(message)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            out.bridge_event(BridgeFault(problem=f"sent what cannot be read: {error}", verdict="retry"))
            return
        if event is not None:
            self._take(event, out)

    def _sound(self, message: bytes, out: CodecOutput) -> None:
        delta = read_audio(message)
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

    def _take(self, event: Event, out: CodecOutput) -> None:
        match ga_name(event):
            case "session.updated":
                self._session_updated(event, out)
            case "error":
                self._error(event, out)
            case "response.created" if event.response is not None:
                self._created(event.response, out)
            case "response.done" if event.response is not None:
                self._response_done(event.response, out)
            case "input_audio_buffer.speech_started":
                self._speech_started(out)
            case "input_audio_buffer.speech_stopped":
                self._turns.caller_ended()
                out.bridge_event(SpeechStopped())
            case "input_audio_buffer.committed":
                self._committed(out)
            case name:
                self._take_content(name, event, out)

    def _take_content(self, name: str, event: Event, out: CodecOutput) -> None:
        item_id = event.item_id or ""
        match name:
            case "response.output_item.added" if event.item is not None:
                self._item_added(event.item.id, event.item.type, event.response_id or "")
            case "response.output_item.done" if event.item is not None and event.item.type == "function_call":
                self._called(event, out)
            case "response.output_audio.done":
                self._audio_done(item_id, out)
            case "response.output_audio_transcript.delta" if event.delta:
                self._agent_words(item_id, event.delta, final=False, out=out)
            case "response.output_audio_transcript.done" if event.transcript:
                self._agent_words(item_id, event.transcript, final=True, out=out)
            case "conversation.item.input_audio_transcription.delta" if event.delta:
                out.bridge_event(TranscriptDelta(speaker="caller", item=item_id, text=event.delta, final=False))
            case "conversation.item.input_audio_transcription.completed":
                text = event.transcript or ""
                out.bridge_event(TranscriptDelta(speaker="caller", item=item_id, text=text, final=True))
                for usage in usage_of(event.usage, "transcription_"):
                    out.bridge_event(usage)
            case _:
                pass

    def _item_added(self, item_id: str, kind: str, response_id: str) -> None:
        if kind == "message":
            self._replies.begun(item_id, response_id)
        held = self._held
        if held is not None and response_id == held.response_id and not held.is_full:
            held.item_ids.append(item_id)

    def _agent_words(self, item_id: str, text: str, *, final: bool, out: CodecOutput) -> None:
        item = self._replies.item(item_id)
        if self._replies.counts(item):
            told = self._output_of(item.response_id if item is not None else "", out)
            told.bridge_event(TranscriptDelta(speaker="agent", item=item_id, text=text, final=final))

    def _audio_done(self, item_id: str, out: CodecOutput) -> None:
        item = self._replies.item(item_id)
        if item is not None and not item.done and self._replies.counts(item):
            item.done = True
            self._output_of(item.response_id, out).bridge_event(AudioDone(item=item_id))

    def _called(self, event: Event, out: CodecOutput) -> None:
        item, running = event.item, self._replies.running
        assert item is not None
        call_id, name = item.call_id or item.id, item.name or ""
        if item.status == "incomplete" or (running is not None and running.cancelled):
            return
        if call_id in self._calls or len(self._calls) >= MAX_CALLS:
            return
        self._calls[call_id] = OpenCall(name, item.arguments or "{}")
        told = self._output_of(event.response_id or "", out)
        if running is not None:
            running.call_ids.append(call_id)
        if isinstance(told, Held):
            told.call_ids.append(call_id)
        told.bridge_event(ToolCall(tool_call_id=call_id, name=name, arguments=item.arguments or "{}"))

    # ── the caller's turns ───────────────────────────────────────────────────────────────────────────────

    def _speech_started(self, out: CodecOutput) -> None:
        """An answer that nobody has heard anything of yet is called off: the caller has not finished."""
        running = self._replies.running
        self._turns.caller_began()
        if running is not None and running.wish is None and not (running.has_sound or running.call_ids):
            self._cancel(running, out)
        out.bridge_event(SpeechStarted())

    def _committed(self, out: CodecOutput) -> None:
        running = self._replies.running
        self._turns.committed(will_be_answered=self._answers_itself and running is None)
        if running is None and self._turns.answer_due():
            self._want(Wish(), out)

    # ── errors and ends ──────────────────────────────────────────────────────────────────────────────────

    def _error(self, event: Event, out: CodecOutput) -> None:
        error = event.error
        fault = of_error(error)
        if not self._ready:
            out.bridge_event(BridgeFault(problem=f"refused the session: {fault.problem}", verdict="fatal"))
            return
        if error is not None:
            self._asking.refused(error.event_id, busy=is_conflict(error))
            if error.code in IGNORED:
                return
        if fault.verdict == "fatal" or (error is not None and error.code == "session_expired"):
            out.bridge_event(fault)
        elif self._logged < MAX_LOGGED:
            self._logged += 1
            _log.warning("OpenAI Realtime: %s", fault.problem)

    def refused(self, status: int, body: bytes) -> BridgeFault:
        return of_refusal(status, body)

    def closed(self, code: int, reason: str) -> BridgeFault | None:
        return of_close(code, reason)

    def renewed(self, history: Sequence[Utterance]) -> OpenAiCodec:
        """There is no resumption: a new session is told what was said, and which calls are under way.

        Where an answer was under way, or owed, it goes on with one.
        """
        was_busy = self._replies.running is not None or self._asking.pending
        goes_on = was_busy if self._ready else self._goes_on
        codec = OpenAiCodec(self._request, self._setup, history=history, calls=self._calls, goes_on=goes_on)
        codec._instructions = self._instructions
        return codec


def _appended(frame: bytes) -> bytes:
    return _APPEND + b2a_base64(frame, newline=False) + b'"}'


def _exactly(text: str) -> str:
    return f'Say exactly: "{text}"'
