"""The local agent without its extra: prompts shipped in the package say what is missing, then goodbye."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources

from offhook.audio.convert import converter
from offhook.audio.wav import read_wav
from offhook.bridge.codec import (
    AudioDone,
    BridgeEvent,
    BridgeInput,
    BridgeProfile,
    BridgeRequest,
    Ready,
    ResponseDone,
    ResponseStarted,
    ToolCall,
    TranscriptDelta,
)
from offhook.model.audio import PCMA_8K, PCMU_8K, AudioFormat

PROFILE = BridgeProfile(
    provider="local",
    input_formats=(PCMU_8K, PCMA_8K),
    output_formats=(PCMU_8K, PCMA_8K),
    speech_events=False,
    digits=False,
)

PROMPTS = (
    ("greeting", "Hello, this is offhook. Your call works."),
    ("install", "To talk with me, install the extra called local: pip install offhook, local in square brackets."),
    ("goodbye", "Goodbye."),
)
"""File and words of each prompt, in the order they are played; rendered once with flite's voice slt."""


@lru_cache(maxsize=8)
def prompt(name: str, audio_format: AudioFormat) -> bytes:
    """A shipped prompt in the call's format."""
    data = (resources.files("offhook.bridge.local") / "prompts" / f"{name}.wav").read_bytes()
    found, audio = read_wav(data)
    convert = converter(found, audio_format)
    return convert(audio) if convert else audio


class PromptConnection:
    """Plays the prompts and asks for the end of the call; hears nothing."""

    profile = PROFILE

    def __init__(self, request: BridgeRequest) -> None:
        self._request = request
        self._closed = False

    async def open(self) -> None:
        self._emit(Ready())
        self._emit(ResponseStarted())
        for item, text in PROMPTS:
            self._request.listener.audio_out(item, prompt(item, self._request.output_format))
            self._emit(TranscriptDelta(speaker="agent", item=item, text=text, final=True))
            self._emit(AudioDone(item=item))
        self._emit(ResponseDone())
        self._emit(ToolCall(tool_call_id="goodbye", name="end_call", arguments="{}"))

    def send_audio(self, frame: bytes) -> None:
        """Nobody listens."""

    def send(self, command: BridgeInput) -> None:
        """Nothing can be asked of it."""

    async def close(self) -> None:
        self._closed = True

    def _emit(self, event: BridgeEvent) -> None:
        if not self._closed:
            self._request.listener.bridge_event(event)
