"""Whether the agent of a call of ours is heard, as long as it is not known who picked up: ``AnswerWatch`` says when."""

from __future__ import annotations

from functools import partial
from typing import Protocol

from offhook.bridge.codec import BridgeInput, Say
from offhook.call.agent_seat import AgentSeat
from offhook.call.controls import CallControls
from offhook.call.own_words import OwnWords
from offhook.call.parting import Parting
from offhook.call.turn_taking import TurnTaking
from offhook.call.wiring import Wiring
from offhook.media.session import MediaSession

OPENED_S = 5.0
"""For a provider that is only opened now, and then says a sentence."""


class Talk(Protocol):
    """The conduct."""

    @property
    def talking(self) -> bool:
        """Media flows both ways."""
        ...

    @property
    def media(self) -> MediaSession:
        """Of whom the agent talks with."""
        ...

    @property
    def says_exactly(self) -> bool:
        """The agent's provider speaks a text word by word."""
        ...

    def tell(self, command: BridgeInput) -> None: ...


class WatchedTalk:
    """What stands between the agent and who picked up. ``withholds``: the agent is not heard, and hears nothing."""

    def __init__(
        self,
        call: CallControls,
        talk: Talk,
        wiring: Wiring,
        *,
        seat: AgentSeat,
        turns: TurnTaking,
        parting: Parting,
        own_words: OwnWords,
    ) -> None:
        self._call = call
        self._talk = talk
        self._wiring = wiring
        self._seat = seat
        self._turns = turns
        self._parting = parting
        self._own_words = own_words
        self.withholds = False

    @property
    def attends(self) -> bool:
        """The remote party is the agent's: neither on hold nor on the way to somebody else."""
        return self._wiring.seating.stage == "talking"

    def begin(self) -> None:
        """The talk begins: the agent greets, unless it is withheld."""
        if self.withholds:
            self._talk.media.pause()
        else:
            self.release()

    def withhold(self) -> None:
        """The agent hears nothing from here on, and what it says waits. What it is being heard to say ends here. Not in
        the middle of a transfer."""
        if not self.attends:
            return
        self.withholds = True
        if self._talk.talking:
            self._turns.cut()
            self._talk.media.pause()
            self._wiring.seat(up=False)

    def release(self, instead: tuple[BridgeInput, ...] | None = None) -> None:
        """The agent hears and is heard from here on, and greets. ``instead``: what it is told in the place of that."""
        self.withholds = False
        if instead is not None:
            self._turns.cut()
        self._talk.media.resume()
        self._wiring.seat(up=True)
        self._seat.may_begin(instead)

    def tell(self, command: BridgeInput) -> None:
        """Something the agent should know."""
        self._talk.tell(command)

    def say_word_by_word(self, text: str) -> None:
        """In the agent's place."""
        self._own_words.say(text, exact=True)

    def say_and_leave(self, text: str, reason: str, *, within_s: float) -> None:
        """Word by word, and then the call ends as one that met an answering machine."""
        end = partial(self._call.end, by="system", cause="answering_machine", reason=reason)
        if self._call.equipment.voice is not None and not self._talk.says_exactly:
            self.release(())
            self.say_word_by_word(text)
            self._parting.after_speech(end, within_s=within_s)
        else:
            self._parting.after_speech(end, within_s=within_s, after_words=True, words_within_s=OPENED_S)
            self.release((Say(text=text, exact=True),))
