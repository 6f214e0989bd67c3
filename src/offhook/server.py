"""The composition root: the only place that builds one thing from another."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from offhook import __version__
from offhook.bridge.local.engine import LocalEngine
from offhook.bridge.local.provider import local_provider
from offhook.bridge.registry import SCRIPTED, BridgeRegistry, Provider
from offhook.call.agent_session import Bridges
from offhook.call.equipment import Equipment, MediaOpener
from offhook.call.manager import CallManager
from offhook.call.ports import Directory, EventSink
from offhook.config import Settings, agents_of, numbers_of
from offhook.delivery.bus import Bus
from offhook.media.clock import MediaClock
from offhook.media.events import MediaEvent
from offhook.media.ports import PortPool
from offhook.media.recorder import RecordingWriter
from offhook.media.session import MediaSession
from offhook.model.errors import ConfigError
from offhook.observability import LoopLag, raise_descriptor_limit, settle_memory
from offhook.signaling.endpoint import SipEndpoint
from offhook.sip.events import Address, Transport
from offhook.sip.user_agent import UserAgent
from offhook.store.calls import CallStore
from offhook.store.directory import InMemoryDirectory

_log = logging.getLogger("offhook.server")

PRODUCT = f"offhook/{__version__}"
DESCRIPTORS_PER_CALL = 4
"""RTP, RTCP, and headroom for a provider's connection and a file."""

DESCRIPTORS_RESERVED = 128
"""Listening sockets, TCP peers, files, the worker processes' pipes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Phone:
    """Signalling, media and calls, joined; the part that ``serve`` and ``call`` share."""

    endpoint: SipEndpoint
    manager: CallManager
    recordings: RecordingWriter

    async def close(self) -> None:
        """End every call, then let go of every socket and thread."""
        await self.manager.close()
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
) -> Phone:
    """Everything a call needs; nothing listens yet. Needs a running event loop."""
    manager = CallManager(max_calls=max_calls)
    user_agent = UserAgent(product=PRODUCT, new_token=lambda: secrets.token_hex(10))
    endpoint = SipEndpoint(user_agent=user_agent, listener=manager.on_sip)
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
        )
    )
    return Phone(endpoint=endpoint, manager=manager, recordings=recordings)


def _recording_lost(path: Path, problem: str) -> None:
    _log.error("recording %s was given up: %s", path.name, problem)


def _media_opener(clock: MediaClock, ports: PortPool, media_timeout_s: float) -> MediaOpener:
    def open_media(local_host: str, listener: Callable[[MediaEvent], None]) -> MediaSession:
        return MediaSession(
            clock=clock,
            pool=ports,
            local_host=local_host,
            ssrc=secrets.randbits(32),
            phase_group=clock.emptiest_group(),
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
        )
        self._phone = phone
        await listen_everywhere(phone.endpoint, settings.sip.host, settings.sip.port, settings.sip.transports)
        self.lag.start()
        settle_memory()
        return phone.endpoint.listening

    @property
    def live_calls(self) -> int:
        return len(self._phone.manager.calls) if self._phone is not None else 0

    async def close(self) -> None:
        """End calls politely, then everything else; safe after a failed ``start``."""
        self.lag.stop()
        if self._phone is not None:
            await self._phone.close()
        if self.engine is not None:
            await self.engine.close()
        await asyncio.to_thread(self._store.close)

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


async def listen_everywhere(endpoint: SipEndpoint, host: str, port: int, transports: tuple[str, ...]) -> None:
    """Bind each transport on one port; an empty host means every address, IPv4 and IPv6. Raises ``ListenError``."""
    for name in transports:
        transport: Transport = "TCP" if name == "tcp" else "UDP"
        address = await endpoint.listen(transport, host, port)
        port = port or address.port


def _open_store(folder: Path) -> CallStore:
    """Raises ``ConfigError`` when the data folder cannot be used."""
    try:
        (folder / "recordings").mkdir(parents=True, exist_ok=True)
        return CallStore(folder, node_id="node-1")
    except OSError as error:
        fix = "Choose a folder you may write to, with data_dir or --data"
        raise ConfigError("data_dir", f"{folder} cannot be used ({error.strerror})", fix) from None


def _affordable_calls(settings: Settings) -> int:
    """``max_calls`` is never above what descriptors and the RTP range carry."""
    by_descriptors = (raise_descriptor_limit() - DESCRIPTORS_RESERVED) // DESCRIPTORS_PER_CALL
    by_ports = (settings.rtp.port_max - settings.rtp.port_min + 1) // 2
    return max(1, min(settings.max_calls, by_descriptors, by_ports))
