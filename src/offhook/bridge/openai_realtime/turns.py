"""Whose turn it is at OpenAI Realtime, and which turns of the caller are owed an answer. Pure; milliseconds of frames.

The server answers each turn by itself, but not while a response of it runs, and it cannot know what the caller
hears. So a turn that it could not answer is answered at our request once it proves to be one; and the answer to a
sound that has not stopped the agent yet ("mm-hm"?) is doubtful: it is kept back until the call has decided.
"""

from __future__ import annotations

from dataclasses import dataclass

BACKCHANNEL_MS = 2000
"""Whoever says more than this (the server's hangover included) wants an answer, though the agent was not stopped."""

JUST_BEFORE_MS = 1500
"""The call's own ear may cut the agent so much before the server notices a voice."""

AT_THE_END_MS = 1500
"""A short word so near the end of what the agent says is the answer to it, and wants one."""

OVERDUE_MS = 3000
"""A server that answers by itself begins within a few hundred; then it is asked."""

LAG_MS = 150
"""What the playout is behind at most, of what was received."""


@dataclass(slots=True)
class CallerTurn:
    """What the caller says, or said last. ``over_agent``: it began while the agent was to be heard."""

    began_ms: int
    over_agent: bool
    cut_agent: bool
    ended_ms: int | None = None

    @property
    def owed(self) -> bool:
        """It deserves an answer, as far as one knows."""
        long = self.ended_ms is not None and self.ended_ms - self.began_ms > BACKCHANNEL_MS
        return self.cut_agent or not self.over_agent or long


class Turns:
    """``interruptible``: False where the agent is never stopped; then all that is said over it is answered after."""

    def __init__(self, *, interruptible: bool) -> None:
        self.now_ms = 0
        self._interruptible = interruptible
        self._audible_until_ms = 0
        self._cut_at_ms = -JUST_BEFORE_MS
        self._turn: CallerTurn | None = None
        self._unanswered = False
        self.answer_expected = False
        """By the server, by itself: it will begin one any moment."""

    @property
    def caller_speaks(self) -> bool:
        return self._turn is not None and self._turn.ended_ms is None

    @property
    def agent_audible(self) -> bool:
        """By what was received and how long it takes to be played; pauses of the playout are not known here."""
        return self.now_ms < self._audible_until_ms

    def agent_said(self, ms: int) -> None:
        self._audible_until_ms = max(self._audible_until_ms, self.now_ms + LAG_MS) + ms

    def agent_cut(self) -> bool:
        """The call stopped the agent for the caller. Returns whether a turn is to be answered at our request now."""
        self._audible_until_ms = self._cut_at_ms = self.now_ms
        if self._turn is not None:
            self._turn.cut_agent = True
        return self.answer_due()

    def caller_began(self, *, agent_begins: bool = False) -> None:
        """``agent_begins``: what the agent was told to say is on its way, a greeting for instance, which is what a
        callee's "Hello?" asks for.
        """
        just_cut = self.now_ms - self._cut_at_ms < JUST_BEFORE_MS
        over = agent_begins or (self.agent_audible and self._interruptible)
        self._turn = CallerTurn(began_ms=self.now_ms, over_agent=over, cut_agent=just_cut)
        self._unanswered = False

    def agent_begins(self) -> None:
        """The agent is told to say something, though the caller speaks."""
        if self._turn is not None and self.caller_speaks:
            self._turn.over_agent = True

    def caller_ended(self) -> None:
        if self._turn is not None:
            self._turn.ended_ms = self.now_ms

    def committed(self, *, will_be_answered: bool) -> None:
        """The caller's words became an item; ``will_be_answered``: by the server, by itself."""
        if self._turn is None:  # the server made a turn of silence
            self._turn = CallerTurn(began_ms=self.now_ms, over_agent=False, cut_agent=False)
        self.caller_ended()
        self._unanswered = not will_be_answered
        self.answer_expected = will_be_answered

    @property
    def answer_overdue(self) -> bool:
        turn = self._turn
        ended_ms = turn.ended_ms if turn is not None else None
        return self.answer_expected and ended_ms is not None and self.now_ms - ended_ms > OVERDUE_MS

    @property
    def proved(self) -> bool:
        """The caller's last turn stopped the agent, or came at the end of what he said."""
        turn = self._turn
        if turn is None or turn.ended_ms is None:
            return False
        at_the_end = not self.agent_audible and self.now_ms - turn.ended_ms <= AT_THE_END_MS
        return turn.cut_agent or at_the_end

    @property
    def answer_doubtful(self) -> bool:
        """An answer would be one to what did not stop the agent, who is still to be heard."""
        turn = self._turn
        return turn is not None and turn.ended_ms is not None and not turn.owed and self.agent_audible

    def called_off(self) -> None:
        """A doubtful answer was: should the turn prove to be one after all, it is still owed."""
        self._unanswered = True

    def answered(self) -> None:
        self._unanswered = self.answer_expected = False

    def answer_due(self) -> bool:
        """A turn that nobody answers is owed an answer; said once."""
        turn = self._turn
        due = self._unanswered and turn is not None and turn.ended_ms is not None and turn.owed
        if due:
            self._unanswered = False
        return due
