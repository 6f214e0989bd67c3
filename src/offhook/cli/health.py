"""``offhook health``: asks the running server whether it lives, or is ready; for containers and people."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, build_opener

import click

from offhook.cli.running import running_server
from offhook.config import load_settings

ANSWER_S = 5.0
"""An event loop that does not come round to an answer within this is not well."""


@click.command()
@click.option("--ready", is_flag=True, help="Ask whether calls should be sent here, part by part.")
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), help="config.json to find the folder by.")
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="Folder of the server.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def health(*, ready: bool, config: Path | None, data: Path | None, as_json: bool) -> None:
    """Ask the server of a data folder how it does.

    Exit code: 0 when it serves (with --ready: when it is ready), 1 otherwise.
    """
    folder = data if data is not None else load_settings(config).data_folder
    server = running_server(folder)
    if server is None:
        raise click.ClickException(f"no server runs on {folder}")
    if not server.http:
        raise click.ClickException("it serves no HTTP: set http.enabled to true in config.json")
    status, answer = _asked(server.http + ("/ready" if ready else "/health"))
    if as_json:
        click.echo(json.dumps(answer))
    else:
        _print(answer)
    sys.exit(0 if status == 200 else 1)


def _asked(url: str) -> tuple[int, Mapping[str, Any]]:
    """Raises ``click.ClickException`` where no answer comes."""
    opener = build_opener(ProxyHandler({}))  # it is this machine: no proxy knows it
    try:
        with opener.open(url, timeout=ANSWER_S) as response:
            return response.status, json.load(response)
    except HTTPError as error:
        with error:
            return error.code, json.load(error)
    except (URLError, OSError, ValueError) as error:
        raise click.ClickException(f"{url} gives no answer: {error}") from None


def _print(answer: Mapping[str, Any]) -> None:
    click.echo(answer["status"])
    for name, part in answer.get("parts", {}).items():
        state = click.style("ok   ", fg="green") if part["ready"] else click.style("FAULT", fg="red")
        click.echo(f"{state} {name}: {part['detail']}")
