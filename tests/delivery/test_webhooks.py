"""Webhooks to real receivers: in order, until they arrive, and each beside the others."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from standardwebhooks import Webhook
from tests.delivery.posts import START, TEMPO, answering, ids, never, post_office, told
from tests.delivery.receivers import receiver
from tests.store.databases import write
from tests.store.stories import ANSWERED, ARRIVED, ENDED, RINGING, WHOLE

from offhook.delivery import outbound_http, webhooks
from offhook.delivery.audience import trial_delivery
from offhook.delivery.webhook_outcomes import PER_ENDPOINT
from offhook.store import outbox
from offhook.store.database import Database
from offhook.store.outbox import DeliveryFilter, Endpoint


async def test_a_call_is_told_in_order_and_signed(database: Database) -> None:
    async with receiver() as there, post_office(database) as office:
        office.now = time.time()  # the library has no other clock
        secret = office.webhook("crm", there.url("/hook"))
        office.happened(*WHOLE)
        await office.all_delivered()
    assert [one["seq"] for one in told(there)] == list(range(1, 10))
    assert told(there)[-1]["data"]["call"]["status"] == "completed"
    for request, body in zip(there.seen, there.bodies, strict=True):
        assert (request.method, request.path, request.content_type) == ("POST", "/hook", "application/json")
        assert Webhook(secret).verify(body, dict(request.headers))["id"] == request.headers["webhook-id"]


async def test_nothing_of_a_call_overtakes_what_failed(database: Database) -> None:
    async with receiver() as there, post_office(database) as office:
        office.webhook("crm", there.url())
        there.answer = answering(500, 200, 503, 200, 404, 302, 200)
        office.happened(ARRIVED, RINGING, ANSWERED)
        for attempts in (1, 3, 5, 6):
            await office.attempted(attempts)
            office.later(400.0)
        await office.all_delivered()
    assert [one["seq"] for one in told(there)] == [1, 1, 2, 2, 3, 3, 3]
    assert office.attempts == ["retried", "delivered"] * 2 + ["retried", "retried", "delivered"]
    first, second = ids(there)[:2]
    assert first == second
    assert there.bodies[0] == there.bodies[1]


async def test_what_failed_is_not_tried_before_its_time(database: Database) -> None:
    async with receiver() as there, post_office(database) as office:
        office.webhook("crm", there.url())
        there.answer = answering(500)
        office.happened(ARRIVED)
        await office.attempted(1)
        (one,) = office.deliveries()
        assert (one.state, one.attempt, one.last_status, one.last_problem) == ("pending", 1, 500, "answered 500")
        assert START + 5.0 <= one.due_at <= START + 6.0
        office.later(4.9)
        await asyncio.sleep(0.05)
        assert len(there.seen) == 1
        office.later(1.2)
        await office.all_delivered()


async def test_a_slow_receiver_delays_no_other(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "STOP_S", 0.05)
    async with receiver() as slow, receiver() as quick, post_office(database) as office:
        slow.answer = never
        office.webhook("slow", slow.url())
        office.webhook("quick", quick.url())
        for number in range(20):
            office.happened(ARRIVED, ENDED, call_id=f"c{number}")
        await office.all_delivered("quick")
        assert len(slow.seen) == PER_ENDPOINT
        assert set(office.states("slow")) == {"pending"}
    assert len(quick.seen) == 40


async def test_a_sender_that_died_in_mid_send_leaves_the_same_to_the_next(database: Database) -> None:
    async with receiver() as there:
        async with post_office(database) as office:
            office.webhook("crm", there.url())
            there.answer = never
            office.happened(ARRIVED)
            await office.until(lambda: len(there.seen) == 1)
            office.die()
        there.answer = answering()
        (before,) = office.deliveries()
        assert (before.state, before.attempt) == ("pending", 1)
        async with post_office(database, before=office) as office:
            office.later(3 * TEMPO.deadline_s - 1)
            await asyncio.sleep(0.05)
            assert len(there.seen) == 1
            office.later(1.0)
            await office.all_delivered()
    assert len(set(ids(there))) == len(set(there.bodies)) == 1
    assert len(there.seen) == 2


async def test_one_that_never_arrives_is_given_up_and_the_next_goes(database: Database) -> None:
    async with receiver() as there, post_office(database) as office:
        office.webhook("crm", there.url())
        there.answer = answering(500, 500, 500)
        office.happened(ARRIVED, ENDED)
        for attempts, wait_s in ((1, 6.0), (2, 360.0)):
            await office.attempted(attempts)
            office.later(wait_s)
        await office.until(lambda: office.states() == ["dead", "delivered"])
    assert [one["seq"] for one in told(there)] == [1, 1, 1, 2]
    assert office.attempts == ["retried", "retried", "dead", "delivered"]


async def test_what_is_replayed_is_the_same_to_the_last_octet(database: Database) -> None:
    async with receiver() as there, post_office(database) as office:
        office.webhook("crm", there.url())
        office.happened(ARRIVED, ENDED)
        await office.all_delivered()
        office.webhook("later", there.url("/later"))  # of which those calls know nothing
        assert write(database, outbox.replay, "default", DeliveryFilter(webhook_id="crm"), office.now) == 2
        office.sender.wake()
        await office.until(lambda: len(there.seen) == 4)
        await office.all_delivered()
    assert there.bodies[:2] == there.bodies[2:]
    assert ids(there)[:2] == ids(there)[2:]


async def test_410_disables_the_webhook_and_what_waits_for_it(database: Database) -> None:
    async with receiver() as gone, receiver() as there, post_office(database) as office:
        gone.answer = answering(then=410)
        office.webhook("gone", gone.url())
        office.webhook("crm", there.url())
        office.happened(ARRIVED, RINGING, ENDED)
        await office.all_delivered("crm")
        await office.until(lambda: set(office.states("gone")) == {"disabled"})
        record = office.world.get("webhook", "gone")
        assert (record.form["enabled"], record.revision) == (False, 2)
        assert (office.disabled, len(gone.seen)) == (1, 1)
        office.happened(ARRIVED, call_id="c2")
        await office.until(lambda: len(there.seen) == 4)
        assert len(office.deliveries("gone")) == 3
    assert "disabled" in office.attempts


async def test_a_receiver_that_asks_for_time_gets_it(database: Database) -> None:
    async with receiver() as there, post_office(database) as office:
        office.webhook("crm", there.url())
        there.answer = answering(then=503, headers={"Retry-After": "120"})
        office.happened(ARRIVED)
        await office.attempted(1)
        assert office.deliveries()[0].due_at == START + 120.0


async def test_while_a_secret_is_exchanged_both_sign(database: Database) -> None:
    async with receiver() as there, post_office(database) as office:
        office.now = time.time()
        old = office.webhook("crm", there.url())
        new = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="
        office.world.patch("webhook", "crm", {"secret": new, "previous_secret": old})
        office.learn()
        office.happened(ARRIVED)
        await office.all_delivered()
    for secret in (old, new):
        Webhook(secret).verify(there.bodies[0], dict(there.seen[0].headers))
    assert there.seen[0].headers["webhook-signature"].count("v1,") == 2


@pytest.mark.parametrize("how", ["removed", "disabled"])
async def test_what_waits_for_a_webhook_that_is_gone_is_not_sent(database: Database, how: str) -> None:
    async with receiver() as there, post_office(database) as office:
        office.webhook("crm", there.url())
        there.answer = answering(500)
        office.happened(ARRIVED, ENDED)
        await office.attempted(1)
        if how == "removed":
            office.world.delete("webhook", "crm")
        else:
            office.world.patch("webhook", "crm", {"enabled": False})
        office.learn()
        office.later(10.0)
        await office.until(lambda: office.states() == ["disabled", "disabled"])
    assert len(there.seen) == 1


async def test_a_webhook_that_another_node_just_made_is_waited_for(database: Database) -> None:
    async with receiver() as there, post_office(database) as office:
        office.webhook("new", there.url(), known=False)
        write(database, outbox.add, [trial_delivery(Endpoint("default", "new"), "msg_1", office.now)])
        office.sender.wake()
        await office.until(lambda: office.deliveries()[0].due_at == START + 1.0)
        assert office.deliveries()[0].attempt == 0
        office.learn()
        office.later(1.0)
        await office.all_delivered()
    assert told(there)[0]["event"] == "webhook.test"


async def test_a_database_that_is_away_for_a_while_costs_no_second_sending(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with receiver() as there, post_office(database) as office:
        office.webhook("crm", there.url())
        back = asyncio.Event()
        run = database.run

        async def away(*work: Any) -> Any:
            if back.is_set():
                return await run(*work)
            raise ConnectionError("nobody there")

        async def answer(request: web.Request) -> web.StreamResponse:
            monkeypatch.setattr(database, "run", away)
            return web.Response(status=204)

        there.answer = answer
        office.happened(ARRIVED, ENDED)
        await office.until(lambda: "the outbox cannot be read or written" in caplog.text)
        assert office.states() == ["pending", "pending"]
        there.answer = answering()
        back.set()
        office.sender.wake()
        await office.all_delivered()
    assert [one["seq"] for one in told(there)] == [1, 2]
    assert caplog.text.count("the outbox cannot be read or written") == 1


async def test_what_a_database_will_not_take_is_forgotten_with_its_lease(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with receiver() as there, post_office(database) as office:
        office.webhook("crm", there.url())
        written = outbox.mark_delivered
        monkeypatch.setattr(outbox, "mark_delivered", poisoned)
        office.happened(ARRIVED)
        await office.until(lambda: office.sender.unwritten == 1)
        office.later(3 * TEMPO.deadline_s + 1)
        await office.until(lambda: len(there.seen) == 2)
        monkeypatch.setattr(outbox, "mark_delivered", written)
        office.sender.wake()
        await office.all_delivered()
    assert len(set(ids(there))) == 1


def poisoned(*arguments: object, **named: object) -> None:
    raise ValueError("it will not go in")


async def test_a_server_that_stops_puts_back_what_hangs(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "STOP_S", 0.05)
    async with receiver() as there:
        async with post_office(database) as office:
            there.answer = never
            office.webhook("crm", there.url())
            office.happened(ARRIVED)
            await office.until(lambda: len(there.seen) == 1)
        (one,) = office.deliveries()
        assert (one.state, one.attempt, one.due_at) == ("pending", 0, START)


async def test_a_server_that_stops_writes_what_came_of_its_last_sending(database: Database) -> None:
    async with receiver() as there:
        async with post_office(database) as office:
            there.answer = soon
            office.webhook("crm", there.url())
            office.happened(ARRIVED)
            await office.until(lambda: len(there.seen) == 1)
        assert office.states() == ["delivered"]


async def soon(request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(0.05)
    return web.Response()


async def test_no_room_in_the_client_is_no_attempt(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbound_http, "REQUESTS_PER_HOST", 1)
    async with receiver() as there, post_office(database) as office:
        there.answer = soon
        office.webhook("crm", there.url())
        for number in range(3):
            office.happened(ARRIVED, call_id=f"c{number}")
        await office.attempted(1)
        assert sorted(one.attempt for one in office.deliveries()) == [0, 0, 1]
        while set(office.states()) != {"delivered"}:
            office.later(1.0)
            await asyncio.sleep(0.05)
    assert [one.attempt for one in office.deliveries()] == [1, 1, 1]


async def test_two_accounts_webhooks_have_the_same_name_and_nothing_else_in_common(database: Database) -> None:
    async with receiver() as ours, receiver() as theirs, post_office(database) as office:
        theirs.answer = answering(then=410)
        office.webhook("crm", ours.url())
        office.webhook("crm", theirs.url(), account="other")
        office.happened(ARRIVED, ENDED)
        office.happened(replace(ARRIVED, account_id="other"), ENDED, call_id="c2", account="other")
        await office.until(lambda: set(office.states("crm", "other")) == {"disabled"})
        await office.all_delivered()
        assert office.world.get("webhook", "crm").form["enabled"] is True
        assert office.world.get("webhook", "crm", account="other").form["enabled"] is False
    assert [one["call_id"] for one in told(ours)] == ["c1", "c1"]
    assert [one["call_id"] for one in told(theirs)] == ["c2"]


async def test_a_receiver_that_may_not_be_reached_is_tried_and_given_up(database: Database) -> None:
    async with post_office(database, tempo=replace(TEMPO, schedule_s=())) as office:
        office.webhook("inside", "http://10.0.0.1/")
        office.happened(ARRIVED)
        await office.attempted(1)
    (one,) = office.deliveries()
    assert (one.state, one.last_status) == ("dead", None)
    assert "private address" in one.last_problem
