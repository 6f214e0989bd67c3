"""Deepgram's Voice Agent: it listens, thinks and speaks behind one websocket; audio both ways is raw and binary.

developers.deepgram.com/docs/voice-agent. What it does not do, and what is done about it:

- It names no utterances. An *item* begins with ``ConversationText`` (assistant), ``AgentStartedSpeaking`` or audio when
  none is open, and ends with ``AgentAudioDone``. Sound that comes after an interruption belongs to the old item until
  the next one begins, for a while even after ``Interrupted``: the call may judge that the agent goes on.
- It takes no truncation: when it hears the caller, it guesses itself what was heard. ``Interrupt`` is nothing to it.
- It tells when the caller begins to speak (``UserStartedSpeaking``), not when he ends: his words say so.
- It has no context without a turn but its prompt: what is told to the agent is added to the prompt, which is sent whole
  (third parties disagree whether ``UpdatePrompt`` replaces or appends: whole, it is right in both cases).
- It sometimes hears somebody begin and then says nothing (deepgram discussions 1624): after eight seconds of silence it
  is told that the turn is over, and when that happens again there is another session.

"mm-hm": Deepgram decides itself that a caller interrupts, and nothing in its protocol forbids it; what it sent before
may go on playing.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import assert_never
from urllib.parse import urlsplit

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
    Provider,
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
from offhook.bridge.deepgram_messages import (
    CancelledFunction,
    ConversationText,
    Problem,
    RequestedFunction,
    conversation_text,
    function_call_cancelled,
    function_call_request,
    kind_of,
    read_problem,
    verdict_of_close,
    verdict_of_status,
)
from offhook.bridge.deepgram_settings import (
    DeepgramOptions,
    PromptNotes,
    check_options,
    greeting_of,
    instructions_of,
    plain,
    settings,
    speak,
    think,
)
from offhook.bridge.deepgram_watch import Lapse, ServerWatch
from offhook.bridge.deepgram_written import WrittenTexts
from offhook.bridge.endings import closing, problem_of
from offhook.bridge.hosted import hosted
from offhook.bridge.options import ProviderAccess, access_of, need_key, read_options
from offhook.bridge.outside import Outside
from offhook.bridge.told import wrote
from offhook.bridge.wire import CodecOutput, HttpAnswer, HttpRequest, WebsocketTarget, websocket_scheme
from offhook.model.audio import FRAME_MS, L16_16K, PCMA_8K, PCMU_8K
from offhook.model.errors import ConfigError, Verdict
from offhook.model.records import Agent

VENDOR_URL = "wss://agent.deepgram.com"
PATH = "/v1/agent/converse"
KEY_VARIABLE = "DEEPGRAM_API_KEY"

SESSION_FRAMES = 110 * 60 * 1000 // FRAME_MS
"""A session ends after two hours; ten minutes before, another one may begin at a quiet moment."""
NOTICE_S = 540.0

MAX_STALLS = 2
"""Beginnings without words, in a row: then the session is given up. One of them may be a cough."""

WORDS_LOST = "it hears the caller and does not understand a word"
ANSWER_LOST = "no answer came to what the caller said"

LINGER_FRAMES = 500 // FRAME_MS
"""After an interruption audio of the old item may still be under way so long."""

SILENT_FRAMES = 10_000 // FRAME_MS
"""An item of which nothing more comes for so long is over, though ``AgentAudioDone`` was lost."""

MAX_OPEN_CALLS = 64
"""A model calls a few at once; one that calls without end is not listened to."""

MAX_CHARACTERS = 20_000
"""Of one utterance: twenty minutes of speech. What comes after is not written down."""

MAX_WARNINGS = 10
"""Of the server's, logged in one session."""

GREET = "[The caller has just come on the line. Greet him in a short sentence and wait.]"

PROFILE = BridgeProfile(
    provider="deepgram",
    input_formats=(PCMU_8K, PCMA_8K, L16_16K),
    output_formats=(PCMU_8K, PCMA_8K, L16_16K),
    exact_say=True,
    greets_on_open=True,
    cannot={"truncation": "the server guesses what was heard; no message tells it"},
)

_log = logging.getLogger("offhook.bridge")


@dataclass(slots=True)
class _Item:
    """One utterance of the agent. ``given_up``: by the server; ``cut``: by the call, so that nobody will hear it."""

    name: str
    text: str = ""
    given_up: bool = False
    cut: bool = False


# ── the codec ────────────────────────────────────────────────────────────────────────────────────────────


class DeepgramAgentCodec:
    """Implements ``ProviderCodec``. ``generation`` counts the sessions of one call."""

    audio_is_binary = True

    def __init__(
        self, request: BridgeRequest, options: DeepgramOptions, access: ProviderAccess, *, generation: int = 1
    ) -> None:
        self._request = request
        self._agent = request.agent
        self._options = options
        self._access = access
        self._generation = generation
        self._history: Sequence[Utterance] | None = None
        self._notes = PromptNotes()
        self._introduced = self._ready = False
        self._watch = ServerWatch(request.input_format.encoding)
        self._stalls = 0
        self._speaking = False
        self._written = WrittenTexts()
        self._items = 0
        self._item: _Item | None = None
        self._muted = False
        """The caller interrupted; sound that still comes, before new words do, is old."""
        self._calls: OrderedDict[str, RequestedFunction] = OrderedDict()
        self._warnings = 0
        self._frames = 0
        self._paid_frames = 0
        self._item_due = 0

    @property
    def profile(self) -> BridgeProfile:
        return PROFILE

    # ── opening ──────────────────────────────────────────────────────────────────────────────────────────

    def preparation(self) -> HttpRequest | None:
        return None

    def prepared(self, answer: HttpAnswer) -> None:
        """Nothing was asked."""

    def target(self) -> WebsocketTarget:
        url = websocket_scheme(self._access.base_url)
        if not urlsplit(url).path:
            url += PATH
        headers = {"Authorization": f"Token {self._access.api_key}", **self._options.headers}
        return WebsocketTarget(url=url, headers=tuple(headers.items()))

    def opened(self, out: CodecOutput) -> None:
        """The server speaks first: ``Welcome``."""

    def _introduce(self, out: CodecOutput) -> None:
        if self._introduced:
            return
        self._introduced = True
        history = self._said_before()
        message = settings(
            self._agent,
            self._options,
            formats=(self._request.input_format, self._request.output_format),
            think=think(self._options, self._prompt(), self._request.tools),
            greeting=greeting_of(self._agent, self._options) if self._greets else "",
            history=history[:-1] if self._owes_answer else history,
        )
        out.send(message)

    def _said_before(self) -> Sequence[Utterance]:
        if self._history is None:
            self._history = list(self._request.history())
        return self._history

    @property
    def _greets(self) -> bool:
        return self._request.greets and self._agent.first_speaker == "agent" and not self._said_before()

    @property
    def _owes_answer(self) -> bool:
        """The last session ended when it was the agent's turn."""
        history = self._said_before()
        return self._generation > 1 and bool(history) and history[-1].speaker == "caller"

    def _begin(self, out: CodecOutput) -> None:
        if self._ready:
            return
        self._ready = True
        out.bridge_event(Ready())
        if self._owes_answer:
            self._write(self._said_before()[-1].text, out)
        elif self._greets and not greeting_of(self._agent, self._options):
            self._write(GREET, out)

    # ── the caller's voice, which is the clock ───────────────────────────────────────────────────────────

    def audio(self, frame: bytes, out: CodecOutput) -> bytes | None:
        self._frames += 1
        lapse = self._watch.feed(frame)
        if lapse:
            self._mind(lapse, out)
        if self._item_due and self._frames >= self._item_due:
            self._close_item(out)
        if self._written.is_due(self._frames):
            self._repeat(out)
        if self._frames == SESSION_FRAMES:
            out.bridge_event(Expiring(seconds=NOTICE_S))
        return frame

    def _mind(self, lapse: Lapse, out: CodecOutput) -> None:
        if lapse == "no_answer":
            self._fail(ANSWER_LOST, out)
            return
        self._end_speech(out)
        self._stalls += 1
        if self._stalls >= MAX_STALLS:
            self._fail(WORDS_LOST, out)
        else:
            out.send(b'{"type":"ForceEndTurn"}')

    def _fail(self, problem: str, out: CodecOutput, verdict: Verdict = "retry") -> None:
        out.bridge_event(BridgeFault(problem=problem, verdict=verdict))

    # ── commands ─────────────────────────────────────────────────────────────────────────────────────────

    def command(self, command: BridgeInput, out: CodecOutput) -> None:
        match command:
            case TextInput():
                self._read(command, out)
            case Say(text=text):
                self._say(text, out)
            case Digits(digits=digits):
                self._note(f"The caller pressed {digits} on the keypad.", out)
            case Interrupt(item=item):
                self._cut(item)
            case ToolResult():
                self._return(command, out)
            case UpdateAgent(agent=agent):
                self._update(agent, out)
            case Begin() | EndOfInput():
                pass
            case _:
                assert_never(command)

    def _read(self, text: TextInput, out: CodecOutput) -> None:
        if text.role == "system":
            self._note(text.text, out)
        elif not text.respond:
            self._note(wrote(text.text), out)
        if text.respond:
            self._write(f"[{text.text}]" if text.role == "system" else text.text, out)

    def _write(self, text: str, out: CodecOutput, *, again: bool = False) -> None:
        """In the caller's place: the agent answers."""
        self._written.add(text, again=again)
        self._send(out, type="InjectUserMessage", content=text)
        self._watch.expect_answer()

    def _note(self, text: str, out: CodecOutput) -> None:
        self._notes.add(text)
        self._send(out, type="UpdatePrompt", prompt=self._prompt())

    def _prompt(self) -> str:
        return self._notes.merged(instructions_of(self._agent, self._options))

    def _say(self, text: str, out: CodecOutput) -> None:
        """Verbatim. What is being said is not broken off for it, but what nobody hears any more."""
        item = self._item
        if item is not None and item.cut and not item.given_up:
            self._give_up(item)
        busy = item is not None and not item.given_up
        self._send(out, type="InjectAgentMessage", message=text, behavior="queue" if busy else "interrupt")

    def _cut(self, item: str) -> None:
        if self._item is not None and self._item.name == item:
            self._item.cut = True

    def _return(self, result: ToolResult, out: CodecOutput) -> None:
        """To what was called and not taken back, and to nothing else."""
        call = self._calls.pop(result.tool_call_id, None)
        if call is None:
            return
        message = {"type": "FunctionCallResponse", "id": call.id, "name": call.name, "content": result.output}
        self._send(out, **message, thought_signature=call.thought_signature)
        if not self._calls:
            self._watch.expect_answer()

    def _update(self, agent: Agent, out: CodecOutput) -> None:
        """Voice and prompt; an agent that cannot be used changes nothing."""
        try:
            options = read_options(agent, DeepgramOptions)
            check_options(agent, options)
        except ConfigError as error:
            _log.warning("Deepgram: the agent stays as it is: %s", error)
            return
        before = speak(self._agent, self._options)
        self._agent, self._options = agent, options
        self._send(out, type="UpdatePrompt", prompt=self._prompt())
        if speak(agent, options) != before:
            self._send(out, type="UpdateSpeak", speak=speak(agent, options))

    def _send(self, out: CodecOutput, **message: object) -> None:
        out.send(msgspec.json.encode(plain(message)))

    # ── what the server says ─────────────────────────────────────────────────────────────────────────────

    def receive(self, message: bytes, out: CodecOutput, *, is_text: bool) -> None:
        if not is_text:
            self._take_audio(message, out)
            return
        try:
            self._take(kind_of(message).type, message, out)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            self._fail(f"it sent what cannot be read: {error}", out)

    def _take(self, kind: str, message: bytes, out: CodecOutput) -> None:
        match kind:
            case "ConversationText":
                self._take_text(conversation_text(message), out)
            case "UserStartedSpeaking":
                self._caller_speaks(out)
            case "AgentStartedSpeaking":
                self._open_item(out)
            case "AgentAudioDone":
                self._close_item(out)
            case "FunctionCallRequest":
                self._call(function_call_request(message).functions, out)
            case "FunctionCallCancelled":
                self._take_back(function_call_cancelled(message).functions, out)
            case _:
                self._take_state(kind, message, out)

    def _take_state(self, kind: str, message: bytes, out: CodecOutput) -> None:
        match kind:
            case "Welcome":
                self._introduce(out)
            case "SettingsApplied":
                self._begin(out)
            case "AgentThinking":
                self._watch.answered()
            case "InjectionRefused":
                self._wait_with_text()
            case "Warning":
                self._warn(read_problem(message))
            case "Error":
                self._end(read_problem(message), out)
            case _:
                pass  # new kinds come every month, History says what ConversationText says

    def _take_audio(self, audio: bytes, out: CodecOutput) -> None:
        if not audio or (self._muted and self._item is None):
            return
        item = self._item if self._item is not None else self._open_item(out)
        if not item.given_up:
            self._watch.answered()
            self._item_due = self._frames + SILENT_FRAMES
        if not item.cut:
            out.audio_out(item.name, audio)

    def _take_text(self, text: ConversationText, out: CodecOutput) -> None:
        self._stalls = 0
        if text.role == "assistant":
            self._agent_says(text.content, out)
        elif not self._written.came_back(text.content) and text.role == "user" and text.content:
            self._caller_said(text.content, out)

    def _agent_says(self, sentence: str, out: CodecOutput) -> None:
        """A sentence, before its sound."""
        self._written.answered()
        self._watch.answered()
        item = self._open_item(out)
        piece = f" {sentence}" if item.text else sentence
        if len(item.text) + len(piece) > MAX_CHARACTERS:
            return
        item.text += piece
        out.bridge_event(TranscriptDelta(speaker="agent", item=item.name, text=piece, final=False))

    def _caller_said(self, words: str, out: CodecOutput) -> None:
        """His turn is over; whatever sounds from here on is the answer."""
        self._end_speech(out)
        if self._item is not None and self._item.given_up:
            self._close_item(out)
        self._muted = False
        self._items += 1
        name = f"caller-{self._generation}-{self._items}"
        out.bridge_event(TranscriptDelta(speaker="caller", item=name, text=words, final=True))
        self._watch.expect_answer()

    def _caller_speaks(self, out: CodecOutput) -> None:
        self._watch.expect_words()
        if not self._speaking:
            self._speaking = True
            out.bridge_event(SpeechStarted())
        self._muted = True
        item = self._item
        if item is not None and not item.given_up:
            self._give_up(item)
            self._tell_whole_text(item, out)
            out.bridge_event(Interrupted(item=item.name))

    def _end_speech(self, out: CodecOutput) -> None:
        if self._speaking:
            self._speaking = False
            out.bridge_event(SpeechStopped())

    # ── the agent's utterances ───────────────────────────────────────────────────────────────────────────

    def _open_item(self, out: CodecOutput) -> _Item:
        """The one that is open, or a new one where that was given up."""
        if self._item is not None and not self._item.given_up:
            return self._item
        self._close_item(out)
        self._muted = False
        self._items += 1
        item = self._item = _Item(name=f"agent-{self._generation}-{self._items}")
        self._item_due = self._frames + SILENT_FRAMES
        out.bridge_event(ResponseStarted())
        return item

    def _give_up(self, item: _Item) -> None:
        item.given_up = self._muted = True
        self._item_due = self._frames + LINGER_FRAMES

    def _close_item(self, out: CodecOutput) -> None:
        item, self._item = self._item, None
        self._item_due = 0
        if item is None:
            return
        if not item.given_up:
            self._tell_whole_text(item, out)
        out.bridge_event(AudioDone(item=item.name))
        out.bridge_event(ResponseDone())
        self._tell_time(out)
        self._repeat(out)

    def _tell_whole_text(self, item: _Item, out: CodecOutput) -> None:
        if item.text:
            out.bridge_event(TranscriptDelta(speaker="agent", item=item.name, text=item.text, final=True))

    def _tell_time(self, out: CodecOutput) -> None:
        """Deepgram is paid by the minute, and tells nothing of it."""
        seconds = (self._frames - self._paid_frames) * FRAME_MS / 1000
        self._paid_frames = self._frames
        if seconds:
            out.bridge_event(UsageReported(units="seconds", amount=seconds))

    # ── functions ────────────────────────────────────────────────────────────────────────────────────────

    def _call(self, functions: Sequence[RequestedFunction], out: CodecOutput) -> None:
        self._watch.answered()
        for function in functions:
            if not function.client_side or len(self._calls) >= MAX_OPEN_CALLS:
                continue
            self._calls[function.id] = function
            out.bridge_event(ToolCall(tool_call_id=function.id, name=function.name, arguments=function.arguments))

    def _take_back(self, functions: Sequence[CancelledFunction], out: CodecOutput) -> None:
        for function in functions:
            if self._calls.pop(function.id, None) is not None:
                out.bridge_event(ToolCallCancelled(tool_call_id=function.id))

    # ── refusals and faults ──────────────────────────────────────────────────────────────────────────────

    def _wait_with_text(self) -> None:
        self._watch.answered()
        self._written.refused(self._frames)

    def _repeat(self, out: CodecOutput) -> None:
        if text := self._written.take_again():
            self._write(text, out, again=True)

    def _warn(self, warning: Problem) -> None:
        self._warnings += 1
        if self._warnings <= MAX_WARNINGS:
            _log.warning("Deepgram warns: %s", warning)

    def _end(self, error: Problem, out: CodecOutput) -> None:
        """Every ``Error`` ends the session. developers.deepgram.com/docs/voice-agent-errors-warnings"""
        self._fail(str(error), out, error.verdict)

    def refused(self, status: int, body: bytes) -> BridgeFault:
        return BridgeFault(problem=problem_of(status, body), verdict=verdict_of_status(status))

    def closed(self, code: int, reason: str) -> BridgeFault | None:
        """Its agent never hangs up by itself: whatever the code says, the session broke off."""
        return BridgeFault(problem=closing(code, reason), verdict=verdict_of_close(code))

    def renewed(self, history: Sequence[Utterance]) -> DeepgramAgentCodec:
        """The next one is told what was said; what the caller said last and got no answer to is asked again."""
        request = replace(self._request, agent=self._agent)
        codec = DeepgramAgentCodec(request, self._options, self._access, generation=self._generation + 1)
        codec._history = list(history)
        codec._notes.texts.extend(self._notes.texts)
        return codec


# ── registration ─────────────────────────────────────────────────────────────────────────────────────────


def provider(outside: Outside) -> Provider:
    """Registered as ``deepgram``."""

    def settle(agent: Agent) -> tuple[DeepgramOptions, ProviderAccess]:
        options = read_options(agent, DeepgramOptions)
        check_options(agent, options)
        access = access_of(agent, options, outside.access("deepgram"), vendor_url=VENDOR_URL)
        need_key(access, KEY_VARIABLE)
        return options, access

    return hosted(outside, PROFILE, settle, DeepgramAgentCodec)
