"""``mode`` outbound: the one call that config.json asks for, made as soon as the server is up; and what came of it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping

import click

from offhook.api.new_call import NewCallForm
from offhook.config import Settings
from offhook.delivery.sip4ai_events import end_reason
from offhook.model.call_events import DEFAULT_ACCOUNT, CallArrived, CallEnded, CallEvent
from offhook.model.errors import CannotPlaceError
from offhook.model.records import CallRecord
from offhook.model.trunks import RegisterTrunk, Trunk, TrunkChanged
from offhook.server.service import Server
from offhook.store.calls import status_of
from offhook.store.projection import begin, project
from offhook.store.text import printable

REGISTERED_WITHIN_S = 30.0
"""For a trunk to register: two tries by UDP that get lost, or a PBX that is asked by each of its addresses."""

DELIVERED_WITHIN_S = 10.0
"""For webhooks, before the process ends with its call; what is left is sent by the next server on the data folder."""

NO_TASK = "Play the audio file"
"""Of a call by ``audio_file``, which has no model that could do one."""

Say = Callable[[str], None]


def wanted_call(settings: Settings) -> NewCallForm:
    """The call as somebody would ask for it by the API."""
    outbound = settings.outbound
    return NewCallForm(
        target=outbound.target_number,
        task=outbound.task_description or NO_TASK,
        caller_id=outbound.caller_id,
        result_webhook=outbound.result_webhook,
        hangup_on_task_complete=outbound.hangup_on_task_complete,
    )


class OutboundCall:
    """Made before the server starts, so that it hears of every trunk."""

    def __init__(self, server: Server, settings: Settings, say: Say) -> None:
        self._server = server
        self._say = say
        self._wanted = wanted_call(settings)
        self._call_id = str(uuid.uuid4())
        self._trunk_changed = asyncio.Event()
        self._over = asyncio.Event()
        self._record: CallRecord | None = None
        self._last: CallEvent | None = None
        self._result_told = False
        server.bus.watch(events=self._note, trunks=self._note_trunk)

    async def run(self) -> None:
        """Place the call; return when it is over. Raises ``CannotPlaceError``."""
        await self._registered()
        await self._server.placer.place_now(DEFAULT_ACCOUNT, self._wanted, call_id=self._call_id)
        await self._over.wait()

    async def delivered(self) -> None:
        """Return when the webhooks of the call, which is over, were told; or say how many events are left."""
        if self._last is None:
            return
        left = await self._server.undelivered(self._last, DEFAULT_ACCOUNT, within_s=DELIVERED_WITHIN_S)
        if left:
            problem = f"{left} event{'s' if left > 1 else ''} of the call could not be delivered yet"
            self._say(click.style(f"{problem}: the next server on this data folder sends what is left", fg="yellow"))

    def tell_result(self) -> None:
        """In one line, once; nothing where there was no call."""
        if self.result and not self._result_told:
            self._result_told = True
            self._say(self.result)

    @property
    def completed(self) -> bool:
        """Somebody answered, and nothing broke off."""
        return self._record is not None and status_of(self._record) == "completed"

    @property
    def result(self) -> str:
        """One line, with what the call's last event and the API say of it; "" before the end."""
        record = self._record
        if record is None or record.phase != "ended":
            return ""
        length = f"{record.duration_ms / 1000:.1f} s"
        if self.completed:
            task = "" if record.task is None else f", task: {record.task.outcome}"
            return printable(f"call completed after {length}: {record.cause}{task}")
        answer = " ".join(filter(None, (str(record.sip_code or ""), record.reason or record.cause)))
        return printable(f"call failed after {length}: {end_reason(record)} ({answer})")

    # ── what it hears ────────────────────────────────────────────────────────────────────────────────────

    def _note(self, event: CallEvent) -> None:
        if event.call_id != self._call_id:
            return
        if isinstance(event.fact, CallArrived):
            self._record = begin(event, event.fact, node_id="")
        elif self._record is not None:
            self._record = project(self._record, event)
        if isinstance(event.fact, CallEnded):
            self._last = event
            self._over.set()

    def _note_trunk(self, _: TrunkChanged) -> None:
        self._trunk_changed.set()

    # ── the trunk ────────────────────────────────────────────────────────────────────────────────────────

    async def _registered(self) -> None:
        """Return when the trunk it goes by is registered, or needs not be. Raises ``CannotPlaceError``."""
        trunk: Trunk | None = None
        try:
            async with asyncio.timeout(REGISTERED_WITHIN_S):
                while True:
                    self._trunk_changed.clear()
                    trunk = self._server.placer.plan(DEFAULT_ACCOUNT, self._wanted).trunk
                    states = self._server.trunk_states
                    if trunk is None or not _waits(trunk, states):
                        return
                    if not self._registers(states):
                        raise not_registered(trunk, states)
                    await self._trunk_changed.wait()
        except TimeoutError:
            assert trunk is not None
            raise not_registered(trunk, self._server.trunk_states) from None

    def _registers(self, states: Mapping[str, TrunkChanged]) -> bool:
        """Whether any trunk may still come up soon."""
        trunks = [trunk.trunk_id for trunk in self._server.trunks if isinstance(trunk, RegisterTrunk)]
        return any(trunk_id not in states or states[trunk_id].phase == "registering" for trunk_id in trunks)


def _waits(trunk: Trunk, states: Mapping[str, TrunkChanged]) -> bool:
    if not isinstance(trunk, RegisterTrunk):
        return False
    return trunk.trunk_id not in states or states[trunk.trunk_id].phase != "online"


def not_registered(trunk: Trunk, states: Mapping[str, TrunkChanged]) -> CannotPlaceError:
    """Why the call cannot go by its trunk."""
    state = states.get(trunk.trunk_id)
    if state is None or state.phase == "registering":
        problem, fix = f"no answer to its registration within {REGISTERED_WITHIN_S:g} s", "See `offhook trunks`"
    else:
        code = f"{state.sip_code} " if state.sip_code is not None else ""
        problem, fix = f"its registration failed: {code}{state.reason}", state.fix or "See `offhook trunks`"
    return CannotPlaceError("unavailable", f"trunk {trunk.trunk_id!r}: {problem}", field="target", fix=fix)
