"""CallManager: every call of this process. Places, answers, hangs up; hands each SIP event to its call."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from types import MappingProxyType
from typing import Literal

from offhook.bridge.codec import TextInput
from offhook.call.aftermath import end_lost_calls
from offhook.call.arrival import RETRY_AFTER_S, Arrival
from offhook.call.controls import UsageOwner
from offhook.call.dialling import Dialling, PlaceCall
from offhook.call.equipment import Equipment
from offhook.call.inbox import HangUp, Hold, InboxFact, Inject, Replaced, SayText, SipFact, TransferCaller
from offhook.call.leg import refuse_invite
from offhook.call.numbers import read_target
from offhook.call.rejections import Rejections
from offhook.call.resumption import CallSnapshot, Resumption
from offhook.call.saved_legs import leg_snapshot
from offhook.call.session import CallSession, SetUp
from offhook.call.transfer_desk import TransferDesk
from offhook.call.trunks import Trunks
from offhook.model.call_events import CallRefused, EndCause
from offhook.model.errors import LocalProtocolError, ResourceExhaustedError
from offhook.model.records import TransferDestination, UnfinishedCall
from offhook.observability.logs import about_call
from offhook.sip.events import (
    InviteReceived,
    MessageRejected,
    OptionsAnswered,
    RegistrationChanged,
    RegistrationDue,
    SipEvent,
)

DRAINING = "draining"
MAX_CALLS = "max_calls"

Pressed = Literal["sent", "not_taken", "not_up", "over"]
"""What became of digits: ``not_taken``: the party takes none, or too many wait; ``not_up``: nobody has answered yet."""

_log = logging.getLogger("offhook.calls")


class CallManager:
    """``equipment`` is attached after construction: the endpoint needs ``on_sip`` before a call needs it."""

    def __init__(self, *, max_calls: int) -> None:
        self._max_calls = max_calls
        self._equipment: Equipment | None = None
        self._calls: dict[str, CallSession] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._by_usage: dict[int, UsageOwner] = {}
        self._hindrances: frozenset[str] = frozenset()
        self._trunks: Trunks | None = None
        self.rejections = Rejections(time.monotonic)

    def attach(self, equipment: Equipment, trunks: Trunks | None = None) -> None:
        self._equipment = equipment
        self._trunks = trunks
        equipment.endpoint.user_agent.take_calls(not self._hindrances)

    @property
    def calls(self) -> Mapping[str, CallSession]:
        """The calls that are not over, by call_id."""
        return MappingProxyType(self._calls)

    @property
    def hindrances(self) -> frozenset[str]:
        """Why no new call is taken or placed now: ``draining``, ``max_calls``, or whatever ``hinder`` named."""
        return self._hindrances

    def hinder(self, why: str, present: bool) -> None:
        """New calls are refused (503) and not placed as long as anything hinders; those that are up go on.

        The SIP core is told, which refuses before any state is made (RFC 3261 §21.5.4). Each change is logged.
        """
        after = self._hindrances | {why} if present else self._hindrances - {why}
        if after == self._hindrances:
            return
        self._change(after)
        if after:
            _log.info("new calls are refused with 503: %s", ", ".join(sorted(after)))
        else:
            _log.info("new calls are taken again")

    def _change(self, hindrances: frozenset[str]) -> None:
        self._hindrances = hindrances
        if self._equipment is not None:
            self._equipment.endpoint.user_agent.take_calls(not hindrances)

    def drain(self) -> None:
        """Take no more calls, for good; those that are up end by themselves. ``drained`` waits for that."""
        self.hinder(DRAINING, True)

    async def drained(self) -> None:
        """Returns when no call is left."""
        while self._tasks:
            await asyncio.wait(set(self._tasks.values()))

    def place(self, command: PlaceCall) -> CallSession:
        """Start an outbound call; what becomes of it is told by its events.

        Raises ``ResourceExhaustedError`` while something hinders, ``CannotPlaceError`` over a limit or outside of the
        hours: then nothing was begun, and nothing is told.
        """
        if self._hindrances:
            raise ResourceExhaustedError(f"no new call is placed: {', '.join(sorted(self._hindrances))}")
        clearance = self._need_equipment().clearance
        slot = clearance.place(command.account_id, command.trunk)
        longest_s = min(command.agent.max_call_s, clearance.rules.max_call_s)
        command = replace(command, agent=replace(command.agent, max_call_s=longest_s))
        call = self._new_call(command.call_id)
        self._run(call, Dialling(call, command, slot))
        return call

    def snapshot(self, call_id: str) -> CallSnapshot | None:
        """An answered call as plain data, for another process to take over; None where there is none to take."""
        call = self._calls.get(call_id)
        if call is None or call.phase != "up" or call.leg is None or call.conduct is None:
            return None
        return CallSnapshot(
            call_id=call_id,
            seq=call.seq,
            agent=call.conduct.agent,
            leg=leg_snapshot(call.leg),
            account_id=call.account_id,
        )

    def restore(self, snapshot: CallSnapshot) -> CallSession:
        """Take over a call that was answered elsewhere: re-INVITE its peer from here."""
        call = self._new_call(snapshot.call_id, last_seq=snapshot.seq)
        self._run(call, Resumption(call, snapshot))
        return call

    async def end_lost(self, lost: Iterable[UnfinishedCall]) -> None:
        """End what a process before us left (``aftermath``), beside new calls; returns when each has its last fact."""
        not_ours = [call for call in lost if call.call_id not in self._calls]
        await end_lost_calls(not_ours, self._need_equipment(), self._by_usage)

    def inject(self, call_id: str, text: TextInput) -> bool:
        """Tell the agent something. False where there is no such call."""
        return self._deliver(call_id, Inject(text=text))

    def say(self, call_id: str, text: str, *, exact: bool = True) -> bool:
        """Say something to the caller, ``exact`` word by word. False where there is no such call."""
        return self._deliver(call_id, SayText(text=text, exact=exact))

    def hang_up(self, call_id: str, *, goodbye_s: float) -> bool:
        """The agent may say goodbye for so long, where somebody hears it. False where there is no such call."""
        call = self._calls.get(call_id)
        cause: EndCause = "hangup" if call is not None and call.phase in ("up", "ending") else "cancelled"
        return self._deliver(call_id, HangUp(by="system", cause=cause, reason="asked for", goodbye_s=goodbye_s))

    def transfer(self, call_id: str, destination: TransferDestination) -> bool:
        """Transfer the caller; what becomes of it is told by ``TransferEnded``. False where there is no such call."""
        return self._deliver(call_id, TransferCaller(destination=destination))

    def destination(self, call_id: str, name: str) -> TransferDestination | None:
        """Of the agent that speaks in a call."""
        call = self._calls.get(call_id)
        known = () if call is None or call.conduct is None else call.conduct.agent.destinations
        return next((one for one in known if one.name == name), None)

    def is_transferring(self, call_id: str) -> bool:
        """The parties of a call change: no other transfer begins before that is over."""
        call = self._calls.get(call_id)
        return call is not None and call.transfers is not None and call.transfers.busy

    def refuse_transfer(self, call_id: str, destination: TransferDestination) -> CallRefused | None:
        """Why a caller may not be sent there, which the call then has on record; None where he may.

        Raises ``SipParseError`` for what nobody can be called by.
        """
        target, call, equipment = read_target(destination.target), self._calls.get(call_id), self._need_equipment()
        trunk = equipment.find_trunk(destination.trunk_id or ("" if call is None else call.trunk_id))
        refused = equipment.clearance.judge(target, trunk)
        if refused is not None and call is not None:
            call.emit(refused)
        return refused

    def press(self, call_id: str, digits: str) -> Pressed:
        """Send digits to the remote party of a call."""
        call = self._calls.get(call_id)
        if call is None or call.phase in ("ending", "ended"):
            return "over"
        if call.phase != "up" or call.conduct is None or not call.conduct.talking:
            return "not_up"
        return "sent" if call.conduct.press(digits) else "not_taken"

    def hold(self, call_id: str, wanted: bool) -> bool:
        """Let the caller wait, hearing the hold audio, or take him back. False where there is no such call."""
        return self._deliver(call_id, Hold(wanted=wanted))

    def _deliver(self, call_id: str, command: InboxFact) -> bool:
        call = self._calls.get(call_id)
        if call is not None:
            call.deliver(command)
        return call is not None

    async def wait(self, call: CallSession) -> None:
        """Until the call is over."""
        task = self._tasks.get(call.call_id)
        if task is not None:
            await asyncio.wait({task})

    async def close(self) -> None:
        """End every call politely, take no more, return when all are over (each within its teardown time)."""
        self._change(self._hindrances | {DRAINING})
        for call in tuple(self._calls.values()):
            call.deliver(HangUp(by="system", cause="shutdown", reason="the server stops"))
        await self.drained()

    # ── from the SIP core ────────────────────────────────────────────────────────────────────────────────

    def on_sip(self, event: SipEvent) -> None:
        match event:
            case InviteReceived(replaces=replaced) if replaced is not None and replaced in self._by_usage:
                self._succeed(event, self._by_usage[replaced])
            case InviteReceived():
                self._arrive(event)
            case MessageRejected():
                self.rejections.note(event)
            case RegistrationDue() | RegistrationChanged() | OptionsAnswered():
                if self._trunks is not None:
                    self._trunks.on_sip(event)
            case _:
                call = self._by_usage.get(event.usage_id)
                if call is not None:
                    call.deliver(SipFact(event=event))

    def _arrive(self, invite: InviteReceived) -> None:
        if self._hindrances:
            self._refuse_full(invite)
            return
        call = self._new_call()
        call.own_usage(invite.usage_id)
        self._authenticate(invite)
        self._run(call, Arrival(call, invite))

    def _succeed(self, invite: InviteReceived, call: UsageOwner) -> None:
        """Somebody comes in the place of a party of ``call`` (RFC 3891)."""
        call.own_usage(invite.usage_id)
        self._authenticate(invite)
        call.deliver(Replaced(invite=invite))

    def _authenticate(self, invite: InviteReceived) -> None:
        credentials = None if self._trunks is None else self._trunks.credentials(invite.trunk_id)
        if credentials is not None:
            with suppress(LocalProtocolError):  # cancelled already
                self._need_equipment().endpoint.user_agent.authenticate(invite.usage_id, credentials)

    def _refuse_full(self, invite: InviteReceived) -> None:
        """An INVITE that was in the core's queue before it was shut; never 486, carriers fail over on 503."""
        headers = (("Retry-After", str(RETRY_AFTER_S)),)
        refuse_invite(self._need_equipment().endpoint, invite.usage_id, 503, headers)

    def _new_call(self, call_id: str = "", last_seq: int = 0) -> CallSession:
        call = CallSession(
            call_id=call_id or str(uuid.uuid4()),
            equipment=self._need_equipment(),
            usages=self._by_usage,
            last_seq=last_seq,
        )
        call.transfers = TransferDesk(call)
        self._calls[call.call_id] = call
        self._count()
        return call

    def _run(self, call: CallSession, set_up: SetUp) -> None:
        with about_call(call.call_id):
            task = asyncio.create_task(call.run(set_up), name=f"call {call.call_id}")
        self._tasks[call.call_id] = task
        task.add_done_callback(lambda _: self._forget(call.call_id))

    def _forget(self, call_id: str) -> None:
        self._calls.pop(call_id, None)
        self._tasks.pop(call_id, None)
        self._count()

    def _count(self) -> None:
        self.hinder(MAX_CALLS, len(self._calls) >= self._max_calls)

    def _need_equipment(self) -> Equipment:
        if self._equipment is None:
            raise RuntimeError("CallManager.attach comes before the first call")
        return self._equipment
