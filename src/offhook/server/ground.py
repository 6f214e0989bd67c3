"""What a server stands on: the database, the journal, the directory in memory, and its doors to the outside by HTTP."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec

from offhook.api.live import LiveFeed
from offhook.call.account_limits import AccountUsage, AccountUse
from offhook.call.hold_audio import HoldAudio
from offhook.config import Settings, forms_of
from offhook.delivery.audience import Audience
from offhook.delivery.connect_guard import ConnectGuard
from offhook.delivery.fetched_audio import FetchedAudio
from offhook.delivery.outbound_http import OutboundHttp
from offhook.delivery.questions import HttpQuestions
from offhook.delivery.sip4ai_signing import account_secret, installation_secret
from offhook.delivery.targets_allowed import TargetPolicy, networks, url_problem
from offhook.delivery.webhooks import AttemptResult, WebhookSender
from offhook.model.errors import ConfigError
from offhook.model.records import Answering, UnfinishedCall
from offhook.server.providers import PROVIDERS, provider_check
from offhook.store.accounts import list_accounts, usage_today
from offhook.store.calls import unfinished_calls
from offhook.store.config_rows import ConfigChange, sync_config
from offhook.store.database import Database
from offhook.store.directory import DirectoryFollower, DirectoryState, InMemoryDirectory
from offhook.store.journal import Journal, JournalListeners
from offhook.store.resources import Resources
from offhook.store.retention import Retention, RetentionPolicy
from offhook.store.rights import Rights
from offhook.store.vault import VARIABLE, Vault

NODE_FILE = "node"
"""In the data folder: the name by which this installation's calls are told from those of others on one database."""


class LiveDirectory:
    """Implements the call's ``Directory``: whatever copy is the newest."""

    def __init__(self) -> None:
        self.latest = InMemoryDirectory()

    def answering(self, user: str, trunk_id: str) -> Answering | None:
        return self.latest.answering(user, trunk_id)


class Ground:
    """Made before the event loop has work, since it opens files; ``start`` begins to read and write.

    ``on_directory`` is given every new state of the directory; ``on_full`` whether new calls must not be taken;
    ``on_batch`` and ``on_attempt`` what figures are made of.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        config_file: str,
        on_directory: Callable[[DirectoryState], None],
        on_full: Callable[[bool], None],
        on_batch: Callable[[int, float], None],
        on_attempt: Callable[[AttemptResult, float], None],
        price_of: Callable[[str], float],
    ) -> None:
        """Raises ``ConfigError`` for a data folder, a database or a master key that cannot be used."""
        self._settings = settings
        data_dir = settings.data_folder
        self.node_id = _prepare_folder(data_dir)
        self.database = Database.open(settings.database.url, data_dir=data_dir)
        self.vault = Vault.open(data_dir, os.environ.get(VARIABLE, ""))
        self.resources = Resources(vault=self.vault, config_file=config_file)
        self.feed = LiveFeed()
        secret = installation_secret(data_dir, settings.webhook_secret)
        self.audience = Audience(partial(account_secret, secret))
        self.directory = LiveDirectory()
        self.usage = AccountUsage({}, price_of=price_of)
        self.http = OutboundHttp(self._policy(dev=False))
        self.hold_audio = HoldAudio()
        self._fetched_audio = FetchedAudio(self.http, self.hold_audio)
        self.hold_audio.on_wanted = self._fetched_audio.want
        self.guard = ConnectGuard(lambda: self.http.policy)
        self.rights = Rights(
            providers=PROVIDERS,
            url_problem=lambda url: url_problem(url, self.http.policy),
            provider_check=provider_check(settings),
        )
        self.questions = HttpQuestions(
            self.http,
            lambda: self.state,
            allow=self.rights.check_agent,
            account_secret=partial(account_secret, secret),
        )
        self.follower = DirectoryFollower(self.database, self.vault, self._directory_changed)
        self.sender = WebhookSender(
            self.database,
            self.http,
            self.audience,
            on_attempt=on_attempt,
            on_disabled=self.follower.look_now,
        )
        listeners = JournalListeners(
            deliveries=self.audience.deliveries,
            on_batch=on_batch,
            on_committed=self.feed.publish,
            on_full=on_full,
            on_deliveries=self.sender.wake,
        )
        self.journal = Journal(self.database, node_id=self.node_id, folder=data_dir, listeners=listeners)
        self._on_directory = on_directory
        policy = RetentionPolicy(**msgspec.structs.asdict(settings.retention))
        self._retention = Retention(self.database, data_dir, policy)

    @property
    def state(self) -> DirectoryState:
        return self.follower.state

    async def start(self) -> None:
        """Bring the tables up to date, take config.json over, and read the directory. Raises ``ConfigError``."""
        await asyncio.to_thread(self.database.migrate)
        await self.database.look(self.vault.check)
        await self.take_config(self._settings)
        await self.journal.start()
        await self.follower.start()
        await self._resume_usage()
        self.sender.start()
        self._retention.start()

    async def take_config(self, settings: Settings) -> ConfigChange:
        """What config.json defines is so from now on. Raises ``ConfigError``; then nothing changed."""
        change = await self.database.run(sync_config, self.resources, forms_of(settings))
        if self.follower.state.revision >= 0:
            await self.follower.changed()
        return change

    async def lost_calls(self) -> tuple[UnfinishedCall, ...]:
        """The calls that an earlier process of this node left."""
        lost = await self.database.look(unfinished_calls, self.node_id)
        for call in lost:
            self.feed.know(call.call_id, call.account_id)
        return lost

    async def stop(self) -> None:
        """Safe after a failed ``start``. The journal is written to its end."""
        await self._retention.close()
        await self.sender.stop()
        await self.follower.stop()
        await self._fetched_audio.close()
        await self.http.close()
        self.guard.close()
        await asyncio.to_thread(self.journal.close)
        await asyncio.to_thread(self.database.close)

    async def _resume_usage(self) -> None:
        now = time.time()
        for account in await self.database.look(list_accounts):
            used = await self.database.look(usage_today, account.account_id, now)
            self.usage.resume(account.account_id, AccountUse(minutes=used.minutes, spend=used.spend), now)

    def _directory_changed(self, state: DirectoryState) -> None:
        self.directory.latest = InMemoryDirectory(state=state)
        self.audience.replace({account_id: one.webhooks for account_id, one in state.accounts.items()})
        self.usage.use({account_id: one.limits for account_id, one in state.accounts.items()})
        self.http.policy = self._policy(dev=not state.has_api_keys)
        self._on_directory(state)

    def _policy(self, *, dev: bool) -> TargetPolicy:
        security = self._settings.security
        allowed = networks("security.allowed_targets", security.allowed_targets)
        return TargetPolicy(allowed_targets=allowed, allow_http=security.allow_http, dev=dev)


def _prepare_folder(folder: Path) -> str:
    """Make the data folder; returns the node's id, made once. Raises ``ConfigError``."""
    try:
        (folder / "recordings").mkdir(parents=True, exist_ok=True)
        file = folder / NODE_FILE
        if not file.exists():
            file.write_text(f"node-{secrets.token_hex(4)}\n")
        return file.read_text().strip()
    except OSError as error:
        fix = "Choose a folder you may write to, with data_dir or --data"
        raise ConfigError("data_dir", f"{folder} cannot be used ({error.strerror})", fix) from None
