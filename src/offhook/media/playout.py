"""What the agent says, waiting to be sent: items in order, cut into 20 ms frames."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from offhook.media.events import Played

BYTES_PER_MS = 8  # G.711

MAX_QUEUED_MS = 600_000
"""Ten minutes of speech, 5 MB: no utterance is longer. What does not fit is dropped and counted."""


@dataclass(slots=True, eq=False)
class _Item:
    name: str
    audio: bytearray = field(default_factory=bytearray)
    sent_bytes: int = 0
    finished: bool = False
    sounded: bool = False

    @property
    def played_ms(self) -> int:
        return self.sent_bytes // BYTES_PER_MS


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """An item's last frame was given out."""

    item: str
    played_ms: int


class Playout:
    """The outgoing queue of one leg. Audio is G.711 in the leg's encoding; ``silence`` its silent byte."""

    def __init__(self, *, silence: bytes, frame_bytes: int = 160) -> None:
        self.silence = silence
        self._frame = frame_bytes
        self._items: deque[_Item] = deque()
        self._queued_bytes = 0
        self.paused = False
        self.sounding_item: str | None = None
        """The item of the frame just given, as long as none of its frames was found to sound."""
        self.overflow_bytes = 0
        self.starved_frames = 0

    @property
    def playing(self) -> str | None:
        """The item that sounds or comes next; None when nothing is left to say."""
        head = self._items[0] if self._items else None
        return head.name if head is not None and (head.audio or head.sent_bytes) else None

    @property
    def queued_ms(self) -> int:
        return self._queued_bytes // BYTES_PER_MS

    @property
    def items(self) -> int:
        return len(self._items)

    def play(self, item: str, audio: bytes) -> None:
        """Append audio of any length to an item: the last one queued under that name, else a new one."""
        room = MAX_QUEUED_MS * BYTES_PER_MS - self._queued_bytes
        if len(audio) > room:
            self.overflow_bytes += len(audio) - room
            audio = audio[:room]
        target = self._find(item)
        if target is None or target.finished:
            target = _Item(item)
            self._items.append(target)
        target.audio += audio
        self._queued_bytes += len(audio)

    def finish(self, item: str) -> None:
        """No more audio of ``item`` will come. An item that never had any ends at its turn as well."""
        target = self._find(item)
        if target is None:
            target = _Item(item)
            self._items.append(target)
        target.finished = True

    def flush(self, item: str | None = None) -> list[Played]:
        """Drop what is queued, of one item or of all, and say how much of each was played."""
        dropped = [entry for entry in self._items if item is None or entry.name == item]
        self._items = deque(entry for entry in self._items if entry not in dropped)
        self._queued_bytes = sum(len(entry.audio) for entry in self._items)
        return [Played(item=entry.name, played_ms=entry.played_ms) for entry in dropped]

    def recode(self, table: bytes) -> None:
        """The leg changed its encoding: what waits is translated."""
        for entry in self._items:
            entry.audio = entry.audio.translate(table)

    def next_frame(self) -> bytes | None:
        """One whole frame of the head item, to be sent now; the last one is filled up with silence.

        None: there is nothing to say.
        """
        if self.paused or not self._items:
            return None
        head = self._items[0]
        audio, count = head.audio, self._frame
        if len(audio) < count:
            if not head.finished and len(self._items) == 1:
                self.starved_frames += head.sent_bytes > 0
                return None
            # The item is over, said to be or followed by another: its rest goes out.
            count = len(audio)
            if not count:
                return None
        frame = bytes(audio[:count])
        del audio[:count]
        head.sent_bytes += count
        self._queued_bytes -= count
        self.sounding_item = None if head.sounded else head.name
        return frame if count == self._frame else frame.ljust(self._frame, self.silence)

    def mark_sounded(self) -> None:
        self._items[0].sounded = True

    def missed(self, frames: int) -> None:
        """So many frames can never be sent (the engine came late): their audio is dropped."""
        if self.paused or not self._items:
            return
        head = self._items[0]
        count = min(frames * self._frame, len(head.audio))
        del head.audio[:count]
        self._queued_bytes -= count

    def take_ended(self) -> Ended | None:
        """The head item if it is over, removed; to be asked each tick until None."""
        if not self._items or self.paused:
            return None
        head = self._items[0]
        if head.audio or not (head.finished or len(self._items) > 1):
            return None
        self._items.popleft()
        return Ended(item=head.name, played_ms=head.played_ms)

    def _find(self, item: str) -> _Item | None:
        return next((entry for entry in reversed(self._items) if entry.name == item), None)
