"""What a call says in its agent's place: shipped prompts, recorded ones, and sentences that the local voice speaks."""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from importlib import resources
from itertools import count
from typing import Literal, Protocol

from offhook.audio.convert import converter
from offhook.audio.wav import read_wav
from offhook.bridge.codec import BridgeInput, Say, TextInput, TranscriptDelta
from offhook.call.controls import CallControls
from offhook.call.inbox import Voiced
from offhook.call.ports import Voice
from offhook.media.session import MediaSession
from offhook.model.audio import AudioFormat
from offhook.model.errors import BridgeError

Prompt = Literal["one_moment", "apology"]

PROMPTS: dict[Prompt, str] = {
    "one_moment": "One moment, please.",
    "apology": "We have a technical problem. Please call again later.",
}
"""File and words of each: English, whatever the agent speaks; rendered once with flite's voice slt."""

OWN_ITEM = "offhook:"
"""How the names of our utterances begin: no provider knows them."""


class Floor(Protocol):
    """Who writes down what is said; ``TurnTaking``."""

    def observe(self, event: TranscriptDelta) -> None: ...


@lru_cache(maxsize=16)
def prompt_audio(prompt: Prompt, audio_format: AudioFormat) -> bytes:
    data = (resources.files("offhook.call") / "prompts" / f"{prompt}.wav").read_bytes()
    found, audio = read_wav(data)
    convert = converter(found, audio_format)
    return audio if convert is None else convert(audio)


class Speaker(Protocol):
    """The conduct, as far as words in its agent's place concern it."""

    @property
    def media(self) -> MediaSession:
        """Of whom the agent talks with."""
        ...

    @property
    def says_exactly(self) -> bool:
        """The agent's provider speaks a text word by word."""
        ...

    def tell(self, command: BridgeInput) -> None: ...

    def lasts(self, item: str, audio_ms: int) -> None:
        """So long; a transcript of what was cut off tells by that what was heard."""
        ...


class OwnWords:
    """Queued behind what the agent says, interrupted like it, and in the transcript as its words."""

    def __init__(self, call: CallControls, floor: Floor, speaker: Speaker) -> None:
        self._call = call
        self._floor = floor
        self._speaker = speaker
        self._numbers = count(1)
        self.voicing = 0
        """Sentences that the local voice has not spoken yet."""

    def prompt(self, prompt: Prompt) -> None:
        self._play(PROMPTS[prompt], prompt_audio(prompt, self._speaker.media.format))

    def recorded(self, name: str) -> None:
        """A WAV file that was read at the start, by its path; its words are in no transcript. "": our apology."""
        recordings = self._call.equipment.hold_audio
        audio = recordings.audio(name, self._speaker.media.format) if name else b""
        if audio:
            self._play("", audio)
        else:
            self.prompt("apology")

    def say(self, text: str, *, exact: bool) -> None:
        """``exact``: by the local voice where the agent's own cannot, and by the model where there is none."""
        voice = self._call.equipment.voice
        if exact and voice is not None and not self._speaker.says_exactly:
            self.voicing += 1
            self._call.spawn(self._voice(voice, text))
        else:
            self._speaker.tell(Say(text=text, exact=exact))

    async def _voice(self, voice: Voice, text: str) -> None:
        audio_format = self._speaker.media.format
        audio = None
        with suppress(BridgeError):
            audio = await voice.speak(text, audio_format)
        self._call.deliver(Voiced(text=text, audio=audio, format=audio_format))

    def voiced(self, voiced: Voiced) -> None:
        """The local voice is done; and the agent learns what was said for it."""
        self.voicing -= 1
        if voiced.audio is None:
            self._speaker.tell(Say(text=voiced.text))
            return
        convert = converter(voiced.format, self._speaker.media.format)
        self._play(voiced.text, voiced.audio if convert is None else convert(voiced.audio))
        told = f"The caller was just told, in your place and word by word: “{voiced.text}”"
        self._speaker.tell(TextInput(role="system", text=told))

    def _play(self, text: str, audio: bytes) -> None:
        """``audio``: ``text`` spoken, in the leg's format."""
        item, media = f"{OWN_ITEM}{next(self._numbers)}", self._speaker.media
        if text:
            self._floor.observe(TranscriptDelta(speaker="agent", item=item, text=text, final=True))
        self._speaker.lasts(item, len(audio) // media.format.bytes_per_ms)
        media.play(item, audio)
        media.finish(item)
