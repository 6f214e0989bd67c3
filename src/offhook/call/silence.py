"""Keeps the time of a call in which nobody speaks; ``SilenceWatch`` says what is due."""

from __future__ import annotations

import time
from collections.abc import Callable

from offhook.call.controls import CallControls
from offhook.call.silence_watch import GiveUpCaller, SayPrompt, SilenceWatch
from offhook.model.records import Agent


class Silence:
    """``say`` says a prompt, ``give_up`` ends the call."""

    def __init__(
        self, call: CallControls, key: str, agent: Agent, *, say: Callable[[str], None], give_up: Callable[[], None]
    ) -> None:
        self._call = call
        self._key = key
        self._watch = SilenceWatch(agent)
        self._say = say
        self._give_up = give_up
        self._due: float | None = None

    @property
    def watches(self) -> bool:
        return self._watch.watches

    def sign_of_life(self) -> None:
        """The caller did something, or was away for a good reason."""
        self._watch.sign_of_life()

    def agent_began(self) -> None:
        self._watch.agent_began()

    def settle(self, *, quiet: bool) -> None:
        """Whether the caller is expected to speak now, and nobody does."""
        due = self._watch.quiet(time.monotonic()) if quiet else None
        if due is None:
            self._watch.noise()
        if due != self._due:
            self._due = due
            self._call.disarm("silence", self._key)
            if due is not None:
                self._call.arm("silence", due - time.monotonic(), self._key)

    def passed(self) -> None:
        """The timer fired."""
        self._due = None
        match self._watch.passed(time.monotonic()):
            case SayPrompt(text=text):
                self._say(text)
            case GiveUpCaller():
                self._give_up()
            case None:
                pass
