"""``offhook serve``: the phone with all that surrounds it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Container, Coroutine, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import msgspec

from offhook.audio.wav import WavError
from offhook.bridge.local.engine import LocalEngine, available
from offhook.call.account_limits import LimitsNow
from offhook.call.clearance import Clearance
from offhook.call.destination_policy import warm
from offhook.call.dialling import PlaceCall
from offhook.call.hold_audio import HoldAudio, read_hold_audio
from offhook.call.session import CallSession
from offhook.config import Settings
from offhook.config.reading import DEFAULT_CONFIG_FILE
from offhook.config.reloading import RELOADED
from offhook.delivery.awaited import undelivered
from offhook.delivery.bus import Bus
from offhook.media.ports import PortPool
from offhook.model.call_events import DEFAULT_ACCOUNT, CallEvent
from offhook.model.errors import ConfigError
from offhook.model.records import Agent, is_fetched
from offhook.model.trunks import Trunk, TrunkChanged
from offhook.observability import LoopLag, raise_descriptor_limit, settle_memory, share_interpreter
from offhook.observability.metrics import Metrics
from offhook.observability.spans import CallSpans, open_spans
from offhook.server.dial_rules import dial_rules
from offhook.server.front import Front
from offhook.server.ground import Ground
from offhook.server.network import discover, keep_discovering, listen_everywhere, stun_hop, tls_contexts
from offhook.server.phone import Phone, Surroundings, build_phone
from offhook.server.placing import Placer, PlacingParts
from offhook.server.providers import Providers, agent_check, check_providers
from offhook.server.scheduler import Scheduler
from offhook.server.vitals import Vitals
from offhook.signaling.advertised import AdvertisedAddresses
from offhook.signaling.tls import TlsContexts
from offhook.sip.events import Address, Transport
from offhook.store.directory import DirectoryState
from offhook.store.traces import TraceStore
from offhook.store.trunk_states import TrunkStates

_log = logging.getLogger("offhook.server")

DESCRIPTORS_PER_CALL = 4
"""RTP, RTCP, and headroom for a provider's connection and a file."""

DESCRIPTORS_RESERVED = 128
"""Listening sockets, TCP peers, files, the worker processes' pipes."""


class Server:
    """``offhook serve``: a phone with a directory, a store, the providers the agents ask for, and the API."""

    def __init__(self, settings: Settings, *, config_file: str = "") -> None:
        """Opens the data folder and the database. ``config_file`` is named where something can only be changed there.

        Raises ``ConfigError``.
        """
        self.settings = settings
        self._config_file = config_file or DEFAULT_CONFIG_FILE
        self.data_dir = settings.data_folder
        self.metrics = Metrics()
        self.lag = LoopLag(self.metrics.lagged)
        self._spans = _open_spans(settings)
        self._ground = Ground(
            settings,
            config_file=self._config_file,
            on_directory=self._directory_changed,
            on_full=self._store_full,
            on_batch=self.metrics.committed,
            on_attempt=self.metrics.delivered,
            price_of=self._price_of,
        )
        self.bus = Bus(self._ground.journal)
        self.bus.watch(events=self.metrics.watch)
        self.bus.watch(events=self._ground.usage.note, signals=self._ground.feed.signal)
        if self._spans is not None:
            self.bus.watch(events=self._spans.watch)
        self._traces = TraceStore(self.data_dir) if settings.sip.trace else None
        if self._traces is not None:
            self.bus.watch(events=self._traces.note)
        self._states = TrunkStates(self.data_dir)
        self._vitals = Vitals(self._ground, self.lag, self.metrics, self.data_dir)
        self._providers = Providers(settings, guard=self._ground.guard)
        self._hold_audio = self._ground.hold_audio
        self._clearance = Clearance(dial_rules(settings.dialling))
        self._phone: Phone | None = None
        self._front: Front | None = None
        self._placer: Placer | None = None
        self._scheduler: Scheduler | None = None
        self._tls: TlsContexts | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> tuple[tuple[Transport, Address], ...]:
        """Listen; returns where. Raises ``ListenError``, ``ConfigError``, ``BridgeError``."""
        settings = self.settings
        check_providers(settings)
        add_hold_audio(self._hold_audio, settings)
        surroundings = self._surroundings()
        await self._ground.start()
        await self._providers.serve(_agents(self._ground.state))
        phone = build_phone(
            bridges=self._providers,
            directory=self._ground.directory,
            events=self.bus,
            max_calls=_affordable_calls(settings),
            ports=PortPool(settings.rtp.port_min, settings.rtp.port_max),
            recordings_folder=self.data_dir / "recordings",
            media_timeout_s=settings.rtp.media_timeout_s,
            surroundings=replace(surroundings, trunks=tuple(self._ground.state.trunks.values())),
        )
        self._phone = self._vitals.phone = phone
        phone.manager.rejections.watcher = self.metrics.rejected
        self._store_full(self._ground.journal.is_full)
        lost = await self._ground.lost_calls()  # before a new call could be among them
        await listen_everywhere(phone.endpoint, settings.sip)
        self._spawn(phone.manager.end_lost(lost))
        self._spawn(asyncio.to_thread(warm))
        self._placer = self._open_placer(phone)
        self._scheduler = self._open_scheduler(phone, self._placer)
        if settings.http.enabled:
            self._front = Front(
                settings,
                self._ground,
                self._vitals,
                self.metrics,
                trunk_states=lambda: self.trunk_states,
                calls=phone.manager,
                placer=self._scheduler,
            )
            await self._front.start()
        if settings.sip.stun_server:
            await self._start_stun(phone)
        self._states.start()
        phone.trunks.start()
        self._scheduler.start()
        settle_memory()
        share_interpreter()
        self.lag.start()
        self._vitals.start()
        return phone.endpoint.listening

    @property
    def engine(self) -> LocalEngine | None:
        return self._providers.engine

    @property
    def master_key_file(self) -> Path | None:
        """Where the master key lies beside what it protects; None where it came from elsewhere."""
        return self._ground.vault.file

    @property
    def http_addresses(self) -> tuple[tuple[str, int], ...]:
        """Where the HTTP server listens; empty where it does not."""
        return () if self._front is None else self._front.addresses

    @property
    def live_calls(self) -> int:
        return len(self._phone.manager.calls) if self._phone is not None else 0

    @property
    def trunk_states(self) -> Mapping[str, TrunkChanged]:
        """The latest state of each trunk that has one."""
        return self._phone.trunks.states if self._phone is not None else {}

    def place(self, command: PlaceCall) -> CallSession:
        """Call somebody. Only after ``start``."""
        return self._need_phone().manager.place(command)

    def trunk(self, trunk_id: str) -> Trunk | None:
        """As it is now. Only after ``start``."""
        return None if self._phone is None else self._phone.trunks.trunk(trunk_id)

    @property
    def placer(self) -> Placer:
        """Places calls as the API asks for them. Only after ``start``."""
        if self._placer is None:
            raise RuntimeError("start() comes first")
        return self._placer

    @property
    def trunks(self) -> tuple[Trunk, ...]:
        """Of all accounts. Only after ``start``."""
        return tuple(self._ground.state.trunks.values())

    async def undelivered(self, last: CallEvent, account_id: str, *, within_s: float) -> int:
        """See ``delivery.awaited``."""
        return await undelivered(self._ground.database, self.bus, last, account_id, within_s=within_s)

    async def drain(self) -> None:
        """Take no more calls, and wait ``drain_timeout_s`` for those that are up; may be cancelled.

        ``close`` ends what is left.
        """
        if self._phone is not None:
            await self._phone.drain(self.settings.drain_timeout_s)

    async def reload(self, settings: Settings) -> None:
        """Take over what config.json defines now, and the TLS files. Raises ``ConfigError``: all stays as it was."""
        check_providers(settings)
        add_hold_audio(self._hold_audio, settings)
        self.reload_certificates()
        change = await self._ground.take_config(settings)
        for sentence in change.dangling:
            _log.warning("%s", sentence)
        taken = {name: getattr(settings, name) for name in RELOADED}
        self.settings = msgspec.structs.replace(self.settings, **taken)
        self._clearance.use(dial_rules(self.settings.dialling))

    def reload_certificates(self) -> None:
        """Read the TLS files again, for connections from now on. Raises ``ConfigError``; the old ones then stay."""
        if self._tls is not None:
            self._tls.reload()

    async def close(self) -> None:
        """End calls politely, then everything else; safe after a failed ``start``."""
        self.lag.stop()
        await self._vitals.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._scheduler is not None:
            await self._scheduler.stop()
        if self._phone is not None:
            await self._phone.close()
        if self._front is not None:
            await self._front.close()
        await self._states.stop()
        await self._providers.close()
        await self._ground.stop()
        if self._traces is not None:
            await asyncio.to_thread(self._traces.close)
        if self._spans is not None:
            await asyncio.to_thread(self._spans.close)

    def _surroundings(self) -> Surroundings:
        sip = self.settings.sip
        self._tls = tls_contexts(self.settings)
        return Surroundings(
            tls=self._tls,
            nameservers=sip.nameservers,
            advertised=AdvertisedAddresses(sip.advertised_address, sip.local_networks),
            on_trunk=self._trunk_changed,
            trace=None if self._traces is None else self._traces.record,
            hold_audio=self._hold_audio,
            voice=self._providers if available() is None else None,
            spotter=self._providers.spotter,
            questions=self._ground.questions,
            limits=LimitsNow(self._ground.usage, time.time),
            clearance=self._clearance,
            trunks_for=self._trunks_for,
        )

    def _trunks_for(self, account_id: str) -> Container[str]:
        """The operator's calls may go wherever a trunk of his server leads."""
        state = self._ground.state
        return state.trunks if account_id == DEFAULT_ACCOUNT else state.trunks_for(account_id)

    def _open_placer(self, phone: Phone) -> Placer:
        usage = self._ground.usage
        placer = Placer(
            PlacingParts(
                settings=lambda: self.settings,
                directory=lambda: self._ground.state,
                trunk_states=lambda: self.trunk_states,
                calls=phone.manager,
                events=self.bus,
                rights=self._ground.rights,
                refuse=lambda account_id: usage.refuse(account_id, "outbound", time.time()),
                check=agent_check(self.settings),
                ready=lambda agent: self._providers.serve((agent,)),
            )
        )
        self.bus.watch(events=placer.note)
        return placer

    def _open_scheduler(self, phone: Phone, placer: Placer) -> Scheduler:
        return Scheduler(self._ground.database, placer, self.bus, hindrances=lambda: phone.manager.hindrances)

    def _directory_changed(self, state: DirectoryState) -> None:
        if self._phone is not None:
            self._phone.trunks.update(tuple(state.trunks.values()))
            self._spawn(self._providers.serve(_agents(state)))
        if self._front is not None:
            self._front.follow_keys()

    def _trunk_changed(self, changed: TrunkChanged) -> None:
        if changed.phase == "stopped" and self.trunk(changed.trunk_id) is None:
            self._states.drop(changed.trunk_id)
        else:
            self._states.put(changed)
        self.bus.tell(changed)

    def _store_full(self, full: bool) -> None:
        if self._phone is not None:
            self._phone.manager.hinder("store", full)

    def _price_of(self, trunk_id: str) -> float:
        trunk = self.trunk(trunk_id)
        return 0.0 if trunk is None else trunk.rules.price_per_min

    async def _start_stun(self, phone: Phone) -> None:
        """Know our address before the first REGISTER; then look again and again."""
        server = stun_hop(self.settings.sip.stun_server)
        await discover(phone, server)
        self._spawn(keep_discovering(phone, server))

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a task of the server failed", exc_info=error)

    def _need_phone(self) -> Phone:
        if self._phone is None:
            raise RuntimeError("start() comes first")
        return self._phone


def _agents(state: DirectoryState) -> Iterator[Agent]:
    for account in state.accounts.values():
        yield from account.agents.values()


def _open_spans(settings: Settings) -> CallSpans | None:
    """Raises ``ConfigError`` where the extra is missing."""
    telemetry = settings.telemetry
    return open_spans(telemetry.otlp_endpoint, telemetry.service_name) if telemetry.otlp_endpoint else None


def add_hold_audio(audio: HoldAudio, settings: Settings) -> None:
    """Read the files that agents and tools name. Raises ``ConfigError`` naming what has one that cannot be played."""
    for key, name in _sounds(settings):
        try:
            audio.add(name, read_hold_audio(Path(name)))
        except WavError as error:
            fix = "Give the path of a WAV file of 8 or 16 bit, or leave it out"
            raise ConfigError(key, f"{name}: {error}", fix) from None


def _sounds(settings: Settings) -> Iterator[tuple[str, str]]:
    """Key and path of each file that callers may hear."""
    for index, agent in enumerate(settings.agents):
        if agent.hold_audio:
            yield f"agents[{index}].hold_audio", agent.hold_audio
        for place, fallback in enumerate(agent.fallbacks):
            if fallback.prompt not in ("", "default"):
                yield f"agents[{index}].fallbacks[{place}].prompt", fallback.prompt
    for index, tool in enumerate(settings.tools):
        if tool.hold_audio and not is_fetched(tool.hold_audio):
            yield f"tools[{index}].hold_audio", tool.hold_audio


def _affordable_calls(settings: Settings) -> int:
    """``max_calls`` is never above what descriptors and the RTP range carry."""
    by_descriptors = (raise_descriptor_limit() - DESCRIPTORS_RESERVED) // DESCRIPTORS_PER_CALL
    by_ports = (settings.rtp.port_max - settings.rtp.port_min + 1) // 2
    return max(1, min(settings.max_calls, by_descriptors, by_ports))
