"""The bus keeps first and tells then; a watcher's fault stays its own."""

from __future__ import annotations

import logging

import pytest

from offhook.delivery.bus import Bus
from offhook.model.call_events import CallEvent, CallRinging, SpeechStateChanged

EVENT = CallEvent(call_id="c", leg_id="l", seq=1, at=0.0, fact=CallRinging(status=180))
SIGNAL = SpeechStateChanged(call_id="c", speaker="caller", speaking=True)


class Keeper:
    def __init__(self, log: list[str]) -> None:
        self._log = log

    def append(self, event: CallEvent) -> None:
        self._log.append("kept")

    async def kept(self, event: CallEvent) -> None:
        self._log.append("on disk")

    def save_leg(self, call_id: str, leg_id: str, saved: bytes | None) -> None:
        self._log.append("saved")


def test_an_event_is_kept_before_anybody_is_told() -> None:
    log: list[str] = []
    bus = Bus(Keeper(log))
    bus.watch(events=lambda event: log.append(f"told {event.seq}"), signals=lambda signal: log.append("signal"))
    bus.append(EVENT)
    assert log == ["kept", "told 1"]


def test_a_signal_is_never_kept() -> None:
    log: list[str] = []
    bus = Bus(Keeper(log))
    bus.watch(signals=lambda signal: log.append("signal"))
    bus.signal(SIGNAL)
    assert log == ["signal"]


def test_a_watcher_that_raises_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    log: list[str] = []
    bus = Bus(Keeper(log))
    bus.watch(events=lambda event: log.append(str(1 // 0)))
    bus.watch(events=lambda event: log.append("told"))
    with caplog.at_level(logging.ERROR):
        bus.append(EVENT)
    assert log == ["kept", "told"]
    assert "watcher" in caplog.text
