"""Recognisers that speak OpenAI's transcriptions: one request for each turn, when the line says that it may be over.

``POST {base}/audio/transcriptions`` with the turn as a WAV file. The request is made on trial as soon as the caller
pauses (``endpointing.EAGER_MS``), and is void when the caller goes on. Answers may be one JSON document or a stream.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import assert_never

import msgspec

from offhook.audio.convert import converted
from offhook.audio.wav import write_wav
from offhook.bridge.cascade.endpointing import Change, Endpointer, Pauses
from offhook.bridge.cascade.ports import (
    EagerEnd,
    EndOfTurn,
    PartialText,
    PartSettings,
    Resumed,
    SpeechBegan,
    SttEvent,
)
from offhook.bridge.cascade.sse import SseParser
from offhook.bridge.codec import BridgeFault
from offhook.bridge.endings import failure
from offhook.bridge.provider_http import HttpStream, ProviderHttp
from offhook.bridge.wire import HttpRequest
from offhook.model.audio import L16_16K, AudioFormat
from offhook.model.errors import BridgeError

DEFAULT_MODEL = "whisper-1"

ANSWER_S = 8.0
"""A turn that is not understood by then is not waited for."""

RETRY_S = 0.2

LEAST_SPEECH_MS = 200
"""Whisper makes sentences of clicks."""

BRIEF_MS = 1500
"""What Whisper hears in noise is dropped only from turns that are shorter: people do say thank you."""

SURELY_NO_SPEECH = 0.6

_HALLUCINATIONS = frozenset(
    {
        "thank you for watching",
        "thanks for watching",
        "thank you so much for watching",
        "please subscribe",
        "subtitles by the amaraorg community",
        "untertitel der amaraorg community",
        "untertitel im auftrag des zdf für funk 2017",
        "soustitres réalisés par la communauté damaraorg",
        "you",
        "music",
        "applause",
        "blankaudio",
    }
)
"""What its training films ended with."""


class _Segment(msgspec.Struct):
    no_speech_prob: float = 0.0


class _Transcription(msgspec.Struct):
    text: str = ""
    segments: list[_Segment] | None = None


class _Streamed(msgspec.Struct):
    type: str = ""
    delta: str = ""
    text: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Transcribing:
    """``streams``: ask for the answer word by word."""

    pauses: Pauses = field(default_factory=Pauses)
    streams: bool = False


class HttpRecogniser:
    """Implements ``Recogniser``. The caller's frames are its clock."""

    def __init__(
        self,
        http: ProviderHttp,
        settings: PartSettings,
        tell: Callable[[SttEvent], None],
        *,
        input_format: AudioFormat,
        transcribing: Transcribing | None = None,
    ) -> None:
        self._http = http
        self._settings = settings
        self._tell = tell
        self._format = input_format
        self._transcribing = transcribing or Transcribing()
        self._endpointer = Endpointer(input_format.encoding, self._transcribing.pauses)
        self._request: asyncio.Task[None] | None = None
        self._text: str | None = None
        self._ended = False
        self._closed = False

    async def open(self) -> None:
        """Nothing to connect to: each turn is a request of its own."""

    def feed(self, frame: bytes) -> None:
        if self._closed:
            return
        change = self._endpointer.feed(frame)
        if change is not None:
            self._take(change)

    async def close(self) -> None:
        self._closed = True
        request = self._request
        self._forget()
        if request is not None:
            await asyncio.gather(request, return_exceptions=True)

    def _take(self, change: Change) -> None:
        match change:
            case "began":
                self._begin()
            case "paused":
                self._ask()
            case "resumed":
                eager = self._text is not None
                self._forget()
                if eager:
                    self._tell(Resumed())
            case "ended":
                self._ended = True
                if self._text is not None:
                    self._conclude()
                elif self._request is None:
                    self._ask()
            case _:
                assert_never(change)

    def _begin(self) -> None:
        """A turn whose words are still awaited is over without them: its audio is not lost, the new turn begins."""
        if self._ended:
            self._forget()
            self._tell(EndOfTurn(text=""))
        self._forget()
        self._tell(SpeechBegan())

    def _forget(self) -> None:
        if self._request is not None:
            self._request.cancel()
        self._request, self._text, self._ended = None, None, False

    def _conclude(self) -> None:
        text = self._text or ""
        self._forget()
        self._tell(EndOfTurn(text=text))

    def _ask(self) -> None:
        if self._endpointer.speech_ms < LEAST_SPEECH_MS:
            self._text = ""
            if self._ended:
                self._conclude()
            return
        turn, speech_ms = self._endpointer.turn(), self._endpointer.speech_ms
        self._request = asyncio.get_running_loop().create_task(self._understand(turn, speech_ms))

    async def _understand(self, turn: bytes, speech_ms: int) -> None:
        try:
            text = await self._transcribed(turn, speech_ms)
        except BridgeError as error:
            verdict = "fall_over" if error.verdict == "retry" else error.verdict
            self._tell(BridgeFault(problem=error.problem, verdict=verdict))
            return
        self._request = None
        self._text = text
        if self._ended:
            self._conclude()
        else:
            self._tell(EagerEnd(text=text))

    async def _transcribed(self, turn: bytes, speech_ms: int) -> str:
        """Once more where it failed. Raises ``BridgeError``."""
        file = await asyncio.to_thread(_wav_of, turn, self._format)
        request = transcription_request(self._settings, file, streams=self._transcribing.streams)
        try:
            return await self._attempt(request, speech_ms)
        except BridgeError as error:
            if error.verdict != "retry":
                raise
            self._tell(BridgeFault(problem=error.problem, verdict="retry"))
        await asyncio.sleep(RETRY_S)
        return await self._attempt(request, speech_ms)

    async def _attempt(self, request: HttpRequest, speech_ms: int) -> str:
        try:
            async with asyncio.timeout(ANSWER_S), self._http.stream(request) as response:
                if response.status != 200:
                    raise failure("speech recognition", response.status, await response.read())
                if response.content_type == "text/event-stream":
                    return plausible(await self._streamed(response), speech_ms, 0.0)
                return _read(await response.read(), speech_ms)
        except TimeoutError as error:
            raise BridgeError("speech recognition", f"no answer within {ANSWER_S:g} s", "fall_over") from error
        except (OSError, ValueError) as error:
            raise BridgeError("speech recognition", str(error) or type(error).__name__, "retry") from error

    async def _streamed(self, response: HttpStream) -> str:
        parser, so_far, whole = SseParser(), "", None
        async for piece in response.chunks():
            for data in parser.feed(piece):
                event = _streamed_event(data)
                if event.type == "transcript.text.delta":
                    so_far += event.delta
                    self._tell(PartialText(text=so_far))
                elif event.type == "transcript.text.done":
                    whole = event.text
        if whole is None:
            raise ValueError("the transcript broke off")
        return whole


def transcription_request(settings: PartSettings, file: bytes, *, streams: bool) -> HttpRequest:
    """``multipart/form-data`` (RFC 7578). ``file``: a WAV file."""
    fields: dict[str, str] = {"model": settings.model or DEFAULT_MODEL, "response_format": "json"}
    if settings.language:
        fields["language"] = settings.language.split("-")[0]
    if settings.keywords:
        fields["prompt"] = ", ".join(settings.keywords)
    if streams:
        fields["stream"] = "true"
    fields.update((name, str(value)) for name, value in settings.extra.items())
    boundary = secrets.token_hex(16)
    parts = [f'--{boundary}\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n' for k, v in fields.items()]
    disposition = 'Content-Disposition: form-data; name="file"; filename="turn.wav"\r\nContent-Type: audio/wav'
    head = "".join(parts) + f"--{boundary}\r\n{disposition}\r\n\r\n"
    authorization = (("Authorization", f"Bearer {settings.api_key}"),) if settings.api_key else ()
    return HttpRequest(
        method="POST",
        url=f"{settings.base_url}/audio/transcriptions",
        headers=(
            ("Content-Type", f"multipart/form-data; boundary={boundary}"),
            *authorization,
            *settings.headers.items(),
        ),
        body=head.encode() + file + f"\r\n--{boundary}--\r\n".encode(),
    )


def plausible(text: str, speech_ms: int, no_speech: float) -> str:
    """``text``, or "" where it is surely what a recogniser makes of noise."""
    plain = re.sub(r"[^\w\s]", "", text).lower().strip()
    if no_speech > SURELY_NO_SPEECH or (speech_ms < BRIEF_MS and plain in _HALLUCINATIONS):
        return ""
    return text.strip()


def _read(body: bytes, speech_ms: int) -> str:
    """Raises ``ValueError`` (``msgspec.DecodeError``)."""
    answer = msgspec.json.decode(body, type=_Transcription)
    segments = answer.segments or []
    no_speech = min((segment.no_speech_prob for segment in segments), default=0.0)
    return plausible(answer.text, speech_ms, no_speech)


def _streamed_event(data: bytes) -> _Streamed:
    return _Streamed(type="done") if data.strip() == b"[DONE]" else msgspec.json.decode(data, type=_Streamed)


def _wav_of(turn: bytes, audio_format: AudioFormat) -> bytes:
    """At 16 kHz: what servers are sure to take. Off the event loop: 10 ms for ten seconds of speech."""
    return write_wav(L16_16K, converted(turn, audio_format, L16_16K))
