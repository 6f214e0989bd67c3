"""A part of a cascade on a real websocket, with its vendor's simulator at the other end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from tests.bridge.cascade.recorded_parts import RecordedEar, RecordedVoice

from offhook.audio.g711 import silence
from offhook.audio.tones import tone
from offhook.bridge.cascade.ports import PartSettings, SttVendor, TtsVendor
from offhook.bridge.cascade.socket_recogniser import SocketRecogniser
from offhook.bridge.cascade.socket_voice import SocketVoice
from offhook.model.audio import FRAME_MS, PCMU_8K, AudioFormat
from offhook.simulators.stage import Simulator, Stage

END_OF_TURN_MS = 800
"""Of silence; more than any vendor here waits for."""


@asynccontextmanager
async def voice_at(
    simulator: Simulator, vendor: TtsVendor, audio_format: AudioFormat = PCMU_8K
) -> AsyncIterator[tuple[SocketVoice, RecordedVoice]]:
    """An open voice and what it tells."""
    heard = RecordedVoice()
    async with Stage(simulator) as stage:
        settings = PartSettings(base_url=stage.url, api_key="k", voice=vendor.default_voice or "v1")
        voice = SocketVoice(
            lambda: vendor.make(settings, audio_format),
            heard,
            codec_format=audio_format,
            output_format=audio_format,
            aligns=vendor.aligns,
        )
        try:
            await voice.open()
            yield voice, heard
        finally:
            await voice.close()


def say(voice: SocketVoice, context: str, *texts: str) -> None:
    voice.begin(context)
    for text in texts:
        voice.say(context, text)
    voice.finish(context)


@asynccontextmanager
async def ear_at(
    simulator: Simulator, vendor: SttVendor, audio_format: AudioFormat = PCMU_8K, *, model: str = ""
) -> AsyncIterator[tuple[SocketRecogniser, RecordedEar]]:
    """An open recogniser and what it tells."""
    heard = RecordedEar()
    async with Stage(simulator) as stage:
        path = urlsplit(vendor.url).path
        settings = PartSettings(base_url=stage.url + path, api_key="k", model=model)
        recogniser = SocketRecogniser(
            lambda: vendor.make(settings, audio_format),
            heard.stt_event,
            input_format=audio_format,
            codec_format=audio_format,
        )
        try:
            await recogniser.open()
            yield recogniser, heard
        finally:
            await recogniser.close()


def utterance(audio_format: AudioFormat = PCMU_8K, ms: int = 800) -> bytes:
    pause = silence(audio_format) * (END_OF_TURN_MS // FRAME_MS)
    return tone(400, ms, -15, audio_format.encoding) + pause


def feed(recogniser: SocketRecogniser, audio: bytes) -> None:
    for at in range(0, len(audio), 160):
        recogniser.feed(audio[at : at + 160])


async def talk_until_heard(
    recogniser: SocketRecogniser, heard: RecordedEar, audio: bytes, turns: int, audio_format: AudioFormat = PCMU_8K
) -> bytes:
    """The caller says this, and the line goes on, a little faster than it would. Returns all that was fed."""
    feed(recogniser, audio)
    fed = audio
    async with asyncio.timeout(20):
        while len(heard.turns()) < turns:
            feed(recogniser, silence(audio_format))
            fed += silence(audio_format)
            await asyncio.sleep(0.005)
    return fed
