"""Who answers which number, and all else that calls and the API ask for at once: an in-memory copy of the database.

The copy is a frozen value, exchanged whole. ``DirectoryFollower`` reads it anew when this process has written, and
looks each second whether another one has.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import msgspec
import sqlalchemy as sa

from offhook.model.call_events import DEFAULT_ACCOUNT
from offhook.model.records import (
    AccountLimits,
    Agent,
    Answering,
    ApiKey,
    Number,
    Squad,
    Tool,
    WebhookEndpoint,
)
from offhook.model.trunks import Trunk
from offhook.store import form_secrets
from offhook.store.database import Database
from offhook.store.forms import (
    AgentForm,
    AnyForm,
    Catalogue,
    NumberForm,
    SquadForm,
    ToolForm,
    WebhookForm,
    agent_record,
    number_record,
    squad_record,
    tool_record,
)
from offhook.store.resources import unsealed
from offhook.store.revision import current_revision
from offhook.store.schema import accounts, api_keys, resources
from offhook.store.schema import secrets as secrets_table
from offhook.store.trunk_forms import trunk_record
from offhook.store.vault import Vault

ANY_NUMBER = "*"

FOLLOW_S = 1.0
"""How old the copy can be where another process (the CLI, a second node) has written."""

LOAD_TRIES = 3
"""While others write. The last one stands, and is read anew when the follower looks again."""

PACE_ROWS = 25
PACE_S = 0.0005
"""A thread that computes keeps the event loop waiting up to 5 ms each time it wakes (sys.getswitchinterval), and longer
on two busy cores. So it rests after each millisecond of work: the loop's lag fell from 13 ms (p99) and 53 ms (worst) to
4 and 6 ms, while 2,000 records were loaded over and over.
"""

_log = logging.getLogger("offhook.store")

_Item = TypeVar("_Item")


@dataclass(frozen=True, kw_only=True, slots=True)
class AccountDirectory:
    """What one account has, by id. ``webhooks`` are those that are enabled."""

    account_id: str
    limits: AccountLimits = field(default_factory=AccountLimits)
    agents: Mapping[str, Agent] = field(default_factory=dict)
    trunks: Mapping[str, Trunk] = field(default_factory=dict)
    numbers: tuple[Number, ...] = ()
    tools: Mapping[str, Tool] = field(default_factory=dict)
    squads: Mapping[str, Squad] = field(default_factory=dict)
    webhooks: Mapping[str, WebhookEndpoint] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class DirectoryState:
    """Everything, as it was at one revision of the database.

    ``shared_trunks``: ids of those config.json defines: calls by them reach the numbers of all accounts.
    ``api_keys`` by their digests, without revoked ones. ``has_api_keys``: somebody made one, though it be revoked
    since: the door is not opened again.
    """

    revision: int = -1
    accounts: Mapping[str, AccountDirectory] = field(default_factory=dict)
    shared_trunks: frozenset[str] = frozenset()
    api_keys: Mapping[bytes, ApiKey] = field(default_factory=dict, repr=False)
    has_api_keys: bool = False

    def api_key(self, digest: bytes) -> ApiKey | None:
        """The key with this SHA-256; None where there is none, or it was revoked. The caller judges its expiry."""
        return self.api_keys.get(digest)

    def account(self, account_id: str) -> AccountDirectory:
        """An empty one where there is none."""
        return self.accounts.get(account_id) or AccountDirectory(account_id=account_id)

    def trunks_for(self, account_id: str) -> frozenset[str]:
        """Ids of those that an account may use: its own, and those of config.json."""
        return self.shared_trunks.union(self.account(account_id).trunks)

    @property
    def trunks(self) -> Mapping[str, Trunk]:
        """Of all accounts."""
        return {trunk_id: trunk for one in self.accounts.values() for trunk_id, trunk in one.trunks.items()}


class _Answered(NamedTuple):
    """Who answers, by user part and trunk."""

    user: str
    trunk_id: str


class InMemoryDirectory:
    """Numbers by user part and trunk; what is said of one trunk goes before what is said of all.

    A call by a trunk that one account made reaches that account's numbers alone; by a shared one, those of all.
    """

    def __init__(
        self, agents: Iterable[Agent] = (), numbers: Iterable[Number] = (), *, state: DirectoryState | None = None
    ) -> None:
        """``agents`` and ``numbers``: of one account, without a database; else ``state`` has all."""
        if state is None:
            by_id = {agent.agent_id: agent for agent in agents}
            one = AccountDirectory(account_id=DEFAULT_ACCOUNT, agents=by_id, numbers=tuple(numbers))
            state = DirectoryState(accounts={one.account_id: one})
        self._owners = {
            trunk_id: one.account_id
            for one in state.accounts.values()
            for trunk_id in one.trunks
            if trunk_id not in state.shared_trunks
        }
        self._numbers: defaultdict[str | None, dict[_Answered, Answering]] = defaultdict(dict)
        for account in state.accounts.values():
            for number in account.numbers:
                key = _Answered(number.user, number.trunk_id)
                answering = _answering(number, account.agents)
                self._numbers[account.account_id][key] = answering
                self._numbers[None][key] = answering

    def answering(self, user: str, trunk_id: str) -> Answering | None:
        """Who answers a dialled user part, by the trunk it came by; else who answers any; None where nobody does."""
        numbers = self._numbers.get(self._owners.get(trunk_id), {})
        for key in ((user, trunk_id), (user, ""), (ANY_NUMBER, trunk_id), (ANY_NUMBER, "")):
            found = numbers.get(_Answered(*key))
            if found is not None:
                return found
        return None


def _answering(number: Number, agents: Mapping[str, Agent]) -> Answering:
    return Answering(
        account_id=number.account_id,
        agent=agents.get(number.agent_id),
        ask_url=number.ask_url,
        ask_secret=number.ask_secret,
    )


# ── reading it ───────────────────────────────────────────────────────────────────────────────────────────


def load_directory(connection: sa.Connection, vault: Vault) -> DirectoryState:
    """All accounts at one revision. What cannot be used is left out and logged: one record stops no other.

    Raises ``ConfigError`` when a master key is missing.
    """
    for _ in range(LOAD_TRIES):
        state = _load(connection, vault)
        if current_revision(connection) == state.revision:
            break  # PostgreSQL shows each statement what was committed before it: a number, and its agent not yet
    return state


def _load(connection: sa.Connection, vault: Vault) -> DirectoryState:
    revision = current_revision(connection)  # first: what is written meanwhile is seen twice rather than never
    forms = _forms(connection, vault)
    limits = {row.account_id: row.limits for row in connection.execute(sa.select(accounts))}
    configured = _configured_agents(connection)
    keys = tuple(_keys(connection))
    shared = sa.select(resources.c.id).where(resources.c.kind == "trunk", resources.c.source == "config")
    return DirectoryState(
        revision=revision,
        accounts={
            account: _account(account, limits.get(account, {}), forms[account], configured[account])
            for account in {*limits, *forms}
        },
        shared_trunks=frozenset(connection.execute(shared).scalars()),
        api_keys={key.digest: key for key in keys},
        has_api_keys=bool(keys) or connection.execute(sa.select(api_keys.c.key_id).limit(1)).first() is not None,
    )


def _forms(connection: sa.Connection, vault: Vault) -> Mapping[str, list[AnyForm]]:
    secrets: defaultdict[tuple[str, str, str], dict[str, str]] = defaultdict(dict)
    for row in _paced(connection.execute(sa.select(secrets_table))):
        secrets[row.account_id, row.kind, row.id][row.path] = unsealed(vault, row)
    forms: defaultdict[str, list[AnyForm]] = defaultdict(list)
    query = sa.select(resources.c.account_id, resources.c.kind, resources.c.id, resources.c.form)
    query = query.order_by(resources.c.id)
    for account_id, kind, record_id, values in _paced(connection.execute(query)):
        try:
            whole = form_secrets.joined(kind, values, secrets[account_id, kind, record_id])
            forms[account_id].append(form_secrets.form_of(kind, whole))
        except msgspec.ValidationError as error:
            _log.error("the %s %r of account %r cannot be used: %s", kind, record_id, account_id, error)
    return forms


def _paced(items: Iterable[_Item]) -> Iterator[_Item]:
    """Each item, with rests in between."""
    for number, item in enumerate(items, start=1):
        yield item
        if number % PACE_ROWS == 0:
            time.sleep(PACE_S)


def _configured_agents(connection: sa.Connection) -> Mapping[str, set[str]]:
    """Ids of those that config.json has, by account."""
    query = sa.select(resources.c.account_id, resources.c.id)
    found: defaultdict[str, set[str]] = defaultdict(set)
    for account_id, agent_id in connection.execute(
        query.where(resources.c.kind == "agent", resources.c.source == "config")
    ):
        found[account_id].add(agent_id)
    return found


def _account(
    account_id: str, limits: Any, forms: Collection[AnyForm], by_operator: Collection[str]
) -> AccountDirectory:
    agents = {form.id: form for form in forms if isinstance(form, AgentForm)}
    tools = {form.id: form for form in forms if isinstance(form, ToolForm)}
    catalogue = Catalogue(agents=agents, tools=tools, by_operator=by_operator)
    return AccountDirectory(
        account_id=account_id,
        limits=msgspec.convert(limits, AccountLimits),
        agents={name: agent_record(form, catalogue) for name, form in _paced(agents.items())},
        trunks=dict(_trunks(forms)),
        numbers=tuple(number_record(form, account_id) for form in _paced(forms) if isinstance(form, NumberForm)),
        tools={name: tool_record(form) for name, form in _paced(tools.items())},
        squads={form.id: squad_record(form) for form in forms if isinstance(form, SquadForm)},
        webhooks={
            form.id: webhook_record(form, account_id)
            for form in forms
            if isinstance(form, WebhookForm) and form.enabled
        },
    )


def _trunks(forms: Iterable[AnyForm]) -> Iterator[tuple[str, Trunk]]:
    for form in _paced(forms):
        if not isinstance(form, AgentForm | NumberForm | ToolForm | SquadForm | WebhookForm):
            yield form.id, trunk_record(form)


def webhook_record(webhook: WebhookForm, account_id: str) -> WebhookEndpoint:
    return WebhookEndpoint(
        webhook_id=webhook.id,
        account_id=account_id,
        url=webhook.url,
        events=webhook.events,
        secrets=webhook.secrets,
        dialect=webhook.dialect,
    )


def _keys(connection: sa.Connection) -> Iterator[ApiKey]:
    names = ApiKey.__slots__
    query = sa.select(*(api_keys.c[name] for name in names)).where(api_keys.c.revoked_at.is_(None))
    for row in connection.execute(query):
        values: dict[str, Any] = row._asdict()
        yield ApiKey(**values | {"digest": bytes(row.digest), "scopes": tuple(row.scopes)})


# ── following it ─────────────────────────────────────────────────────────────────────────────────────────


class DirectoryFollower:
    """Keeps ``state`` the copy of what the database has. ``on_change(state)`` is called on the event loop, in order,
    for the first state and every one after. While the database is away the copy stays as it is.
    """

    def __init__(self, database: Database, vault: Vault, on_change: Callable[[DirectoryState], None]) -> None:
        self.state = DirectoryState()
        self._database = database
        self._vault = vault
        self._on_change = on_change
        self._look_now = asyncio.Event()
        self._reading = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._complained = False

    async def start(self) -> None:
        """Read it, then follow. Raises what the database raises, and ``ConfigError`` when a master key is missing."""
        await self.changed()
        self._task = asyncio.create_task(self._follow(), name="directory follower")

    async def changed(self) -> None:
        """Read it anew if there is something new; returns when ``state`` has all that was committed before. Call it
        after a write, so that the next call and the next answer know of it. Raises what the database raises.
        """
        async with self._reading:
            if await self._database.look(current_revision) == self.state.revision:
                return
            self.state = await self._database.look(load_directory, self._vault)
            self._on_change(self.state)

    def look_now(self) -> None:
        """The same, soon, without waiting or errors."""
        self._look_now.set()

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._look_now.wait(), FOLLOW_S)
            self._look_now.clear()
            await self._look()

    async def _look(self) -> None:
        try:
            await self.changed()
            self._complained = False
        except Exception as error:  # of whatever kind: the copy stays, and is looked at again in a second
            if not self._complained:
                self._complained = True
                _log.error(
                    "agents, numbers and trunks stay as they were at revision %s: %s", self.state.revision, error
                )
