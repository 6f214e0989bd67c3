"""Calls that are placed later: kept in the database, placed when they are due by whichever process comes first.

Whatever becomes of one, its record tells: placed, it is a call like any other; cancelled, too late, or refused when it
was due, it is one that failed before anything was dialled.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

import msgspec

from offhook.api.new_call import NewCallForm, PlacedCall
from offhook.call.first_row import KEPT_DEADLINE_S
from offhook.call.manager import DRAINING
from offhook.call.ports import EventSink
from offhook.delivery.event_documents import utc
from offhook.model.call_events import CallEnded, CallEvent, CallFact, CallRefused
from offhook.model.errors import CannotPlaceError, PlacingFault
from offhook.store.calls import get_call
from offhook.store.database import Database
from offhook.store.scheduled_calls import (
    LEASE_S,
    ScheduledCall,
    add,
    arrived,
    next_due,
    put_off,
    put_off_all,
    remove,
    take,
    take_due,
)

MOST_SCHEDULED = 1_000
"""Of an account: a campaign's next hours. Its other calls wait where they come from."""

FURTHEST_S = 30 * 86_400.0
"""Ahead: what is asked for is kept as it was then, and prompts and numbers change."""

PATIENCE_S = 3600.0
"""After its time, where nobody says until when: later it would surprise whoever is called."""

RETRY_S = 10.0
"""Until a call for which no line was free is tried again."""

LOOK_EVERY_S = 5.0
"""Other processes may have kept calls here and died; and what hinders calls may have ended."""

SETTLE_S = 2.0
"""After the start, for trunks to register."""

PLACING_S = LEASE_S / 2
"""For one call to have its record; a provider that is not ready by then is waited for another time. Well within the
lease: nobody else places it meanwhile."""

STOP_S = KEPT_DEADLINE_S + 1
"""For a call that is begun to have its record."""

_STATUSES: Mapping[PlacingFault, int] = {"invalid": 400, "forbidden": 403, "too_many": 480, "unavailable": 503}
"""What an INVITE would have been answered."""

_log = logging.getLogger("offhook.scheduler")


class PlacesCalls(Protocol):
    """``server.placing`` implements it."""

    def plan(self, account_id: str, wanted: NewCallForm) -> object:
        """Raises ``CannotPlaceError`` for what could not be placed now."""
        ...

    async def place_now(self, account_id: str, wanted: NewCallForm, *, call_id: str = "") -> PlacedCall:
        """Whatever its schedule says. Returns once the call has a record. Raises ``CannotPlaceError``."""
        ...


class Scheduler:
    """Implements the API's ``CallPlacer``. ``hindrances``: why no call is placed now, as ``CallManager`` has them."""

    def __init__(
        self,
        database: Database,
        placer: PlacesCalls,
        events: EventSink,
        *,
        hindrances: Callable[[], Collection[str]] = tuple,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._placer = placer
        self._events = events
        self._hindrances = hindrances
        self._now = now
        self._wake = asyncio.Event()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    async def place(self, account_id: str, wanted: NewCallForm) -> PlacedCall:
        """See ``CallPlacer``. What has a schedule is checked now as well: mistakes are told while somebody listens."""
        if wanted.schedule is None:
            return await self._placer.place_now(account_id, wanted)
        self._placer.plan(account_id, wanted)
        now = self._now()
        due_at, latest_at = _times(wanted, now)
        call = ScheduledCall(
            call_id=str(uuid.uuid4()),
            account_id=account_id,
            due_at=due_at,
            latest_at=latest_at,
            created_at=now,
            form=msgspec.to_builtins(wanted),
        )
        if not await self._database.run(add, call, most=MOST_SCHEDULED):
            problem = f"this account has {MOST_SCHEDULED} calls that wait to be placed"
            raise CannotPlaceError(
                "too_many", problem, field="schedule", fix="Wait until some are placed, or cancel some"
            )
        self._wake.set()
        return PlacedCall(call_id=call.call_id, created_at=utc(now))

    async def cancel(self, account_id: str, call_id: str) -> bool:
        """See ``CallPlacer``."""
        call = await self._database.run(take, account_id, call_id, self._now())
        if call is None:
            return False
        ended = CallEnded(by="system", phase="arrived", cause="cancelled", reason="cancelled before it was due")
        await self._end(call, ended)
        return True

    def start(self) -> None:
        self._task = asyncio.create_task(self._keep_on(), name="scheduled calls")

    async def stop(self) -> None:
        """Returns when the call that is being placed has its record; one that waits for its provider is the next
        process's. Safe if it was not started.
        """
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=STOP_S)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _keep_on(self) -> None:
        await self._pause(SETTLE_S)
        while not self._stopping:
            self._wake.clear()
            try:
                wait_s = await self._look()
            except Exception as error:  # the database is away, or its disk is full: later
                _log.warning("scheduled calls cannot be looked for: %s", error)
                wait_s = LOOK_EVERY_S
            if not self._stopping:
                await self._wait(wait_s)

    async def _pause(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while not self._stopping and (left := until - loop.time()) > 0:
            self._wake.clear()
            await self._wait(left)

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    async def _look(self) -> float:
        """Place what is due; returns after how many seconds to look again."""
        now = self._now()
        due_at = await self._database.look(next_due, now)
        hindrances = self._hindrances()  # as they are now, not as they were before that
        if due_at is None or DRAINING in hindrances:
            return LOOK_EVERY_S
        if due_at > now:
            return min(LOOK_EVERY_S, due_at - now)
        taken = await self._database.run(take_due, now, 1, late_only=bool(hindrances))
        for call in taken:
            await self._place(call)
        return 0.0 if taken else LOOK_EVERY_S

    async def _place(self, call: ScheduledCall) -> None:
        try:
            wanted = _wanted(call, self._now())
            async with asyncio.timeout(PLACING_S):
                await self._placer.place_now(call.account_id, wanted, call_id=call.call_id)
        except CannotPlaceError as error:
            await self._not_placed(call, error)
        except TimeoutError:
            problem = f"its provider was not ready within {PLACING_S:g} s"
            await self._not_placed(call, CannotPlaceError("unavailable", problem, fix="Name another one"))
        except Exception as error:
            _log.exception("scheduled call %s was not placed", call.call_id)
            await self._not_placed(
                call, CannotPlaceError("unavailable", type(error).__name__, fix="The log tells more")
            )
        else:
            await self._database.run(remove, call.call_id)

    async def _not_placed(self, call: ScheduledCall, error: CannotPlaceError) -> None:
        """Tried again where that may help; else it has failed."""
        now = self._now()
        due_at = now + max(RETRY_S, error.wait_s)
        if error.kind in ("too_many", "unavailable") and due_at <= call.latest_at:
            await self._database.run(put_off, call.call_id, due_at)
            if error.kind == "too_many":
                await self._database.run(put_off_all, call.account_id, now, due_at)
            return
        _log.warning("scheduled call %s is not placed: %s", call.call_id, error)
        told = CallRefused(status=_STATUSES[error.kind], rule=error.problem, evidence=error.field, fix=error.fix)
        await self._end(call, told, CallEnded(by="system", phase="arrived", cause="refused", reason=str(error)))

    async def _end(self, call: ScheduledCall, *facts: CallFact) -> None:
        """Its record, then no more of it: who dies in between finds the record again."""
        if await self._database.look(get_call, call.account_id, call.call_id) is None:
            at = self._now()
            for seq, fact in enumerate((arrived(call), *facts), 1):
                event = CallEvent(call_id=call.call_id, leg_id="", seq=seq, at=at, fact=fact)
                self._events.append(event)
            await self._events.kept(event)
        await self._database.run(remove, call.call_id)


def _times(wanted: NewCallForm, now: float) -> tuple[float, float]:
    """From when and until when it may be placed. Raises ``CannotPlaceError``."""
    schedule = wanted.schedule
    earliest = None if schedule is None else schedule.earliest_at
    latest = None if schedule is None else schedule.latest_at
    due_at = now if earliest is None else max(now, earliest.timestamp())
    latest_at = due_at + PATIENCE_S if latest is None else latest.timestamp()
    if due_at > now + FURTHEST_S:
        problem = f"is more than {FURTHEST_S / 86_400:.0f} days ahead"
        raise CannotPlaceError(
            "invalid", problem, field="schedule.earliest_at", fix="Ask for it again when it is nearer"
        )
    if latest_at < due_at:
        problem = "is over" if latest_at < now else "is before earliest_at"
        raise CannotPlaceError("invalid", problem, field="schedule.latest_at", fix="Name a later time, or leave it out")
    return due_at, min(latest_at, due_at + FURTHEST_S)


def _wanted(call: ScheduledCall, now: float) -> NewCallForm:
    """Raises ``CannotPlaceError`` for what can no longer be placed."""
    if now > call.latest_at:
        problem = f"no call could be placed until {utc(call.latest_at).isoformat(timespec='seconds')}"
        raise CannotPlaceError("unavailable", problem, fix="Ask for it again, with a later latest_at")
    try:
        return msgspec.convert(call.form, NewCallForm)
    except msgspec.ValidationError as error:
        problem = f"what was asked for is not understood any more: {error}"
        raise CannotPlaceError("invalid", problem, fix="Ask for it again") from None
