"""What the agent of ElevenLabs says, put together to utterances; and what it makes of the caller's words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import assert_never

from offhook.audio.convert import Converter
from offhook.bridge.agent_items import AgentItem, AgentItems
from offhook.bridge.codec import TranscriptDelta
from offhook.bridge.elevenlabs_messages import (
    AgentResponse,
    AgentResponseComplete,
    Alignment,
    Answer,
    Audio,
    Interruption,
    Sound,
)
from offhook.bridge.wire import CodecOutput
from offhook.model.audio import PCMU_8K, AudioFormat

DONE_AFTER_FRAMES = 50
"""Nothing says that an utterance is complete, unless the agent sends ``agent_response_complete``. Audio comes faster
than it is spoken: a second without any is its end. If more comes after all, it is heard as another utterance."""

SETTLED_AFTER_FRAMES = 10
"""So long without audio, and what comes after a word of the caller's or a tool's result belongs to the next utterance;
sooner it may be the rest of the last one."""


@dataclass(slots=True)
class _Item(AgentItem):
    """``first_event``: the lowest number of its events; ``told``: its whole text came."""

    first_event: int = 0
    told: bool = False
    audio_bytes: int = 0


class AgentSpeech:
    """Makes utterances of numbered pieces of audio and of texts: nothing on the wire says where one ends."""

    def __init__(self) -> None:
        self._format = PCMU_8K
        self._convert: Converter | None = None
        self._items = AgentItems(_Item)
        self._given_up_to = 0
        self._quiet_frames = 0

    def speaks(self, audio_format: AudioFormat, convert: Converter | None) -> None:
        self._format, self._convert = audio_format, convert

    def take(self, message: Audio | AgentResponse | AgentResponseComplete | Interruption, out: CodecOutput) -> None:
        match message:
            case Audio(audio_event=sound):
                self._sound(sound, out)
            case AgentResponse(agent_response_event=answer):
                self._words(answer, out)
            case AgentResponseComplete():
                self.finish(out)
            case Interruption(interruption_event=interruption):
                self._give_up(interruption.event_id, out)
            case _:
                assert_never(message)

    def _sound(self, sound: Sound, out: CodecOutput) -> None:
        if sound.event_id <= self._given_up_to:
            return
        item = self._items.current or self._begin(sound.event_id, out)
        self._quiet_frames = 0
        if item.cut:
            return
        at_ms = item.audio_bytes // self._format.bytes_per_ms
        item.audio_bytes += len(sound.audio_base_64)
        audio = sound.audio_base_64 if self._convert is None else self._convert(sound.audio_base_64)
        if audio:
            out.audio_out(item.name, audio)
        if sound.alignment is not None:
            piece_ms = len(sound.audio_base_64) // self._format.bytes_per_ms
            _tell_words(item.name, at_ms, piece_ms, sound.alignment, out)

    def _words(self, answer: Answer, out: CodecOutput) -> None:
        """The whole text, before or after the first sound of it."""
        event = answer.event_id if answer.event_id is not None else self._given_up_to + 1
        if event <= self._given_up_to:
            return
        if self._items.current is not None and self._items.current.told:
            self.finish(out)
        item = self._items.current or self._begin(event, out)
        item.told = True
        text = answer.agent_response.strip()
        out.bridge_event(TranscriptDelta(speaker="agent", item=item.name, text=text, final=True))

    def pass_frame(self, out: CodecOutput) -> None:
        """20 ms went by."""
        self._quiet_frames += 1
        if self._quiet_frames == DONE_AFTER_FRAMES and self._items.current is not None:
            self.finish(out)

    def settle(self, out: CodecOutput) -> None:
        """Something happened that the agent will answer: what it says then is another utterance."""
        if self._quiet_frames >= SETTLED_AFTER_FRAMES or (self._items.current is not None and self._items.current.cut):
            self.finish(out)

    def finish(self, out: CodecOutput) -> None:
        self._items.finish(out)

    def cut(self, item: str) -> None:
        """By the call: what still comes of it is not heard."""
        self._items.cut(item)

    def _give_up(self, event_id: int, out: CodecOutput) -> None:
        """By the provider: all that is numbered up to ``event_id``.

        Corrections of the text that follow are its guess of what was heard; the call knows by RTP.
        """
        self._given_up_to = max(self._given_up_to, event_id)
        self._items.give_up(lambda item: item.first_event <= event_id, out)

    def _begin(self, event_id: int, out: CodecOutput) -> _Item:
        self._quiet_frames = 0
        item = self._items.begin(out)
        item.first_event = event_id
        return item


class CallerText:
    """Texts that may change until they are final, made into pieces to be joined."""

    def __init__(self) -> None:
        self._text = ""
        self._count = 1

    def tentative(self, text: str, out: CodecOutput) -> None:
        """What was said otherwise before is only put right by the final text."""
        if text.startswith(self._text) and len(text) > len(self._text):
            more, self._text = text[len(self._text) :], text
            out.bridge_event(TranscriptDelta(speaker="caller", item=self._item, text=more, final=False))

    def final(self, text: str, out: CodecOutput) -> None:
        out.bridge_event(TranscriptDelta(speaker="caller", item=self._item, text=text.strip(), final=True))
        self._text = ""
        self._count += 1

    @property
    def _item(self) -> str:
        return f"caller-{self._count}"


def _tell_words(item: str, at_ms: int, piece_ms: int, alignment: Alignment, out: CodecOutput) -> None:
    """Times count from the beginning of the piece; those beyond its end can only count from that of the utterance."""
    words = list(_words_of(alignment))
    begins_ms = 0 if words and words[0][0] > piece_ms else at_ms
    for start_ms, word in words:
        start = begins_ms + round(start_ms)
        out.bridge_event(TranscriptDelta(speaker="agent", item=item, text=word, final=False, at_ms=start))


def _words_of(alignment: Alignment) -> Iterator[tuple[float, str]]:
    """Each with the spaces after it, and the millisecond of its piece of audio at which it begins."""
    word, start_ms = "", 0.0
    for char, at_ms in zip(alignment.chars, alignment.char_start_times_ms, strict=False):
        if word[-1:].isspace() and not char.isspace():
            yield start_ms, word
            word = ""
        if not word:
            start_ms = at_ms
        word += char
    if word:
        yield start_ms, word
