"""The transcript of a call, as it was heard. Pure: times are arguments, results are facts.

Belongs to the call, not to the provider. Agent utterances become turns when they were played to the end or
cut; then only the words whose sound had left on RTP count. Times in milliseconds since the answer;
monotonic seconds where the name ends in ``at``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from offhook.model.call_events import TurnSpoken

MAX_OPEN_ITEMS = 64
"""Utterances in the air at once; beyond it the oldest are forgotten (a provider that never finishes any)."""

MAX_CHARACTERS = 20_000
"""Of one utterance: twenty minutes of speech. What comes after is not kept."""

LATE_WORDS_S = 5.0
"""A recogniser is slower than its caller, but not by so much: what was said before has no words, it was a noise."""


@dataclass(slots=True)
class _Utterance:
    """One agent item from its first sound to its end. ``words``: (position in ms or None, text)."""

    words: list[tuple[int | None, str]] = field(default_factory=list)
    characters: int = 0
    whole: str | None = None
    started_at: float | None = None
    latency_ms: int | None = None


class Conversation:
    """Puts words, sounds and times of both sides together, turn by turn."""

    def __init__(self) -> None:
        self._answered_at = 0.0
        self._agent: dict[str, _Utterance] = {}
        self._caller_started_at: float | None = None
        self._caller_last_speech_at: float | None = None
        self._unworded: tuple[float, float] | None = None
        """From when to when the caller said something of which no words have come yet."""
        self._worded = False
        """Words of what he is saying have come."""
        self._awaiting_answer = False

    def answered(self, at: float) -> None:
        """From here the milliseconds count."""
        self._answered_at = at

    # ── the caller ───────────────────────────────────────────────────────────────────────────────────────

    def caller_speech_started(self, at: float) -> None:
        self._caller_started_at = at
        self._worded = False
        if self._unworded is not None and at - self._unworded[1] > LATE_WORDS_S:
            self._unworded = None

    def caller_speech_stopped(self, last_speech_at: float) -> None:
        """``last_speech_at``: arrival of the last speech packet, not the end of the detector's hangover."""
        started_at = last_speech_at if self._caller_started_at is None else self._caller_started_at
        self._unworded = None if self._worded else (min(started_at, last_speech_at), last_speech_at)
        self._caller_last_speech_at = last_speech_at
        self._awaiting_answer = True

    def caller_disregarded(self) -> None:
        """What the caller said last was no turn: what the agent says next is no answer to it."""
        self._unworded = None
        self._awaiting_answer = False

    def caller_said(self, text: str, now: float, *, last_speech_at: float | None = None) -> TurnSpoken:
        """A final transcript: of what has no words yet, else of what he is saying, else of what he said last.

        ``last_speech_at``: what was heard of him last, whether he goes on or not; some recognisers are done before a
        silence is one.
        """
        started_at, ended_at = self._unworded or self._said_last(now, last_speech_at)
        self._unworded = None
        return TurnSpoken(speaker="caller", text=text, started_ms=self._ms(started_at), ended_ms=self._ms(ended_at))

    def _said_last(self, now: float, last_speech_at: float | None) -> tuple[float, float]:
        started_at, ended_at = self._caller_started_at, self._caller_last_speech_at
        if started_at is not None and (ended_at is None or ended_at < started_at):
            self._worded = True
            return started_at, max(started_at, min(now, now if last_speech_at is None else last_speech_at))
        ended_at = now if ended_at is None else ended_at
        return ended_at if started_at is None else started_at, ended_at

    def caller_pressed(self) -> None:
        """What the agent says next answers a key, not speech: it has no latency on the wire."""
        self._awaiting_answer = False

    # ── the agent ────────────────────────────────────────────────────────────────────────────────────────

    def agent_words(self, item: str, text: str, *, final: bool, at_ms: int | None) -> None:
        utterance = self._utterance(item)
        if final:
            utterance.whole = text[:MAX_CHARACTERS]
        elif text and utterance.characters < MAX_CHARACTERS:
            utterance.characters += len(text)
            utterance.words.append((at_ms, text))

    def agent_heard(self, item: str, at: float) -> int | None:
        """The item's first speech packet left at ``at``; the turn's latency in ms, for the first item of an answer."""
        utterance = self._utterance(item)
        if utterance.started_at is not None:
            return utterance.latency_ms
        utterance.started_at = at
        if self._awaiting_answer and self._caller_last_speech_at is not None:
            utterance.latency_ms = max(0, round((at - self._caller_last_speech_at) * 1000))
            self._awaiting_answer = False
        return utterance.latency_ms

    @property
    def unfinished(self) -> tuple[str, ...]:
        """Utterances of the agent that began to be heard and did not end, as far as their words are known."""
        begun = (_whole(utterance) for utterance in self._agent.values() if utterance.started_at is not None)
        return tuple(text for text in begun if text)

    def agent_done(self, item: str, now: float) -> TurnSpoken | None:
        """The item was played to its end; None when it made no sound or had no words."""
        return self._close(item, now, _whole, interrupted=False)

    def agent_cut(self, item: str, played_ms: int, audio_ms: int, now: float) -> TurnSpoken | None:
        """The item was cut after ``played_ms`` of the ``audio_ms`` there were; None when nothing was heard."""
        return self._close(item, now, lambda utterance: _heard(utterance, played_ms, audio_ms), interrupted=True)

    def _close(
        self, item: str, now: float, words: Callable[[_Utterance], str], *, interrupted: bool
    ) -> TurnSpoken | None:
        utterance = self._agent.pop(item, None)
        if utterance is None or utterance.started_at is None:
            return None
        text = words(utterance)
        if not text:
            return None
        return TurnSpoken(
            speaker="agent",
            text=text,
            started_ms=self._ms(utterance.started_at),
            ended_ms=self._ms(now),
            interrupted=interrupted,
            latency_ms=utterance.latency_ms,
        )

    def _utterance(self, item: str) -> _Utterance:
        if item not in self._agent:
            while len(self._agent) >= MAX_OPEN_ITEMS:
                del self._agent[next(iter(self._agent))]
            self._agent[item] = _Utterance()
        return self._agent[item]

    def _ms(self, at: float) -> int:
        return max(0, round((at - self._answered_at) * 1000))


def _whole(utterance: _Utterance) -> str:
    if utterance.whole is not None:
        return utterance.whole.strip()
    return "".join(text for _, text in utterance.words).strip()


def _heard(utterance: _Utterance, played_ms: int, audio_ms: int) -> str:
    """The words whose sound began before ``played_ms``; by share of the audio where no positions are known."""
    placed = [(at_ms, text) for at_ms, text in utterance.words if at_ms is not None]
    if placed and len(placed) == len(utterance.words):
        return "".join(text for at_ms, text in placed if at_ms < played_ms).strip()
    words = _whole(utterance).split()
    share = min(1.0, played_ms / audio_ms) if audio_ms else 0.0
    return " ".join(words[: int(len(words) * share)])
