"""How the server does, for /ready and /metrics. Figures that take a disk or the database are read in between."""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from offhook.api.parts import ReadyPart
from offhook.call.manager import DRAINING
from offhook.model.trunks import RegisterTrunk, Trunk, TrunkPhase
from offhook.observability.loop_lag import LoopLag
from offhook.observability.metrics import Metrics, ServerFigures
from offhook.observability.readiness import ReadinessFacts, readiness
from offhook.server.ground import Ground
from offhook.server.phone import Phone
from offhook.store.nodes import beat
from offhook.store.outbox import OutboxCounts, counts

LOOK_S = 5.0
"""Between two looks at the disk and the outbox: a probe asks as often."""

_log = logging.getLogger("offhook.server")


class Vitals:
    """``phone`` is set once it is built."""

    def __init__(self, ground: Ground, lag: LoopLag, metrics: Metrics, data_dir: Path) -> None:
        self.phone: Phone | None = None
        self._ground = ground
        self._lag = lag
        self._metrics = metrics
        self._data_dir = data_dir
        self._free_bytes: int | None = None
        self._outbox = OutboxCounts(pending=0, dead=0, disabled=0, oldest_due_s=0.0)
        self._store_problem = ""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._look_on(), name="vitals")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def readiness(self) -> tuple[ReadyPart, ...]:
        """Every part, as the API shows it."""
        parts = readiness(self._facts()).parts
        return tuple(ReadyPart(name=one.name, ready=one.status != "failed", detail=one.sentence) for one in parts)

    async def scrape(self) -> bytes:
        """The text of a scrape, made in a thread."""
        return await asyncio.to_thread(self._metrics.render, self._figures())

    def _facts(self) -> ReadinessFacts:
        phone = self.phone
        trunks: Mapping[str, Trunk] = self._ground.state.trunks
        return ReadinessFacts(
            sip=() if phone is None else tuple(str(place) for place in phone.endpoint.listening),
            registrations=self._registrations(),
            other_ways=not trunks or any(not isinstance(trunk, RegisterTrunk) for trunk in trunks.values()),
            store_problem=self._store_problem,
            spooled=self._ground.journal.spooled,
            journal_full=self._ground.journal.is_full,
            lags_s=self._lag.recent_s,
            draining=self._draining,
            disk_free_bytes=self._free_bytes,
        )

    @property
    def _draining(self) -> bool:
        return self.phone is not None and DRAINING in self.phone.manager.hindrances

    def _registrations(self) -> dict[str, TrunkPhase]:
        states = {} if self.phone is None else self.phone.trunks.states
        return {trunk_id: state.phase for trunk_id, state in states.items()}

    def _figures(self) -> ServerFigures:
        phone, journal = self.phone, self._ground.journal
        return ServerFigures(
            taking_calls=phone is not None and not phone.manager.hindrances,
            draining=self._draining,
            trunks=self._registrations(),
            loop_lag_s=self._lag.read() / 1000,
            loop_stalls=self._lag.stalls,
            late_ticks=0 if phone is None else phone.clock.late_ticks,
            skipped_ticks=0 if phone is None else phone.clock.skipped_ticks,
            journal_depth=journal.waiting,
            spooled=journal.spooled,
            outbox_pending=self._outbox.pending,
            outbox_dead=self._outbox.dead,
        )

    async def _look_on(self) -> None:
        while True:
            await self._look()
            await asyncio.sleep(LOOK_S)

    async def _look(self) -> None:
        try:
            self._free_bytes = (await asyncio.to_thread(shutil.disk_usage, self._data_dir)).free
            await self._ground.database.run(beat, self._ground.node_id, time.time())
            self._outbox = await self._ground.database.look(counts, time.time())
            self._store_problem = ""
        except Exception as error:  # whatever it is, it is what /ready has to tell
            if not self._store_problem:
                _log.warning("the database or its disk cannot be looked at: %s", type(error).__name__)
            away = self._ground.database.is_away(error)
            self._store_problem = "the database cannot be reached" if away else f"it fails ({type(error).__name__})"
