"""A scheduled call waits until it is due, and is given to one process, once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from tests.store.databases import read, write
from tests.store.stories import ARRIVED, happened

from offhook.store.database import Database
from offhook.store.scheduled_calls import (
    LEASE_S,
    ScheduledCall,
    add,
    count_scheduled,
    list_scheduled,
    next_due,
    put_off,
    put_off_all,
    remove,
    scheduled_call,
    take,
    take_due,
)

NOW = 1_000_000.0
CALL = ScheduledCall(
    call_id="c1",
    account_id="default",
    due_at=NOW + 60,
    latest_at=NOW + 3660,
    created_at=NOW,
    form={"target": "+4930123", "task": "grün \u2028", "functions": [{"name": "x"}]},
)


def kept(database: Database, *call_ids: str, **changes: Any) -> None:
    for call_id in call_ids:
        assert write(database, add, replace(CALL, call_id=call_id, **changes), most=100)


def taken(database: Database, now: float, limit: int = 10, *, late_only: bool = False) -> list[str]:
    return [call.call_id for call in write(database, take_due, now, limit, late_only=late_only)]


def test_it_is_kept_as_it_was_asked_for_and_is_of_its_account(database: Database) -> None:
    kept(database, "c1")
    assert read(database, scheduled_call, "default", "c1") == CALL
    assert read(database, scheduled_call, "other", "c1") is None
    assert read(database, list_scheduled, "other", limit=10) == ()
    assert read(database, list_scheduled, "default", limit=10) == (CALL,)
    assert read(database, next_due, NOW) == NOW + 60


def test_an_account_has_no_more_than_it_may(database: Database) -> None:
    assert write(database, add, CALL, most=2)
    assert write(database, add, replace(CALL, call_id="c2"), most=2)
    assert not write(database, add, replace(CALL, call_id="c3"), most=2)
    assert write(database, add, replace(CALL, call_id="c4", account_id="other"), most=2)
    assert len(read(database, list_scheduled, "default", limit=10)) == 2


def test_they_are_read_by_pages(database: Database) -> None:
    for number in range(5):
        kept(database, f"c{number}", created_at=NOW + number)
    kept(database, "theirs", account_id="other")

    def page(limit: int, offset: int) -> list[str]:
        return [call.call_id for call in read(database, list_scheduled, "default", limit=limit, offset=offset)]

    assert (page(2, 0), page(2, 4), page(2, 5)) == (["c4", "c3"], ["c0"], [])
    assert read(database, count_scheduled, "default") == 5


def test_it_is_given_once_when_it_is_due_the_oldest_first(database: Database) -> None:
    kept(database, "late", due_at=NOW + 50)
    kept(database, "early", due_at=NOW + 40)
    kept(database, "next", due_at=NOW + 60)
    assert taken(database, NOW) == []
    assert taken(database, NOW + 55, 1) == ["early"]
    assert taken(database, NOW + 55) == ["late"]
    assert taken(database, NOW + 55) == []
    assert taken(database, NOW + 60) == ["next"]


def test_who_died_with_it_gives_it_back(database: Database) -> None:
    kept(database, "c1", due_at=NOW)
    assert taken(database, NOW) == ["c1"]
    assert taken(database, NOW + LEASE_S - 1) == []
    assert taken(database, NOW + LEASE_S) == ["c1"]


def test_what_has_a_record_was_placed_and_is_never_given_again(database: Database) -> None:
    kept(database, "c1", "c2", due_at=NOW)
    happened(database, ARRIVED, call_id="c1")
    assert taken(database, NOW) == ["c2"]
    assert read(database, scheduled_call, "default", "c1") is None


def test_what_is_put_off_comes_again_and_what_is_removed_does_not(database: Database) -> None:
    kept(database, "c1", "c2", due_at=NOW)
    assert sorted(taken(database, NOW)) == ["c1", "c2"]
    write(database, put_off, "c1", NOW + 10)
    write(database, remove, "c2")
    assert taken(database, NOW + 9) == []
    assert taken(database, NOW + 10) == ["c1"]
    assert read(database, next_due, NOW + 10) is None  # somebody has it
    assert read(database, next_due, NOW + 10 + LEASE_S) == NOW + 10


def test_late_ones_can_be_taken_alone(database: Database) -> None:
    kept(database, "due", due_at=NOW, latest_at=NOW + 10)
    kept(database, "late", due_at=NOW, latest_at=NOW + 5)
    assert taken(database, NOW + 6, late_only=True) == ["late"]


def test_one_can_be_taken_before_it_is_due_if_nobody_is_placing_it(database: Database) -> None:
    kept(database, "c1", "c2", "c3", due_at=NOW)
    assert write(database, take, "other", "c1", NOW) is None
    assert write(database, take, "default", "c1", NOW) == replace(CALL, due_at=NOW)
    assert write(database, take, "default", "c1", NOW) is None
    assert sorted(taken(database, NOW)) == ["c2", "c3"]
    assert write(database, take, "default", "c2", NOW) is None
    write(database, put_off, "c2", NOW + 10)
    assert write(database, take, "default", "c2", NOW) is not None
    happened(database, ARRIVED, call_id="c3")
    assert write(database, take, "default", "c3", NOW + LEASE_S) is None


def test_all_that_an_account_has_due_can_wait(database: Database) -> None:
    kept(database, "c1", "c2", due_at=NOW)
    kept(database, "later", due_at=NOW + 5)
    kept(database, "theirs", due_at=NOW, account_id="other")
    write(database, put_off_all, "default", NOW, NOW + 10)
    assert taken(database, NOW + 5) == ["theirs", "later"]
    assert sorted(taken(database, NOW + 10)) == ["c1", "c2"]


def test_of_many_processes_each_call_is_given_to_one(
    database_url: str, database: Database, open_database: Callable[[str], Database]
) -> None:
    kept(database, *map(str, range(20)), due_at=NOW)
    together = threading.Barrier(4)

    def take(one: Database) -> list[str]:
        together.wait()
        return [call_id for _ in range(10) for call_id in taken(one, NOW, 2)]

    with ThreadPoolExecutor(4) as pool:
        given = [call_id for ids in pool.map(take, [open_database(database_url) for _ in range(4)]) for call_id in ids]
    assert sorted(given, key=int) == [str(number) for number in range(20)]
