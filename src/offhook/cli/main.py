"""The command ``offhook`` and its errors: one clear sentence and what to do."""

from __future__ import annotations

import sys

import click

from offhook import __version__
from offhook.cli.call import call
from offhook.cli.config import config
from offhook.cli.doctor.command import doctor
from offhook.cli.reload import reload
from offhook.cli.serve import serve
from offhook.cli.trace import trace
from offhook.cli.trunks import trunks
from offhook.model.errors import OffhookError

EXIT_FAILED = 1


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="offhook", message="%(prog)s %(version)s")
def offhook() -> None:
    """AI voice agents on the phone, over SIP, in one process."""


offhook.add_command(serve)
offhook.add_command(call)
offhook.add_command(trunks)
offhook.add_command(trace)
offhook.add_command(doctor)
offhook.add_command(config)
offhook.add_command(reload)


def main() -> None:
    """Run a command; what the operator can mend is one sentence on stderr, not a traceback."""
    try:
        offhook(prog_name="offhook")
    except OffhookError as error:
        click.secho(f"offhook: {error}", fg="red", err=True)
        sys.exit(EXIT_FAILED)
