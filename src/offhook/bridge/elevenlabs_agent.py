"""ElevenLabs Agents by its websocket (elevenlabs.io/docs/eleven-agents): a codec for one conversation.

An agent is made at ElevenLabs; a conversation overrides of it only what the user configured, since each override has
to be allowed there (``offhook elevenlabs prepare`` does that). Tools are the agent's too: they are called by name.

What the provider's metadata says of formats is obeyed, whatever the agent was thought to be set to: audio is converted
here where that differs from what the call agreed on. An agent set to ``ulaw_8000`` leaves PCMU untouched.

Who interrupts: ElevenLabs decides on its own when caller speech is a turn; what it does not count as one is the agent's
``interruption_ignore_terms``, which cannot be sent with a conversation and which ``prepare`` fills with backchannels.
Where the call itself cuts an utterance there is nobody to tell: what still comes of it is dropped.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Mapping, Sequence
from typing import Any, assert_never
from urllib.parse import urlencode

import msgspec

from offhook.audio.convert import Converter, converter
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
    TextInput,
    ToolResult,
    UpdateAgent,
    Utterance,
)
from offhook.bridge.elevenlabs_messages import (
    AgentResponse,
    AgentResponseComplete,
    Audio,
    ClientToolCall,
    Error,
    ErrorDetails,
    Formats,
    Interruption,
    Known,
    Metadata,
    Ping,
    SignedUrl,
    TentativeTranscript,
    UserTranscript,
    read_message,
)
from offhook.bridge.elevenlabs_speech import AgentSpeech, CallerText
from offhook.bridge.endings import TEMPORARY_CLOSES, closing, problem_of
from offhook.bridge.hosted import hosted
from offhook.bridge.options import ProviderAccess, ProviderOptions, access_of, read_options
from offhook.bridge.outside import Outside
from offhook.bridge.paid_seconds import PaidSeconds
from offhook.bridge.told import from_now_on, instruction, pressed, wrote
from offhook.bridge.wire import (
    CodecOutput,
    Headers,
    HttpAnswer,
    HttpRequest,
    ProviderCodec,
    WebsocketTarget,
    websocket_scheme,
)
from offhook.model.audio import L16_16K, PCMU_8K, AudioFormat, Encoding
from offhook.model.errors import BridgeError, ConfigError, Verdict
from offhook.model.records import Agent

NAME = "elevenlabs"

VENDOR_URL = "https://api.elevenlabs.io"

PROFILE = BridgeProfile(
    provider=NAME,
    input_formats=(PCMU_8K, L16_16K),
    output_formats=(PCMU_8K, L16_16K),
    speech_events=False,
    greets_on_open=True,
    cannot={
        "truncation": "it reckons itself how much was heard; no message tells it",
    },
)

FORMATS: Mapping[str, AudioFormat] = {
    "ulaw_8000": PCMU_8K,
    "pcm_8000": AudioFormat(encoding=Encoding.L16, sample_rate_hz=8000),
    "pcm_16000": AudioFormat(encoding=Encoding.L16, sample_rate_hz=16000),
    "pcm_22050": AudioFormat(encoding=Encoding.L16, sample_rate_hz=22050),
    "pcm_24000": AudioFormat(encoding=Encoding.L16, sample_rate_hz=24000),
    "pcm_44100": AudioFormat(encoding=Encoding.L16, sample_rate_hz=44100),
    "pcm_48000": AudioFormat(encoding=Encoding.L16, sample_rate_hz=48000),
}
"""Its names of formats, both ways."""

MAX_HISTORY_CHARACTERS = 8000
"""Of what was said, told to a new conversation; the latest. Ten minutes of talk."""

TEMPORARY = frozenset(
    {
        "transport_receive_timeout",
        "llm_timeout",
        "asyncio_timeout",
        "redis_timeout_error",
        "http_exception",
        "unknown_websocket_crash",
    }
)
"""Types of errors after which a new conversation may do better; not so a wrong configuration, a quota, or safety."""


class ElevenlabsOptions(ProviderOptions, frozen=True):
    """An agent's ``options``. ``agent_id``: ElevenLabs' own agent. All others override what it is set to there, if they
    are given: ``model`` its language model, ``tts_model`` the model of its voice.
    """

    agent_id: str = ""
    first_message: str = ""
    system_prompt: str = ""
    tts_model: str = ""
    stability: float | None = None
    similarity_boost: float | None = None
    speed: float | None = None
    keywords: tuple[str, ...] = ()
    max_duration_s: int | None = None
    dynamic_variables: dict[str, str | int | float | bool] = msgspec.field(default_factory=dict)
    custom_llm_extra_body: dict[str, Any] = msgspec.field(default_factory=dict)
    user_id: str = ""
    branch_id: str = ""
    environment: str = ""


def provider(outside: Outside) -> Provider:
    """Registered as ``elevenlabs``. A public agent needs no key."""

    def settle(agent: Agent) -> tuple[ElevenlabsOptions, ProviderAccess]:
        options = read_options(agent, ElevenlabsOptions)
        if not options.agent_id:
            fix = "Give the agent_id of an agent made at ElevenLabs (agent_…)"
            raise ConfigError("options.agent_id", "is missing", fix)
        return options, access_of(agent, options, outside.access(NAME), vendor_url=VENDOR_URL)

    return hosted(outside, PROFILE, settle, ElevenlabsCodec)


# ── the codec ────────────────────────────────────────────────────────────────────────────────────────────────


class ElevenlabsCodec:
    """Implements ``ProviderCodec``. ``history``: what was said before this conversation, None where it is the first."""

    audio_is_binary = False

    def __init__(
        self,
        request: BridgeRequest,
        options: ElevenlabsOptions,
        access: ProviderAccess,
        *,
        history: Sequence[Utterance] | None = None,
    ) -> None:
        self._request, self._options, self._access = request, options, access
        self._history = history or ()
        self._url = websocket_scheme(access.base_url) + "/v1/convai/conversation?" + _query(options)
        self._ready = False
        self._paid = PaidSeconds()
        self._inward: Converter | None = None
        self._speech = AgentSpeech()
        self._caller = CallerText()
        self._results = AwaitedResults()

    @property
    def profile(self) -> BridgeProfile:
        return PROFILE

    # ── the way there ────────────────────────────────────────────────────────────────────────────────────

    def preparation(self) -> HttpRequest | None:
        """A private agent is reached by a signed URL, good for 15 minutes; without a key the agent is a public one."""
        if not self._access.api_key:
            return None
        url = f"{self._access.base_url}/v1/convai/conversation/get-signed-url?{_query(self._options)}"
        return HttpRequest(method="GET", url=url, headers=(("xi-api-key", self._access.api_key), *self._headers))

    def prepared(self, answer: HttpAnswer) -> None:
        if answer.status != 200:
            fault = self.refused(answer.status, answer.body)
            raise BridgeError(NAME, fault.problem, fault.verdict)
        try:
            url = msgspec.json.decode(answer.body, type=SignedUrl).signed_url
        except (msgspec.DecodeError, UnicodeError):
            url = ""
        if not url.startswith(("wss://", "ws://")):
            raise BridgeError(NAME, "gave no signed URL", "fall_over")
        self._url = url

    def target(self) -> WebsocketTarget:
        return WebsocketTarget(url=self._url, headers=self._headers)

    @property
    def _headers(self) -> Headers:
        return tuple(self._options.headers.items())

    def opened(self, out: CodecOutput) -> None:
        out.send(msgspec.json.encode(_introduction(self._request, self._options, renewed=bool(self._history))))

    # ── from the call ────────────────────────────────────────────────────────────────────────────────────

    def audio(self, frame: bytes, out: CodecOutput) -> bytes | None:
        self._speech.pass_frame(out)
        self._paid.pass_frame(out)
        if self._inward is not None:
            frame = self._inward(frame)
        return b'{"user_audio_chunk":"' + b2a_base64(frame, newline=False) + b'"}'

    def command(self, command: BridgeInput, out: CodecOutput) -> None:
        match command:
            case TextInput():
                self._write(command, out)
            case Say(text=text, exact=exact):
                how = "exactly these words to the caller, and nothing else" if exact else "this to the caller"
                self._ask(instruction(f'Say {how}: "{text}"'), out)
            case Digits(digits=digits):
                _inform(pressed(digits), out)
            case Interrupt(item=item):
                self._speech.cut(item)
            case ToolResult():
                self._answer(command, out)
            case UpdateAgent(agent=agent):
                _inform(from_now_on(agent.instructions), out)
            case Begin() | EndOfInput():
                pass  # its greeting comes by itself, and it hears the caller's silence
            case _:
                assert_never(command)

    def _write(self, text: TextInput, out: CodecOutput) -> None:
        if text.respond:
            self._ask(instruction(text.text) if text.role == "system" else text.text, out)
        else:
            _inform(text.text if text.role == "system" else wrote(text.text), out)

    def _ask(self, text: str, out: CodecOutput) -> None:
        self._speech.settle(out)
        out.send(msgspec.json.encode({"type": "user_message", "text": text}))

    def _answer(self, result: ToolResult, out: CodecOutput) -> None:
        """All four fields are needed; a result nobody waits for is an error there."""
        if not self._results.take(result.tool_call_id):
            return
        self._speech.settle(out)
        answer = {
            "type": "client_tool_result",
            "tool_call_id": result.tool_call_id,
            "result": result.output,
            "is_error": result.is_error,
        }
        out.send(msgspec.json.encode(answer))

    # ── from the provider ────────────────────────────────────────────────────────────────────────────────

    def receive(self, message: bytes, out: CodecOutput, *, is_text: bool) -> None:
        try:
            known = read_message(message)
        except ValueError as error:
            out.bridge_event(BridgeFault(problem=str(error), verdict="retry"))
            return
        if known is not None:
            self._take(known, out)

    def _take(self, message: Known, out: CodecOutput) -> None:
        match message:
            case Audio() | AgentResponse() | AgentResponseComplete() | Interruption():
                self._speech.take(message, out)
            case Ping(ping_event=ping):
                out.send(b'{"type":"pong","event_id":%d}' % ping.event_id)
            case UserTranscript(user_transcription_event=transcript):
                self._speech.settle(out)
                self._caller.final(transcript.user_transcript, out)
            case TentativeTranscript(tentative_user_transcription_event=tentative):
                self._caller.tentative(tentative.user_transcript, out)
            case ClientToolCall(client_tool_call=call):
                self._results.call(call.tool_call_id, call.tool_name, bytes(call.parameters), out)
            case Metadata(conversation_initiation_metadata_event=formats):
                self._begin(formats, out)
            case Error():
                self._fail(message, out)
            case _:
                assert_never(message)

    def _begin(self, formats: Formats, out: CodecOutput) -> None:
        if self._ready:
            return
        hears, speaks = FORMATS.get(formats.user_input_audio_format), FORMATS.get(formats.agent_output_audio_format)
        if hears is None or speaks is None:
            problem = f"uses a format unknown to offhook ({formats.user_input_audio_format}, "
            problem += f"{formats.agent_output_audio_format}): set the agent to ulaw_8000"
            out.bridge_event(BridgeFault(problem=problem, verdict="fall_over"))
            return
        self._inward = converter(self._request.input_format, hears)
        self._speech.speaks(speaks, converter(speaks, self._request.output_format))
        self._ready = True
        out.bridge_event(Ready())
        self._tell_history(out)

    def _tell_history(self, out: CodecOutput) -> None:
        """Whoever asked something last gets an answer, though the connection broke."""
        if not self._history:
            return
        _inform(_account_of(self._history), out)
        last = self._history[-1]
        if last.speaker == "caller":
            self._ask(last.text, out)

    def _fail(self, error: Error, out: CodecOutput) -> None:
        """The longest a conversation may last is no failure: it ends with close code 1000."""
        details = error.error_event or ErrorDetails(message=error.message)
        if details.code == 1000 or details.error_type == "max_duration_exceeded":
            return
        kind = details.error_type or ""
        text = details.message or details.reason or kind or "said that something is wrong"
        if kind == "override_error":
            text += f"; run: offhook elevenlabs prepare {self._options.agent_id}"
        verdict: Verdict = "retry" if kind in TEMPORARY or details.code == 1011 else "fall_over"
        out.bridge_event(BridgeFault(problem=f"{kind}: {text}" if kind and text != kind else text, verdict=verdict))

    # ── the end ──────────────────────────────────────────────────────────────────────────────────────────

    def refused(self, status: int, body: bytes) -> BridgeFault:
        meanings = {
            401: "does not know the key (ELEVENLABS_API_KEY)",
            403: "does not let this key in, or the agent is not public",
            404: f"has no agent {self._options.agent_id}",
            429: "takes no more conversations at once on this plan",
        }
        verdict: Verdict = "retry" if status >= 500 else "fall_over"
        return BridgeFault(problem=problem_of(status, body, meanings), verdict=verdict)

    def closed(self, code: int, reason: str) -> BridgeFault | None:
        if code == 1000 and self._ready:
            return None
        if code == 1000:
            return BridgeFault(problem="ended the conversation before it began", verdict="fall_over")
        temporary = code in TEMPORARY_CLOSES or (code == 1002 and "timeout" in reason.lower())
        return BridgeFault(problem=closing(code, reason), verdict="retry" if temporary else "fall_over")

    def renewed(self, history: Sequence[Utterance]) -> ProviderCodec:
        """A new conversation, which is told what was said: ElevenLabs resumes none."""
        return ElevenlabsCodec(self._request, self._options, self._access, history=history)


# ── what we say ──────────────────────────────────────────────────────────────────────────────────────────────


def _introduction(request: BridgeRequest, options: ElevenlabsOptions, *, renewed: bool) -> dict[str, Any]:
    """``conversation_initiation_client_data``; an override that is not allowed at ElevenLabs ends the conversation."""
    introduction: dict[str, Any] = {
        "type": "conversation_initiation_client_data",
        "conversation_config_override": _overrides(request, options, renewed=renewed),
        "dynamic_variables": {"offhook_call_id": request.call_id, **options.dynamic_variables},
        "source_info": {"source": "offhook"},
    }
    if options.custom_llm_extra_body:
        introduction["custom_llm_extra_body"] = options.custom_llm_extra_body
    if options.user_id:
        introduction["user_id"] = options.user_id
    return introduction


def _overrides(request: BridgeRequest, options: ElevenlabsOptions, *, renewed: bool) -> dict[str, Any]:
    prompt = _given(prompt=request.agent.instructions or options.system_prompt, llm=options.model)
    agent = _given(prompt=prompt, language=request.agent.language)
    greeting = request.agent.greeting or options.first_message
    if renewed or not request.greets or request.agent.first_speaker == "caller":
        agent["first_message"] = ""  # it waits for the caller
    elif greeting:
        agent["first_message"] = greeting
    tts = _given(
        voice_id=request.agent.voice,
        model_id=options.tts_model,
        stability=options.stability,
        similarity_boost=options.similarity_boost,
        speed=options.speed,
    )
    return _given(
        agent=agent,
        tts=tts,
        asr=_given(keywords=options.keywords),
        conversation=_given(max_duration_seconds=options.max_duration_s),
    )


def _given(**values: object) -> dict[str, Any]:
    """Those that were configured: not None and not empty. A number that is 0 is one."""
    return {name: value for name, value in values.items() if value not in (None, "", (), {})}


def _inform(text: str, out: CodecOutput) -> None:
    """For the model to know; no answer comes of it."""
    out.send(msgspec.json.encode({"type": "contextual_update", "text": text}))


def _account_of(history: Sequence[Utterance]) -> str:
    names = {"caller": "Caller", "agent": "You"}
    account = "\n".join(f"{names[said.speaker]}: {said.text}" for said in history)
    return (
        "The connection broke and was made anew. Go on with the conversation, do not greet again. So far:\n"
        + account[-MAX_HISTORY_CHARACTERS:]
    )


def _query(options: ElevenlabsOptions) -> str:
    given = _given(agent_id=options.agent_id, branch_id=options.branch_id, environment=options.environment)
    return urlencode(given)
