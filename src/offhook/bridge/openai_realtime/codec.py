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
from collections.abc import Iterable, Mapping, Sequence
from typing import assert_never

import msgspec

from offhook.bridge.codec import (
    Begin,
    BridgeFault,
    BridgeInput,
    BridgeProfile,
    BridgeRequest,
    Digits,
    EndOfInput,
    Expiring,
    Interrupt,
    Ready,
    Say,
    TextInput,
    ToolResult,
    TranscriptDelta,
    UpdateAgent,
    UsageReported,
    Utterance,
)
from offhook.bridge.openai_realtime import session as words
from offhook.bridge.openai_realtime.asking import Wish
from offhook.bridge.openai_realtime.events import (
    AUDIO,
    Event,
    format_of,
    ga_name,
    is_audio,
    read_audio,
    read_event,
    usage_of,
)
from offhook.bridge.openai_realtime.options import Setup
from offhook.bridge.openai_realtime.own_ears import OwnEars
from offhook.bridge.openai_realtime.responses import OpenCall, Responses
from offhook.bridge.openai_realtime.verdicts import IGNORED, of_close, of_error, of_refusal
from offhook.bridge.told import pressed
from offhook.bridge.wire import CodecOutput, HttpAnswer, HttpRequest, WebsocketTarget
from offhook.model.audio import L16_24K, PCMA_8K, PCMU_8K

PROFILE = BridgeProfile(
    provider="openai",
    input_formats=(PCMU_8K, PCMA_8K, L16_24K),
    output_formats=(PCMU_8K, PCMA_8K, L16_24K),
)

SESSION_MS = 60 * 60_000
NOTICE_MS = 5 * 60_000
"""A session ends after an hour; so long before that a gap in the talk is looked for."""

MAX_LOGGED = 10
"""Errors of one session told in the log."""

GREET = "Start the call now: greet the caller in one short sentence."

GO_ON = (
    "The line was interrupted for a moment. Go on where you stopped, or answer what was said last; "
    "do not repeat yourself, and do not mention the interruption."
)

_log = logging.getLogger("offhook.bridge")

_APPEND = b'{"type":"input_audio_buffer.append","audio":"'


class OpenAiCodec:
    """Implements ``ProviderCodec``."""

    audio_is_binary = False

    def __init__(
        self,
        request: BridgeRequest,
        setup: Setup,
        *,
        history: Sequence[Utterance] = (),
        calls: Mapping[str, OpenCall] | None = None,
        goes_on: bool = False,
    ) -> None:
        self._request = request
        self._setup = setup
        self._beta = setup.options.protocol == "beta"
        self._history = history
        self._goes_on = goes_on
        self._instructions = request.agent.instructions or setup.options.instructions
        detection = words.detection_of(setup)
        self._ears = OwnEars(request.input_format) if detection is None else None
        self._responses = Responses(
            bytes_per_ms=request.output_format.bytes_per_ms,
            answers_itself=bool(detection and detection["create_response"]),
            interruptible=request.agent.interruptible,
            calls=calls or {},
            say_exactly=lambda text: self._with(_exactly(text)),
        )
        self._ready = False
        self._told_expiry = False
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
        for call_id, call in self._responses.calls.items():
            out.send(words.call_item(call_id, call.name, call.arguments))
        out.bridge_event(Ready())
        if self._goes_on:
            self._responses.want(Wish(instructions=self._with(GO_ON)), out)

    # ── the caller's audio, which is the clock too ───────────────────────────────────────────────────────

    def audio(self, frame: bytes, out: CodecOutput) -> bytes | None:
        self._responses.tick(out)
        if self._responses.now_ms >= SESSION_MS - NOTICE_MS and not self._told_expiry:
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
            self._responses.speech_started(out)
        elif change == "stopped":
            self._responses.speech_stopped(out)
            out.send(b'{"type":"input_audio_buffer.commit"}')

    # ── commands ─────────────────────────────────────────────────────────────────────────────────────────

    def command(self, command: BridgeInput, out: CodecOutput) -> None:
        match command:
            case Begin():
                self._begin(out)
            case TextInput(role=role, text=text, respond=respond):
                out.send(words.message_item(role, text, beta=self._beta))
                if respond:
                    self._responses.want(Wish(), out)
            case Say(text=text):
                self._responses.want(Wish(instructions=self._with(_exactly(text))), out)
            case Digits(digits=digits):
                out.send(words.message_item("user", pressed(digits), beta=self._beta))
            case Interrupt(item=item, played_ms=played_ms):
                self._responses.interrupt(item, played_ms, out)
            case ToolResult():
                self._responses.take_result(command, out)
            case UpdateAgent(agent=agent):
                self._instructions = agent.instructions
                out.send(words.instructions_update(agent.instructions, beta=self._beta))
            case EndOfInput():
                pass
            case _:
                assert_never(command)

    def _begin(self, out: CodecOutput) -> None:
        agent = self._request.agent
        greeting = agent.greeting or self._setup.options.greeting
        if self._request.greets and agent.first_speaker == "agent":
            told = f"Start the call now. {_exactly(greeting)}" if greeting else GREET
            self._responses.want(Wish(instructions=self._with(told)), out)

    def _with(self, told: str) -> str:
        """Instructions of a response replace the session's."""
        return f"{self._instructions}\n\n{told}".strip()

    # ── what the provider says ───────────────────────────────────────────────────────────────────────────

    def receive(self, message: bytes, out: CodecOutput, *, is_text: bool) -> None:
        self._responses.server_lives()
        try:
            event = None
            if is_audio(message) or ((event := read_event(message)) is not None and ga_name(event) == AUDIO):
                self._responses.sound(read_audio(message), out)
                return
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            out.bridge_event(BridgeFault(problem=f"sent what cannot be read: {error}", verdict="retry"))
            return
        if event is not None:
            self._take(event, out)

    def _take(self, event: Event, out: CodecOutput) -> None:
        responses = self._responses
        match ga_name(event):
            case "session.updated":
                self._session_updated(event, out)
            case "error":
                self._error(event, out)
            case "response.created" if event.response is not None:
                responses.created(event.response, out)
            case "response.done" if event.response is not None:
                _report(usage_of(event.response.usage), out)
                responses.done(event.response, out)
            case "input_audio_buffer.speech_started":
                responses.speech_started(out)
            case "input_audio_buffer.speech_stopped":
                responses.speech_stopped(out)
            case "input_audio_buffer.committed":
                responses.committed(out)
            case name:
                self._take_content(name, event, out)

    def _take_content(self, name: str, event: Event, out: CodecOutput) -> None:
        item_id, responses = event.item_id or "", self._responses
        match name:
            case "response.output_item.added" if event.item is not None:
                responses.item_added(event.item.id, event.item.type, event.response_id or "")
            case "response.output_item.done" if event.item is not None and event.item.type == "function_call":
                responses.called(event, out)
            case "response.output_audio.done":
                responses.audio_done(item_id, out)
            case "response.output_audio_transcript.delta" if event.delta:
                responses.agent_words(item_id, event.delta, final=False, out=out)
            case "response.output_audio_transcript.done" if event.transcript:
                responses.agent_words(item_id, event.transcript, final=True, out=out)
            case "conversation.item.input_audio_transcription.delta" if event.delta:
                out.bridge_event(TranscriptDelta(speaker="caller", item=item_id, text=event.delta, final=False))
            case "conversation.item.input_audio_transcription.completed":
                text = event.transcript or ""
                out.bridge_event(TranscriptDelta(speaker="caller", item=item_id, text=text, final=True))
                _report(usage_of(event.usage, "transcription_"), out)
            case _:
                pass

    # ── errors and ends ──────────────────────────────────────────────────────────────────────────────────

    def _error(self, event: Event, out: CodecOutput) -> None:
        error = event.error
        fault = of_error(error)
        if not self._ready:
            out.bridge_event(BridgeFault(problem=f"refused the session: {fault.problem}", verdict="fatal"))
            return
        if error is not None:
            self._responses.refused(error)
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
        responses = self._responses
        goes_on = responses.busy if self._ready else self._goes_on
        codec = OpenAiCodec(self._request, self._setup, history=history, calls=responses.calls, goes_on=goes_on)
        codec._instructions = self._instructions
        return codec


def _report(usages: Iterable[UsageReported], out: CodecOutput) -> None:
    for usage in usages:
        out.bridge_event(usage)


def _appended(frame: bytes) -> bytes:
    return _APPEND + b2a_base64(frame, newline=False) + b'"}'


def _exactly(text: str) -> str:
    return f'Say exactly: "{text}"'
