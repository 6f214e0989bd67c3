"""Events of SIP4AI to real receivers: of all calls of an account, and of one call alone."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from tests.delivery.posts import INSTALLATION_SECRET, PostOffice, answering, never, post_office, told
from tests.delivery.receivers import INSIDE, Receiver, receiver
from tests.store.databases import write
from tests.store.stories import ANSWERED, ARRIVED, ENDED, JOINED, RINGING, TURN, WHOLE

from offhook.delivery.audience import CALL_WEBHOOK, call_webhook_id
from offhook.delivery.sip4ai_signing import DELIVERY, SIGNATURE, TIMESTAMP, account_secret, verify
from offhook.store import outbox
from offhook.store.database import Database
from offhook.store.outbox import DeliveryFilter

STORY = ["call.initiated", "call.ringing", "call.answered", "transcript.update", "call.completed"]


def events(there: Receiver) -> list[str]:
    return [one["event"] for one in told(there)]


def check_signatures(there: Receiver, account_id: str = "default") -> None:
    for request, body in zip(there.seen, there.bodies, strict=True):
        secret = account_secret(INSTALLATION_SECRET, account_id)
        verify(headers=dict(request.headers), body=body, secrets=(secret,))
        assert "webhook-signature" not in request.headers


async def test_an_account_is_told_of_its_calls_in_order_and_signed(database: Database) -> None:
    async with receiver() as there, receiver() as native, post_office(database) as office:
        office.now = time.time()
        office.webhook("theirs", there.url("/hook"), dialect="sip4ai")
        office.webhook("ours", native.url())
        office.happened(*WHOLE)
        await office.all_delivered()
    assert events(there) == STORY
    check_signatures(there)
    assert abs(int(there.seen[0].headers[TIMESTAMP]) - time.time()) < 60
    assert len(native.seen) == len(WHOLE)
    assert all("webhook-signature" in request.headers for request in native.seen)


async def test_only_the_events_that_are_wanted_by_their_names(database: Database) -> None:
    async with receiver() as there, post_office(database) as office:
        office.webhook("some", there.url(), dialect="sip4ai", events=["call.completed", "call.failed", "call.ended"])
        office.happened(*WHOLE)
        await office.all_delivered()
    assert events(there) == ["call.completed"]


async def test_a_call_tells_its_own_webhooks_and_no_other_call_does(database: Database) -> None:
    async with receiver() as there, receiver() as second, post_office(database) as office:
        own = replace(ARRIVED, event_webhooks=(there.url("/a"), second.url(), there.url("/a")))
        office.happened(own, *WHOLE[1:])
        office.happened(*WHOLE, call_id="another")
        await office.all_delivered()
        assert {one.webhook_id for one in office.deliveries()} == {
            call_webhook_id(there.url("/a")),
            call_webhook_id(second.url()),
        }
    for one in (there, second):
        assert events(one) == STORY
        assert {message["call_id"] for message in told(one)} == {"c1"}
        check_signatures(one)


async def test_a_url_that_is_told_of_all_calls_is_told_once(database: Database) -> None:
    async with receiver() as there, post_office(database) as office:
        office.webhook("all", there.url(), dialect="sip4ai")
        office.webhook("ours", there.url("/ours"))
        office.happened(replace(ARRIVED, event_webhooks=(there.url(), there.url("/ours"))), *WHOLE[1:])
        await office.all_delivered()
    paths = [request.path for request in there.seen]
    assert (paths.count("/"), paths.count("/ours")) == (len(STORY), len(STORY) + len(WHOLE))


async def test_each_account_signs_with_its_own_secret(database: Database) -> None:
    async with receiver() as there, post_office(database) as office:
        own = replace(ARRIVED, account_id="acme", event_webhooks=(there.url(),))
        office.happened(own, account="acme")
        await office.until(lambda: office.states(account="acme") == ["delivered"])
    check_signatures(there, "acme")


async def test_what_fails_comes_again_byte_by_byte_before_what_follows(database: Database) -> None:
    async with receiver() as there, post_office(database) as office:
        there.answer = answering(500, 500)
        office.happened(replace(ARRIVED, event_webhooks=(there.url(),)), RINGING)
        for attempts in (1, 2):
            await office.attempted(attempts)
            office.later(400.0)
        await office.all_delivered()
    assert events(there) == ["call.initiated"] * 3 + ["call.ringing"]
    assert len(set(there.bodies[:3])) == 1
    assert len({request.headers[DELIVERY] for request in there.seen}) == 2
    assert len({request.headers[SIGNATURE] for request in there.seen}) == 2


async def test_a_call_that_outlives_its_process_keeps_its_webhooks(database: Database) -> None:
    """The process dies with one message on its way; the next one reads the call from the database."""
    async with receiver() as there:
        async with post_office(database) as office:
            there.answer = never
            office.happened(replace(ARRIVED, event_webhooks=(there.url(),)), RINGING)
            await office.until(lambda: len(there.seen) == 1)
            office.die()
        there.answer = answering()
        async with post_office(database, before=office) as office:
            office.happened(ANSWERED, JOINED, TURN, ENDED, after=2)
            office.later(60.0)
            await office.all_delivered()
    assert events(there) == ["call.initiated", *STORY]
    assert there.bodies[0] == there.bodies[1]


async def test_one_that_is_given_up_can_be_replayed(database: Database) -> None:
    async with receiver() as there, post_office(database) as office:
        there.answer = answering(500, 500, 500)
        office.happened(replace(ARRIVED, event_webhooks=(there.url(),)))
        for attempts in (1, 2, 3):
            await office.attempted(attempts)
            office.later(400.0)
        (dead,) = office.deliveries()
        assert (dead.state, dead.webhook_id.startswith(CALL_WEBHOOK)) == ("dead", True)
        chosen = DeliveryFilter(webhook_id=dead.webhook_id)
        assert write(database, outbox.replay, "default", chosen, office.now) == 1
        office.sender.wake()
        await office.all_delivered()
    assert len(set(there.bodies)) == 1


async def test_410_ends_what_waits_for_that_url_alone(database: Database) -> None:
    async with receiver() as gone, receiver() as there, post_office(database) as office:
        gone.answer = answering(then=410)
        office.webhook("crm", there.url("/crm"))
        office.happened(replace(ARRIVED, event_webhooks=(gone.url(), there.url())), RINGING)
        await office.all_delivered(call_webhook_id(there.url()))
        await office.all_delivered("crm")
        await office.until(lambda: set(office.states(call_webhook_id(gone.url()))) == {"disabled"})
    assert len(gone.seen) == 1


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}/", "http://[::1]:{port}/", "file:///etc/passwd", "no url"])
async def test_a_url_that_may_not_be_reached_is_not(database: Database, url: str) -> None:
    async with receiver(host=INSIDE) as inside, post_office(database) as office:
        office.happened(replace(ARRIVED, event_webhooks=(url.format(port=inside.port),)))
        await office.attempted(1)
        assert refused(office)
        assert inside.seen == []


def refused(office: PostOffice) -> bool:
    (one,) = office.deliveries()
    return one.state == "pending" and one.last_status is None and bool(one.last_problem)
