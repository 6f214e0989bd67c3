"""Calls that run, as the API sees them; and what they were told."""

from __future__ import annotations

from dataclasses import dataclass

from offhook.bridge.codec import TextInput
from offhook.model.call_events import CallPhase


@dataclass(kw_only=True)
class RunningCall:
    """Implements the API's."""

    account_id: str = "default"
    phase: CallPhase = "up"
    up_s: float = 0.0


class Running:
    """Implements ``RunningCalls``. ``gone``: whether they ended just before the command came."""

    def __init__(self, *call_ids: str) -> None:
        self.calls = {call_id: RunningCall() for call_id in call_ids}
        self.told: list[tuple[object, ...]] = []
        self.gone = False

    def inject(self, call_id: str, text: TextInput) -> bool:
        return self._take(call_id, text.role, text.text, text.respond)

    def say(self, call_id: str, text: str, *, exact: bool) -> bool:
        return self._take(call_id, text, exact)

    def hang_up(self, call_id: str, *, goodbye_s: float) -> bool:
        return self._take(call_id, goodbye_s)

    def _take(self, *told: object) -> bool:
        self.told.append(told)
        return not self.gone
