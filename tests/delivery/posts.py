"""The language of the webhook tests: a post office with a database, a clock of its own, and real receivers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from aiohttp import web
from tests.delivery.receivers import OPEN, Receiver
from tests.store.databases import read, write
from tests.store.stories import story
from tests.store.world import VAULT, World

from offhook.delivery.audience import Audience
from offhook.delivery.outbound_http import OutboundHttp
from offhook.delivery.sip4ai_signing import account_secret
from offhook.delivery.webhooks import AttemptResult, Tempo, WebhookSender
from offhook.model.call_events import CallArrived, CallFact
from offhook.store import outbox
from offhook.store.batches import Batch, write_batch
from offhook.store.database import Database
from offhook.store.directory import load_directory
from offhook.store.outbox import Delivery, DeliveryFilter

PATIENCE_S = 20

TEMPO = Tempo(schedule_s=(5.0, 300.0), deadline_s=5.0)
"""Three attempts."""

START = 2000.0

INSTALLATION_SECRET = "of this installation"
"""Signs what is told in the dialect of SIP4AI."""


class PostOffice:
    """A sender, whose receivers' webhooks are records of the database. ``now`` is its clock.

    ``attempts``: the result of each, as it is counted.
    """

    def __init__(self, database: Database, http: OutboundHttp, tempo: Tempo, before: PostOffice | None) -> None:
        self.now = START
        self.database = database
        self.world: World = World(database, now=lambda: self.now) if before is None else before.world
        self.audience = Audience(partial(account_secret, INSTALLATION_SECRET))
        self.dead = False
        self.attempts: list[AttemptResult] = []
        self.disabled = 0
        self.sender = WebhookSender(
            database,
            http,
            self.audience,
            on_attempt=self._attempted,
            on_disabled=self._disabled,
            tempo=tempo,
            now=lambda: self.now,
        )
        self.learn()

    def _attempted(self, result: AttemptResult, took_s: float) -> None:
        assert took_s >= 0
        self.attempts.append(result)

    def _disabled(self) -> None:
        self.disabled += 1
        self.learn()

    def webhook(self, name: str, url: str, *, account: str = "default", known: bool = True, **values: Any) -> str:
        """A record of the database; returns its secret."""
        made = self.world.create("webhook", account=account, id=name, url=url, **values)
        if known:
            self.learn()
        return made.made_secret

    def learn(self) -> None:
        """Take the webhooks over from the database, as the directory's follower does."""
        with self.database.read() as connection:
            state = load_directory(connection, VAULT)
        self.audience.replace({account: one.webhooks for account, one in state.accounts.items()})

    def happened(self, *facts: CallFact, call_id: str = "c1", account: str = "default", after: int = 0) -> None:
        """Facts of a call are kept, and deliveries with them, as the journal does it."""
        events = story(*facts, call_id=call_id, after=after)
        for one in (fact for fact in facts if isinstance(fact, CallArrived)):
            assert one.account_id == account
        batch = Batch(node_id="n1", deliveries=self.audience.deliveries, known={})
        write(self.database, write_batch, batch, events)
        self.sender.wake()

    def later(self, seconds: float) -> None:
        self.now += seconds
        self.sender.wake()

    def deliveries(self, webhook_id: str = "", account: str = "default") -> list[Delivery]:
        """In the order of their making."""
        chosen = DeliveryFilter(webhook_id=webhook_id)
        found, _ = read(self.database, outbox.list_deliveries, account, chosen, limit=1000)
        return list(reversed(found))

    def states(self, webhook_id: str = "", account: str = "default") -> list[str]:
        return [one.state for one in self.deliveries(webhook_id, account)]

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not true():  # noqa: ASYNC110 a table tells nobody that it changed
                await asyncio.sleep(0.005)

    async def attempted(self, number: int) -> None:
        """So many attempts came to an end, and the outbox says what came of them."""
        await self.until(lambda: len(self.attempts) >= number and not self.sender.unwritten)

    async def all_delivered(self, webhook_id: str = "") -> None:
        await self.until(lambda: set(self.states(webhook_id)) == {"delivered"})

    def die(self) -> None:
        """As by kill -9: what it knows is lost, and it writes no more."""
        self.dead = True
        for task in asyncio.all_tasks():
            if task is not asyncio.current_task() and "WebhookSender" in repr(task.get_coro()):
                task.cancel()


@asynccontextmanager
async def post_office(
    database: Database, tempo: Tempo = TEMPO, *, before: PostOffice | None = None
) -> AsyncIterator[PostOffice]:
    """``before``: the one whose database it takes over."""
    async with OutboundHttp(OPEN) as http:
        office = PostOffice(database, http, tempo, before)
        office.sender.start()
        try:
            yield office
        finally:
            if not office.dead:
                await office.sender.stop()


def answering(*statuses: int, then: int = 204, headers: Mapping[str, str] | None = None) -> Answer:
    """These one after another, then always the same."""
    left: Iterator[int] = iter(statuses)

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=next(left, then), headers=headers)

    return answer


Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def never(request: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


def ids(there: Receiver) -> list[str]:
    return [request.headers["webhook-id"] for request in there.seen]


def told(there: Receiver) -> list[dict[str, Any]]:
    """What arrived, in order."""
    return [json.loads(body) for body in there.bodies]
