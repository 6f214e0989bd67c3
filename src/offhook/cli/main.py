"""The command ``offhook`` and its errors: one clear sentence and what to do."""

from __future__ import annotations

import os
import sys
from importlib import import_module

import click

from offhook import __version__
from offhook.model.errors import OffhookError

COMMANDS = {
    "serve": "offhook.cli.serve",
    "call": "offhook.cli.call",
    "calls": "offhook.cli.calls",
    "trunks": "offhook.cli.trunks",
    "trace": "offhook.cli.trace",
    "doctor": "offhook.cli.doctor.command",
    "config": "offhook.cli.config",
    "reload": "offhook.cli.reload",
    "health": "offhook.cli.health",
    "keys": "offhook.cli.keys",
    "accounts": "offhook.cli.accounts",
    "secrets": "offhook.cli.secrets",
    "webhooks": "offhook.cli.webhooks",
    "simulate": "offhook.cli.simulate",
    "elevenlabs": "offhook.cli.elevenlabs",
}
"""Where each is; its function has its name. Only the one that runs is imported: the whole house takes a second."""

EXIT_FAILED = 1


class Commands(click.Group):
    """Those of ``COMMANDS``, imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(COMMANDS[cmd_name]), cmd_name)
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="offhook", message="%(prog)s %(version)s")
def offhook() -> None:
    """AI voice agents on the phone, over SIP, in one process."""


def main() -> None:
    """Run a command; what the operator can mend is one sentence on stderr, not a traceback."""
    colour = False if os.environ.get("NO_COLOR") else None  # https://no-color.org; None: where a terminal is
    try:
        offhook(prog_name="offhook", color=colour)
    except OffhookError as error:
        click.secho(f"offhook: {error}", fg="red", err=True, color=colour)
        sys.exit(EXIT_FAILED)
