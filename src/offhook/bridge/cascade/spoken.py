"""Something the agent says: its item, its words, and the gate that keeps it from the call while it is on trial."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from offhook.bridge.cascade.ports import ToolUse
from offhook.bridge.cascade.utterance import Utterance
from offhook.bridge.codec import BridgeEvent, BridgeFault


@dataclass(slots=True)
class Spoken:
    """``to``: the words of the caller that it answers, until they are part of the history. ``held``: the gate is shut.

    ``began_ms``: on the clock of the caller's frames.
    """

    item: str
    began_ms: int
    to: str = ""
    held: bool = False
    utterance: Utterance = field(default_factory=Utterance)
    uses: list[ToolUse] = field(default_factory=list)
    making: asyncio.Task[None] | None = None
    voiced: bool = False
    """The voice was given text of it."""
    text_done: bool = False
    sound_done: bool = False
    given: bool = False
    """The call has audio of it."""
    called: bool = False
    """Its tools were called."""
    fault: BridgeFault | None = None
    """It could not be made, which matters when it turns out that it was wanted."""
    over: bool = False
    """Done or given up: nothing more of it is told."""
    _kept: list[bytes | BridgeEvent] = field(default_factory=list)

    def passes(self, what: bytes | BridgeEvent) -> bool:
        """Whether the call shall have this now; else it is kept until that is known, or forgotten."""
        if self.held and not self.over:
            self._kept.append(what)
        elif not self.over and isinstance(what, bytes):
            self.given = True
        return not self.held and not self.over

    def take_kept(self) -> list[bytes | BridgeEvent]:
        """Open the gate; these are to be told now, in order."""
        self.held = False
        kept, self._kept = self._kept, []
        return kept
