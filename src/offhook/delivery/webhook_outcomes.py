"""What comes of an attempt to tell a webhook, when the next one is, and who may be told now. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from offhook.delivery.outbound_http import OutboundResponse
from offhook.model.errors import ConfigError, OutboundError
from offhook.store.outbox import Endpoint

SCHEDULE_S = (5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 50400.0, 72000.0, 86400.0)
"""Waits between attempts: with the first, at once, ten in 75.6 hours (Standard Webhooks, "Deliverability")."""

JITTER = 0.2
"""A wait is up to so much longer: receivers that were down are not asked by all calls in one moment."""

RETRY_AFTER_MOST_S = 86400.0
"""What a receiver may ask for; more would be more than the longest wait of the schedule."""

NOT_SENT_S = 1.0
"""Until what found no room in the HTTP client is tried again."""

PER_ENDPOINT = 8
"""Deliveries to one endpoint under way: of different calls."""

PER_ACCOUNT = 64
"""To all endpoints of one account: who has many slow ones leaves room for others."""

IN_ALL = 256
"""Half of what the HTTP client has room for: questions of running calls find a place beside them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrived:
    """2xx: the receiver has it."""

    status: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Failed:
    """Tried again, or given up. ``asked_s``: the receiver asked for so long a wait."""

    problem: str
    status: int | None = None
    asked_s: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Gone:
    """410: the receiver wants no more of anything (Standard Webhooks)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NotSent:
    """There was no room, or no time left, to send it: no attempt at all. ``wait_s``: until it is due again."""

    wait_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class NobodyThere:
    """We do not know the endpoint; the database tells whether it was removed, or is too new."""


Outcome = Arrived | Failed | Gone | NotSent | NobodyThere


def outcome_of(answer: OutboundResponse | OutboundError | ConfigError, now: float) -> Outcome:
    """2xx alone is success: a redirect is none. A receiver that said 2xx has it, whatever became of the rest of its
    answer. ``ConfigError``: a secret that is none; once it is mended, the next attempt succeeds.
    """
    match answer:
        case OutboundResponse(status=status, headers=headers):
            asked_s = retry_after_s(headers.get("retry-after", ""), now)
            return _by_status(status, f"answered {status}", asked_s)
        case OutboundError(kind="busy"):
            return NotSent(wait_s=NOT_SENT_S)
        case OutboundError(status=int(status), problem=problem):
            return _by_status(status, problem)
        case _:
            return Failed(problem=answer.problem)


def _by_status(status: int, problem: str, asked_s: float = 0.0) -> Outcome:
    if 200 <= status < 300:
        return Arrived(status=status)
    return Gone() if status == 410 else Failed(problem=problem, status=status, asked_s=asked_s)


def wait_after(
    attempt: int, *, schedule_s: Sequence[float] = SCHEDULE_S, asked_s: float = 0.0, jitter: float = 0.0
) -> float | None:
    """Seconds until the next attempt after this one (from 1); None: it was the last. ``asked_s``: by Retry-After;
    ``jitter``: from 0 to 1."""
    if attempt > len(schedule_s):
        return None
    return max(schedule_s[attempt - 1] * (1 + JITTER * jitter), min(asked_s, RETRY_AFTER_MOST_S))


def retry_after_s(text: str, now: float) -> float:
    """Retry-After as seconds or as a date (RFC 9110 §10.2.3); 0.0 where it is neither."""
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, OverflowError):
        return 0.0


def places(due: Iterable[Endpoint], under_way: Mapping[Endpoint, int]) -> Counter[Endpoint]:
    """How many more each endpoint that has something due may be sent: who has the fewest under way comes first."""
    by_account: Counter[str] = Counter()
    for endpoint, number in under_way.items():
        by_account[endpoint.account_id] += number
    free = IN_ALL - by_account.total()
    given: Counter[Endpoint] = Counter()
    waiting = list(due)
    while free > 0 and waiting:
        waiting = [one for one in waiting if _has_room(one, by_account, under_way, given)]
        for endpoint in sorted(waiting, key=lambda one: by_account[one.account_id])[:free]:
            if by_account[endpoint.account_id] < PER_ACCOUNT:
                given[endpoint] += 1
                by_account[endpoint.account_id] += 1
                free -= 1
    return given


def _has_room(
    endpoint: Endpoint, by_account: Mapping[str, int], under_way: Mapping[Endpoint, int], given: Mapping[Endpoint, int]
) -> bool:
    used = under_way.get(endpoint, 0) + given[endpoint]
    return used < PER_ENDPOINT and by_account[endpoint.account_id] < PER_ACCOUNT
