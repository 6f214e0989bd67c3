"""After a crash: the calls that the process before us had are ended, on the line and in the records.

Their parties still wait, or talk into silence: each answered leg gets a BYE in its saved dialog. A party that hung up
meanwhile answers 481, which is as good. Then each call gets the one last fact that it lacks.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, MutableMapping

import msgspec

from offhook.call.controls import UsageOwner
from offhook.call.equipment import Equipment
from offhook.call.figures import price
from offhook.call.inbox import InboxFact, Replaced, SipFact
from offhook.call.leg import refuse_invite
from offhook.call.saved_legs import LegSnapshot
from offhook.model.call_events import CallEnded, CallEvent
from offhook.model.errors import OffhookError
from offhook.model.records import UnfinishedCall
from offhook.sip.events import ByeReceived, Hop, UsageEnded

ANSWERS_S = 2.0
"""For a leg's party to be found and to answer our BYE; the transaction goes on alone in the SIP core."""

AT_ONCE = 50
"""Calls: their BYEs leave within a few milliseconds, beside the calls that come in."""

REASON = (("Reason", 'SIP;cause=503;text="the server failed"'),)
"""RFC 3326: why our BYE comes in the middle of a talk."""

NO_SUCH_DIALOG = 481

_log = logging.getLogger("offhook.calls")


async def end_lost_calls(
    lost: Iterable[UnfinishedCall], equipment: Equipment, usages: MutableMapping[int, UsageOwner]
) -> None:
    """Returns when each has its ``CallEnded``. Never raises. ``usages``: whose SIP events go to whom."""
    lost, room = tuple(lost), asyncio.Semaphore(AT_ONCE)
    if lost:
        _log.warning("calls that a process before us left, and that are ended now: %d", len(lost))

    async def end(call: UnfinishedCall) -> None:
        async with room:
            await _end(call, equipment, usages)

    await asyncio.gather(*(end(call) for call in lost))


async def _end(call: UnfinishedCall, equipment: Equipment, usages: MutableMapping[int, UsageOwner]) -> None:
    legs = [leg for leg_id, saved in call.legs.items() if (leg := _read(call.call_id, leg_id, saved)) is not None]
    await asyncio.gather(*(_LostLeg(leg, equipment, usages).hang_up() for leg in legs))
    for leg_id in call.legs:
        equipment.events.save_leg(call.call_id, leg_id, None)
    if call.phase != "ended":  # else only a leg of it was left over
        _state_end(call, legs, equipment)


def _state_end(call: UnfinishedCall, legs: Iterable[LegSnapshot], equipment: Equipment) -> None:
    duration_s = 0.0 if call.answered_at is None else max(0.0, call.last_at - call.answered_at)
    ended = CallEnded(
        by="system",
        phase=call.phase,
        cause="server_lost",
        reason="the server failed while the call went on",
        duration_ms=round(duration_s * 1000),
        spend=sum(_spend(leg, call, equipment) for leg in legs),
    )
    equipment.events.append(
        CallEvent(call_id=call.call_id, leg_id="", seq=call.last_seq + 1, at=time.time(), fact=ended)
    )
    _log.info("call %s was lost with the process that had it, and is ended now", call.call_id)


def _read(call_id: str, leg_id: str, saved: bytes) -> LegSnapshot | None:
    try:
        return msgspec.json.decode(saved, type=LegSnapshot)
    except (msgspec.DecodeError, UnicodeError) as error:
        _log.error("leg %s of call %s cannot be hung up, what was saved of it is broken: %s", leg_id, call_id, error)
        return None


def _spend(leg: LegSnapshot, call: UnfinishedCall, equipment: Equipment) -> float:
    """Up to the last that was known of the call."""
    if leg.direction == "inbound" or not leg.answered_at:
        return 0.0
    return price(equipment.rules_of(leg.trunk_id), call.last_at - leg.answered_at)


class _LostLeg:
    """A saved dialog that gets a BYE. Implements ``UsageOwner``."""

    def __init__(self, saved: LegSnapshot, equipment: Equipment, usages: MutableMapping[int, UsageOwner]) -> None:
        self._saved = saved
        self._endpoint = equipment.endpoint
        self._usages = usages
        self._over = asyncio.Event()

    async def hang_up(self) -> None:
        """Returns when the party answered, or it is time. Never raises."""
        usage_id = 0
        try:
            async with asyncio.timeout(ANSWERS_S):
                usage_id = await self._send_bye()
                await self._over.wait()
        except TimeoutError:
            _log.info("%s:%s did not answer the BYE of a lost call", self._saved.remote_host, self._saved.remote_port)
        except (OSError, OffhookError) as error:
            _log.warning("no BYE to %s:%s: %s", self._saved.remote_host, self._saved.remote_port, error)
        except Exception:  # the boundary: the call gets its end whatever was saved
            _log.exception("no BYE to %s:%s", self._saved.remote_host, self._saved.remote_port)
        finally:
            self._usages.pop(usage_id, None)

    async def _send_bye(self) -> int:
        saved, core = self._saved, self._endpoint.user_agent
        hop = Hop(transport=saved.transport, host=saved.remote_host, port=saved.remote_port)
        ((flow, _), *_) = await self._endpoint.ways_to(hop)
        now = time.monotonic()
        usage_id = core.restore(saved.dialog, flow, now)
        self._usages[usage_id] = self
        try:
            core.bye(usage_id, now, headers=REASON)
        finally:
            self._endpoint.flush()
        return usage_id

    def own_usage(self, usage_id: int) -> None:
        """Nobody else's is taken."""

    def deliver(self, fact: InboxFact) -> None:
        match fact:
            case SipFact(event=UsageEnded() | ByeReceived()):
                self._over.set()
            case Replaced(invite=invite):
                refuse_invite(self._endpoint, invite.usage_id, NO_SUCH_DIALOG)
            case _:
                pass  # the dialog is over
