"""``offhook calls``: list, show and follow calls, from the database: whether a server runs or not."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Mapping
from typing import Any

import click

from offhook.cli.call_story import call_line, story
from offhook.cli.live_log import LiveLog
from offhook.cli.storage import Place, account_option, opened, place_options, print_json, seconds_of
from offhook.delivery.call_document import call_document, call_summary
from offhook.delivery.delivery_document import delivery_document
from offhook.delivery.event_documents import event_document
from offhook.store.calls import (
    CALL_STATUSES,
    CallFilter,
    call_events_of,
    find_calls,
    get_call,
    list_calls,
)
from offhook.store.database import Database
from offhook.store.outbox import DeliveryFilter, list_deliveries
from offhook.store.tail import last_seqs, new_events

POLL_S = 0.5
"""A person sees no delay below this, and the database no load."""

MAX_EVENTS = 100_000
MAX_DELIVERIES = 1_000
"""Of one call: an hour of talk with every webhook has a tenth of it."""


@click.group()
def calls() -> None:
    """List calls, show all that is known of one, follow them as they happen."""


@calls.command("list")
@account_option
@click.option("--status", type=click.Choice(CALL_STATUSES), help="Only these.")
@click.option("--direction", type=click.Choice(["inbound", "outbound"]), help="Only these.")
@click.option("--agent", "agent_id", default="", help="Only this agent's.")
@click.option("--trunk", "trunk_id", default="", help="Only this trunk's.")
@click.option("--cause", help="Only those that ended so: hangup, refused, provider_failed …")
@click.option("--sip-code", type=click.IntRange(100, 699), help="Only those that ended with this status.")
@click.option("--text", default="", help="Only those with this in From or To.")
@click.option("--since", metavar="TIME", help="Only those that began within: 15m, 2h, 7d.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@click.option("--offset", type=click.IntRange(min=0), default=0)
@place_options
def list_(*, place: Place, account_id: str, since: str | None, limit: int, offset: int, **wanted: Any) -> None:
    """Show calls, the newest first."""
    after = None if since is None else time.time() - seconds_of(since)
    with opened(place) as database, database.read() as connection:
        chosen = CallFilter(created_after=after, **wanted)
        found, total = list_calls(connection, account_id, chosen, limit=limit, offset=offset)
    if place.as_json:
        listed = list(map(call_summary, found))
        print_json({"calls": listed, "total": total, "limit": limit, "offset": offset})
        return
    for record in found:
        click.echo(call_line(record))
    if total > len(found):
        click.secho(f"{len(found)} of {total}; more with --limit and --offset", dim=True)


@calls.command()
@click.argument("call_id")
@account_option
@place_options
def show(*, place: Place, call_id: str, account_id: str) -> None:
    """Tell one call: what happened and when, refusals and what to change, figures, what was said, webhooks.

    CALL_ID is offhook's id (its first characters will do) or the SIP Call-ID.
    """
    with opened(place) as database, database.read() as connection:
        found = find_calls(connection, account_id, call_id)
        record = get_call(connection, account_id, _only(found, call_id))
        if record is None:  # retention took it between two statements
            raise click.ClickException(f"there is no call {call_id!r}")
        events = call_events_of(connection, account_id, record.call_id, limit=MAX_EVENTS)
        chosen = DeliveryFilter(call_id=record.call_id)
        deliveries, _ = list_deliveries(connection, account_id, chosen, limit=MAX_DELIVERIES)
    if place.as_json:
        told = {
            "call": call_document(record),
            "events": [event_document(event) for event in events],
            "deliveries": [delivery_document(one) for one in deliveries],
        }
        print_json(told)
        return
    for line in story(record, events, deliveries):
        click.echo(line)


@calls.command()
@account_option
@click.option("--show-speech", is_flag=True, help="Show what is said, and digits.")
@place_options
def tail(*, place: Place, account_id: str, show_speech: bool) -> None:
    """Follow the calls of every server on this database, as they happen, until Ctrl-C.

    With --json one event a line, speech and digits included.
    """
    tell = LiveLog(show_speech=show_speech)
    stopped = _until_ctrl_c()
    with opened(place) as database:
        known = _latest(database, account_id)
        click.secho(f"following the calls of {database.name}; Ctrl-C ends", dim=True, err=True)
        while not stopped.wait(POLL_S):
            latest = _latest(database, account_id)
            with database.read() as connection:
                events = new_events(connection, account_id, known, latest)
            known = latest
            for event in events:
                if place.as_json:
                    print_json(event_document(event))
                else:
                    tell(event)


def _until_ctrl_c() -> threading.Event:
    """Set by Ctrl-C. A KeyboardInterrupt may be raised where nobody lets it through, in the middle of a query."""
    stopped = threading.Event()
    signal.signal(signal.SIGINT, lambda number, frame: stopped.set())
    return stopped


def _latest(database: Database, account_id: str) -> Mapping[str, int]:
    with database.read() as connection:
        return last_seqs(connection, account_id, time.time())


def _only(found: tuple[str, ...], told: str) -> str:
    """Raises ``click.ClickException`` where it is none, or several."""
    if not found:
        raise click.ClickException(f"there is no call {told!r}: `offhook calls list` shows those there are")
    if len(found) > 1:
        known = ", ".join(found[:5])
        raise click.ClickException(f"{told!r} may be several calls: {known}; give more of the id")
    return found[0]
