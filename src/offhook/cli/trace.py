"""``offhook trace``: the SIP messages of one call as a ladder, or as a pcap file."""

from __future__ import annotations

from pathlib import Path

import click
import sqlalchemy as sa

from offhook.cli.storage import Place, account_option, opened, place_options, print_json
from offhook.delivery.call_trace import CallTrace, call_trace, message_document
from offhook.signaling.ladder import ladder
from offhook.signaling.pcap import pcap
from offhook.signaling.trace import TraceRecord
from offhook.store.calls import find_calls
from offhook.store.traces import read_trace


@click.command()
@click.argument("call_id")
@click.option("--pcap", "pcap_file", type=click.Path(path_type=Path, dir_okay=False), help="Write a pcap file instead.")
@account_option
@place_options
def trace(*, place: Place, call_id: str, account_id: str, pcap_file: Path | None) -> None:
    """Show every SIP message of a call, running or over, secrets crossed out.

    CALL_ID is offhook's id (its first characters will do, as the log shows them) or the SIP Call-ID.
    """
    settings = place.settings()
    folder = settings.data_folder
    with opened(place) as database, database.read() as connection:
        of_call = _find(connection, account_id, call_id)
    try:
        records = read_trace(folder, of_call.sip_call_ids)
    except OSError as error:
        raise click.ClickException(f"{error.filename or folder} cannot be read ({error.strerror})") from None
    if not records:
        hint = "`offhook calls list` shows the ids of calls; --data names the server's folder"
        off = "" if settings.sip.trace else "; and sip.trace is false in config.json: set it to true"
        raise click.ClickException(f"no SIP messages are kept of a call {call_id!r}: {hint}{off}")
    if pcap_file is not None:
        _write(pcap_file, records)
    elif place.as_json:
        print_json([message_document(record) for record in records])
    else:
        click.echo(ladder(records, of_call.notes), nl=False)


def _write(file: Path, records: list[TraceRecord]) -> None:
    try:
        file.write_bytes(pcap(records))
    except OSError as error:
        raise click.BadParameter(f"{file} cannot be written ({error.strerror})", param_hint="--pcap") from None
    click.echo(f"{len(records)} messages written to {file}")


def _find(connection: sa.Connection, account_id: str, told: str) -> CallTrace:
    """By offhook's id or its beginning, or by a SIP Call-ID; else the messages under that alone."""
    found = find_calls(connection, account_id, told)
    if len(found) > 1:
        known = ", ".join(sorted(found)[:5])
        raise click.ClickException(f"{len(found)} calls begin with {told!r}: {known} …; give more of the id")
    of_call = call_trace(connection, account_id, found[0]) if found else None
    return of_call or CallTrace(sip_call_ids=(told,))
