"""Plays a stream to an ``AnswerWatch`` faster than a call would, and keeps what it says: no sockets, no clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from offhook.audio import g711
from offhook.bridge.codec import BridgeInput
from offhook.call.answer_watch import AnswerWatch
from offhook.call.controls import CallControls
from offhook.call.inbox import InboxFact, PickupMoved, Timer
from offhook.call.leg import Leg
from offhook.call.ports import Spotter
from offhook.call.watched_talk import WatchedTalk
from offhook.model.audio import FRAME_MS, AudioFormat, Encoding
from offhook.model.call_events import AnswerJudged, CallFact
from offhook.model.records import Agent, AnsweringMachinePlan

RECOGNITION_MS = 300
"""From asking the recogniser to its answer, on a busy machine."""


@dataclass(slots=True)
class _Line:
    """A leg and its media session in one, as far as a watch needs them."""

    format: AudioFormat
    leg_id: str = "leg-1"
    sinks: list[Callable[[bytes], None]] = field(default_factory=list)

    @property
    def media(self) -> _Line:
        return self

    def connect(self, sink: Callable[[bytes], None]) -> None:
        self.sinks.append(sink)

    def disconnect(self, sink: Callable[[bytes], None]) -> None:
        self.sinks.remove(sink)


class _Equipment:
    def __init__(self, spotter: Spotter | None) -> None:
        self._spotter = spotter

    def spotter(self) -> Spotter | None:
        return self._spotter


class PlayedPickup:
    """A call and a talk in one, for one watch. ``done``: what was done, in words; ``judged``: with the time of each."""

    def __init__(
        self,
        plan: AnsweringMachinePlan | None = None,
        *,
        spotter: Spotter | None = None,
        encoding: Encoding = Encoding.PCMU,
        first_speaker: str = "agent",
    ) -> None:
        self.equipment = _Equipment(spotter)
        self.judged: list[tuple[int, AnswerJudged]] = []
        self.done: list[str] = []
        self.timers: list[Timer] = []
        self.now_ms = 0
        self.attends = True
        self.withholds = False
        self._line = _Line(AudioFormat(encoding=encoding, sample_rate_hz=8000))
        self._encoding = encoding
        self._inbox: list[InboxFact] = []
        self._waiting: list[tuple[int, Coroutine[None, None, None]]] = []
        plan = plan or AnsweringMachinePlan(detect=True)
        agent = Agent(agent_id="a", provider="p", machines=plan, first_speaker=cast(Any, first_speaker))
        self.watch = AnswerWatch(cast(CallControls, self), cast(Leg, self._line), agent, cast(WatchedTalk, self))

    # ── what a test does ─────────────────────────────────────────────────────────────────────────────────

    def early(self, samples: NDArray[np.float64]) -> None:
        """Played before the answer."""
        self.watch.begin()
        self.plays(samples)

    def answered(self, samples: NDArray[np.float64]) -> None:
        """The 2xx came; and then this is heard."""
        self.watch.answered()
        self._take()
        self.plays(samples)

    def passes(self, ms: int) -> None:
        self.plays(np.zeros(ms * 8))

    @property
    def verdicts(self) -> list[str]:
        return [judged.by for _, judged in self.judged]

    @property
    def listens(self) -> bool:
        return bool(self._line.sinks)

    def close(self) -> None:
        for _, work in self._waiting:
            work.close()

    def plays(self, samples: NDArray[np.float64]) -> None:
        """More is heard."""
        coded = g711.encode(self._encoding, np.clip(np.rint(samples), -32768, 32767).astype("<i2").tobytes())
        for at in range(0, len(coded) - 159, 160):
            self.now_ms += FRAME_MS
            for sink in tuple(self._line.sinks):
                sink(coded[at : at + 160])
            self._work()
            self._take()

    def _work(self) -> None:
        due = [work for at, work in self._waiting if at <= self.now_ms]
        self._waiting = [(at, work) for at, work in self._waiting if at > self.now_ms]
        for work in due:
            asyncio.run(cast(Any, work))

    def _take(self) -> None:
        facts, self._inbox = self._inbox, []
        for fact in facts:
            assert isinstance(fact, PickupMoved)
            self.watch.observe(fact)

    # ── CallControls ─────────────────────────────────────────────────────────────────────────────────────

    def deliver(self, fact: InboxFact) -> None:
        self._inbox.append(fact)

    def spawn(self, work: Coroutine[None, None, None]) -> None:
        self._waiting.append((self.now_ms + RECOGNITION_MS, work))

    def arm(self, timer: Timer, delay_s: float, leg_id: str = "") -> None:
        self.timers.append(timer)

    def end(self, *, by: str, cause: str, reason: str = "", **_: object) -> None:
        self.done.append(f"end: {cause}: {reason}")

    def emit(self, fact: CallFact, leg_id: str) -> None:
        assert isinstance(fact, AnswerJudged)
        assert leg_id == self._line.leg_id
        self.judged.append((self.now_ms, fact))

    # ── WatchedTalk ──────────────────────────────────────────────────────────────────────────────────────

    def withhold(self) -> None:
        self.withholds = True
        self.done.append("withhold")

    def release(self, instead: tuple[BridgeInput, ...] | None = None) -> None:
        self.withholds = False
        told = "" if instead is None else f" {[getattr(command, 'text', '') for command in instead]}"
        self.done.append(f"release{told}")

    def say_and_leave(self, text: str, reason: str, *, within_s: float) -> None:
        self.done.append(f"say and leave: {text}")

    def say_word_by_word(self, text: str) -> None:
        self.done.append(f"say: {text}")

    def tell(self, command: BridgeInput) -> None:
        self.done.append(f"tell: {getattr(command, 'text', '')}")
