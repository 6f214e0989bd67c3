"""Voices that speak OpenAI's speech interface: one request for each sentence, raw samples as they are made.

``POST {base}/audio/speech`` with ``response_format: "pcm"``: 16-bit samples of a rate that nobody declares. It is told
by the option, known of OpenAI, or asked for once: the head of a WAV file of one word says it.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from typing import Any, cast

import msgspec

from offhook.audio.convert import Converter, converter
from offhook.bridge.cascade.piecewise import PiecewiseVoice, Sound
from offhook.bridge.cascade.ports import PartSettings, TtsListener
from offhook.bridge.endings import failure
from offhook.bridge.provider_http import ProviderHttp
from offhook.bridge.wire import HttpRequest
from offhook.model.audio import AudioFormat, Encoding, SampleRate
from offhook.model.errors import BridgeError

DEFAULT_MODEL = "tts-1"
"""What servers of one's own take for any model of theirs."""
DEFAULT_VOICE = "alloy"
DEFAULT_RATE_HZ = 24000
"""What most servers make (OpenAI, Kokoro, Qwen, CosyVoice)."""

FIRST_SOUND_S = 5.0
NEXT_SOUND_S = 5.0
"""A caller who hears nothing for longer asks whether anybody is there."""

PROBE_S = 5.0
PROBE_TEXT = "Hello."

RATES_HZ = range(8000, 48001)

SLICE_BYTES = 9600
"""Converted in one go, in a quarter of a millisecond: 200 ms at 24 kHz. Then it is others' turn on the event loop."""

_NO_SAMPLES = frozenset({"audio/mpeg", "audio/mp3", "audio/ogg", "audio/opus", "audio/flac", "application/json"})

MAX_KNOWN_RATES = 64

_rates: dict[tuple[str, str, str], int] = {}
"""By URL, model and voice: asked once in a process's life."""

_log = logging.getLogger("offhook.bridge")


class HttpVoice(PiecewiseVoice):
    """Implements ``Voice``. ``rate_hz`` 0: find out."""

    def __init__(
        self,
        http: ProviderHttp,
        settings: PartSettings,
        listener: TtsListener,
        *,
        output_format: AudioFormat,
        rate_hz: int = 0,
    ) -> None:
        super().__init__(self._sounds, listener, output_format)
        self._http = http
        self._settings = settings
        self._output_format = output_format
        self._rate_hz = rate_hz

    async def open(self) -> None:
        """Learn the sample rate. Raises ``BridgeError``."""
        if not self._rate_hz:
            self._rate_hz = await self._probed()

    async def _sounds(self, text: str) -> AsyncGenerator[Sound, None]:
        try:
            async with AsyncExitStack() as stack:
                answered = self._http.stream(speech_request(self._settings, text, "pcm"))
                async with asyncio.timeout(FIRST_SOUND_S):
                    response = await stack.enter_async_context(answered)
                if response.status != 200:
                    raise failure("voice", response.status, await response.read())
                if response.content_type in _NO_SAMPLES or response.content_type.startswith("text/"):
                    raise BridgeError("voice", f"sends {response.content_type}, not raw samples", "fall_over")
                pieces = response.chunks()
                first = await _within(FIRST_SOUND_S, pieces)
                if first is None:
                    raise BridgeError("voice", "sent no sound", "retry")
                convert, piece = self._begun(first)
                while piece is not None:
                    for at in range(0, len(piece), SLICE_BYTES):
                        yield Sound(audio=convert(piece[at : at + SLICE_BYTES]))
                        await asyncio.sleep(0)
                    piece = await _within(NEXT_SOUND_S, pieces)
        except TimeoutError as error:
            raise BridgeError("voice", f"sent nothing for {FIRST_SOUND_S:g} s", "fall_over") from error
        except OSError as error:
            raise BridgeError("voice", str(error) or type(error).__name__, "retry") from error

    def _begun(self, first: bytes) -> tuple[Converter, bytes | None]:
        """How the samples become the call's, and the first of them: some servers send a WAV file whatever is asked."""
        rate = rate_of(first)
        at = first.find(b"data") if rate is not None else -1
        samples = first[at + 8 :] if at >= 0 else first
        hz = rate or self._rate_hz or DEFAULT_RATE_HZ
        source = AudioFormat(encoding=Encoding.L16, sample_rate_hz=cast(SampleRate, hz))
        return converter(source, self._output_format) or _as_it_is, samples

    async def _probed(self) -> int:
        key = (self._settings.base_url, self._settings.model, self._settings.voice)
        if key not in _rates:
            if len(_rates) >= MAX_KNOWN_RATES:
                _rates.clear()
            _rates[key] = await self._asked()
        return _rates[key]

    async def _asked(self) -> int:
        try:
            async with (
                asyncio.timeout(PROBE_S),
                self._http.stream(speech_request(self._settings, PROBE_TEXT, "wav")) as response,
            ):
                if response.status in (401, 403, 404):
                    raise failure("voice", response.status, await response.read())
                head = b""
                async for piece in response.chunks():
                    head += piece
                    if len(head) >= 256:
                        break
        except OSError as error:
            raise BridgeError(
                "voice", f"cannot be reached: {str(error) or type(error).__name__}", "fall_over"
            ) from error
        rate_hz = rate_of(head)
        if rate_hz is None:
            _log.warning("a voice does not tell its sample rate; taken for %d Hz: set tts_sample_rate", DEFAULT_RATE_HZ)
        return rate_hz or DEFAULT_RATE_HZ


def speech_request(settings: PartSettings, text: str, response_format: str) -> HttpRequest:
    body: dict[str, Any] = {
        "model": settings.model or DEFAULT_MODEL,
        "input": text,
        "voice": settings.voice or DEFAULT_VOICE,
        "response_format": response_format,
    }
    if settings.speed != 1.0:
        body["speed"] = settings.speed
    body.update(settings.extra)
    authorization = (("Authorization", f"Bearer {settings.api_key}"),) if settings.api_key else ()
    return HttpRequest(
        method="POST",
        url=f"{settings.base_url}/audio/speech",
        headers=(("Content-Type", "application/json"), *authorization, *settings.headers.items()),
        body=msgspec.json.encode(body),
    )


def rate_of(head: bytes) -> int | None:
    """The sample rate of a WAV file, by its first bytes; sizes in it may be 0 or -1, as streamed files have them."""
    at = head.find(b"fmt ")
    if head[:4] != b"RIFF" or at < 0 or len(head) < at + 16:
        return None
    rate = int(struct.unpack_from("<I", head, at + 12)[0])
    return rate if rate in RATES_HZ else None


def _as_it_is(audio: bytes) -> bytes:
    return audio


async def _within(limit_s: float, pieces: Any) -> bytes | None:
    """The next piece; None at the end."""
    async with asyncio.timeout(limit_s):
        piece: bytes | None = await anext(pieces, None)
        return piece
