"""Follows what both sides say: items and their words, as Gemini sends them. Pure.

A turn of the model is one item, or several where a tool is called between. Its end has two names: with
``generationComplete`` no more audio comes, the item is done; with ``turnComplete`` the server thinks it was played,
and its words are all there. Words come in pieces, later than the audio, sometimes after the first of the two.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import Literal

from offhook.bridge.codec import AudioDone, Interrupted, ResponseDone, ResponseStarted, TranscriptDelta
from offhook.bridge.wire import CodecOutput

MAX_WORDS = 20_000
"""Characters of one utterance: twenty minutes of speech. What comes after is not written down."""

CUT_FRAMES = 250
"""Of no audio, after which a turn that the call cut off is taken for over: the server learns of it within a second."""

INTERRUPTED_FRAMES = 25
"""The same, of a turn that the server itself gave up, should ``turnComplete`` not follow."""


@dataclass(slots=True)
class _Words:
    """Of one utterance. ``told``: the final transcript was given."""

    speaker: Literal["caller", "agent"]
    item: str
    pieces: list[str] = field(default_factory=list)
    characters: int = 0

    def add(self, text: str) -> bool:
        self.characters += len(text)
        if self.characters > MAX_WORDS:
            return False
        self.pieces.append(text)
        return True

    def delta(self, text: str) -> TranscriptDelta:
        return TranscriptDelta(speaker=self.speaker, item=self.item, text=text, final=False)

    def final(self) -> TranscriptDelta:
        return TranscriptDelta(speaker=self.speaker, item=self.item, text="".join(self.pieces), final=True)


class Replies:
    """One conversation, over all its websockets: items are named once.

    ``item``: the utterance whose audio is coming. ``responding``: between ``ResponseStarted`` and ``ResponseDone``.
    """

    def __init__(self) -> None:
        self._numbers = count(1)
        self._caller = self._new_caller()
        self._agent: _Words | None = None
        self._early: list[str] = []
        self._cut_at: int | None = None
        self._cut_for = CUT_FRAMES
        self.item = ""
        self.responding = False
        self.turn_open = False
        """Something of the model's turn came, and ``turnComplete`` did not."""

    # ── the agent ────────────────────────────────────────────────────────────────────────────────────────

    def audio_item(self, now: int, out: CodecOutput) -> str | None:
        """The item that audio belongs to which came at frame ``now``; None: it was cut, nobody wants it."""
        if self._cut_at is not None:
            if now - self._cut_at < self._cut_for:
                self._cut_at = now
                return None
            self._cut_at = None
            self.end_item(out)
        if not self.item:
            self._begin_item(out)
        return self.item

    def agent_words(self, text: str, out: CodecOutput) -> None:
        if not text or self._cut_at is not None:
            return
        if self._agent is not None and self.turn_open:
            if self._agent.add(text):
                out.bridge_event(self._agent.delta(text))
        elif sum(map(len, self._early)) + len(text) <= MAX_WORDS:
            self._early.append(text)

    def begin_response(self, out: CodecOutput) -> None:
        self.turn_open = True
        if not self.responding:
            self.responding = True
            self.end_caller(out)
            out.bridge_event(ResponseStarted())

    def generated(self, out: CodecOutput) -> None:
        """``generationComplete``, or tools were called: what comes next is another item."""
        self.end_item(out)
        self._end_response(out)

    def turn_complete(self, out: CodecOutput) -> None:
        self.generated(out)
        self._end_words(out)
        self.end_caller(out)
        self.turn_open = False
        self._cut_at = None

    def interrupted(self, now: int, out: CodecOutput) -> None:
        """By the server. What it had said may be playing still."""
        if not self.turn_open:
            return
        if self._cut_at is None and self._agent is not None:
            out.bridge_event(Interrupted(item=self._agent.item))
        self._cut_at, self._cut_for = now, INTERRUPTED_FRAMES
        self._end_response(out)

    def cut(self, item: str, now: int) -> None:
        """By the call: what still comes of this item's turn is dropped."""
        if self.turn_open and self._agent is not None and item == self._agent.item:
            self._cut_at, self._cut_for = now, CUT_FRAMES

    def lost(self, out: CodecOutput) -> None:
        """The session broke; nothing more comes of its turn."""
        self.turn_complete(out)

    def _begin_item(self, out: CodecOutput) -> None:
        self._end_words(out)
        self.begin_response(out)
        self.item = f"turn-{next(self._numbers)}"
        self._agent = _Words("agent", self.item)
        early, self._early = self._early, []
        for text in early:
            self.agent_words(text, out)

    def end_item(self, out: CodecOutput) -> None:
        """No more audio of it comes."""
        if self.item:
            out.bridge_event(AudioDone(item=self.item))
        self.item = ""

    def _end_response(self, out: CodecOutput) -> None:
        if self.responding:
            self.responding = False
            out.bridge_event(ResponseDone())

    def _end_words(self, out: CodecOutput) -> None:
        words, self._agent = self._agent, None
        if words is not None and words.pieces:
            out.bridge_event(words.final())

    # ── the caller ───────────────────────────────────────────────────────────────────────────────────────

    def caller_words(self, text: str, out: CodecOutput, *, quietly: bool) -> None:
        """``quietly``: the agent is speaking, so these are late words of what it answers; told with the end alone."""
        if text and self._caller.add(text) and not quietly:
            out.bridge_event(self._caller.delta(text))

    def end_caller(self, out: CodecOutput) -> None:
        """The caller's utterance is over: the model answers it, or said that it is."""
        if self._caller.pieces:
            out.bridge_event(self._caller.final())
            self._caller = self._new_caller()

    def _new_caller(self) -> _Words:
        return _Words("caller", f"caller-{next(self._numbers)}")
