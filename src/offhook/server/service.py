"""``offhook serve``: the phone with all that surrounds it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from offhook.audio.wav import WavError
from offhook.bridge.local.engine import LocalEngine
from offhook.bridge.local.provider import local_provider
from offhook.bridge.registry import SCRIPTED, BridgeRegistry, Provider
from offhook.call.dialling import PlaceCall
from offhook.call.hold_audio import HoldAudio, read_hold_audio
from offhook.call.session import CallSession
from offhook.config import Settings, agents_of, numbers_of, trunks_of
from offhook.delivery.bus import Bus
from offhook.media.ports import PortPool
from offhook.model.errors import ConfigError
from offhook.model.trunks import Trunk, TrunkChanged
from offhook.observability import LoopLag, raise_descriptor_limit, settle_memory
from offhook.server.network import discover, keep_discovering, listen_everywhere, stun_hop, tls_contexts
from offhook.server.phone import NODE_ID, Phone, Surroundings, build_phone
from offhook.signaling.advertised import AdvertisedAddresses
from offhook.signaling.tls import TlsContexts
from offhook.sip.events import Address, Transport
from offhook.store.call_files import CallStore
from offhook.store.directory import InMemoryDirectory
from offhook.store.traces import TraceStore
from offhook.store.trunk_states import TrunkStates

_log = logging.getLogger("offhook.server")

PROVIDERS = ("local", "scripted")
"""Names that ``agents[].provider`` may have."""

DESCRIPTORS_PER_CALL = 4
"""RTP, RTCP, and headroom for a provider's connection and a file."""

DESCRIPTORS_RESERVED = 128
"""Listening sockets, TCP peers, files, the worker processes' pipes."""


class Server:
    """``offhook serve``: a phone with a directory, a store and the providers the agents ask for."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.data_dir = Path(settings.data_dir).expanduser()
        self.lag = LoopLag()
        self.engine: LocalEngine | None = None
        self._store = _open_store(self.data_dir)
        self.bus = Bus(self._store)
        self._phone: Phone | None = None
        self._states = TrunkStates(self.data_dir)
        self._traces = TraceStore(self.data_dir) if settings.sip.trace else None
        if self._traces is not None:
            self.bus.watch(events=self._traces.note)
        self._stun: asyncio.Task[None] | None = None
        self._tls: TlsContexts | None = None

    async def start(self) -> tuple[tuple[Transport, Address], ...]:
        """Listen; returns where. Raises ``ListenError``, ``ConfigError``, ``BridgeError``."""
        settings = self.settings
        phone = build_phone(
            bridges=await self._build_bridges(),
            directory=InMemoryDirectory(agents_of(settings), numbers_of(settings)),
            events=self.bus,
            max_calls=_affordable_calls(settings),
            ports=PortPool(settings.rtp.port_min, settings.rtp.port_max),
            recordings_folder=self.data_dir / "recordings",
            media_timeout_s=settings.rtp.media_timeout_s,
            surroundings=self._surroundings(),
        )
        self._phone = phone
        await listen_everywhere(phone.endpoint, settings.sip)
        if settings.sip.stun_server:
            await self._start_stun(phone)
        self._states.start()
        phone.trunks.start()
        self.lag.start()
        settle_memory()
        return phone.endpoint.listening

    @property
    def live_calls(self) -> int:
        return len(self._phone.manager.calls) if self._phone is not None else 0

    @property
    def trunk_states(self) -> Mapping[str, TrunkChanged]:
        """The latest state of each trunk that has one."""
        return self._phone.trunks.states if self._phone is not None else {}

    def place(self, command: PlaceCall) -> CallSession:
        """Call somebody. Only after ``start``."""
        if self._phone is None:
            raise RuntimeError("start() comes before place()")
        return self._phone.manager.place(command)

    def trunk(self, trunk_id: str) -> Trunk | None:
        """As it is now. Only after ``start``."""
        return None if self._phone is None else self._phone.trunks.trunk(trunk_id)

    def update_trunks(self, trunks: Sequence[Trunk]) -> None:
        """These are the trunks from now on (``Trunks.update``). Only after ``start``."""
        if self._phone is None:
            raise RuntimeError("start() comes before update_trunks()")
        self._phone.trunks.update(trunks)

    async def drain(self) -> None:
        """Take no more calls, and wait ``drain_timeout_s`` for those that are up; may be cancelled.

        ``close`` ends what is left.
        """
        if self._phone is not None:
            await self._phone.drain(self.settings.drain_timeout_s)

    async def reload(self, settings: Settings) -> None:
        """Take over what may change while it serves: trunks, and the TLS files. Raises ``ConfigError``: all stays."""
        self.reload_certificates()
        self.update_trunks(trunks_of(settings))
        self.settings = msgspec.structs.replace(self.settings, trunks=settings.trunks)

    def reload_certificates(self) -> None:
        """Read the TLS files again, for connections from now on. Raises ``ConfigError``; the old ones then stay."""
        if self._tls is not None:
            self._tls.reload()

    async def close(self) -> None:
        """End calls politely, then everything else; safe after a failed ``start``."""
        self.lag.stop()
        if self._stun is not None:
            self._stun.cancel()
            await asyncio.gather(self._stun, return_exceptions=True)
        if self._phone is not None:
            await self._phone.close()
        await self._states.stop()
        if self.engine is not None:
            await self.engine.close()
        await asyncio.to_thread(self._store.close)
        if self._traces is not None:
            await asyncio.to_thread(self._traces.close)

    def _surroundings(self) -> Surroundings:
        sip = self.settings.sip
        self._tls = tls_contexts(self.settings)
        return Surroundings(
            trunks=trunks_of(self.settings),
            tls=self._tls,
            nameservers=sip.nameservers,
            advertised=AdvertisedAddresses(sip.advertised_address, sip.local_networks),
            on_trunk=self._trunk_changed,
            trace=None if self._traces is None else self._traces.record,
            hold_audio=load_hold_audio(self.settings),
        )

    def _trunk_changed(self, changed: TrunkChanged) -> None:
        if changed.phase == "stopped" and self.trunk(changed.trunk_id) is None:
            self._states.drop(changed.trunk_id)
        else:
            self._states.put(changed)
        self.bus.tell(changed)

    async def _start_stun(self, phone: Phone) -> None:
        """Know our address before the first REGISTER; then look again and again."""
        server = stun_hop(self.settings.sip.stun_server)
        await discover(phone, server)
        self._stun = asyncio.create_task(keep_discovering(phone, server))

    async def _build_bridges(self) -> BridgeRegistry:
        providers: dict[str, Provider] = {"scripted": SCRIPTED}
        if any(agent.provider == "local" for agent in agents_of(self.settings)):
            self.engine = LocalEngine()
            await self.engine.start()
            providers["local"] = local_provider(self.engine)
        registry = BridgeRegistry(providers)
        for index, agent in enumerate(agents_of(self.settings)):
            if agent.provider not in registry.names:
                fix = f"Use one of: {', '.join(registry.names)}"
                raise ConfigError(f"agents[{index}].provider", f"there is no {agent.provider!r}", fix)
        return registry


def load_hold_audio(settings: Settings) -> HoldAudio:
    """Raises ``ConfigError`` naming the agent whose file cannot be played."""
    audio = HoldAudio()
    for index, agent in enumerate(settings.agents):
        if not agent.hold_audio:
            continue
        try:
            audio.add(agent.hold_audio, read_hold_audio(Path(agent.hold_audio)))
        except WavError as error:
            fix = "Give the path of a WAV file of 8 or 16 bit, or leave it out for our melody"
            raise ConfigError(f"agents[{index}].hold_audio", f"{agent.hold_audio}: {error}", fix) from None
    return audio


def _open_store(folder: Path) -> CallStore:
    """Raises ``ConfigError`` when the data folder cannot be used."""
    try:
        (folder / "recordings").mkdir(parents=True, exist_ok=True)
        return CallStore(folder, node_id=NODE_ID)
    except OSError as error:
        fix = "Choose a folder you may write to, with data_dir or --data"
        raise ConfigError("data_dir", f"{folder} cannot be used ({error.strerror})", fix) from None


def _affordable_calls(settings: Settings) -> int:
    """``max_calls`` is never above what descriptors and the RTP range carry."""
    by_descriptors = (raise_descriptor_limit() - DESCRIPTORS_RESERVED) // DESCRIPTORS_PER_CALL
    by_ports = (settings.rtp.port_max - settings.rtp.port_min + 1) // 2
    return max(1, min(settings.max_calls, by_descriptors, by_ports))
