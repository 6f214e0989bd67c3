"""Ultravox by its server websocket (docs.ultravox.ai): a codec for one call there.

A call is made by REST and joined by websocket. Audio is linear, 16 bits, both ways as binary messages without names:
what belongs together is told by the provider's states, and by the numbers of its transcripts.

Who interrupts: Ultravox itself gives up what it says when the caller speaks for ``minimum_interruption_s``, and then
has everything dropped that is buffered. Its own 90 ms would let an "mm-hm" do that, so it is raised above the length of
one; the call pauses sooner, by its own ear. Where the call cuts on its own there is nobody to tell.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, assert_never
from urllib.parse import quote, urlencode

import msgspec

from offhook.bridge.awaited_results import AwaitedResults
from offhook.bridge.codec import (
    Begin,
    BridgeFault,
    BridgeInput,
    BridgeProfile,
    BridgeRequest,
    Digits,
    EndOfInput,
    Interrupt,
    Provider,
    Ready,
    Say,
    SpeechStarted,
    SpeechStopped,
    TextInput,
    ToolResult,
    ToolSpec,
    TranscriptDelta,
    UpdateAgent,
    Utterance,
)
from offhook.bridge.endings import TEMPORARY_CLOSES, closing, problem_of
from offhook.bridge.hosted import hosted
from offhook.bridge.options import ProviderAccess, ProviderOptions, access_of, as_json, need_key, read_options
from offhook.bridge.outside import Outside
from offhook.bridge.paid_seconds import PaidSeconds
from offhook.bridge.told import from_now_on, instruction, pressed
from offhook.bridge.ultravox_messages import (
    CallStarted,
    ClearBuffer,
    Created,
    Known,
    State,
    ToolInvocation,
    Transcript,
    read_message,
)
from offhook.bridge.ultravox_speech import AgentSpeech
from offhook.bridge.wire import CodecOutput, HttpAnswer, HttpRequest, ProviderCodec, WebsocketTarget
from offhook.model.audio import L16_8K, L16_16K
from offhook.model.errors import BridgeError, Verdict
from offhook.model.records import Agent

NAME = "ultravox"

VENDOR_URL = "https://api.ultravox.ai"
KEY_VARIABLE = "ULTRAVOX_API_KEY"

DEFAULT_MODEL = "ultravox-v0.7"

BUFFER_MS = 30_000
"""How much audio it sends ahead: more than a sentence, so that the network is never heard."""

LONGEST_S, SHORTEST_S = 3600, 10
"""Of a call, there."""

TOOL_LONGEST_S = 40
"""It waits no longer for a tool's result, and says nothing meanwhile."""

INTERRUPTION_S = 0.48
"""Longer than most backchannels, shorter than "wait, stop"; a multiple of its frames of 32 ms. What was given up for a
longer "mm-hm" is here already, and goes on when the call judges so."""

PROFILE = BridgeProfile(
    provider=NAME,
    input_formats=(L16_8K, L16_16K),
    output_formats=(L16_8K, L16_16K),
    exact_say=True,
    greets_on_open=True,
    cannot={
        "truncation": "it reckons itself how much was heard; no message tells it",
    },
)

_DATA_MESSAGES = ("callStarted", "state", "transcript", "userStartedSpeaking", "userStoppedSpeaking")


class VadOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``vadSettings``; None leaves it to Ultravox."""

    turn_endpoint_delay_s: float | None = None
    minimum_turn_s: float | None = None
    minimum_interruption_s: float = INTERRUPTION_S
    activation_threshold: float | None = None


class UltravoxOptions(ProviderOptions, frozen=True):
    """An agent's ``options``. ``agent_id``: an agent made at Ultravox, whose prompt, voice, model and tools then count;
    ``template_context`` fills its templates. ``selected_tools``: Ultravox' own, by name. ``prior_call_id``: its history
    goes on.
    """

    agent_id: str = ""
    template_context: dict[str, Any] = msgspec.field(default_factory=dict)
    temperature: float | None = None
    max_duration_s: int | None = None
    recording: bool | None = None
    metadata: dict[str, str] = msgspec.field(default_factory=dict)
    selected_tools: tuple[str, ...] = ()
    prior_call_id: str = ""
    vad_settings: VadOptions = VadOptions()


def provider(outside: Outside) -> Provider:
    """Registered as ``ultravox``."""

    def settle(agent: Agent) -> tuple[UltravoxOptions, ProviderAccess]:
        options = read_options(agent, UltravoxOptions)
        access = access_of(agent, options, outside.access(NAME), vendor_url=VENDOR_URL)
        need_key(access, KEY_VARIABLE)
        return options, access

    return hosted(outside, PROFILE, settle, UltravoxCodec)


# ── the codec ────────────────────────────────────────────────────────────────────────────────────────────────


class UltravoxCodec:
    """Implements ``ProviderCodec``. ``prior_call``: the call there whose talk goes on here, with what was said last."""

    audio_is_binary = True

    def __init__(
        self,
        request: BridgeRequest,
        options: UltravoxOptions,
        access: ProviderAccess,
        *,
        prior_call: str = "",
        history: Sequence[Utterance] = (),
    ) -> None:
        self._request, self._options, self._access = request, options, access
        self._prior_call = prior_call
        self._history = history
        self._call_id = ""
        self._join_url = ""
        self._ready = False
        self._paid = PaidSeconds()
        self._speech = AgentSpeech()
        self._results = AwaitedResults()

    @property
    def profile(self) -> BridgeProfile:
        return PROFILE

    # ── the way there ────────────────────────────────────────────────────────────────────────────────────

    def preparation(self) -> HttpRequest | None:
        """The call is created, for which Ultravox takes its time."""
        prior_call = self._prior_call or self._options.prior_call_id
        url = self._access.base_url + "/api"
        if prior_call:
            url += "/calls?" + urlencode({"priorCallId": prior_call})
        elif self._options.agent_id:
            url += f"/agents/{quote(self._options.agent_id, safe='')}/calls"
        else:
            url += "/calls"
        headers = (
            ("X-API-Key", self._access.api_key),
            ("Content-Type", "application/json"),
            *self._options.headers.items(),
        )
        renewed = bool(self._history)
        body = msgspec.json.encode(_call_to_create(self._request, self._options, renewed=renewed))
        return HttpRequest(method="POST", url=url, headers=headers, body=body)

    def prepared(self, answer: HttpAnswer) -> None:
        if not 200 <= answer.status < 300:
            fault = self.refused(answer.status, answer.body)
            raise BridgeError(NAME, fault.problem, fault.verdict)
        try:
            created = msgspec.json.decode(answer.body, type=Created)
        except (msgspec.DecodeError, UnicodeError):
            raise BridgeError(NAME, "made a call that cannot be joined", "fall_over") from None
        if not created.join_url.startswith(("wss://", "ws://")):
            raise BridgeError(NAME, "made a call that cannot be joined", "fall_over")
        self._join_url, self._call_id = created.join_url, created.call_id

    def target(self) -> WebsocketTarget:
        separator = "&" if "?" in self._join_url else "?"
        return WebsocketTarget(url=f"{self._join_url}{separator}apiVersion=1")

    def opened(self, out: CodecOutput) -> None:
        pass  # it begins by itself

    # ── from the call ────────────────────────────────────────────────────────────────────────────────────

    def audio(self, frame: bytes, out: CodecOutput) -> bytes | None:
        self._paid.pass_frame(out)
        return frame

    def command(self, command: BridgeInput, out: CodecOutput) -> None:
        match command:
            case TextInput(role=role, text=text, respond=respond):
                _write(instruction(text) if role == "system" else text, out, urgency="soon" if respond else "later")
            case Say(text=text, exact=True):
                message = {"type": "forced_agent_message", "content": text, "urgency": "soon"}
                out.send(msgspec.json.encode(message))
            case Say(text=text):
                _write(instruction(f"Say this to the caller: {text}"), out, urgency="soon")
            case Digits(digits=digits):
                _write(pressed(digits), out, urgency="later")
            case Interrupt(item=item):
                self._speech.cut(item)
            case ToolResult():
                self._answer(command, out)
            case UpdateAgent(agent=agent):
                _write(instruction(from_now_on(agent.instructions)), out, urgency="later")
            case Begin() | EndOfInput():
                pass  # its greeting comes by itself, and it hears the caller's silence
            case _:
                assert_never(command)

    def _answer(self, result: ToolResult, out: CodecOutput) -> None:
        """The talk stands still until it comes."""
        if not self._results.take(result.tool_call_id):
            return
        answer = {"type": "client_tool_result", "invocationId": result.tool_call_id, "responseType": "tool-response"}
        if result.is_error:
            answer |= {"errorType": "implementation-error", "errorMessage": result.output}
        else:
            answer["result"] = result.output
        out.send(msgspec.json.encode(answer))

    # ── from the provider ────────────────────────────────────────────────────────────────────────────────

    def receive(self, message: bytes, out: CodecOutput, *, is_text: bool) -> None:
        if not is_text:
            self._begin(out)
            self._speech.sound(message, out)
            return
        try:
            known = read_message(message)
        except ValueError as error:
            out.bridge_event(BridgeFault(problem=str(error), verdict="retry"))
            return
        self._begin(out)
        if known is not None:
            self._take(known, out)

    def _take(self, message: Known | Literal["caller_started", "caller_stopped"], out: CodecOutput) -> None:
        match message:
            case State(state=state):
                self._speech.state(state, out)
            case Transcript(role="agent"):
                self._speech.words(message, out)
            case Transcript(role="user"):
                _tell_caller(message, out)
            case ToolInvocation():
                self._invoke(message, out)
            case ClearBuffer():
                self._speech.clear(out)
            case "caller_started":
                out.bridge_event(SpeechStarted())
            case "caller_stopped":
                out.bridge_event(SpeechStopped())
            case CallStarted() | Transcript():
                pass
            case _:
                assert_never(message)

    def _begin(self, out: CodecOutput) -> None:
        """Whatever it says first, it listens."""
        if self._ready:
            return
        self._ready = True
        out.bridge_event(Ready())
        if self._options.agent_id and self._request.agent.instructions and not self._prior_call:
            _write(instruction(self._request.agent.instructions), out, urgency="later")
        if self._history and self._history[-1].speaker == "caller":
            asked = f"The connection broke for a moment. The caller said last: {self._history[-1].text}"
            _write(instruction(asked), out, urgency="soon")

    def _invoke(self, call: ToolInvocation, out: CodecOutput) -> None:
        if call.invocation_id not in self._results:
            self._speech.finish(out)
            self._results.call(call.invocation_id, call.tool_name, bytes(call.parameters), out)

    # ── the end ──────────────────────────────────────────────────────────────────────────────────────────

    def refused(self, status: int, body: bytes) -> BridgeFault:
        meanings = {
            401: f"does not know the key ({KEY_VARIABLE})",
            402: "is not paid for",
            403: f"does not let this key in ({KEY_VARIABLE})",
            404: "has no such agent or call",
            429: "takes no more calls at once",
        }
        verdict: Verdict = "retry" if status >= 500 or status == 429 else "fall_over"
        return BridgeFault(problem=problem_of(status, body, meanings), verdict=verdict)

    def closed(self, code: int, reason: str) -> BridgeFault | None:
        if code == 1000 and self._ready:
            return None
        if code == 1000:
            return BridgeFault(problem="ended the call before it began", verdict="fall_over")
        verdict: Verdict = "retry" if code in TEMPORARY_CLOSES else "fall_over"
        return BridgeFault(problem=closing(code, reason), verdict=verdict)

    def renewed(self, history: Sequence[Utterance]) -> ProviderCodec:
        """Another call that knows this one's talk."""
        return UltravoxCodec(
            self._request,
            self._options,
            self._access,
            prior_call=self._call_id if self._ready else self._prior_call,
            history=history,
        )


def _tell_caller(words: Transcript, out: CodecOutput) -> None:
    """Only whole texts come of the caller; those that were written are ours."""
    if words.final and words.text and words.medium == "voice":
        item = f"caller-{words.ordinal}"
        out.bridge_event(TranscriptDelta(speaker="caller", item=item, text=words.text.strip(), final=True))


# ── what we say ──────────────────────────────────────────────────────────────────────────────────────────────


def _write(text: str, out: CodecOutput, *, urgency: Literal["soon", "later"]) -> None:
    out.send(msgspec.json.encode({"type": "user_text_message", "text": text, "urgency": urgency}))


def _call_to_create(request: BridgeRequest, options: UltravoxOptions, *, renewed: bool) -> dict[str, Any]:
    """The body of ``POST /api/calls``, or, of an agent made at Ultravox, of ``POST /api/agents/{id}/calls``.

    A call that goes on after another has its agent's conduct from there.
    """
    limit_s = options.max_duration_s or request.agent.max_call_s or LONGEST_S
    call: dict[str, Any] = {
        "medium": {
            "serverWebSocket": {
                "inputSampleRate": request.input_format.sample_rate_hz,
                "outputSampleRate": request.output_format.sample_rate_hz,
                "clientBufferSizeMs": BUFFER_MS,
                "dataMessages": dict.fromkeys(_DATA_MESSAGES, True),
            }
        },
        "maxDuration": f"{max(SHORTEST_S, min(limit_s, LONGEST_S))}s",
        "metadata": {"offhook_call_id": request.call_id, **options.metadata},
        "firstSpeakerSettings": _first_speaker(request, renewed=renewed),
    }
    if options.recording is not None:
        call["recordingEnabled"] = options.recording
    if options.agent_id:
        return call | ({"templateContext": options.template_context} if options.template_context else {})
    return call | _conduct(request, options)


def _conduct(request: BridgeRequest, options: UltravoxOptions) -> dict[str, Any]:
    conduct: dict[str, Any] = {
        "model": options.model or DEFAULT_MODEL,
        "systemPrompt": request.agent.instructions,
        "selectedTools": [*({"toolName": name} for name in options.selected_tools), *map(_tool, request.tools)],
        "vadSettings": _vad_settings(options.vad_settings),
    }
    if request.agent.voice:
        conduct["voice"] = request.agent.voice
    if request.agent.language:
        conduct["languageHint"] = request.agent.language
    if options.temperature is not None:
        conduct["temperature"] = options.temperature
    return conduct


def _first_speaker(request: BridgeRequest, *, renewed: bool) -> dict[str, Any]:
    agent = request.agent
    if renewed or not request.greets or agent.first_speaker == "caller":
        return {"user": {}}
    greeting: dict[str, Any] = {"uninterruptible": not agent.interruptible}
    if agent.greeting:
        greeting["text"] = agent.greeting
    return {"agent": greeting}


def _vad_settings(vad: VadOptions) -> dict[str, Any]:
    lengths = {
        "turnEndpointDelay": vad.turn_endpoint_delay_s,
        "minimumTurnDuration": vad.minimum_turn_s,
        "minimumInterruptionDuration": vad.minimum_interruption_s,
    }
    settings: dict[str, Any] = {name: f"{value:g}s" for name, value in lengths.items() if value is not None}
    if vad.activation_threshold is not None:
        settings["frameActivationThreshold"] = vad.activation_threshold
    return settings


def _tool(tool: ToolSpec) -> dict[str, Any]:
    """A client tool of this call alone: its result comes from us. One second more than we take ourselves."""
    schema: Mapping[str, Any] = as_json(tool.parameters)
    required = schema.get("required", ())
    parameters = [
        {"name": name, "location": "PARAMETER_LOCATION_BODY", "schema": part, "required": name in required}
        for name, part in schema.get("properties", {}).items()
    ]
    return {
        "temporaryTool": {
            "modelToolName": tool.name,
            "description": tool.description,
            "timeout": f"{min(math.ceil(tool.timeout_s) + 1, TOOL_LONGEST_S)}s",
            "dynamicParameters": parameters,
            "client": {},
        }
    }
