"""The local agent's ear and voice: processes shared by every call of a server, started once."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec

from offhook.bridge.local.messages import Recognise, Recognised, Spot, Spotted, Synthesise, Synthesised
from offhook.bridge.local.phrases import Vocabulary
from offhook.bridge.local.worker_pool import WorkerError, WorkerPool
from offhook.model.audio import AudioFormat
from offhook.model.errors import BridgeError

DEFAULT_RECOGNISERS = 2
"""Two callers may end their sentences at once; each process holds the model once: about 140 MB, and 70 MB more when
it has listened for names, or for an operator's decision."""

RECOGNISER = "offhook.bridge.local.recogniser_worker"
VOICE = "offhook.bridge.local.voice_worker"

_EXTRA = ("pocketsphinx", "espeakng_loader")


def available() -> str | None:
    """None when speech recognition and voice are installed, else the one sentence what to do."""
    missing = [name for name in _EXTRA if find_spec(name) is None]
    if not missing:
        return None
    return f"The local agent cannot listen or speak freely: run pip install 'offhook[local]' ({missing[0]} is missing)."


class LocalEngine:
    """``start`` before anything else, ``close`` at the end. Without the extra it starts, but does nothing."""

    def __init__(self, *, recognisers: int = DEFAULT_RECOGNISERS, voices: int = 1) -> None:
        self.missing = available()
        self._recognisers = WorkerPool(RECOGNISER, recognisers)
        self._voice = WorkerPool(VOICE, voices)

    @property
    def pids(self) -> tuple[int, ...]:
        """The worker processes."""
        return self._recognisers.pids + self._voice.pids

    async def start(self) -> None:
        """Returns when everything is loaded, in one to two seconds. Raises ``BridgeError``."""
        if self.missing is not None:
            return
        try:
            await asyncio.gather(self._recognisers.start(), self._voice.start())
        except WorkerError as error:
            await self.close()
            raise BridgeError("local", str(error), "fatal") from error

    async def close(self) -> None:
        """Ends every process; idempotent."""
        await asyncio.gather(self._recognisers.close(), self._voice.close())

    async def understand(
        self,
        audio: bytes,
        audio_format: AudioFormat,
        vocabulary: Vocabulary = Vocabulary.COMMON,
        names: tuple[str, ...] = (),
    ) -> str | None:
        """The words of one utterance; "" for speech without known words, None for no speech.

        ``vocabulary`` and ``names`` (whom the caller may ask for): what is listened for. Raises ``WorkerError``.
        """
        answer = await self._recognisers.ask(
            Recognise(
                audio=audio,
                encoding=audio_format.encoding.value,
                sample_rate_hz=audio_format.sample_rate_hz,
                vocabulary=vocabulary,
                names=names,
            )
        )
        assert isinstance(answer, Recognised)
        return answer.text

    async def spot(self, audio: bytes, audio_format: AudioFormat) -> tuple[str, ...]:
        """The phrases of ``answer_phrases`` that are said in some seconds of audio. Raises ``WorkerError``."""
        encoding, rate_hz = audio_format.encoding.value, audio_format.sample_rate_hz
        answer = await self._recognisers.ask(Spot(audio=audio, encoding=encoding, sample_rate_hz=rate_hz))
        assert isinstance(answer, Spotted)
        return answer.phrases

    async def recognise(self, audio: bytes, audio_format: AudioFormat) -> str:
        """The words of one utterance; "" when there are none or the recogniser failed."""
        try:
            return await self.understand(audio, audio_format) or ""
        except WorkerError:
            return ""

    async def synthesise(self, text: str, audio_format: AudioFormat) -> Synthesised:
        """``text`` spoken, with the place of each word. Raises ``WorkerError``."""
        answer = await self._voice.ask(
            Synthesise(text=text, encoding=audio_format.encoding.value, sample_rate_hz=audio_format.sample_rate_hz)
        )
        assert isinstance(answer, Synthesised)
        return answer

    async def speak(self, text: str, audio_format: AudioFormat) -> bytes:
        """``text`` spoken. Raises ``BridgeError``."""
        if self.missing is not None:
            raise BridgeError("local", self.missing, "fatal")
        try:
            return (await self.synthesise(text, audio_format)).audio
        except WorkerError as error:
            raise BridgeError("local", str(error), "retry") from error
