"""What each account uses, counted from the facts of its calls, and whether it may have one more.

In memory and pure: times are Unix seconds, given as arguments. Days are UTC.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from offhook.model.call_events import CallAnswered, CallArrived, CallEnded, CallEvent, CallRefused, Direction
from offhook.model.records import AccountLimits

DAY_S = 86_400
MINUTE_S = 60

NO_LIMITS = AccountLimits()


@dataclass(frozen=True, kw_only=True, slots=True)
class AccountUse:
    """What an account uses at a moment. ``minutes`` and ``spend`` are those of the day, ``calls`` those that are up."""

    calls: int = 0
    minutes: float = 0.0
    spend: float = 0.0


@dataclass(slots=True)
class _Live:
    """A call that is not over; ``answered_at`` None: it costs nothing yet."""

    account_id: str
    price_per_min: float
    answered_at: float | None = None

    def minutes_since(self, begin: float, now: float) -> float:
        """How long it was up after ``begin``."""
        return 0.0 if self.answered_at is None else max(0.0, now - max(begin, self.answered_at)) / MINUTE_S


class AccountUsage:
    """Fed with every fact by ``note``; ``use`` swaps the limits whole.

    ``price_of``: what outbound calls of a trunk cost per minute, for those that are still up; what one that is over
    did cost, its last fact says.
    """

    def __init__(self, limits: Mapping[str, AccountLimits], *, price_of: Callable[[str], float]) -> None:
        self._limits = limits
        self._price_of = price_of
        self._live: dict[str, _Live] = {}
        self._day = 0
        self._minutes: dict[str, float] = {}
        self._spend: dict[str, float] = {}

    def use(self, limits: Mapping[str, AccountLimits]) -> None:
        """These count from now on, for new calls; none that is up is ended."""
        self._limits = limits

    def resume(self, account_id: str, used: AccountUse, now: float) -> None:
        """What an account used on the day of ``now`` before this process began, by the records of its calls."""
        self._turn_day(now)
        self._add(account_id, used.minutes, used.spend)

    def note(self, event: CallEvent) -> None:
        """Count a fact; those of calls whose arrival was not seen here are none of ours."""
        live = self._live.get(event.call_id)
        match event.fact:
            case CallArrived(direction=direction, account_id=account_id, trunk_id=trunk_id):
                price = self._price_of(trunk_id) if direction == "outbound" else 0.0
                self._live[event.call_id] = _Live(account_id, price)
            case CallAnswered() if live is not None:
                live.answered_at = event.at
            case CallEnded(spend=spend) if live is not None:
                del self._live[event.call_id]
                self._turn_day(event.at)
                self._add(live.account_id, live.minutes_since(self._day * DAY_S, event.at), spend)
            case _:
                pass

    def used(self, account_id: str, now: float) -> AccountUse:
        """Of calls that are up, what they used of this day until now counts as well."""
        self._turn_day(now)
        up = [live for live in self._live.values() if live.account_id == account_id]
        running = [(live.minutes_since(self._day * DAY_S, now), live.price_per_min) for live in up]
        return AccountUse(
            calls=len(up),
            minutes=self._minutes.get(account_id, 0.0) + sum(minutes for minutes, _ in running),
            spend=self._spend.get(account_id, 0.0) + sum(minutes * price for minutes, price in running),
        )

    def refuse(self, account_id: str, direction: Direction, now: float, *, within: bool = False) -> str | None:
        """Why an account may have no further call, as a sentence; None where it may.

        Spend is outbound: an account that has spent its day's money may still be called. ``within``: it is for the
        second party of a call that counts already.
        """
        limits = self._limits.get(account_id, NO_LIMITS)
        if limits == NO_LIMITS:
            return None
        used = self.used(account_id, now)
        whose = f"account {account_id!r} is at its"
        if not within and limits.max_calls and used.calls >= limits.max_calls:
            return f"{whose} max_calls: {used.calls} of {limits.max_calls}"
        if limits.minutes_per_day and used.minutes >= limits.minutes_per_day:
            return f"{whose} minutes_per_day: {used.minutes:.1f} of {limits.minutes_per_day:g}"
        if direction == "outbound" and limits.spend_per_day and used.spend >= limits.spend_per_day:
            return f"{whose} spend_per_day: {used.spend:.2f} of {limits.spend_per_day:g}"
        return None

    def _add(self, account_id: str, minutes: float, spend: float) -> None:
        self._minutes[account_id] = self._minutes.get(account_id, 0.0) + minutes
        self._spend[account_id] = self._spend.get(account_id, 0.0) + spend

    def _turn_day(self, now: float) -> None:
        """A clock that is set back a little does not bring yesterday's use back."""
        day = int(now // DAY_S)
        if day > self._day:
            self._day = day
            self._minutes.clear()
            self._spend.clear()


class NoLimits:
    """Implements the call's ``Limits`` port for who has no accounts."""

    def refuse(self, account_id: str, direction: Direction) -> str | None:
        return None

    def refuse_party(self, account_id: str) -> str | None:
        return None


class LimitsNow:
    """Implements the call's ``Limits`` port: ``usage`` at the moment of ``clock``, in Unix seconds."""

    def __init__(self, usage: AccountUsage, clock: Callable[[], float]) -> None:
        self._usage = usage
        self._clock = clock

    def refuse(self, account_id: str, direction: Direction) -> str | None:
        return self._usage.refuse(account_id, direction, self._clock())

    def refuse_party(self, account_id: str) -> str | None:
        return self._usage.refuse(account_id, "outbound", self._clock(), within=True)


def over_limit(why: str) -> CallRefused:
    """What is recorded, and answered, where ``why`` an account may have no further call.

    480, which carriers fail over on. Not 503: RFC 3261 §21.5.4 has who gets that send this *server* nothing for a
    while, and the calls of other accounts would stay away with it. Not 486 or 603: after those nobody tries elsewhere.
    """
    fix = "raise the account's limits, or wait until calls of it end, or for the next day (UTC)"
    return CallRefused(status=480, rule="a limit of the account", evidence=why, fix=fix)
