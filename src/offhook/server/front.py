"""The HTTP front: the API, /health, /ready and /metrics, where the directory's keys say it may listen."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from offhook.api.app import build_app
from offhook.api.listener import HttpListener, Where
from offhook.api.native.table import NATIVE
from offhook.api.parts import ApiParts, CallPlacer
from offhook.call.manager import CallManager
from offhook.config import Settings
from offhook.model.trunks import TrunkChanged
from offhook.observability.metrics import Metrics
from offhook.server.ground import Ground
from offhook.server.vitals import Vitals


class Front:
    """``trunk_states`` and ``calls`` are those of this process; ``placer`` begins new ones."""

    def __init__(
        self,
        settings: Settings,
        ground: Ground,
        vitals: Vitals,
        metrics: Metrics,
        *,
        trunk_states: Callable[[], Mapping[str, TrunkChanged]],
        calls: CallManager,
        placer: CallPlacer,
    ) -> None:
        self._ground = ground
        http, security = settings.http, settings.security
        parts = ApiParts(
            database=ground.database,
            vault=ground.vault,
            directory=lambda: ground.state,
            directory_changed=ground.follower.changed,
            feed=ground.feed,
            data_dir=settings.data_folder,
            readiness=vitals.readiness,
            metrics=vitals.scrape,
            trunk_states=trunk_states,
            calls=calls,
            placer=placer,
            wake_sender=ground.sender.wake,
            config_file=ground.resources.config_file,
            rights=ground.rights,
            hosts=frozenset({http.host} if http.host else ()),
            allow_anonymous=security.allow_anonymous,
            on_answer=lambda method, path, status, took_s: metrics.answered(path, method, status, took_s),
        )
        where = Where(host=http.host, port=http.port, allow_anonymous=security.allow_anonymous)
        self._listener = HttpListener(build_app(parts, NATIVE), where)
        self._following: asyncio.Task[None] | None = None

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        return self._listener.addresses

    async def start(self) -> None:
        """Raises ``ConfigError`` or ``ListenError``."""
        await self._listener.start(has_keys=self._ground.state.has_api_keys)

    def follow_keys(self) -> None:
        """The directory changed: listen where one listens with its keys."""
        self._following = asyncio.create_task(self._listener.keys_changed(has_keys=self._ground.state.has_api_keys))

    async def close(self) -> None:
        await asyncio.gather(*filter(None, (self._following,)), return_exceptions=True)
        await self._listener.close()
