"""Deepgram's Aura speaks: one websocket, one utterance after the other.

developers.deepgram.com/reference/text-to-speech/speak-streaming. It knows no contexts: what was sent up to a ``Flush``
is spoken and answered by ``Flushed``; ``Clear`` throws away the rest and is answered by ``Cleared``, and audio that
comes before that is old. Text without a ``Flush`` may wait for ever, and there may be twenty in a minute: so the first
piece of an utterance is flushed, that it sounds soon, then whenever there are some seconds more to say, and the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from offhook.bridge.cascade.ports import ContextDone, PartSettings, TtsOutput, TtsVendor
from offhook.bridge.cascade.vendor_wire import headers_of, refusal, websocket_url
from offhook.bridge.codec import BridgeFault
from offhook.bridge.wire import WebsocketTarget
from offhook.model.audio import L16_8K, L16_16K, PCMA_8K, PCMU_8K, AudioFormat, Encoding

DEFAULT_VOICE = "aura-2-thalia-en"

MAX_TEXT_CHARACTERS = 2000
"""In one ``Speak``."""

FLUSHED_CHARACTERS = 120
"""Of text that waits for a ``Flush``, after the first piece: eight seconds of speech."""

SPEEDS = (0.7, 1.5)

VOICE_PREFIX = "aura"

_ENCODINGS: Mapping[Encoding, str] = {
    Encoding.PCMU: "mulaw",
    Encoding.PCMA: "alaw",
    Encoding.L16: "linear16",
}


class _Message(msgspec.Struct, frozen=True):
    type: str = ""
    code: str | None = None
    description: str | None = None


class DeepgramVoice:
    """Implements ``TtsCodec``."""

    def __init__(self, settings: PartSettings, audio_format: AudioFormat) -> None:
        self._settings = settings
        self._format = audio_format
        self._decoder = msgspec.json.Decoder(_Message)
        self._context = ""
        self._finished = False
        self._waiting = 0
        """Characters that were sent and not flushed."""
        self._said = False
        self._flushes = 0
        """Of this context, that are not answered yet."""
        self._clears = 0
        """Not answered yet: until then all that comes is of what was cleared."""

    def target(self) -> WebsocketTarget:
        settings = self._settings
        speed = min(max(settings.speed, SPEEDS[0]), SPEEDS[1])
        query = {
            "model": _voice_of(settings),
            "encoding": _ENCODINGS[self._format.encoding],
            "sample_rate": self._format.sample_rate_hz,
            "container": "none",
            "speed": speed if speed != 1.0 else None,
            **settings.extra,
        }
        own = {"Authorization": f"Token {settings.api_key}"}
        url = websocket_url(settings.base_url, "/v1/speak", query)
        return WebsocketTarget(url=url, headers=headers_of(own, settings.headers))

    def opened(self, out: TtsOutput) -> None:
        """Nothing outlives its websocket."""
        self._context, self._said = "", False
        self._waiting = self._flushes = self._clears = 0

    # ── speaking ─────────────────────────────────────────────────────────────────────────────────────────

    def begin(self, context: str, out: TtsOutput) -> None:
        self._context = context
        self._said = self._finished = False
        self._waiting = self._flushes = 0

    def say(self, context: str, text: str, out: TtsOutput) -> None:
        if context != self._context or self._finished or not text.strip():
            return
        is_first = not self._said
        for piece in _pieces(text):
            out.send(msgspec.json.encode({"type": "Speak", "text": piece}))
        self._said = True
        self._waiting += len(text)
        if is_first or self._waiting >= FLUSHED_CHARACTERS:
            self._flush(out)

    def finish(self, context: str, out: TtsOutput) -> None:
        if context != self._context or self._finished:
            return
        self._finished = True
        if self._waiting:
            self._flush(out)
        self._complete(out)

    def cancel(self, context: str, out: TtsOutput) -> None:
        if not context or context != self._context:
            return
        if self._waiting or self._flushes:
            self._clears += 1
            out.send(b'{"type":"Clear"}')
        self._forget()

    def _flush(self, out: TtsOutput) -> None:
        self._waiting = 0
        self._flushes += 1
        out.send(b'{"type":"Flush"}')

    # ── what the server says ─────────────────────────────────────────────────────────────────────────────

    def receive(self, message: bytes, out: TtsOutput, *, is_text: bool) -> None:
        if not is_text:
            if self._context and not self._clears and message:
                out.tts_audio(self._context, message)
            return
        try:
            told = self._decoder.decode(message)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            out.tts_event(BridgeFault(problem="Deepgram sent what is no message of theirs", verdict="retry"))
            return
        self._take(told, out)

    def _take(self, told: _Message, out: TtsOutput) -> None:
        match told.type:
            case "Flushed" if not self._clears and self._flushes:
                self._flushes -= 1
                self._complete(out)
            case "Cleared":
                self._clears = max(0, self._clears - 1)
            case "Warning" if "flush" in f"{told.code} {told.description}".lower():
                self._fail("it takes no more Flush", out)  # what was sent would wait for ever: another websocket
            case "Error":
                self._fail(f"{told.code or 'an error'}: {told.description or 'no reason given'}", out)
            case _:
                pass

    def _complete(self, out: TtsOutput) -> None:
        if self._context and self._finished and not self._flushes:
            context = self._context
            self._forget()
            out.tts_event(ContextDone(context=context))

    def _forget(self) -> None:
        self._context, self._said = "", False
        self._waiting = self._flushes = 0

    def _fail(self, problem: str, out: TtsOutput) -> None:
        out.tts_event(BridgeFault(problem=f"Deepgram: {problem}", verdict="retry"))

    # ── the websocket ────────────────────────────────────────────────────────────────────────────────────

    def refused(self, status: int, body: bytes) -> BridgeFault:
        return refusal(status, body)

    def closed(self, code: int, reason: str) -> BridgeFault | None:
        """An idle one is closed after an hour at the latest; one that was speaking has failed."""
        if not self._said:
            return None
        return BridgeFault(problem=f"Deepgram closed the websocket: {code} {reason}".rstrip(), verdict="retry")

    def goodbye(self) -> bytes | None:
        return b'{"type":"Close"}'


def _voice_of(settings: PartSettings) -> str:
    """A voice is a model there, so it may stand in either place."""
    named = (settings.model, settings.voice)
    return next((name for name in named if name.startswith(VOICE_PREFIX)), settings.voice or DEFAULT_VOICE)


def _pieces(text: str) -> Iterator[str]:
    for at in range(0, len(text), MAX_TEXT_CHARACTERS):
        yield text[at : at + MAX_TEXT_CHARACTERS]


DEEPGRAM_TTS = TtsVendor(
    name="deepgram",
    url="https://api.deepgram.com",
    key_variable="DEEPGRAM_API_KEY",
    formats=(PCMU_8K, PCMA_8K, L16_16K, L16_8K),
    make=DeepgramVoice,
    aligns=False,
    default_voice=DEFAULT_VOICE,
)
