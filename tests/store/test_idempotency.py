"""A request with a key is begun once, whoever asks; its answer is kept for a day."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from tests.store.databases import write

from offhook.store.database import Database
from offhook.store.idempotency import (
    KEPT_S,
    AnotherRequest,
    Answered,
    Begun,
    KeyedRequest,
    Unanswered,
    claim,
    finish,
    release,
)

NOW = 1_000_000.0
ASKED = KeyedRequest(account_id="default", key="k1", digest=b"\x00one")
ANSWER = Answered(status=201, body=b'{"call_id":"gr\xc3\xbcn\\u0000"}')


def test_it_is_begun_once_and_its_answer_given_again(database: Database) -> None:
    assert write(database, claim, ASKED, NOW) == Begun()
    assert write(database, claim, ASKED, NOW + 2) == Unanswered(since_s=2)
    write(database, finish, ASKED, ANSWER)
    assert write(database, claim, ASKED, NOW + 3) == ANSWER


def test_a_key_is_of_one_request_and_one_account(database: Database) -> None:
    write(database, claim, ASKED, NOW)
    another = replace(ASKED, digest=b"two")
    assert write(database, claim, another, NOW) == AnotherRequest()
    write(database, finish, ASKED, ANSWER)
    assert write(database, claim, another, NOW) == AnotherRequest()
    assert write(database, claim, replace(another, account_id="other"), NOW) == Begun()
    assert write(database, claim, replace(another, key="k2"), NOW) == Begun()


def test_a_key_that_is_released_is_free_and_an_answer_stays(database: Database) -> None:
    write(database, claim, ASKED, NOW)
    write(database, release, ASKED)
    assert write(database, claim, replace(ASKED, digest=b"corrected"), NOW) == Begun()
    write(database, finish, ASKED, ANSWER)
    write(database, release, ASKED)
    write(database, finish, ASKED, Answered(status=500, body=b""))
    assert write(database, claim, replace(ASKED, digest=b"corrected"), NOW) == ANSWER


def test_what_was_never_answered_is_not_begun_again_before_its_time_is_over(database: Database) -> None:
    write(database, claim, ASKED, NOW)
    assert write(database, claim, ASKED, NOW + KEPT_S) == Unanswered(since_s=KEPT_S)
    assert write(database, claim, ASKED, NOW + KEPT_S + 1) == Begun()


def test_of_many_processes_one_begins(database_url: str, open_database: Callable[[str], Database]) -> None:
    databases = [open_database(database_url) for _ in range(4)]
    together = threading.Barrier(len(databases))

    def begin(one: Database) -> object:
        together.wait()
        return type(write(one, claim, ASKED, NOW))

    with ThreadPoolExecutor(len(databases)) as pool:
        claims = list(pool.map(begin, databases))
    assert sorted(claims, key=str) == [Begun, Unanswered, Unanswered, Unanswered]
