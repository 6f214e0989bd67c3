"""Carries out barge-in decisions and writes the transcript while an agent talks with one leg."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import assert_never

from offhook.bridge.codec import (
    Interrupt,
    Interrupted,
    InterruptionJudged,
    SpeechStarted,
    SpeechStopped,
    TranscriptDelta,
)
from offhook.call.agent_session import AgentSession
from offhook.call.barge_in import (
    BargeIn,
    BargeInFact,
    CallerSpeech,
    CutItems,
    DeadlinePassed,
    Judged,
    PausePlayout,
    ResumePlayout,
    decide,
)
from offhook.call.conversation import Conversation
from offhook.media.events import Drained, Played, SpeechSent
from offhook.media.session import MediaSession
from offhook.model.call_events import CallFact, InterruptionResumed, TurnSpoken

FloorEvent = SpeechStarted | SpeechStopped | InterruptionJudged | TranscriptDelta | Interrupted
"""The provider's events that bear on who has the floor."""


class TurnTaking:
    """``emit`` takes durable facts; ``wake_at`` asks for ``deadline_passed`` at a monotonic time."""

    def __init__(
        self,
        *,
        agent: AgentSession,
        media: MediaSession,
        emit: Callable[[CallFact], None],
        wake_at: Callable[[float], None],
        protected: Callable[[], bool] = lambda: False,
    ) -> None:
        """``protected``: what the agent says now is said to its end, whoever speaks."""
        self._agent = agent
        agent.floor = self
        self._protected = protected
        self._media = media
        self._emit = emit
        self._wake_at = wake_at
        self._state = BargeIn()
        self._conversation = Conversation()
        self._responses_before: int | None = None
        self._caller_speaks = False

    @property
    def audible(self) -> bool:
        """The agent has something to say to the caller, or is saying it."""
        return self._media.playing is not None

    @property
    def interruptible(self) -> bool:
        return self._agent.agent.interruptible and not self._protected()

    @property
    def _may_be_interrupted(self) -> bool:
        return self.audible and self.interruptible

    def answered(self, at: float) -> None:
        self._conversation.answered(at)

    def observe(self, event: FloorEvent) -> None:
        now = time.monotonic()
        match event:
            case SpeechStarted():
                self._caller_speaks = True
                self._conversation.caller_speech_started(now)
                self._decide(self._speech(started=True, at=now))
            case SpeechStopped():
                self._caller_stopped(self._media.last_speech_at)
                self._decide(self._speech(started=False, at=now))
            case InterruptionJudged(genuine=genuine):
                if not genuine:
                    self._caller_stopped(self._media.last_speech_at)
                    self._conversation.caller_disregarded()
                self._decide(Judged(genuine=genuine, agent_audible=self._may_be_interrupted, at=now))
            case TranscriptDelta():
                self._take_words(event, now)
            case Interrupted():
                self._cut(now)
            case _:
                assert_never(event)

    def digit_received(self) -> None:
        self._conversation.caller_pressed()

    def speech_sent(self, event: SpeechSent) -> None:
        """The first sound of an item left on RTP. Some providers tell only later that the caller has stopped."""
        self._caller_stopped(event.caller_speech_at)
        self._conversation.agent_heard(event.item, event.at)

    def drained(self, event: Drained) -> None:
        """An item was played to its end."""
        self._agent.audio_ms.pop(event.item, None)
        self._emit_turn(self._conversation.agent_done(event.item, time.monotonic()))

    def deadline_passed(self, at: float) -> None:
        self._decide(DeadlinePassed(at=at))

    def move_to(self, media: MediaSession) -> None:
        """Another party listens from here on; what was being said was heard up to here."""
        self.close()
        self._media = media

    def go_on_with(self, agent: AgentSession) -> None:
        """Another provider speaks from here on; what waits of the one before is still heard."""
        self._agent = agent
        agent.floor = self
        self._responses_before = None
        if self._state.phase == "judging":  # and the judge is gone
            self._decide(Judged(genuine=False, agent_audible=True, at=time.monotonic()))

    @property
    def unfinished(self) -> tuple[str, ...]:
        """Utterances of the agent that are being heard now, as far as their words are known."""
        return self._conversation.unfinished

    def cut(self) -> None:
        """What the agent says, or has ready to say, is not heard; and it learns that."""
        self._responses_before = None
        self._cut(time.monotonic())

    def close(self) -> None:
        """The talk ends: what was being said was heard up to here."""
        for played in self._media.flush():
            self._cut_off(played, time.monotonic())

    def _speech(self, *, started: bool, at: float) -> CallerSpeech:
        return CallerSpeech(
            started=started,
            agent_audible=self._may_be_interrupted,
            judged_later=self._agent.judges_interruption,
            at=at,
        )

    def _decide(self, fact: BargeInFact) -> None:
        self._state, commands = decide(self._state, fact)
        for command in commands:
            match command:
                case PausePlayout(judge_by=judge_by):
                    self._responses_before = self._agent.responses
                    self._media.pause()
                    self._wake_at(judge_by)
                case ResumePlayout(paused_ms=paused_ms):
                    self._media.resume()
                    self._emit(InterruptionResumed(paused_ms=paused_ms))
                case CutItems():
                    self._cut(time.monotonic())
                case _:
                    assert_never(command)

    def _caller_stopped(self, last_speech_at: float) -> None:
        """Once for each time that the caller began."""
        if self._caller_speaks:
            self._caller_speaks = False
            self._conversation.caller_speech_stopped(last_speech_at)

    def _cut(self, now: float) -> None:
        """Silence at once; the provider learns how much was heard, the transcript keeps only that.

        What the provider has begun to answer to the very interruption is said.
        """
        since = self._responses_before
        spared = frozenset[str]() if since is None else self._agent.items_since(since)
        self._responses_before = None
        for item in self._media.waiting:
            if item not in spared:
                self._cut_item(item, now)
        self._media.resume()

    def _cut_item(self, item: str, now: float) -> None:
        for played in self._media.flush(item):
            self._cut_off(played, now)
            self._agent.forget(item)
            self._agent.send(Interrupt(item=item, played_ms=played.played_ms))

    def _take_words(self, delta: TranscriptDelta, now: float) -> None:
        if delta.speaker == "agent":
            self._conversation.agent_words(delta.item, delta.text, final=delta.final, at_ms=delta.at_ms)
        elif delta.final and delta.text.strip():
            said = self._conversation.caller_said(delta.text.strip(), now, last_speech_at=self._media.last_speech_at)
            self._emit(said)

    def _cut_off(self, played: Played, now: float) -> None:
        audio_ms = self._agent.audio_ms.get(played.item, 0)
        self._emit_turn(self._conversation.agent_cut(played.item, played.played_ms, audio_ms, now))

    def _emit_turn(self, turn: TurnSpoken | None) -> None:
        if turn is not None:
            self._emit(turn)
