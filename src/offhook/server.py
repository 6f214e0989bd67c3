"""The composition root: the only place that builds one thing from another."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from offhook.audio.wav import WavError
from offhook.bridge.local.engine import LocalEngine
from offhook.bridge.local.provider import local_provider
from offhook.bridge.registry import SCRIPTED, BridgeRegistry, Provider
from offhook.call.agent_session import Bridges
from offhook.call.dialling import PlaceCall
from offhook.call.equipment import Equipment, MediaOpener
from offhook.call.hold_audio import HoldAudio, read_hold_audio
from offhook.call.leg import dialled_user
from offhook.call.manager import CallManager
from offhook.call.ports import Directory, EventSink
from offhook.call.session import CallSession
from offhook.call.trunks import Trunks
from offhook.call.ways import TRANSPORTS
from offhook.config import Settings, SipSettings, agents_of, numbers_of, trunks_of
from offhook.delivery.bus import Bus
from offhook.media.clock import MediaClock
from offhook.media.events import MediaEvent
from offhook.media.ports import PortPool
from offhook.media.recorder import RecordingWriter
from offhook.media.session import MediaSession
from offhook.model.errors import ConfigError, SipParseError, UnreachableError
from offhook.model.trunks import Trunk, TrunkChanged
from offhook.observability import LoopLag, raise_descriptor_limit, settle_memory
from offhook.signaling.advertised import AdvertisedAddresses
from offhook.signaling.endpoint import SipEndpoint
from offhook.signaling.stun import DEFAULT_PORT as STUN_PORT
from offhook.signaling.tls import TlsContexts, TlsSettings
from offhook.signaling.trace import Trace
from offhook.signaling.transports import free_port
from offhook.sip.admission import Admission
from offhook.sip.challenges import Authenticator, NonceMint
from offhook.sip.events import Address, Hop, Transport
from offhook.sip.uri import SipUri
from offhook.sip.user_agent import UserAgent
from offhook.store.calls import CallStore
from offhook.store.directory import InMemoryDirectory
from offhook.store.traces import TraceStore
from offhook.store.trunk_states import TrunkStates

_log = logging.getLogger("offhook.server")

PRODUCT = "offhook"
"""In User-Agent and Server. No version: it would tell scanners which faults to try."""

PROVIDERS = ("local", "scripted")
"""Names that ``agents[].provider`` may have."""

REALM = "offhook"
NODE_ID = "node-1"

UNREGISTER_S = 2.0
"""For the registrars to confirm that we are gone."""

DRAIN_TIMEOUT_S = 1800.0
"""For the calls that are up to end by themselves: nine in ten are shorter, and who restarts us waits no longer."""

STUN_AGAIN_S = 25.0
"""Translators forget a UDP binding after 30 s at the worst; and a changed address is noticed."""

DESCRIPTORS_PER_CALL = 4
"""RTP, RTCP, and headroom for a provider's connection and a file."""

DESCRIPTORS_RESERVED = 128
"""Listening sockets, TCP peers, files, the worker processes' pipes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Surroundings:
    """How this process stands in the network: trunks, TLS, names, and its address as others see it."""

    trunks: tuple[Trunk, ...] = ()
    tls: TlsContexts | None = None
    nameservers: tuple[str, ...] = ()
    advertised: AdvertisedAddresses = field(default_factory=AdvertisedAddresses)
    on_trunk: Callable[[TrunkChanged], None] = lambda changed: None
    trace: Trace | None = None
    hold_audio: HoldAudio = field(default_factory=HoldAudio)


@dataclass(frozen=True, kw_only=True, slots=True)
class Phone:
    """Signalling, media and calls, joined; the part that ``serve`` and ``call`` share."""

    endpoint: SipEndpoint
    manager: CallManager
    recordings: RecordingWriter
    trunks: Trunks

    async def drain(self, timeout_s: float) -> None:
        """Take no more calls, take registrations back at once, and return when the last call is over, or it is time."""
        self.manager.drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await asyncio.gather(self.trunks.leave(UNREGISTER_S), self.manager.drained())

    async def close(self) -> None:
        """End every call, take registrations back, then let go of every socket and thread."""
        await self.manager.close()
        await self.trunks.stop(UNREGISTER_S)
        await self.endpoint.close()
        self.recordings.close()


def build_phone(
    *,
    bridges: Bridges,
    directory: Directory,
    events: EventSink,
    max_calls: int,
    ports: PortPool,
    recordings_folder: Path,
    media_timeout_s: float,
    teardown_s: float = 2.0,
    surroundings: Surroundings | None = None,
) -> Phone:
    """Everything a call needs; nothing listens yet. Needs a running event loop."""
    around = surroundings or Surroundings()
    manager = CallManager(max_calls=max_calls)
    admission = Admission(
        around.trunks,
        authenticator=Authenticator(NonceMint(secrets.token_bytes(32), NODE_ID), REALM),
        serves=lambda uri: directory.answering(dialled_user(uri), "") is not None,
    )
    user_agent = UserAgent(product=PRODUCT, new_token=lambda: secrets.token_hex(10), admission=admission)
    endpoint = SipEndpoint(
        user_agent=user_agent,
        listener=manager.on_sip,
        trace=around.trace,
        tls=around.tls,
        nameservers=around.nameservers,
        advertised=around.advertised,
    )
    trunks = Trunks(around.trunks, endpoint=endpoint, admission=admission, on_change=around.on_trunk)
    clock = MediaClock(asyncio.get_running_loop())
    recordings = RecordingWriter(on_problem=_recording_lost)
    manager.attach(
        Equipment(
            endpoint=endpoint,
            events=events,
            directory=directory,
            bridges=bridges,
            open_media=_media_opener(clock, ports, media_timeout_s),
            recordings=recordings,
            recordings_folder=recordings_folder,
            teardown_s=teardown_s,
            find_trunk=trunks.trunk,
            hold_audio=around.hold_audio,
        ),
        trunks,
    )
    return Phone(endpoint=endpoint, manager=manager, recordings=recordings, trunks=trunks)


def _recording_lost(path: Path, problem: str) -> None:
    _log.error("recording %s was given up: %s", path.name, problem)


def _media_opener(clock: MediaClock, ports: PortPool, media_timeout_s: float) -> MediaOpener:
    def open_media(
        local_host: str, listener: Callable[[MediaEvent], None], beside: MediaSession | None
    ) -> MediaSession:
        return MediaSession(
            clock=clock,
            pool=ports,
            local_host=local_host,
            ssrc=secrets.randbits(32),
            phase_group=clock.emptiest_group() if beside is None else beside.phase_group,
            listener=listener,
            media_timeout_s=media_timeout_s,
        )

    return open_media


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

    async def drain(self, timeout_s: float = DRAIN_TIMEOUT_S) -> None:
        """Take no more calls, and wait for those that are up; may be cancelled. ``close`` ends what is left."""
        if self._phone is not None:
            await self._phone.drain(timeout_s)

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
        await _discover(phone, server)
        self._stun = asyncio.create_task(_keep_discovering(phone, server))

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


async def listen_everywhere(endpoint: SipEndpoint, sip: SipSettings) -> None:
    """Bind UDP and TCP on one port, TLS on its own; an empty host means every address, IPv4 and IPv6.

    Raises ``ListenError``.
    """
    transports = [TRANSPORTS[name] for name in sip.transports]
    port = sip.port
    if not port:
        with contextlib.suppress(OSError, ValueError):  # then listening says what is wrong
            port = free_port(sip.host, [transport for transport in transports if transport != "TLS"])
    for transport in transports:
        await endpoint.listen(transport, sip.host, sip.tls_port if transport == "TLS" else port)


def tls_contexts(settings: Settings) -> TlsContexts:
    """Raises ``ConfigError`` naming the file that cannot be used."""
    files = settings.tls

    def path(text: str) -> Path | None:
        return Path(text).expanduser() if text else None

    return TlsContexts(
        TlsSettings(
            certificate=path(files.certificate),
            private_key=path(files.private_key),
            ca_file=path(files.ca_file),
            client_certificate=files.client_certificate,
        )
    )


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


def stun_hop(text: str) -> Hop:
    """``host``, ``host:port`` or ``[address]:port``. Raises ``ConfigError``."""
    try:
        server = SipUri.parse(f"sip:{text}")
    except SipParseError:
        fix = "Write it as stun.example.com or stun.example.com:3478"
        raise ConfigError("sip.stun_server", f"{text!r} is no host", fix) from None
    return Hop(transport="UDP", host=server.host, port=server.port or STUN_PORT)


async def _discover(phone: Phone, server: Hop) -> None:
    try:
        if await phone.endpoint.discover(server):
            phone.trunks.address_changed()
    except UnreachableError as error:
        _log.warning("our public address is not known: %s; calls from outside may stay silent", error)


async def _keep_discovering(phone: Phone, server: Hop) -> None:
    while True:
        await asyncio.sleep(STUN_AGAIN_S)
        await _discover(phone, server)


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
