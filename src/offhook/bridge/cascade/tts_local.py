"""The local agent's voice as the voice of a cascade: needs no key and no network."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from offhook.bridge.cascade.piecewise import PiecewiseVoice, Sound
from offhook.bridge.cascade.ports import TtsListener
from offhook.bridge.outside import LocalVoice
from offhook.model.audio import AudioFormat


class SpokenHere(PiecewiseVoice):
    """Implements ``Voice``; it knows the place of each word."""

    def __init__(self, voice: LocalVoice, listener: TtsListener, output_format: AudioFormat) -> None:
        super().__init__(self._sounds, listener, output_format)
        self._voice = voice
        self._output_format = output_format

    async def _sounds(self, text: str) -> AsyncGenerator[Sound, None]:
        spoken = await self._voice(text, self._output_format)
        yield Sound(audio=spoken.audio, words=tuple(zip(text.split(), spoken.word_ms, strict=False)))
