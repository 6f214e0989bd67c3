"""Gemini Live as a codec. Source: https://ai.google.dev/api/live and https://ai.google.dev/gemini-api/docs/live-api.

Interruption: the call decides, see ``caller_audio``; a user's ``barge_in`` "provider" leaves it to Gemini's own
detection, "never" lets nothing interrupt. What Gemini sent stays in its context, heard or not: it cannot be truncated.

A session lives ten minutes (``goAway``), the conversation longer: the next websocket resumes it by the last handle, and
where that is refused, a fresh one is told what was said.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from typing import Any, assert_never

from offhook.audio.resample import Resampler
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
    ToolCall,
    ToolCallCancelled,
    ToolResult,
    ToolSpec,
    UpdateAgent,
    Utterance,
)
from offhook.bridge.endings import closing, problem_of
from offhook.bridge.gemini_live import asking, wire
from offhook.bridge.gemini_live.caller_audio import CallerAudio
from offhook.bridge.gemini_live.options import SessionOptions, generation_config, realtime_input_config
from offhook.bridge.gemini_live.replies import Replies
from offhook.bridge.options import as_json
from offhook.bridge.told import newest, pressed
from offhook.bridge.wire import CodecOutput, HttpAnswer, HttpRequest, ProviderCodec, WebsocketTarget
from offhook.model.audio import FRAME_MS, L16_16K, L16_24K
from offhook.model.errors import Verdict

PROFILE = BridgeProfile(
    provider="gemini",
    input_formats=(L16_16K,),
    output_formats=(L16_24K,),
    exact_say=False,
    speech_events=False,
    hears_over_itself=False,
    cannot={"truncation": "Gemini keeps all it sent in its context, heard or not"},
)

NUDGE_FRAMES = 1000 // FRAME_MS
"""Some models begin no answer to text before they were given real-time input."""

ANSWER_FRAMES = 4000 // FRAME_MS
"""What it was asked in text, greeting included, is answered within two seconds, or not at all."""

THOUGHT_FRAMES = 12_000 // FRAME_MS
"""The same, of models that think first."""

STALL_FRAMES = 2000 // FRAME_MS
"""Of silence in the middle of an answer, which comes faster than it is played."""

MAX_NOTES = 32
MAX_LATER = 32
"""What is written to the model while it speaks, and may wait until it has finished."""

MAX_OPEN_CALLS = 64
RATES_HZ = range(8000, 48001)
"""What a sample rate of audio can be; resampling others takes memory without end."""

RESUMED_REFUSED = (1007, 1008)
"""Close codes that answer a handle nobody knows any more, and settings nobody knows."""


class GeminiCodec:
    """Implements ``ProviderCodec``."""

    audio_is_binary = False

    def __init__(self, request: BridgeRequest, session: SessionOptions) -> None:
        self._request = request
        self._session = session
        self._agent = request.agent
        holds = session.options.barge_in == "judged"
        self._profile = replace(PROFILE, hears_over_itself=not holds)
        self._caller = CallerAudio(holds=holds)
        self._replies = Replies()
        self._numbers = count(1)
        self._history: Sequence[Utterance] | None = None
        self._notes: deque[str] = deque(maxlen=MAX_NOTES)
        self._later: deque[str] = deque(maxlen=MAX_LATER)
        self._calls: dict[str, tuple[str, bool]] = {}
        self._forgotten_calls: dict[str, str] = {}
        self._handle: str | None = None
        self._resumes = False
        self._ready = False
        self._faulted = False
        self._asked = ""
        self._asked_at = 0
        self._heard_from_at = 0
        self._resampler: tuple[int, Resampler] | None = None

    @property
    def profile(self) -> BridgeProfile:
        return self._profile

    # ── the connection ───────────────────────────────────────────────────────────────────────────────────

    def preparation(self) -> HttpRequest | None:
        return None

    def prepared(self, answer: HttpAnswer) -> None:
        pass

    def target(self) -> WebsocketTarget:
        """No pings: the server answers them half a minute late."""
        return WebsocketTarget(url=self._session.url, headers=self._session.headers, ping_s=None)

    def opened(self, out: CodecOutput) -> None:
        self._replies.lost(out)
        if self._history is None:
            self._history = newest(self._request.history())
        out.send(wire.encoded({"setup": self._setup()}))

    def refused(self, status: int, body: bytes) -> BridgeFault:
        return BridgeFault(problem=problem_of(status, body), verdict=_refusal(status))

    def closed(self, code: int, reason: str) -> BridgeFault | None:
        """Gemini's agents do not hang up: it is always a fault."""
        return BridgeFault(problem=closing(code, reason), verdict=self._close_verdict(code, reason))

    def renewed(self, history: Sequence[Utterance]) -> ProviderCodec:
        """Resumes by the last handle, unless that was just refused; then all that was said is told anew."""
        new = GeminiCodec(self._request, self._session)
        new._agent = self._agent
        new._caller = self._caller
        new._replies = self._replies
        new._numbers = self._numbers
        new._notes = self._notes
        new._later = self._later
        new._history = newest(history)
        new._asked = asking.GO_ON if self._replies.responding and not self._calls else self._asked
        refused = self._resumes and not self._ready
        new._handle = None if refused else self._handle
        new._resumes = new._handle is not None
        if new._resumes:
            new._calls, new._forgotten_calls = self._calls, self._forgotten_calls
        else:
            new._forgotten_calls = self._forgotten_calls | {key: name for key, (name, _) in self._calls.items()}
        return new

    def _close_verdict(self, code: int, reason: str) -> Verdict:
        if "RESOURCE_EXHAUSTED" in reason or "quota" in reason.lower() or "429" in reason:
            return "retry"
        if code not in RESUMED_REFUSED:
            return "retry"
        return "retry" if self._resumes else "fatal"

    # ── who we are ───────────────────────────────────────────────────────────────────────────────────────

    def _setup(self) -> dict[str, Any]:
        options = self._session.options
        setup: dict[str, Any] = {
            "model": self._session.model,
            "generationConfig": generation_config(self._session, self._agent.language),
            "realtimeInputConfig": realtime_input_config(options),
            "inputAudioTranscription": {},
            "outputAudioTranscription": {},
        }
        instructions = asking.instructions(self._agent, self._notes)
        if instructions:
            setup["systemInstruction"] = wire.user_turn(instructions)
        if self._request.tools:
            setup["tools"] = [{"functionDeclarations": [self._declared(tool) for tool in self._request.tools]}]
        if options.session_resumption:
            setup["sessionResumption"] = {"handle": self._handle} if self._handle else {}
        if options.context_compression:
            setup["contextWindowCompression"] = {"slidingWindow": {}}
        if options.proactive_audio is not None:
            setup["proactivity"] = {"proactiveAudio": options.proactive_audio}
        if self._tells_history:
            setup["historyConfig"] = {"initialHistoryInClientContent": True}
        return setup

    @property
    def _tells_history(self) -> bool:
        return bool(self._history) and not self._resumes

    def _declared(self, tool: ToolSpec) -> dict[str, Any]:
        """JSON Schema as it is: ``parameters`` would want the vendor's own dialect."""
        schema = as_json(tool.parameters)
        declared: dict[str, Any] = {
            "name": tool.name,
            "description": tool.description,
            "behavior": "BLOCKING" if self._session.blocking_tools else "NON_BLOCKING",
        }
        if isinstance(schema, dict) and schema:
            declared["parametersJsonSchema"] = {key: value for key, value in schema.items() if key != "$schema"}
        return declared

    # ── the caller ───────────────────────────────────────────────────────────────────────────────────────

    def audio(self, frame: bytes, out: CodecOutput) -> bytes | None:
        for message in self._caller.due():
            out.send(message)
        message = self._caller.pass_on(frame)
        if self._asked or self._replies.responding:
            self._watch(out)
        return message

    def _watch(self, out: CodecOutput) -> None:
        """An answer is due, or coming."""
        now = self._caller.frames
        if self._asked:
            waited = now - self._asked_at
            if waited == NUDGE_FRAMES:
                out.send(wire.realtime_text(" "))
            elif waited > (THOUGHT_FRAMES if self._session.thinks_long else ANSWER_FRAMES):
                self._fault("did not answer what it was asked", out)
        elif min(now - self._heard_from_at, self._caller.silent_frames) > STALL_FRAMES:
            self._fault("fell silent in the middle of an answer", out)

    def _fault(self, problem: str, out: CodecOutput) -> None:
        if not self._faulted:
            self._faulted = True
            out.bridge_event(BridgeFault(problem=problem, verdict="retry"))

    # ── commands ─────────────────────────────────────────────────────────────────────────────────────────

    def command(self, command: BridgeInput, out: CodecOutput) -> None:
        match command:
            case Begin():
                if self._request.greets and self._agent.first_speaker == "agent":
                    self._ask(asking.greeting(self._agent), out)
            case TextInput():
                self._write(command, out)
            case Say(text=text, exact=exact):
                self._ask(asking.saying(text, exact=exact), out)
            case Digits(digits=digits):
                self._add(pressed(digits), out)
            case Interrupt(item=item):
                self._interrupt(item, out)
            case ToolResult():
                self._tool_result(command, out)
            case UpdateAgent(agent=agent):
                self._agent = agent
                self._tell_instructions(out)
            case EndOfInput():
                out.send(wire.AUDIO_STREAM_END)
            case _:
                assert_never(command)

    def _write(self, command: TextInput, out: CodecOutput) -> None:
        match command:
            case TextInput(role="system", respond=True):
                self._ask(asking.note(command.text), out)
            case TextInput(role="system") if self._session.newest:
                self._notes.append(command.text)
                self._tell_instructions(out)
            case TextInput(role="system"):
                self._add(asking.note(command.text), out)
            case TextInput(respond=True):
                self._ask(command.text, out)
            case TextInput():
                self._add(command.text, out)

    def _tell_instructions(self, out: CodecOutput) -> None:
        """``contextUpdate`` replaces the instruction, and interrupts nothing; older models do not know it."""
        instructions = asking.instructions(self._agent, self._notes)
        if self._session.newest:
            out.send(wire.context_update(instructions))
        else:
            self._add(asking.note(instructions), out)

    def _ask(self, text: str, out: CodecOutput) -> None:
        """A turn of the user's that is answered; the model stops what it is saying."""
        self._asked, self._asked_at = text, self._caller.frames
        turns = [wire.user_turn(one) for one in (*self._later, text)]
        self._later.clear()
        out.send(wire.client_content(turns, complete=True))

    def _add(self, text: str, out: CodecOutput) -> None:
        """To the context, unanswered. It would stop the model: it waits until the model has finished."""
        self._later.append(text)
        self._add_what_waited(out)

    def _add_what_waited(self, out: CodecOutput) -> None:
        if self._later and not self._replies.turn_open and not self._asked:
            turns = [wire.user_turn(text) for text in self._later]
            self._later.clear()
            out.send(wire.client_content(turns, complete=False))

    def _interrupt(self, item: str, out: CodecOutput) -> None:
        """The model finds out by the caller's voice, which it has not heard so far."""
        self._replies.cut(item, self._caller.frames)
        self._caller.agent_stopped()
        for message in self._caller.release():
            out.send(message)

    def _tool_result(self, result: ToolResult, out: CodecOutput) -> None:
        lost = self._forgotten_calls.pop(result.tool_call_id, None)
        if lost is not None:
            self._ask(asking.result_told_later(lost, result), out)
            return
        call = self._calls.pop(result.tool_call_id, None)
        if call is None:
            return  # taken back meanwhile, or never called
        name, named_by_server = call
        response: dict[str, Any] = {
            "name": name,
            "response": {"error" if result.is_error else "output": result.output or asking.NO_OUTPUT},
        }
        if named_by_server:
            response["id"] = result.tool_call_id
        if not self._session.blocking_tools:
            response["scheduling"] = "WHEN_IDLE"
        out.send(wire.tool_response(response))

    # ── what Gemini says ─────────────────────────────────────────────────────────────────────────────────

    def receive(self, message: bytes, out: CodecOutput, *, is_text: bool) -> None:
        """JSON, in text and in binary frames alike."""
        try:
            said = wire.read_message(message)
        except ValueError as error:
            self._fault(f"sent what cannot be read: {str(error)[:200]}", out)
            return
        self._heard_from_at = self._caller.frames
        if wire.is_there(said.setup_complete):
            self._set_up(out)
        if said.server_content is not None:
            self._content(said.server_content, out)
        self._rarely(said, out)

    def _set_up(self, out: CodecOutput) -> None:
        if self._ready:
            return
        self._ready = True
        if self._tells_history:
            turns = [wire.history_turn(utterance) for utterance in self._history or ()]
            out.send(wire.client_content(turns, complete=True))
        self._history = ()
        out.bridge_event(Ready())
        if self._asked:
            self._ask(self._asked, out)

    def _content(self, content: wire.ServerContent, out: CodecOutput) -> None:
        if content.input_transcription is not None:
            quietly = self._caller.agent_audible or self._replies.responding
            self._replies.caller_words(content.input_transcription.text or "", out, quietly=quietly)
            if content.input_transcription.finished and not quietly:
                self._replies.end_caller(out)
        if content.interrupted:
            self._replies.interrupted(self._caller.frames, out)
            self._caller.agent_stopped()
        if content.model_turn is not None:
            for part in content.model_turn.parts or ():
                if part.inline_data is not None:
                    self._audio(part.inline_data, out)
        if content.output_transcription is not None:
            self._replies.agent_words(content.output_transcription.text or "", out)
        if content.generation_complete:
            self._replies.generated(out)
        if content.turn_complete:
            self._replies.turn_complete(out)
            self._add_what_waited(out)

    def _audio(self, audio: wire.InlineData, out: CodecOutput) -> None:
        l16 = self._in_our_format(audio)
        if not l16:
            return
        self._asked = ""
        item = self._replies.audio_item(self._caller.frames, out)
        if item is not None:
            self._caller.agent_spoke(len(l16))
            out.audio_out(item, l16)

    def _in_our_format(self, audio: wire.InlineData) -> bytes:
        rate_hz = wire.audio_rate_hz(audio.mime_type)
        if rate_hz == L16_24K.sample_rate_hz:
            return audio.data
        if rate_hz is None or rate_hz not in RATES_HZ:
            return b""
        if self._resampler is None or self._resampler[0] != rate_hz:
            self._resampler = (rate_hz, Resampler(rate_hz, L16_24K.sample_rate_hz))
        return self._resampler[1](audio.data)

    def _rarely(self, said: wire.ServerMessage, out: CodecOutput) -> None:
        calls = wire.read_tool_calls(said.tool_call)
        if calls:
            self._tool_calls(calls, out)
        for key in wire.read_cancelled(said.tool_call_cancellation):
            if self._calls.pop(key, None) is not None:
                out.bridge_event(ToolCallCancelled(tool_call_id=key))
        self._handle = wire.read_handle(said.session_resumption_update) or self._handle
        for usage in wire.read_usage(said.usage_metadata):
            out.bridge_event(usage)
        time_left_s = wire.read_time_left_s(said.go_away)
        if time_left_s is not None:
            out.bridge_event(Expiring(seconds=time_left_s))

    def _tool_calls(self, calls: Sequence[wire.FunctionCall], out: CodecOutput) -> None:
        self._asked = ""
        self._replies.begin_response(out)
        self._replies.end_item(out)
        for call in calls:
            key = call.id or f"gemini-call-{next(self._numbers)}"
            self._calls[key] = (call.name, bool(call.id))
            arguments = bytes(call.args).decode("utf-8", "replace")
            if arguments == "null":
                arguments = "{}"
            out.bridge_event(ToolCall(tool_call_id=key, name=call.name, arguments=arguments))
        while len(self._calls) > MAX_OPEN_CALLS:
            del self._calls[next(iter(self._calls))]
        self._replies.generated(out)


def _refusal(status: int) -> Verdict:
    if status == 429 or status >= 500 or status < 400:
        return "retry"
    return "fatal"
