"""What the API needs of the rest of offhook: one value, put together by ``server``."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from offhook.api.auth import FAILURE_RATE, KEY_RATE
from offhook.api.live import LiveFeed
from offhook.api.new_call import NewCallForm, PlacedCall
from offhook.api.rates import Rate
from offhook.bridge.codec import TextInput
from offhook.call.manager import Pressed
from offhook.model.call_events import CallPhase, CallRefused
from offhook.model.errors import CannotPlaceError
from offhook.model.records import TransferDestination
from offhook.model.trunks import TrunkChanged
from offhook.store.database import Database
from offhook.store.directory import DirectoryState
from offhook.store.rights import Rights
from offhook.store.vault import Vault


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadyPart:
    """One part of /ready. ``detail``: what is wrong, or a figure; shown to anybody, so without names of trunks."""

    name: str
    ready: bool
    detail: str = ""


Readiness = Callable[[], tuple[ReadyPart, ...]]
"""Every part, judged now. In memory: never waits."""


class RunningCall(Protocol):
    """``CallSession`` implements it. ``up_s``: seconds since its answer; 0.0 before."""

    @property
    def account_id(self) -> str: ...

    @property
    def phase(self) -> CallPhase: ...

    @property
    def up_s(self) -> float: ...


class RunningCalls(Protocol):
    """Those of this process; ``CallManager`` implements it. Each command returns whether there is such a call."""

    @property
    def calls(self) -> Mapping[str, RunningCall]:
        """By their ids."""
        ...

    def inject(self, call_id: str, text: TextInput) -> bool: ...

    def say(self, call_id: str, text: str, *, exact: bool) -> bool: ...

    def hang_up(self, call_id: str, *, goodbye_s: float) -> bool: ...

    def hold(self, call_id: str, wanted: bool) -> bool: ...

    def press(self, call_id: str, digits: str) -> Pressed: ...

    def transfer(self, call_id: str, destination: TransferDestination) -> bool: ...

    def destination(self, call_id: str, name: str) -> TransferDestination | None:
        """Of the agent that speaks in the call."""
        ...

    def is_transferring(self, call_id: str) -> bool: ...

    def refuse_transfer(self, call_id: str, destination: TransferDestination) -> CallRefused | None:
        """Why nobody is sent there. Raises ``SipParseError`` for what nobody can be called by."""
        ...


class CallPlacer(Protocol):
    """Places calls for an account, as ``api.new_call`` asks for them."""

    async def place(self, account_id: str, wanted: NewCallForm) -> PlacedCall:
        """Returns once the call is on its way, or is kept to be placed later. Raises ``CannotPlaceError``."""
        ...

    async def cancel(self, account_id: str, call_id: str) -> bool:
        """It is not placed later, and is on record. False: none of this account waits under this id."""
        ...


class NoCalls:
    """Of a process that has none."""

    calls: Mapping[str, RunningCall] = MappingProxyType({})

    def inject(self, call_id: str, text: TextInput) -> bool:
        return False

    def say(self, call_id: str, text: str, *, exact: bool) -> bool:
        return False

    def hang_up(self, call_id: str, *, goodbye_s: float) -> bool:
        return False

    def hold(self, call_id: str, wanted: bool) -> bool:
        return False

    def press(self, call_id: str, digits: str) -> Pressed:
        return "over"

    def transfer(self, call_id: str, destination: TransferDestination) -> bool:
        return False

    def destination(self, call_id: str, name: str) -> TransferDestination | None:
        return None

    def is_transferring(self, call_id: str) -> bool:
        return False

    def refuse_transfer(self, call_id: str, destination: TransferDestination) -> CallRefused | None:
        return None


class NoPlacer:
    """Of a process that places none."""

    async def place(self, account_id: str, wanted: NewCallForm) -> PlacedCall:
        raise CannotPlaceError("unavailable", "This server places no calls", fix="Ask another one")

    async def cancel(self, account_id: str, call_id: str) -> bool:
        return False


@dataclass(frozen=True, kw_only=True, slots=True)
class ApiLimits:
    key_rate: Rate = KEY_RATE
    failure_rate: Rate = FAILURE_RATE
    heartbeat_s: float = 15.0
    """Between two signs of life of a stream: proxies cut what is silent for 30 to 60 s."""
    write_s: float = 30.0
    """For a stream's reader to take what was sent."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ApiParts:
    """``directory`` gives the copy in memory; ``directory_changed`` returns once that copy has what was written.

    ``wake_sender``: a delivery may be due. ``trunk_states`` are those of this process. ``metrics``: Prometheus' text
    format. ``rights``: what writers may say. ``on_answer`` is told method, path as in the table, status and seconds of
    each answer. ``up_since``: when the server began, by ``clock``.
    """

    database: Database
    vault: Vault
    directory: Callable[[], DirectoryState]
    directory_changed: Callable[[], Awaitable[None]]
    feed: LiveFeed
    data_dir: Path
    readiness: Readiness
    metrics: Callable[[], Awaitable[bytes]]
    trunk_states: Callable[[], Mapping[str, TrunkChanged]]
    calls: RunningCalls = field(default_factory=NoCalls)
    placer: CallPlacer = field(default_factory=NoPlacer)
    wake_sender: Callable[[], None] = lambda: None
    config_file: str = "config.json"
    rights: Rights = field(default_factory=Rights)
    hosts: frozenset[str] = frozenset()
    allow_anonymous: bool = False
    limits: ApiLimits = field(default_factory=ApiLimits)
    now: Callable[[], float] = time.time
    clock: Callable[[], float] = time.monotonic
    up_since: float = field(default_factory=time.monotonic)
    on_answer: Callable[[str, str, int, float], None] = lambda method, path, status, took_s: None

    async def catch_up(self) -> None:
        """After a write. That the database went away since is no fault of the write: the copy follows in a while."""
        try:
            await self.directory_changed()
        except Exception as error:
            if not self.database.is_away(error):
                raise
