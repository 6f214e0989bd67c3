"""What Deepgram's Voice Agent accepts in text: its schema, to the letter, and what it checks beyond it.

developers.deepgram.com/docs/configure-voice-agent and …/reference/voice-agent/voice-agent. Unknown fields, nulls and
floats for integers cannot be parsed there; what can be parsed and makes no sense are invalid settings.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from offhook.model.audio import AudioFormat
from offhook.simulators.deepgram_wire import DeepgramRefusalError, format_of

MAX_PROMPT_CHARACTERS = 25_000

VOICES = ("aura-", "flux-")

_T = TypeVar("_T")

_Share = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]


class _Data(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class AudioInput(_Data, frozen=True):
    encoding: Literal[
        "linear16", "linear32", "flac", "alaw", "mulaw", "amr-nb", "amr-wb", "opus", "ogg-opus", "speex", "g729"
    ]
    sample_rate: int


class AudioOutput(_Data, frozen=True):
    encoding: Literal["linear16", "mulaw", "alaw", "mp3", "opus", "flac", "aac"] = "linear16"
    sample_rate: int = 24000
    bitrate: int = 0
    container: Literal["none", "wav", "ogg"] = "none"


class Audio(_Data, frozen=True):
    input: AudioInput = AudioInput(encoding="linear16", sample_rate=24000)
    output: AudioOutput = AudioOutput()


class Endpoint(_Data, frozen=True):
    url: str
    headers: dict[str, str] = {}
    method: str = ""


class Nova(_Data, frozen=True, tag_field="version", tag="v1"):
    type: Literal["deepgram"]
    model: str = "nova-3"
    language: str = "en"
    keyterms: list[str] = []
    smart_format: bool = False


class Flux(_Data, frozen=True, tag_field="version", tag="v2"):
    type: Literal["deepgram"]
    model: str
    language_hints: list[str] = []
    eot_threshold: _Share = 0.7
    eager_eot_threshold: _Share = 0.0
    eot_timeout_ms: int = 5000
    keyterms: list[str] = []


class Listen(_Data, frozen=True):
    provider: Nova | Flux


class ThinkProvider(_Data, frozen=True):
    type: Literal["open_ai", "anthropic", "google", "groq", "aws_bedrock", "deepgram"]
    model: str
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] = 1.0
    version: str = ""
    reasoning_mode: str = ""
    credentials: dict[str, str] = {}


class Function(_Data, frozen=True):
    name: str
    description: str = ""
    parameters: dict[str, Any] = {}
    defer_until_eot: bool = False
    endpoint: Endpoint | msgspec.UnsetType = msgspec.UNSET


class Think(_Data, frozen=True):
    provider: ThinkProvider
    endpoint: Endpoint | msgspec.UnsetType = msgspec.UNSET
    functions: list[Function] = []
    prompt: str = ""
    context_length: int | Literal["max"] | msgspec.UnsetType = msgspec.UNSET


class _DeepgramVoice(_Data, frozen=True, tag_field="type", tag="deepgram"):
    model: str
    version: str = ""
    speed: float = 1.0
    expressivity: int = 0


class _ElevenLabsVoice(_Data, frozen=True, tag_field="type", tag="eleven_labs"):
    model_id: str
    version: str = ""
    language: str = ""
    language_code: str = ""


class _VoiceId(_Data, frozen=True):
    mode: str
    id: str


class _CartesiaVoice(_Data, frozen=True, tag_field="type", tag="cartesia"):
    model_id: str
    voice: _VoiceId
    version: str = ""
    language: str = ""
    volume: float = 1.0


class _OpenAiVoice(_Data, frozen=True, tag_field="type", tag="open_ai"):
    model: str
    voice: str
    version: str = ""


class _PollyVoice(_Data, frozen=True, tag_field="type", tag="aws_polly"):
    voice: str
    language: str
    engine: str
    credentials: dict[str, str]
    language_code: str = ""


class Speak(_Data, frozen=True):
    provider: _DeepgramVoice | _ElevenLabsVoice | _CartesiaVoice | _OpenAiVoice | _PollyVoice
    endpoint: Endpoint | msgspec.UnsetType = msgspec.UNSET


class _PastCall(_Data, frozen=True):
    id: str
    name: str
    client_side: bool
    arguments: str
    response: str


class History(_Data, frozen=True):
    """Words, with a role, or functions that were called."""

    type: Literal["History"]
    role: Literal["user", "assistant"] | msgspec.UnsetType = msgspec.UNSET
    content: str = ""
    function_calls: list[_PastCall] = []


class Context(_Data, frozen=True):
    messages: list[History] = []


class Agent(_Data, frozen=True):
    listen: Listen = Listen(provider=Nova(type="deepgram"))
    think: Think | list[Think] = []
    speak: Speak | list[Speak] = []
    greeting: str = ""
    context: Context = Context()
    language: str = ""


class Flags(_Data, frozen=True):
    history: bool = True


class Settings(_Data, frozen=True, tag_field="type", tag="Settings"):
    audio: Audio
    agent: Agent
    tags: list[str] = []
    experimental: bool = False
    mip_opt_out: bool = False
    flags: Flags = Flags()


class UpdatePrompt(_Data, frozen=True, tag_field="type", tag="UpdatePrompt"):
    prompt: str


class UpdateThink(_Data, frozen=True, tag_field="type", tag="UpdateThink"):
    think: Think | list[Think]


class UpdateSpeak(_Data, frozen=True, tag_field="type", tag="UpdateSpeak"):
    speak: Speak | list[Speak]


class UpdateListen(_Data, frozen=True, tag_field="type", tag="UpdateListen"):
    listen: Listen


class InjectUserMessage(_Data, frozen=True, tag_field="type", tag="InjectUserMessage"):
    content: str


class InjectAgentMessage(_Data, frozen=True, tag_field="type", tag="InjectAgentMessage"):
    message: str
    behavior: Literal["default", "queue", "interrupt"] = "default"


class FunctionCallResponse(_Data, frozen=True, tag_field="type", tag="FunctionCallResponse"):
    id: str
    name: str
    content: str
    thought_signature: str = ""


class KeepAlive(_Data, frozen=True, tag_field="type", tag="KeepAlive"):
    pass


class ForceEndTurn(_Data, frozen=True, tag_field="type", tag="ForceEndTurn"):
    pass


ClientMessage = (
    Settings
    | UpdatePrompt
    | UpdateThink
    | UpdateSpeak
    | UpdateListen
    | InjectUserMessage
    | InjectAgentMessage
    | FunctionCallResponse
    | KeepAlive
    | ForceEndTurn
)

_client_message = msgspec.json.Decoder(ClientMessage).decode


def read_message(text: str) -> ClientMessage:
    """Raises ``DeepgramRefusalError``."""
    try:
        message: ClientMessage = _client_message(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise DeepgramRefusalError("UNPARSABLE_CLIENT_MESSAGE", str(error)) from None
    return message


def formats_of(settings: Settings) -> tuple[AudioFormat, AudioFormat]:
    """In and out. Raises ``DeepgramRefusalError``."""
    heard, spoken = settings.audio.input, settings.audio.output
    if spoken.container != "none":
        raise DeepgramRefusalError("INVALID_SETTINGS", f"The container {spoken.container} is not simulated")
    return format_of(heard.encoding, heard.sample_rate), format_of(spoken.encoding, spoken.sample_rate)


def check_settings(settings: Settings) -> None:
    """Raises ``DeepgramRefusalError`` for what its schema allows and the service does not."""
    agent = settings.agent
    _check_listening(agent.listen.provider)
    thinking, speaking = listed(agent.think), listed(agent.speak)
    if not thinking or not speaking:
        raise DeepgramRefusalError("INVALID_SETTINGS", "agent.think and agent.speak are needed")
    for think in thinking:
        check_thinking(think)
    for speak in speaking:
        check_speaking(speak)
    for message in agent.context.messages:
        if (message.role is msgspec.UNSET) != bool(message.function_calls):
            raise DeepgramRefusalError("INVALID_SETTINGS", "A History is words with a role, or function_calls")


def _check_listening(provider: Nova | Flux) -> None:
    is_flux = provider.model.startswith("flux")
    if isinstance(provider, Nova):
        if is_flux:
            raise DeepgramRefusalError("INVALID_SETTINGS", f"{provider.model} needs version v2")
        return
    if not is_flux:
        raise DeepgramRefusalError("INVALID_SETTINGS", f"{provider.model} needs version v1")
    if provider.language_hints and provider.model != "flux-general-multi":
        raise DeepgramRefusalError("INVALID_SETTINGS", f"{provider.model} takes no language_hints")
    if provider.eot_threshold < 0.5 or (
        provider.eager_eot_threshold and not 0.3 <= provider.eager_eot_threshold <= 0.9
    ):
        raise DeepgramRefusalError("INVALID_SETTINGS", "A threshold is out of range")


def check_thinking(think: Think) -> None:
    if think.provider.type == "groq" and think.endpoint is msgspec.UNSET:
        raise DeepgramRefusalError("INVALID_SETTINGS", "groq needs an endpoint")
    if think.context_length is not msgspec.UNSET and think.endpoint is msgspec.UNSET:
        raise DeepgramRefusalError("INVALID_SETTINGS", "context_length needs an endpoint")
    names = [function.name for function in think.functions]
    if len(names) != len(set(names)):
        raise DeepgramRefusalError("INVALID_SETTINGS", "Two functions have one name")


def check_speaking(speak: Speak) -> None:
    if not isinstance(speak.provider, _DeepgramVoice):
        if speak.endpoint is msgspec.UNSET:
            raise DeepgramRefusalError("INVALID_SETTINGS", "A voice of another company needs an endpoint")
    elif not speak.provider.model.startswith(VOICES):
        raise DeepgramRefusalError("INVALID_SETTINGS", f"There is no voice {speak.provider.model!r}")


def listed(one_or_more: _T | list[_T]) -> list[_T]:
    return one_or_more if isinstance(one_or_more, list) else [one_or_more]


def too_long(prompt: str, thinking: Iterable[Think]) -> bool:
    """For a model that Deepgram manages."""
    return len(prompt) > MAX_PROMPT_CHARACTERS and any(think.endpoint is msgspec.UNSET for think in thinking)
