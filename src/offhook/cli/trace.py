"""``offhook trace``: the SIP messages of one call as a ladder, or as a pcap file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import msgspec

from offhook.config import load_settings
from offhook.signaling.ladder import Note, ladder
from offhook.signaling.pcap import pcap
from offhook.store.text import printable
from offhook.store.traces import read_trace

_TOLD = ("WayTaken", "CallRefused", "CallAnswered", "ProviderFailed", "CallEnded")
"""Facts of the call that explain its messages."""

_NOT_SAID = {"seq", "at", "leg_id", "type", "sip_call_id"}
"""Of a fact: they stand elsewhere in the ladder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Call:
    sip_call_ids: tuple[str, ...]
    notes: tuple[Note, ...] = ()


@click.command()
@click.argument("call_id")
@click.option("--pcap", "pcap_file", type=click.Path(path_type=Path, dir_okay=False), help="Write a pcap file instead.")
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), help="config.json to read.")
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="Folder of the server's records.")
def trace(*, call_id: str, pcap_file: Path | None, config: Path | None, data: Path | None) -> None:
    """Show every SIP message of a call, running or over, secrets crossed out.

    CALL_ID is offhook's id (its first characters will do, as the log shows them) or the SIP Call-ID.
    """
    settings = load_settings(config, flags={"data_dir": str(data) if data is not None else None})
    folder = Path(settings.data_dir).expanduser()
    try:
        call = _find(folder / "calls", call_id)
        records = read_trace(folder, call.sip_call_ids)
    except OSError as error:
        raise click.ClickException(f"{error.filename or folder} cannot be read ({error.strerror})") from None
    if not records:
        hint = f"the ids of calls stand in the log and in {folder / 'calls'}; --data names the server's folder"
        off = "" if settings.sip.trace else "; and sip.trace is false in config.json: set it to true"
        raise click.ClickException(f"no SIP messages are kept of a call {call_id!r}: {hint}{off}")
    if pcap_file is None:
        click.echo(ladder(records, call.notes), nl=False)
        return
    try:
        pcap_file.write_bytes(pcap(records))
    except OSError as error:
        raise click.BadParameter(f"{pcap_file} cannot be written ({error.strerror})", param_hint="--pcap") from None
    click.echo(f"{len(records)} messages written to {pcap_file}")


def _find(folder: Path, call_id: str) -> _Call:
    """By the record of offhook's id, or one that knows the SIP Call-ID; else the messages alone. Raises ``OSError``."""
    by_name = [file for file in folder.glob("*.json") if file.stem.startswith(call_id)]
    if len(by_name) > 1:
        known = ", ".join(sorted(file.stem for file in by_name)[:5])
        raise click.ClickException(f"{len(by_name)} calls begin with {call_id!r}: {known} …; give more of the id")
    document = _document(by_name[0]) if by_name else _record_with(folder, call_id)
    if document is None:
        return _Call(sip_call_ids=(call_id,))
    events = document["events"]
    ids = [document["sip_call_id"], *(event.get("sip_call_id", "") for event in events)]
    notes = tuple((event["at"], _told(event)) for event in events if event["type"] in _TOLD)
    return _Call(sip_call_ids=tuple(dict.fromkeys(one for one in ids if one)), notes=notes)


def _record_with(folder: Path, sip_call_id: str) -> Mapping[str, Any] | None:
    """The latest call with this SIP Call-ID."""
    wanted = msgspec.json.encode(printable(sip_call_id))
    for file in sorted(folder.glob("*.json"), key=lambda file: file.stat().st_mtime, reverse=True):
        if wanted in file.read_bytes():
            return _document(file)
    return None


def _document(file: Path) -> Mapping[str, Any]:
    document: Mapping[str, Any] = json.loads(file.read_bytes())
    return document


def _told(event: Mapping[str, Any]) -> str:
    """A fact in one line, with every field that says something."""
    said = (f"{key} {value}" for key, value in event.items() if key not in _NOT_SAID and value not in ("", None))
    return f"{event['type']}: {', '.join(said)}"
