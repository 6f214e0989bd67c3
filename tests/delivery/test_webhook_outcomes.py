"""What comes of an attempt, when the next one is, and who is told next."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.delivery.outbound_http import OutboundResponse
from offhook.delivery.webhook_outcomes import (
    IN_ALL,
    PER_ACCOUNT,
    PER_ENDPOINT,
    SCHEDULE_S,
    Arrived,
    Failed,
    Gone,
    NotSent,
    Outcome,
    outcome_of,
    places,
    retry_after_s,
    wait_after,
)
from offhook.model.errors import ConfigError, OutboundError
from offhook.store.outbox import Endpoint

NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, Arrived(status=200)),
        (299, Arrived(status=299)),
        (301, Failed(problem="answered 301", status=301)),
        (410, Gone()),
        (404, Failed(problem="answered 404", status=404)),
        (503, Failed(problem="answered 503", status=503)),
    ],
)
def test_2xx_alone_is_success_and_410_alone_is_the_end(status: int, outcome: Outcome) -> None:
    assert outcome_of(OutboundResponse(status=status, headers={}, body=b""), NOW) == outcome


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (OutboundError("too_large", "talks on", 200), Arrived(status=200)),
        (OutboundError("too_large", "talks on", 410), Gone()),
        (OutboundError("broken", "broke off", 500), Failed(problem="broke off", status=500)),
        (OutboundError("unreachable", "not there"), Failed(problem="not there")),
        (OutboundError("refused_target", "is private"), Failed(problem="is private")),
        (OutboundError("busy", "512 requests are under way"), NotSent(wait_s=1.0)),
        (ConfigError("secret", "is none", "Give one"), Failed(problem="is none")),
    ],
)
def test_what_an_error_comes_to(error: OutboundError | ConfigError, outcome: Outcome) -> None:
    assert outcome_of(error, NOW) == outcome


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("", 0.0),
        ("120", 120.0),
        ("-5", 0.0),
        ("Tue, 14 Nov 2023 22:14:20 GMT", 60.0),
        ("Tue, 14 Nov 2023 22:13:00 GMT", 0.0),
        ("soon", 0.0),
        ("99999999999999", 0.0),
        ("²", 0.0),
    ],
)
def test_a_receiver_says_when_to_come_again(text: str, seconds: float) -> None:
    assert retry_after_s(text, NOW) == seconds


def test_ten_attempts_in_75_6_hours_each_wait_a_little_longer_at_random() -> None:
    waits = [wait_after(attempt) for attempt in range(1, 11)]
    assert waits == [*SCHEDULE_S, None]
    assert sum(SCHEDULE_S) == pytest.approx(75.6 * 3600, rel=0.01)
    assert wait_after(2, jitter=1.0) == pytest.approx(360.0)
    assert wait_after(1, asked_s=120.0) == 120.0
    assert wait_after(2, asked_s=120.0) == 300.0
    assert wait_after(1, asked_s=1e9) == 86400.0
    assert wait_after(2, schedule_s=(0.1,)) is None


def endpoints(account: str, number: int) -> list[Endpoint]:
    return [Endpoint(account, f"w{each}") for each in range(number)]


def test_one_account_with_many_webhooks_leaves_room_for_another_with_one() -> None:
    given = places([*endpoints("big", 100), *endpoints("small", 1)], {})
    assert sum(number for endpoint, number in given.items() if endpoint.account_id == "big") == PER_ACCOUNT
    assert given[Endpoint("small", "w0")] == PER_ENDPOINT


def test_the_last_place_goes_to_who_has_none() -> None:
    accounts = [one for account in "abcd" for one in endpoints(account, 8)]
    under_way = dict.fromkeys(accounts, 8)
    under_way[accounts[0]] = 7
    late = Endpoint("late", "w0")
    assert places([*accounts, late], under_way) == {late: 1}


@given(
    st.sets(st.builds(Endpoint, st.sampled_from("abcdefg"), st.sampled_from("123456789"))),
    st.dictionaries(
        st.builds(Endpoint, st.sampled_from("abcdefg"), st.sampled_from("123456789")), st.integers(1, PER_ENDPOINT)
    ),
)
def test_nobody_gets_more_than_there_is_and_no_place_is_left_while_somebody_waits(
    due: set[Endpoint], busy: dict[Endpoint, int]
) -> None:
    given = places(due, busy)
    both = Counter(busy) + given
    by_account: Counter[str] = Counter()
    for endpoint, number in both.items():
        by_account[endpoint.account_id] += number
    assert set(given) <= due
    assert all(both[one] <= PER_ENDPOINT for one in given)
    assert all(by_account[one.account_id] <= PER_ACCOUNT for one in given)
    assert given.total() == 0 or both.total() <= IN_ALL
    if both.total() < IN_ALL:
        assert all(both[one] == PER_ENDPOINT or by_account[one.account_id] >= PER_ACCOUNT for one in due)
