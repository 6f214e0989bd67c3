"""Whether a call of ours may be made: whom it may reach, at what hour, and how many there may be at once.

Every INVITE of ours is asked for here (``Dial``), and every REFER by which others call for us.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from datetime import time as time_of_day
from zoneinfo import ZoneInfo

from offhook.call.destination_policy import DestinationPolicy, judge
from offhook.call.numbers import region_of
from offhook.model.call_events import CallRefused
from offhook.model.errors import CannotPlaceError
from offhook.model.trunks import Trunk
from offhook.sip.uri import SipUri

FORBIDDEN = 403
"""RFC 3261 §21.4.4: "Authorization will not help, and the request SHOULD NOT be repeated"."""

UNAVAILABLE = 480
"""For who is over a limit: it may be tried again (RFC 3261 §21.4.18)."""

MINUTE_S = 60.0
DAY_S = 86_400


@dataclass(frozen=True, kw_only=True, slots=True)
class CallingHours:
    """From ``begin`` to ``end``, past midnight where that is earlier; in ``zone``, the machine's where None."""

    begin: time_of_day
    end: time_of_day
    zone: ZoneInfo | None = None

    @classmethod
    def parse(cls, hours: str, time_zone: str) -> CallingHours:
        """``08:00-20:30``, ``Europe/Berlin``. Raises ``ValueError``, ``ZoneInfoNotFoundError``."""
        begin, _, end = hours.partition("-")
        zone = ZoneInfo(time_zone) if time_zone else None
        return cls(begin=time_of_day.fromisoformat(begin), end=time_of_day.fromisoformat(end), zone=zone)

    def opens_in(self, now: float) -> float:
        """Seconds from ``now`` (Unix); 0 where it is open."""
        here = datetime.fromtimestamp(now, self.zone)
        clock = here.time()
        past_midnight = self.end < self.begin
        if (self.begin <= clock, clock < self.end).count(True) >= (1 if past_midnight else 2):
            return 0.0
        opening = datetime.combine(here.date(), self.begin, self.zone)
        if clock >= self.begin:
            opening += timedelta(days=1)
        wait_s = opening.timestamp() - now
        if wait_s <= 0:  # the clocks were put back, and the hour comes a second time
            wait_s = opening.replace(fold=1).timestamp() - now
        return wait_s

    def __str__(self) -> str:
        zone = f" {self.zone}" if self.zone else ""
        return f"{self.begin:%H:%M}-{self.end:%H:%M}{zone}"


@dataclass(frozen=True, kw_only=True, slots=True)
class DialRules:
    """``max_calls``: calls of ours that are up at once, of an account, second parties of transfers included;
    ``calls_per_min``: of an account; 0 is no limit. ``max_call_s``: of each that is placed. ``hours``: when calls are
    placed; transfers go on at any hour, for somebody waits.
    """

    policy: DestinationPolicy = field(default_factory=DestinationPolicy)
    max_calls: int = 0
    calls_per_min: int = 0
    max_call_s: int = DAY_S
    hours: CallingHours | None = None


@dataclass(slots=True)
class Slot:
    """Room for one call of ours, held as long as ``is_held`` says so: whoever dials says when it is over."""

    account_id: str
    trunk_id: str
    is_held: Callable[[], bool] = lambda: True


class Clearance:
    """Counts when a call is asked for, not when it is heard of: of many at the same moment no more pass than may."""

    def __init__(
        self,
        rules: DialRules | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """``wall_clock``: Unix seconds, for the hours."""
        self.rules = rules or DialRules()
        self._clock = clock
        self._wall_clock = wall_clock
        self._slots: list[Slot] = []
        self._times: dict[str, deque[float]] = {}

    def use(self, rules: DialRules) -> None:
        """These count from now on, for new calls; none that is up is ended."""
        self.rules = rules

    def judge(self, target: SipUri | str, trunk: Trunk | None) -> CallRefused | None:
        """What is recorded where nobody of us calls there; None where he may."""
        refused = judge(target, "" if trunk is None else region_of(trunk.rules), self.rules.policy)
        if refused is None:
            return None
        return CallRefused(status=FORBIDDEN, rule=refused.rule, evidence=refused.evidence, fix=refused.fix)

    def place(self, account_id: str, trunk: Trunk | None) -> Slot:
        """For a call that somebody asks for. Raises ``CannotPlaceError``."""
        hours = self.rules.hours
        wait_s = 0.0 if hours is None else hours.opens_in(self._wall_clock())
        if wait_s:
            fix = f"Ask again in {wait_s:.0f} s, or give it a schedule"
            raise CannotPlaceError("unavailable", f"calls are placed {hours} only", fix=fix, wait_s=wait_s)
        return self.take(account_id, trunk)

    def take(self, account_id: str, trunk: Trunk | None) -> Slot:
        """For one more call of ours, placed or the second party of a transfer. Raises ``CannotPlaceError``."""
        self._slots = [slot for slot in self._slots if slot.is_held()]
        self._check_room(account_id, trunk)
        self._count(account_id)
        slot = Slot(account_id, "" if trunk is None else trunk.trunk_id)
        self._slots.append(slot)
        return slot

    def _check_room(self, account_id: str, trunk: Trunk | None) -> None:
        most, up = self.rules.max_calls, sum(slot.account_id == account_id for slot in self._slots)
        if most and up >= most:
            fix = "Wait until one of them ends, or raise dialling.max_calls in config.json"
            raise CannotPlaceError("too_many", f"{up} calls of this account are up: dialling.max_calls", fix=fix)
        if trunk is None or not trunk.rules.max_calls:
            return
        by_it = sum(slot.trunk_id == trunk.trunk_id for slot in self._slots)
        if by_it >= trunk.rules.max_calls:
            fix = "Wait until one of them ends, or name another trunk"
            raise CannotPlaceError("too_many", f"{by_it} calls go by trunk {trunk.trunk_id}: its max_calls", fix=fix)

    def _count(self, account_id: str) -> None:
        """Of any sixty seconds."""
        most, now = self.rules.calls_per_min, self._clock()
        times = self._times.setdefault(account_id, deque())
        while times and (now - times[0] >= MINUTE_S or not most):
            times.popleft()
        if not most:
            return
        if len(times) >= most:
            wait_s = MINUTE_S - (now - times[-most])
            fix = f"Ask again in {max(1.0, wait_s):.0f} s, or raise dialling.calls_per_min in config.json"
            problem = f"{len(times)} calls were made within a minute: dialling.calls_per_min"
            raise CannotPlaceError("too_many", problem, fix=fix, wait_s=wait_s)
        times.append(now)

    @property
    def up(self) -> int:
        """Calls of ours that are dialled or up."""
        return sum(slot.is_held() for slot in self._slots)


def limit_refusal(refused: CannotPlaceError) -> CallRefused:
    """What is recorded of a call over a limit."""
    return CallRefused(status=UNAVAILABLE, rule="a limit of calls of ours", evidence=refused.problem, fix=refused.fix)
