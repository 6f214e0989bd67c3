"""What a caller says over the agent, from its begin to the verdict: was it a turn, or only an "mm-hm"? Pure.

The agent is silent meanwhile, so that waiting costs nothing that can be heard; what is waited for is whoever knows
more: the provider's words, the offline recogniser. Where neither speaks, the length decides.
"""

from __future__ import annotations

from offhook.bridge.backchannels import is_backchannel
from offhook.model.audio import FRAME_MS

SURELY_A_TURN_MS = 1500
"""So long nobody says "mm-hm" or coughs (a synthetic caller spells it, in 1.4 s)."""

PERHAPS_A_TURN_MS = 800
"""Where nobody can tell the words: an "mm-hm" or an "okay" of a person lasts 300 to 600 ms."""

PAUSE_MS = 160
"""So much silence, and the recogniser is asked: longer than the gap within "wait a | minute"."""

END_MS = 400
"""Silence after which the caller has said what he wanted."""

AWAIT_RECOGNISER_MS = 1000
"""After that; it takes a third of the length, and other calls may be before this one."""

AWAIT_WORDS_MS = 1500
"""After that: providers end an utterance after half a second of silence or more, and transcribe it then."""


class Interjection:
    """``sounded_ms``: how long the caller had been heard when it was noticed. Then a frame each 20 ms.

    ``words_come``: the provider transcribes the caller; ``recogniser``: there is one to be asked.
    ``foreign``: words of an utterance before this one are still to come, and are not this one's.
    """

    def __init__(
        self, *, sounded_ms: int = 0, words_come: bool = True, recogniser: bool = False, foreign: bool = False
    ) -> None:
        self._sounded_ms = sounded_ms
        self._quiet_ms = 0
        self._waits_for_recogniser = False
        self._recognised: bool | None = None
        self._words_come = words_come
        self._surely_ms = SURELY_A_TURN_MS if words_come or recogniser else PERHAPS_A_TURN_MS
        self._foreign = foreign
        self._foreign_item = ""
        self._interim: dict[str, str] = {}
        self._by_words: bool | None = None
        self._pause_told = False

    @property
    def speech_ms(self) -> int:
        """From the first sound to the last."""
        return self._sounded_ms

    @property
    def is_pausing(self) -> bool:
        return self._quiet_ms >= PAUSE_MS

    def hear(self, *, sounds: bool) -> bool:
        """20 ms more. True when a pause begins: what was said up to here may be recognised."""
        if sounds:
            self._sounded_ms += self._quiet_ms + FRAME_MS
            self._quiet_ms = 0
            self._pause_told = False
            return False
        self._quiet_ms += FRAME_MS
        if self._pause_told or not self.is_pausing:
            return False
        self._pause_told = True
        return self._sounded_ms > 0

    @property
    def by_words(self) -> bool | None:
        """What the provider's words say; None as long as there are none."""
        return self._by_words

    def await_recogniser(self) -> None:
        """It was asked for all that was said up to here."""
        self._waits_for_recogniser = True
        self._recognised = None

    def recognise(self, genuine: bool | None) -> None:
        """The recogniser's verdict; None where it does not know."""
        self._waits_for_recogniser = False
        self._recognised = genuine

    def read(self, item: str, text: str, *, final: bool) -> None:
        """Words of the caller, as the provider has them: deltas, or with ``final`` the whole of ``item``."""
        if self._foreign and self._foreign_item in ("", item):
            self._foreign_item = item
            self._foreign = not final
        elif item != self._foreign_item or not item:
            self._weigh(item, text, final=final)

    def _weigh(self, item: str, text: str, *, final: bool) -> None:
        if not final:
            # The last word may be the begin of another: "ye" of "yeah".
            text = self._interim[item] = self._interim.get(item, "") + text
            text = text.rpartition(" ")[0]
        if not is_backchannel(text):
            self._by_words = True
        elif final and self._by_words is None:
            self._by_words = False

    def verdict(self) -> bool | None:
        """True: a turn, the agent must stay silent; False: it goes on. None: not yet."""
        if self._by_words or self._recognised or self._sounded_ms >= self._surely_ms:
            return True
        if self._by_words is False or self._recognised is False:
            return False if self.is_pausing else None
        if self._quiet_ms < END_MS or self._is_waited_for:
            return None
        return self._sounded_ms >= PERHAPS_A_TURN_MS

    @property
    def _is_waited_for(self) -> bool:
        waited_ms = self._quiet_ms - END_MS
        if self._waits_for_recogniser and waited_ms < AWAIT_RECOGNISER_MS:
            return True
        return self._words_come and waited_ms < AWAIT_WORDS_MS
