"""Deliveries: taken in the order of their call, held while somebody sends them, tried again, given up, sent anew."""

from __future__ import annotations

import time

import sqlalchemy as sa
from tests.store.databases import read, write

from offhook.store import outbox, schema
from offhook.store.database import Database
from offhook.store.outbox import LEASE_S, Delivery, DeliveryFilter, Endpoint, NewDelivery

EVERYTHING = DeliveryFilter()
NOW = 1000.0


def new(
    name: str,
    *,
    call_id: str = "c1",
    seq: int = 1,
    webhook_id: str = "w1",
    at: float = NOW,
    account_id: str = "default",
) -> NewDelivery:
    return NewDelivery(
        delivery_id=name,
        account_id=account_id,
        webhook_id=webhook_id,
        event="call.ended",
        body=b'{"name":"\xff\x00"}' + name.encode(),
        created_at=at,
        call_id=call_id,
        seq=seq,
    )


def added(database: Database, *deliveries: NewDelivery) -> None:
    write(database, outbox.add, deliveries)


def taken(database: Database, now: float = NOW, limit: int = 10) -> list[Delivery]:
    """Of whatever endpoints have something due."""
    due = read(database, outbox.due_endpoints, now)
    return list(write(database, outbox.take_due, now, dict.fromkeys(due, limit)))


def names(deliveries: list[Delivery]) -> list[str]:
    return [one.delivery_id for one in deliveries]


def listed(database: Database, chosen: DeliveryFilter = EVERYTHING) -> dict[str, Delivery]:
    deliveries, total = read(database, outbox.list_deliveries, "default", chosen, limit=100)
    assert total == len(deliveries)
    return {one.delivery_id: one for one in deliveries}


def test_a_body_is_sent_byte_for_byte_as_it_was_added(database: Database) -> None:
    added(database, new("a"))
    (one,) = taken(database)
    assert (one.body, one.attempt, one.state) == (new("a").body, 1, "pending")


def test_a_call_s_deliveries_go_one_after_another_and_other_calls_do_not_wait(database: Database) -> None:
    added(database, new("b", seq=2), new("a", seq=1), new("c", seq=3), new("x", call_id="c2", seq=9))
    first = taken(database)
    assert sorted(names(first)) == ["a", "x"]
    assert taken(database) == []
    [a] = [one for one in first if one.delivery_id == "a"]
    write(database, outbox.mark_delivered, a, NOW, status=204)
    assert names(taken(database)) == ["b"]
    assert (listed(database)["a"].state, listed(database)["a"].last_status) == ("delivered", 204)


def test_a_later_one_waits_for_the_next_try_of_the_earlier_and_goes_when_that_is_dead(database: Database) -> None:
    added(database, new("a", seq=1), new("b", seq=2))
    [a] = taken(database)
    write(database, outbox.mark_failed, a, NOW, problem="refused", status=500, next_due=NOW + 300)
    assert taken(database, NOW + 299) == []
    [a] = taken(database, NOW + 300)
    assert (a.delivery_id, a.attempt, a.last_problem, a.last_status) == ("a", 2, "refused", 500)
    write(database, outbox.mark_failed, a, NOW + 301, problem="given up", next_due=None)
    assert listed(database)["a"].state == "dead"
    assert names(taken(database, NOW + 301)) == ["b"]


def test_a_later_one_is_due_as_soon_as_the_earlier_arrived(database: Database) -> None:
    added(database, new("a", seq=1), new("b", seq=2))
    [a] = taken(database)
    write(database, outbox.mark_failed, a, NOW, problem="", next_due=NOW + 300)
    [a] = taken(database, NOW + 300)
    write(database, outbox.mark_delivered, a, NOW + 310)
    assert (read(database, outbox.next_due) or 0.0) <= NOW + 310
    assert names(taken(database, NOW + 310)) == ["b"]


def test_what_its_sender_died_with_is_taken_again_after_the_lease(database: Database) -> None:
    added(database, new("a"))
    assert names(taken(database)) == ["a"]
    assert taken(database, NOW + LEASE_S - 1) == []
    [again] = taken(database, NOW + LEASE_S)
    assert again.attempt == 2


def test_one_endpoint_s_backlog_leaves_room_for_another_s(database: Database) -> None:
    added(database, *(new(f"s{each}", call_id=f"c{each}", webhook_id="slow") for each in range(50)))
    added(database, new("q", webhook_id="quick", at=NOW + 1))
    assert len(taken(database, NOW, limit=4)) == 4
    slow, quick = Endpoint("default", "slow"), Endpoint("default", "quick")
    assert set(read(database, outbox.due_endpoints, NOW + 1)) == {slow, quick}
    assert names(list(write(database, outbox.take_due, NOW + 1, {quick: 9, slow: 0}))) == ["q"]


def test_a_backlog_is_looked_through_once_and_not_again_for_each_of_its_rows(database: Database) -> None:
    added(database, *(new(f"m{each}", call_id=f"c{each // 20}", seq=each % 20) for each in range(5000)))
    began = time.process_time()
    assert len(taken(database, limit=8)) == 8
    assert time.process_time() - began < 1.0  # 20 ms; 1.7 s when every row looks at every other


def test_two_accounts_webhooks_of_the_same_id_have_nothing_to_do_with_each_other(database: Database) -> None:
    added(database, new("mine", seq=2), new("other", seq=1, account_id="other"))
    assert sorted(names(taken(database, limit=1))) == ["mine", "other"]


def test_what_is_put_back_was_no_attempt(database: Database) -> None:
    added(database, new("a"), new("b", seq=2))
    [a] = taken(database)
    write(database, outbox.put_back, a, NOW + 1)
    assert taken(database) == []
    [again] = taken(database, NOW + 1)
    assert (again.delivery_id, again.attempt) == ("a", 1)


def test_a_lease_is_as_long_as_its_sender_says(database: Database) -> None:
    added(database, new("a"))
    write(database, outbox.take_due, NOW, {Endpoint("default", "w1"): 1}, lease_s=3.0)
    assert taken(database, NOW + 2.9) == []
    assert names(taken(database, NOW + 3.0)) == ["a"]


def test_what_belongs_to_no_call_waits_for_nobody(database: Database) -> None:
    added(database, new("a", call_id="", seq=0), new("b", call_id="", seq=0))
    assert sorted(names(taken(database))) == ["a", "b"]


def test_the_same_event_added_twice_is_one_delivery(database: Database) -> None:
    one = outbox.delivery_id("w1", "c1", 3, "call.ended")
    assert one == outbox.delivery_id("w1", "c1", 3, "call.ended")
    assert one != outbox.delivery_id("w1", "c1", 4, "call.ended")
    added(database, new(one, seq=3))
    [a] = taken(database)
    write(database, outbox.mark_delivered, a, NOW)
    added(database, new(one, seq=3))
    assert listed(database)[one].state == "delivered"


def test_an_endpoint_that_wants_no_more_gets_no_more(database: Database) -> None:
    added(database, new("a"), new("b", call_id="c2"), new("other", webhook_id="w2"))
    inflight = taken(database, limit=1)
    assert write(database, outbox.disable_endpoint, "default", "w1") == 2
    for one in inflight:
        write(database, outbox.mark_failed, one, NOW, problem="gone", status=410, next_due=NOW)
    states = {name: one.state for name, one in listed(database).items()}
    assert states == {"a": "disabled", "b": "disabled", "other": "pending"}


def test_dead_letters_are_listed_and_sent_anew_by_id_call_or_time(database: Database) -> None:
    for number, name in enumerate(("a", "b", "c", "d")):
        added(database, new(name, call_id=f"call-{name}", at=NOW + number))
    for one in taken(database, NOW + 3):
        write(database, outbox.mark_failed, one, NOW, problem="x", next_due=None)
    assert set(listed(database, DeliveryFilter(states=("dead",)))) == {"a", "b", "c", "d"}
    choices = (
        DeliveryFilter(delivery_ids=("a",)),
        DeliveryFilter(call_id="call-b"),
        DeliveryFilter(since=NOW + 2, until=NOW + 3),
    )
    assert [write(database, outbox.replay, "default", chosen, NOW + 9) for chosen in choices] == [1, 1, 1]
    again = taken(database, NOW + 9)
    assert {one.delivery_id: (one.attempt, one.body) for one in again} == {
        name: (1, new(name).body) for name in ("a", "b", "c")
    }
    assert write(database, outbox.replay, "default", DeliveryFilter(delivery_ids=("a",)), NOW) == 0, "it is pending"


def test_another_account_s_deliveries_are_not_there(database: Database) -> None:
    added(database, new("a"))
    assert read(database, outbox.list_deliveries, "other", EVERYTHING, limit=10) == ((), 0)
    assert read(database, outbox.get_delivery, "other", "a") is None
    assert write(database, outbox.replay, "other", EVERYTHING, NOW) == 0
    assert write(database, outbox.disable_endpoint, "other", "w1") == 0
    mine = read(database, outbox.get_delivery, "default", "a")
    assert mine is not None
    assert mine.state == "pending"


def test_what_waits_is_counted(database: Database) -> None:
    assert read(database, outbox.counts, NOW).oldest_due_s == 0.0
    assert read(database, outbox.next_due) is None
    added(database, new("a"), new("b", call_id="c2"), new("c", call_id="c3"))
    for one, next_due in zip(taken(database, limit=2), (None, NOW + 5), strict=True):
        write(database, outbox.mark_failed, one, NOW, problem="", next_due=next_due)
    counts = read(database, outbox.counts, NOW + 7)
    assert (counts.pending, counts.dead, counts.disabled, counts.oldest_due_s) == (2, 1, 0, 7.0)


def test_a_whole_backlog_is_looked_at_quickly(database: Database) -> None:
    """An endpoint that is down: its first deliveries wait for a try, and those behind them cost nothing."""
    for call in range(40):
        added(database, *(new(f"{call}-{seq}", call_id=f"c{call}", seq=seq) for seq in range(50)))
    for one in taken(database, limit=40):
        write(database, outbox.mark_failed, one, NOW, problem="", next_due=NOW + 60)
    looked_at = sa.select(sa.func.count()).select_from(schema.outbox).where(schema.outbox.c.due_at <= NOW + 59)
    assert read(database, lambda connection: connection.scalar(looked_at)) == 0
