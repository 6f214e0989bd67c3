"""Sends what is in the outbox: in order for each call, again and again, and no slow receiver delays another one.

One loop with one transaction a round: what came of earlier attempts is written, and what is due is taken. Each delivery
taken is a task. What a process that died had taken is due again when its lease runs out.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, assert_never

import sqlalchemy as sa

from offhook.delivery.audience import Audience
from offhook.delivery.dialects import SIGNS
from offhook.delivery.outbound_http import OutboundHttp, OutboundRequest, OutboundResponse
from offhook.delivery.webhook_outcomes import (
    NOT_SENT_S,
    SCHEDULE_S,
    Arrived,
    Failed,
    Gone,
    NobodyThere,
    NotSent,
    Outcome,
    outcome_of,
    places,
    wait_after,
)
from offhook.model.errors import ConfigError, OutboundError
from offhook.model.records import WebhookEndpoint
from offhook.store import outbox
from offhook.store.database import Database
from offhook.store.outbox import Delivery, Endpoint
from offhook.store.webhook_records import disable_webhook, webhook_enabled

DEADLINE_S = 15.0
"""For a receiver to answer (Standard Webhooks: 15 to 30 s)."""

LEASE_DEADLINES = 3
"""A delivery is ours for so many deadlines; then its process must have died."""

POLL_S = 1.0
"""Between two looks for what is due; what is new is told by ``wake``."""

ROUND_S = 0.02
"""From one round to the next at least: a transaction for each delivery would cost calls half of a core at 20 calls a
second, and the disk its commits. Eight to an endpoint in each are 400 a second."""

ANSWER_BYTES = 64_000
"""Of an answer: nothing in it is used."""

STOP_S = 5.0
"""For what is on its way when the server stops; the rest is sent by the next one."""

AttemptResult = Literal["delivered", "retried", "dead", "disabled"]

_log = logging.getLogger("offhook.webhooks")


@dataclass(frozen=True, kw_only=True, slots=True)
class Tempo:
    """How often, and for how long, receivers are tried. ``schedule_s``: the waits between attempts."""

    schedule_s: Sequence[float] = SCHEDULE_S
    deadline_s: float = DEADLINE_S


DEFAULT_TEMPO = Tempo()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Settled:
    """What came of a delivery, not yet written. ``wait_s``: until the next attempt; None for none."""

    delivery: Delivery
    outcome: Outcome
    at: float
    wait_s: float | None = None


class WebhookSender:
    """``on_attempt`` is told the result and the seconds of each attempt, ``on_disabled`` that a receiver answered 410
    and its webhook's record was changed."""

    def __init__(
        self,
        database: Database,
        http: OutboundHttp,
        audience: Audience,
        *,
        on_attempt: Callable[[AttemptResult, float], None] = lambda result, took_s: None,
        on_disabled: Callable[[], None] = lambda: None,
        tempo: Tempo = DEFAULT_TEMPO,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._http = http
        self._audience = audience
        self._on_attempt = on_attempt
        self._on_disabled = on_disabled
        self._tempo = tempo
        self._now = now
        self._due = asyncio.Event()
        self._stopping = False
        self._settled: list[_Settled] = []
        self._writing = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._under_way: Counter[Endpoint] = Counter()
        self._loop: asyncio.Task[None] | None = None
        self._complained = False

    def start(self) -> None:
        self._loop = asyncio.create_task(self._send_on(), name="webhook sender")

    def wake(self) -> None:
        """Something may be due."""
        self._due.set()

    async def stop(self) -> None:
        """Begin no more; what is on its way has ``STOP_S``. The rest is put back, for the next process."""
        self._stopping = True
        self.wake()
        if self._loop is not None:
            await asyncio.gather(self._loop, return_exceptions=True)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=STOP_S)
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._round(taking=False)

    @property
    def unwritten(self) -> int:
        """Attempts that came to an end, of which the outbox does not know yet."""
        return len(self._settled) + self._writing

    # ── the loop ──

    async def _send_on(self) -> None:
        while not self._stopping:
            began = time.monotonic()
            self._due.clear()
            taken = await self._round(taking=True)
            for delivery in taken:
                self._begin(delivery)
            if not taken:
                await self._wait()
            await asyncio.sleep(began + ROUND_S - time.monotonic())

    async def _wait(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLL_S):
                await self._due.wait()

    async def _round(self, *, taking: bool) -> tuple[Delivery, ...]:
        """Write what came of attempts, and take what is due, in one transaction: that of a call which comes next is due
        as soon as the one before it is written."""
        settled, self._settled = self._settled, []
        self._writing = len(settled)
        try:
            wanted = await self._wanted(settled) if taking else {}
            if not settled and not wanted:
                return ()
            taken = await self._database.run(_settle_and_take, settled, wanted, self._now(), self._lease_s)
        except Exception as error:  # the database is away, or the disk is full: it is written later
            self._keep(settled, error)
            return ()
        finally:
            self._writing = 0
        self._complained = False
        if any(isinstance(one.outcome, Gone) for one in settled):
            self._on_disabled()
        return taken

    async def _wanted(self, settled: Sequence[_Settled]) -> Mapping[Endpoint, int]:
        """How many may go to each endpoint that has something due, or will have once the ``settled`` are written."""
        due = await self._database.look(outbox.due_endpoints, self._now())
        return places({*due, *(one.delivery.endpoint for one in settled)}, self._under_way)

    @property
    def _lease_s(self) -> float:
        return LEASE_DEADLINES * self._tempo.deadline_s

    def _keep(self, settled: Sequence[_Settled], error: Exception) -> None:
        """What cannot be written although the database is there, is written no longer than it is ours."""
        since = float("-inf") if self._database.is_away(error) else self._now() - self._lease_s
        self._settled = [one for one in settled if one.at > since] + self._settled
        if not self._complained:
            self._complained = True
            _log.error("webhooks wait: the outbox cannot be read or written (%s)", type(error).__name__)

    # ── one delivery ──

    def _begin(self, delivery: Delivery) -> None:
        self._under_way[delivery.endpoint] += 1
        task = asyncio.create_task(self._deliver(delivery))
        self._tasks.add(task)
        task.add_done_callback(partial(self._over, delivery.endpoint))

    def _over(self, endpoint: Endpoint, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._under_way[endpoint] -= 1
        if not self._under_way[endpoint]:
            del self._under_way[endpoint]
        self.wake()

    async def _deliver(self, delivery: Delivery) -> None:
        began = time.monotonic()
        try:
            outcome = await self._attempt(delivery)
        except asyncio.CancelledError:
            self._settle(delivery, NotSent(wait_s=0.0))
            raise
        except Exception:  # the boundary: others are told
            _log.exception("a webhook could not be sent")
            outcome = Failed(problem="an error inside offhook; see its log")
        self._tell(self._settle(delivery, outcome), time.monotonic() - began)

    async def _attempt(self, delivery: Delivery) -> Outcome:
        endpoint = self._audience.receiver(delivery)
        if endpoint is None:
            return NobodyThere()
        try:
            answer: OutboundResponse | OutboundError | ConfigError = await self._post(endpoint, delivery)
        except (OutboundError, ConfigError) as error:
            answer = error
        return outcome_of(answer, self._now())

    async def _post(self, endpoint: WebhookEndpoint, delivery: Delivery) -> OutboundResponse:
        """Raises ``OutboundError``, and ``ConfigError`` for a secret that is none."""
        signed = SIGNS[endpoint.dialect](
            message_id=delivery.delivery_id, at=int(self._now()), body=delivery.body, secrets=endpoint.secrets
        )
        return await self._http.send(
            OutboundRequest(
                method="POST",
                url=endpoint.url,
                headers={"Content-Type": "application/json", **signed},
                body=delivery.body,
                deadline_s=self._tempo.deadline_s,
                max_response_bytes=ANSWER_BYTES,
            )
        )

    def _settle(self, delivery: Delivery, outcome: Outcome) -> _Settled:
        wait_s = None
        if isinstance(outcome, Failed):
            schedule_s, jitter = self._tempo.schedule_s, random.random()
            wait_s = wait_after(delivery.attempt, schedule_s=schedule_s, asked_s=outcome.asked_s, jitter=jitter)
        settled = _Settled(delivery=delivery, outcome=outcome, at=self._now(), wait_s=wait_s)
        self._settled.append(settled)
        return settled

    def _tell(self, settled: _Settled, took_s: float) -> None:
        delivery, outcome = settled.delivery, settled.outcome
        match outcome:
            case Arrived():
                self._on_attempt("delivered", took_s)
            case Gone():
                self._on_attempt("disabled", took_s)
                _log.warning("webhook %s is disabled: its receiver answered 410 Gone", delivery.webhook_id)
            case Failed(problem=problem) if settled.wait_s is None:
                self._on_attempt("dead", took_s)
                _log.error("webhook %s: %s is given up: %s", delivery.webhook_id, delivery.delivery_id, problem)
            case Failed(problem=problem):
                self._on_attempt("retried", took_s)
                _log.info("webhook %s: %s; tried again in %.0f s", delivery.webhook_id, problem, settled.wait_s)
            case NotSent() | NobodyThere():
                pass
            case _:
                assert_never(outcome)


def _settle_and_take(
    connection: sa.Connection,
    settled: Sequence[_Settled],
    wanted: Mapping[Endpoint, int],
    now: float,
    lease_s: float,
) -> tuple[Delivery, ...]:
    for one in settled:
        _write(connection, one, now)
    return outbox.take_due(connection, now, wanted, lease_s=lease_s)


def _write(connection: sa.Connection, settled: _Settled, now: float) -> None:
    delivery, outcome = settled.delivery, settled.outcome
    match outcome:
        case Arrived(status=status):
            outbox.mark_delivered(connection, delivery, settled.at, status=status)
        case Failed(problem=problem, status=status):
            next_due = None if settled.wait_s is None else settled.at + settled.wait_s
            outbox.mark_failed(connection, delivery, now, problem=problem, status=status, next_due=next_due)
        case Gone():
            disable_webhook(connection, delivery.endpoint, now)
            outbox.disable_endpoint(connection, *delivery.endpoint)
        case NotSent(wait_s=wait_s):
            outbox.put_back(connection, delivery, settled.at + wait_s)
        case NobodyThere():
            _nobody_there(connection, delivery, now)
        case _:
            assert_never(outcome)


def _nobody_there(connection: sa.Connection, delivery: Delivery, now: float) -> None:
    """Another node may have made the webhook, and our copy of the directory not have it yet."""
    if webhook_enabled(connection, delivery.endpoint):
        outbox.put_back(connection, delivery, now + NOT_SENT_S)
    else:
        outbox.disable_endpoint(connection, *delivery.endpoint)
