"""A call as it is told."""

from __future__ import annotations

from offhook.delivery.call_document import as_they_began
from offhook.model.call_events import TurnSpoken


def test_turns_stand_in_the_order_they_began() -> None:
    cut = TurnSpoken(speaker="agent", text="As I was", started_ms=100, ended_ms=900, interrupted=True)
    over = TurnSpoken(speaker="caller", text="Stop", started_ms=700, ended_ms=800)
    assert as_they_began((over, cut)) == [cut, over]
