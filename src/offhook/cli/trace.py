"""``offhook trace``: the SIP messages of one call as a ladder, or as a pcap file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from offhook.config import load_settings
from offhook.signaling.ladder import Note, ladder
from offhook.signaling.pcap import pcap
from offhook.store.traces import read_trace

_TOLD = ("WayTaken", "CallRefused", "CallAnswered", "ProviderFailed", "CallEnded")
"""Facts of the call that explain its messages."""


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
    call = _find(folder, call_id)
    records = read_trace(folder, call.sip_call_ids)
    if not records:
        hint = f"the ids of calls stand in the log and in {folder / 'calls'}; --data names the server's folder"
        raise click.ClickException(f"no SIP messages are kept of a call {call_id!r}; {hint}")
    if pcap_file is None:
        click.echo(ladder(records, call.notes), nl=False)
        return
    try:
        pcap_file.write_bytes(pcap(records))
    except OSError as error:
        raise click.BadParameter(f"{pcap_file} cannot be written ({error.strerror})", param_hint="--pcap") from None
    click.echo(f"{len(records)} messages written to {pcap_file}")


def _find(folder: Path, call_id: str) -> _Call:
    """By offhook's id where a record has it, else what was given is the SIP Call-ID."""
    pattern = "".join(character for character in call_id if character.isalnum() or character == "-")
    found = sorted((folder / "calls").glob(f"{pattern}*.json")) if pattern == call_id else []
    if len(found) > 1:
        known = ", ".join(file.stem for file in found[:5])
        raise click.ClickException(f"{len(found)} calls begin with {call_id!r}: {known} …; give more of the id")
    if not found:
        return _Call(sip_call_ids=(call_id,))
    document: Mapping[str, Any] = json.loads(found[0].read_bytes())
    events = document.get("events", [])
    ids = [document.get("sip_call_id", ""), *(event.get("sip_call_id", "") for event in events)]
    notes = tuple((event["at"], _told(event)) for event in events if event["type"] in _TOLD)
    return _Call(sip_call_ids=tuple(dict.fromkeys(one for one in ids if one)), notes=notes)


def _told(event: Mapping[str, Any]) -> str:
    """A fact in one line, with every field that says something."""
    left_out = {"seq", "at", "leg_id", "type", "sip_call_id"}
    said = ", ".join(
        f"{key} {value}" for key, value in event.items() if key not in left_out and value not in ("", None)
    )
    return f"{event['type']}: {said}"
