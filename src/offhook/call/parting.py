"""What is done once everything queued was heard: a hang-up, a transfer, the next fallback."""

from __future__ import annotations

from collections.abc import Callable

from offhook.call.controls import CallControls

GOODBYE_LIMIT_S = 20.0
"""An agent that wants to hang up may finish speaking; longer than any goodbye, shorter than a complaint."""

FIRST_WORDS_S = 1.5
"""For an agent that was asked to say goodbye to begin; who says nothing until then says none."""


class Parting:
    """``silent`` says whether nothing is queued, and nothing of the present answer is still to come."""

    def __init__(self, call: CallControls, key: str, silent: Callable[[], bool]) -> None:
        self._call = call
        self._key = key
        self._silent = silent
        self._act: Callable[[], None] | None = None
        self._awaits_words = False

    @property
    def pending(self) -> bool:
        return self._act is not None

    def after_speech(
        self,
        act: Callable[[], None],
        *,
        within_s: float = GOODBYE_LIMIT_S,
        after_words: bool = False,
        words_within_s: float = FIRST_WORDS_S,
    ) -> None:
        """Do this once everything queued was heard, or after ``within_s``; whoever asks first is served.

        ``after_words``: the agent was asked for a last word, which is waited for so long.
        """
        if self._act is None:
            self._act = act
            self._call.arm("goodbye", within_s, self._key)
            if after_words:
                self._awaits_words = True
                self._call.arm("first_words", words_within_s, self._key)
        self.settle()

    def began(self) -> None:
        """The agent begins to speak."""
        self._awaits_words = False

    def words_are_due(self) -> None:
        self._awaits_words = False
        self.settle()

    def settle(self) -> None:
        """Something changed: act, if all is said."""
        if self._act is not None and not self._awaits_words and self._silent():
            self.act_now()

    def act_now(self) -> None:
        act, self._act = self._act, None
        self._awaits_words = False
        self.drop()
        if act is not None:
            act()

    def drop(self) -> None:
        """Nothing is done any more."""
        self._act = None
        self._call.disarm("goodbye", self._key)
        self._call.disarm("first_words", self._key)
