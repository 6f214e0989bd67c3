"""What the parts of a call may do to it; ``CallSession`` implements it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Protocol

from offhook.call.equipment import Equipment
from offhook.call.inbox import InboxFact, Timer
from offhook.model.call_events import CallEvent, CallFact, EndCause, EndedBy


class UsageOwner(Protocol):
    """Whom the SIP events of an INVITE usage go to."""

    def own_usage(self, usage_id: int) -> None:
        """Those of this one, too, from here on."""
        ...

    def deliver(self, fact: InboxFact) -> None: ...


class CallControls(Protocol):
    """``leg_id`` names the leg that a fact or a timer belongs to; "" is the call's first."""

    call_id: str
    account_id: str
    equipment: Equipment

    def own_usage(self, usage_id: int) -> None:
        """From here the usage's SIP events come to this call."""
        ...

    def emit(self, fact: CallFact, leg_id: str = "") -> CallEvent: ...

    def deliver(self, fact: InboxFact) -> None: ...

    def spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Run something that reports by facts; it is cancelled when the call is over."""
        ...

    def arm(self, timer: Timer, delay_s: float, leg_id: str = "") -> None:
        """``TimerFired(timer, leg_id)`` after ``delay_s``; replaces an earlier one of the same name and leg."""
        ...

    def disarm(self, timer: Timer, leg_id: str = "") -> None: ...

    def end(
        self,
        *,
        by: EndedBy,
        cause: EndCause,
        reason: str = "",
        sip_code: int | None = None,
        provider_fault: str | None = None,
    ) -> None:
        """Begin the end: whatever comes first decides how the call is recorded; the rest is ignored."""
        ...
