"""The command ``offhook`` and its errors: one clear sentence and what to do."""

from __future__ import annotations

import os
import sys

import click

from offhook import __version__
from offhook.cli.accounts import accounts
from offhook.cli.call import call
from offhook.cli.calls import calls
from offhook.cli.config import config
from offhook.cli.doctor.command import doctor
from offhook.cli.health import health
from offhook.cli.keys import keys
from offhook.cli.reload import reload
from offhook.cli.secrets import secrets
from offhook.cli.serve import serve
from offhook.cli.trace import trace
from offhook.cli.trunks import trunks
from offhook.model.errors import OffhookError

EXIT_FAILED = 1


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="offhook", message="%(prog)s %(version)s")
def offhook() -> None:
    """AI voice agents on the phone, over SIP, in one process."""


for command in (serve, call, calls, trunks, trace, doctor, config, reload, health, keys, accounts, secrets):
    offhook.add_command(command)


def main() -> None:
    """Run a command; what the operator can mend is one sentence on stderr, not a traceback."""
    colour = False if os.environ.get("NO_COLOR") else None  # https://no-color.org; None: where a terminal is
    try:
        offhook(prog_name="offhook", color=colour)
    except OffhookError as error:
        click.secho(f"offhook: {error}", fg="red", err=True, color=colour)
        sys.exit(EXIT_FAILED)
