"""The agent's side of the floor: what it says, what of it the call was given, and how long it will be heard.

One ``Spoken`` for each utterance. Its text goes to the voice, its audio and words to the call, or behind its gate; the
history keeps what was said, and after an interruption what was heard.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from itertools import count
from typing import assert_never

from offhook.bridge.cascade.history import History
from offhook.bridge.cascade.ports import Aligned, ContextDone, ContextFailed, TtsEvent, TtsListener, Voice
from offhook.bridge.cascade.spoken import Spoken
from offhook.bridge.cascade.turn import Overlap
from offhook.bridge.codec import (
    AudioDone,
    BridgeEvent,
    BridgeFault,
    BridgeListener,
    ResponseDone,
    ResponseStarted,
    TranscriptDelta,
    UsageReported,
)
from offhook.model.audio import FRAME_MS, AudioFormat

MAX_SPOKEN = 64
"""Utterances whose words can still be told apart; those that wait to be played are a few."""

TAIL_MS = 300
"""Speech over so little of the agent's rest is a turn of its own: the call has nothing left to cut."""

NOT_AUDIBLE_MS = -10_000


class Speaking:
    """Implements ``TtsListener``. ``settled`` is told of each utterance of which everything is with the call."""

    def __init__(
        self,
        make_voice: Callable[[TtsListener], Voice],
        listener: BridgeListener,
        history: History,
        *,
        output_format: AudioFormat,
        settled: Callable[[Spoken], None],
        failed: Callable[[str, BridgeFault], None],
    ) -> None:
        self.voice = make_voice(self)
        self.clock_ms = 0
        """Of the caller's frames."""
        self._listener = listener
        self._history = history
        self._bytes_per_ms = output_format.bytes_per_ms
        self._settled = settled
        self._failed = failed
        self._items = count(1)
        self._spoken: OrderedDict[str, Spoken] = OrderedDict()
        self._audible_until_ms = NOT_AUDIBLE_MS
        self.silenced = False
        """Nothing more is told: the connection is closed, or failed."""

    # ── how long it is heard ─────────────────────────────────────────────────────────────────────────────

    def tick(self) -> None:
        self.clock_ms += FRAME_MS

    def overlap(self) -> Overlap:
        """What speech that begins now lies over."""
        left_ms = self._audible_until_ms - self.clock_ms
        if left_ms > TAIL_MS:
            return "over"
        return "tail" if left_ms > -TAIL_MS else "none"

    @property
    def audible_until_ms(self) -> int:
        """By the clock; an estimate: only the call knows what it played."""
        return self._audible_until_ms

    def was_paused(self, ms: int) -> None:
        """The call kept the agent silent so long."""
        self._audible_until_ms += ms

    def was_cut(self) -> None:
        self._audible_until_ms = NOT_AUDIBLE_MS

    # ── what it says ─────────────────────────────────────────────────────────────────────────────────────

    def begin(self, *, to: str = "", held: bool = False) -> Spoken:
        """See ``Spoken``."""
        item = f"agent-{next(self._items)}"
        spoken = self._spoken[item] = Spoken(item=item, began_ms=self.clock_ms, to=to, held=held)
        while len(self._spoken) > MAX_SPOKEN:
            self._spoken.popitem(last=False)
        self._put(spoken, ResponseStarted())
        return spoken

    def find(self, item: str) -> Spoken | None:
        return self._spoken.get(item)

    @property
    def unfinished(self) -> tuple[Spoken, ...]:
        return tuple(spoken for spoken in self._spoken.values() if not spoken.over)

    @property
    def midway(self) -> bool:
        """The call has the beginning of an utterance whose rest is still to come."""
        return any(spoken.given and not spoken.sound_done for spoken in self.unfinished)

    def say(self, spoken: Spoken, pieces: Iterable[str]) -> None:
        for piece in pieces:
            if spoken.over:
                return
            if not spoken.voiced:
                spoken.voiced = True
                self.voice.begin(spoken.item)
            spoken.utterance.say(piece)
            self.voice.say(spoken.item, piece)
            if not spoken.held:
                self._write_down(spoken)
            if not self.voice.aligns:
                self._put(spoken, TranscriptDelta(speaker="agent", item=spoken.item, text=piece, final=False))

    def finish(self, spoken: Spoken) -> None:
        """No more text."""
        spoken.text_done = True
        if spoken.voiced:
            self.voice.finish(spoken.item)
        else:
            spoken.sound_done = True
        self.settle(spoken)

    def release(self, spoken: Spoken) -> None:
        """It is certain that it is wanted."""
        if spoken.over:
            return
        self._write_down(spoken)
        for what in spoken.take_kept():
            self._put(spoken, what)

    def drop(self, spoken: Spoken, *, heard: str = "") -> None:
        """It is given up; ``heard`` is what stays of it. What is over already is only remembered otherwise."""
        if not spoken.to:
            self._history.agent_said(spoken.item, heard)
        if spoken.over:
            return
        if spoken.making is not None:
            spoken.making.cancel()
        if spoken.voiced:
            self.voice.cancel(spoken.item)
        spoken.take_kept()
        if not spoken.to:
            self._put(spoken, ResponseDone())
        self._report_characters(spoken)
        spoken.over = True

    def _write_down(self, spoken: Spoken) -> None:
        self._history.agent_said(spoken.item, spoken.utterance.said.rstrip())

    def settle(self, spoken: Spoken) -> None:
        """Done with it, if all of it is with the call."""
        if spoken.over or spoken.held or not (spoken.text_done and spoken.sound_done):
            return
        self._put(spoken, ResponseDone())
        self._settled(spoken)
        spoken.over = True

    def _report_characters(self, spoken: Spoken) -> None:
        if spoken.voiced and not self.silenced:
            self._listener.bridge_event(UsageReported(units="characters", amount=len(spoken.utterance.said)))

    # ── TtsListener ──────────────────────────────────────────────────────────────────────────────────────

    def tts_audio(self, context: str, audio: bytes) -> None:
        spoken = self._spoken.get(context)
        if spoken is not None:
            spoken.utterance.audio_ms += len(audio) / self._bytes_per_ms
            self._put(spoken, audio)

    def tts_event(self, event: TtsEvent) -> None:
        match event:
            case Aligned(context=context, text=text, at_ms=at_ms):
                self._align(context, text, at_ms)
            case ContextDone(context=context):
                self._sound_done(context)
            case ContextFailed(fault=fault):
                self._failed("voice", fault)
            case BridgeFault():
                self._failed("voice", event)
            case UsageReported():
                if not self.silenced:
                    self._listener.bridge_event(event)
            case _:
                assert_never(event)

    def _align(self, context: str, text: str, at_ms: int) -> None:
        spoken = self._spoken.get(context)
        words = spoken.utterance.align(text, at_ms) if spoken is not None else ""
        if spoken is not None and words:
            delta = TranscriptDelta(speaker="agent", item=context, text=words, final=False, at_ms=at_ms)
            self._put(spoken, delta)

    def _sound_done(self, context: str) -> None:
        spoken = self._spoken.get(context)
        if spoken is None or spoken.over:
            return
        spoken.utterance.complete = spoken.sound_done = True
        whole = spoken.utterance.said.strip()
        self._put(spoken, TranscriptDelta(speaker="agent", item=context, text=whole, final=True))
        self._put(spoken, AudioDone(item=context))
        self._report_characters(spoken)
        self.settle(spoken)

    def _put(self, spoken: Spoken, what: bytes | BridgeEvent) -> None:
        if self.silenced or not spoken.passes(what):
            return
        if isinstance(what, bytes):
            begins_ms = max(self.clock_ms, self._audible_until_ms)
            self._audible_until_ms = begins_ms + len(what) // self._bytes_per_ms
            self._listener.audio_out(spoken.item, what)
        else:
            self._listener.bridge_event(what)
