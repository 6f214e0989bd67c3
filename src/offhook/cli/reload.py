"""``offhook reload``: the server of a data folder reads config.json and its TLS files again."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import click
import msgspec

from offhook.cli.running import RunningServer, running_server
from offhook.config import load_settings

ANSWER_S = 15.0
"""To read files and tables; a busy machine takes a second."""

POLL_S = 0.05


@click.command()
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), help="config.json to find the folder by.")
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="Folder of the server's records.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")
def reload(*, config: Path | None, data: Path | None, as_json: bool) -> None:
    """Have the running server read its config.json and TLS files again; calls that are up go on.

    Exit code: 0 when it took them; 1 when not: then everything stays as it was.
    """
    folder = data if data is not None else load_settings(config).data_folder
    before = running_server(folder)
    if before is None:
        raise click.ClickException(f"no server runs on {folder}: start `offhook serve`, or name its folder with --data")
    os.kill(before.pid, signal.SIGHUP)
    after = _answer(folder, before)
    if after is None:
        raise click.ClickException(f"process {before.pid} gave no answer in {ANSWER_S:.0f} s; look at its log")
    _print(after, as_json=as_json)
    sys.exit(1 if after.problem else 0)


def _answer(folder: Path, before: RunningServer) -> RunningServer | None:
    """What the server says of this reload; None where it is too late, or gone."""
    deadline = time.monotonic() + ANSWER_S
    while time.monotonic() < deadline:
        after = running_server(folder)
        if after is not None and after.reloads > before.reloads:
            return after
        time.sleep(POLL_S)
    return None


def _print(server: RunningServer, *, as_json: bool) -> None:
    waits = list(server.waits_for_restart)
    if as_json:
        told = {"ok": not server.problem, "pid": server.pid, "problem": server.problem, "waits_for_restart": waits}
        click.echo(msgspec.json.encode(told).decode())
    elif server.problem:
        click.secho(f"nothing was changed: {server.problem}", fg="red", err=True)
    else:
        click.echo(f"process {server.pid} has read {server.config or 'its settings'} again")
        for key in waits:
            click.secho(f"{key}: takes effect when the server is started again", fg="yellow")
