"""OpenAI Realtime, generally available since 2025, and services that speak like it, Azure among them. Pure.

https://platform.openai.com/docs/guides/realtime-websocket; the names of events before the general availability are
understood as well. G.711 passes through untouched.

Interruption: the session is set up with ``interrupt_response`` false, so that a cough or the agent's own echo breaks
nothing off. The call decides; its ``Interrupt`` becomes ``response.cancel`` while the response still runs, and a
truncation of the item to what was heard. An agent's options may say otherwise, then the server's word counts as well.
"""

from __future__ import annotations

import logging
from binascii import b2a_base64
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import assert_never

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
    UsageReported,
    Utterance,
)
from offhook.bridge.openai_realtime import session as words
from offhook.bridge.openai_realtime.events import (
    Event,
    Response,
    Usage,
    format_of,
    ga_name,
    is_audio,
    read_audio,
    read_event,
)
from offhook.bridge.openai_realtime.options import Setup
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

MAX_ITEMS = 64
"""Remembered, of the agent's utterances; those played or cut are older than a few."""

MAX_WISHES = 16
"""Responses asked for while another one runs."""

MAX_CALLS = 64

LEAST_SPOKEN_MS = 1

MAX_RETRIES = 2
RATE_LIMIT_WAIT_MS = 2000
"""Limits are reset within seconds; a caller does not wait for more."""

MAX_LOGGED = 10
"""Errors of one session told in the log."""

GREET = "Start the call now: greet the caller in one short sentence."

GO_ON = (
    "The line was interrupted for a moment. Go on where you stopped, or answer what was said last; "
    "do not repeat yourself, and do not mention the interruption."
)

_log = logging.getLogger("offhook.bridge")

_APPEND = b'{"type":"input_audio_buffer.append","audio":"'


@dataclass(slots=True)
class _Spoken:
    """An item of the agent. ``cut``: given up, nothing of it counts any more."""

    response_id: str
    received_bytes: int = 0
    done: bool = False
    cut: bool = False


@dataclass(slots=True)
class _Reply:
    """The response that runs. ``muted``: nobody is to hear of it."""

    response_id: str
    wish: _Wish | None = None
    cancelled: bool = False
    muted: bool = False
    items: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    spoken_bytes: int = 0


@dataclass(slots=True)
class _Wish:
    """A response to be asked for. ``instructions`` "": the session's own. ``tries``: how often it failed."""

    instructions: str = ""
    tries: int = 0
    event_id: str = ""


@dataclass(slots=True)
class _Call:
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
        calls: dict[str, _Call] | None = None,
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
        self._turns = Turns(interruptible=request.agent.interruptible)
        self._ready = False
        self._told_expiry = False
        self._reply: _Reply | None = None
        self._asked: _Wish | None = None
        self._wishes: deque[_Wish] = deque(maxlen=MAX_WISHES)
        self._not_before_ms = 0
        self._asked_so_far = 0
        self._items: OrderedDict[str, _Spoken] = OrderedDict()
        self._calls: dict[str, _Call] = dict(calls or {})
        self._replayed = tuple(self._calls)
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
            self._want(_Wish(instructions=self._with(GO_ON)), out)

    # ── the caller's audio, which is the clock too ───────────────────────────────────────────────────────

    def audio(self, frame: bytes, out: CodecOutput) -> bytes | None:
        turns = self._turns
        turns.now_ms += FRAME_MS
        if self._wishes and self._reply is None and self._asked is None:
            self._ask(out)
        if turns.now_ms >= SESSION_MS - NOTICE_MS and not self._told_expiry:
            self._told_expiry = True
            out.bridge_event(Expiring(seconds=NOTICE_MS / 1000))
        return _APPEND + b2a_base64(frame, newline=False) + b'"}'

    # ── commands ─────────────────────────────────────────────────────────────────────────────────────────

    def command(self, command: BridgeInput, out: CodecOutput) -> None:
        match command:
            case Begin():
                self._begin(out)
            case TextInput(role=role, text=text, respond=respond):
                out.send(words.message_item(role, text, beta=self._beta))
                if respond:
                    self._want(_Wish(), out)
            case Say(text=text):
                self._want(_Wish(instructions=self._with(_exactly(text))), out)
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
            self._want(_Wish(instructions=self._with(told)), out)

    def _with(self, told: str) -> str:
        """Instructions of a response replace the session's."""
        return f"{self._instructions}\n\n{told}".strip()

    def _interrupt(self, item_id: str, played_ms: int, out: CodecOutput) -> None:
        item = self._items.get(item_id)
        if item is None or item.cut:
            return
        item.cut = True
        reply = self._reply
        if reply is not None and item.response_id == reply.response_id:
            self._cancel(reply, out)
        received_ms = item.received_bytes // self._bytes_per_ms
        if not item.done or played_ms < received_ms:
            out.send(words.truncation(item_id, min(played_ms, received_ms)))
        if self._turns.agent_cut():
            self._want(_Wish(), out)

    def _cancel(self, reply: _Reply, out: CodecOutput) -> None:
        if not reply.cancelled:
            reply.cancelled = True
            out.send(words.cancellation(reply.response_id))

    def _result(self, result: ToolResult, out: CodecOutput) -> None:
        if self._calls.pop(result.tool_call_id, None) is None:
            return
        out.send(words.result_item(result.tool_call_id, result.output))
        if not self._calls:
            self._want(_Wish(), out)

    # ── responses that are asked for, one at a time ──────────────────────────────────────────────────────

    def _want(self, wish: _Wish, out: CodecOutput) -> None:
        """A wish without instructions is only that what is not answered be answered: one will do."""
        if wish.instructions or all(other.instructions for other in self._wishes):
            self._wishes.append(wish)
        self._ask(out)

    def _ask(self, out: CodecOutput) -> None:
        """Now, where nobody speaks: a caller who does begins a response by his end."""
        turns = self._turns
        busy = self._reply is not None or self._asked is not None or turns.now_ms < self._not_before_ms
        if busy or not self._wishes or turns.caller_speaks:
            return
        wish = self._asked = self._wishes.popleft()
        self._asked_so_far += 1
        wish.event_id = f"ask_{self._asked_so_far}"
        response: dict[str, object] = {"metadata": {"ask": wish.event_id}}
        if wish.instructions:
            response["instructions"] = wish.instructions
        out.send(words.encoded({"type": "response.create", "event_id": wish.event_id, "response": response}))

    def _created(self, response: Response, out: CodecOutput) -> None:
        asked = self._asked
        ours = asked is not None and (response.metadata or {}).get("ask", asked.event_id) == asked.event_id
        reply = self._reply = _Reply(response.id, wish=asked if ours else None)
        if ours:
            self._asked = None
        elif self._turns.unwanted():
            reply.muted = True
            self._cancel(reply, out)
            self._turns.called_off()
            return
        if reply.wish is None or not reply.wish.instructions:
            # What waits to be answered is in the context: this response answers it.
            self._wishes = deque((wish for wish in self._wishes if wish.instructions), MAX_WISHES)
            self._turns.answered()
        out.bridge_event(ResponseStarted())

    def _response_done(self, response: Response, out: CodecOutput) -> None:
        reply, self._reply = self._reply or _Reply(response.id), None
        self._report(response.usage, "", out)
        self._close_items(reply, response, out)
        if response.status == "cancelled":
            self._take_calls_back(reply, out)
        if not reply.muted:
            out.bridge_event(ResponseDone())
        if response.status == "failed":
            self._failed(reply, response, out)
        elif response.status != "cancelled":
            self._ask_again_if_written(reply, response, out)
        if self._turns.answer_due():
            self._want(_Wish(), out)
        self._ask(out)

    def _close_items(self, reply: _Reply, response: Response, out: CodecOutput) -> None:
        """What was begun and will not be ended; and what nobody ever heard is forgotten."""
        by_server = response.status == "cancelled" and not reply.cancelled
        for item_id in reply.items:
            item = self._items.get(item_id)
            if item is None or item.cut:
                continue
            if by_server and item.received_bytes:
                out.bridge_event(Interrupted(item=item_id))
            elif reply.cancelled and not item.received_bytes:
                item.cut = True
                out.send(words.deletion(item_id))
            elif not item.done and not reply.muted:
                item.done = True
                out.bridge_event(AudioDone(item=item_id))

    def _take_calls_back(self, reply: _Reply, out: CodecOutput) -> None:
        for call_id in reply.calls:
            if self._calls.pop(call_id, None) is not None:
                out.bridge_event(ToolCallCancelled(tool_call_id=call_id))

    def _failed(self, reply: _Reply, response: Response, out: CodecOutput) -> None:
        details = response.status_details
        error = details.error if details is not None else None
        fault = of_error(error)
        wish = reply.wish or _Wish()
        wish.tries += 1
        if fault.verdict == "fatal" or wish.tries > MAX_RETRIES:
            verdict = fault.verdict if fault.verdict == "fatal" else "fall_over"
            out.bridge_event(BridgeFault(problem=fault.problem, verdict=verdict))
            return
        code = error.code if error is not None else None
        if code == "rate_limit_exceeded":
            self._not_before_ms = self._turns.now_ms + RATE_LIMIT_WAIT_MS
        self._wishes.appendleft(wish)

    def _ask_again_if_written(self, reply: _Reply, response: Response, out: CodecOutput) -> None:
        """Rarely the model writes instead of speaking: it is asked to say that, once."""
        texts = [
            part.text
            for item in response.output or ()
            if item.type == "message"
            for part in item.content or ()
            if part.text and part.type in ("output_text", "text")
        ]
        again = reply.wish is not None and reply.wish.tries > 0
        if texts and not reply.spoken_bytes and not reply.muted and not again:
            wish = _Wish(instructions=self._with(_exactly(" ".join(texts))), tries=1)
            self._wishes.appendleft(wish)

    # ── what the provider says ───────────────────────────────────────────────────────────────────────────

    def receive(self, message: bytes, out: CodecOutput, *, is_text: bool) -> None:
        try:
            if is_audio(message):
                self._sound(message, out)
                return
            event = read_event(message)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            out.bridge_event(BridgeFault(problem=f"sent what cannot be read: {error}", verdict="retry"))
            return
        if event is not None:
            self._take(event, out)

    def _sound(self, message: bytes, out: CodecOutput) -> None:
        delta = read_audio(message)
        reply = self._reply
        item = self._spoken(delta.item_id, delta.response_id)
        if item.cut or (reply is not None and reply.muted and item.response_id == reply.response_id):
            return
        item.received_bytes += len(delta.delta)
        if reply is not None:
            reply.spoken_bytes += len(delta.delta)
            if reply.cancelled and item.response_id == reply.response_id:
                return
        self._turns.agent_said(len(delta.delta) // self._bytes_per_ms)
        out.audio_out(delta.item_id, delta.delta)

    def _spoken(self, item_id: str, response_id: str) -> _Spoken:
        item = self._items.get(item_id)
        if item is None:
            reply = self._reply
            item = self._items[item_id] = _Spoken(response_id or (reply.response_id if reply is not None else ""))
            if reply is not None and item.response_id == reply.response_id and len(reply.items) < MAX_ITEMS:
                reply.items.append(item_id)
            while len(self._items) > MAX_ITEMS:
                self._items.popitem(last=False)
        return item

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
            case "response.output_item.added" if event.item is not None and event.item.type == "message":
                self._spoken(event.item.id, event.response_id or "")
            case "response.output_item.done" if event.item is not None and event.item.type == "function_call":
                self._called(event, out)
            case "response.output_audio.done":
                self._audio_done(item_id, out)
            case "response.output_audio_transcript.delta" if event.delta and self._audible(item_id):
                out.bridge_event(TranscriptDelta(speaker="agent", item=item_id, text=event.delta, final=False))
            case "response.output_audio_transcript.done" if event.transcript and self._audible(item_id):
                out.bridge_event(TranscriptDelta(speaker="agent", item=item_id, text=event.transcript, final=True))
            case "conversation.item.input_audio_transcription.delta" if event.delta:
                out.bridge_event(TranscriptDelta(speaker="caller", item=item_id, text=event.delta, final=False))
            case "conversation.item.input_audio_transcription.completed":
                said = event.transcript or ""
                out.bridge_event(TranscriptDelta(speaker="caller", item=item_id, text=said, final=True))
                self._report(event.usage, "transcription_", out)
            case _:
                pass

    def _audible(self, item_id: str) -> bool:
        item = self._items.get(item_id)
        reply = self._reply
        gone = (
            reply is not None
            and (reply.muted or reply.cancelled)
            and (item is None or item.response_id == reply.response_id)
        )
        return not gone and (item is None or not item.cut)

    def _audio_done(self, item_id: str, out: CodecOutput) -> None:
        item = self._items.get(item_id)
        if item is None or item.done or item.cut or not self._audible(item_id):
            return
        item.done = True
        out.bridge_event(AudioDone(item=item_id))

    def _called(self, event: Event, out: CodecOutput) -> None:
        item, reply = event.item, self._reply
        assert item is not None
        call_id, name = item.call_id or item.id, item.name or ""
        if item.status == "incomplete" or (reply is not None and (reply.cancelled or reply.muted)):
            return
        if call_id in self._calls or len(self._calls) >= MAX_CALLS:
            return
        self._calls[call_id] = _Call(name, item.arguments or "{}")
        if reply is not None:
            reply.calls.append(call_id)
        out.bridge_event(ToolCall(tool_call_id=call_id, name=name, arguments=item.arguments or "{}"))

    # ── the caller's turns ───────────────────────────────────────────────────────────────────────────────

    def _speech_started(self, out: CodecOutput) -> None:
        """An answer that nobody has heard anything of yet is called off: the caller has not finished."""
        reply = self._reply
        self._turns.caller_began()
        unheard = reply is not None and reply.wish is None and not (reply.spoken_bytes or reply.calls)
        if reply is not None and unheard and self._answers_itself:
            self._cancel(reply, out)
        out.bridge_event(SpeechStarted())

    def _committed(self, out: CodecOutput) -> None:
        self._turns.committed(will_be_answered=self._answers_itself and self._reply is None)
        if self._reply is None and self._turns.answer_due():
            self._want(_Wish(), out)

    # ── errors and ends ──────────────────────────────────────────────────────────────────────────────────

    def _error(self, event: Event, out: CodecOutput) -> None:
        error = event.error
        fault = of_error(error)
        if not self._ready:
            out.bridge_event(BridgeFault(problem=f"refused the session: {fault.problem}", verdict="fatal"))
            return
        asked, self_made = self._asked, error is not None and error.event_id is not None
        if asked is not None and self_made and error is not None and error.event_id == asked.event_id:
            self._asked = None
            if is_conflict(error):
                self._wishes.appendleft(asked)
        if error is not None and error.code in IGNORED:
            return
        if fault.verdict == "fatal" or (error is not None and error.code == "session_expired"):
            out.bridge_event(fault)
        elif self._logged < MAX_LOGGED:
            self._logged += 1
            _log.warning("OpenAI Realtime: %s", fault.problem)

    def _report(self, usage: Usage | None, kind: str, out: CodecOutput) -> None:
        if usage is None:
            return
        heard, said = usage.input_token_details, usage.output_token_details
        amounts = {
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "audio_input_tokens": heard.audio_tokens if heard is not None else None,
            "cached_input_tokens": heard.cached_tokens if heard is not None else None,
            "audio_output_tokens": said.audio_tokens if said is not None else None,
            "seconds": usage.seconds,
        }
        for units, amount in amounts.items():
            if amount:
                out.bridge_event(UsageReported(units=kind + units, amount=amount))

    def refused(self, status: int, body: bytes) -> BridgeFault:
        return of_refusal(status, body)

    def closed(self, code: int, reason: str) -> BridgeFault | None:
        return of_close(code, reason)

    def renewed(self, history: Sequence[Utterance]) -> OpenAiCodec:
        """There is no resumption: a new session is told what was said, and which calls are under way."""
        reply = self._reply
        goes_on = self._ready and (reply is not None or self._asked is not None or bool(self._wishes))
        codec = OpenAiCodec(
            self._request,
            self._setup,
            history=history,
            calls=self._calls,
            goes_on=goes_on or (self._goes_on and not self._ready),
        )
        codec._instructions = self._instructions
        return codec


def _exactly(text: str) -> str:
    return f'Say exactly: "{text}"'
