"""Calls that run, as the API sees them; and what they were told."""

from __future__ import annotations

from dataclasses import dataclass

from offhook.bridge.codec import TextInput
from offhook.call.manager import Pressed
from offhook.call.numbers import read_target
from offhook.model.call_events import CallPhase, CallRefused
from offhook.model.records import TransferDestination

SALES = TransferDestination(name="sales", target="+4930999", mode="warm", briefing="Somebody calls.", trunk_id="office")
"""What the agents of these calls have."""


@dataclass(kw_only=True)
class RunningCall:
    """Implements the API's."""

    account_id: str = "default"
    phase: CallPhase = "up"
    up_s: float = 0.0


class Running:
    """Implements ``RunningCalls``. ``gone``: whether they ended just before the command came; ``pressed``: what becomes
    of digits; ``transferring``: whether a transfer is under way. Numbers with +900 are refused.
    """

    def __init__(self, *call_ids: str) -> None:
        self.calls = {call_id: RunningCall() for call_id in call_ids}
        self.told: list[tuple[object, ...]] = []
        self.gone = False
        self.pressed: Pressed = "sent"
        self.transferring = False

    def inject(self, call_id: str, text: TextInput) -> bool:
        return self._take(call_id, text.role, text.text, text.respond)

    def say(self, call_id: str, text: str, *, exact: bool) -> bool:
        return self._take(call_id, text, exact)

    def hang_up(self, call_id: str, *, goodbye_s: float) -> bool:
        return self._take(call_id, goodbye_s)

    def hold(self, call_id: str, wanted: bool) -> bool:
        return self._take(call_id, wanted)

    def press(self, call_id: str, digits: str) -> Pressed:
        return self.pressed if self._take(call_id, digits) else "over"

    def transfer(self, call_id: str, destination: TransferDestination) -> bool:
        return self._take(call_id, destination)

    def destination(self, call_id: str, name: str) -> TransferDestination | None:
        return SALES if name == SALES.name else None

    def is_transferring(self, call_id: str) -> bool:
        return self.transferring

    def refuse_transfer(self, call_id: str, destination: TransferDestination) -> CallRefused | None:
        read_target(destination.target)
        if not destination.target.startswith("+900"):
            return None
        rule, fix = "premium-rate numbers are refused", "Call another one"
        return CallRefused(status=403, rule=rule, evidence=destination.target, fix=fix)

    def _take(self, *told: object) -> bool:
        self.told.append(told)
        return not self.gone
