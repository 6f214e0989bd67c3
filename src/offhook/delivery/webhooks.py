"""Sends what is in the outbox: in order for each call, again and again, and no slow receiver delays another one."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Literal, assert_never

from offhook.delivery.audience import Audience
from offhook.delivery.outbound_http import OutboundHttp, OutboundRequest, OutboundResponse
from offhook.delivery.signing import Sign, sign
from offhook.model.errors import ConfigError, OutboundError
from offhook.model.records import WebhookEndpoint
from offhook.store import outbox
from offhook.store.database import Database
from offhook.store.outbox import Delivery

SCHEDULE_S = (5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 50400.0, 72000.0, 86400.0)
"""Waits between attempts: with the first, at once, ten in 75.6 hours (Standard Webhooks, "Deliverability")."""

JITTER = 0.2
"""A wait is up to so much longer: receivers that were down are not asked by all calls in one moment."""

DEADLINE_S = 15.0
"""For a receiver to answer (Standard Webhooks: 15 to 30 s)."""

PER_ENDPOINT = 8
"""Deliveries to one endpoint under way: of different calls."""

RETRY_AFTER_MOST_S = 86400.0
"""What a receiver may ask for; more would be more than the longest wait of the schedule."""

POLL_S = 1.0
"""Between two looks for what is due; what is new is told by ``wake``."""

ANSWER_BYTES = 64_000
"""Of an answer: nothing in it is used."""

STOP_S = 5.0
"""For what is on its way when the server stops; the rest is sent by the next one."""

Verdict = Literal["delivered", "again", "gone"]
AttemptResult = Literal["delivered", "retried", "dead", "disabled"]

_log = logging.getLogger("offhook.webhooks")


def verdict_of(status: int) -> Verdict:
    """2xx alone is success: a redirect is none. 410: the receiver wants no more (Standard Webhooks)."""
    if 200 <= status < 300:
        return "delivered"
    return "gone" if status == 410 else "again"


def wait_after(attempt: int, *, asked_s: float = 0.0, jitter: float = 0.0) -> float | None:
    """Seconds until the next attempt after this one (from 1); None: it was the last. ``asked_s``: by Retry-After;
    ``jitter``: from 0 to 1."""
    if attempt > len(SCHEDULE_S):
        return None
    return max(SCHEDULE_S[attempt - 1] * (1 + JITTER * jitter), min(asked_s, RETRY_AFTER_MOST_S))


def retry_after_s(text: str, now: float) -> float:
    """Retry-After as seconds or as a date (RFC 9110 §10.2.3); 0.0 where it is neither."""
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, OverflowError):
        return 0.0


class WebhookSender:
    """``disable(account_id, webhook_id, reason)`` is asked for when a receiver answers 410.

    ``on_attempt`` is told the result and the seconds of each attempt.
    """

    def __init__(
        self,
        database: Database,
        http: OutboundHttp,
        audience: Audience,
        *,
        disable: Callable[[str, str, str], None],
        on_attempt: Callable[[AttemptResult, float], None] = lambda result, took_s: None,
        now: Callable[[], float] = time.time,
        sign: Sign = sign,
    ) -> None:
        self._database = database
        self._http = http
        self._audience = audience
        self._disable = disable
        self._on_attempt = on_attempt
        self._now = now
        self._sign = sign
        self._due = asyncio.Event()
        self._under_way: set[asyncio.Task[None]] = set()
        self._per_endpoint: Counter[str] = Counter()
        self._task: asyncio.Task[None] | None = None
        self._complained = False

    def start(self) -> None:
        self._task = asyncio.create_task(self._send_on(), name="webhook sender")

    def wake(self) -> None:
        """Something may be due."""
        self._due.set()

    async def stop(self) -> None:
        """Begin no more; what is on its way has ``STOP_S``. What it did not tell by then is sent again, later."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=STOP_S)
        for task in tuple(self._under_way):
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    async def _send_on(self) -> None:
        while True:
            self._due.clear()
            taken = await self._take()
            for delivery in taken:
                self._begin(delivery)
            if not taken:
                await self._wait()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(POLL_S):
                await self._due.wait()
        except TimeoutError:
            pass

    async def _take(self) -> tuple[Delivery, ...]:
        take = partial(outbox.take_due, limit=PER_ENDPOINT, in_flight=dict(self._per_endpoint))
        try:
            taken = await self._database.run(take, self._now())
        except Exception as error:  # the database is away, or the disk is full: nothing is lost, it is asked again
            self._complain(error)
            return ()
        self._complained = False
        return taken

    def _complain(self, error: Exception) -> None:
        if not self._complained:
            self._complained = True
            _log.error("webhooks wait: the outbox cannot be read or written (%s)", type(error).__name__)

    def _begin(self, delivery: Delivery) -> None:
        self._per_endpoint[delivery.webhook_id] += 1
        task = asyncio.create_task(self._deliver(delivery))
        self._under_way.add(task)
        task.add_done_callback(partial(self._over, delivery.webhook_id))

    def _over(self, webhook_id: str, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._per_endpoint[webhook_id] -= 1
        if not self._per_endpoint[webhook_id]:
            del self._per_endpoint[webhook_id]
        if not task.cancelled() and (error := task.exception()) is not None:
            self._complain(error if isinstance(error, Exception) else RuntimeError())
        self.wake()

    async def _deliver(self, delivery: Delivery) -> None:
        endpoint = self._audience.endpoint(delivery.account_id, delivery.webhook_id)
        if endpoint is None:
            await self._database.run(outbox.disable_endpoint, delivery.account_id, delivery.webhook_id)
            return
        began = time.monotonic()
        try:
            response = await self._post(endpoint, delivery)
        except OutboundError as error:
            result = await self._broken(delivery, error)
        except ConfigError as error:  # a secret that is none: mended, the next attempt succeeds
            result = await self._failed(delivery, str(error))
        else:
            result = await self._answered(delivery, response)
        self._on_attempt(result, time.monotonic() - began)

    async def _post(self, endpoint: WebhookEndpoint, delivery: Delivery) -> OutboundResponse:
        """Raises ``OutboundError``, and ``ConfigError`` for a secret that is none."""
        signed = self._sign(
            message_id=delivery.delivery_id, at=int(self._now()), body=delivery.body, secrets=endpoint.secrets
        )
        return await self._http.send(
            OutboundRequest(
                method="POST",
                url=endpoint.url,
                headers={"Content-Type": "application/json", "User-Agent": "offhook", **signed},
                body=delivery.body,
                deadline_s=DEADLINE_S,
                max_response_bytes=ANSWER_BYTES,
            )
        )

    async def _broken(self, delivery: Delivery, error: OutboundError) -> AttemptResult:
        """A receiver that said 2xx has it, whatever became of the rest of its answer."""
        if error.status is not None and verdict_of(error.status) == "delivered":
            await self._database.run(partial(outbox.mark_delivered, status=error.status), delivery, self._now())
            return "delivered"
        return await self._failed(delivery, error.problem, error.status)

    async def _answered(self, delivery: Delivery, response: OutboundResponse) -> AttemptResult:
        verdict = verdict_of(response.status)
        match verdict:
            case "delivered":
                mark = partial(outbox.mark_delivered, status=response.status)
                await self._database.run(mark, delivery, self._now())
                return "delivered"
            case "gone":
                await self._gone(delivery)
                return "disabled"
            case "again":
                asked_s = retry_after_s(response.headers.get("retry-after", ""), self._now())
                return await self._failed(delivery, f"answered {response.status}", response.status, asked_s)
            case _:
                assert_never(verdict)

    async def _gone(self, delivery: Delivery) -> None:
        await self._database.run(outbox.disable_endpoint, delivery.account_id, delivery.webhook_id)
        self._disable(delivery.account_id, delivery.webhook_id, "its receiver answered 410 Gone")
        _log.warning("webhook %s is disabled: its receiver answered 410 Gone", delivery.webhook_id)

    async def _failed(
        self, delivery: Delivery, problem: str, status: int | None = None, asked_s: float = 0.0
    ) -> AttemptResult:
        now = self._now()
        wait_s = wait_after(delivery.attempt, asked_s=asked_s, jitter=random.random())
        next_due = None if wait_s is None else now + wait_s
        mark = partial(outbox.mark_failed, problem=problem, status=status, next_due=next_due)
        await self._database.run(mark, delivery, now)
        if wait_s is None:
            _log.error("webhook %s: %s is given up: %s", delivery.webhook_id, delivery.delivery_id, problem)
            return "dead"
        _log.info("webhook %s: %s; tried again in %.0f s", delivery.webhook_id, problem, wait_s)
        return "retried"
