"""``offhook webhooks``: a receiver for developing; what was sent to whom, and to send it again."""

from __future__ import annotations

import time
from functools import partial

import click
import msgspec

from offhook.cli.event_loop import run, stop_signals
from offhook.cli.storage import Place, account_option, opened, place_options, print_json, seconds_of, shown_time
from offhook.cli.webhook_listener import Listener, Received, Reply, json_of, line_of, listening
from offhook.delivery.audience import CALL_WEBHOOK
from offhook.delivery.delivery_document import delivery_document
from offhook.delivery.signing import SECRET_PREFIX, key_of
from offhook.delivery.sip4ai_signing import SECRET_CHARACTERS_LEAST, account_secret, installation_secret
from offhook.model.errors import RecordNotFoundError
from offhook.store.outbox import Delivery, DeliveryFilter, DeliveryState, list_deliveries
from offhook.store.outbox import replay as replay_deliveries
from offhook.store.webhook_records import WebhookState, webhook_states

PORT = 8765

STATES: tuple[DeliveryState, ...] = ("pending", "delivered", "dead", "disabled")

_COLOURS: dict[DeliveryState, str] = {"pending": "yellow", "delivered": "green", "dead": "red", "disabled": "red"}


@click.group()
def webhooks() -> None:
    """Receive webhooks here, see what was sent, send it again."""


# ── listen ───────────────────────────────────────────────────────────────────────────────────────────────


@webhooks.command()
@click.option("--port", default=PORT, show_default=True, type=click.IntRange(0, 65535), help="0: any that is free.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--secret",
    "secrets",
    multiple=True,
    envvar="OFFHOOK_WEBHOOK_SECRET",
    metavar="whsec_…",
    help="Check signatures with it, or with what `webhooks secret` prints; several while one is exchanged.",
)
@click.option("--status", default=204, show_default=True, type=click.IntRange(200, 599), help="Answer this.")
@click.option("--delay", default=0.0, show_default=True, type=click.FloatRange(0, 3600), help="Seconds until then.")
@click.option("--answer", default="", metavar="JSON", help='Answer 200 and this, to ask_url: \'{"agent_id": "demo"}\'.')
@click.option("--json", "as_json", is_flag=True, help="Print each message whole, a line of JSON.")
def listen(
    *, port: int, host: str, secrets: tuple[str, ...], status: int, delay: float, answer: str, as_json: bool
) -> None:
    """Print the webhooks that come here, and whether their signatures hold, until Ctrl-C."""
    for secret in secrets:
        if secret.startswith(SECRET_PREFIX) or len(secret) < SECRET_CHARACTERS_LEAST:
            key_of(secret)
    _check_json(answer)
    reply = Reply(status=200 if answer else status, delay_s=delay, body=answer)
    listener = Listener(secrets=secrets, reply=reply, show=partial(_show, as_json))
    run(_listen(listener, host, port, as_json))


def _check_json(answer: str) -> None:
    try:
        msgspec.json.decode(answer or "{}")
    except msgspec.DecodeError as error:
        raise click.BadParameter(f"it is no JSON: {error}", param_hint="--answer") from None


async def _listen(listener: Listener, host: str, port: int, as_json: bool) -> None:
    stopped = stop_signals()

    def announce(url: str) -> None:
        click.echo(f"listening on {url}; Ctrl-C ends", err=as_json)

    runner = await listening(listener, host, port, announce)
    try:
        await stopped.wait()
    finally:
        await runner.cleanup()
    told = ", ".join(f"{number} {verdict}" for verdict, number in sorted(listener.counts.items()))
    click.echo(f"{sum(listener.counts.values())} received{f': {told}' if told else ''}", err=as_json)


def _show(as_json: bool, received: Received) -> None:
    if as_json:
        print_json(json_of(received))
    else:
        click.echo(line_of(received))


# ── what signs ───────────────────────────────────────────────────────────────────────────────────────────


@webhooks.command()
@account_option
@place_options
def secret(*, place: Place, account_id: str) -> None:
    """Print the secret that signs what SIP4AI's functions and events are sent with."""
    settings = place.settings()
    found = account_secret(installation_secret(settings.data_folder, settings.webhook_secret), account_id)
    if place.as_json:
        print_json({"account_id": account_id, "secret": found})
    else:
        click.echo(found)


# ── what was sent ────────────────────────────────────────────────────────────────────────────────────────


@webhooks.command("list")
@account_option
@place_options
def list_(*, place: Place, account_id: str) -> None:
    """Show the webhooks of an account, and how many deliveries wait or were given up."""
    with opened(place) as database, database.read() as connection:
        found = webhook_states(connection, account_id)
    if place.as_json:
        print_json({"webhooks": found})
    elif not found:
        click.echo(f"account {account_id} has no webhooks: POST /api/webhooks makes one, or config.json")
    for one in () if place.as_json else found:
        click.echo(_webhook_line(one))


def _webhook_line(one: WebhookState) -> str:
    state = click.style("enabled ", fg="green") if one.enabled else click.style("disabled", fg="red")
    counted = ", ".join(f"{one.deliveries[name]} {name}" for name in STATES if one.deliveries.get(name))
    parts = [one.url, " ".join(one.events), counted or "nothing sent yet"]
    return f"{click.style(one.webhook_id, bold=True)}  {state} {'  '.join(parts)}"


@webhooks.command()
@click.argument("webhook_id", required=False, default="")
@account_option
@click.option("--state", type=click.Choice(STATES), help="In this state alone.")
@click.option("--call", "call_id", default="", help="Of this call alone.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1000), help="At most so many.")
@click.option("--offset", default=0, type=click.IntRange(0), help="Leave out so many of the newest.")
@place_options
def deliveries(
    *,
    place: Place,
    webhook_id: str,
    account_id: str,
    state: DeliveryState | None,
    call_id: str,
    limit: int,
    offset: int,
) -> None:
    """Show what was and will be sent, the newest first; to WEBHOOK_ID alone where one is given."""
    chosen = DeliveryFilter(webhook_id=webhook_id, call_id=call_id, states=(state,) if state else ())
    with opened(place) as database, database.read() as connection:
        found, total = list_deliveries(connection, account_id, chosen, limit=limit, offset=offset)
    if place.as_json:
        documents = list(map(delivery_document, found))
        print_json({"deliveries": documents, "total": total, "limit": limit, "offset": offset})
        return
    for one in found:
        click.echo(_delivery_line(one))
    if total > len(found):
        click.secho(f"{len(found)} of {total}; more with --limit and --offset", dim=True)


def _delivery_line(one: Delivery) -> str:
    state = click.style(f"{one.state:<9}", fg=_COLOURS[one.state])
    attempts = "1 attempt" if one.attempt == 1 else f"{one.attempt} attempts"
    due = f", next {shown_time(one.due_at)}" if one.state == "pending" else ""
    problem = f" ({one.last_problem})" if one.last_problem else ""
    about = f"{one.event} of {one.call_id}" if one.call_id else one.event
    return (
        f"{shown_time(one.created_at)}  {state} {about} to {click.style(one.webhook_id, bold=True)}: "
        f"{attempts}{due}{problem}  {click.style(one.delivery_id, dim=True)}"
    )


@webhooks.command()
@click.argument("webhook_id")
@account_option
@click.option("--delivery", "delivery_ids", multiple=True, metavar="ID", help="This one.")
@click.option("--call", "call_id", default="", metavar="ID", help="Those of this call.")
@click.option("--since", metavar="TIME", help="Those of the last 90s, 15m, 2h or 30d.")
@click.option("--dead", is_flag=True, help="Those that were given up; with the others, only these of them.")
@place_options
def replay(
    *,
    place: Place,
    webhook_id: str,
    account_id: str,
    delivery_ids: tuple[str, ...],
    call_id: str,
    since: str | None,
    dead: bool,
) -> None:
    """Send again to WEBHOOK_ID: the same ids and bodies, all attempts anew. A running server sends within a second."""
    if not (delivery_ids or call_id or since or dead):
        raise click.UsageError("say what: --delivery, --call, --since or --dead")
    now = time.time()
    chosen = DeliveryFilter(
        webhook_id=webhook_id,
        delivery_ids=delivery_ids,
        call_id=call_id,
        states=("dead",) if dead else (),
        since=None if since is None else now - seconds_of(since),
    )
    with opened(place) as database, database.write() as connection:
        known = {one.webhook_id: one for one in webhook_states(connection, account_id)}
        if webhook_id not in known and not webhook_id.startswith(CALL_WEBHOOK):
            raise RecordNotFoundError("webhook", webhook_id)
        replayed = replay_deliveries(connection, account_id, chosen, now)
    if place.as_json:
        print_json({"replayed": replayed})
        return
    click.echo(f"{replayed} {'delivery is' if replayed == 1 else 'deliveries are'} due again")
    if webhook_id in known and not known[webhook_id].enabled:
        click.secho(f"{webhook_id} is disabled: enable it first, or they are not sent", fg="yellow", err=True)
