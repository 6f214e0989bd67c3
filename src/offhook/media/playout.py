"""What the agent says, waiting to be sent: items in order, cut into 20 ms frames."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from offhook.audio.convert import Converter, converter
from offhook.audio.g711 import SILENCE
from offhook.media.events import Played
from offhook.model.audio import AudioFormat

MAX_QUEUED_MS = 600_000
"""Ten minutes of speech, 5 MB of G.711: no utterance is longer. What does not fit is dropped and counted."""

MAX_ITEMS = 256
"""Utterances that wait; a provider that makes one of each piece of sound would have us count them for ever."""


@dataclass(slots=True, eq=False)
class _Item:
    """``format`` is that of the leg when the item began; the converters lie between it and that of the leg now."""

    name: str
    format: AudioFormat
    frame_bytes: int
    audio: bytearray = field(default_factory=bytearray)
    sent_bytes: int = 0
    finished: bool = False
    sounded: bool = False
    inward: Converter | None = None
    outward: Converter | None = None

    @property
    def played_ms(self) -> int:
        return self.sent_bytes // self.format.bytes_per_ms

    @property
    def queued_ms(self) -> float:
        return len(self.audio) / self.format.bytes_per_ms


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """An item's last frame was given out."""

    item: str
    played_ms: int


class Playout:
    """The outgoing queue of one leg. ``format`` is what ``play`` is given and ``next_frame`` gives.

    When it changes, what is queued stays as it is and is converted frame by frame as it goes out: minutes of it in
    one go would hold up every call.
    """

    def __init__(self, audio_format: AudioFormat) -> None:
        self._format = audio_format
        self._items: deque[_Item] = deque()
        self.paused = False
        self.sounding_item: str | None = None
        """The item of the frame just given, as long as none of its frames was found to sound."""
        self.overflow_bytes = 0
        self.starved_frames = 0

    @property
    def format(self) -> AudioFormat:
        return self._format

    @property
    def playing(self) -> str | None:
        """The item that sounds or comes next; None when nothing is left to say."""
        head = self._items[0] if self._items else None
        return head.name if head is not None and (head.audio or head.sent_bytes) else None

    @property
    def queued_ms(self) -> int:
        return int(sum(entry.queued_ms for entry in self._items))

    @property
    def items(self) -> int:
        return len(self._items)

    @property
    def waiting(self) -> tuple[str, ...]:
        """The items that sound or come later, in their order."""
        return tuple(dict.fromkeys(entry.name for entry in self._items))

    def play(self, item: str, audio: bytes) -> None:
        """Append audio of any length to an item: the last one queued under that name, else a new one."""
        room = (MAX_QUEUED_MS - self.queued_ms) * self._format.bytes_per_ms
        if len(audio) > room:
            self.overflow_bytes += len(audio) - room
            audio = audio[:room]
        target = self._find(item)
        if (target is None or target.finished) and len(self._items) >= MAX_ITEMS:
            self.overflow_bytes += len(audio)
            return
        if target is None or target.finished:
            target = self._append(item)
        target.audio += audio if target.inward is None else target.inward(audio)

    def finish(self, item: str) -> None:
        """No more audio of ``item`` will come. An item that never had any ends at its turn as well."""
        target = self._find(item)
        if target is None and len(self._items) < MAX_ITEMS:
            target = self._append(item)
        if target is not None:
            target.finished = True

    def flush(self, item: str | None = None) -> list[Played]:
        """Drop what is queued, of one item or of all, and say how much of each was played."""
        dropped = [entry for entry in self._items if item is None or entry.name == item]
        self._items = deque(entry for entry in self._items if entry not in dropped)
        return [Played(item=entry.name, played_ms=entry.played_ms) for entry in dropped]

    def agree(self, audio_format: AudioFormat) -> None:
        """The format was agreed, and is what all that waits is in already."""
        self._format = audio_format
        for entry in self._items:
            entry.format, entry.frame_bytes = audio_format, audio_format.frame_bytes

    def recode(self, audio_format: AudioFormat) -> None:
        """The format changes: what waits is converted."""
        self._format = audio_format
        for entry in self._items:
            entry.inward = converter(audio_format, entry.format)
            entry.outward = converter(entry.format, audio_format)

    def next_frame(self) -> bytes | None:
        """One whole frame of the head item, to be sent now; the last one is filled up with silence.

        None: there is nothing to say.
        """
        if self.paused or not self._items:
            return None
        head = self._items[0]
        audio, count = head.audio, head.frame_bytes
        if len(audio) < count:
            if not head.finished and len(self._items) == 1:
                self.starved_frames += head.sent_bytes > 0
                return None
            # The item is over, said to be or followed by another: its rest goes out.
            count = len(audio)
            if not count:
                return None
            frame = bytes(audio).ljust(head.frame_bytes, SILENCE[head.format.encoding])
        else:
            frame = bytes(audio[:count])
        del audio[:count]
        head.sent_bytes += count
        self.sounding_item = None if head.sounded else head.name
        return frame if head.outward is None else head.outward(frame)

    def mark_sounded(self) -> None:
        self._items[0].sounded = True

    def missed(self, frames: int) -> None:
        """So many frames can never be sent (the engine came late): their audio is dropped."""
        if self.paused or not self._items:
            return
        head = self._items[0]
        del head.audio[: frames * head.frame_bytes]

    def take_ended(self) -> Ended | None:
        """The head item if it is over, removed; to be asked each tick until None."""
        if not self._items or self.paused:
            return None
        head = self._items[0]
        if head.audio or not (head.finished or len(self._items) > 1):
            return None
        self._items.popleft()
        return Ended(item=head.name, played_ms=head.played_ms)

    def _append(self, name: str) -> _Item:
        self._items.append(_Item(name, self._format, self._format.frame_bytes))
        return self._items[-1]

    def _find(self, item: str) -> _Item | None:
        return next((entry for entry in reversed(self._items) if entry.name == item), None)
