"""What a voice was given to say and how much of it came: one context after the other, and the rest of one. Pure."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from offhook.bridge.cascade.utterance import Utterance
from offhook.model.audio import AudioFormat

MS_PER_CHARACTER = 65
"""People, and voices, speak fifteen characters a second: where a voice gives no places of words."""


@dataclass(slots=True)
class _Context:
    """Since it was begun, or begun anew: ``utterance`` is what the voice was given and what came of it."""

    utterance: Utterance = field(default_factory=Utterance)
    pieces: list[str] = field(default_factory=list)
    aligned: list[tuple[int, str]] = field(default_factory=list)
    before_ms: float = 0.0
    """Audio that had come when it was begun anew."""
    finished: bool = False


class SpokenQueue:
    """The oldest context is ``current``: its text goes to the voice, that of the others waits."""

    def __init__(self, output_format: AudioFormat) -> None:
        self._bytes_per_ms = output_format.bytes_per_ms
        self._contexts: OrderedDict[str, _Context] = OrderedDict()

    @property
    def current(self) -> str | None:
        return next(iter(self._contexts), None)

    @property
    def finished(self) -> bool:
        """Of the current context: no more text comes."""
        current = self._current()
        return current is not None and current.finished

    @property
    def waits(self) -> bool:
        """The voice owes something: there is text of which no audio came, or an end that was not told."""
        current = self._current()
        if current is None:
            return False
        return current.finished or (bool(current.pieces) and current.utterance.audio_ms == 0)

    def knows(self, context: str) -> bool:
        return context in self._contexts

    def begin(self, context: str) -> bool:
        """True: it is the current one from the start."""
        self._contexts.setdefault(context, _Context())
        return self.current == context

    def say(self, context: str, text: str) -> bool:
        """True: it is for the voice now."""
        known = self._contexts.get(context)
        if known is None:
            return False
        known.pieces.append(text)
        known.utterance.say(text)
        return self.current == context

    def finish(self, context: str) -> bool:
        known = self._contexts.get(context)
        if known is None or known.finished:
            return False
        known.finished = True
        return self.current == context

    def leave(self, context: str) -> bool:
        """It is done or given up. True: another one may be current now."""
        was_current = self.current == context
        self._contexts.pop(context, None)
        return was_current

    def heard(self, audio_bytes: int) -> None:
        current = self._current()
        if current is not None:
            current.utterance.audio_ms += audio_bytes / self._bytes_per_ms

    def align(self, text: str, at_ms: int) -> int:
        """Of the current context; returns the place in all audio of it, what came on an earlier try counted."""
        current = self._current()
        if current is None:
            return at_ms
        current.aligned.append((at_ms, current.utterance.align(text, at_ms)))
        return round(current.before_ms) + at_ms

    def resume(self) -> None:
        """What comes next of the current context is the rest of it."""
        current = self._current()
        if current is not None:
            rest = _rest(current)
            current.before_ms += current.utterance.audio_ms
            current.pieces, current.aligned, current.utterance = [], [], Utterance()
            if rest.strip():
                current.pieces.append(rest)
                current.utterance.say(rest)

    def unspoken(self) -> tuple[str, ...]:
        """The text of the current context that the voice has to say, or to say again."""
        current = self._current()
        if current is None:
            return ()
        if current.utterance.audio_ms:
            self.resume()
        return tuple(current.pieces)

    def _current(self) -> _Context | None:
        return next(iter(self._contexts.values()), None)


def _rest(context: _Context) -> str:
    """Without what was surely spoken: the words whose sound had come, else whole pieces by the time they take."""
    came_ms = context.utterance.audio_ms
    whole = "".join(context.pieces)
    if context.aligned:
        spoken = "".join(text for at_ms, text in context.aligned if at_ms < came_ms)
        return whole[len(spoken) :].lstrip()
    pieces = list(context.pieces)
    while pieces and len(pieces[0]) * MS_PER_CHARACTER <= came_ms:
        came_ms -= len(pieces.pop(0)) * MS_PER_CHARACTER
    return "".join(pieces)
