"""What accounts may use: calls at once, minutes and spend of a day, counted from facts in virtual time."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count

import pytest

from offhook.call.account_limits import DAY_S, AccountUsage, AccountUse, LimitsNow
from offhook.model.call_events import CallAnswered, CallArrived, CallEnded, CallEvent, CallFact, Direction
from offhook.model.records import AccountLimits

NOON = 20_000 * DAY_S + DAY_S / 2
PRICES = {"carrier": 0.5}


class Day:
    """Calls of accounts on a day that the test lets pass."""

    def __init__(self, **limits: AccountLimits) -> None:
        self.now = NOON
        self.usage = AccountUsage(limits, price_of=lambda trunk_id: PRICES.get(trunk_id, 0.0))
        self._numbers = count(1)

    def tell(self, call_id: str, fact: CallFact) -> None:
        self.usage.note(CallEvent(call_id=call_id, leg_id="", seq=1, at=self.now, fact=fact))

    def arrive(self, account_id: str = "acme", direction: Direction = "outbound") -> str:
        call_id = f"call-{next(self._numbers)}"
        arrived = CallArrived(
            direction=direction,
            from_uri="",
            to_uri="",
            sip_call_id="",
            transport="UDP",
            remote_address="",
            trunk_id="carrier",
            account_id=account_id,
        )
        self.tell(call_id, arrived)
        return call_id

    def answered(self, account_id: str = "acme", direction: Direction = "outbound") -> str:
        call_id = self.arrive(account_id, direction)
        self.tell(call_id, CallAnswered(codec="PCMU", setup_ms=1))
        return call_id

    def end(self, call_id: str, spend: float = 0.0) -> None:
        self.tell(call_id, CallEnded(by="caller", phase="up", cause="hangup", spend=spend))

    def pass_minutes(self, minutes: float) -> None:
        self.now += minutes * 60

    def refusal(self, account_id: str = "acme", direction: Direction = "outbound") -> str | None:
        return self.usage.refuse(account_id, direction, self.now)

    def used(self, account_id: str = "acme") -> AccountUse:
        return self.usage.used(account_id, self.now)


def test_without_limits_an_account_may_do_anything() -> None:
    day = Day(other=AccountLimits(max_calls=1))
    for _ in range(100):
        day.answered()
    day.pass_minutes(300)
    assert day.refusal() is None


@pytest.mark.parametrize("direction", ["inbound", "outbound"])
def test_as_many_calls_at_once_as_an_account_may_have(direction: Direction) -> None:
    day = Day(acme=AccountLimits(max_calls=2))
    first = day.arrive()
    assert day.refusal(direction=direction) is None
    day.answered()
    assert day.refusal(direction=direction) == "account 'acme' is at its max_calls: 2 of 2"
    assert day.refusal("other") is None
    day.end(first)
    day.end(first)
    assert day.refusal(direction=direction) is None


def test_minutes_count_from_the_answer_and_while_a_call_is_up() -> None:
    day = Day(acme=AccountLimits(minutes_per_day=10))
    ringing, talking = day.arrive(), day.answered(direction="inbound")
    day.pass_minutes(6)
    day.end(talking)
    day.end(ringing)
    assert day.used() == AccountUse(minutes=6.0)
    day.answered()
    day.pass_minutes(4)
    refused = "account 'acme' is at its minutes_per_day: 10.0 of 10"
    assert [day.refusal(direction=one) for one in ("inbound", "outbound")] == [refused, refused]


def test_midnight_utc_gives_the_day_back_and_splits_a_call_in_two() -> None:
    day = Day(acme=AccountLimits(minutes_per_day=10))
    day.end(day.answered(), spend=3.0)
    long = day.answered()
    day.pass_minutes(12 * 60)
    assert day.refusal() is None
    day.pass_minutes(4)
    assert day.used() == AccountUse(calls=1, minutes=4.0, spend=2.0)
    day.pass_minutes(5)
    day.end(long, spend=364.5)
    assert day.used().minutes == 9.0
    day.now -= 10 * 60
    assert day.used().minutes == 9.0, "a clock that is set back does not bring yesterday back"


def test_money_that_is_spent_stops_outbound_calls_only() -> None:
    day = Day(acme=AccountLimits(spend_per_day=2))
    day.end(day.answered(), spend=1.0)
    up = day.answered()
    day.pass_minutes(1.9)
    assert day.refusal() is None
    day.pass_minutes(0.1)
    assert day.refusal() == "account 'acme' is at its spend_per_day: 2.00 of 2"
    assert day.refusal(direction="inbound") is None
    day.end(up, spend=1.5)
    assert day.used() == AccountUse(minutes=2.0, spend=2.5)


def test_inbound_calls_cost_nothing_while_they_are_up() -> None:
    day = Day(acme=AccountLimits(spend_per_day=1))
    day.answered(direction="inbound")
    day.pass_minutes(60)
    assert day.used().spend == 0.0


@pytest.mark.parametrize(
    ("limits", "refused"),
    [({"acme": AccountLimits(max_calls=1)}, True), ({"acme": AccountLimits()}, False), ({}, False)],
)
def test_limits_are_swapped_whole(limits: Mapping[str, AccountLimits], refused: bool) -> None:
    day = Day(acme=AccountLimits(max_calls=5))
    day.arrive()
    day.usage.use(limits)
    assert (day.refusal() is not None) is refused


def test_a_restart_takes_the_day_s_use_along() -> None:
    day = Day(acme=AccountLimits(minutes_per_day=10))
    day.usage.resume("acme", AccountUse(minutes=9.0, spend=1.0), day.now)
    day.end(day.answered())
    assert day.used() == AccountUse(minutes=9.0, spend=1.0)
    day.answered()
    day.pass_minutes(1)
    assert day.refusal() is not None


def test_facts_of_calls_that_began_elsewhere_are_not_counted() -> None:
    day = Day(acme=AccountLimits(max_calls=1))
    day.tell("unknown", CallAnswered(codec="PCMU", setup_ms=1))
    day.end("unknown", spend=9.0)
    assert day.used() == AccountUse()


def test_the_port_asks_the_clock() -> None:
    day = Day(acme=AccountLimits(minutes_per_day=1))
    day.answered()
    port = LimitsNow(day.usage, lambda: day.now)
    assert port.refuse("acme", "outbound") is None
    day.pass_minutes(1)
    assert port.refuse("acme", "outbound") is not None
