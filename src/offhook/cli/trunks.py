"""``offhook trunks``: the state of every trunk of the server that runs on this data folder."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import click
import msgspec

from offhook.config import load_settings, trunks_of
from offhook.model.trunks import GatewayTrunk, OpenTrunk, RegisterTrunk, Trunk, TrunkChanged
from offhook.store.trunk_states import TrunkReport, read_trunk_states

_COLOURS = {"online": "green", "registering": "yellow", "failed": "red", "stopped": "yellow"}


@click.command()
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), help="config.json to read.")
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="Folder of the server's records.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array instead of lines.")
def trunks(*, config: Path | None, data: Path | None, as_json: bool) -> None:
    """Show the state of every trunk: registering, online, failed with code and reason, when it was last refreshed.

    Exit code: 0 when none failed, 1 otherwise.
    """
    settings = load_settings(config, flags={"data_dir": str(data) if data is not None else None})
    report = read_trunk_states(settings.data_folder)
    states = {one.trunk_id: one for one in report.trunks} if report is not None and is_running(report) else None
    configured = trunks_of(settings)
    if as_json:
        click.echo(msgspec.json.encode([] if states is None else list(states.values())).decode())
    elif not configured:
        click.echo('no trunks are configured: this machine and private networks may call (add "trunks" to config.json)')
    elif states is None:
        click.echo(f"no server runs on {settings.data_dir}: start `offhook serve`, or name its folder with --data")
    else:
        for trunk in configured:
            click.echo(line_of(trunk, states.get(trunk.trunk_id), time.time()))
    failed = states is None or any(one.phase == "failed" for one in states.values())
    sys.exit(1 if configured and failed else 0)


def is_running(report: TrunkReport) -> bool:
    """Whether the process that wrote the report lives."""
    try:
        os.kill(report.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def line_of(trunk: Trunk, state: TrunkChanged | None, now: float) -> str:
    """One trunk as a person reads it."""
    match trunk:
        case RegisterTrunk():
            what = f"registers {trunk.username} at {trunk.domain or trunk.server}"
        case GatewayTrunk():
            what = f"lets in {', '.join(trunk.peers) or 'nobody'}, calls {', '.join(trunk.targets) or 'nobody'}"
        case OpenTrunk():
            what = f"lets anyone dial the numbers served, {trunk.calls_per_s:g} calls a second from one source"
    name = click.style(f"{trunk.trunk_id:<12}", bold=True)
    if state is None:
        return f"{name} {'ready':<12} {what}"
    phase = click.style(f"{state.phase:<12}", fg=_COLOURS[state.phase])
    return f"{name} {phase} {what}{describe(state, now)}"


def describe(state: TrunkChanged, now: float) -> str:
    """What is known beside the phase: where, since when, why, and what to do."""
    parts = []
    if state.server:
        parts.append(f"by {state.server}")
    if state.refreshed_at is not None:
        parts.append(f"refreshed {_ago(now - state.refreshed_at)} ago")
    if state.phase == "failed":
        code = f"{state.sip_code} " if state.sip_code is not None else ""
        parts.append(f"{code}{state.reason}")
        if state.retry_at is not None and state.retry_at > now:
            parts.append(f"tried again in {_ago(state.retry_at - now)}")
    text = "".join(f", {part}" for part in parts)
    return f"{text} → {state.fix}" if state.fix else text


def _ago(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
