"""The promise of durability: what a call's first fact says is on disk before anybody hears that the call exists."""

from __future__ import annotations

import asyncio
import logging

from offhook.call.controls import CallControls
from offhook.call.inbox import Kept, NotKept
from offhook.model.call_events import CallArrived, CallEvent, CallRefused

KEPT_DEADLINE_S = 2.0
"""A commit takes milliseconds, and without the database the spool is written to; a caller's side repeats its INVITE and
asks no other way before about four seconds."""

_log = logging.getLogger("offhook.calls")


def keep_first_row(call: CallControls, arrived: CallArrived) -> None:
    """State the call's first fact. ``Kept`` follows, or ``NotKept`` where that takes too long."""
    call.spawn(_wait_until_kept(call, call.emit(arrived)))


async def _wait_until_kept(call: CallControls, first: CallEvent) -> None:
    try:
        async with asyncio.timeout(KEPT_DEADLINE_S):
            await call.equipment.events.kept(first)
    except TimeoutError:
        call.deliver(NotKept(problem=f"the call was not on disk within {KEPT_DEADLINE_S:g} s"))
    except Exception as error:  # the boundary: whatever is wrong with the store, the call must not ring
        _log.exception("call %s could not be kept", call.call_id)
        call.deliver(NotKept(problem=f"the store failed: {type(error).__name__}"))
    else:
        call.deliver(Kept())


def refusal_of(failed: NotKept) -> CallRefused:
    """What is recorded of a call that nobody heard of."""
    fix = "see the log: the database, and the folder of its spool, must take what is written"
    return CallRefused(status=503, rule="no call begins before it is recorded", evidence=failed.problem, fix=fix)
