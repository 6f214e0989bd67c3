"""Signalling, media and calls, joined: the part of the server that ``serve``, ``call`` and ``doctor`` share."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from pathlib import Path

from offhook.call.account_limits import NoLimits
from offhook.call.agent_session import Bridges
from offhook.call.asking import NobodyToAsk
from offhook.call.clearance import Clearance
from offhook.call.equipment import Equipment, MediaOpener
from offhook.call.hold_audio import HoldAudio
from offhook.call.leg import dialled_user
from offhook.call.manager import CallManager
from offhook.call.ports import Directory, EventSink, Limits, Questions, Spotter, Voice
from offhook.call.trunks import Trunks
from offhook.media.clock import MediaClock
from offhook.media.events import MediaEvent
from offhook.media.ports import PortPool
from offhook.media.recorder import RecordingWriter
from offhook.media.session import MediaSession
from offhook.model.trunks import GatewayTrunk, Trunk, TrunkChanged
from offhook.signaling.advertised import AdvertisedAddresses
from offhook.signaling.endpoint import SipEndpoint
from offhook.signaling.tls import TlsContexts
from offhook.signaling.trace import Trace
from offhook.sip.admission import Admission
from offhook.sip.challenges import Authenticator, NonceMint
from offhook.sip.user_agent import UserAgent

_log = logging.getLogger("offhook.server")

PRODUCT = "offhook"
"""In User-Agent and Server. No version: it would tell scanners which faults to try."""

REALM = "offhook"

UNREGISTER_S = 2.0
"""For the registrars to confirm that we are gone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Surroundings:
    """How this process stands in the network: trunks, TLS, names, its address as others see it; whom it asks, how much
    accounts may use, and which calls of ours may be made. ``trunks_for``: ids that an account may use; None: all."""

    trunks: tuple[Trunk, ...] = ()
    tls: TlsContexts | None = None
    nameservers: tuple[str, ...] = ()
    advertised: AdvertisedAddresses = field(default_factory=AdvertisedAddresses)
    on_trunk: Callable[[TrunkChanged], None] = lambda changed: None
    trace: Trace | None = None
    hold_audio: HoldAudio = field(default_factory=HoldAudio)
    voice: Voice | None = None
    spotter: Callable[[], Spotter | None] = lambda: None
    questions: Questions = field(default_factory=NobodyToAsk)
    limits: Limits = field(default_factory=NoLimits)
    clearance: Clearance = field(default_factory=Clearance)
    trunks_for: Callable[[str], Container[str]] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Phone:
    """Signalling, media and calls, joined; the part that ``serve`` and ``call`` share."""

    endpoint: SipEndpoint
    manager: CallManager
    recordings: RecordingWriter
    trunks: Trunks
    clock: MediaClock

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
        authenticator=Authenticator(NonceMint(secrets.token_bytes(32), PRODUCT), REALM),
        serves=lambda uri, trunk_id: directory.answering(dialled_user(uri), trunk_id) is not None,
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

    def is_anothers(account_id: str, host: str) -> bool:
        trunk_id = admission.trunk_of(host)
        if trunk_id is None or around.trunks_for is None or trunk_id in around.trunks_for(account_id):
            return False
        return isinstance(trunks.trunk(trunk_id), GatewayTrunk)  # a registrar knows us by a password

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
            is_anothers=is_anothers,
            limits=around.limits,
            clearance=around.clearance,
            hold_audio=around.hold_audio,
            voice=around.voice,
            spotter=around.spotter,
            questions=around.questions,
        ),
        trunks,
    )
    return Phone(endpoint=endpoint, manager=manager, recordings=recordings, trunks=trunks, clock=clock)


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
